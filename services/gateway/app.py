"""The composition root: builds the gateway from its rooms."""

import random
from collections.abc import Sequence

from litestar.types import ASGIApp
from msgspec import Struct
from msgspec.structs import replace
from runtime import VERSION
from runtime.database import Pool
from runtime.outbound import EVERYWHERE, INTERNET, Outbound, Reach
from runtime.service import Resources, Service

from services.gateway.catalogue import Catalogue
from services.gateway.edge.address import Addresses
from services.gateway.edge.cookies import FLOW_PATH
from services.gateway.edge.counters import Counters
from services.gateway.edge.door import Door
from services.gateway.edge.idempotency import Once
from services.gateway.edge.limits import Limits
from services.gateway.edge.quota import Quota
from services.gateway.explaining.advice import Adviser
from services.gateway.explaining.analyst import Analyst
from services.gateway.explaining.models import Models
from services.gateway.governance.erasing import Eraser
from services.gateway.governance.exporting import Exporter
from services.gateway.governance.retaining import Retainer
from services.gateway.governance.steward import Steward
from services.gateway.identity.access.authority import Authority
from services.gateway.identity.governance.certificates import Signer
from services.gateway.identity.jwks import Fetch, KeySet, Verifier
from services.gateway.identity.mfa.factors import SecondFactors
from services.gateway.identity.mfa.passkeys import RelyingParty, origin_of
from services.gateway.identity.migrate import MIGRATIONS
from services.gateway.identity.people.postbox import Postbox
from services.gateway.identity.people.scribe import Scribe
from services.gateway.identity.seed import seed_workspace
from services.gateway.identity.sessions import Sessions
from services.gateway.identity.signin.connections import Connections
from services.gateway.identity.signin.providers import Client, Issuers, Providers
from services.gateway.identity.signin.signin import SignIn
from services.gateway.identity.tenancy.outbox import Relay
from services.gateway.identity.vault.keys import Vault
from services.gateway.identity.webhooks.sending import Sender
from services.gateway.mail import Catcher, Smtp, Transport, read_smtp_url
from services.gateway.openapi import document
from services.gateway.past import Pasts
from services.gateway.projections import projection
from services.gateway.routes import (
    activity,
    ai_settings,
    analyses,
    audit,
    auth,
    bulk,
    clusters,
    connector_access,
    connector_catalog,
    connectors,
    constraints,
    fixes,
    governance,
    grouping,
    inbound,
    ingestion,
    invitations,
    issues,
    links,
    mappings,
    members,
    mfa,
    notifications,
    onboarding,
    pattern_members,
    patterns,
    playbook,
    predictions,
    profile,
    proofs,
    provisioning,
    recommendations,
    scim_groups,
    service_accounts,
    sessions,
    signin,
    similar,
    sso,
    suggestions,
    sync_runs,
    tickets,
    tokens,
    webhook_deliveries,
    webhooks,
    welcome,
    workspaces,
)
from services.gateway.routes.connector_access import callback_routes
from services.gateway.routes.dispatch import BODY_BYTES_MAX, handlers
from services.gateway.routes.explorer import explorer_routes
from services.gateway.routes.exports import download_routes
from services.gateway.routes.inbound_described import TEMPLATE, inbound_item
from services.gateway.routes.mailbox import mailbox_routes
from services.gateway.routes.operation import AnyOperation, Gateway
from services.gateway.routes.scim import scim_routes
from services.gateway.settings import GatewaySettings, check
from services.gateway.subscriptions.herald import Herald
from services.gateway.subscriptions.hub import Hub
from services.gateway.subscriptions.jobs import Announcer
from services.gateway.subscriptions.messenger import Messenger
from services.gateway.subscriptions.socket import Gate, stream_handler
from services.gateway.subscriptions.tickets import Tickets

NAME = "gateway"

OPERATIONS: Sequence[AnyOperation] = (
    *auth.OPERATIONS,
    *signin.OPERATIONS,
    *links.OPERATIONS,
    *profile.OPERATIONS,
    *sessions.OPERATIONS,
    *tickets.OPERATIONS,
    *tokens.OPERATIONS,
    *service_accounts.OPERATIONS,
    *mfa.OPERATIONS,
    *sso.OPERATIONS,
    *issues.OPERATIONS,
    *analyses.OPERATIONS,
    *bulk.OPERATIONS,
    *activity.OPERATIONS,
    *ingestion.OPERATIONS,
    *connector_catalog.OPERATIONS,
    *connectors.OPERATIONS,
    *connector_access.OPERATIONS,
    *sync_runs.OPERATIONS,
    *mappings.OPERATIONS,
    *webhooks.OPERATIONS,
    *webhook_deliveries.OPERATIONS,
    *patterns.OPERATIONS,
    *pattern_members.OPERATIONS,
    *fixes.OPERATIONS,
    *proofs.OPERATIONS,
    *clusters.OPERATIONS,
    *grouping.OPERATIONS,
    *predictions.OPERATIONS,
    *suggestions.OPERATIONS,
    *constraints.OPERATIONS,
    *similar.OPERATIONS,
    *recommendations.OPERATIONS,
    *playbook.OPERATIONS,
    *workspaces.OPERATIONS,
    *ai_settings.OPERATIONS,
    *onboarding.OPERATIONS,
    *provisioning.OPERATIONS,
    *members.OPERATIONS,
    *invitations.OPERATIONS,
    *notifications.OPERATIONS,
    *scim_groups.OPERATIONS,
    *audit.OPERATIONS,
    *governance.OPERATIONS,
)
"""Everything that can be asked for under /v1."""


class _Asking(Struct, frozen=True, kw_only=True):
    """What asks over the network. trusted: whom the operator names; the others: whom workspaces name."""

    trusted: Outbound
    providers: Outbound
    models: Outbound
    receivers: Outbound


def build(settings: GatewaySettings, resources: Resources) -> Service:
    """The gateway: its read model, the routes over it, the stream behind it."""
    check(settings)
    catcher = Catcher() if settings.catches_mail else None
    asking = _asking(settings)
    gateway = _gateway(settings, resources, asking, catcher)
    counters = Counters(resources.nc, replicas=settings.replicas)
    limits = Limits(
        counters,
        per_address=settings.ip_requests_per_minute,
        per_connector=settings.webhook_deliveries_per_minute,
        clock=resources.clock,
    )
    addresses = Addresses(settings.trusted_proxies)
    hub = Hub(resources, gateway.pool)
    gateway.access.on_change(hub.wake)
    gate = Gate(
        access=gateway.access,
        tickets=Tickets(counters, secrets=settings.jwt_secrets, clock=resources.clock),
        limits=limits,
        addresses=addresses,
    )
    relay = Relay(resources.event_log, url=settings.database_url)
    steward = _steward(gateway)
    announcer = Announcer(gateway, hub, url=settings.database_url)
    messenger = Messenger(gateway, gateway.webhooks)
    herald = Herald(gateway, on_queued=messenger.wake)

    return Service(
        name=NAME,
        projection=projection(),
        routes=[
            *handlers(OPERATIONS, gateway),
            *explorer_routes(document(OPERATIONS, version=VERSION, items={TEMPLATE: inbound_item()})),
            *scim_routes(gateway),
            *welcome.ROUTES,
            *links.ROUTES,
            *download_routes(gateway),
            *callback_routes(gateway),
            *(mailbox_routes(catcher) if catcher else ()),
            stream_handler(hub, resources, gate),
        ],
        http={
            "around": lambda inner: _door(
                inbound.Inbound(inner, _porter(gateway, limits)), gateway, limits, addresses
            ),
            "request_max_body_size": BODY_BYTES_MAX,
        },
        dashboard_path="/status",
        endpoints=gateway.quota.endpoints(),
        on_start=[lambda: _prepare(settings, gateway.people), counters.start],
        on_stop=[gateway.scribe.finish, gateway.access.mark_used, gateway.quota.finish],
        background=[
            hub.run,
            relay.run,
            gateway.access.listen,
            gateway.access.mark,
            gateway.postbox.run,
            gateway.once.purge,
            gateway.scribe.run,
            steward.run,
            announcer.run,
            herald.run,
            messenger.run,
            gateway.pasts.run,
            _analyst(gateway, asking).run,
        ],
        alarms=lambda: (*relay.alarms(), *steward.alarms()),
    )


def _asking(settings: GatewaySettings) -> _Asking:
    authorities = settings.authorities
    everywhere = Outbound(replace(EVERYWHERE, authorities=authorities))
    internet = Outbound(replace(INTERNET, authorities=authorities))
    return _Asking(
        trusted=everywhere,
        providers=everywhere if settings.trusts_inside else internet,
        models=everywhere if settings.openai_allow_local else internet,
        receivers=Outbound(Reach.read(settings.outbound_allow, authorities=authorities)),
    )


def _gateway(
    settings: GatewaySettings, resources: Resources, asking: _Asking, catcher: Catcher | None
) -> Gateway:
    """What handlers work with. catcher: where letters end in development."""
    pool = resources.pool(NAME)
    people = resources.pool("identity")
    rng = random.SystemRandom()
    trusted, guarded = Providers(asking.trusted), Providers(asking.providers)
    doors = Sessions(
        settings,
        people,
        verifier=issuers(settings, trusted, fetch=asking.trusted.get),
        clock=resources.clock,
        rng=rng,
    )
    access = Authority(settings, people, clock=resources.clock)
    vault = Vault(settings.master_keys(), clock=resources.clock)
    postbox = Postbox(people, vault, transport(settings, catcher), clock=resources.clock, rng=rng)
    return Gateway(
        settings=settings,
        resources=resources,
        pool=pool,
        people=people,
        access=access,
        sessions=doors,
        quota=Quota(people, clock=resources.clock, revision=lambda: access.heard_revision),
        once=Once(people, secret=settings.jwt_secret, clock=resources.clock),
        catalogue=Catalogue(resources.nc),
        vault=vault,
        factors=SecondFactors(
            people,
            vault,
            party=RelyingParty.at(settings.public_address, others=settings.cors_origins),
            clock=resources.clock,
            rng=rng,
        ),
        sign_in=SignIn(
            people,
            doors,
            vault,
            platform=platform(settings),
            trusted=trusted,
            guarded=guarded,
            redirect_uri=f"{settings.public_address}{FLOW_PATH}",
            clock=resources.clock,
        ),
        connections=Connections(people, vault, guarded, rng=rng),
        postbox=postbox,
        webhooks=Sender(people, vault, asking.receivers, clock=resources.clock),
        scribe=Scribe(people, clock=resources.clock),
        pasts=Pasts(resources, projection(), url=settings.database_url),
        rng=rng,
    )


def _porter(gateway: Gateway, limits: Limits) -> inbound.Porter:
    """What lets vendors' calls in."""
    seal = gateway.settings.master_keys().bus
    courier = inbound.Courier(gateway.resources.nc, seal)
    return inbound.Porter(courier, limits, origin=gateway.settings.public_address)


def _analyst(gateway: Gateway, asking: _Asking) -> Analyst:
    """What ends analyses in the background."""
    settings, resources = gateway.settings, gateway.resources
    return Analyst(
        resources,
        # It finds work in every workspace, which only the role that writes the rows may see.
        everywhere=resources.pool(NAME, url=settings.database_projector_url, max_size=1),
        rows=gateway.pool,
        models=Models(trusted=asking.trusted, guarded=asking.models),
        advice=Adviser(settings, gateway.people, gateway.vault),
    )


def _steward(gateway: Gateway) -> Steward:
    """What exports, purges and erases in the background."""
    return Steward(
        url=gateway.settings.database_url,
        people=gateway.people,
        exporter=Exporter(
            gateway.resources.event_log,
            pool=gateway.pool,
            people=gateway.people,
            folder=gateway.settings.exports_at,
            clock=gateway.resources.clock,
        ),
        eraser=Eraser(
            gateway.resources.event_log,
            gateway.people,
            exports=gateway.settings.exports_at,
            signer=Signer(gateway.vault.masters.current),
            clock=gateway.resources.clock,
        ),
        retainer=Retainer(
            gateway.resources.nc, gateway.resources.event_log, gateway.pool, clock=gateway.resources.clock
        ),
        clock=gateway.resources.clock,
    )


async def _prepare(settings: GatewaySettings, people: Pool) -> None:
    """Bring identity up to date, or say that somebody has to; in mock mode, seed."""
    await MIGRATIONS.prepare(settings.database_owner_url, people)
    if settings.use_mock:
        await seed_workspace(settings.database_owner_url)


def transport(settings: GatewaySettings, catcher: Catcher | None) -> Transport | None:
    """Where letters go; None: nowhere, so links are handed over by hand."""
    if settings.smtp_url:
        return Smtp(
            read_smtp_url(settings.smtp_url), sender=settings.mail_from, authorities=settings.authorities
        )
    return catcher


def platform(settings: GatewaySettings) -> tuple[str, Client] | None:
    """The platform's own identity provider, and what we are to it; None when none is configured."""
    if not settings.oidc_issuer:
        return None
    return settings.oidc_issuer, Client(settings.oidc_client_id, settings.oidc_client_secret)


def issuers(settings: GatewaySettings, providers: Providers, *, fetch: Fetch) -> Issuers | None:
    """What checks subject tokens; None when no issuer is configured. fetch: what asks for the keys of one."""
    if not settings.clerk_jwks_url and not settings.oidc_issuer:
        return None
    clerk = None
    if settings.clerk_jwks_url:
        clerk = Verifier(
            KeySet(settings.clerk_jwks_url, fetch=fetch),
            audience=settings.clerk_audience,
            parties=settings.clerk_authorized_parties,
        )
    return Issuers(providers, issuer=settings.oidc_issuer, client_id=settings.oidc_client_id, jwks=clerk)


def _door(inner: ASGIApp, gateway: Gateway, limits: Limits, addresses: Addresses) -> Door:
    settings = gateway.settings
    return Door(
        inner,
        access=gateway.access,
        limits=limits,
        addresses=addresses,
        origins=settings.cors_origins,
        own_origin=origin_of(settings.public_address),
        is_production=settings.is_production,
    )
