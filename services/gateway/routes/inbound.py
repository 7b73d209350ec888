"""What vendors post to a connector's address: raw bytes to ingest, which knows whom to believe, and its answer back."""

import asyncio
from base64 import b64encode
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qsl

import msgspec
import structlog
from contracts import connector
from litestar import Request
from litestar.enums import ScopeType
from litestar.exceptions import MethodNotAllowedException
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send
from msgspec import Struct
from nats.aio.client import Client
from runtime.broker import CommandContext, ask
from runtime.errors import AppError, UnavailableError, rebuild
from runtime.problems import PROBLEM_MEDIA_TYPE, answer_error
from runtime.sealing import BusSeal
from runtime.telemetry import current_traceparent

from services.gateway.edge.door import Headers, called_connector, visit_of
from services.gateway.edge.limits import Limits
from services.gateway.errors import PayloadTooLargeError, RateLimitedError, UnsupportedMediaTypeError

log = structlog.get_logger("gateway.inbound")

PATH = "/v1/webhooks/inbound/"
BODY_BYTES_MAX = 1024 * 1024
READ_SECONDS = 10.0
WORKSPACE_UNKNOWN: Final = "-"
"""The workspace of a request whose workspace ingest has to look up."""

CALLS_MAX = 64
BYTES_MAX = 2 * 1024 * 1024
"""Of the calls that travel together, in JSON; sealed they are less than twice that."""
FLIGHTS_MAX = 2
"""Requests under way at once: few, so that calls gather while ingest works, which costs it less than one by one."""
GATHER_SECONDS = 0.01
"""How long a call waits for others at most. They travel to ingest together, and those to one connector are counted by one
message."""
WAITING_BYTES_MAX = 32 * 1024 * 1024
"""Of the calls that wait, in JSON."""
BELIEVED_MAX = 10_000

_METHODS: Final = frozenset({"POST", "GET", "HEAD"})
_ALLOW: Final = (b"allow", b"GET, HEAD, OPTIONS, POST")
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
        # Written here, and once: so all of a call counts, to the byte.
        written = msgspec.json.encode(call)
        letter = _Letter(msgspec.Raw(written), len(written), asyncio.get_running_loop().create_future())
        if self._waiting_bytes + letter.n_bytes > WAITING_BYTES_MAX:
            raise UnavailableError("Too many deliveries wait. Send it again.", retry_after=5.0)
        if not self._waiting:
            # Those who were let in together come together.
            asyncio.get_running_loop().call_soon(self._depart)
        self._waiting.append(letter)
        self._waiting_bytes += letter.n_bytes
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
        failed: AppError = UnavailableError("It could not be brought to ingest. Send it again.")
        try:
            answers = await self._ask([letter.call for letter in letters])
            for letter, answer in zip(letters, answers, strict=True):
                if not letter.answer.done():
                    letter.answer.set_result(answer)
        except AppError as error:
            failed = error
        except Exception:  # the edge: those who wait are answered, whatever went wrong
            log.exception("calls.not_brought", n_calls=len(letters))
        finally:
            # Also where this is cancelled: nobody else would ever end them.
            for letter in letters:
                if not letter.answer.done():
                    letter.answer.set_exception(failed)

    async def _ask(self, calls: Sequence[msgspec.Raw]) -> Sequence[connector.VendorAnswer]:
        text = msgspec.json.encode(_VendorCalls(tuple(calls))).decode()
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


class _VendorCalls(Struct):
    """connector.VendorCalls, of calls that are JSON already."""

    calls: tuple[msgspec.Raw, ...]


class _Letter(Struct):
    call: msgspec.Raw
    n_bytes: int
    answer: asyncio.Future[connector.VendorAnswer]


class Gathering:
    """Holds up those who come within so many seconds of each other, and lets them go together: what is done for a crowd at
    once costs less for each of it."""

    def __init__(self, *, every: float) -> None:
        self._every = every
        self._next_at = 0.0
        self._ending: asyncio.Event | None = None

    async def end(self) -> None:
        """Return when it is over: at once for one who comes when nobody came for so long."""
        loop = asyncio.get_running_loop()
        if self._ending is None:
            if loop.time() >= self._next_at:
                self._next_at = loop.time() + self._every
                return
            self._ending = asyncio.Event()
            loop.call_at(self._next_at, self._go, self._ending)
        await self._ending.wait()

    def _go(self, ending: asyncio.Event) -> None:
        self._ending = None
        self._next_at = asyncio.get_running_loop().time() + self._every
        ending.set()


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
        self._gathering = Gathering(every=GATHER_SECONDS)
        self._believed: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def receive(self, scope: HTTPScope, receive: Receive) -> connector.VendorAnswer:
        """The answer to a call. Raises an AppError for what becomes a problem."""
        connector_id, address = called_connector(scope["path"]) or "", visit_of(scope).address
        caller = (connector_id, address)
        await self._gathering.end()
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
            ticket = self._limits.take_delivery(connector_id)
        else:
            ticket = self._limits.take_unknown(address)
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


class Inbound:
    """The application, and before it the address that vendors post to, which asks for no token.

    Not a route: what the framework does around a handler costs as much as all that is done here.
    """

    def __init__(self, inner: ASGIApp, porter: Porter) -> None:
        self._inner = inner
        self._porter = porter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != ScopeType.HTTP or called_connector(scope["path"]) is None:
            await self._inner(scope, receive, send)
            return
        scope["path_template"] = f"{PATH}{{connector_id}}"
        try:
            status, headers, body = await self._answer(scope, receive)
        except Exception as error:  # noqa: BLE001  # edge: what is wrong becomes the answer
            status, headers, body = _refusal(scope, error)
        headers += [(b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        sent = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": sent, "more_body": False})

    async def _answer(self, scope: HTTPScope, receive: Receive) -> tuple[int, Headers, bytes]:
        if scope["method"] == "OPTIONS":
            return 204, [_ALLOW], b""
        if scope["method"] not in _METHODS:
            raise MethodNotAllowedException(headers={"Allow": _ALLOW[1].decode()})
        answer = await self._porter.receive(scope, receive)
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
        if answer.content_type:
            kind = answer.content_type
            text = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
            headers.append((b"content-type", text.encode()))
        return answer.status, headers, answer.body.encode()


def _refusal(scope: HTTPScope, error: Exception) -> tuple[int, Headers, bytes]:
    """The problem that an error is answered with."""
    response = answer_error(Request(scope), error)
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in response.headers.items()]
    body = msgspec.json.encode(response.content)
    return response.status_code or 500, [(b"content-type", PROBLEM_MEDIA_TYPE.encode()), *headers], body


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
