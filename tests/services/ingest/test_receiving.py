"""Calls of vendors that came together: what is wrong with one is nothing to the others."""

import asyncio
import hmac
from base64 import b64encode
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock, Mock

import msgspec
import pytest
from contracts import WEBHOOK_SECRET, connector
from eventlog import EventLog
from msgspec.structs import replace
from runtime.broker import CommandContext
from runtime.database import Pool
from runtime.sealing import MasterKeys, SealingKey

from services.ingest.connectors import payloads
from services.ingest.connectors.connecting import source_of
from services.ingest.connectors.manifest import Token
from services.ingest.connectors.mapping import Rejected, map_record
from services.ingest.connectors.reserved import WEBHOOK_FIRST_UNTIL
from services.ingest.connectors.verification import Believed, Call, Refusal, Refused, judge
from services.ingest.endpoints import receiving
from services.ingest.endpoints.receiving import Reception
from services.ingest.endpoints.webhook_secrets import WebhookSecrets
from services.ingest.jobs import deliveries
from services.ingest.jobs.directory import PREVIOUS_GOOD_FOR, Addressee, read_until
from services.ingest.jobs.outbox import Delivery
from services.ingest.reporting import Sources
from services.ingest.vault import Vault
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
        self.put_in: list[Delivery] = []

    async def find(self, connector_ids: list[str]) -> Any:
        return dict.fromkeys(connector_ids, self.known)

    async def put(self, waiting: Any) -> list[bool]:
        self.put_in += [delivery for _, delivery in waiting]
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


async def test_a_delivery_of_too_many_values_is_kept_as_one_record() -> None:
    """It was proved, and its vendor does not send it again: a text with many commas is enough. Nonsense is refused."""
    known = _Known("github", secret="s3cret-of-github")
    text = "a," * payloads.VALUES_MAX
    body = msgspec.json.encode({"action": "opened", "issue": {"id": 7, "title": "Down", "body": text}})
    answers = []
    for each in (body, b"no json"):
        signature = hmac.digest(b"s3cret-of-github", each, "sha256").hex()
        headers = {"x-hub-signature-256": f"sha256={signature}", "x-github-event": "issues"}
        answers.append(await known.status(NOW, each, headers))
    assert answers == [202, 400]
    (delivery,) = known.put_in
    (record,) = deliveries._records_of(known.known, delivery)
    assert record == body.decode()
    assert isinstance(map_record(known.known.source.manifest, record, now=NOW), Rejected)


async def test_a_vendor_may_begin_again_for_as_long_as_somebody_allows() -> None:
    """Asana's next first call brings another secret; later, or where nobody asked for it, it is refused."""
    hook = {"x-hook-secret": "a85c28d5c0f1b5e13e3d9d44a6f2ab1f"}
    until = NOW + timedelta(minutes=10)
    known = _Known("asana", secret="b537207f20cbfa02357cf448134da559", first_until=until)
    second = timedelta(seconds=1)
    assert [await known.status(now, b"", hook) for now in (until - second, until)] == [200, 401]
    assert known.take_first.await_count == 1


async def test_a_greeting_that_takes_long_is_refused_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sent again; a call that came with it is taken."""
    monkeypatch.setattr(receiving, "GREETING_SECONDS", 0.01)
    asana, github = _Known("asana"), _Known("github", secret="s3cret-of-github")

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    stub: Any = _Stub()
    reception = Reception(
        vault=stub,
        directory=Mock(find=AsyncMock(return_value={"con_a": asana.known, "con_b": github.known})),
        secrets=Mock(take_first=never),
        outbox=Mock(put=github.put),
        outbound=stub,
        clock=lambda: NOW,
    )
    signature = hmac.digest(b"s3cret-of-github", b"{}", "sha256").hex()
    calls = (
        connector.VendorCall(
            connector_id="con_a",
            method="POST",
            url="",
            query={},
            headers={"x-hook-secret": "a" * 32},
            body="",
        ),
        connector.VendorCall(
            connector_id="con_b",
            method="POST",
            url="",
            query={},
            headers={"x-hub-signature-256": f"sha256={signature}"},
            body="e30=",
        ),
    )
    sealed = msgspec.json.encode(connector.VendorCalls(calls=calls)).decode()
    async with asyncio.timeout(10):
        answered = await reception.receive_delivery(
            connector.ReceiveDelivery(sealed_calls=sealed), CommandContext(workspace_id="", correlation_id="")
        )
    assert [answer.status for answer in answered.answers] == [503, 202]


class _Late(Sources):
    """Answers late that the log has what was decided."""

    def __init__(self, event_log: EventLog) -> None:
        super().__init__(event_log, clock=lambda: NOW)
        self.goes_on = asyncio.Event()

    async def decide(self, *given: Any, **more: Any) -> Any:
        decided = await super().decide(*given, **more)
        await self.goes_on.wait()
        return decided


async def test_a_greeting_that_took_too_long_is_ended_and_may_be_begun_again(
    event_log: EventLog, sources_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the log tells of a secret that the vault does not have; its vendor was not answered, and brings another."""
    monkeypatch.setattr(receiving, "GREETING_SECONDS", 0.1)
    monkeypatch.setattr(receiving, "STOP_SECONDS", 30.0)
    space, known = "ws_01HZ0000000000000000000000", _Known("asana").known
    created = connector.ConnectorCreated(
        connector_id="con_1", settings=known.source.settings, status=connector.ConnectorStatus.CONNECTED
    )
    sources = _Late(event_log)
    context = CommandContext(workspace_id=space, correlation_id="")
    await sources.create("con_1", [created], context)
    vault = Vault(MasterKeys(SealingKey(b"k" * 32)), sources_pool, clock=lambda: NOW)

    async def find(_: object) -> dict[str, Addressee]:
        kept = await vault.open_all(space, "con_1")
        secret, until = kept.get(WEBHOOK_SECRET, ""), read_until(kept.get(WEBHOOK_FIRST_UNTIL, ""))
        return {"con_1": replace(known, workspace_id=space, secret=secret, first_until=until)}

    directory = Mock(find=find)
    reception = Reception(
        vault=Mock(received=lambda sealed, **_: sealed),
        directory=directory,
        secrets=WebhookSecrets(sources, vault, directory, shown=AsyncMock(), clock=lambda: NOW),
        outbox=Mock(),
        outbound=Mock(),
        clock=lambda: NOW,
    )

    async def status(secret: str) -> int:
        call = connector.VendorCall(
            connector_id="con_1",
            method="POST",
            url="",
            query={},
            headers={"x-hook-secret": secret},
            body="",
        )
        sealed = msgspec.json.encode(connector.VendorCalls(calls=(call,))).decode()
        answered = await reception.receive_delivery(connector.ReceiveDelivery(sealed_calls=sealed), context)
        return answered.answers[0].status

    assert await status("a" * 32) == 503
    assert WEBHOOK_SECRET not in await vault.open_all(space, "con_1")
    sources.goes_on.set()
    monkeypatch.setattr(receiving, "GREETING_SECONDS", 30.0)
    await reception.stop()
    state = await sources.find(space, "con_1")
    assert state is not None
    assert (state.secrets, (await vault.open_all(space, "con_1"))[WEBHOOK_SECRET]) == (
        (WEBHOOK_SECRET,),
        "a" * 32,
    )
    assert [await status("b" * 32), await status("c" * 32)] == [200, 401]
    assert (await vault.open_all(space, "con_1"))[WEBHOOK_SECRET] == "b" * 32


async def test_what_is_fetched_is_waited_for_no_longer_than_half_a_second_in_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many connectors have their calls wait, others' calls that travel with them are late but once."""
    monkeypatch.setattr(receiving, "FETCH_WAIT_SECONDS", 0.01)
    asked: list[str] = []

    async def never(url: str) -> bytes:
        asked.append(url)
        await asyncio.Event().wait()
        return b""

    now = NOW
    fetches = receiving.Fetches(Mock(get=never), clock=lambda: now)
    await fetches.fetch("https://one.example/", "con_1")
    async with asyncio.timeout(0):
        # Not even for a turn of the loop.
        await fetches.fetch("https://two.example/", "con_2")
    await asyncio.sleep(0)
    assert asked == ["https://one.example/", "https://two.example/"]
    now += timedelta(seconds=receiving.FETCH_WAITS_EVERY)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await fetches.fetch("https://three.example/", "con_3")
