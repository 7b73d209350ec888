"""The outermost layer of the gateway: who asks, how often, from which page; and headers that every answer has."""

import re
from collections.abc import Mapping

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from msgspec import Struct
from runtime.errors import AppError, ForbiddenError, UnauthorizedError
from runtime.problems import PROBLEM_MEDIA_TYPE, problem

from services.gateway.edge.address import Addresses
from services.gateway.edge.cookies import ACCESS, is_from_own_page, read_cookies
from services.gateway.edge.limits import Limits, Ticket
from services.gateway.errors import HeadersTooLargeError, RateLimitedError, UriTooLongError
from services.gateway.identity.access.authority import Authority, bearer
from services.gateway.identity.tokens import Principal

Headers = list[tuple[bytes, bytes]]

TARGET_BYTES_MAX = 8 * 1024
HEADER_BYTES_MAX = 32 * 1024

_SIGN_IN = "/v1/auth/"
_VENDOR_CALL = re.compile(r"/v1/webhooks/inbound/([^/]+)/?")
_SAFE = frozenset({"GET", "HEAD"})
_ALWAYS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]
_IN_PRODUCTION: Headers = [(b"strict-transport-security", b"max-age=31536000; includeSubDomains")]
_ON_DATA: Headers = [(b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")]
_VARIES = (b"vary", b"Origin")
_MAY_ASK: Headers = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, PATCH, PUT, DELETE, OPTIONS"),
    (
        b"access-control-allow-headers",
        b"Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Prefer, X-Request-Id, traceparent",
    ),
    (b"access-control-max-age", b"600"),
]
_MAY_SEE: Headers = [
    (
        b"access-control-expose-headers",
        b"ETag, Idempotency-Replayed, Location, Preference-Applied, Retry-After, X-RateLimit-Limit,"
        b" X-RateLimit-Remaining, X-RateLimit-Reset, X-Request-Id",
    ),
]


class Visit(Struct, frozen=True):
    """What the door knows of a request under /v1.

    principal: whose credentials it has; None: `refusal` says what is wrong with them.
    headers: by lower-case name, the first of each.
    cookies: those that the request may act with.
    """

    address: str
    headers: Mapping[bytes, bytes]
    cookies: Mapping[str, str]
    principal: Principal | None
    refusal: Exception | None

    def header(self, name: bytes) -> str | None:
        """A header's value; None when it is absent."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def allowed(self) -> Principal:
        """The principal. Raises what is wrong with the credentials."""
        if self.principal is None:
            raise self.refusal or UnauthorizedError("Send a token.")
        return self.principal


def visit_of(scope: Scope) -> Visit:
    """What the door found out about a request that it let in."""
    visit = scope["state"]["visit"]
    assert isinstance(visit, Visit)
    return visit


def called_connector(path: str) -> str | None:
    """The connector whose address a path is; None: it is no such address, and counted like any other path."""
    found = _VENDOR_CALL.fullmatch(path)
    return found and found[1]


async def recognised(token: str, *, address: str, access: Authority, limits: Limits) -> Principal:
    """Whom a token speaks for. Raises what `Authority.principal` does, and RateLimitedError.

    Whoever has used up an address's requests may still come with a token that is known here, and cannot make the
    database look at one made-up token after another.
    """
    if limits.is_full(address) and not access.is_known(token):
        raise RateLimitedError("Too many requests without good credentials came from this address.")
    return await access.principal(token)


class Door:
    """Wraps the whole application, so that a path that does not exist is counted and answered like any other.

    Requests with good credentials count for their organization, all others, and everything under /v1/auth/, for their
    address. Preflights and OPTIONS are free: they carry no credentials and touch nothing. What vendors post is counted
    where it is received: whatever credentials it has are not ours.
    """

    def __init__(
        self,
        inner: ASGIApp,
        *,
        access: Authority,
        limits: Limits,
        addresses: Addresses,
        origins: tuple[str, ...],
        own_origin: str,
        is_production: bool,
    ) -> None:
        self._inner = inner
        self._access = access
        self._limits = limits
        self._addresses = addresses
        self._origins = frozenset(origin.encode() for origin in origins)
        self._pages = frozenset({own_origin, *origins})
        self._always = _ALWAYS + (_IN_PRODUCTION if is_production else [])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != ScopeType.HTTP:
            await self._inner(scope, receive, send)
            return
        # The first of each name: whoever puts a second one behind ours must not be heard.
        headers = dict(reversed(list(scope["headers"])))
        is_preflight = scope["method"] == "OPTIONS" and b"access-control-request-method" in headers
        page = self._for_page(headers.get(b"origin"), is_preflight=is_preflight)
        leaving = _Exit(send, [*self._always, *page])
        if refusal := _too_large(scope):
            await leaving.refuse(scope, refusal)
        elif is_preflight:
            await leaving.empty(204)
        elif scope["method"] == "OPTIONS" or not f"{scope['path']}/".startswith("/v1/"):
            await self._inner(scope, receive, leaving.send)
        elif called_connector(scope["path"]) is not None:
            leaving.headers += _ON_DATA
            scope["state"]["visit"] = Visit(self._addresses.of(scope), headers, {}, None, None)
            await self._inner(scope, receive, leaving.send)
        else:
            await self._count_and_answer(scope, receive, leaving, headers)

    async def _count_and_answer(
        self, scope: HTTPScope, receive: Receive, leaving: "_Exit", headers: Mapping[bytes, bytes]
    ) -> None:
        visit = await self._look(scope, headers)
        scope["state"]["visit"] = visit
        is_signing_in = scope["path"].startswith(_SIGN_IN)
        leaving.ticket = self._limits.take(
            address=visit.address, principal=None if is_signing_in else visit.principal
        )
        leaving.target = scope
        leaving.headers += _ON_DATA
        # What changes nothing may run while it is counted; if it was one too many, nobody sees what it found.
        ticket = leaving.ticket
        if ticket is not None and (ticket.is_refused or is_signing_in or scope["method"] not in _SAFE):
            standing = await ticket.standing()
            if standing.is_over:
                await leaving.refuse(scope, standing.refusal())
                return
        await self._inner(scope, receive, leaving.send)

    async def _look(self, scope: HTTPScope, headers: Mapping[bytes, bytes]) -> Visit:
        principal: Principal | None = None
        refusal: Exception | None = None
        address = self._addresses.of(scope)
        cookies = read_cookies(headers.get(b"cookie"))
        is_ours = is_from_own_page(scope["method"], headers, self._pages)
        try:
            given = headers.get(b"authorization", b"").decode("latin-1")
            token = bearer({"authorization": given}) if given or ACCESS not in cookies else cookies[ACCESS]
            if not given and ACCESS in cookies and not is_ours:
                raise ForbiddenError("Cookies are good for requests of our own pages only (Origin).")
            principal = await recognised(token, address=address, access=self._access, limits=self._limits)
        except Exception as error:  # noqa: BLE001  # edge: raised again where it becomes an answer, if it matters
            refusal = error
        return Visit(address, headers, cookies if is_ours else {}, principal, refusal)

    def _for_page(self, origin: bytes | None, *, is_preflight: bool) -> Headers:
        """What lets a page of another origin ask and see the answer, if it is one of ours (Fetch, section 3.2)."""
        if origin is None:
            return []
        if origin not in self._origins:
            return [_VARIES]
        allowed: Headers = [
            _VARIES,
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
        ]
        return [*allowed, *(_MAY_ASK if is_preflight else _MAY_SEE)]


class _Exit:
    """Sends an answer with the headers that every one has, once it is known how the request stands in its window."""

    def __init__(self, send: Send, headers: Headers) -> None:
        self._send = send
        self.headers = headers
        self.ticket: Ticket | None = None
        self.target: Scope | None = None
        self._is_refused = False

    async def send(self, message: Message) -> None:
        """Pass on what the application sends; a 429 instead when the request was one too many."""
        if self._is_refused:
            return
        if message["type"] == "http.response.start":
            if self.ticket is not None:
                standing = await self.ticket.standing()
                if standing.is_over and self.target is not None:
                    self._is_refused = True
                    await self.refuse(self.target, standing.refusal())
                    return
                self.headers += standing.headers()
            taken = {name for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *(header for header in self.headers if header[0] not in taken),
            ]
        await self._send(message)

    async def empty(self, status: int) -> None:
        """Answer without a body."""
        await self._answer(status, self.headers, b"")

    async def refuse(self, scope: Scope, refusal: AppError) -> None:
        """Answer with a problem."""
        body = msgspec.json.encode(
            problem(
                scope["path"],
                code=refusal.code,
                status=refusal.status,
                message=refusal.message,
                details=refusal.details,
            )
        )
        headers: Headers = [(b"content-type", PROBLEM_MEDIA_TYPE.encode()), *self.headers]
        if refusal.retry_after is not None:
            headers.append((b"retry-after", b"%d" % max(1, round(refusal.retry_after))))
        if self.ticket is not None:
            headers += (await self.ticket.standing()).headers()
        await self._answer(refusal.status, headers, body)

    async def _answer(self, status: int, headers: Headers, body: bytes) -> None:
        start = [*headers, (b"content-length", b"%d" % len(body))]
        await self._send({"type": "http.response.start", "status": status, "headers": start})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def _too_large(scope: Scope) -> AppError | None:
    """The refusal of a request line or of headers that nobody needs."""
    if len(scope["path"]) + len(scope["query_string"]) > TARGET_BYTES_MAX:
        return UriTooLongError(f"The path and query are longer than {TARGET_BYTES_MAX} bytes.")
    if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES_MAX:
        return HeadersTooLargeError(f"The headers are longer than {HEADER_BYTES_MAX} bytes.")
    return None
