"""The one way in which a source's records become issues: polled, pushed, tried again or mapped anew."""

import asyncio
from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from contracts import connector, ingest, workspace
from eventlog import EventLog
from msgspec import Struct
from msgspec.structs import replace
from runtime.broker import CommandContext

from services.ingest.connectors.connecting import Source
from services.ingest.connectors.mapping import Ignored, Mapped, Rejected, map_record
from services.ingest.errors import PlanFullError
from services.ingest.records import Known, Raw, Records, Rejection
from services.ingest.reporting import Turn, known_of, report, weigh

PUSHED: Final = "webhook"
"""What stands for a stream where records came by themselves."""
BATCH_MAX: Final = 500
COUNTED_MAX: Final = 50_000
"""Records that were counted and may not be in yet, of which a process knows that."""
SEEN_EVERY: Final = timedelta(hours=6)
"""How often it is noted of a record that it still comes as it is kept: a workspace may let go of it after a day, and what
is let go of counts as changed when it comes again, over what people made of its issue since. So does what comes more
rarely than a workspace keeps it."""
_MAPPED_AT_ONCE: Final = 5
"""Records that are mapped before others may go on."""


_Key: TypeAlias = tuple[str, str, str, str]


class Taken(Struct, frozen=True):
    """What became of some records. sequence: behind which rows show the issues; 0 where nothing changed."""

    counts: connector.SyncCounts
    sequence: int = 0


class _Reached(Struct, frozen=True):
    """How far a batch came. refused: what the plan had no room for. reason: why."""

    sequence: int
    refused: Sequence[tuple[object, datetime | None]]
    reason: str


class Intake:
    """Takes in what sources say.

    allow: counts as many of so many records for the organization of a context's workspace as its plan has room for; it
    is asked of those that change an issue or begin one.
    clock: the time in UTC.
    """

    def __init__(
        self,
        event_log: EventLog,
        records: Records,
        *,
        allow: Callable[[CommandContext, int], Awaitable[workspace.EventsTaken]],
        clock: Callable[[], datetime],
    ) -> None:
        self._log = event_log
        self._records = records
        self._allow = allow
        self._counted: OrderedDict[_Key, None] = OrderedDict()
        self._clock = clock

    async def take_in(
        self,
        source: Source,
        stream: str,
        records: Sequence[object],
        context: CommandContext,
        *,
        came_at: Sequence[datetime] = (),
        kept_as: Sequence[str] = (),
    ) -> Taken:
        """Map records, report the issues, keep both the records and those that are none; of any length.

        stream: by which they came; "webhook" for one that was pushed. came_at: when each of them did, where they have
        waited since: whichever is taken in first, what came later counts, unless the source says otherwise. kept_as: under
        which id each is kept already, to be mapped once more, unless something else is kept by now; without, one that is
        kept as it comes says nothing new. A bad record becomes a dead letter and stops
        nothing. Taking the same in again changes nothing. Raises LogUnreachableError and UnavailableError, and
        PlanFullError where not all that is new fits into the plan's month; all else is in, and taking all of it in
        again is safe.
        """
        tally: Tally[str] = Tally()
        sequence = 0
        refused: list[tuple[object, datetime | None]] = []
        reason = ""
        for start in range(0, len(records), BATCH_MAX):
            part = slice(start, start + BATCH_MAX)
            reached = await self._batch(
                source, stream, records[part], context, tally, came_at=came_at[part], kept_as=kept_as[part]
            )
            sequence = max(sequence, reached.sequence)
            # What follows may say nothing new, and costs nothing then.
            refused += reached.refused
            reason = reason or reached.reason
        n_taken = len(records) - len(refused)
        counts = connector.SyncCounts(n_records=n_taken, **{name: tally[name] for name in _NAMES})
        if refused:
            raise PlanFullError(reason, refused, counts)
        return Taken(counts, sequence)

    async def _batch(
        self,
        source: Source,
        stream: str,
        records: Sequence[object],
        context: CommandContext,
        tally: Tally[str],
        *,
        came_at: Sequence[datetime],
        kept_as: Sequence[str],
    ) -> _Reached:
        now, is_anew = self._clock(), bool(kept_as)
        came = list(zip(records, came_at or [now] * len(records), strict=True))
        found, tickets, rejections = await self._mapped(source, came, tally, now=now)
        all_ids = {*kept_as, *(raw.external_id for _, raw in found)}
        known = await self._records.known(context.workspace_id, source.connector_id, sorted(all_ids))
        mapped = await self._no_tickets(found, tickets, known, Turn(context, now)) if tickets else found
        tally["n_ignored"] += len(found) - len(mapped)
        if stream != PUSHED:
            mapped = _in_order(mapped[::-1] if not came_at and _is_latest_first(source, stream) else mapped)
        if is_anew:
            still_kept = {known[id_].sha256 for id_ in kept_as if id_ in known}
            fresh = [each for each in mapped if each[1].sha256 in still_kept]
        else:
            fresh = list(_fresh(mapped, known, is_listed=stream != PUSHED))
        tally["n_unchanged"] += len(mapped) - len(fresh)
        # What is mapped anew did not come from its source.
        stale = [raw for _, raw in mapped if not is_anew and _is_stale(known, raw, now)]
        if stale:
            await self._see(source, context, stale, now)
        sequence = 0
        refused: list[tuple[object, datetime | None]] = []
        reason = ""
        if fresh:
            issues = [_dated(issue, raw, known) for issue, raw in fresh]
            late: Collection[int] = ()
            if is_anew:
                reply = await report(self._log, issues, Turn(context, now))
            else:
                there = {number for number, (_, raw) in enumerate(fresh) if raw.external_id in known}
                weighed = await weigh(self._log, issues, Turn(context, now), known=there)
                over, reason = await self._beyond(source, context, fresh, weighed.news)
                refused = [(raw.record, raw.received_at) for _, raw in (fresh[n] for n in sorted(over))]
                fresh = [each for number, each in enumerate(fresh) if number not in over]
                reply, late = await weighed.report(without=over), weighed.late
            sequence = reply.sequence
            accepted: list[Raw] = []
            in_time: set[Raw] = set()
            for result, (_, raw) in zip(reply.results, fresh, strict=True):
                if result.outcome is ingest.ReportOutcome.REJECTED:
                    path, _, fault = (result.reason or "").partition(": ")
                    rejections.append(Rejection(raw.record, path, fault, raw.received_at))
                else:
                    tally[f"n_{result.outcome.value}"] += 1
                    accepted.append(raw)
                    if result.index not in late:
                        in_time.add(raw)
            if not is_anew:
                # After the report: what is kept was reported, so that it may be passed over when it comes again.
                await self._keep(source, stream, context, accepted, in_time=in_time, known=known)
                for raw in accepted:
                    self._counted.pop(_key(source, context, raw), None)
        tally["n_rejected"] += len(rejections)
        if rejections:
            await self._records.reject(context.workspace_id, source.connector_id, stream, rejections)
        return _Reached(sequence, refused, reason)

    async def _keep(
        self,
        source: Source,
        stream: str,
        context: CommandContext,
        accepted: Sequence[Raw],
        *,
        in_time: Collection[Raw],
        known: Collection[str],
    ) -> None:
        """Keep what was accepted. What is late replaces nothing that is kept, for a remap reports that; it is noted."""
        there_now = {*known, *(raw.external_id for raw in in_time)}
        lasting = {raw for raw in accepted if raw in in_time or raw.external_id not in there_now}
        kept = [raw for raw in accepted if raw in lasting]
        await self._records.keep(context.workspace_id, source.connector_id, stream, kept)
        if late := [raw for raw in accepted if raw not in lasting]:
            await self._records.note_late(context.workspace_id, source.connector_id, late)

    async def _see(
        self, source: Source, context: CommandContext, stale: Sequence[Raw], now: datetime
    ) -> None:
        """Note of records that they came again as they are kept."""
        ids = sorted({raw.external_id for raw in stale})
        seen_at = min(raw.received_at or now for raw in stale)
        await self._records.see(context.workspace_id, source.connector_id, ids, seen_at=seen_at)

    async def _no_tickets(
        self,
        found: Sequence[tuple[ingest.IssueReport, Raw]],
        tickets: Collection[Raw],
        known: Collection[str],
        turn: Turn,
    ) -> list[tuple[ingest.IssueReport, Raw]]:
        """All but what is marked as a ticket of ours and no issue: whoever writes a marker into one hides nothing of it.

        known: ids of which something is kept; what is too large for that, or past retention, only the log knows.
        """
        there = {*known, *(raw.external_id for _, raw in found if raw not in tickets)}
        unsure = [issue for issue, raw in found if raw.external_id not in there]
        if unsure:
            there |= await known_of(self._log, unsure, turn)
        return [each for each in found if each[1].external_id in there]

    async def _beyond(
        self,
        source: Source,
        context: CommandContext,
        fresh: Sequence[tuple[ingest.IssueReport, Raw]],
        news: Sequence[bool],
    ) -> tuple[Collection[int], str]:
        """Positions of those that the plan has no room for, and why; each that is news is counted once, however often
        it is tried. Of an issue of which one is refused, so are those that follow, for they would bring it in.
        """
        keys = [_key(source, context, raw) for _, raw in fresh]
        uncounted = [number for number, key in enumerate(keys) if news[number] and key not in self._counted]
        if not uncounted:
            return (), ""
        said = await self._allow(context, len(uncounted))
        over = set(uncounted[said.n_records :])
        cut: set[str] = set()
        for number, (_, raw) in enumerate(fresh):
            if number in over or raw.external_id in cut:
                over.add(number)
                cut.add(raw.external_id)
        for number in uncounted[: said.n_records]:
            self._counted[keys[number]] = None
        while len(self._counted) > COUNTED_MAX:
            self._counted.popitem(last=False)
        return over, said.reason

    async def _mapped(
        self, source: Source, came: Sequence[tuple[object, datetime]], tally: Tally[str], *, now: datetime
    ) -> tuple[list[tuple[ingest.IssueReport, Raw]], set[Raw], list[Rejection]]:
        """Issues, those of them that are marked as tickets of ours, and what is none."""
        mapped: list[tuple[ingest.IssueReport, Raw]] = []
        tickets: set[Raw] = set()
        rejections: list[Rejection] = []
        for number, (record, came_at) in enumerate(came, 1):
            outcome = map_record(source.manifest, record, now=now)
            match outcome:
                case Rejected(reason, path, raw):
                    rejections.append(Rejection(raw, path, reason, came_at))
                case Ignored(issue=None):
                    tally["n_ignored"] += 1
                case Mapped(issue=issue) | Ignored(issue=issue) if issue is not None:
                    qualified = source.qualified(issue)
                    mapped.append((qualified, Raw(qualified.external_id or "", outcome.raw, came_at)))
                    if isinstance(outcome, Ignored):
                        tickets.add(mapped[-1][1])
            if number % _MAPPED_AT_ONCE == 0:
                await asyncio.sleep(0)
        return mapped, tickets, rejections


def _key(source: Source, context: CommandContext, raw: Raw) -> _Key:
    """What is counted once: this content of this issue."""
    return (context.workspace_id, source.connector_id, raw.external_id, raw.sha256)


_NAMES: Final = ("n_created", "n_updated", "n_unchanged", "n_ignored", "n_rejected")


def added(one: connector.SyncCounts, other: connector.SyncCounts) -> connector.SyncCounts:
    """Both together."""
    names = ("n_records", *_NAMES)
    return connector.SyncCounts(**{name: getattr(one, name) + getattr(other, name) for name in names})


def _is_latest_first(source: Source, stream: str) -> bool:
    """Whether a list begins with the latest, so that what it says without a time, or at the same, came the other way."""
    return any(each.name == stream and each.order == "descending" for each in source.manifest.streams)


def _in_order(
    mapped: Sequence[tuple[ingest.IssueReport, Raw]],
) -> list[tuple[ingest.IssueReport, Raw]]:
    """What a list says of one issue in the order of its times, as far as it says them all; a list may begin with the
    latest. Issues keep their places.
    """
    places: dict[str, list[int]] = {}
    for number, (_, raw) in enumerate(mapped):
        places.setdefault(raw.external_id, []).append(number)
    ordered = list(mapped)
    for numbers in places.values():
        times = [_time(mapped[number][0]) for number in numbers]
        known = [time for time in times if time is not None]
        if len(numbers) > 1 and len(known) == len(times):
            for place, (_, number) in zip(numbers, sorted(zip(known, numbers, strict=True)), strict=True):
                ordered[place] = mapped[number]
    return ordered


def _time(issue: ingest.IssueReport) -> datetime | None:
    return issue.source_updated_at or issue.source_created_at


def _fresh(
    mapped: Sequence[tuple[ingest.IssueReport, Raw]], known: Mapping[str, Known], *, is_listed: bool
) -> Iterator[tuple[ingest.IssueReport, Raw]]:
    """What is not kept as it comes; once something of an issue is fresh, so is all of it that follows.

    is_listed: a list gives what it has again and again, so what stands before that which is kept came before it.
    """
    kept = (
        {raw.external_id: number for number, (_, raw) in enumerate(mapped) if _is_known(known, raw)}
        if is_listed
        else {}
    )
    changed: set[str] = set()
    for number, (issue, raw) in enumerate(mapped):
        if number < kept.get(raw.external_id, 0):
            continue
        if raw.external_id in changed or not (_is_known(known, raw) or _is_outdated(known, raw)):
            changed.add(raw.external_id)
            yield issue, raw


def _is_known(known: Mapping[str, Known], raw: Raw) -> bool:
    found = known.get(raw.external_id)
    return found is not None and found.sha256 == raw.sha256


def _is_outdated(known: Mapping[str, Known], raw: Raw) -> bool:
    """Whether it came before, of an older revision than is kept."""
    found = known.get(raw.external_id)
    return found is not None and found.late_sha256 == raw.sha256


def _is_stale(known: Mapping[str, Known], raw: Raw, now: datetime) -> bool:
    if not (_is_known(known, raw) or _is_outdated(known, raw)):
        return False
    return known[raw.external_id].seen_at < (raw.received_at or now) - SEEN_EVERY


def _dated(issue: ingest.IssueReport, raw: Raw, known: Mapping[str, Known]) -> ingest.IssueReport:
    """The issue with a time of its revision: where the source says none, when this content came first.

    Without one, whoever edits an issue would lose the edit at the next poll: the same content would count as newer.
    """
    if issue.source_updated_at is not None:
        return issue
    found = known.get(raw.external_id)
    is_same = found is not None and found.sha256 == raw.sha256
    at = found.received_at if is_same and found is not None else raw.received_at
    return replace(issue, source_updated_at=at)
