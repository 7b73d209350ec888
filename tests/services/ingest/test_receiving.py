"""Calls of vendors that came together: what is wrong with one is nothing to the others."""

from typing import Any

import msgspec
import pytest
from contracts import connector
from runtime.broker import CommandContext

from services.ingest.endpoints import receiving
from services.ingest.endpoints.receiving import Reception
from tests.services.ingest.builders import NOW


class _Stub:
    """As much of the vault, and of a directory that knows nobody, as calls of nobody need."""

    def received(self, sealed: str, **_: str) -> str:
        return sealed

    async def find(self, connector_ids: list[str]) -> dict[str, None]:
        return dict.fromkeys(connector_ids)


async def test_call_that_cannot_be_judged_is_answered_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of several workspaces travel together, and what judges one may be of its own manifest."""
    real = receiving.judge_any

    def judge(schemes: Any, call: Any, **given: Any) -> Any:
        return 1 / 0 if call.body == b"bad" else real(schemes, call, **given)

    monkeypatch.setattr(receiving, "judge_any", judge)
    stub: Any = _Stub()
    reception = Reception(
        vault=stub, directory=stub, secrets=stub, outbox=stub, outbound=stub, clock=lambda: NOW
    )
    calls = [
        connector.VendorCall(connector_id="con_1", method="POST", url="", query={}, headers={}, body=body)
        for body in ("Z29vZA==", "YmFk", "Z29vZA==")
    ]
    cmd = connector.ReceiveDelivery(
        sealed_calls=msgspec.json.encode(connector.VendorCalls(calls=tuple(calls))).decode()
    )
    answered = await reception.receive_delivery(cmd, CommandContext(workspace_id="", correlation_id="req_1"))
    assert [answer.status for answer in answered.answers] == [404, 503, 404]
