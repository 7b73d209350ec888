"""Retention goes on: what failed in the middle is asked for again, and holds up nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest
from contracts import connector
from eventlog import EventLog
from nats.aio.client import Client
from runtime.broker import ask
from runtime.database import Pool, tenant
from runtime.errors import UnavailableError

from services.gateway import _queries
from services.gateway.governance import retaining
from services.gateway.governance.erasing import Eraser
from services.gateway.governance.exporting import Exporter
from services.gateway.governance.retaining import BEGINNING, Behind, Retainer
from services.gateway.governance.steward import Steward
from services.gateway.identity.governance._queries import Windows

NOW = datetime(2026, 11, 22, tzinfo=UTC)
WINDOW = Windows(workspace_id="ws_1", issues_days=1, prompt_logs_days=1, predictions_days=1, grace_days=1)


@pytest.mark.parametrize(
    ("work", "query"),
    [
        ("purge_issues", "list_expired_issues"),
        ("purge_predictions", "list_expired_predictions"),
        ("purge_runs", "list_over_runs"),
    ],
)
async def test_a_purge_that_was_not_answered_is_asked_for_until_it_is(
    work: str, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is asked has told that they are gone, so no row says that their events are still there."""
    row = SimpleNamespace(issue_id="1", prediction_id="1", run_id="1", since_at=NOW, seq=1)
    pages = [[], [row], [], []]
    asked: list[bool] = []

    @asynccontextmanager
    async def rows(*_: object) -> AsyncIterator[None]:
        yield

    async def listed(*_: object, **__: object) -> list[SimpleNamespace]:
        return pages.pop(0)

    async def answer(*_: object, **__: object) -> connector.RunsPurged:
        asked.append(len(pages) == 2)
        if asked[-1]:
            raise UnavailableError("It was killed behind the fact.")
        return connector.RunsPurged(n_runs=0, sequence=0)

    async def seen(*_: object) -> None: ...

    monkeypatch.setattr(retaining, tenant.__name__, rows)
    monkeypatch.setattr(retaining, ask.__name__, answer)
    monkeypatch.setattr(_queries, "see_expired", seen)
    monkeypatch.setattr(_queries, query, listed)
    retainer = Retainer(cast(Client, None), cast(EventLog, None), cast(Pool, None), clock=lambda: NOW)
    for fails in (False, True, False, False):
        if fails:
            with pytest.raises(UnavailableError):
                await retainer.works[work](WINDOW, BEGINNING)
        else:
            await retainer.works[work](WINDOW, BEGINNING)
    assert asked == [False, True, False]


async def test_a_work_that_fails_holds_up_no_other_of_its_workspace() -> None:
    done: list[Behind] = []

    async def fails(window: Windows, after: Behind) -> Behind | None:
        raise UnavailableError("prediction is away")

    async def goes_on(window: Windows, after: Behind) -> Behind | None:
        done.append(after)
        return (NOW, len(done)) if len(done) < 3 else None

    steward = Steward(
        url="",
        people=cast(Pool, None),
        exporter=cast(Exporter, None),
        eraser=cast(Eraser, None),
        retainer=cast(Retainer, SimpleNamespace(works={"first": fails, "second": goes_on})),
        clock=lambda: NOW,
    )
    await steward._retain_pages([WINDOW])
    assert done == [BEGINNING, (NOW, 1), (NOW, 2)]
