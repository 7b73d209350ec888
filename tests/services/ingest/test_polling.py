"""Polling: everything a vendor serves is read, whatever its way of paging and whatever goes wrong on the way."""

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from unittest.mock import MagicMock

import msgspec
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from runtime.outbound import Reach

from services.ingest.connectors.expressions import Expression
from services.ingest.connectors.manifest import (
    ApiKey,
    Cursor,
    Endpoint,
    HeaderCursor,
    HeaderLink,
    Incremental,
    JsonLink,
    Manifest,
    Offset,
    PageNumber,
    SinglePage,
    Stream,
)
from services.ingest.connectors.registry import catalogue, manifest_of
from services.ingest.connectors.templates import Values
from services.ingest.errors import VendorError
from services.ingest.vendors import polling
from services.ingest.vendors import session as sessions
from services.ingest.vendors.polling import Access, Page, Window, high_water, pages, probe
from services.ingest.vendors.rate_limiter import RateLimiter
from services.ingest.vendors.session import GuardedSession, retry_after
from services.ingest.vendors.windows import READINGS_MAX, Place, window_values
from tests.services.ingest.vendor import SECRET, Kept, Vendor, vendor

INSIDE = Reach.read(["127.0.0.0/8"])
DAY = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = Window(DAY, DAY + timedelta(days=1))
STREAMS = [
    (each.type, stream.name) for each in catalogue() for stream in each.streams if stream.endpoint is not None
]


@pytest.fixture(scope="module")
def playing() -> Iterator[Vendor]:
    with vendor() as running:
        yield running


def session(reach: Reach = INSIDE) -> GuardedSession:
    return GuardedSession(
        reach, rate_limiter=RateLimiter(time.monotonic), per_minute=100_000, secrets=[f"{SECRET}-token"]
    )


def read(access: Access, stream: Stream, window: Window = WINDOW, **more: Any) -> list[Page]:
    with session() as asking:
        return list(
            pages(access, stream, window, session=asking, pause=lambda _: None, chance=lambda: 0.5, **more)
        )


def kept(n: int, *, part: str = "") -> list[Kept]:
    return [
        Kept(f"{part}{index}", DAY + timedelta(minutes=10 * (index + 1)), part=part) for index in range(n)
    ]


def ids(found: list[Page]) -> list[str]:
    return [record["the_id"] for page in found for record in page.records]  # type: ignore[index, call-overload]


@pytest.mark.parametrize(("type_", "name"), STREAMS, ids=[f"{type_}.{name}" for type_, name in STREAMS])
def test_every_stream_of_every_manifest_is_read_exactly_once(playing: Vendor, type_: str, name: str) -> None:
    """Its own way of paging, signing in, saying when and finding records, in pages of three."""
    manifest = manifest_of(type_)
    (stream,) = [each for each in manifest.streams if each.name == name]
    records = [*kept(7, part="one"), *kept(4, part="two")] if stream.partition else kept(7)
    access, stream = playing.play(manifest, stream, size=3, records=records)
    found = read(access, stream)
    assert sorted(ids(found)) == sorted(row.id for row in records)
    assert playing.refused == []
    assert found[-1].position is None
    if stream.endpoint is not None and stream.endpoint.incremental is not None:
        everything = [record for page in found for record in page.records]
        assert high_water(stream, everything) == max(row.at for row in records)


STYLES = {
    "single_page": SinglePage(),
    "json_link": JsonLink(next_url_path="paging.next"),
    "header_link": HeaderLink(),
    "header_cursor": HeaderCursor(cursor_key="x-next", cursor_param="continue"),
    "cursor": Cursor(cursor_path="next", cursor_param="cursor"),
    "cursor_more": Cursor(cursor_path="page.end", cursor_param="after", has_more_path="page.more"),
    "cursor_body": Cursor(cursor_path="next", cursor_body_path="page.cursor"),
    "cursor_endless": Cursor(cursor_path="next", cursor_param="cursor", stop_after_empty_page=True),
    "offset": Offset(limit=3, total_path=None),
    "offset_total": Offset(limit=3, total_path="meta.total"),
    "offset_more": Offset(limit=3, total_path=None, has_more_path="more"),
    "offset_body": Offset(
        limit=3,
        total_path="total",
        offset_param=None,
        limit_param=None,
        offset_body_path="from",
        limit_body_path="size",
    ),
    "offset_capped": Offset(limit=3, total_path=None, maximum_offset=6),
    "page_number": PageNumber(base_page=1, total_path=None),
    "page_number_total": PageNumber(base_page=1, total_path="pages"),
    "page_number_body": PageNumber(page_param=None, page_body_path="page", total_path=None),
    "page_number_capped": PageNumber(base_page=1, total_path=None, maximum_page=3),
}


def made(style: str, *, has_window: bool = True, order: Any = "ascending") -> tuple[Manifest, Stream]:
    """A type of our own with this way of paging."""
    paginator = STYLES[style]
    in_body = "body" in style
    incremental = Incremental(
        cursor_path="changed.at",
        start_param="since" if has_window and not in_body else None,
        end_param="until" if has_window and not in_body else None,
    )
    json_: dict[str, object] = (
        {"range": "{incremental.start_value}|{incremental.end_value}"} if has_window else {}
    )
    endpoint = Endpoint(
        path="/things/{config.project}",
        paginator=paginator,
        method="POST" if in_body else "GET",
        json=json_ if in_body else {},
        data_selector="things.found",
        incremental=incremental,
    )
    stream = Stream(name="things", endpoint=endpoint, order=order)
    manifest = replace(manifest_of("gitlab"), streams=(stream,))
    return manifest, stream


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_goes_wrong_all_that_is_served_is_stored(playing: Vendor, data: st.DataObject) -> None:
    """Way of paging × window × moments × size of pages × faults × records twice or edited × killed and resumed."""
    style = data.draw(st.sampled_from(sorted(STYLES)), "style")
    capped = "capped" in style
    manifest, stream = made(style, has_window=capped or data.draw(st.booleans(), "has a window"))
    seconds = st.just(600.0) if capped else st.sampled_from([600.0, 1.0, 0.4, 0.0])
    gaps = data.draw(st.lists(seconds, max_size=14), "seconds between records")
    records = [Kept(str(n), DAY + timedelta(seconds=600 + sum(gaps[:n]))) for n in range(len(gaps))]
    access, stream = playing.play(
        manifest, stream, size=data.draw(st.integers(1, 6), "size"), records=records
    )
    begins: list[Literal["told", "behind", "anywhere"]] = ["told", "behind", "anywhere"]
    playing.begins = data.draw(st.sampled_from(begins[:2] if capped else begins), "begins")
    kinds = st.sampled_from([429, 500, "dropped", "truncated", "html"])
    faults = data.draw(st.dictionaries(st.integers(0, 12), kinds, max_size=4), "faults")
    # One of these alone is tried once more; two in a row are the vendor's word.
    playing.faults = {n: kind for n, kind in faults.items() if n - 1 not in faults}
    playing.repeats = data.draw(st.booleans(), "repeats")
    if records:
        edited = st.tuples(st.integers(0, 12), st.sampled_from([row.id for row in records]))
        # Each can spoil a reading, and the two that come behind have to agree. All they move is of one moment, of which
        # a vendor with a cap would withhold some.
        n_edits = {"page_number_capped": playing.size, "offset_capped": 5}.get(style, READINGS_MAX)
        playing.edits = data.draw(st.lists(edited, max_size=min(n_edits, READINGS_MAX - 2)), "edited")
        playing.edits_leave = data.draw(st.booleans(), "edits leave")
    kills = data.draw(st.sets(st.integers(0, 6)), "killed behind pages")
    stored: dict[str, str] = {}
    position: dict[str, object] | None = None
    n_pages, done = 0, False
    with session() as asking:
        while not done:
            for page in pages(
                access,
                stream,
                WINDOW,
                position=position,
                session=asking,
                pause=lambda _: None,
                chance=lambda: 0.5,
            ):
                for record in page.records:
                    assert isinstance(record, dict)
                    stored[record["the_id"]] = record["the_text"]
                assert not page.is_cut
                position, n_pages = json.loads(json.dumps(page.position)), n_pages + 1
                done = position is None
                if n_pages in kills:
                    break
    left = {id_ for _, id_ in playing.edits} if playing.edits_leave else set()
    assert set(stored) | left == {row.id for row in records}
    assert set(stored) | left == set(playing.served) | left
    assert playing.refused == []


@pytest.mark.parametrize("style", ["json_link", "header_link"])
def test_no_key_of_the_query_is_kept_with_the_next_page(playing: Vendor, style: str) -> None:
    """The vendor repeats its request in the link to the next page, and so a position would hold the key."""
    manifest, stream = made(style)
    manifest = replace(manifest, auth=(ApiKey(params={"api key": "{secret.key}"}),))
    access, stream = playing.play(manifest, stream, size=3, records=kept(7))
    found = read(access, stream)
    assert (ids(found), playing.refused) == ([str(n) for n in range(7)], [])
    positions = [str(page.position) for page in found]
    assert "__after" in positions[0] and "since" in positions[0]
    assert not any(SECRET in position for position in positions)


@pytest.mark.parametrize("style", ["offset", "page_number"])
def test_a_record_that_changes_while_pages_are_counted_costs_no_other(playing: Vendor, style: str) -> None:
    """It moves to the end of a list that is sorted by change, and what is behind it moves up; twice in a row."""
    manifest, stream = made(style)
    access, stream = playing.play(manifest, stream, size=3, records=kept(12))
    playing.edits = [(1, "0"), (1, "1"), (2, "4")]
    found = read(access, stream)
    assert set(ids(found)) == {row.id for row in kept(12)}
    assert sorted(ids(found)) == sorted([*(row.id for row in kept(12)), "0", "1", "4"])
    assert found[-1].position is None


def test_a_second_reading_may_begin_with_the_page_that_the_first_one_ended_with(playing: Vendor) -> None:
    """What stood before it has left; that is no vendor that turns no page."""
    manifest, stream = made("offset_total")
    access, stream = playing.play(manifest, stream, size=1, records=[Kept("0", DAY), Kept("1", DAY)])
    playing.edits, playing.edits_leave = [(2, "0")], True
    found = read(access, stream)
    assert (ids(found), found[-1].position, playing.n_requests) == (["0", "1"], None, 3)


def test_records_that_differ_in_each_answer_are_read_twice_not_eight_times(playing: Vendor) -> None:
    """All of one moment, so their pages are counted until two readings agree: by their ids, not by an age."""
    manifest, stream = made("offset_total")
    access, stream = playing.play(manifest, stream, size=3, records=[replace(row, at=DAY) for row in kept(7)])
    named = replace(manifest.mappings[0], when=None, external_id=Expression("the_id"))
    playing.tells_age = True
    found = read(replace(access, manifest=replace(access.manifest, mappings=(named,))), stream)
    assert (sorted(ids(found)), playing.n_requests) == (sorted(2 * [row.id for row in kept(7)]), 2 * 3)


@pytest.mark.parametrize("order", ["ascending", "descending", None])
@pytest.mark.parametrize("style", ["offset_capped", "page_number_capped", "cursor", "single_page"])
def test_a_window_that_holds_more_than_the_vendor_gives_is_cut(
    playing: Vendor, style: str, order: Any
) -> None:
    """By the order if there is one, else in halves; nothing is missing."""
    manifest, stream = made(style, order=order)
    stream = replace(stream, records_max=6)
    access, stream = playing.play(manifest, stream, size=3, records=kept(20))
    found = read(access, stream)
    assert set(ids(found)) == {row.id for row in kept(20)}
    assert not any(page.is_cut for page in found)


def test_a_cap_that_nothing_can_avoid_is_told(playing: Vendor) -> None:
    manifest, stream = made("page_number_capped", has_window=False)
    access, stream = playing.play(manifest, stream, size=3, records=kept(20))
    found = read(access, stream)
    assert ids(found) == [str(index) for index in range(6)]
    assert [page.is_cut for page in found] == [False, True]


@pytest.mark.parametrize(("order", "n_requests"), [(None, 2), ("ascending", 5)])
def test_a_vendor_that_turns_no_page_is_left(playing: Vendor, order: Any, n_requests: int) -> None:
    """Its page has another name than the manifest gives it, so it is not read; that would go on for hours.

    In a list that ascends each page begins anew at the last record, so that is found behind its end.
    """
    manifest, stream = made("page_number", order=order)
    assert stream.endpoint is not None
    first_only = replace(stream, endpoint=replace(stream.endpoint, params={"page": "1"}))
    access, _ = playing.play(manifest, first_only, size=3, records=kept(7))
    unread = PageNumber(base_page=1, page_param="seite", total_path=None)
    stream = replace(first_only, endpoint=replace(stream.endpoint, params={"page": "1"}, paginator=unread))
    with pytest.raises(VendorError, match="the same page as the next one"):
        read(access, stream)
    assert playing.n_requests == n_requests


def test_a_list_that_begins_with_the_latest_is_left_where_the_window_begins(playing: Vendor) -> None:
    manifest, stream = made("page_number", has_window=False, order="descending")
    access, stream = playing.play(manifest, stream, size=3, records=kept(20))
    found = read(access, stream, Window(DAY + timedelta(minutes=165), WINDOW.end))
    assert ids(found) == ["19", "18", "17", "16", "15", "14"]


def test_a_window_longer_than_the_vendor_allows_is_read_in_parts(playing: Vendor) -> None:
    manifest = manifest_of("pagerduty")
    records = [Kept(str(day), DAY + timedelta(days=day, hours=1)) for day in range(0, 700, 50)]
    access, stream = playing.play(manifest, manifest.streams[0], size=3, records=records)
    found = read(access, stream, Window(DAY, DAY + timedelta(days=700)))
    assert ids(found) == [row.id for row in records]
    assert playing.n_requests >= 4


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (429, "rate_limited"),
        (500, "vendor_failed"),
        ("dropped", "unreachable"),
        ("truncated", "bad_answer"),
        ("html", "bad_answer"),
    ],
)
def test_patience_has_an_end(playing: Vendor, fault: int | str, code: str) -> None:
    manifest, stream = made("offset")
    access, stream = playing.play(manifest, stream, size=3, records=kept(4))
    playing.faults = dict.fromkeys(range(20), fault)
    with pytest.raises(VendorError) as caught:
        read(access, stream)
    assert caught.value.code == code
    assert playing.n_requests == polling.TRIES[caught.value.code]


def test_a_slow_page_is_asked_for_once_by_a_thread(playing: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others wait for it; and all requests of a page end with it."""
    manifest, stream = made("offset")
    access, stream = playing.play(manifest, stream, size=3, records=kept(4))
    playing.faults = dict.fromkeys(range(20), 500)
    monkeypatch.setattr(polling, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(VendorError):
        read(access, stream)
    assert playing.n_requests == 1
    playing.faults = {}
    monkeypatch.setattr(sessions, "PAGE_SECONDS", 0.0)
    with session() as asking:
        asking.give_way()
        with pytest.raises(VendorError, match="in time"):
            next(pages(access, stream, WINDOW, session=asking, pause=lambda _: None))


def test_pages_are_counted_over_all_turns(playing: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vendor that always names another page would never end a run that goes on at its page."""
    monkeypatch.setattr(polling, "PAGES_MAX", 2)
    manifest, stream = made("cursor")
    access, stream = playing.play(manifest, stream, size=3, records=kept(12))
    position: dict[str, object] | None = None
    with session() as asking, pytest.raises(VendorError, match="more than 2 pages"):
        for _ in range(4):
            turn = pages(access, stream, WINDOW, position=position, session=asking, pause=lambda _: None)
            position = next(turn).position
    assert playing.n_requests == 2


def test_a_vendor_that_says_nothing_is_left(playing: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "READ_SECONDS", 0.1)
    manifest, stream = made("offset")
    access, stream = playing.play(manifest, stream, size=3, records=kept(4))
    playing.faults = {1: "silent"}
    assert len(set(ids(read(access, stream)))) == 4


def test_a_long_wait_is_for_whoever_plans_runs(playing: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "RATE_WAIT_SECONDS_MAX", 0.5)
    manifest, stream = made("offset")
    access, stream = playing.play(manifest, stream, size=3, records=kept(4))
    playing.faults = {0: 429}
    with pytest.raises(VendorError) as caught:
        read(access, stream)
    assert (caught.value.code, caught.value.retry_after, playing.n_requests) == ("rate_limited", 1.0, 1)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, 30),
        ({"x-ratelimit-reset": str(int(DAY.timestamp()) + 12)}, 12),
        ({"x-ratelimit-requests-reset": str(int(DAY.timestamp() * 1000) + 9000)}, 9),
        ({"ratelimit-reset": "3"}, 3),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_vendors_say_in_several_ways_when_to_come_back(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after(headers, now=DAY) == seconds


def test_a_probe_tries_credentials_and_then_each_stream(playing: Vendor) -> None:
    manifest, stream = made("offset")
    access, stream = playing.play(manifest, stream, size=3, records=kept(4))
    access = replace(access, manifest=replace(access.manifest, test=None))
    with session() as asking:
        assert [(check.name, check.is_good) for check in probe(access, session=asking)] == [("things", True)]
        wrong = replace(access, manifest=manifest_of("gitlab"), config={"host": "127.0.0.1", "project": "1"})
        (only,) = probe(wrong, session=asking)
    assert (only.name, only.code) == ("credentials", "unreachable")


def test_a_probe_passes_over_a_list_that_an_account_does_not_have(playing: Vendor) -> None:
    """But not over one that the vendor refuses for how we ask."""
    manifest, stream = made("offset")
    access, stream = playing.play(manifest, stream, size=3, records=kept(4))
    away = replace(stream, name="away", optional=True, endpoint=replace(stream.endpoint, path="/nowhere"))
    access = replace(access, manifest=replace(access.manifest, test=None, streams=(stream, away)))
    for status, is_away in ((404, True), (422, False)):
        playing.refusal = status
        with session() as asking:
            checks = probe(access, session=asking)
        assert [(check.name, check.is_good) for check in checks] == [("things", True), ("away", is_away)]
        assert checks[1].detail.startswith("left out: ") == is_away


@pytest.mark.parametrize("error", ["channel_not_found", "not_in_channel"])
@pytest.mark.parametrize("gone", ["b", "a,c", "c", "a,b,c"])
def test_one_of_several_lists_that_is_gone_keeps_none_from_being_read(
    monkeypatch: pytest.MonkeyPatch, gone: str, error: str
) -> None:
    """Slack says it with 200. Each turn begins where the one before ended; only where all are gone nothing is read."""
    manifest = manifest_of("slack")
    access = Access(manifest, {"channel": "a, b, c"}, 0, {"access_token": "t"})

    def answer(_: object, *, params: dict[str, str], **__: object) -> Iterator[object]:
        response = requests.Response()
        response._content = json.dumps({"ok": False, "error": error}).encode()
        is_gone = params["channel"] in gone
        if is_gone:
            polling._complain([response], access)
        paged = MagicMock(paginator=MagicMock(has_next_page=False))
        paged.__iter__.side_effect = lambda: iter([{"text": params["channel"]}])
        return iter([paged])

    monkeypatch.setattr(polling, "_client", lambda *_: (MagicMock(paginate=answer), "https://slack.com"))
    monkeypatch.setattr(polling, "next_of", lambda *_, **__: None)
    found: list[Page] = []
    position: dict[str, object] | None = None
    with pytest.raises(VendorError, match=error) if gone == "a,b,c" else nullcontext():
        while not found or position is not None:
            first = pages(
                access,
                manifest.streams[0],
                WINDOW,
                position=position,
                session=session(),
                pause=lambda _: None,
            )
            found.append(next(first))
            position = json.loads(json.dumps(found[-1].position, default=str))
        assert {str(each["channel"]) for page in found for each in page.records} == {*"abc"} - {*gone}
    refused = [page.refused for page in found if page.refused]
    name = manifest.name
    said = [f"{each}: {name} answered: {error}" for each in gone.split(",")]
    assert refused == (said[:2] if gone == "a,b,c" else said)
    # Who is invited into a channel is given it.
    assert {page.is_gone for page in found if page.refused} == {error == "channel_not_found"}


@pytest.mark.parametrize("type_", ["jira", "jira_dc"])
def test_jira_is_told_a_moment_that_is_the_same_in_all_time_zones(type_: str) -> None:
    """A quoted date in JQL is one of the time zone of whoever asks, which is seldom UTC.

    Source: https://support.atlassian.com/jira-software-cloud/docs/jql-fields/#Updated.
    """
    manifest = manifest_of(type_)
    (stream,) = manifest.streams
    window = window_values(stream, DAY, DAY)
    assert stream.endpoint is not None
    asked = Values(manifest, {}, window=window).tree(stream.endpoint.json)
    assert f" AND updated >= {int(DAY.timestamp() * 1000)} ORDER BY" in str(asked)


def test_an_unknown_position_is_not_taken() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"windows": "x"}, Place)
