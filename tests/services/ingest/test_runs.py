"""What a run concludes from what a vendor shows, over pages that a test makes up."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import cast
from unittest.mock import AsyncMock, MagicMock

import pytest
from contracts import connector
from testkit.builders import recorded

from services.ingest.jobs import syncing
from services.ingest.jobs.intake import Taken
from services.ingest.jobs.syncing import FIRST_WINDOW, Tools
from services.ingest.state import NOTHING_YET, SyncRun, fold_connector
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


async def test_what_a_vendor_withholds_is_said_and_not_taken_for_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the first stretch; those behind it are read whole."""
    made = connector.ConnectorCreated(
        connector_id="con_1", settings=SETTINGS, status=connector.ConnectorStatus.CONNECTED
    )
    asked = connector.SyncRequested(run_id="syn_1", connector_id="con_1", kind=connector.SyncKind.MANUAL)
    run = SyncRun(request=asked, requested_at=NOW)
    shown = NOW - FIRST_WINDOW + timedelta(days=1)
    said: list[connector.Event | None] = []

    async def pages(_: object, __: object, window: Window, *, position: object) -> AsyncIterator[Page]:
        assert position is None
        is_first = window.start == NOW - FIRST_WINDOW
        yield Page([{"updated_at": shown.isoformat()}] if is_first else [], None, is_cut=is_first)

    async def decide_run(_: str, __: object, decide: Callable[[SyncRun], connector.Event | None]) -> int:
        said.append(decide(run))
        return 1

    sources, records = AsyncMock(), AsyncMock()
    sources.find.return_value = fold_connector([recorded(made, "con_1", workspace_id=WORKSPACE)])
    sources.find_run.return_value = run
    sources.version.return_value = 1
    sources.decide_run = decide_run
    records.resumes.return_value = records.high_waters.return_value = {}
    asking = MagicMock(access=AsyncMock(), pages=pages)
    intake = AsyncMock()
    intake.take_in.return_value = Taken(NOTHING_YET)
    monkeypatch.setattr(syncing._Run, "_judge", AsyncMock())
    tools = {"sources": sources, "records": records, "asking": asking, "intake": intake}
    rest = {"vault": None, "rows": None, "locks": None, "clock": lambda: NOW}
    await syncing._Run(Tools(**tools, **rest), run, WORKSPACE).do()  # type: ignore[arg-type]  # as far as it is used
    raised = [call.args[3] for call in records.raise_high_water.await_args_list]
    assert raised[:2] == [shown, NOW - FIRST_WINDOW + timedelta(days=14)]
    end = cast(connector.SyncEnded, said[-1])
    assert end.outcome is connector.SyncOutcome.SUCCEEDED
    assert "failures" in end.detail
