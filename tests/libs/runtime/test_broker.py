import asyncio

import pytest
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg
from runtime import broker
from runtime.broker import CommandContext, Endpoint
from runtime.errors import (
    AppError,
    NotFoundError,
    StartError,
    StateConflictError,
    UnavailableError,
    ValidationFailedError,
)
from structlog.testing import capture_logs


class Double(Struct, frozen=True, forbid_unknown_fields=True):
    n: int


class Doubled(Struct, frozen=True):
    n: int
    workspace_id: str


class SpecialError(AppError):
    code = "too_special"
    status = 422


CONTEXT = CommandContext(workspace_id="ws_1", correlation_id="req_1", actor="usr_1")


async def double(command: Double, context: CommandContext) -> Doubled:
    match command.n:
        case 404:
            raise NotFoundError("No such thing.", details={"n": "unknown"})
        case 409:
            raise StateConflictError("Somebody was faster.")
        case 422:
            raise SpecialError("Line one\nline two")
        case 500:
            raise RuntimeError("a bug with a secret")
    return Doubled(n=command.n * 2, workspace_id=context.workspace_id)


@pytest.fixture
async def served(nc: Client) -> object:
    server = await broker.serve(nc, "test", "1.0.0", [Endpoint("test.double", Double, double)])
    yield server
    await server.stop()


async def ask(nc: Client, n: int) -> Doubled:
    return await broker.ask(nc, Double(n), endpoint="test.double", reply=Doubled, context=CONTEXT, timeout=30)


async def test_ask_returns_the_typed_reply_and_hands_over_the_context(nc: Client, served: object) -> None:
    assert await ask(nc, 21) == Doubled(n=42, workspace_id="ws_1")


async def test_ask_raises_the_refusal_of_the_service(nc: Client, served: object) -> None:
    with pytest.raises(NotFoundError, match="No such thing") as caught:
        await ask(nc, 404)
    assert caught.value.details == {"n": "unknown"}

    with pytest.raises(StateConflictError):
        await ask(nc, 409)


async def test_ask_keeps_code_and_status_of_a_refusal_only_the_service_knows(
    nc: Client, served: object
) -> None:
    with pytest.raises(AppError) as caught:
        await ask(nc, 422)

    assert (caught.value.code, caught.value.status) == ("too_special", 422)
    assert caught.value.message == "Line one\nline two"


async def test_ask_of_a_bug_says_nothing_of_it(nc: Client, served: object) -> None:
    with pytest.raises(AppError) as caught:
        await ask(nc, 500)

    assert (caught.value.code, caught.value.status) == ("internal_error", 500)
    assert "secret" not in caught.value.message


async def test_ask_with_a_malformed_body_names_the_field(nc: Client, served: object) -> None:
    with pytest.raises(ValidationFailedError) as caught:
        await broker.ask(nc, b'{"n":"x"}', endpoint="test.double", reply=Doubled, context=CONTEXT, timeout=30)

    assert caught.value.details == {"n": "Expected `int`, got `str`"}


async def test_ask_without_any_service_is_unavailable(nc: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "NO_RESPONDER_GRACE_SECONDS", 0.05)

    with pytest.raises(UnavailableError, match="No service answers"):
        await ask(nc, 1)


async def test_ask_during_a_restart_waits_for_the_service(
    nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine may be away for longer than a service is.
    monkeypatch.setattr(broker, "NO_RESPONDER_GRACE_SECONDS", 30.0)
    asking = asyncio.create_task(ask(nc, 4))
    await asyncio.sleep(0)

    server = await broker.serve(nc, "test", "1.0.0", [Endpoint("test.double", Double, double)])

    assert (await asking).n == 8
    await server.stop()


async def test_ask_a_service_that_hangs_times_out(nc: Client) -> None:
    async def hang(command: Double, context: CommandContext) -> Doubled:
        await asyncio.Event().wait()
        raise AssertionError

    server = await broker.serve(nc, "test", "1.0.0", [Endpoint("test.double", Double, hang)])
    with pytest.raises(UnavailableError, match="did not answer"):
        await broker.ask(nc, Double(1), endpoint="test.double", reply=Doubled, context=CONTEXT, timeout=0.1)
    await server.stop(deadline=0.01)


@pytest.mark.parametrize(
    ("answer", "headers"),
    [
        (b'{"n":"two","workspace_id":"ws_1"}', None),
        (b'{"n":2}', None),
        (b"", None),
        (b'"\xff"', None),
        (b"", {"Nats-Service-Error-Code": "500", "Nats-Service-Error": "no"}),
    ],
)
async def test_an_answer_that_cannot_be_read_is_no_fault_of_who_asks(
    nc: Client, answer: bytes, headers: dict[str, str] | None
) -> None:
    """As that of another release may be; what is wrong with it is logged, once."""

    async def respond(message: Msg) -> None:
        await nc.publish(message.reply, answer, headers=headers)

    await nc.subscribe("svc.test.double", cb=respond)
    with capture_logs() as lines, pytest.raises(UnavailableError, match=r"test\.double answered") as caught:
        await ask(nc, 1)

    assert caught.value.status == 503
    assert [(line["event"], line["endpoint"]) for line in lines] == [("answer.not_read", "test.double")]


async def test_requests_of_one_endpoint_run_side_by_side(nc: Client) -> None:
    both = asyncio.Barrier(2)

    async def meet(command: Double, context: CommandContext) -> Doubled:
        async with asyncio.timeout(30):
            await both.wait()
        return Doubled(n=command.n, workspace_id="")

    server = await broker.serve(nc, "test", "1.0.0", [Endpoint("test.double", Double, meet)])

    assert [reply.n for reply in await asyncio.gather(ask(nc, 1), ask(nc, 2))] == [1, 2]
    await server.stop()


async def test_stop_lets_a_running_request_finish(nc: Client) -> None:
    begun, finish = asyncio.Event(), asyncio.Event()

    async def slow(command: Double, context: CommandContext) -> Doubled:
        begun.set()
        await finish.wait()
        return Doubled(n=command.n, workspace_id="")

    server = await broker.serve(nc, "test", "1.0.0", [Endpoint("test.double", Double, slow)])
    asking = asyncio.create_task(ask(nc, 3))
    await begun.wait()
    stopping = asyncio.create_task(server.stop())
    finish.set()

    await stopping
    assert (await asking).n == 3


async def test_connect_to_nobody_says_what_to_check() -> None:
    with pytest.raises(StartError, match="Check NATS_URL"):
        await broker.connect("nats://127.0.0.1:9", name="test", deadline=0.3)
