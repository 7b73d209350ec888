"""Patterns and forecasts change → recommendations are made and reassessed."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice

import msgspec
import structlog
from contracts import Event, Recorded, pattern, prediction, recommendation, record, workspace
from eventlog import Append, Conflict, ConflictError, EventLog
from runtime.database import Connection, Pool

from services.recommendation import _queries
from services.recommendation.commands import (
    DEFAULT_CONFIDENCE_THRESHOLD,
    Kind,
    Situation,
    play_of,
    reassess,
    recommend,
    records_by_kind,
    retire,
    withhold,
)
from services.recommendation.engine.matching import Matcher
from services.recommendation.engine.playbook import Play
from services.recommendation.engine.ranking import FADING, Calibration, TrackRecord
from services.recommendation.projections import COUNTED_MAX, Key, PatternKey, as_json, find_patterns
from services.recommendation.reactions.proving import SERVICE, Prover, made_for
from services.recommendation.state import FORECAST_WINDOW_DAYS, Abstention

PATTERNS_PER_ROUND = 200
PLAYBOOK_SETTLES_AFTER = timedelta(seconds=5)
"""So long after the last change of a workspace's plays its patterns are looked at anew, once for a whole upload."""
GRACE = timedelta(hours=24)
"""After a window's end a miss is known; hits of the same age count only then, else young records were hits alone."""
CALIBRATED_FOR = timedelta(hours=1)
"""How long the ratio of a workspace's forecasts to what came holds; it is weighed from up to 5,000 of them."""
MATCHERS_MAX = 32
"""Workspaces with plays of their own whose matchers are kept in memory."""
REMEMBERED_OF_OWN = 256
"""Patterns whose fits such a matcher keeps: up to 100 kB each where a workspace has many plays."""

log = structlog.get_logger()


class Recommender:
    """Decides for the patterns that events have touched, from the rows as they are after those events; proofs as well.

    Memory is what waits for a decision and nothing else, so it does not grow with the number of patterns.
    Doing it twice is harmless: an id derives from pattern and play and is appended expecting an empty subject,
    and a reassessment expects the sequence that it was computed from.
    """

    def __init__(
        self, event_log: EventLog, pool: Pool, matcher: Matcher, *, clock: Callable[[], datetime]
    ) -> None:
        self._log = event_log
        self._pool = pool
        self._matcher = matcher
        self._clock = clock
        self._prover = Prover(event_log, pool, clock=clock)
        self._is_live = False
        # Pattern or workspace → the latest event that asks for a decision; it becomes the decision's cause.
        self._patterns: dict[Key, Recorded[Event]] = {}
        self._workspaces: dict[str, Recorded[Event]] = {}
        # Workspace → the last change of its plays. A crash forgets it; the patterns' next forecasts make up for that.
        self._playbooks: dict[str, Recorded[Event]] = {}
        # Workspace → sequence of the last change of its plays, and the matcher of them with the shipped ones.
        self._matchers: dict[str, tuple[int, Matcher]] = {}
        # Workspace → when its calibration was weighed, and that.
        self._calibrated: dict[str, tuple[datetime, Calibration]] = {}
        # Pattern → sequence of our last event about it. Until the rows hold that, the pattern waits.
        self._in_flight: dict[Key, int] = {}

    async def start(self, *, partition: int, position: int, caught_up_at: int) -> None:
        """Begin as leader with nothing to decide; the rows hold all that is needed."""
        self._patterns.clear()
        self._workspaces.clear()
        self._playbooks.clear()
        self._calibrated.clear()
        self._in_flight.clear()
        self._is_live = False
        await self._prover.start(partition=partition)

    async def observe(self, batch: Sequence[Recorded[Event]], *, live: bool) -> None:
        """Note what a batch touches; once live, decide all that is noted."""
        for event in batch:
            self._note(event)
            self._prover.note(event)
            if isinstance(event.data, workspace.WorkspaceSettingsChanged):
                await self._prover.terms_changed(event)
        if batch:  # going live on an empty log comes without an event
            landed = batch[-1].seq
            self._in_flight = {key: seq for key, seq in self._in_flight.items() if seq > landed}
            self._prover.landed(landed)
        if live:
            self._is_live = True
            await self._decide()
            await self._prover.decide()

    async def tick(self, *, now: datetime) -> None:
        """Time alone asks for verdicts on fixes, and for a look with plays that have settled; for nothing else."""
        if not self._is_live:
            return
        for workspace_id, event in list(self._playbooks.items()):
            if now - event.recorded_at >= PLAYBOOK_SETTLES_AFTER:
                self._workspaces.setdefault(workspace_id, self._playbooks.pop(workspace_id))
        if self._workspaces:
            await self._decide()
        await self._prover.look(now=now)

    def _note(self, event: Recorded[Event]) -> None:
        data = event.data
        match data:
            case (
                pattern.PatternDetected()
                | pattern.PatternDescribed()
                | pattern.PatternStatusChanged()
                | pattern.PatternSplit()
                | recommendation.RecommendationStatusChanged()
                | recommendation.FixVerified()
                | recommendation.FixBroken()
            ):
                self._patterns[event.workspace_id, data.pattern_id] = event
            case pattern.PatternsMerged():
                self._patterns[event.workspace_id, data.target_pattern_id] = event
            case prediction.PredictionMade() if (
                data.window_days == FORECAST_WINDOW_DAYS and not data.held_out
            ):
                self._patterns[event.workspace_id, data.pattern_id] = event
            case workspace.WorkspaceSettingsChanged() if data.confidence_threshold is not None:
                self._workspaces[event.workspace_id] = event
            case recommendation.PlayDefined() | recommendation.PlayWithdrawn():
                self._playbooks[event.workspace_id] = event
            case (
                recommendation.RecommendationMade()
                | recommendation.RecommendationReassessed()
                | recommendation.RecommendationWithheld()
            ):
                key = (event.workspace_id, data.pattern_id)
                # Another process decided this one, and nobody knows any more what it left waiting.
                if event.seq > self._in_flight.get(key, 0):
                    self._patterns.setdefault(key, event)
            case workspace.WorkspaceErased():
                self._forget(event.workspace_id)
            case _:
                pass

    def _forget(self, workspace_id: str) -> None:
        """Drop what waits for a decision in a workspace that is no more."""
        self._workspaces.pop(workspace_id, None)
        self._playbooks.pop(workspace_id, None)
        self._matchers.pop(workspace_id, None)
        self._calibrated.pop(workspace_id, None)
        self._patterns = {key: cause for key, cause in self._patterns.items() if key[0] != workspace_id}
        self._in_flight = {key: seq for key, seq in self._in_flight.items() if key[0] != workspace_id}

    async def _decide(self) -> None:
        await self._spread_workspaces()
        while causes := self._next_round():
            async with self._pool.connection() as conn, conn.transaction():
                situations, matchers = await self._situations(conn, causes)
            decided = [
                (key, append)
                for key, situation in situations.items()
                for append in self._appends(situation, causes[key], matchers.get(key[0], self._matcher))
            ]
            await self._append(decided)
            for key in causes:
                self._patterns.pop(key, None)

    def _next_round(self) -> dict[Key, Recorded[Event]]:
        """Patterns to decide now: those whose rows hold all that we said of them."""
        ready = ((key, cause) for key, cause in self._patterns.items() if key not in self._in_flight)
        return dict(islice(ready, PATTERNS_PER_ROUND))

    async def _spread_workspaces(self) -> None:
        """A new threshold concerns every open pattern of its workspace."""
        while self._workspaces:
            workspace_id, cause = next(iter(self._workspaces.items()))
            async with self._pool.connection() as conn:
                pattern_ids = await _queries.list_open_patterns(conn, workspace_id=workspace_id)
            for pattern_id in pattern_ids:
                self._patterns.setdefault((workspace_id, pattern_id), cause)
            self._workspaces.pop(workspace_id)

    async def _situations(
        self, conn: Connection, causes: Mapping[Key, Recorded[Event]]
    ) -> tuple[dict[Key, Situation], dict[str, Matcher]]:
        """What to decide on, and the matchers of workspaces that have plays of their own."""
        workspace_ids = sorted({workspace_id for workspace_id, _ in causes})
        patterns = await find_patterns(conn, causes)
        made = await made_for(conn, causes)
        known = {
            row.workspace_id: row for row in await _queries.list_workspaces(conn, workspace_ids=workspace_ids)
        }
        records = await _records(conn, workspace_ids)
        await self._calibrate(conn, workspace_ids)
        said = await _abstentions(conn, causes)
        situations = {
            key: Situation(
                pattern=seen,
                threshold=_threshold(known.get(seen.workspace_id)),
                made=made.get(key, ()),
                records=records.get(seen.workspace_id, {}),
                calibration=self._calibrated[seen.workspace_id][1],
                abstention=said.get(key),
            )
            for key, seen in patterns.items()
        }
        return situations, {
            row.workspace_id: await self._matcher_of(conn, row.workspace_id, row.plays_seq)
            for row in known.values()
            if row.plays_seq is not None
        }

    async def _calibrate(self, conn: Connection, workspace_ids: Iterable[str]) -> None:
        """Weigh the forecasts of those workspaces for which that was not done of late."""
        now = self._clock()
        for workspace_id, (weighed_at, _) in list(self._calibrated.items()):
            if not timedelta(0) <= now - weighed_at < CALIBRATED_FOR:
                del self._calibrated[workspace_id]
        wanted = [workspace_id for workspace_id in workspace_ids if workspace_id not in self._calibrated]
        found = await _calibrations(conn, wanted, now=now) if wanted else {}
        for workspace_id in wanted:
            self._calibrated[workspace_id] = now, found.get(workspace_id, Calibration())

    async def _matcher_of(self, conn: Connection, workspace_id: str, seq: int) -> Matcher:
        """The matcher of the plays that a workspace has after this event of them."""
        known = self._matchers.pop(workspace_id, None)
        if known is None or known[0] != seq:
            rows = await _queries.list_plays(conn, workspace_id=workspace_id)
            own = [play for row in rows if (play := _usable(workspace_id, row)) is not None]
            extended = self._matcher.playbook.extended(own)
            known = (seq, Matcher(extended, remembered_max=REMEMBERED_OF_OWN) if own else self._matcher)
        # What was asked for last is last.
        self._matchers[workspace_id] = known
        if len(self._matchers) > MATCHERS_MAX:
            del self._matchers[next(iter(self._matchers))]
        return known[1]

    def _appends(self, situation: Situation, cause: Recorded[Event], matcher: Matcher) -> list[Append]:
        withheld, said = withhold(situation, matcher), situation.abstention
        decided: list[tuple[str, int, recommendation.Event]] = [
            *((made.recommendation_id, 0, made) for made in recommend(situation, matcher)),
            *((made.recommendation_id, made.seq, event) for made, event in reassess(situation, matcher)),
            *((made.recommendation_id, made.seq, event) for made, event in retire(situation)),
        ]
        if withheld is not None:
            decided.append((withheld.pattern_id, 0 if said is None else said.seq, withheld))
        return [Append(self._record(event, on, cause), expected=expected) for on, expected, event in decided]

    def _record(
        self,
        event: recommendation.Event,
        aggregate_id: str,
        cause: Recorded[Event],
    ) -> Recorded[Event]:
        now = self._clock()
        return record(
            event,
            workspace_id=cause.workspace_id,
            aggregate_id=aggregate_id,
            occurred_at=now,
            recorded_at=now,
            source=SERVICE,
            cause=cause,
        )

    async def _append(self, decided: Sequence[tuple[Key, Append]]) -> None:
        if not decided:
            return
        outcomes = await self._log.append_each([append for _, append in decided])
        lost = []
        for (key, append), outcome in zip(decided, outcomes, strict=True):
            if isinstance(outcome, Conflict):
                lost.append((append.event.aggregate_id, outcome.expected))
            else:
                self._in_flight[key] = max(outcome, self._in_flight.get(key, 0))
        log.info("recommendations.decided", n_events=len(decided) - len(lost), n_conflicts=len(lost))
        if lost:
            # Somebody was faster. Memory would not survive a crash, so the batch is observed again from the log.
            raise ConflictError(f"recommendation/{lost[0][0]}", lost[0][1])


def _usable(workspace_id: str, row: str) -> Play | None:
    """A workspace's own play; None for one that an earlier build took and this one does not, which must stop nobody."""
    sent = msgspec.json.decode(row, type=recommendation.Play)
    try:
        return play_of(sent)
    except msgspec.ValidationError as error:
        log.warning("play.left_out", workspace_id=workspace_id, play_id=sent.play_id, error=str(error))
        return None


def _threshold(row: _queries.WorkspacesRow | None) -> float:
    if row is None or row.confidence_threshold is None:
        return DEFAULT_CONFIDENCE_THRESHOLD
    return row.confidence_threshold


async def _calibrations(
    conn: Connection, workspace_ids: Sequence[str], *, now: datetime
) -> dict[str, Calibration]:
    """How forecasts came true whose misses are known as well as their hits."""
    rows = await _queries.list_calibrations(
        conn, workspace_ids=list(workspace_ids), fading=FADING, ended_by=now - GRACE, most=COUNTED_MAX
    )
    return {
        row.workspace_id: Calibration(n_hits=round(row.n_hits, 6), n_foretold=round(row.n_foretold, 6))
        for row in rows
    }


async def _abstentions(conn: Connection, keys: Iterable[Key]) -> dict[Key, Abstention]:
    """What was said of patterns for which nothing fitted."""
    asked = as_json([PatternKey(*key) for key in sorted(keys)])
    return {
        (row.workspace_id, row.pattern_id): Abstention(
            workspace_id=row.workspace_id,
            pattern_id=row.pattern_id,
            best_play_id=row.best_play_id,
            best_fit=row.best_fit,
            seq=row.seq,
        )
        for row in await _queries.find_abstentions(conn, keys=asked)
    }


async def _records(conn: Connection, workspace_ids: Sequence[str]) -> dict[str, Mapping[Kind, TrackRecord]]:
    """What became of implemented fixes, by workspace and kind."""
    found: defaultdict[str, list[tuple[Kind, TrackRecord]]] = defaultdict(list)
    for row in await _queries.list_track_records(conn, workspace_ids=list(workspace_ids)):
        kind = (recommendation.RecommendationType(row.type), recommendation.Effort(row.effort))
        found[row.workspace_id].append((kind, TrackRecord(n_verified=row.n_verified, n_broken=row.n_broken)))
    return {workspace_id: records_by_kind(records) for workspace_id, records in found.items()}
