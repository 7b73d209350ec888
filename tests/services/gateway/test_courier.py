"""How vendors' calls travel to ingest: together, and none is left without an answer."""

import asyncio
from typing import Any

import pytest
from contracts import connector
from msgspec import Struct
from nats.aio.client import Client
from runtime.broker import CommandContext, Endpoint, serve
from runtime.errors import UnavailableError
from runtime.sealing import MasterKeys, SealingKey
from structlog.testing import capture_logs
from testkit.waiting import eventually

from services.gateway.routes.inbound import CALLS_MAX, Courier

SEAL = MasterKeys(SealingKey.made()).bus
N_CALLS = CALLS_MAX + 1
ENDPOINT = connector.ENDPOINTS[connector.ReceiveDelivery]


def call(number: int = 0) -> connector.VendorCall:
    return connector.VendorCall(
        connector_id=f"con_{number}", method="POST", url="https://us.example/", body=""
    )


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
