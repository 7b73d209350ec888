"""Which workspaces' own providers may speak for who is signed in: agreed to on a page of ours, and taken back."""

from datetime import datetime
from typing import Annotated

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta, Struct

from services.gateway.edge.cookies import flow_cookie
from services.gateway.identity import _queries as people
from services.gateway.identity.scopes import SELF
from services.gateway.identity.signin import _queries
from services.gateway.identity.signin.flow import FLOW_SECONDS
from services.gateway.identity.signin.signin import Wish
from services.gateway.routes.operation import (
    Answer,
    AnyOperation,
    Call,
    Gateway,
    NoQuery,
    Operation,
    not_found,
)
from services.gateway.routes.pages import PageInfo
from services.gateway.routes.sheets import sheet

PATH = "/link"

_STYLE = """
main { max-width: 36em; font-size: 17px; }
main p { margin-bottom: 14px; overflow-wrap: anywhere; }
button { font: inherit; font-weight: 600; color: var(--card); background: var(--good); border: 0; border-radius: 99px;
  padding: 11px 22px; cursor: pointer; }
button:focus-visible { outline: 2px solid var(--ink); outline-offset: 2px; }
"""
_BODY = """<main>
<p id="what" role="status">One moment…</p>
<p><button id="go" type="button" hidden>Agree and sign in</button></p>
<p id="note" class="dim"></p>
</main>
<noscript><p class="reasons">This page needs JavaScript.</p></noscript>"""
_SCRIPT = """
const $ = (id) => document.getElementById(id);
const path = "/v1/auth/links/" + encodeURIComponent(new URLSearchParams(location.search).get("connection") || "none");
const json = async (options) => {
  const answer = await fetch(path, options);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail);
  return body;
};
const refuse = (error) => { $("what").textContent = error.message; $("go").hidden = true; };
json().then((found) => {
  $("what").textContent = "May " + found.connection_name + ", the identity provider of the workspace "
    + found.workspace_name + ", sign you in there?";
  $("note").textContent = "At " + found.issuer + ". Whoever runs it can then act as you in that workspace, and in no other.";
  $("go").hidden = false;
  $("go").onclick = () => json({ method: "POST" }).then((way) => location.assign(way.location)).catch(refuse);
}).catch(refuse);
"""


class Link(Struct, frozen=True, kw_only=True):
    """A workspace's own provider, and since when it speaks for the caller. linked_at: null: it does not."""

    connection_id: str
    connection_name: str
    issuer: str
    workspace_id: str
    workspace_name: str
    linked_at: datetime | None
    agreed_at: Annotated[datetime | None, Meta(description="Null: nobody had to ask you.")]


class LinkPage(Struct, frozen=True, kw_only=True):
    """All of them; there is one page."""

    data: tuple[Link, ...]
    page: PageInfo


class Way(Struct, frozen=True, kw_only=True):
    """Where to go on."""

    location: Annotated[str, Meta(description="At the provider; open it in the same browser.")]


async def _find(gateway: Gateway, call: Call[NoQuery, None], connection_id: str) -> tuple[Link, ...]:
    async with gateway.people.connection() as conn, conn.transaction():
        await people.identify(conn, user_id=call.principal.user_id, workspace_id="")
        rows = await _queries.list_links(conn, connection_id=connection_id)
    return tuple(
        Link(
            connection_id=row.connection_id,
            connection_name=row.connection_name,
            issuer=row.issuer,
            workspace_id=row.workspace_id,
            workspace_name=row.workspace_name,
            linked_at=row.linked_at,
            agreed_at=row.agreed_at,
        )
        for row in rows
    )


async def list_links(gateway: Gateway, call: Call[NoQuery, None]) -> LinkPage:
    """Those that speak for the caller."""
    data = await _find(gateway, call, "")
    return LinkPage(data=data, page=PageInfo(next_cursor=None, has_more=False, total=len(data)))


async def get_link(gateway: Gateway, call: Call[NoQuery, None]) -> Link:
    """One provider, whether it speaks for the caller or not."""
    found = await _find(gateway, call, call.path["connection_id"])
    if not found:
        raise not_found("connection", call.path["connection_id"])
    return found[0]


async def agree(gateway: Gateway, call: Call[NoQuery, None]) -> Answer:
    """The way to the provider, with the caller's consent in the browser's cookie."""
    departure = await gateway.sign_in.begin(
        Wish(
            redirect_to="/",
            connection_id=call.path["connection_id"],
            consenting=call.principal.user_id,
        )
    )
    cookie = flow_cookie(departure.cookie, seconds=FLOW_SECONDS, is_secure=gateway.settings.is_https)
    return Answer(200, Way(location=departure.address), cookies=(cookie,))


async def withdraw(gateway: Gateway, call: Call[NoQuery, None]) -> None:
    """It speaks for the caller no longer."""
    async with gateway.people.connection() as conn, conn.transaction():
        await people.identify(conn, user_id=call.principal.user_id, workspace_id="")
        was_linked = await _queries.unlink(conn, connection_id=call.path["connection_id"], ip=call.ip or None)
    if not was_linked:
        raise not_found("link", call.path["connection_id"])
    gateway.access.forget(call.principal.user_id)


@get(PATH, include_in_schema=False, sync_to_thread=False)
def page() -> Response[str]:
    """The page that asks; `?connection=` says for which one."""
    return sheet("Sign-in", _BODY, style=_STYLE, script=_SCRIPT)


ROUTES: tuple[HTTPRouteHandler, ...] = (page,)

OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="listLinks",
        method="GET",
        path="/v1/auth/links",
        tag="Auth",
        summary="List which workspaces' own providers may sign you in.",
        scope=SELF,
        of_the_person=True,
        replies={200: LinkPage},
        handle=list_links,
    ),
    Operation(
        id="getLink",
        method="GET",
        path="/v1/auth/links/{connection_id}",
        tag="Auth",
        summary="Show a workspace's own provider before you agree to it.",
        scope=SELF,
        of_the_person=True,
        replies={200: Link},
        handle=get_link,
    ),
    Operation(
        id="agreeToLink",
        method="POST",
        path="/v1/auth/links/{connection_id}",
        tag="Auth",
        summary="Agree that a workspace's own provider may sign you in there.",
        description="For browsers: sets a cookie that the way back needs. The page /link?connection=… asks.",
        scope=SELF,
        of_the_person=True,
        replies={200: Way},
        refusals=(404,),
        handle=agree,
    ),
    Operation(
        id="withdrawLink",
        method="DELETE",
        path="/v1/auth/links/{connection_id}",
        tag="Auth",
        summary="Let a workspace's own provider sign you in no longer.",
        description="Ends the sessions that it vouched for; you stay a member.",
        scope=SELF,
        of_the_person=True,
        replies={204: None},
        handle=withdraw,
    ),
)
