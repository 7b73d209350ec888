"""The web face that every service has: probes, metrics, the dashboard, and errors of one shape."""

import base64
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from litestar import Litestar, MediaType, Response, get
from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.exceptions import NotAuthorizedException, NotFoundException
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, Guard, Message, Receive, Scope, Send
from litestar.types.composite_types import ExceptionHandlersMap
from opentelemetry.trace import SpanKind
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from runtime import metrics
from runtime.health import ServiceStatus
from runtime.problems import answer_error, request_id
from runtime.telemetry import span_from

log = structlog.get_logger()

Ready = Callable[[], Awaitable[Sequence[str]]]

_QUIET_PATHS = frozenset({"/health", "/ready", "/metrics", "/status.json"})
_ASSETS = Path(__file__).with_name("dashboard")


async def _always_ready() -> Sequence[str]:
    return ()


def build_app(
    service: str,
    *,
    status: Callable[[], ServiceStatus],
    ready: Ready | None = None,
    routes: Sequence[Any] = (),  # Any: whatever Litestar takes as a route handler
    dashboard_path: str = "/",
    operations_token: str | None = "",
    around: Callable[[ASGIApp], ASGIApp] | None = None,
    **options: Any,  # Any: handed to Litestar as they are
) -> Litestar:
    """The Litestar app of a service: its routes, /health, /ready, /metrics, /status.json and the dashboard.

    status: the present state, cheap. ready: reasons why requests cannot be answered, asked at each /ready.
    operations_token: what the last three ask for; "": nothing; None: they are not there.
    around: wraps the whole application, also what answers a path that does not exist.
    options: further arguments of Litestar; OpenAPI is off unless `openapi_config` is among them.
    """
    handlers: ExceptionHandlersMap = {Exception: answer_error, **options.pop("exception_handlers", {})}
    options.setdefault("openapi_config", None)
    app = Litestar(
        route_handlers=[
            *routes,
            *_probes(status, ready or _always_ready),
            *_views(service, status, dashboard_path, guard=_asking_for(operations_token)),
        ],
        exception_handlers=handlers,
        # Litestar would set up logging for the whole process otherwise.
        logging_config=None,
        **options,
    )
    # Outside of the router, because Litestar's own middleware does not see a 404.
    app.asgi_handler = _Observed(around(app.asgi_handler) if around else app.asgi_handler)
    return app


def _probes(status: Callable[[], ServiceStatus], ready: Ready) -> list[Any]:  # Any: Litestar's handlers
    @get("/health", include_in_schema=True, sync_to_thread=False, operation_id="health", tags=["Operations"])
    def health() -> Response[dict[str, str]]:
        """Whether the process lives and wants requests."""
        if status().is_stopping:
            return Response({"status": "unhealthy"}, status_code=503)
        return Response({"status": "ok"})

    @get("/ready", include_in_schema=True, operation_id="ready", tags=["Operations"])
    async def readiness() -> Response[dict[str, object]]:
        """Whether requests can be answered now, and if not, why."""
        now = status()
        reasons = [*now.reasons, *await ready()]
        is_ready = now.is_ready and (now.state == "degraded" or not reasons)
        word = now.state if is_ready else "not_ready"
        return Response({"status": word, "reasons": reasons}, status_code=200 if is_ready else 503)

    return [health, readiness]


def _views(
    service: str, status: Callable[[], ServiceStatus], dashboard_path: str, *, guard: Guard
) -> list[Any]:  # Any: Litestar's handlers
    page, headers = dashboard_page(service)

    @get("/metrics", include_in_schema=False, sync_to_thread=False, guards=[guard])
    def prometheus() -> Response[bytes]:
        """All metrics in the Prometheus text format."""
        _set_gauges(status())
        return Response(generate_latest(metrics.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @get("/status.json", include_in_schema=False, sync_to_thread=False, guards=[guard])
    def as_json() -> Response[ServiceStatus]:
        """What the dashboard shows."""
        return Response(status(), headers={"Cache-Control": "no-store"})

    @get(
        dashboard_path,
        include_in_schema=False,
        sync_to_thread=False,
        media_type=MediaType.HTML,
        guards=[guard],
    )
    def dashboard() -> Response[bytes]:
        """The health dashboard, a page for people."""
        return Response(page, media_type=MediaType.HTML, headers=headers)

    return [prometheus, as_json, dashboard]


def _asking_for(token: str | None) -> Guard:
    def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:  # Any: any user
        if token is None:
            raise NotFoundException
        if token and not hmac.compare_digest(_given(connection.headers), token.encode()):
            raise NotAuthorizedException(
                "Send OPERATIONS_TOKEN as a bearer token, or as the password of any user.",
                # The challenge that browsers ask people for; their answer then goes with the page's own requests.
                headers={"WWW-Authenticate": 'Basic realm="Causeloop operations", charset="UTF-8"'},
            )

    return guard


def _given(headers: Mapping[str, str]) -> bytes:
    """The token of a request, sent as RFC 6750 or as the password of RFC 7617; empty when there is none."""
    kind, _, credentials = headers.get("authorization", "").partition(" ")
    match kind.lower():
        case "bearer":
            return credentials.strip().encode()
        case "basic":
            try:
                return base64.b64decode(credentials, validate=True).partition(b":")[2]
            except ValueError:
                return b""
        case _:
            return b""


def _set_gauges(now: ServiceStatus) -> None:
    for partition in now.partitions:
        labels = (now.service, str(partition.partition))
        metrics.PROJECTOR_POSITION.labels(*labels).set(partition.position)
        metrics.PROJECTOR_LAG.labels(*labels).set(partition.lag)
        metrics.PROJECTOR_LEADER.labels(*labels).set(partition.leader)
        metrics.PROJECTOR_STOPPED.labels(*labels).set(partition.state == "stopped")


@cache
def dashboard_page(service: str) -> tuple[bytes, dict[str, str]]:
    """The page, and the headers that let it run only its own script and style, by their hashes."""
    style = (_ASSETS / "page.css").read_text()
    script = (_ASSETS / "page.js").read_text()
    page = (_ASSETS / "page.html").read_text()
    page = (
        page.replace("{{service}}", service.title()).replace("{{style}}", style).replace("{{script}}", script)
    )
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page.encode(), {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


class _Observed:
    """Gives every HTTP request a trace, an X-Request-Id, a metric and one log line."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._inner(scope, receive, send)
            return
        started = time.perf_counter()
        sent = 500
        method, path = scope["method"], scope["path"]
        with span_from(_traceparent_of(scope), f"{method} {path}", kind=SpanKind.SERVER):
            identity = request_id()

            async def send_with_id(message: Message) -> None:
                nonlocal sent
                if message["type"] == "http.response.start":
                    sent = message["status"]
                    message["headers"] = [*message["headers"], (b"x-request-id", identity.encode())]
                await send(message)

            try:
                await self._inner(scope, receive, send_with_id)
            finally:
                if path not in _QUIET_PATHS:
                    seconds = time.perf_counter() - started
                    # The template, never the path with its ids: each value is a time series.
                    route = str(scope.get("path_template") or "unmatched")
                    metrics.observe_http(method, route, status=sent, seconds=seconds)
                    log.info(
                        "request.answered",
                        method=method,
                        path=path,
                        status=sent,
                        duration_ms=round(seconds * 1000, 2),
                        request_id=identity,
                    )


def _traceparent_of(scope: Scope) -> str | None:
    """The caller's trace: its traceparent, or one made of its X-Request-Id when that is a UUID."""
    asked = None
    for name, value in scope["headers"]:
        if name == b"traceparent":
            return value.decode("latin-1")
        if name == b"x-request-id":
            asked = value
    if asked is None:
        return None
    try:
        trace_id = UUID(asked.decode("latin-1")).hex
    except ValueError:
        return None
    return f"00-{trace_id}-{trace_id[16:]}-01"
