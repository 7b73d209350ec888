"""Where a run goes on in a list that changes while its pages are counted: what stays in it is given, and once."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from services.ingest.connectors.manifest import Endpoint, Incremental, Offset, PageNumber, Stream
from services.ingest.connectors.normalization import moment
from services.ingest.errors import VendorError
from services.ingest.vendors import windows
from services.ingest.vendors.windows import (
    READINGS_MAX,
    SEEN_MAX,
    Answer,
    Place,
    Step,
    behind,
    endpoint_of,
    mark_of,
    onward,
    unseen,
    window_values,
)

DAY = datetime(2026, 1, 1, tzinfo=UTC)
END = DAY + timedelta(days=3)
REQUESTS_MAX = 5_000

Ends = Literal["told", "short", "empty"]
Begins = Literal["told", "second", "behind", "anywhere"]
TimeFormat = Literal["rfc3339", "epoch_ms", "minute", "date"]


class Change(Struct, frozen=True):
    """At a request, by its number, before it is answered. to: seconds before the window's end; None: out of the list."""

    at: int
    id: int
    to: float | None


class Listing:
    """A vendor's list, sorted by the last change, ties by id; `changes` with ids that are not in it are new records."""

    def __init__(
        self,
        gaps: Sequence[float],
        changes: Sequence[Change] = (),
        *,
        size: int = 1,
        by_number: bool = False,
        ends: Ends = "empty",
        begins: Begins = "told",
        time_format: TimeFormat = "rfc3339",
    ) -> None:
        self.size, self.ends, self.begins, self.changes = size, ends, begins, changes
        paginator = (
            PageNumber(base_page=1, total_path=None) if by_number else Offset(limit=size, total_path=None)
        )
        self.stream = Stream(
            name="things",
            endpoint=Endpoint(
                path="/things",
                params={"per_page": size} if by_number else {},
                paginator=paginator,
                incremental=Incremental(cursor_path="at", start_param="since", end_param="until"),
            ),
            order="ascending",
            time_format=time_format,
        )
        self.moments = {n: DAY + timedelta(seconds=60 + sum(gaps[: n + 1])) for n in range(len(gaps))}
        self.n_requests = 0
        self.is_unsettled = False

    def ask(self, place: Place) -> Answer:
        for change in self.changes:
            if change.at == self.n_requests and change.to is None:
                self.moments.pop(change.id, None)
            elif change.at == self.n_requests and change.to is not None:
                self.moments[change.id] = END - timedelta(seconds=change.to)
        self.n_requests += 1
        assert self.n_requests < REQUESTS_MAX
        told = window_values(self.stream, *place.windows[0])
        start = moment(told["start_value"])
        assert start is not None
        if self.begins == "second":
            start = start.replace(microsecond=0)
        rows = sorted(
            (at, id_)
            for id_, at in self.moments.items()
            if self.begins == "anywhere" or at > start or (at == start and self.begins != "behind")
        )
        by_number = isinstance(endpoint_of(self.stream).paginator, PageNumber)
        assert place.next is None or isinstance(place.next, int)
        first = (place.next - 1) * self.size if by_number and place.next else place.next or 0
        page: list[object] = [
            {"id": id_, "at": at.isoformat()} for at, id_ in rows[first : first + self.size]
        ]
        missing = {
            "told": len(rows) - first - self.size,
            "short": 1 - (len(page) < self.size),
            "empty": len(page),
        }
        is_last = missing[self.ends] <= 0
        following = first // self.size + 2 if by_number else first + self.size
        return Answer(page, None if is_last else following)

    def read(self) -> list[tuple[int, str]]:
        """Everything that a run is given, each by id and moment; killed behind each page."""
        whole = ((DAY, END),)
        place: Place | None = Place(whole)
        given: list[tuple[int, str]] = []
        while place is not None:
            answer = self.ask(place)
            for record in unseen(place, answer):
                assert isinstance(record, dict)
                given.append((record["id"], record["at"]))
            step = behind(self.stream, place, answer, whole, 1)
            assert not step.is_cut
            self.is_unsettled |= step.is_unsettled
            after = step.place
            assert after is None or len(after.seen) <= SEEN_MAX
            place = after and msgspec.json.decode(msgspec.json.encode(after), type=Place)
        return given


CHANGES = st.builds(
    Change,
    at=st.integers(0, 40),
    id=st.integers(0, 14),
    to=st.none() | st.sampled_from([0.0, 0.0, 300.0, 200_000.0, 259_140.0]),
)


@settings(max_examples=200, deadline=None)
@given(
    gaps=st.lists(st.sampled_from([0.0, 0.0, 0.4, 1.0, 59.0, 4_000.0]), max_size=12),
    changes=st.lists(CHANGES, max_size=READINGS_MAX - 2),
    size=st.integers(1, 7),
    by_number=st.booleans(),
    ends=st.sampled_from(get_args(Ends)),
    begins=st.sampled_from(get_args(Begins)),
    time_format=st.sampled_from(get_args(TimeFormat)),
)
@example([600.0] * 3, [Change(2, 0, 300.0)], 1, False, "short", "told", "rfc3339")
@example([0.0] * 2, [Change(2, 0, 300.0)], 1, True, "told", "told", "epoch_ms")
@example([0.4, 0.0, 0.0, 0.0, 0.4, 0.4], [Change(2, 2, 0.0)], 3, False, "short", "behind", "rfc3339")
@example([4_000.0, 0.0, 0.4, 0.0, 0.0, 59.0], [Change(1, 1, 0.0)], 3, True, "short", "told", "date")
@example([4_000.0, 0.0] * 2, [Change(5, 2, None)], 2, False, "told", "anywhere", "rfc3339")
@example(
    [0.0] * 9, [Change(1, 0, 0.0), Change(4, 1, 0.0), Change(7, 2, None)], 3, True, "told", "told", "date"
)
def test_what_stays_where_it_is_is_given_once(
    gaps: list[float],
    changes: list[Change],
    size: int,
    by_number: bool,
    ends: Ends,
    begins: Begins,
    time_format: TimeFormat,
) -> None:
    """Moments × changes × size of pages × how pages are counted × where the vendor begins and how it is told.

    The examples are those that lost a record when such pages were counted once.
    """
    listing = Listing(
        gaps,
        changes,
        size=size,
        by_number=by_number,
        ends=ends,
        begins=begins,
        time_format=time_format,
    )
    stays = {(id_, at.isoformat()) for id_, at in listing.moments.items()}
    stays -= {(id_, at) for id_, at in stays for change in changes if change.id == id_}
    found = listing.read()
    assert stays <= set(found)
    assert not listing.is_unsettled
    if begins != "anywhere":  # that is known only behind the first page that was to begin later
        assert len(found) == len(set(found))


@pytest.mark.parametrize("by_number", [False, True])
def test_a_poll_that_finds_less_than_a_page_is_not_read_twice(by_number: bool) -> None:
    """By a vendor that says no total: the page, the same begun anew, and that nothing is behind it."""
    listing = Listing([600.0, 600.0, 1.0], size=100, by_number=by_number)
    assert [n for n, _ in listing.read()] == [0, 1, 2]
    assert listing.n_requests == 3


def test_days_with_more_than_a_page_are_counted_not_begun_anew_each_time() -> None:
    """A list that is told days begins up to two of them earlier: three pages, of which nothing is new."""
    listing = Listing([5_760.0] * 90, size=10, time_format="date")
    assert [n for n, _ in listing.read()] == list(range(90))
    assert listing.n_requests < 40


def test_a_vendor_that_rounds_what_it_is_told_to_a_second_is_read_once() -> None:
    """Each page begins anew before the moment that was told, though records change all the time."""
    changes = [Change(at, 90 + at, 100.0 - at) for at in range(30)]
    listing = Listing([0.4] * 90, changes, size=10, ends="told", begins="second", time_format="epoch_ms")
    assert {(n, (DAY + timedelta(seconds=60 + 0.4 * (n + 1))).isoformat()) for n in range(90)} <= set(
        listing.read()
    )
    assert listing.n_requests < 30


@pytest.mark.parametrize("by_number", [False, True])
def test_a_stretch_that_never_rests_ends(by_number: bool) -> None:
    """Its first record goes with each request and another is new in it, all of one moment; which is said."""
    changes = [
        change
        for at in range(1, 1_000)
        for change in (Change(at, at - 1, None), Change(at, at + 11, 259_140.0))
    ]
    listing = Listing([0.0] * 12, changes, size=3, by_number=by_number, ends="told")
    found = listing.read()
    assert len(found) == len(set(found)) > 12
    # The first page, which begins a second later, and as often as a stretch is read its four pages.
    assert listing.n_requests == 1 + 4 * READINGS_MAX
    assert listing.is_unsettled


def test_each_record_of_an_answer_is_marked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is looked at; and none of a list whose pages are not counted."""
    marked: list[object] = []
    monkeypatch.setattr(windows, "mark_of", lambda record: marked.append(record) or mark_of(record))
    # Two readings of counted pages, and one that begins anew at each page.
    for gaps, n_readings in (([0.0] * 12, 2), ([600.0] * 12, 1)):
        marked.clear()
        listing = Listing(gaps, size=3, ends="told")
        listing.read()
        assert len(marked) <= 3 * listing.n_requests
        assert n_readings * 12 <= len(marked)
    listing.stream = msgspec.structs.replace(listing.stream, order=None)
    marked.clear()
    assert len(listing.read()) == 12
    assert marked == []


def test_no_more_is_remembered_than_is_bounded() -> None:
    """Beyond that what is read again is given again."""
    n = SEEN_MAX + 100
    listing = Listing([0.0] * n, size=n // 5, ends="told")
    found = listing.read()
    assert len(set(found)) == n
    assert listing.n_requests == 1 + 2 * 5


def test_of_a_moment_that_is_over_the_cap_the_rest_is_told_to_be_withheld() -> None:
    """Behind it the vendor is asked on; at one that is before the window all the time it ends."""
    endpoint = endpoint_of(Listing([]).stream)
    assert isinstance(endpoint.paginator, Offset)
    capped = msgspec.structs.replace(endpoint.paginator, maximum_offset=2)
    stream = Stream(
        name="things", order="ascending", endpoint=msgspec.structs.replace(endpoint, paginator=capped)
    )
    page: list[object] = [{"id": n, "at": DAY.isoformat()} for n in range(2)]
    whole = ((DAY, END),)
    step = behind(stream, Place(whole), Answer(page, 2), whole, 1)
    assert step.place is not None
    assert (step.place.windows, step.is_cut) == (((DAY + timedelta(seconds=1), END),), True)
    assert behind(stream, step.place, Answer(page, 2), whole, 1) == Step(None, is_cut=True)


def test_a_record_that_cannot_be_written_down_is_never_known() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    records: list[object] = [{"id": 1, "deep": deep}, {"id": 2}]
    assert mark_of(records[0]) is None
    place = Place(((DAY, END),), seen=tuple(filter(None, map(mark_of, records))))
    assert unseen(place, Answer(records, None)) == records[:1]
    while deep:  # a deep list is not to be taken apart by recursion
        deep = deep.pop()  # type: ignore[assignment]


def test_pages_that_go_in_a_circle_end() -> None:
    """Also over turns, for what was asked for is kept with the place; a list that is read again names them again."""
    place = Place(((DAY, END),))
    for named in ("b", "c", "d"):
        place = onward(place, msgspec.structs.replace(place, next=named))
    for named in ("b", "d"):
        with pytest.raises(VendorError, match="names a page again"):
            onward(place, msgspec.structs.replace(place, next=named))
    again = onward(place, Place(((DAY, END),), n_readings=1))
    assert onward(again, msgspec.structs.replace(again, next="b")).n_pages == 5
