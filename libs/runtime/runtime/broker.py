"""Commands over NATS: ask an endpoint, serve endpoints, with typed refusals."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
import nats
import nats.errors
import structlog
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, ServiceConfig
from nats.micro.service import Service as MicroService
from opentelemetry.trace import SpanKind

from runtime import errors, metrics
from runtime.errors import AppError, InternalError, StartError, UnavailableError, ValidationFailedError
from runtime.faults import refusal_for
from runtime.telemetry import current_traceparent, format_traceparent, span_from

log = structlog.get_logger()

R = TypeVar("R")

NO_RESPONDER_GRACE_SECONDS = 1.0
"""How long `ask` waits for an endpoint to appear: a restart or a change of leader stays invisible."""

MAX_CONCURRENT_PER_ENDPOINT = 64
"""Requests of one endpoint handled at once; the rest wait in the subscription's bounded queue."""

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises where a payload is not what it should be."""

_WORKSPACE, _ACTOR, _CORRELATION, _TRACEPARENT = (
    "Causeloop-Workspace",
    "Causeloop-Actor",
    "Causeloop-Correlation",
    "traceparent",
)


class CommandContext(Struct, frozen=True, kw_only=True):
    """Who asks, for which workspace and within which conversation; travels in a command's headers."""

    workspace_id: str
    correlation_id: str
    actor: str | None = None
    traceparent: str | None = None


class Endpoint(Struct, frozen=True):
    """One door of a service on the bus.

    name: "<service>.<verb>", as `ENDPOINTS` of the contract gives it.
    request: the Struct the payload is decoded to; None hands over the raw bytes.
    handle: (request, CommandContext) → reply Struct; raises an AppError to refuse.
    """

    name: str
    request: type[Struct] | None
    handle: Callable[
        [Any, CommandContext], Awaitable[Struct]
    ]  # Any: the type is `request`, known at run time


class Refusal(Struct, frozen=True, kw_only=True):
    """An AppError on the wire."""

    code: str
    status: int
    message: str
    details: dict[str, str] = {}


async def connect(url: str, *, name: str, deadline: float = 15.0) -> Client:
    """A client that waits for the server to come up and afterwards reconnects for ever.

    Raises StartError when the server does not answer within `deadline` seconds or refuses the login.
    """
    client = Client()

    async def on_disconnected() -> None:
        if not client.is_closed:
            log.warning("nats.disconnected", client=name)

    async def on_reconnected() -> None:
        log.info("nats.reconnected", client=name)

    async def on_error(error: Exception) -> None:
        if not isinstance(error, ConnectionError | nats.errors.Error | OSError):
            log.warning("nats.error_raised", client=name, error=repr(error))

    try:
        async with asyncio.timeout(deadline):
            await client.connect(
                url,
                name=name,
                connect_timeout=2,
                reconnect_time_wait=0.2,  # type: ignore[arg-type]  # typed int, used as seconds in sleep()
                max_reconnect_attempts=-1,
                ping_interval=10,
                max_outstanding_pings=2,
                pending_size=8 * 1024 * 1024,
                # Ours are made by eventlog.subjects and by endpoint names; checking each again costs 2 µs a message.
                skip_subject_validation=True,
                disconnected_cb=on_disconnected,
                reconnected_cb=on_reconnected,
                error_cb=on_error,
            )
    except (TimeoutError, nats.errors.Error, OSError) as error:
        reason = str(client.last_error or error) or "no answer"
        raise StartError(f"Cannot reach NATS: {reason}. Is it running? Check NATS_URL.") from error
    return client


async def ask(
    nc: Client,
    command: Struct | bytes,
    *,
    endpoint: str,
    reply: type[R],
    context: CommandContext,
    timeout: float = 5.0,  # noqa: ASYNC109  # a NATS request takes its own deadline
) -> R:
    """Send a command to the service that owns `endpoint` and decode its answer.

    Raises the AppError that the service raised, and UnavailableError when nobody answers in time, or with what cannot
    be read here, as one of another release may;
    the command may then have been carried out or not, so commands are idempotent.
    """
    payload = command if isinstance(command, bytes) else msgspec.json.encode(command)
    with span_from(context.traceparent, f"ask {endpoint}", kind=SpanKind.CLIENT) as span:
        headers = {_WORKSPACE: context.workspace_id, _CORRELATION: context.correlation_id}
        headers[_TRACEPARENT] = format_traceparent(span.get_span_context())
        if context.actor is not None:
            headers[_ACTOR] = context.actor
        message = await _request(nc, f"svc.{endpoint}", payload, headers=headers, timeout=timeout)
    if message.headers is not None and "Nats-Service-Error-Code" in message.headers:
        refusal = _read(message.data, Refusal, endpoint=endpoint)
        raise errors.rebuild(refusal.code, refusal.status, refusal.message, refusal.details)
    return _read(message.data, reply, endpoint=endpoint)


def _read(answer: bytes, kind: type[R], *, endpoint: str) -> R:
    # Who asked is not to blame for it, so that it may not become their 400.
    try:
        return msgspec.json.decode(answer, type=kind)
    except _UNREADABLE as error:
        log.error("answer.not_read", endpoint=endpoint, kind=kind.__name__, error=errors.described(error))
        raise UnavailableError(f"{endpoint} answered what cannot be read here.") from error


async def _request(
    nc: Client,
    subject: str,
    payload: bytes,
    *,
    headers: dict[str, str],
    timeout: float,  # noqa: ASYNC109  # handed to the NATS request
) -> Msg:
    """One request; repeated only while no responder exists, since then nobody can have seen it."""
    give_up_at = time.monotonic() + min(timeout, NO_RESPONDER_GRACE_SECONDS)
    while True:
        try:
            return await nc.request(subject, payload, timeout=timeout, headers=headers)
        except nats.errors.NoRespondersError as error:
            if time.monotonic() >= give_up_at:
                raise UnavailableError(f"No service answers {subject[4:]} now.", retry_after=2.0) from error
        except (nats.errors.TimeoutError, TimeoutError) as error:
            raise UnavailableError(f"{subject[4:]} did not answer within {timeout:g} s.") from error
        except nats.errors.Error as error:
            raise UnavailableError(f"The broker is not reachable: {error}.") from error
        await asyncio.sleep(0.05)


def name_on_partition(endpoint: str, partition: int, partitions: int) -> str:
    """The name of a leader's endpoint: where there are several leaders, each has its own."""
    return endpoint if partitions == 1 else f"{endpoint}.{partition}"


class EndpointServer:
    """The endpoints of one service while they are served; `stop` lets running requests finish."""

    def __init__(self, micro: MicroService, handlers: Sequence["_Handler[Struct]"]) -> None:
        self._micro = micro
        self._handlers = handlers

    async def stop(self, *, deadline: float = 3.0) -> None:
        """Take no more requests, then wait for those being handled."""
        await self._micro.stop()
        running = [task for handler in self._handlers for task in handler.running]
        if running:
            await asyncio.wait(running, timeout=deadline)


async def serve(nc: Client, service: str, version: str, endpoints: Sequence[Endpoint]) -> EndpointServer:
    """Serve endpoints in the queue group of the service, discoverable with NATS micro tools."""
    micro = await add_service(nc, ServiceConfig(name=service, version=version, queue_group=service))
    handlers: list[_Handler[Struct]] = []
    for endpoint in endpoints:
        handler: _Handler[Struct] = _Handler(endpoint)
        handlers.append(handler)
        await micro.add_endpoint(
            EndpointConfig(
                name=endpoint.name.partition(".")[2].replace(".", "-"),
                subject=f"svc.{endpoint.name}",
                handler=handler.accept,
            )
        )
    await nc.flush()
    return EndpointServer(micro, handlers)


class _Handler(Generic[R]):
    """Decodes, runs and answers the requests of one endpoint, a bounded number at once."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_PER_ENDPOINT)
        self.running: set[asyncio.Task[None]] = set()

    async def accept(self, request: Request) -> None:
        """Start handling; waits while all slots are taken, which is the back-pressure."""
        await self._slots.acquire()
        task = asyncio.create_task(self._answer(request))
        self.running.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        self._slots.release()

    async def _answer(self, request: Request) -> None:
        name = self._endpoint.name
        started = time.perf_counter()
        headers = request.headers or {}
        outcome = "ok"
        with span_from(headers.get(_TRACEPARENT), f"serve {name}", kind=SpanKind.SERVER):
            try:
                answer = await self._handle(request.data, headers)
            except Exception as error:  # noqa: BLE001  # edge: a bug in a handler must not end the process
                refusal = refusal_for(error)
                outcome = refusal.code
                self._note(refusal, error)
                await _refuse(request, refusal)
            else:
                await request.respond(answer)
        metrics.observe_endpoint(name, outcome, time.perf_counter() - started)

    def _note(self, refusal: AppError, error: Exception) -> None:
        name = self._endpoint.name
        if isinstance(refusal, InternalError):
            log.exception("command.failed", endpoint=name, error=errors.described(error))
            metrics.remember_error(f"{name}: {errors.described(error)}")
        else:
            log.info("command.refused", endpoint=name, code=refusal.code, reason=str(error))

    async def _handle(self, payload: bytes, headers: dict[str, str]) -> bytes:
        context = _context_of(headers)
        if self._endpoint.request is None:
            return msgspec.json.encode(await self._endpoint.handle(payload, context))
        try:
            command = msgspec.json.decode(payload, type=self._endpoint.request)
        except _UNREADABLE as error:
            raise ValidationFailedError(str(error), details=errors.details_of(error)) from error
        return msgspec.json.encode(await self._endpoint.handle(command, context))


def _context_of(headers: dict[str, str]) -> CommandContext:
    workspace_id = headers.get(_WORKSPACE)
    if not workspace_id:
        raise ValidationFailedError(f"The header {_WORKSPACE} is missing.")
    return CommandContext(
        workspace_id=workspace_id,
        correlation_id=headers.get(_CORRELATION, ""),
        actor=headers.get(_ACTOR),
        traceparent=current_traceparent(),
    )


async def _refuse(request: Request, error: AppError) -> None:
    body = Refusal(code=error.code, status=error.status, message=error.message, details=error.details)
    description = error.message.replace("\r", " ").replace("\n", " ")
    await request.respond_error(str(error.status), description, data=msgspec.json.encode(body))
