"""What vendors post to a connector's address: raw bytes to ingest, which knows whom to believe, and its answer back."""

import asyncio
from base64 import b64encode
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qsl

import msgspec
from contracts import connector
from litestar import Response
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler
from litestar.types import HTTPScope, Receive
from msgspec import Struct
from nats.aio.client import Client
from runtime.broker import CommandContext, ask
from runtime.errors import AppError, UnavailableError, rebuild
from runtime.sealing import BusSeal
from runtime.telemetry import current_traceparent

from services.gateway.edge.door import visit_of
from services.gateway.edge.limits import Limits
from services.gateway.errors import PayloadTooLargeError, RateLimitedError, UnsupportedMediaTypeError
from services.gateway.routes.dispatch import AnyRequest

PATH = "/v1/webhooks/inbound/"
BODY_BYTES_MAX = 1024 * 1024
READ_SECONDS = 10.0
WORKSPACE_UNKNOWN: Final = "-"
"""The workspace of a request whose workspace ingest has to look up."""

CALLS_MAX = 64
BYTES_MAX = 2 * 1024 * 1024
"""Of the calls that travel together; sealed they are less than twice that."""
FLIGHTS_MAX = 2
"""Requests under way at once: few, so that calls gather while ingest works, which costs it less than one by one."""
WAITING_BYTES_MAX = 32 * 1024 * 1024
BELIEVED_MAX = 10_000

_CODES = {400: "validation_error", 401: "unauthorized", 404: "not_found", 409: "conflict", 503: "unavailable"}


class Courier:
    """Brings vendors' calls to ingest; those that come while others are under way travel together."""

    def __init__(self, nc: Client, seal: BusSeal) -> None:
        self._nc = nc
        self._seal = seal
        self._waiting: deque[_Letter] = deque()
        self._waiting_bytes = 0
        self._flights: set[asyncio.Task[None]] = set()

    async def bring(self, call: connector.VendorCall) -> connector.VendorAnswer:
        """What ingest answers. Raises UnavailableError when it does not, or when too much waits for it."""
        letter = _Letter(call, len(call.body), asyncio.get_running_loop().create_future())
        if self._waiting_bytes + letter.n_bytes > WAITING_BYTES_MAX:
            raise UnavailableError("Too many deliveries wait. Send it again.", retry_after=5.0)
        self._waiting.append(letter)
        self._waiting_bytes += letter.n_bytes
        self._depart()
        return await letter.answer

    def _depart(self) -> None:
        while self._waiting and len(self._flights) < FLIGHTS_MAX:
            letters: list[_Letter] = []
            n_bytes = 0
            while self._waiting and len(letters) < CALLS_MAX:
                n_bytes += self._waiting[0].n_bytes
                if letters and n_bytes > BYTES_MAX:
                    break
                letters.append(self._waiting.popleft())
            self._waiting_bytes -= sum(letter.n_bytes for letter in letters)
            flight = asyncio.create_task(self._fly(letters))
            self._flights.add(flight)
            flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        self._depart()

    async def _fly(self, letters: Sequence["_Letter"]) -> None:
        try:
            answers = await self._ask([letter.call for letter in letters])
        except AppError as error:
            for letter in letters:
                if not letter.answer.done():
                    letter.answer.set_exception(error)
            return
        for letter, answer in zip(letters, answers, strict=True):
            if not letter.answer.done():
                letter.answer.set_result(answer)

    async def _ask(self, calls: Sequence[connector.VendorCall]) -> Sequence[connector.VendorAnswer]:
        text = msgspec.json.encode(connector.VendorCalls(calls=tuple(calls))).decode()
        sealed = self._seal.seal(text, workspace_id=WORKSPACE_UNKNOWN, what="vendor_calls")
        reply = await ask(
            self._nc,
            connector.ReceiveDelivery(sealed_calls=sealed),
            endpoint=connector.ENDPOINTS[connector.ReceiveDelivery],
            reply=connector.DeliveryAnswered,
            context=CommandContext(
                workspace_id=WORKSPACE_UNKNOWN, correlation_id="", traceparent=current_traceparent()
            ),
        )
        if len(reply.answers) != len(calls):
            raise UnavailableError("ingest answered something else. Send it again.")
        return reply.answers


class _Letter(Struct):
    call: connector.VendorCall
    n_bytes: int
    answer: asyncio.Future[connector.VendorAnswer]


class Porter:
    """Lets vendors' calls in: bounded in size, time and number.

    A caller that has proved itself at a connector's address counts there; until then, and again once it is refused,
    it counts for its own address like anybody without credentials, so that nobody can guess addresses or signatures.
    origin: how vendors write our address, for those that sign it.
    """

    def __init__(self, courier: Courier, limits: Limits, *, origin: str) -> None:
        self._courier = courier
        self._limits = limits
        self._origin = origin
        self._believed: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def receive(self, scope: HTTPScope, receive: Receive) -> connector.VendorAnswer:
        """The answer to a call. Raises an AppError for what becomes a problem."""
        connector_id, address = scope["path"].removeprefix(PATH), visit_of(scope).address
        caller = (connector_id, address)
        await self._count(caller)
        body = await _body(scope, receive)
        answer = await self._courier.bring(self._call(connector_id, scope, body))
        self._note(caller, answer.status)
        if answer.status >= 400:
            raise rebuild(_CODES.get(answer.status, "error"), answer.status, answer.body)
        return answer

    async def _count(self, caller: tuple[str, str]) -> None:
        connector_id, address = caller
        if caller in self._believed:
            ticket = await self._limits.take_delivery(connector_id)
        else:
            ticket = await self._limits.take_unknown(address)
        standing = await ticket.standing()
        if standing.is_over:
            raise RateLimitedError(
                "Too many deliveries came in this minute. Send it again.",
                retry_after=float(standing.reset_seconds),
            )

    def _note(self, caller: tuple[str, str], status: int) -> None:
        if status in (401, 404):
            self._believed.pop(caller, None)
        elif status == 202 and caller not in self._believed:
            self._believed[caller] = None
            if len(self._believed) > BELIEVED_MAX:
                self._believed.popitem(last=False)

    def _call(self, connector_id: str, scope: HTTPScope, body: bytes) -> connector.VendorCall:
        query = scope["query_string"].decode("latin-1")
        path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1").partition("?")[0]
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
        return connector.VendorCall(
            connector_id=connector_id,
            method=scope["method"],
            url=f"{self._origin}{path}{f'?{query}' if query else ''}",
            headers=headers,
            query=dict(parse_qsl(query, keep_blank_values=True)),
            body=b64encode(body).decode(),
        )


def inbound_route(porter: Porter) -> HTTPRouteHandler:
    """The handler of /v1/webhooks/inbound/{connector_id}, which asks for no token."""

    async def inbound(request: AnyRequest) -> Response[bytes]:
        answer = await porter.receive(request.scope, request.receive)
        return Response(
            answer.body.encode(),
            status_code=answer.status,
            media_type=answer.content_type or None,
            headers={"Cache-Control": "no-store", **answer.headers},
        )

    return HTTPRouteHandler(
        f"{PATH}{{connector_id:str}}",
        http_method=[HttpMethod.POST, HttpMethod.GET, HttpMethod.HEAD],
        status_code=202,
        include_in_schema=False,
    )(inbound)


async def _body(scope: HTTPScope, receive: Receive) -> bytes:
    """The raw bytes, as many as may be. Raises PayloadTooLargeError and UnsupportedMediaTypeError."""
    headers = dict(reversed(list(scope["headers"])))
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        # A few kilobytes can unfold to gigabytes, and what is signed is seldom what is compressed.
        raise UnsupportedMediaTypeError("Send the body without compression (Content-Encoding).")
    too_large = PayloadTooLargeError(f"The body is longer than {BODY_BYTES_MAX} bytes.")
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and int(announced) > BODY_BYTES_MAX:
        raise too_large
    parts: list[bytes] = []
    n_bytes = 0
    try:
        async with asyncio.timeout(READ_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise UnavailableError("The call broke off.")
                parts.append(message["body"])
                n_bytes += len(message["body"])
                if n_bytes > BODY_BYTES_MAX:
                    raise too_large
                if not message["more_body"]:
                    return b"".join(parts)
    except TimeoutError as error:
        raise UnavailableError(f"The body did not come within {READ_SECONDS:g} s.") from error
