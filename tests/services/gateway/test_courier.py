"""How vendors' calls travel to ingest: together, and none is left without an answer."""

import asyncio
from typing import Any

import msgspec
import pytest
from contracts import connector
from msgspec import Struct
from nats.aio.client import Client
from nats.errors import ConnectionClosedError
from runtime.broker import CommandContext, Endpoint, serve
from runtime.errors import UnavailableError
from runtime.sealing import MasterKeys, SealingKey
from structlog.testing import capture_logs
from testkit.waiting import eventually

from services.gateway.routes.inbound import BYTES_MAX, CALLS_MAX, WAITING_BYTES_MAX, Courier

SEAL = MasterKeys(SealingKey.made()).bus
N_CALLS = CALLS_MAX + 1
ENDPOINT = connector.ENDPOINTS[connector.ReceiveDelivery]


def call(number: int = 0, *, title: str = "") -> connector.VendorCall:
    return connector.VendorCall(
        connector_id=f"con_{number}",
        method="POST",
        url="https://us.example/",
        headers={"title": title},
        body="",
    )


class Ingest:
    """Answers each call with its connector's id; keeps what came together."""

    def __init__(self) -> None:
        self.came: list[tuple[connector.VendorCall, ...]] = []

    async def answer(self, cmd: connector.ReceiveDelivery, _: CommandContext) -> connector.DeliveryAnswered:
        plain = SEAL.open(cmd.sealed_calls, workspace_id="-", what="vendor_calls")
        calls = msgspec.json.decode(plain, type=connector.VendorCalls).calls
        self.came.append(calls)
        answers = (
            connector.VendorAnswer(status=202, content_type="", body=each.connector_id) for each in calls
        )
        return connector.DeliveryAnswered(answers=tuple(answers))


class Otherwise(Struct):
    """What another release might answer."""

    answers: str = "none"


async def bring_all(courier: Courier) -> list[object]:
    """What became of more calls than travel together; within a time in which all are answered."""
    async with asyncio.timeout(30):
        brought = (courier.bring(call(number)) for number in range(N_CALLS))
        return list(await asyncio.gather(*brought, return_exceptions=True))


async def test_an_answer_that_cannot_be_read_ends_every_call(nc: Client) -> None:
    async def answer(_: connector.ReceiveDelivery, __: CommandContext) -> Otherwise:
        return Otherwise()

    server = await serve(nc, "ingest", "1.0.0", [Endpoint(ENDPOINT, connector.ReceiveDelivery, answer)])
    with capture_logs():
        ended = await bring_all(Courier(nc, SEAL))
    await server.stop()
    assert [type(each) for each in ended] == [UnavailableError] * N_CALLS


async def test_a_bug_ends_every_call_and_is_logged_once_for_those_that_travel_together() -> None:
    class Broken:
        def seal(self, *_: object, **__: object) -> str:
            raise KeyError("a bug")

    broken: Any = Broken()
    with capture_logs() as lines:
        ended = await bring_all(Courier(broken, broken))
    assert [type(each) for each in ended] == [UnavailableError] * N_CALLS
    assert [(line["event"], line["n_calls"]) for line in lines] == [
        ("calls.not_brought", CALLS_MAX),
        ("calls.not_brought", 1),
    ]


async def test_a_process_that_ends_leaves_no_call_waiting(nc: Client) -> None:
    asked = asyncio.Event()

    async def hang(_: connector.ReceiveDelivery, __: CommandContext) -> connector.DeliveryAnswered:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    server = await serve(nc, "ingest", "1.0.0", [Endpoint(ENDPOINT, connector.ReceiveDelivery, hang)])
    courier = Courier(nc, SEAL)
    waiting = asyncio.create_task(courier.bring(call()))
    await asyncio.wait_for(asked.wait(), 30)
    [flight] = courier._flights
    flight.cancel()
    await eventually(flight.done)
    with pytest.raises(UnavailableError):
        await asyncio.wait_for(waiting, 30)
    await server.stop(deadline=0.01)


async def test_calls_of_long_headers_travel_in_parts_that_the_broker_takes(nc: Client) -> None:
    """Signs that JSON writes longer count as they are written; each call is answered as its own."""
    ingest = Ingest()
    server = await serve(
        nc, "ingest", "1.0.0", [Endpoint(ENDPOINT, connector.ReceiveDelivery, ingest.answer)]
    )
    courier, sent = Courier(nc, SEAL), [call(number, title='"' * 64 * 1024) for number in range(N_CALLS)]
    answers = await asyncio.gather(*map(courier.bring, sent))
    await server.stop()
    assert [answer.body for answer in answers] == [each.connector_id for each in sent]
    assert {each.connector_id: each for calls in ingest.came for each in calls} == {
        each.connector_id: each for each in sent
    }
    assert max(map(len, ingest.came)) == BYTES_MAX // len(msgspec.json.encode(sent[0]))


async def test_calls_that_wait_count_with_their_headers() -> None:
    found = asyncio.Event()

    class Away:
        def seal(self, *_: object, **__: object) -> str:
            return ""

        async def request(self, *_: object, **__: object) -> object:
            await found.wait()
            raise ConnectionClosedError

    away: Any = Away()
    courier, large = Courier(away, away), call(title="x" * 1024 * 1024)
    n_fit = WAITING_BYTES_MAX // len(msgspec.json.encode(large))
    waiting = [asyncio.create_task(courier.bring(large)) for _ in range(n_fit + 1)]
    refused, others = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=30)
    assert [str(each.exception()) for each in refused] == ["Too many deliveries wait. Send it again."]
    assert len(others) == n_fit
    found.set()
    await asyncio.gather(*others, return_exceptions=True)
