"""Where a run goes on behind an answer: to the next page, to what is missing of its window, to the next list. Pure."""

import json
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct

from services.ingest.connectors.manifest import Endpoint, Offset, PageNumber, SinglePage, Stream
from services.ingest.connectors.words import moment
from services.ingest.vendors.faults import VendorError
from services.ingest.vendors.templates import resolution

_STEPS: Final = re.compile(r"""(?<=')[^']+(?=')|(?<=")[^"]+(?=")|[^.\[\]'"]+""")


class Place(Struct, frozen=True):
    """Where a run is.

    windows: what is still to read, the first is being read. next: the vendor's word for the page, None the first.
    n_records: read of this window. partition: which of several lists is being read. seen: marks of the records that were
    read before and come again. is_counted: pages are counted to the end, for the vendor does not begin where it is told.
    """

    windows: tuple[tuple[datetime, datetime], ...]
    next: str | int | None = None
    n_records: int = 0
    partition: int = 0
    seen: tuple[str, ...] = ()
    is_counted: bool = False


class Answer(Struct, frozen=True):
    """What a page had, and the vendor's word for the next one; None: there is none."""

    records: list[object]
    next: str | int | None


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
) -> tuple[Place | None, bool]:
    """The place behind an answer, None at the end; and whether the vendor withholds records."""
    (start, end), *others = place.windows
    n_records = place.n_records + len(answer.records)
    cut: tuple[tuple[datetime, datetime], ...] | None = None
    if answer.next is not None and not _is_before(stream, answer.records, start):
        if not _is_at_cap(stream, answer, n_records):
            if answer.next == place.next:
                raise VendorError("bad_answer", "the vendor names the same page as the next one")
            return _further(stream, place, answer, n_records), False
        cut = _cut(stream, start, end, answer.records)
    elif answer.next is None and _is_full(stream, answer):
        cut = _cut(stream, start, end, answer.records)
    windows = (*(cut or ()), *others)
    is_cut = cut == ()
    if windows:
        return Place(windows, partition=place.partition), is_cut
    if place.partition + 1 < n_partitions:
        return Place(whole, partition=place.partition + 1), is_cut
    return None, is_cut


def _further(stream: Stream, place: Place, answer: Answer, n_records: int) -> Place:
    """The next page of a window, or a window that begins with the last record of this page.

    Where pages are counted, a record that is changed meanwhile moves to the end of a list that is sorted by change, all
    behind it move up, and the next page begins behind one that nobody has read.
    """
    (start, end), *others = place.windows
    moments = moments_of(stream, answer.records)
    is_counted = place.is_counted or (bool(moments) and min(moments) < start - resolution(stream))
    counted = msgspec.structs.replace(place, next=answer.next, n_records=n_records, is_counted=is_counted)
    is_sorted = len(moments) == len(answer.records) > 0 and moments == sorted(moments)
    if (
        is_counted
        or not is_sorted
        or stream.order != "ascending"
        or not isinstance(endpoint_of(stream).paginator, Offset | PageNumber)
        or not endpoint_of(stream).says("start")
    ):
        return counted
    # A step earlier, for some vendors begin behind the moment that they are told.
    last = moments[-1] - resolution(stream)
    if last <= start:
        return counted
    again = (record for record, moment in zip(answer.records, moments, strict=True) if moment >= last)
    return Place(((last, end), *others), partition=place.partition, seen=tuple(map(mark_of, again)))


def mark_of(record: object) -> str:
    """What a record is known by when it comes again as it was; empty for one that cannot be written down."""
    try:
        text = json.dumps(record, sort_keys=True)
    except (ValueError, RecursionError):
        return ""
    return sha256(text.encode()).hexdigest()[:16]


def unseen(place: Place, records: list[object]) -> list[object]:
    """Those that did not come before."""
    if not place.seen:
        return records
    return [record for record in records if mark_of(record) not in place.seen]


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


def _cut(
    stream: Stream, start: datetime, end: datetime, records: Sequence[object]
) -> tuple[tuple[datetime, datetime], ...]:
    """The windows that hold what is missing of one whose cap is reached; none where the vendor offers no way."""
    step = resolution(stream)
    moments = moments_of(stream, records)
    if stream.order == "ascending" and moments and endpoint_of(stream).says("start"):
        last = max(moments)
        last = last if last >= start + step else start + step
        return ((last, end),) if last < end else ()
    if stream.order == "descending" and moments and endpoint_of(stream).says("end"):
        first = min(moments)
        first = first if first <= end - step else end - step
        return ((start, first),) if first > start else ()
    if not (endpoint_of(stream).says("start") and endpoint_of(stream).says("end")) or end - start < 2 * step:
        return ()
    middle = start + (end - start) / 2
    return ((start, middle), (middle, end))


def _is_before(stream: Stream, records: Sequence[object], start: datetime) -> bool:
    """Whether a list that begins with the latest has left the window."""
    moments = moments_of(stream, records) if stream.order == "descending" else []
    return bool(moments) and min(moments) < start


def moments_of(stream: Stream, records: Sequence[object]) -> list[datetime]:
    """The cursors of those records that have one that can be read."""
    incremental = stream.endpoint.incremental if stream.endpoint is not None else None
    if incremental is None:
        return []
    steps = _STEPS.findall(incremental.cursor_path)
    found = (moment(at(record, steps)) for record in records)
    return [each for each in found if each is not None]


def at(value: object, steps: Sequence[str]) -> object:
    """What stands in nested objects under these names; None where there is no such place."""
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    return value
