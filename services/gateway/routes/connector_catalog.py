"""The catalogue of sources: what can be connected, and what each type asks for."""

from collections.abc import Mapping
from typing import Annotated

from contracts import connector
from msgspec import Meta, Struct

from services.gateway.routes.operation import (
    AnyOperation,
    Call,
    Gateway,
    NoQuery,
    Operation,
    context_of,
    not_found,
)
from services.gateway.routes.pages import ListQuery, PageInfo, page_in_memory
from services.gateway.vocabulary import Search

_OAUTH = "oauth2_code"


class CatalogField(Struct, frozen=True, kw_only=True):
    """What is asked for when a source is connected."""

    key: str
    title: str
    is_required: bool
    default: Annotated[str | None, Meta(description="What counts where it is not given.")]
    choices: Annotated[tuple[str, ...], Meta(description="What may be given; empty: anything.")]


class CatalogAuth(Struct, frozen=True, kw_only=True):
    """A way to sign in with the source."""

    kind: Annotated[str, Meta(description="Such as api_key, basic, oauth2_code.")]
    title: str
    credentials: Annotated[tuple[CatalogField, ...], Meta(description="Keys of `credentials`.")]


class CatalogEntry(Struct, frozen=True, kw_only=True):
    """A type of source."""

    type: str
    name: str
    category: str
    oauth: Annotated[bool, Meta(description="Whether one can sign in with OAuth in a browser.")]
    docs_url: str
    is_verified: Annotated[
        bool, Meta(description="Real payloads or the vendor's specification were run through it.")
    ]
    evidence: Annotated[str, Meta(description="Which; empty otherwise.")]
    unchecked: Annotated[
        tuple[str, ...], Meta(description="Parts that nobody has held against the vendor yet.")
    ]
    notes: str
    config: Annotated[tuple[CatalogField, ...], Meta(description="Keys of `config`.")]
    auth: Annotated[
        tuple[CatalogAuth, ...],
        Meta(description="The usual way first; a connector's `auth` is a position here."),
    ]
    streams: Annotated[tuple[str, ...], Meta(description="What is polled; empty: it only sends webhooks.")]
    webhook_schemes: Annotated[tuple[str, ...], Meta(description="How its webhooks are proved; empty: none.")]
    is_tracker: Annotated[bool, Meta(description="Whether recommendations can be pushed to it as tickets.")]
    target: Annotated[
        tuple[CatalogField, ...], Meta(description="What a ticket needs, keys of a push's `target`.")
    ]


class CatalogPage(Struct, frozen=True, kw_only=True):
    """A page of types, by their slugs."""

    data: tuple[CatalogEntry, ...]
    page: PageInfo


class CatalogQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of the catalogue."""

    category: Annotated[str, Meta(max_length=64)] | None = None
    is_verified: bool | None = None
    is_tracker: bool | None = None
    oauth: bool | None = None
    q: Annotated[Search | None, Meta(description="Words that type or name must hold.")] = None


async def sources(gateway: Gateway, call: Call[Struct, object]) -> Mapping[str, connector.SourceType]:
    """The types of sources by their slugs."""
    return await gateway.catalogue.types(context_of(call.principal))


def _field(field: connector.SourceField) -> CatalogField:
    return CatalogField(
        key=field.key,
        title=field.title,
        is_required=field.is_required,
        default=field.default,
        choices=field.choices,
    )


def _shown(source: connector.SourceType) -> CatalogEntry:
    ways = tuple(
        CatalogAuth(kind=way.kind, title=way.title, credentials=tuple(map(_field, way.secrets)))
        for way in source.auth
    )
    return CatalogEntry(
        type=source.type,
        name=source.name,
        category=source.category,
        oauth=any(way.kind == _OAUTH for way in source.auth),
        docs_url=source.docs_url,
        is_verified=source.is_verified,
        evidence=source.evidence,
        unchecked=source.unchecked,
        notes=source.notes,
        config=tuple(map(_field, source.config)),
        auth=ways,
        streams=source.streams,
        webhook_schemes=source.webhook_schemes,
        is_tracker=source.is_tracker,
        target=tuple(map(_field, source.target)),
    )


def _is_wanted(entry: CatalogEntry, query: CatalogQuery) -> bool:
    text = f"{entry.type} {entry.name}".lower()
    return (
        query.category in (None, entry.category)
        and query.is_verified in (None, entry.is_verified)
        and query.is_tracker in (None, entry.is_tracker)
        and query.oauth in (None, entry.oauth)
        and (query.q is None or all(word in text for word in query.q.lower().split()))
    )


async def list_catalog(gateway: Gateway, call: Call[CatalogQuery, None]) -> CatalogPage:
    """A page of types."""
    query = call.query
    every = (_shown(source) for source in (await sources(gateway, call)).values())
    found = [entry for entry in every if _is_wanted(entry, query)]
    context = ("connector_catalog", f"{call.workspace_id}?{call.scope}")
    page, info = page_in_memory(
        found, query, key=lambda entry: entry.type, context=context, secret=gateway.secret
    )
    return CatalogPage(data=page, page=info)


async def get_entry(gateway: Gateway, call: Call[NoQuery, None]) -> CatalogEntry:
    """One type."""
    source = (await sources(gateway, call)).get(call.path["type"])
    if source is None:
        raise not_found("type", call.path["type"])
    return _shown(source)


_ALL = "/v1/connector-catalog"

OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="listConnectorCatalog",
        method="GET",
        path=_ALL,
        tag="Connectors",
        summary="List the types of sources that can be connected.",
        description="503: nothing takes sources in at the moment; ask again.",
        scope="connectors:read",
        query=CatalogQuery,
        replies={200: CatalogPage},
        handle=list_catalog,
    ),
    Operation(
        id="getConnectorType",
        method="GET",
        path=f"{_ALL}/{{type}}",
        tag="Connectors",
        summary="Look at a type of source: what it asks for, what it polls, how it signs webhooks.",
        scope="connectors:read",
        replies={200: CatalogEntry},
        handle=get_entry,
    ),
)
