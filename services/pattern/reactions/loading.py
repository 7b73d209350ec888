"""Rows → what the engine and the commands take."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias

import msgspec
import structlog
from contracts import ingest, pattern
from contracts.generated.pattern import ConstraintKind, PatternStatus
from contracts.generated.recommendation import RecommendationStatus
from eventlog import Connection

from .. import _queries
from .._queries import GroupingsRow, IssueWithMembership, PatternsRow, TextWithMembership, WorkspacesRow
from ..engine.clusters import Known
from ..engine.issues import Dimensions, Issue
from ..engine.linking import FEATURES
from ..engine.memory import (
    NEVER,
    ConstraintRow,
    ExemplarRow,
    Member,
    PatternRow,
    RecommendationRow,
    Settings,
    Snapshot,
    SummaryRow,
    TallyRow,
    VerdictRow,
)
from ..engine.refitting import Arrival
from ..engine.repairing import Failure
from ..engine.weights import LinkerArtefact, shipped
from ..state import Leaving

Workspace: TypeAlias = WorkspacesRow

log = structlog.get_logger("pattern.loading")


class consistent:  # noqa: N801  # reads as the word it is: `async with consistent(conn)`
    """A transaction that sees one state of the rows."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def __aenter__(self) -> None:
        await self._conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    async def __aexit__(self, *_: object) -> None:
        await self._conn.rollback()


async def workspaces(conn: Connection) -> list[Workspace]:
    """Every workspace that has rows."""
    return await _queries.list_workspaces(conn)


async def snapshot(conn: Connection, workspace: Workspace) -> Snapshot:
    """All that the rows say of a workspace's patterns. The cost grows with its members: one aggregating pass."""
    workspace_id = workspace.workspace_id
    tallies = await _queries.tally_members(conn, workspace_id=workspace_id)
    summaries = await _queries.summarize_members(conn, workspace_id=workspace_id)
    patterns = await _queries.list_patterns(conn, workspace_id=workspace_id)
    exemplars = await _queries.list_exemplars(conn, workspace_id=workspace_id)
    in_force = await constraints(conn, workspace_id)
    recommendations = await _queries.list_recommendations(conn, workspace_id=workspace_id)
    verdicts = await _queries.list_verdicts(conn, workspace_id=workspace_id)
    return Snapshot(
        settings=_settings(workspace),
        newest_at=workspace.newest_at or NEVER,
        patterns=tuple(sorted(_pattern(row) for row in patterns)),
        summaries=tuple(
            sorted(
                SummaryRow(s.pattern_id, s.n_members, s.score_sum, s.first_seen_at, s.last_seen_at)
                for s in summaries
            )
        ),
        tallies=tuple(
            sorted(TallyRow(t.pattern_id, t.kind, t.value, t.n) for t in tallies if t.value is not None)
        ),
        exemplars=tuple(
            ExemplarRow(e.seq, e.issue_id, e.pattern_id, e.grouping_key, e.title, e.exemplar)
            for e in exemplars
        ),
        constraints=in_force,
        recommendations=tuple(
            sorted(
                RecommendationRow(
                    r.recommendation_id, r.pattern_id, RecommendationStatus(r.status), r.changed_at, r.seq
                )
                for r in recommendations
            )
        ),
        verdicts=tuple(
            sorted(
                VerdictRow(v.pattern_id, v.fixed_at, PatternStatus(v.to_status), v.reason, v.seq)
                for v in verdicts
            )
        ),
    )


async def constraints(conn: Connection, workspace_id: str) -> tuple[ConstraintRow, ...]:
    """People's decisions in force, ascending."""
    rows = await _queries.list_constraints(conn, workspace_id=workspace_id)
    return tuple(
        sorted(ConstraintRow(row.grouping_key, row.pattern_id, ConstraintKind(row.kind)) for row in rows)
    )


async def grouping(conn: Connection, workspace_id: str) -> GroupingsRow | None:
    """Where a workspace's versions stand; None while it has none."""
    return await _queries.find_grouping(conn, workspace_id=workspace_id)


async def version_of_grouping(
    conn: Connection, workspace_id: str, version_id: str
) -> tuple[LinkerArtefact | None, bool] | None:
    """The linker of a version, None for one of another build's features; and whether it was better than the shipped one."""
    row = await _queries.find_linker(conn, workspace_id=workspace_id, version_id=version_id)
    if row is None:
        return None
    said = msgspec.json.decode(row.linker, type=pattern.Linker)
    found = usable(said)
    return found if found.version == said.version else None, row.is_better


async def decisions(conn: Connection, workspace_id: str) -> tuple[int, datetime | None]:
    """How many decisions of people are in force, and when the last of them was taken."""
    row = await _queries.count_decisions(conn, workspace_id=workspace_id)
    return row.n, row.latest_at


async def merged(conn: Connection, workspace_id: str) -> dict[str, str]:
    """Every merged pattern with the one that remains."""
    rows = await _queries.list_merged(conn, workspace_id=workspace_id)
    return {row.pattern_id: row.merged_into for row in rows}


async def arrivals(conn: Connection, workspace_id: str, *, n: int) -> tuple[Arrival, ...]:
    """The latest n texts that people wrote, in order of arrival, with where their issues are now."""
    rows = await _queries.list_texts(conn, workspace_id=workspace_id, n=n)
    return tuple(_arrival(row) for row in reversed(rows))


def linker(said: str | None) -> LinkerArtefact:
    """The linker that a row holds; the shipped one for None."""
    return usable(None if said is None else msgspec.json.decode(said, type=pattern.Linker))


def usable(said: pattern.Linker | None) -> LinkerArtefact:
    """The linker that an event tells of; the shipped one for None, and where it was made for another build's features."""
    if said is None:
        return shipped()
    if said.features != FEATURES or len(said.weights) != len(FEATURES):
        log.warning("linker.of_other_features", version=said.version)
        return shipped()
    return LinkerArtefact(**msgspec.structs.asdict(said))


async def undecided(conn: Connection, workspace_id: str) -> list[str]:
    """Ids of the issues for which no decision is in the rows."""
    return [row.issue_id for row in await _queries.list_undecided(conn, workspace_id=workspace_id)]


async def has_strangers(conn: Connection, workspace_id: str) -> bool:
    """Whether there are members whose issues were purged from the log before they were read from it."""
    return await _queries.has_strangers(conn, workspace_id=workspace_id)


async def issues(
    conn: Connection, workspace_id: str, issue_ids: Sequence[str]
) -> list[tuple[Issue, Member | None]]:
    """Issues that the rows know, without their bodies, with their memberships."""
    rows = await _queries.find_issues(conn, workspace_id=workspace_id, issue_ids=list(issue_ids))
    return [(_issue(row), _member(row)) for row in rows]


async def rulings(
    conn: Connection, workspace_id: str, *, grouping_keys: Sequence[str], pattern_ids: Sequence[str]
) -> list[tuple[ConstraintRow, pattern.Ruling]]:
    """People's decisions on some keys or about some patterns, ascending, with who took them and when."""
    rows = await _queries.find_constraints(
        conn,
        workspace_id=workspace_id,
        grouping_keys=list(grouping_keys),
        pattern_ids=list(pattern_ids),
    )
    return [
        (
            ConstraintRow(row.grouping_key, row.pattern_id, ConstraintKind(row.kind)),
            pattern.Ruling(
                pattern_id=row.pattern_id,
                kind=ConstraintKind(row.kind),
                issue_id=row.issue_id,
                decided_by=row.decided_by,
                decided_at=row.decided_at,
            ),
        )
        for row in rows
    ]


async def leaving(conn: Connection, workspace_id: str, pattern_id: str, members: Sequence[Member]) -> Leaving:
    """Members of a pattern as those who leave it; a pattern that nobody stays in keeps their times."""
    span = await _queries.span_without(
        conn,
        workspace_id=workspace_id,
        pattern_id=pattern_id,
        issue_ids=[member.issue_id for member in members],
    )
    times = [member.occurred_at for member in members]
    return Leaving(members, span.first_seen_at or min(times), span.last_seen_at or max(times))


async def patterns_of(conn: Connection, workspace_id: str, issue_ids: Sequence[str]) -> list[str]:
    """The patterns that these issues are in."""
    rows = await _queries.patterns_of_issues(conn, workspace_id=workspace_id, issue_ids=list(issue_ids))
    return [row.pattern_id for row in rows]


async def with_ends(conn: Connection, workspace_id: str) -> list[str]:
    """The patterns that have an issue which was resolved or closed."""
    return [row.pattern_id for row in await _queries.patterns_with_ends(conn, workspace_id=workspace_id)]


async def failures(conn: Connection, workspace_id: str, pattern_id: str, *, n: int) -> list[Failure]:
    """The latest n failures of a pattern, oldest first."""
    rows = await _queries.list_lives(conn, workspace_id=workspace_id, pattern_id=pattern_id, n=n)
    return [Failure(row.occurred_at, row.ended_at) for row in reversed(rows)]


async def clustering(conn: Connection, workspace_id: str) -> tuple[int, tuple[Known, ...]]:
    """The place in the log of the latest clustering, 0 when there is none, and its clusters."""
    row = await _queries.find_clustering(conn, workspace_id=workspace_id)
    if row is None:
        return 0, ()
    return row.seq, msgspec.json.decode(row.clusters, type=tuple[Known, ...])


async def hours(
    conn: Connection, workspace_id: str, pattern_ids: Sequence[str], *, since: datetime, n: int
) -> dict[str, tuple[int, ...]]:
    """The hours since 1970 in which each pattern failed, from a time on: the latest n, ascending."""
    found: dict[str, list[int]] = {}
    for row in await _queries.list_hours(
        conn, workspace_id=workspace_id, pattern_ids=list(pattern_ids), since=since, n=n
    ):
        found.setdefault(row.pattern_id, []).append(row.hour)
    return {pattern_id: tuple(each) for pattern_id, each in found.items()}


async def version(conn: Connection, workspace_id: str, pattern_id: str) -> int:
    """Sequence of the pattern's last event that the rows hold; 0 = none."""
    return await _queries.version_of(conn, workspace_id=workspace_id, pattern_id=pattern_id) or 0


def _settings(workspace: Workspace) -> Settings:
    default = Settings()
    threshold = workspace.confidence_threshold
    return Settings(
        confidence_threshold=default.confidence_threshold if threshold is None else threshold,
        minimum_cluster_size=workspace.minimum_cluster_size or default.minimum_cluster_size,
    )


def _pattern(row: PatternsRow) -> PatternRow:
    return PatternRow(
        pattern_id=row.pattern_id,
        status=PatternStatus(row.status),
        name=row.name,
        is_named_by_person=row.is_named_by_person,
        version=row.version,
        described_count=row.described_count,
        watched_since=row.watched_since or NEVER,
        status_seq=row.status_seq,
        merged_into=row.merged_into,
        mttr_seconds=row.mttr_seconds,
    )


def _issue(row: IssueWithMembership) -> Issue:
    return Issue(
        issue_id=row.issue_id,
        title=row.title,
        source=row.source,
        severity=ingest.Severity(row.severity),
        occurred_at=row.occurred_at,
        service=row.service,
        component=row.component,
        error_type=row.error_type,
        team=row.team,
        environment=row.environment,
        version=row.version,
    )


def _arrival(row: TextWithMembership) -> Arrival:
    issue = Issue(
        issue_id=row.issue_id,
        title="",
        source=row.source,
        severity=ingest.Severity(row.severity),
        occurred_at=row.occurred_at,
        service=row.service,
        component=row.component,
        error_type=row.error_type,
        team=row.team,
        environment=row.environment,
    )
    member = Member(
        issue_id=row.issue_id,
        pattern_id=row.pattern_id,
        grouping_key=row.grouping_key,
        score=row.score,
        severity=issue.severity,
        occurred_at=row.occurred_at,
        dimensions=issue.dimensions,
    )
    return Arrival(member, row.exemplar)


def _member(row: IssueWithMembership) -> Member | None:
    if row.grouping_key is None or row.score is None or row.linked_severity is None:
        return None
    dimensions: Dimensions = _issue(row).dimensions
    return Member(
        issue_id=row.issue_id,
        pattern_id=row.pattern_id,
        grouping_key=row.grouping_key,
        score=row.score,
        severity=ingest.Severity(row.linked_severity),
        occurred_at=row.occurred_at,
        dimensions=dimensions,
    )
