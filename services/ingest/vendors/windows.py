"""Where a run goes on behind an answer: to the next page, to what is missing of its window, to the next list. Pure.

Where pages are counted, a record that changes while they are read goes from its place, all behind it move up, and the
next page begins behind one that nobody has read. What is promised of a list that is sorted by its cursor, `ascending`,
and that can be told where to begin: every record that stays where it is while the list is read is given, however large
pages are and however many records share a moment. A first page has no gap, so the list begins anew at its last record.
What cannot begin anew, for all its records are of one moment, or the vendor begins where it likes, is read page by page
and then again, until two readings give the same: then nothing was gone from what was read, so nothing moved up.

Not promised: what changes in each of READINGS_MAX readings may miss a record, which is said; so may a list in another
order, or one that cannot be told where to begin; of a moment with more records than the vendor gives of a window, the rest
is withheld.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct

from services.ingest.connectors.manifest import Endpoint, Offset, PageNumber, SinglePage, Stream
from services.ingest.connectors.normalization import moment
from services.ingest.errors import VendorError

READINGS_MAX: Final = 8
"""How often a stretch of counted pages is read at most, for one that changes all the time; without that it is twice."""
SEEN_MAX: Final = 500
"""Of how many records it is known that they came; one that is longer ago comes twice, and is stored once by its id."""
ASKED_MAX: Final = 64
"""Of how many pages it is known that they were asked for; a longer circle ends at the number of its pages."""
STEP_MIN: Final = timedelta(seconds=1)
"""No vendor is taken to begin more exactly: Jira is told milliseconds, and begins with the second that they are in."""

AHEAD_MIN: Final = 2
"""By how many steps a list begins later at least when it begins anew; for less, two readings of its pages are cheaper."""

_SIZES: Final = re.compile(
    r"(page\[?|items)?_?(per_?page|size|limit|page_?len|max_?results|max|take|count|\$top)\]?", re.IGNORECASE
)
_STEPS: Final = re.compile(r"""(?<=')[^']+(?=')|(?<=")[^"]+(?=")|[^.\[\]'"]+""")
_RESOLUTIONS: Final = {
    "date": timedelta(days=1),
    "minute": timedelta(minutes=1),
    "epoch_ms": timedelta(milliseconds=1),
}


class Place(Struct, frozen=True):
    """Where a run is.

    windows: what is still to read, the first is being read. next: the vendor's word for the page, None the first.
    n_records: read of this window. partition: which of several lists is being read. seen: marks of the records that were
    read before and come again. is_counted: pages are counted to the end, for the vendor does not begin where it is told.
    trail: what the pages of this window had so far, as a hash, "" for none. former: the trail of the whole of it when it
    was read before. n_readings: how often it was. n_refused: how many of the lists before it the vendor refused.
    n_pages: read of all windows. asked: marks of the last pages that were named one by the other.
    """

    windows: tuple[tuple[datetime, datetime], ...]
    next: str | int | None = None
    n_records: int = 0
    partition: int = 0
    seen: tuple[str, ...] = ()
    is_counted: bool = False
    trail: str = ""
    former: str | None = None
    n_readings: int = 0
    n_refused: int = 0
    n_pages: int = 0
    asked: tuple[str, ...] = ()


class Answer(Struct, frozen=True, dict=True):
    """What a page had, and the vendor's word for the next one; None: there is none.

    ids: of the records' issues, in their order; empty where they are not known.
    """

    records: list[object]
    next: str | int | None
    ids: Sequence[str | None] = ()

    @cached_property
    def marks(self) -> Sequence[str | None]:
        """What each record is known by when it comes again as it was, made when it is first asked for, and once."""
        return [mark_of(record) for record in self.records]


class Step(Struct, frozen=True):
    """place: behind an answer, None at the end. is_cut: the vendor withholds records.

    is_unsettled: none of READINGS_MAX readings of its counted pages gave the same as the one before.
    """

    place: Place | None
    is_cut: bool = False
    is_unsettled: bool = False


def endpoint_of(stream: Stream) -> Endpoint:
    """What is asked by HTTP. Raises VendorError("not_configured") where nothing is."""
    if stream.endpoint is None:
        raise VendorError("not_configured", f"{stream.name} is not asked by HTTP")
    return stream.endpoint


def at_most(place: Place, stream: Stream) -> Place:
    """The same place with a first window that is no longer than the vendor allows."""
    if stream.days_max is None or place.next is not None:
        return place
    (start, end), *others = place.windows
    middle = start + timedelta(days=stream.days_max)
    if middle >= end:
        return place
    return msgspec.structs.replace(place, windows=((start, middle), (middle, end), *others))


def behind(
    stream: Stream,
    place: Place,
    answer: Answer,
    whole: tuple[tuple[datetime, datetime], ...],
    n_partitions: int,
) -> Step:
    """The place behind an answer, and what is known to be missing before it.

    Raises VendorError("bad_answer") for a vendor that turns no page.
    """
    after, is_cut = _behind(stream, place, answer, whole, n_partitions)
    if place.next is None or not can_begin_anew(stream) or (after is not None and after.next is not None):
        return Step(after, is_cut)
    # The last of several counted pages: between them a record may have moved up.
    if not answer.records and _was_alone(stream, place):
        return Step(after, is_cut)
    trail = _trail(stream, place, answer)
    if trail == place.former or place.n_readings + 1 >= READINGS_MAX:
        return Step(after, is_cut, is_unsettled=trail != place.former)
    seen, n_readings = _seen(place.seen, answer.marks), place.n_readings + 1
    again = Place(
        place.windows,
        partition=place.partition,
        seen=seen,
        is_counted=place.is_counted,
        former=trail,
        n_readings=n_readings,
    )
    return Step(again)


def onward(place: Place, after: Place) -> Place:
    """The place behind another, with what was asked for to get there.

    Raises VendorError("bad_answer") for pages that go in a circle.
    """
    asked: tuple[str, ...] = ()
    if after.next is not None:
        mark = sha256(str(after.next).encode()).hexdigest()[:12]
        if mark in place.asked:
            raise VendorError("bad_answer", "the vendor names a page again that it named before")
        asked = (*place.asked, mark)[-ASKED_MAX:]
    return msgspec.structs.replace(after, n_refused=place.n_refused, n_pages=place.n_pages + 1, asked=asked)


def _behind(
    stream: Stream,
    place: Place,
    answer: Answer,
    whole: tuple[tuple[datetime, datetime], ...],
    n_partitions: int,
) -> tuple[Place | None, bool]:
    """The same, as if no record had moved up."""
    (start, end), *others = place.windows
    n_records = place.n_records + len(answer.records)
    cut: tuple[tuple[datetime, datetime], ...] | None = None
    is_skipping = False
    if answer.next is not None and not _is_before(stream, answer.records, start):
        if not _is_at_cap(stream, answer, n_records):
            if answer.next == place.next:
                raise VendorError("bad_answer", "the vendor names the same page as the next one")
            return _further(stream, place, answer, n_records), False
        cut, is_skipping = _cut(stream, start, end, answer.records)
    elif answer.next is None and _is_full(stream, answer):
        cut, is_skipping = _cut(stream, start, end, answer.records)
    windows = (*(cut or ()), *others)
    is_cut = cut == () or (is_skipping and not _is_short(stream, place, answer))
    if windows:
        return Place(windows, partition=place.partition), is_cut
    if place.partition + 1 < n_partitions:
        return Place(whole, partition=place.partition + 1), is_cut
    return None, is_cut


def _further(stream: Stream, place: Place, answer: Answer, n_records: int) -> Place:
    """The next page of a window, or a window that begins with the last record of this page."""
    (start, end), *others = place.windows
    moments = moments_of(stream, answer.records)
    step = max(resolution(stream), STEP_MIN)
    is_counted = place.is_counted or (bool(moments) and min(moments) < start - step)
    is_sorted = len(moments) == len(answer.records) > 0 and moments == sorted(moments)
    # A step earlier, for some vendors begin behind the moment that they are told.
    last = moments[-1] - step if is_sorted and not is_counted and can_begin_anew(stream) else start
    if last < start + AHEAD_MIN * step:
        counted = msgspec.structs.replace(place, next=answer.next, n_records=n_records, is_counted=is_counted)
        if not can_begin_anew(stream):
            return counted
        seen, trail = _seen(place.seen, answer.marks), _trail(stream, place, answer)
        return msgspec.structs.replace(counted, seen=seen, trail=trail)
    # What comes again begins another step earlier, for the vendor is told the moment rounded down.
    again = [mark for mark, moment in zip(answer.marks, moments, strict=True) if moment > last - step]
    return Place(((last, end), *others), partition=place.partition, seen=_seen(place.seen, again))


def can_begin_anew(stream: Stream) -> bool:
    """Whether pages of a list are counted that is sorted by its cursor and can be told where to begin."""
    endpoint = endpoint_of(stream)
    is_counted = isinstance(endpoint.paginator, Offset | PageNumber)
    return is_counted and stream.order == "ascending" and endpoint.says("start")


def _seen(before: Sequence[str], marks: Sequence[str | None]) -> tuple[str, ...]:
    """Marks of what came before and these."""
    return tuple(dict.fromkeys((*before, *(mark for mark in marks if mark is not None))))[-SEEN_MAX:]


def _trail(stream: Stream, place: Place, answer: Answer) -> str:
    """What the pages of a window had, up to and with this one.

    Each by its id and moment where they are known, for some records hold what differs in each answer.
    """
    ids = answer.ids or [None] * len(answer.records)
    cursors = _cursors(stream, answer.records)
    marks = [
        mark or "" if id_ is None or cursor is None else f"{cursor.isoformat()} {id_}"
        for mark, id_, cursor in zip(answer.marks, ids, cursors, strict=True)
    ]
    return sha256("\n".join([place.trail, *marks]).encode()).hexdigest()[:16]


def mark_of(record: object) -> str | None:
    """What a record is known by when it comes again as it was; None for one that cannot be written down."""
    try:
        text = json.dumps(record, sort_keys=True)
    except (ValueError, RecursionError):
        return None
    return sha256(text.encode()).hexdigest()[:16]


def unseen(place: Place, answer: Answer) -> list[object]:
    """Those records that did not come before; what cannot be written down is never known to have come."""
    if not place.seen:
        return answer.records
    seen = frozenset(place.seen)
    return [record for record, mark in zip(answer.records, answer.marks, strict=True) if mark not in seen]


def _is_at_cap(stream: Stream, answer: Answer, n_records: int) -> bool:
    """Whether the next page is beyond what the vendor gives of one window."""
    paginator = endpoint_of(stream).paginator
    maximum = None
    if isinstance(paginator, Offset):
        maximum = paginator.maximum_offset
    elif isinstance(paginator, PageNumber):
        maximum = paginator.maximum_page
    if maximum is not None and isinstance(answer.next, int) and answer.next >= maximum:
        return True
    return stream.records_max is not None and n_records + len(answer.records) > stream.records_max


def _is_full(stream: Stream, answer: Answer) -> bool:
    """Whether a vendor that has no pages has given all that it gives at once."""
    is_single = isinstance(endpoint_of(stream).paginator, SinglePage)
    return is_single and stream.records_max is not None and len(answer.records) >= stream.records_max


def _is_short(stream: Stream, place: Place, answer: Answer) -> bool:
    """Whether a page has less than would fit, so that it is the last though the vendor does not say so."""
    paginator = endpoint_of(stream).paginator
    if isinstance(paginator, Offset):
        return len(answer.records) < paginator.limit
    if isinstance(paginator, PageNumber) and isinstance(place.next, int):
        return len(answer.records) * (place.next - paginator.base_page) < place.n_records
    return False


def _was_alone(stream: Stream, place: Place) -> bool:
    """Whether the window has had one page only, with less than was asked for: nothing moved up over its end."""
    endpoint = endpoint_of(stream)
    paginator = endpoint.paginator
    if stream.details is not None:  # which the vendor may not give of each id
        return False
    if isinstance(paginator, Offset):
        return place.next == paginator.limit and place.n_records < paginator.limit
    if not isinstance(paginator, PageNumber) or place.next != paginator.base_page + 1:
        return False
    sizes = [size for _, size in sizes_of({**endpoint.params, **endpoint.json})]
    return bool(sizes) and place.n_records < min(sizes)


def sizes_of(words: Mapping[str, object]) -> list[tuple[str, int]]:
    """Which words of a request say how many records a page may have, and how many."""
    return [(name, size) for name, size in words.items() if isinstance(size, int) and _SIZES.fullmatch(name)]


def _cut(
    stream: Stream, start: datetime, end: datetime, records: Sequence[object]
) -> tuple[tuple[tuple[datetime, datetime], ...], bool]:
    """The windows that hold what is missing of one whose cap is reached, none where the vendor offers no way.

    And whether what is left of a moment that alone is over the cap is in none of them.
    """
    step = resolution(stream)
    moments = moments_of(stream, records)
    if stream.order == "ascending" and moments and endpoint_of(stream).says("start"):
        last = max(moments)
        first = max(last, start + step) if last - step <= start else last - step
        # A vendor that is before the window all the time does not begin where it is told.
        return (((first, end),), first > last) if start <= last and first < end else ((), False)
    if stream.order == "descending" and moments and endpoint_of(stream).says("end"):
        first = min(moments)
        last = min(first, end - step)
        return (((start, last),), last < first) if last > start else ((), False)
    if not (endpoint_of(stream).says("start") and endpoint_of(stream).says("end")) or end - start < 2 * step:
        return (), False
    middle = start + (end - start) / 2
    return ((start, middle), (middle, end)), False


def _is_before(stream: Stream, records: Sequence[object], start: datetime) -> bool:
    """Whether a list that begins with the latest has left the window."""
    moments = moments_of(stream, records) if stream.order == "descending" else []
    return bool(moments) and min(moments) < start


def moments_of(stream: Stream, records: Sequence[object]) -> list[datetime]:
    """The cursors of those records that have one that can be read."""
    return [each for each in _cursors(stream, records) if each is not None]


def _cursors(stream: Stream, records: Sequence[object]) -> list[datetime | None]:
    """The cursor of each record, None for one that has none that can be read."""
    incremental = stream.endpoint.incremental if stream.endpoint is not None else None
    if incremental is None:
        return [None] * len(records)
    steps = _STEPS.findall(incremental.cursor_path)
    return [moment(at(record, steps)) for record in records]


def at(value: object, steps: Sequence[str]) -> object:
    """What stands in nested objects under these names; None where there is no such place."""
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def written(moment: datetime, time_format: str) -> str:
    """A moment as a vendor wants the ends of a window; finer parts than it writes are left out."""
    moment = moment.astimezone(UTC)
    match time_format:
        case "epoch_s":
            return str(int(moment.timestamp()))
        case "epoch_ms":
            return str(int(moment.timestamp() * 1000))
        case "date":
            return moment.strftime("%Y-%m-%d")
        case "space":
            return moment.strftime("%Y-%m-%d %H:%M:%S")
        case "minute":
            return moment.strftime("%Y-%m-%d %H:%M")
        case _:
            return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def resolution(stream: Stream) -> timedelta:
    """The least difference between two ends of a window that the vendor can tell."""
    return _RESOLUTIONS.get(stream.time_format, timedelta(seconds=1))


def window_values(stream: Stream, start: datetime, end: datetime) -> dict[str, str]:
    """The ends of a window under the names that templates have for them, both rounded outwards."""
    last = end + resolution(stream) - timedelta(microseconds=1)
    return {
        "start_value": written(start, stream.time_format),
        "end_value": written(last, stream.time_format),
    }
