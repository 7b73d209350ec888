"""The composition root: builds the gateway from its rooms."""

import random
from collections.abc import Sequence

from litestar.config.cors import CORSConfig
from litestar.datastructures import ResponseHeader
from runtime import VERSION
from runtime.errors import StartError
from runtime.service import Resources, Service

from services.gateway.identity.jwks import KeySet, Verifier
from services.gateway.identity.migrate import MigrationError, apply_migrations, pending_migrations
from services.gateway.identity.seed import seed_workspace
from services.gateway.identity.sessions import Sessions
from services.gateway.identity.tenancy.outbox import Relay
from services.gateway.openapi import document
from services.gateway.projections import projection
from services.gateway.routes import (
    auth,
    ingestion,
    issues,
    patterns,
    predictions,
    recommendations,
    workspaces,
)
from services.gateway.routes.dispatch import BODY_BYTES_MAX, handlers
from services.gateway.routes.explorer import explorer_routes
from services.gateway.routes.operation import AnyOperation, Gateway
from services.gateway.settings import GatewaySettings, check
from services.gateway.subscriptions.hub import Hub
from services.gateway.subscriptions.socket import stream_handler

NAME = "gateway"

OPERATIONS: Sequence[AnyOperation] = (
    *auth.OPERATIONS,
    *issues.OPERATIONS,
    *ingestion.OPERATIONS,
    *patterns.OPERATIONS,
    *predictions.OPERATIONS,
    *recommendations.OPERATIONS,
    *workspaces.OPERATIONS,
)
"""Everything that can be asked for under /v1."""

_SECURITY_HEADERS = (
    ResponseHeader(name="X-Content-Type-Options", value="nosniff"),
    ResponseHeader(name="Referrer-Policy", value="no-referrer"),
    ResponseHeader(name="X-Frame-Options", value="DENY"),
)


def build(settings: GatewaySettings, resources: Resources) -> Service:
    """The gateway: its read model, the routes over it, the stream behind it."""
    check(settings)
    pool = resources.pool(NAME)
    people = resources.pool("identity")
    sessions = Sessions(
        settings,
        people,
        verifier=verifier(settings),
        clock=resources.clock,
        rng=random.SystemRandom(),
    )
    gateway = Gateway(settings=settings, resources=resources, pool=pool, people=people, sessions=sessions)
    hub = Hub(resources, pool)
    relay = Relay(resources.event_log, url=settings.database_url)

    async def prepare() -> None:
        """Bring identity up to date, or say that somebody has to; in mock mode, seed."""
        await _migrate(settings)
        async with people.connection() as conn:
            missing = await pending_migrations(conn)
        if missing:
            raise StartError(
                f"The schema identity lacks {', '.join(missing)}."
                " Run `python -m services.gateway.identity.migrate` with DATABASE_OWNER_URL."
            )
        if settings.use_mock:
            await seed_workspace(settings.database_owner_url)

    return Service(
        name=NAME,
        projection=projection(),
        routes=[
            *handlers(OPERATIONS, gateway),
            *explorer_routes(document(OPERATIONS, version=VERSION)),
            stream_handler(hub, resources, secret=settings.jwt_secret),
        ],
        http={
            "cors_config": _cors(settings),
            "request_max_body_size": BODY_BYTES_MAX,
            "response_headers": list(_SECURITY_HEADERS),
        },
        dashboard_path="/status",
        on_start=[prepare],
        background=[hub.run, relay.run],
        alarms=relay.alarms,
    )


def verifier(settings: GatewaySettings) -> Verifier | None:
    """What checks the issuer's tokens; None when no issuer is configured."""
    if not settings.clerk_jwks_url:
        return None
    return Verifier(
        KeySet(settings.clerk_jwks_url),
        audience=settings.clerk_audience,
        parties=settings.clerk_authorized_parties,
    )


async def _migrate(settings: GatewaySettings) -> None:
    if not settings.database_owner_url:
        return
    try:
        await apply_migrations(settings.database_owner_url)
    except MigrationError as error:
        raise StartError(f"Identity migrations: {error}.") from error


def _cors(settings: GatewaySettings) -> CORSConfig:
    return CORSConfig(
        allow_origins=list(settings.cors_origins),
        allow_methods=["GET", "POST", "PATCH", "PUT", "OPTIONS"],
        allow_headers=["Authorization", "Content-Type", "X-Request-Id", "traceparent"],
        expose_headers=["X-Request-Id", "Retry-After"],
        max_age=600,
    )
