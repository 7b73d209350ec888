"""Events → rows: what the grouper's memory is loaded from. A function of the log alone."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeAlias, assert_never

import msgspec
from contracts import Event, Recorded, ingest, pattern, recommendation, remainder_id, workspace
from contracts.generated.pattern import ConstraintKind, PatternStatus
from eventlog import Projection
from eventlog.projection import Connection
from msgspec import Struct, field

from . import _queries
from .engine import texts
from .engine.clusters import Known
from .engine.lifecycle import verdict_of
from .state import has_ended, is_decision

HumanDecision: TypeAlias = (
    pattern.IssueUnlinked | pattern.LinkConstrained | pattern.PatternsMerged | pattern.PatternSplit
)


class _WorkspaceRow(Struct, kw_only=True, omit_defaults=True):
    workspace_id: str
    confidence_threshold: float | None = None
    minimum_cluster_size: int | None = None
    newest_at: datetime | None = None


class _PatternRow(Struct, kw_only=True, omit_defaults=True):
    workspace_id: str
    pattern_id: str
    version: int = 0
    status: str | None = None
    name: str | None = None
    is_named_by_person: bool | None = None
    described_count: int | None = None
    watched_since: datetime | None = None
    status_seq: int | None = None
    mttr_seconds: float | None = None


class _ClusteringRow(Struct, frozen=True):
    workspace_id: str
    seq: int
    clusters: str


class _IssueRow(Struct, frozen=True, omit_defaults=True):
    workspace_id: str
    issue_id: str
    title: str
    source: str
    severity: str
    occurred_at: datetime
    service: str | None
    component: str | None
    error_type: str | None
    team: str | None
    environment: str | None
    version: str | None
    ended_at: datetime | None


class _EndRow(Struct, frozen=True):
    workspace_id: str
    issue_id: str
    ended_at: datetime | None


class _MemberRow(Struct, frozen=True):
    workspace_id: str
    issue_id: str
    pattern_id: str
    grouping_key: str
    score: float
    severity: str
    occurred_at: datetime


class _ExemplarRow(Struct, frozen=True):
    workspace_id: str
    issue_id: str
    seq: int
    exemplar: str


class _GroupingRow(Struct, kw_only=True, omit_defaults=True):
    workspace_id: str
    seq: int
    n_fits: int | None = None
    fitted_at: datetime | None = None
    active_id: str | None = None
    active_linker: str | None = None


class _LinkerRow(Struct, frozen=True):
    workspace_id: str
    version_id: str
    is_better: bool
    linker: str


class _VerdictRow(Struct, frozen=True):
    workspace_id: str
    pattern_id: str
    fixed_at: datetime
    to_status: str
    reason: str
    seq: int


class _Rows(Struct):
    """The rows of the events since the last human decision of a batch, folded: each at most once."""

    workspaces: dict[str, _WorkspaceRow] = field(default_factory=dict)
    patterns: dict[tuple[str, str], _PatternRow] = field(default_factory=dict)
    begun: dict[tuple[str, str], _PatternRow] = field(default_factory=dict)
    issues: list[_IssueRow] = field(default_factory=list)
    ends: dict[tuple[str, str], _EndRow] = field(default_factory=dict)
    members: dict[tuple[str, str], _MemberRow] = field(default_factory=dict)
    clusterings: dict[str, _ClusteringRow] = field(default_factory=dict)
    exemplars: dict[tuple[str, str], _ExemplarRow] = field(default_factory=dict)
    verdicts: dict[tuple[str, str], _VerdictRow] = field(default_factory=dict)
    groupings: dict[str, _GroupingRow] = field(default_factory=dict)
    linkers: dict[tuple[str, str], _LinkerRow] = field(default_factory=dict)

    def workspace(self, workspace_id: str) -> _WorkspaceRow:
        """The workspace's row of this fold."""
        row = self.workspaces.get(workspace_id)
        if row is None:
            row = self.workspaces[workspace_id] = _WorkspaceRow(workspace_id=workspace_id)
        return row

    def pattern(self, event: Recorded[Event]) -> _PatternRow:
        """The row of the event's pattern, at the event's place in the log."""
        key = (event.workspace_id, event.aggregate_id)
        row = self.patterns.get(key)
        if row is None:
            row = self.patterns[key] = _PatternRow(workspace_id=key[0], pattern_id=key[1])
        row.version = event.seq
        return row

    def grouping(self, event: Recorded[Event]) -> _GroupingRow:
        """The row of the workspace's versions, at the event's place in the log."""
        row = self.groupings.setdefault(
            event.workspace_id, _GroupingRow(workspace_id=event.workspace_id, seq=event.seq)
        )
        row.seq = event.seq
        return row

    async def flush(self, conn: Connection) -> None:
        """Write and forget, one statement per kind."""
        if self.workspaces:
            await _queries.upsert_workspaces(conn, rows=_json(list(self.workspaces.values())))
        if self.issues:
            await _queries.insert_issues(conn, rows=_json(self.issues))
        if self.ends:
            await _queries.end_issues(conn, rows=_json(list(self.ends.values())))
        if self.members:
            await _queries.upsert_members(conn, rows=_json(list(self.members.values())))
        if self.clusterings:
            await _queries.upsert_clusterings(conn, rows=_json(list(self.clusterings.values())))
        if self.exemplars:
            await _queries.insert_exemplars(conn, rows=_json(list(self.exemplars.values())))
            for workspace_id in sorted({workspace_id for workspace_id, _ in self.exemplars}):
                for is_written in (False, True):
                    await _queries.drop_expired_exemplars(
                        conn, workspace_id=workspace_id, is_written=is_written, n=texts.MAX_TEXTS
                    )
        if self.begun:
            await _queries.insert_patterns(conn, rows=_json(list(self.begun.values())))
        if self.patterns:
            await _queries.update_patterns(conn, rows=_json(list(self.patterns.values())))
        if self.verdicts:
            await _queries.upsert_verdicts(conn, rows=_json(list(self.verdicts.values())))
        if self.groupings:
            await _queries.upsert_groupings(conn, rows=_json(list(self.groupings.values())))
            await _queries.activate_groupings(conn, rows=_json(list(self.groupings.values())))
        if self.linkers:
            await _queries.insert_linkers(conn, rows=_json(list(self.linkers.values())))
        for rows in (
            self.workspaces,
            self.patterns,
            self.begun,
            self.issues,
            self.ends,
            self.members,
            self.exemplars,
            self.clusterings,
            self.verdicts,
            self.groupings,
            self.linkers,
        ):
            rows.clear()


async def project(batch: Sequence[Recorded[Event]], conn: Connection) -> None:
    """Write the rows of a batch; what people decided is applied at its place between the rest."""
    rows = _Rows()
    for event in batch:
        data = event.data
        match data:
            case ingest.IssueReported():
                _reported(rows, event, data)
            case ingest.IssueUpdated() | ingest.IssueClosed():
                _ended(rows, event, data)
            case ingest.IssueRestored():
                if not has_ended(data.issue.status):
                    key = (event.workspace_id, data.issue_id)
                    rows.ends[key] = _EndRow(event.workspace_id, data.issue_id, None)
            case ingest.IssuesPurged():
                await rows.flush(conn)
                await _purged(conn, event.workspace_id, data)
            case (
                pattern.IssuesLinked()
                | pattern.PatternDetected()
                | pattern.PatternDescribed()
                | pattern.PatternStatusChanged()
            ):
                _grown(rows, event, data)
            case (
                pattern.IssueUnlinked()
                | pattern.LinkConstrained()
                | pattern.PatternsMerged()
                | pattern.PatternSplit()
            ):
                rows.pattern(event)
                await rows.flush(conn)
                await _decided(conn, event, data)
            case pattern.LinkSuggested() | pattern.DecisionsContradicted() | pattern.ContradictionAnswered():
                # They are questions to people; here they only count as the pattern's last event.
                rows.pattern(event)
            case recommendation.RecommendationStatusChanged():
                await rows.flush(conn)
                await _recommended(conn, event, data)
            case pattern.ClustersComputed():
                known = [Known(each.cluster_id, each.pattern_ids) for each in data.clusters]
                rows.clusterings[event.workspace_id] = _ClusteringRow(
                    event.workspace_id, event.seq, _json(known)
                )
            case (
                pattern.GroupingVersionFitted()
                | pattern.GroupingVersionCompared()
                | pattern.GroupingVersionActivated()
            ):
                _versioned(rows, event, data)
            case recommendation.FixVerified() | recommendation.FixBroken() | recommendation.FixInconclusive():
                verdict = verdict_of(data, seq=event.seq)
                if verdict is not None:
                    rows.verdicts[event.workspace_id, data.pattern_id] = _VerdictRow(
                        event.workspace_id, *msgspec.structs.astuple(verdict)
                    )
            case workspace.WorkspaceSettingsChanged():
                _configured(rows.workspace(event.workspace_id), data)
            case _:
                # Other events of these aggregates say nothing about grouping.
                continue
    await rows.flush(conn)


PROJECTION = Projection(
    name="pattern",
    aggregates=(
        "fix",
        "issue",
        "pattern",
        "recommendation",
        "retention",
        "workspace",
        "clustering",
        "grouping",
    ),
    project=project,
    schema_sql=Path(__file__).with_name("schema.sql").read_text(),
    linger_seconds=0.1,
)
"""The read model of the pattern service."""


def _reported(rows: _Rows, event: Recorded[Event], data: ingest.IssueReported) -> None:
    rows.issues.append(
        _IssueRow(
            workspace_id=event.workspace_id,
            issue_id=data.issue_id,
            title=data.title,
            source=data.source,
            severity=data.severity.value,
            occurred_at=event.time,
            service=data.service,
            component=data.component,
            error_type=data.error_type,
            team=data.team,
            environment=data.environment,
            version=data.version,
            ended_at=data.source_updated_at if has_ended(data.status) else None,
        )
    )
    row = rows.workspace(event.workspace_id)
    newest_at = min(event.time, event.recorded_at)
    if row.newest_at is None or newest_at > row.newest_at:
        row.newest_at = newest_at


def _ended(rows: _Rows, event: Recorded[Event], data: ingest.IssueUpdated | ingest.IssueClosed) -> None:
    if data.status is not None:
        ended_at = event.time if has_ended(data.status) else None
        key = (event.workspace_id, data.issue_id)
        rows.ends[key] = _EndRow(event.workspace_id, data.issue_id, ended_at)


def _grown(
    rows: _Rows,
    event: Recorded[Event],
    data: pattern.IssuesLinked
    | pattern.PatternDetected
    | pattern.PatternDescribed
    | pattern.PatternStatusChanged,
) -> None:
    row = rows.pattern(event)
    match data:
        case pattern.IssuesLinked():
            _linked(rows, event, data)
            rows.begun[(row.workspace_id, row.pattern_id)] = row
        case pattern.PatternDetected():
            row.status, row.status_seq = PatternStatus.EMERGING.value, event.seq
            row.name, row.described_count = data.name, data.assessment.issue_count
        case pattern.PatternDescribed():
            row.name, row.described_count = data.name, data.assessment.issue_count
            row.mttr_seconds = data.assessment.mttr_seconds
            if event.actor is not None:
                row.is_named_by_person = True
        case pattern.PatternStatusChanged():
            row.status = data.to_status.value
            if is_decision(data, is_by_person=event.actor is not None):
                row.status_seq = event.seq if data.heard_sequence is None else data.heard_sequence
            if data.to_status is PatternStatus.WATCHING:
                row.watched_since = event.time
        case _:
            assert_never(data)


def _linked(rows: _Rows, event: Recorded[Event], data: pattern.IssuesLinked) -> None:
    for link in data.links:
        # The first membership counts, within a batch as between batches.
        rows.members.setdefault(
            (event.workspace_id, link.issue_id),
            _MemberRow(
                workspace_id=event.workspace_id,
                issue_id=link.issue_id,
                pattern_id=data.pattern_id,
                grouping_key=link.grouping_key,
                score=link.score,
                severity=link.severity.value,
                occurred_at=link.occurred_at,
            ),
        )
    if data.exemplar is not None and data.links:
        issue_id = data.links[0].issue_id
        row = _ExemplarRow(event.workspace_id, issue_id, event.seq, data.exemplar)
        # The index takes a text of an issue once more only when its last one has expired.
        rows.exemplars[event.workspace_id, issue_id] = row


async def _purged(conn: Connection, workspace_id: str, data: ingest.IssuesPurged) -> None:
    """What stays of each issue goes on to be counted, under an id of its own: the old one may be reported anew."""
    remains = _json(
        [
            {**msgspec.structs.asdict(each), "remainder_id": remainder_id(each.issue_id, each.last_sequence)}
            for each in data.issues
        ]
    )
    await _queries.keep_remainders(conn, workspace_id=workspace_id, issues=remains)
    await _queries.delete_issues(
        conn, workspace_id=workspace_id, issue_ids=[each.issue_id for each in data.issues]
    )
    await _queries.rename_members(conn, workspace_id=workspace_id, issues=remains)
    await _queries.rename_exemplars(conn, workspace_id=workspace_id, issues=remains)
    newest_at = max(min(issue.occurred_at, issue.reported_at) for issue in data.issues)
    await _queries.upsert_workspaces(
        conn, rows=_json([_WorkspaceRow(workspace_id=workspace_id, newest_at=newest_at)])
    )


def _versioned(
    rows: _Rows,
    event: Recorded[Event],
    data: pattern.GroupingVersionFitted | pattern.GroupingVersionCompared | pattern.GroupingVersionActivated,
) -> None:
    row = rows.grouping(event)
    match data:
        case pattern.GroupingVersionFitted():
            row.n_fits, row.fitted_at = data.number, event.time
            rows.linkers[event.workspace_id, data.version_id] = _LinkerRow(
                event.workspace_id, data.version_id, data.is_better, msgspec.json.encode(data.linker).decode()
            )
        case pattern.GroupingVersionActivated():
            row.active_id = data.version_id
            row.active_linker = None if data.linker is None else msgspec.json.encode(data.linker).decode()
        case pattern.GroupingVersionCompared():
            # What it would move is for people; here it only counts as the last event.
            return
        case _:
            assert_never(data)


def _configured(row: _WorkspaceRow, data: workspace.WorkspaceSettingsChanged) -> None:
    if data.confidence_threshold is not None:
        row.confidence_threshold = data.confidence_threshold
    if data.minimum_cluster_size is not None:
        row.minimum_cluster_size = data.minimum_cluster_size


async def _decided(conn: Connection, event: Recorded[Event], data: HumanDecision) -> None:
    workspace_id = event.workspace_id
    match data:
        case pattern.IssueUnlinked():
            await _queries.release_members(
                conn, workspace_id=workspace_id, pattern_id=data.pattern_id, issue_ids=[data.issue_id]
            )
        case pattern.PatternSplit():
            await _queries.release_members(
                conn, workspace_id=workspace_id, pattern_id=data.pattern_id, issue_ids=list(data.issue_ids)
            )
        case pattern.LinkConstrained():
            if data.kind is ConstraintKind.MUST_LINK:
                await _queries.drop_musts(conn, workspace_id=workspace_id, grouping_key=data.grouping_key)
            await _queries.upsert_constraint(
                conn,
                workspace_id=workspace_id,
                grouping_key=data.grouping_key,
                pattern_id=data.pattern_id,
                kind=data.kind.value,
                issue_id=data.issue_id,
                decided_by=event.actor,
                decided_at=event.time,
            )
        case pattern.PatternsMerged():
            await _merged(conn, workspace_id, data)
        case _:
            assert_never(data)


async def _merged(conn: Connection, workspace_id: str, data: pattern.PatternsMerged) -> None:
    """Moves what belongs to the source; the "nevers" that the merge overrules go first."""
    target_id, source_id = data.target_pattern_id, data.source_pattern_id
    for move in (
        _queries.drop_merged_nevers,
        _queries.move_members,
        _queries.drop_shadowed_constraints,
        _queries.move_constraints,
        _queries.move_recommendations,
        _queries.note_merge,
    ):
        await move(conn, workspace_id=workspace_id, target_id=target_id, source_id=source_id)


async def _recommended(
    conn: Connection, event: Recorded[Event], data: recommendation.RecommendationStatusChanged
) -> None:
    await _queries.upsert_recommendation(
        conn,
        workspace_id=event.workspace_id,
        recommendation_id=data.recommendation_id,
        pattern_id=data.pattern_id,
        status=data.to_status.value,
        changed_at=event.time,
        seq=event.seq,
    )


def _json(rows: Sequence[object]) -> str:
    return msgspec.json.encode(rows).decode()
