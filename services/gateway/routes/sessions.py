"""A person's own sessions: where they are signed in, and ending one that should not be."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from runtime.database import tenant
from runtime.errors import StateConflictError

from services.gateway.identity import _queries
from services.gateway.identity.scopes import SELF
from services.gateway.listing import Condition, Listing, SortKey
from services.gateway.routes.members import act_of
from services.gateway.routes.operation import AnyOperation, Call, Gateway, NoQuery, Operation, not_found
from services.gateway.routes.pages import ListQuery, PageInfo, list_page, page_info, shown


class Session(Struct, frozen=True, kw_only=True):
    """One sign-in of the caller to the workspace."""

    id: str
    method: Annotated[
        Literal["exchange", "oidc", "mock"], Meta(description="How they came in; mock: USE_MOCK=1.")
    ]
    user_agent: Annotated[str, Meta(description="Device and browser, as they say.")]
    ip: str
    is_current: Annotated[bool, Meta(description="Whether this request came with it.")]
    second_factor_at: Annotated[datetime | None, Meta(description="When a second factor was given in it.")]
    created_at: datetime
    last_active_at: Annotated[datetime, Meta(description="Written down every half minute.")]
    expires_at: Annotated[datetime, Meta(description="Each refresh puts it off.")]


class SessionPage(Struct, frozen=True, kw_only=True):
    """A page of sessions."""

    data: tuple[Session, ...]
    page: PageInfo


class SessionQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The order of the list of sessions."""

    sort: Literal["created_at", "-created_at"] = "-created_at"


LISTING = Listing(
    name="sessions",
    view="sessions",
    row=_queries.Session,
    sorts={"created_at": SortKey("created_at", "timestamptz")},
    default_sort="-created_at",
)


async def list_sessions(gateway: Gateway, call: Call[SessionQuery, None]) -> SessionPage:
    """A page of the caller's sessions that have not ended."""

    def present(row: _queries.Session) -> Session:
        return Session(
            id=row.session_id,
            method=row.method,  # type: ignore[arg-type]  # the column's check has the same words
            user_agent=row.user_agent,
            ip=row.ip,
            is_current=row.session_id == call.principal.session_id,
            second_factor_at=row.second_factor_at,
            created_at=row.created_at,
            last_active_at=row.last_seen_at,
            expires_at=row.expires_at,
        )

    conditions = (
        Condition("user_id = {value}", call.principal.user_id),
        Condition("revoked_at IS NULL AND expires_at > {value}", gateway.resources.clock()),
    )
    found = await list_page(
        gateway, call, LISTING, conditions=conditions, sort=call.query.sort, source=gateway.people
    )
    return SessionPage(data=shown(found, present), page=page_info(found))


async def revoke_session(gateway: Gateway, call: Call[NoQuery, None]) -> None:
    """The end of another session of the caller."""
    session_id = call.path["session_id"]
    if session_id == call.principal.session_id:
        raise StateConflictError("This is the session you are using. End it with POST /v1/auth/sign-out.")
    async with tenant(gateway.people, call.workspace_id) as conn:
        found = await _queries.get_session(
            conn,
            workspace_id=call.workspace_id,
            session_id=session_id,
            user_id=call.principal.user_id,
            now=gateway.resources.clock(),
        )
    if found is None:
        raise not_found("session", session_id)
    await end_session(gateway, call, session_id, reason="revoked")


async def end_session(gateway: Gateway, call: Call[Any, Any], session_id: str, *, reason: str) -> None:
    """End a session of the caller; its tokens are refused from the next request on."""
    act = act_of(gateway, call)
    async with tenant(gateway.people, call.workspace_id) as conn:
        ended = await _queries.revoke_session(
            conn, workspace_id=call.workspace_id, session_id=session_id, revoked_at=act.now
        )
        if ended:
            await act.write_down(conn, "session.revoked", "revoke", ("session", session_id), reason=reason)
    gateway.access.forget(session_id)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="listSessions",
        method="GET",
        path="/v1/sessions",
        tag="Auth",
        summary="List where you are signed in to this workspace.",
        scope=SELF,
        query=SessionQuery,
        replies={200: SessionPage},
        handle=list_sessions,
    ),
    Operation(
        id="revokeSession",
        method="DELETE",
        path="/v1/sessions/{session_id}",
        tag="Auth",
        summary="End another session of yours.",
        description="Its access and refresh tokens stop at once; API tokens stay. The one that you are using ends with"
        " /v1/auth/sign-out.",
        scope=SELF,
        replies={204: None},
        refusals=(409,),
        handle=revoke_session,
    ),
)
