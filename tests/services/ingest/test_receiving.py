"""Calls of vendors that came together: what is wrong with one is nothing to the others."""

import hmac
from base64 import b64encode
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock

import msgspec
import pytest
from contracts import connector
from runtime.broker import CommandContext

from services.ingest.connectors.connecting import source_of
from services.ingest.connectors.manifest import Token
from services.ingest.connectors.verification import Believed, Call, Refusal, Refused, judge
from services.ingest.endpoints import receiving
from services.ingest.endpoints.receiving import Reception
from services.ingest.jobs.directory import PREVIOUS_GOOD_FOR, Addressee
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


class _Known(_Stub):
    """Everybody is one connector, and what is taken is kept."""

    def __init__(self, type_: str, **known: Any) -> None:
        settings = connector.ConnectorSettings(type=type_, display_name="Mine", auth=0)
        source = source_of("con_1", settings)
        assert source.manifest.webhook is not None
        self.known = Addressee(workspace_id="ws_1", source=source, webhook=source.manifest.webhook, **known)
        self.take_first = AsyncMock(return_value=True)

    async def find(self, connector_ids: list[str]) -> Any:
        return dict.fromkeys(connector_ids, self.known)

    async def put(self, waiting: Any) -> list[bool]:
        return [True] * len(waiting)

    async def status(self, now: datetime, body: bytes, headers: dict[str, str]) -> int:
        stub: Any = self
        reception = Reception(
            vault=stub, directory=stub, secrets=stub, outbox=stub, outbound=stub, clock=lambda: now
        )
        call = connector.VendorCall(
            connector_id="con_1",
            method="POST",
            url="",
            query={},
            headers=headers,
            body=b64encode(body).decode(),
        )
        sealed = msgspec.json.encode(connector.VendorCalls(calls=(call,))).decode()
        answered = await reception.receive_delivery(
            connector.ReceiveDelivery(sealed_calls=sealed), CommandContext(workspace_id="", correlation_id="")
        )
        return answered.answers[0].status


def test_a_secret_is_good_in_an_address_as_it_is_shown() -> None:
    """People paste it behind `?token=` without encoding it, and a + is then read as a space."""

    def judged(scheme: Token, said: str) -> object:
        sent = Call(body=b"{}", query={"token": said}, headers={"X-Token": said})
        return judge(scheme, sent, secrets=["whsec_a+b/c="], now=NOW)

    in_address = Token(query="token")
    assert Believed(0) == judged(in_address, "whsec_a b/c=") == judged(in_address, "whsec_a+b/c=")
    assert Refused(Refusal.MISMATCH) == judged(in_address, "whsec_a-b/c=")
    assert Refused(Refusal.MISMATCH) == judged(Token(header="X-Token"), "whsec_a b/c=")


async def test_a_replaced_secret_is_good_for_a_day_and_no_longer() -> None:
    """To the second; the new one goes on."""
    until = NOW + PREVIOUS_GOOD_FOR
    known = _Known("github", secret="the-new-one", previous="the-old-one", previous_until=until)
    body = b"{}"

    async def answered(secret: str, now: datetime) -> int:
        signature = hmac.digest(secret.encode(), body, "sha256").hex()
        return await known.status(now, body, {"x-hub-signature-256": f"sha256={signature}"})

    assert timedelta(hours=24) == PREVIOUS_GOOD_FOR
    second = timedelta(seconds=1)
    assert [await answered("the-old-one", now) for now in (until - second, until)] == [202, 401]
    assert [await answered("the-new-one", now) for now in (until - second, until)] == [202, 202]


async def test_a_vendor_may_begin_again_for_as_long_as_somebody_allows() -> None:
    """Asana's next first call brings another secret; later, or where nobody asked for it, it is refused."""
    hook = {"x-hook-secret": "a85c28d5c0f1b5e13e3d9d44a6f2ab1f"}
    until = NOW + timedelta(minutes=10)
    known = _Known("asana", secret="b537207f20cbfa02357cf448134da559", first_until=until)
    second = timedelta(seconds=1)
    assert [await known.status(now, b"", hook) for now in (until - second, until)] == [200, 401]
    assert known.take_first.await_count == 1
