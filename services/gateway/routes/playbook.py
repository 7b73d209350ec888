"""The playbook: the remediations that every workspace has, and a workspace's own beside them or in their place."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from contracts import recommendation
from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway import _queries
from services.gateway.identity.people.acting import Category
from services.gateway.identity.tokens import Principal
from services.gateway.routes.members import act_of
from services.gateway.routes.operation import (
    Accepted,
    AnyOperation,
    Call,
    Gateway,
    NoQuery,
    Operation,
    command,
    not_found,
    settle,
)
from services.gateway.routes.pages import ListQuery, PageInfo, page_in_memory
from services.gateway.routes.recommendations import Effort, Type
from services.gateway.vocabulary import Search

Origin = Literal["shipped", "workspace"]
Weight = Annotated[
    float,
    Meta(
        gt=0,
        lt=1,
        description="Chance that a pattern with this mark alone has the cause that the play removes.",
    ),
]
_Line = Annotated[str, Meta(min_length=1, max_length=120)]
_Prose = Annotated[str, Meta(min_length=1, max_length=2_000)]


class PlayStep(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing to do."""

    title: _Line
    description: _Prose


class PlayMatches(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What in a pattern speaks for a play; at least terms, dimensions or recurs."""

    terms: Annotated[
        dict[str, Weight],
        Meta(description="Phrases of 1 to 4 words, looked for in name, exemplar and fingerprint."),
    ] = {}
    dimensions: Annotated[
        dict[str, dict[str, Weight]],
        Meta(description="Fingerprint dimension to value to weight; the value `*` is any."),
    ] = {}
    lacks: Annotated[
        dict[str, Weight], Meta(description="Speaks when the issues share no value of the dimension.")
    ] = {}
    recurs: Annotated[Weight | None, Meta(description="Speaks when the pattern keeps coming back.")] = None
    excludes: Annotated[tuple[str, ...], Meta(description="Phrases that rule the play out.")] = ()


class PlayContent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A play as it is written; the rules are in docs/reference/playbook.md."""

    title: _Line
    type: Type
    effort: Annotated[Effort, Meta(description="low: a day, medium: a week, high: longer.")]
    holds: Annotated[float, Meta(gt=0, lt=1, description="Chance that the fix holds where the play fits.")]
    matches: PlayMatches
    description: Annotated[_Prose, Meta(description="What is wrong, and why this removes it.")]
    steps: Annotated[tuple[PlayStep, ...], Meta(min_length=3, max_length=6)]
    verification: Annotated[_Prose, Meta(description="What would show that it worked.")]


class Play(PlayContent, frozen=True, kw_only=True):
    """A remediation with the marks of the patterns that it is for."""

    id: str
    origin: Annotated[Origin, Meta(description="shipped: every workspace has it; workspace: only this one.")]
    replaces_shipped: Annotated[
        bool, Meta(description="A shipped play of the same id comes back when this one is withdrawn.")
    ]
    defined_by: Annotated[str | None, Meta(description="usr_… or svc_…, of the workspace's own.")]
    created_at: datetime | None
    updated_at: datetime | None


class PlayPage(Struct, frozen=True, kw_only=True):
    """A page of plays, by id."""

    data: tuple[Play, ...]
    page: PageInfo


class PlayQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of the list of plays."""

    origin: Origin | None = None
    type: tuple[Type, ...] | None = None
    effort: tuple[Effort, ...] | None = None
    q: Annotated[Search | None, Meta(description="Words that id, title or description must hold.")] = None


async def _in_force(gateway: Gateway, principal: Principal) -> dict[str, Play]:
    """The plays that recommendations are drawn from, by id, in the order of their ids."""
    catalogue = await command(
        gateway, principal, recommendation.ReadCatalogue(), reply=recommendation.Catalogue
    )
    async with tenant(gateway.pool, principal.workspace_id) as conn:
        rows = await _queries.list_plays(conn, workspace_id=principal.workspace_id)
    shipped = {play.play_id: _shown(play) for play in catalogue.plays}
    own = {row.play_id: _shown_own(row, is_replacing=row.play_id in shipped) for row in rows}
    return dict(sorted({**shipped, **own}.items()))


def _shown(play: recommendation.Play) -> Play:
    """A play that every workspace has."""
    return msgspec.convert(
        {**_fields(play), "origin": "shipped", "replaces_shipped": False}
        | dict.fromkeys(("defined_by", "created_at", "updated_at")),
        Play,
    )


def _shown_own(row: _queries.PlaysRow, *, is_replacing: bool) -> Play:
    """A play of the workspace's own."""
    fields = {
        **_fields(msgspec.json.decode(row.play, type=recommendation.Play)),
        "origin": "workspace",
        "replaces_shipped": is_replacing,
        "defined_by": row.defined_by,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }
    return msgspec.convert(fields, Play)


def _fields(play: recommendation.Play) -> Mapping[str, object]:
    """Its fields as they are shown."""
    dimensions: dict[str, dict[str, float]] = {}
    for mark in play.matches.dimensions:
        dimensions.setdefault(mark.dimension, {})[mark.value] = mark.weight
    fields: dict[str, object] = msgspec.to_builtins(play)
    fields["id"] = fields.pop("play_id")
    fields["matches"] = {
        "terms": play.matches.terms,
        "dimensions": dimensions,
        "lacks": play.matches.lacks,
        "recurs": play.matches.recurs,
        "excludes": play.matches.excludes,
    }
    return fields


def _is_wanted(play: Play, query: PlayQuery) -> bool:
    text = f"{play.id} {play.title} {play.description}".lower()
    return (
        query.origin in (None, play.origin)
        and (query.type is None or play.type in query.type)
        and (query.effort is None or play.effort in query.effort)
        and (query.q is None or all(word in text for word in query.q.lower().split()))
    )


async def list_playbook(gateway: Gateway, call: Call[PlayQuery, None]) -> PlayPage:
    """A page of plays."""
    query = call.query
    found = [play for play in (await _in_force(gateway, call.principal)).values() if _is_wanted(play, query)]
    context = ("playbook", f"{call.workspace_id}?{call.scope}")
    page, info = page_in_memory(
        found, query, key=lambda play: play.id, context=context, secret=gateway.secret
    )
    return PlayPage(data=page, page=info)


async def get_play(gateway: Gateway, call: Call[NoQuery, None]) -> Play:
    """One play."""
    return await _find(gateway, call.principal, call.path["play_id"])


async def _find(gateway: Gateway, principal: Principal, play_id: str) -> Play:
    """The play with this id. Raises NotFoundError."""
    request = recommendation.ReadCatalogue(play_id=play_id)
    catalogue = await command(gateway, principal, request, reply=recommendation.Catalogue)
    async with tenant(gateway.pool, principal.workspace_id) as conn:
        own = await _queries.find_play(conn, workspace_id=principal.workspace_id, play_id=play_id)
    shipped = [play for play in catalogue.plays if play.play_id == play_id]
    if own:
        return _shown_own(own[0], is_replacing=bool(shipped))
    if not shipped:
        raise not_found("play", play_id)
    return _shown(shipped[0])


async def define_play(gateway: Gateway, call: Call[NoQuery, PlayContent]) -> Play:
    """Have this play in the workspace."""
    request = recommendation.DefinePlay(play=_sent(call.path["play_id"], call.body))
    await _changed(gateway, call, request, "play.defined", "update")
    return await _find(gateway, call.principal, call.path["play_id"])


async def withdraw_play(gateway: Gateway, call: Call[NoQuery, None]) -> None:
    """Have it no more."""
    request = recommendation.WithdrawPlay(play_id=call.path["play_id"])
    await _changed(gateway, call, request, "play.withdrawn", "delete")


async def _changed(
    gateway: Gateway,
    call: Call[NoQuery, PlayContent] | Call[NoQuery, None],
    request: recommendation.DefinePlay | recommendation.WithdrawPlay,
    action: str,
    category: Category,
) -> None:
    """Have the owning service change it, write down who did, and wait until a GET shows it."""
    play = ("play", call.path["play_id"])
    async with gateway.scribe.deed(act_of(gateway, call), action, category, play, {}) as ending:
        reply = await command(gateway, call.principal, request, reply=recommendation.PlaybookChanged)
        ending.outcome = "done" if reply.is_changed else "refused"
    await settle(gateway, call.workspace_id, reply.sequence)


def _sent(play_id: str, content: PlayContent) -> recommendation.Play:
    fields: dict[str, object] = msgspec.to_builtins(content)
    fields["play_id"] = play_id
    fields["matches"] = {
        "terms": content.matches.terms,
        "dimensions": [
            {"dimension": name, "value": value, "weight": weight}
            for name, weights in content.matches.dimensions.items()
            for value, weight in weights.items()
        ],
        "lacks": content.matches.lacks,
        "recurs": content.matches.recurs,
        "excludes": content.matches.excludes,
    }
    return msgspec.convert(fields, recommendation.Play)


_ALL, _ONE = "/v1/playbook", "/v1/playbook/{play_id}"

OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="listPlays",
        method="GET",
        path=_ALL,
        tag="Playbook",
        summary="List the plays that recommendations are drawn from, by id.",
        description="Those that every workspace has, and the workspace's own beside them or in their place."
        " 503: nothing recommends at the moment; ask again.",
        scope="recommendations:read",
        query=PlayQuery,
        replies={200: PlayPage},
        handle=list_playbook,
    ),
    Operation(
        id="getPlay",
        method="GET",
        path=_ONE,
        tag="Playbook",
        summary="Look at a play.",
        scope="recommendations:read",
        replies={200: Play},
        handle=get_play,
    ),
    Operation(
        id="definePlay",
        method="PUT",
        path=_ONE,
        tag="Playbook",
        summary="Add a play to the workspace's own, change it, or replace a shipped one.",
        description="Patterns are looked at with it a few seconds after the last change; what was recommended keeps its"
        " text. At most 200 of a workspace's own (409), 32,768 bytes each as JSON. 422 `play_refused`: it breaks rules"
        " of the playbook; `details` names each place.",
        scope="recommendations:write",
        body=PlayContent,
        replies={200: Play, 202: Accepted},
        refusals=(409, 422),
        handle=define_play,
    ),
    Operation(
        id="withdrawPlay",
        method="DELETE",
        path=_ONE,
        tag="Playbook",
        summary="Take a play of the workspace's own back.",
        description="A shipped one of the same id is in force again. 409: the play is one that every workspace has.",
        scope="recommendations:write",
        replies={204: None, 202: Accepted},
        refusals=(409,),
        handle=withdraw_play,
    ),
)
