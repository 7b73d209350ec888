"""What a run concludes from what a vendor shows, over pages that a test makes up."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, cast
from unittest.mock import AsyncMock, MagicMock

import msgspec
import psycopg
import pytest
from contracts import connector
from msgspec.structs import replace
from testkit.builders import recorded

from services.ingest.connectors.manifest import Stream
from services.ingest.errors import AccountBusyError, VendorError, VendorErrorCode
from services.ingest.jobs import syncing
from services.ingest.jobs.intake import BATCH_MAX, Taken
from services.ingest.jobs.progress import Progress
from services.ingest.jobs.queue import Later, StepAside
from services.ingest.jobs.syncing import CHUNK, FAILING_MAX, FIRST_WINDOW, TURN, Syncing, Tools
from services.ingest.records import Kept
from services.ingest.state import NOTHING_YET, Connector, SyncRun, fold_connector
from services.ingest.vendors.polling import Page, Window
from tests.services.ingest.builders import NOW, WORKSPACE
from tests.services.ingest.failing_shop import MANIFEST

SETTINGS = connector.ConnectorSettings(
    type="custom_shop",
    display_name="Shop",
    auth=0,
    config={"base_url": "https://shop.example"},
    manifest=MANIFEST,
)
ENDED = connector.SyncEnded(
    run_id="syn_1",
    connector_id="con_1",
    outcome=connector.SyncOutcome.CANCELLED,
    counts=NOTHING_YET,
    reason="",
    detail="",
)


Ask = Callable[[Window], Iterable[Page]]


class Played:
    """A run of what is new over pages that a test makes up.

    windows: those that were asked for. position: where the next of them is gone on with, None its beginning.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ask: Ask) -> None:
        self.settings = SETTINGS
        self.kind = connector.SyncKind.MANUAL
        self.is_last_try = False
        self.stream = ""
        self.windows: list[Window] = []
        self.position: object = None
        self.said: list[connector.Event | None] = []
        self.page_seconds = 0.0
        self.intake_seconds = 0.0
        self.n_asked = self.n_taken = 0
        self.ended_in: timedelta | None = None
        self.requested_at = self._now = NOW
        self.records = AsyncMock()
        self.records.resumes.return_value = self.records.high_waters.return_value = {}
        self._ask = ask
        monkeypatch.setattr(syncing._Run, "_judge", AsyncMock())

    async def play(self) -> connector.SyncEnded:
        """Do it; how it ended."""
        asked = connector.SyncRequested(run_id="syn_1", connector_id="con_1", kind=self.kind)
        run = SyncRun(request=asked, requested_at=self.requested_at)

        async def decide_run(_: str, __: object, decide: Callable[[SyncRun], connector.Event | None]) -> int:
            self.said.append(decide(run))
            return 1

        sources, intake = AsyncMock(), AsyncMock()

        async def find(*_: object) -> Connector | None:
            made = connector.ConnectorCreated(
                connector_id="con_1", settings=self.settings, status=connector.ConnectorStatus.CONNECTED
            )
            return fold_connector([recorded(made, "con_1", workspace_id=WORKSPACE)])

        async def find_run(*_: object) -> SyncRun:
            is_ended = self.ended_in is not None and self._now >= NOW + self.ended_in
            return replace(run, ended=ENDED) if is_ended else run

        sources.find, sources.find_run = find, find_run
        sources.decide_run = decide_run
        asking = MagicMock(access=AsyncMock(return_value=MagicMock(secrets={})), pages=self._pages)
        intake.take_in = self._take_in
        tools = {"sources": sources, "records": self.records, "asking": asking, "intake": intake}
        rest = {"vault": None, "rows": None, "locks": None, "clock": lambda: self._now}
        tried = syncing._Run(Tools(**tools, **rest), run, WORKSPACE)  # type: ignore[arg-type]  # as far as it is used
        await tried.do(is_last_try=self.is_last_try)
        return cast(connector.SyncEnded, self.said[-1])

    @property
    def read_to(self) -> list[datetime | None]:
        """Up to when all was read, at each checkpoint."""
        return [call.args[2].high_water for call in self.records.checkpoint.await_args_list]

    async def _pages(
        self,
        _: object,
        stream: Stream,
        window: Window,
        *,
        position: object,
        goes_on: Callable[[], bool],
    ) -> AsyncIterator[Page]:
        assert position == self.position
        self.position = None
        self.stream = stream.name
        self.windows.append(window)
        is_asked = False
        for page in self._ask(window):
            self.n_asked += not is_asked
            self._now += timedelta(seconds=self.page_seconds)
            is_asked = goes_on()
            self.n_asked += is_asked
            yield page

    async def _take_in(
        self, *given: object, came_at: Sequence[datetime] = (), kept_as: Sequence[str] = ()
    ) -> Taken:
        self.n_taken += len(cast(list[object], given[2]))
        self._now += timedelta(seconds=self.intake_seconds)
        return Taken(NOTHING_YET)


async def test_what_a_vendor_withholds_is_said_and_not_taken_for_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And no time is taken for read that was not shown."""
    shown = NOW - FIRST_WINDOW + timedelta(days=1)
    played = Played(monkeypatch, lambda _: (Page([{"updated_at": shown.isoformat()}], None, is_cut=True),))
    end = await played.play()
    assert played.read_to == [shown]
    assert end.outcome is connector.SyncOutcome.SUCCEEDED
    assert "failures" in end.detail


async def test_what_may_have_been_missed_is_said_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where what followed was read in peace."""
    pages = (Page([{}], {"next": 2}, is_unsettled=True), Page([], None))
    end = await Played(monkeypatch, lambda _: pages).play()
    assert end.outcome is connector.SyncOutcome.SUCCEEDED
    assert "may have been missed" in end.detail
    assert "failures" in end.detail


async def test_a_list_that_is_refused_is_said_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, whatever follows it."""
    refused = Page([], {"next": 1}, refused="C2: answered 404")
    end = await Played(monkeypatch, lambda _: (refused, refused, Page([{}], None))).play()
    assert end.outcome is connector.SyncOutcome.SUCCEEDED
    assert end.detail == "Not read of failures, for the vendor refuses it: C2. C2: answered 404."


async def test_what_other_lists_gave_is_not_how_far_a_refused_one_was_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is read again when it is back, if that is within the last days."""
    pages = (Page([], {"next": 1}, refused="C2: answered 403"), Page([{"updated_at": NOW.isoformat()}], None))
    played = Played(monkeypatch, lambda _: pages)
    await played.play()
    assert played.read_to == [None, NOW - CHUNK]
    played.records.high_waters.return_value = {"failures": NOW - timedelta(hours=2)}
    await played.play()
    assert played.read_to[2:] == [None, None]


async def test_a_list_that_is_gone_holds_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it can be read later, so no other list is read again for it; unless another is refused as well."""
    gone = Page([], {"next": 1}, refused="C2: answered 404", is_gone=True)
    last = Page([{"updated_at": NOW.isoformat()}], None)
    played = Played(monkeypatch, lambda _: (gone, last))
    assert "C2: answered 404" in (await played.play()).detail
    assert played.read_to == [None, NOW]
    both = Played(monkeypatch, lambda _: (Page([], {"next": 2}, refused="C1: answered 403"), gone, last))
    await both.play()
    assert both.read_to == [None, None, NOW - CHUNK]


async def test_a_week_is_not_done_for_good_of_which_a_list_was_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a fault in passing has it read in weeks, the first of them ends only now."""

    def ask(window: Window) -> Iterator[Page]:
        if window.start is not None and window.end - window.start > CHUNK:
            raise VendorError("vendor_failed", "answered 503")
        yield Page([], {"next": 1}, refused="C2: answered 403")
        yield Page([{"updated_at": window.end.isoformat()}], None)

    played = Played(monkeypatch, ask)
    played.records.high_waters.return_value = {"failures": NOW - CHUNK}
    assert (await played.play()).outcome is connector.SyncOutcome.SUCCEEDED
    assert len(played.windows) == 3
    assert [moment for moment in played.read_to if moment is not None] == [NOW - CHUNK]


async def test_a_first_run_asks_once_and_in_stretches_only_where_that_is_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a vendor that shows nothing all but the last days is done for good, so that the next run asks for less."""
    played = Played(monkeypatch, lambda _: (Page([], None),))
    await played.play()
    assert played.windows == [Window(NOW - FIRST_WINDOW, NOW)]
    assert played.read_to == [NOW - CHUNK]

    def ask(window: Window) -> tuple[Page, ...]:
        if window.start is None or window.end - window.start > CHUNK:
            raise VendorError("not_configured", "a month at most")
        return (Page([], None),)

    limited = Played(monkeypatch, ask)
    assert (await limited.play()).outcome is connector.SyncOutcome.SUCCEEDED
    assert len(limited.windows) == 14
    marks = [call.args[2] for call in limited.records.checkpoint.await_args_list]
    assert {mark.asked for mark in marks} == {played.records.checkpoint.await_args.args[2].asked} != {""}
    first = marks[0].resume
    assert (first["is_whole"], first["chunk"]) == (False, 0)
    assert limited.windows[1] == Window(NOW - FIRST_WINDOW, NOW - FIRST_WINDOW + CHUNK)
    assert limited.windows[-1].end == NOW


async def test_a_list_that_an_account_does_not_have_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless somebody wants it by name; a vendor that is down, or that refuses how we ask, is no such thing. It is asked for
    once, also where a turn of the account is one request."""

    def alerts(
        *, optional: bool, code: str = "credentials_rejected", status: int = 403, chosen: bool = False
    ) -> Played:
        def ask(window: Window) -> tuple[Page, ...]:
            if played.stream == "alerts":
                raise VendorError(code, "answered 403: Alerts are disabled", status=status)  # type: ignore[arg-type]
            if busy:
                raise AccountBusyError(busy.pop())
            return (Page([], None),)

        played = Played(monkeypatch, ask)
        (failures,) = cast(list[dict[str, object]], MANIFEST["streams"])
        streams = [{**failures, "name": "alerts", "optional": optional}, failures]
        played.settings = msgspec.structs.replace(
            SETTINGS, manifest={**MANIFEST, "streams": streams}, streams=("alerts",) if chosen else ()
        )
        return played

    busy = [7.0]
    once = alerts(optional=True)
    with pytest.raises(StepAside):
        await once.play()
    mark = once.records.checkpoint.await_args.args[2]
    once.records.resumes.return_value = {mark.stream: mark.resume}
    end = await once.play()
    assert len(once.windows) == 3
    assert end.outcome is connector.SyncOutcome.SUCCEEDED
    assert "Left out" in end.detail
    assert "alerts. answered 403: Alerts are disabled" in end.detail
    for missed in (
        alerts(optional=False),
        alerts(optional=True, code="vendor_failed", status=503),
        alerts(optional=True, status=401),
        alerts(optional=True, code="not_configured", status=422),
        alerts(optional=True, chosen=True),
    ):
        assert (await missed.play()).outcome is connector.SyncOutcome.FAILED


@pytest.mark.parametrize(
    ("more", "before"), [({}, timedelta(minutes=10)), ({"reread_days": 14}, timedelta(days=14))]
)
async def test_a_poll_begins_where_what_is_known_may_have_changed(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, object], before: timedelta
) -> None:
    """Without forgetting what is known, and a page is asked for once however long that is."""
    played = Played(monkeypatch, lambda _: (Page([], None),))
    (failures,) = cast(list[dict[str, object]], MANIFEST["streams"])
    played.settings = msgspec.structs.replace(
        SETTINGS, manifest={**MANIFEST, "streams": [{**failures, **more}]}
    )
    known = NOW - timedelta(hours=1)
    played.records.high_waters.return_value = {"failures": known}
    await played.play()
    assert played.windows == [Window(known - before, NOW)]


async def test_what_is_asked_elsewhere_is_read_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another board, repository, query or host, or other lists in a manifest; not another name, pace or mapping."""
    (failures,) = cast(list[dict[str, Any]], MANIFEST["streams"])
    other = {**failures, "endpoint": {**failures["endpoint"], "params": {"board": "b"}}}
    same = {**MANIFEST, "rate_per_minute": 5, "streams": [{**failures, "reread_days": 2}]}
    asked: set[str] = set()
    for n_asked, changes in enumerate(
        (
            {"display_name": "Another"},
            {"manifest": same},
            {"manifest": {**MANIFEST, "streams": [other]}},
            {"config": {"base_url": "https://b.example"}},
        )
    ):
        played = Played(monkeypatch, lambda _: (Page([], {"next": 1}), Page([], None)))
        await played.play()
        first = played.records.checkpoint.await_args_list[0].args[2]
        asked |= {first.asked}
        played.records.resumes.return_value = {first.stream: {**first.resume, "chunk": 9, "page": None}}
        played.settings = msgspec.structs.replace(SETTINGS, **changes)
        played.windows.clear()
        await played.play()
        asked.update(played.records.high_waters.await_args.args[2].values())
        # A run goes on at its place unless that is somebody else's.
        assert bool(played.windows) is (n_asked > 1), changes
        assert len(asked) == max(n_asked, 1)


async def test_a_run_that_was_open_before_it_was_kept_what_is_asked_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And its marks say from then on what is asked."""
    played = Played(monkeypatch, lambda _: (Page([], None),))
    place = msgspec.to_builtins(Progress(start=NOW - 2 * CHUNK, end=NOW, chunk=1))
    played.records.resumes.return_value = {"failures": place}
    await played.play()
    assert played.windows == [Window(NOW - CHUNK, NOW)]
    assert played.records.checkpoint.await_args.args[2].asked


async def test_people_are_told_each_minute_how_much_was_read_of_a_long_stretch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(syncing, "TURN", timedelta(hours=1))
    played = Played(
        monkeypatch, lambda _: (*(Page([{}], {"next": number}) for number in range(9)), Page([], None))
    )
    played.page_seconds = 25.0
    await played.play()
    told = [event for event in played.said if isinstance(event, connector.SyncProgressed)]
    assert len(told) == 1 + 225 // 75


async def test_a_run_that_takes_long_lets_others_have_a_turn_behind_a_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It goes on at the next."""
    played = Played(monkeypatch, lambda _: (Page([], {"next": 1}), Page([], {"next": 2}), Page([], None)))
    played.page_seconds = TURN.total_seconds() * 0.6
    with pytest.raises(StepAside):
        await played.play()
    assert [call.args[2].resume["page"] for call in played.records.checkpoint.await_args_list] == [
        {"next": 1},
        {"next": 2},
    ]


async def test_a_run_is_ended_within_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cancels it waits for no ten thousand records."""
    played = Played(monkeypatch, lambda _: (Page([{}] * 10_000, {"next": 1}), Page([], None)))
    played.intake_seconds, played.ended_in = 1.5, timedelta(seconds=2)
    await played.play()
    assert played.n_taken == 2 * BATCH_MAX
    played.records.checkpoint.assert_not_awaited()


async def test_a_page_that_was_asked_for_ahead_is_taken_in_before_a_run_steps_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would be asked for again, each turn, of a vendor that counts; the turn ends while a page is taken in."""
    played = Played(monkeypatch, lambda _: (Page([], {"next": 1}), Page([], {"next": 2}), Page([], None)))
    played.page_seconds = played.intake_seconds = TURN.total_seconds() * 0.6
    with pytest.raises(StepAside):
        await played.play()
    assert played.records.checkpoint.await_args.args[2].resume["page"] == {"next": 2}
    assert played.n_asked == 2


async def test_a_run_whose_account_is_asked_enough_gives_its_hand_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is read is kept; and however long our own pace makes it take, it is not given up for that."""

    def ask(_: Window) -> Iterator[Page]:
        yield Page([], {"next": 1})
        raise AccountBusyError(7.0)

    played = Played(monkeypatch, ask)
    played.requested_at = NOW - timedelta(days=2)
    with pytest.raises(StepAside) as caught:
        await played.play()
    assert caught.value.seconds == 7.0
    assert played.records.checkpoint.await_args.args[2].resume["page"] == {"next": 1}


async def test_a_run_stops_at_the_page_at_which_its_lock_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another may be at it by then; whoever takes the job up asks for the lock first."""
    played = Played(monkeypatch, lambda _: (Page([], {"next": 1}), Page([], None)))
    played.records.checkpoint.side_effect = psycopg.OperationalError("the connection is closed")
    with pytest.raises(Later):
        await played.play()
    assert played.records.checkpoint.await_count == 1


@pytest.mark.parametrize(
    ("kind", "n_pages", "code", "goes_on"),
    [
        (connector.SyncKind.BACKFILL, 0, "bad_answer", True),
        (connector.SyncKind.BACKFILL, 1, "unreachable", True),
        (connector.SyncKind.BACKFILL, 1, "credentials_rejected", False),
        (connector.SyncKind.MANUAL, 1, "vendor_failed", True),
        (connector.SyncKind.MANUAL, 1, "bad_answer", False),
        (connector.SyncKind.MANUAL, 0, "vendor_failed", False),
    ],
)
async def test_a_vendor_that_is_away_ends_no_run_that_would_begin_anew(
    monkeypatch: pytest.MonkeyPatch,
    kind: connector.SyncKind,
    n_pages: int,
    code: VendorErrorCode,
    goes_on: bool,
) -> None:
    """It goes on at its page later, until its tries are used up."""

    def ask(_: Window) -> Iterator[Page]:
        for number in range(n_pages):
            yield Page([], {"next": number})
        raise VendorError(code, "503")

    played = Played(monkeypatch, ask)
    played.kind = kind
    played.records.high_waters.return_value = {"failures": NOW - timedelta(hours=1)}
    if goes_on:
        with pytest.raises(VendorError):
            await played.play()
        played.records.end_run.assert_not_awaited()
        played.is_last_try = True
    assert (await played.play()).reason == code

    class Away:
        has_got_on = False

        async def do(self, *, is_last_try: bool) -> None:
            raise VendorError(code, "503", retry_after=7.0)

    nothing = cast(Tools, None)
    later = Syncing(nothing)
    for seconds in (7.0, 30.0, 120.0):
        with pytest.raises(Later) as caught:
            await later._try(cast(syncing._Run, Away()), "syn_1")
        assert caught.value.seconds == seconds


async def test_a_first_poll_whose_vendor_fails_amid_its_list_goes_on_at_its_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is asked for in weeks where even its first page fails, and on the last try, for it may fail for its length."""
    n_pages = 3

    def ask(window: Window) -> Iterator[Page]:
        if window.start is not None and window.end - window.start > CHUNK:
            yield from (Page([], {"next": number}) for number in range(n_pages))
            raise VendorError("vendor_failed", "503")
        yield Page([], None)

    played = Played(monkeypatch, ask)
    for _ in range(2):
        with pytest.raises(VendorError):
            await played.play()
        mark = played.records.checkpoint.await_args.args[2]
        assert (mark.resume["is_whole"], mark.resume["page"], mark.high_water) == (True, {"next": 2}, None)
        played.records.resumes.return_value = {mark.stream: mark.resume}
        played.position = mark.resume["page"]
    assert played.windows == [Window(NOW - FIRST_WINDOW, NOW)] * 2
    played.is_last_try = True
    assert (await played.play()).outcome is connector.SyncOutcome.SUCCEEDED
    assert played.windows[3] == Window(NOW - FIRST_WINDOW, NOW - FIRST_WINDOW + CHUNK)
    assert len(played.windows) == 3 + 13

    # Whoever is too old to be tried again gets there as well, and so does who has no page.
    for age, n_pages in ((timedelta(days=2), 3), (timedelta(0), 0)):  # noqa: B007  # ask reads it
        played = Played(monkeypatch, ask)
        played.requested_at = NOW - age
        assert (await played.play()).outcome is connector.SyncOutcome.SUCCEEDED
        assert len(played.windows) == 1 + 13


async def test_a_process_counts_the_tries_of_so_many_runs_and_no_more() -> None:
    """Also where they wait only."""

    class Waits:
        has_got_on = False

        async def do(self, *, is_last_try: bool) -> None:
            raise Later(1.0)

    syncs = Syncing(cast(Tools, None))
    for number in range(FAILING_MAX + 10):
        with pytest.raises(Later):
            await syncs._try(cast(syncing._Run, Waits()), f"syn_{number}")
    assert len(syncs._n_failed) <= FAILING_MAX


async def test_a_remap_takes_turns_and_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it has counted; a million records would hold a hand for minutes, and begin anew with each process."""
    behind: list[str] = []

    async def pages(*_: object, after: str) -> AsyncIterator[list[Kept]]:
        for id_ in ("a", "b", "c"):
            if id_ > after:
                behind.append(id_)
                yield [Kept(id_, "failures", {}, NOW)]

    played = Played(monkeypatch, lambda _: ())
    played.kind = connector.SyncKind.REMAP
    played.records.pages = pages
    played.intake_seconds = TURN.total_seconds() * 0.6
    with pytest.raises(StepAside):
        await played.play()
    mark = played.records.checkpoint.await_args.args[2]
    assert (behind, mark.resume["page"]) == (["a", "b"], {"after": "b"})
    played.records.resumes.return_value = {mark.stream: mark.resume}
    assert (await played.play()).outcome is connector.SyncOutcome.SUCCEEDED
    assert behind == ["a", "b", "c"]


async def test_a_remap_begins_anew_where_its_mapping_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Amid its records or behind the last of them, for who asks meanwhile is answered with the open run."""
    titles: list[str] = []

    async def pages(*_: object, after: str) -> AsyncIterator[list[Kept]]:
        for id_ in ("a", "b"):
            if id_ > after:
                titles.append(played.settings.mapping.get("title", ""))
                yield [Kept(id_, "failures", {}, NOW)]
        if titles == ["", "id", "id"]:
            played.settings = replace(SETTINGS, mapping={"title": "name"})

    played = Played(monkeypatch, lambda _: ())
    played.kind = connector.SyncKind.REMAP
    played.records.pages = pages
    played.intake_seconds = TURN.total_seconds() * 1.1
    for n_taken in (1, 2, 3, 3, 4, 5):
        with pytest.raises(StepAside):
            await played.play()
        mark = played.records.checkpoint.await_args.args[2]
        played.records.resumes.return_value = {mark.stream: mark.resume}
        assert played.n_taken == n_taken
        if n_taken == 1:
            played.settings = replace(SETTINGS, mapping={"title": "id"})
    assert (await played.play()).outcome is connector.SyncOutcome.SUCCEEDED
    assert titles == ["", "id", "id", "name", "name"]
