"""Patterns are fixed, fail again or stay quiet → proofs start and end."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice

import structlog
from contracts import Event, Recorded, pattern, recommendation, record, workspace
from eventlog import Append, Conflict, ConflictError, EventLog
from msgspec import Struct
from runtime.database import Connection, Pool

from services.recommendation import _queries
from services.recommendation.commands import Case, DecidedFix, is_new_fix, prove, terms_of
from services.recommendation.engine import proof
from services.recommendation.engine.reference import Reference, reference_of
from services.recommendation.projections import (
    Key,
    PatternKey,
    as_json,
    find_patterns,
    fix_of,
    recommendation_of,
)
from services.recommendation.state import Fix, Recommendation

SERVICE = "recommendation"
FAILURES_MAX = 50_000
REFERENCE_PATTERNS = 300
REFERENCE_FAILURES_EACH = 400
DUE_PER_LOOK = 200
LOOK_EVERY = timedelta(seconds=10)
OTHER_TERMS_PER_LOOK = 100
"""Proofs that are judged by changed terms at once, the others by the next looks: a change is no storm of events."""
COUNT_EVERY = timedelta(seconds=60)
"""How often failures that can break no proof any more are counted anew, for the ledger and for what is told of it."""

log = structlog.get_logger()


class _Failed(Struct):
    """That a pattern failed: the latest event that said so, and the latest failure of each environment and version."""

    cause: Recorded[Event]
    latest: dict[proof.Scope, proof.Failure]

    def add(self, event: Recorded[Event], links: Iterable[pattern.Link]) -> None:
        """Take more failures in."""
        self.cause = event
        for link in links:
            scope = (link.environment, link.version)
            known = self.latest.get(scope)
            if known is None or link.occurred_at > known.occurred_at:
                self.latest[scope] = proof.Failure(link.occurred_at, link.issue_id, *scope)

    def may_break(self, fix: Fix) -> bool:
        """Whether one of them is a recurrence of a fix that can still be broken."""
        made = proof.Fix(fixed_at=fix.fixed_at, environment=fix.environment, version=fix.version)
        return not fix.is_over and any(
            proof.place_of(failure, made) == "recurrence" for failure in self.latest.values()
        )


class Prover:
    """Keeps the proofs of a partition's fixes, from the rows as they are after each batch.

    Doing it twice is harmless: the id of a fix derives from the event that began it and is appended expecting an empty
    subject, and everything later expects the sequence that it was decided from.
    """

    def __init__(self, event_log: EventLog, pool: Pool, *, clock: Callable[[], datetime]) -> None:
        self._log = event_log
        self._pool = pool
        self._clock = clock
        self._partition = 0
        # Pattern → the latest event that asks for a decision; None: time does.
        self._waiting: dict[Key, Recorded[Event] | None] = {}
        # Patterns that may have no fix at all: they only failed.
        self._failed: dict[Key, _Failed] = {}
        self._to_count: dict[Key, Recorded[Event] | None] = {}
        # Patterns whose fix is proved on terms that are not its workspace's any more; none when they are found at the start.
        self._on_other_terms: dict[Key, Recorded[Event] | None] = {}
        self._in_flight: dict[Key, int] = {}
        self._looked_at: datetime | None = None
        self._counted_at: datetime | None = None

    async def start(self, *, partition: int) -> None:
        """Begin as leader; what was broken of late is counted once more, what waits for new terms goes on."""
        self._partition = partition
        for memory in (
            self._waiting,
            self._failed,
            self._to_count,
            self._on_other_terms,
            self._in_flight,
        ):
            memory.clear()
        self._looked_at = self._counted_at = None
        since = self._clock() - timedelta(days=proof.LEDGER_DAYS)
        async with self._pool.connection() as conn:
            broken = await _queries.list_broken_fixes(conn, since=since)
            on_other_terms = await _on_other_terms(conn, None)
        self._to_count = dict.fromkeys(self._mine(broken))
        self._on_other_terms = dict.fromkeys(self._mine(on_other_terms))

    def note(self, event: Recorded[Event]) -> None:
        """Remember which pattern an event asks to look at."""
        data, workspace_id = event.data, event.workspace_id
        match data:
            case pattern.IssuesLinked():
                known = self._failed.setdefault((workspace_id, data.pattern_id), _Failed(event, {}))
                known.add(event, data.links)
            case (
                pattern.PatternStatusChanged()
                | pattern.IssueUnlinked()
                | pattern.PatternSplit()
                | recommendation.RecommendationStatusChanged()
            ):
                self._waiting[workspace_id, data.pattern_id] = event
            case pattern.PatternsMerged():
                self._waiting[workspace_id, data.target_pattern_id] = event
                self._waiting[workspace_id, data.source_pattern_id] = event
            case workspace.WorkspaceErased():
                for memory in (self._waiting, self._failed, self._to_count, self._on_other_terms):
                    for key in [key for key in memory if key[0] == workspace_id]:
                        del memory[key]
            case (
                recommendation.ProofStarted()
                | recommendation.ProofNoted()
                | recommendation.ProofReassessed()
                | recommendation.FixVerified()
                | recommendation.FixBroken()
                | recommendation.FixInconclusive()
            ):
                key = (workspace_id, data.pattern_id)
                # Another process may have said it and not lived to see what came next. Our own say is whole, but for
                # a start: whether it holds already is the next decision.
                is_foreign = event.seq > self._in_flight.get(key, 0)
                if is_foreign or isinstance(data, recommendation.ProofStarted):
                    self._waiting.setdefault(key, event)
            case _:
                pass

    def landed(self, seq: int) -> None:
        """The rows are at this place of the log."""
        self._in_flight = {key: said for key, said in self._in_flight.items() if said > seq}

    async def terms_changed(self, event: Recorded[Event]) -> None:
        """Every proof of a workspace is judged by its new terms, a hundred with each look."""
        async with self._pool.connection() as conn:
            found = await _on_other_terms(conn, event.workspace_id)
        self._on_other_terms.update(dict.fromkeys(self._mine(found), event))

    async def look(self, *, now: datetime) -> None:
        """Time passes: end the proofs whose window has, and count again what is broken."""
        if self._looked_at is None or not timedelta(0) <= now - self._looked_at < LOOK_EVERY:
            self._looked_at = now
            async with self._pool.connection() as conn:
                # Those of other partitions are left out first, so that they take no places of ours.
                ours = [
                    workspace_id
                    for workspace_id in await _queries.list_due_workspaces(conn, now=now)
                    if self._log.partition_of(workspace_id) == self._partition
                ]
                due = await _queries.list_due_fixes(conn, now=now, workspace_ids=ours, n_most=DUE_PER_LOOK)
            for row in due:
                self._waiting.setdefault((row.workspace_id, row.pattern_id), None)
            for key in list(islice(self._on_other_terms, OTHER_TERMS_PER_LOOK)):
                self._waiting.setdefault(key, self._on_other_terms.pop(key))
        if self._counted_at is None or not timedelta(0) <= now - self._counted_at < COUNT_EVERY:
            self._counted_at = now
            self._waiting = {**self._to_count, **self._waiting}
            self._to_count = {}
        await self.decide()

    async def decide(self) -> None:
        """Decide for every pattern that waits and whose rows hold all that was said of it."""
        failed, self._failed = self._failed, {}
        ready = {key: cause for key, cause in self._waiting.items() if key not in self._in_flight}
        if not failed and not ready:
            return
        async with self._pool.connection() as conn, conn.transaction():
            fixes = await _fixes_of(conn, {*failed, *ready})
            for key, said in failed.items():
                if key not in fixes or key in ready:
                    continue
                if not any(said.may_break(fix) for fix in fixes[key]):
                    self._to_count[key] = said.cause
                elif key in self._in_flight:
                    self._waiting[key] = said.cause
                else:
                    ready[key] = said.cause
            decided = await self._decided(conn, ready, fixes)
        await self._append(decided, ready)
        for key in ready:
            self._waiting.pop(key, None)

    async def _decided(
        self, conn: Connection, ready: Mapping[Key, object], fixes: Mapping[Key, Sequence[Fix]]
    ) -> list[tuple[Key, DecidedFix]]:
        if not ready:
            return []
        patterns = await find_patterns(conn, ready)
        made = await made_for(conn, ready)
        terms = await _terms(conn, {workspace_id for workspace_id, _ in ready})
        decided: list[tuple[Key, DecidedFix]] = []
        for key, seen in patterns.items():
            case = Case(pattern=seen, fixes=fixes.get(key, ()), made=made.get(key, ()))
            if not case.fixes and not is_new_fix(case):
                continue
            case = Case(
                pattern=case.pattern,
                fixes=case.fixes,
                made=case.made,
                failures=await _failures(conn, key),
                terms=terms.get(seen.workspace_id, proof.Terms()),
            )
            reference = Reference()
            if seen.watch is not None and is_new_fix(case):
                reference = await _reference(conn, seen.workspace_id, before=seen.watch.fixed_at)
            decided += [(key, each) for each in prove(case, reference=reference, now=self._clock())]
        return decided

    async def _append(
        self,
        decided: Sequence[tuple[Key, DecidedFix]],
        causes: Mapping[Key, Recorded[Event] | None],
    ) -> None:
        if not decided:
            return
        now = self._clock()
        appends = [
            Append(
                record(
                    each.event,
                    workspace_id=key[0],
                    aggregate_id=each.fix_id,
                    occurred_at=each.at or now,
                    recorded_at=now,
                    source=SERVICE,
                    cause=causes[key],
                ),
                expected=each.expected,
            )
            for key, each in decided
        ]
        lost: list[Conflict] = []
        for (key, _), outcome in zip(decided, await self._log.append_each(appends), strict=True):
            if isinstance(outcome, Conflict):
                lost.append(outcome)
            else:
                self._in_flight[key] = max(outcome, self._in_flight.get(key, 0))
        log.info("fixes.judged", n_events=len(decided) - len(lost), n_conflicts=len(lost))
        if lost:
            # Somebody was faster; the batch is observed again from the log.
            raise ConflictError(f"fix/{decided[0][1].fix_id}", lost[0].expected)

    def _mine(self, rows: Iterable[_queries.PatternOfFix]) -> list[Key]:
        """Of rows of all partitions, those of this one."""
        return [
            (row.workspace_id, row.pattern_id)
            for row in rows
            if self._log.partition_of(row.workspace_id) == self._partition
        ]


async def made_for(conn: Connection, keys: Iterable[Key]) -> dict[Key, list[Recommendation]]:
    """The recommendations of each pattern."""
    made: defaultdict[Key, list[Recommendation]] = defaultdict(list)
    for row in await _queries.list_recommendations_of_patterns(conn, keys=_as_keys(keys)):
        made[row.workspace_id, row.pattern_id].append(recommendation_of(row))
    return made


async def _fixes_of(conn: Connection, keys: Iterable[Key]) -> dict[Key, list[Fix]]:
    found: defaultdict[Key, list[Fix]] = defaultdict(list)
    for row in await _queries.list_fixes_of_patterns(conn, keys=_as_keys(keys)):
        found[row.workspace_id, row.pattern_id].append(fix_of(row))
    return dict(found)


async def _failures(conn: Connection, key: Key) -> list[proof.Failure]:
    rows = await _queries.list_failures(conn, workspace_id=key[0], pattern_id=key[1], n_most=FAILURES_MAX)
    return [proof.Failure(row.occurred_at, row.issue_id, row.environment, row.version) for row in rows]


async def _reference(conn: Connection, workspace_id: str, *, before: datetime) -> Reference:
    rows = await _queries.list_reference_failures(
        conn,
        workspace_id=workspace_id,
        before=before,
        n_patterns=REFERENCE_PATTERNS,
        n_each=REFERENCE_FAILURES_EACH,
    )
    times: defaultdict[str, list[datetime]] = defaultdict(list)
    for row in rows:
        times[row.pattern_id].append(row.occurred_at)
    return reference_of(list(times.values()), now=before)


async def _on_other_terms(conn: Connection, workspace_id: str | None) -> list[_queries.PatternOfFix]:
    """Patterns whose fix is proved on other terms than its workspace has; of all workspaces where None."""
    default = proof.Terms()
    return await _queries.list_proved_on_other_terms(
        conn,
        workspace_id=workspace_id,
        level=default.level,
        least_days=default.least_days,
        most_days=default.most_days,
    )


async def _terms(conn: Connection, workspace_ids: Iterable[str]) -> dict[str, proof.Terms]:
    return {
        row.workspace_id: terms_of(
            least_days=row.proof_window_days,
            most_days=row.proof_window_max_days,
            level=row.proof_confidence,
        )
        for row in await _queries.list_workspaces(conn, workspace_ids=sorted(workspace_ids))
    }


def _as_keys(keys: Iterable[Key]) -> str:
    return as_json([PatternKey(*key) for key in sorted(keys)])
