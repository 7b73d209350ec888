"""What a run concludes from what a vendor shows, over pages that a test makes up."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import cast
from unittest.mock import AsyncMock, MagicMock

import msgspec
import psycopg
import pytest
from contracts import connector
from testkit.builders import recorded

from services.ingest.connectors.manifest import Stream
from services.ingest.jobs import syncing
from services.ingest.jobs.intake import Taken
from services.ingest.jobs.queue import Later, StepAside
from services.ingest.jobs.syncing import CHUNK, FIRST_WINDOW, TURN, Tools
from services.ingest.state import NOTHING_YET, SyncRun, fold_connector
from services.ingest.vendors.faults import AccountBusyError, VendorError
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


Ask = Callable[[Window], Iterable[Page]]


class Played:
    """A run of what is new over pages that a test makes up. windows: those that were asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ask: Ask) -> None:
        self.settings = SETTINGS
        self.stream = ""
        self.windows: list[Window] = []
        self.said: list[connector.Event | None] = []
        self.page_seconds = 0.0
        self.intake_seconds = 0.0
        self.n_asked = 0
        self.requested_at = self._now = NOW
        self.records = AsyncMock()
        self.records.resumes.return_value = self.records.high_waters.return_value = {}
        self._ask = ask
        monkeypatch.setattr(syncing._Run, "_judge", AsyncMock())

    async def play(self) -> connector.SyncEnded:
        """Do it; how it ended."""
        made = connector.ConnectorCreated(
            connector_id="con_1", settings=self.settings, status=connector.ConnectorStatus.CONNECTED
        )
        asked = connector.SyncRequested(run_id="syn_1", connector_id="con_1", kind=connector.SyncKind.MANUAL)
        run = SyncRun(request=asked, requested_at=self.requested_at)

        async def decide_run(_: str, __: object, decide: Callable[[SyncRun], connector.Event | None]) -> int:
            self.said.append(decide(run))
            return 1

        sources, intake = AsyncMock(), AsyncMock()
        sources.find.return_value = fold_connector([recorded(made, "con_1", workspace_id=WORKSPACE)])
        sources.find_run.return_value = run
        sources.version.return_value = 1
        sources.decide_run = decide_run
        asking = MagicMock(access=AsyncMock(), pages=self._pages)
        intake.take_in = self._take_in
        tools = {"sources": sources, "records": self.records, "asking": asking, "intake": intake}
        rest = {"vault": None, "rows": None, "locks": None, "clock": lambda: self._now}
        await syncing._Run(Tools(**tools, **rest), run, WORKSPACE).do()  # type: ignore[arg-type]  # as far as it is used
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
        assert position is None
        self.stream = stream.name
        self.windows.append(window)
        is_asked = False
        for page in self._ask(window):
            self.n_asked += not is_asked
            self._now += timedelta(seconds=self.page_seconds)
            is_asked = goes_on()
            self.n_asked += is_asked
            yield page

    async def _take_in(self, *_: object) -> Taken:
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
    first = limited.records.checkpoint.await_args_list[0].args[2].resume
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
