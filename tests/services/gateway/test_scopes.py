"""The table of scopes, and that every route declares what it needs."""

from typing import Any

import msgspec
import pytest
from litestar.handlers import HTTPRouteHandler, WebsocketRouteHandler
from nats.aio.client import Client
from runtime.service import Resources

from services.gateway.app import OPERATIONS, build
from services.gateway.identity.scopes import (
    ANYBODY,
    PLATFORM,
    ROLE_ALIASES,
    ROLES,
    SCOPES,
    SELF,
    can_grant,
    reference,
)
from services.gateway.routes.connector_access import CALLBACK_PATH
from services.gateway.routes.exports import DOWNLOAD_PATH
from services.gateway.routes.operation import Operation
from services.gateway.settings import GatewaySettings
from tests.architecture.tree import ROOT

PUBLIC = {"exchangeToken", "refreshToken", "login", "loginCallback", "lookAtInvitation"}
"""The operations that need no token; whoever adds one says so here."""

OPEN_BY_THEMSELVES = {
    "/openapi.json",
    "/docs",
    "/docs/{name:str}",
    "/dev/mail",
    "/dev/mail.json",
    "/invitation",
    "/link",
    DOWNLOAD_PATH,
    CALLBACK_PATH,
}
"""Paths beside the operations: what describes them, the letters that development catches, the signed links to exports,
and where sources send browsers back, with a state that proves itself. Where they post is no route: `Inbound` stands
before the framework, and asks for a signature."""


def routes() -> list[Any]:
    """The handlers of a gateway that is put together, though not run."""
    urls = dict.fromkeys(("nats_url", "database_url", "database_projector_url", "database_owner_url"), "")
    settings = GatewaySettings(port=4000, **urls)
    event_log: Any = None
    return list(build(settings, Resources(settings, Client(), event_log)).routes)


def test_every_operation_declares_who_may_call_it() -> None:
    """A scope of the table that somebody has, oneself, any token, or expressly nothing; there is no default."""
    required = {field.name for field in msgspec.structs.fields(Operation) if field.required}
    assert "scope" in required
    assert {operation.id for operation in OPERATIONS if operation.scope is None} == PUBLIC
    known = ROLES["owner"].scopes | {SELF, ANYBODY, PLATFORM}
    assert {operation.scope for operation in OPERATIONS if operation.scope is not None} <= known


def test_every_route_is_an_operation_or_known_to_need_no_token() -> None:
    """A handler beside the operations names a scope that it checks, or would be open to everybody."""
    paths: set[str] = set()
    for handler in routes():
        assert isinstance(handler, HTTPRouteHandler | WebsocketRouteHandler), handler
        if handler.opt.get("scope") not in {*SCOPES, ANYBODY}:
            paths |= handler.paths
    declared = {operation.path.replace("}", ":str}") for operation in OPERATIONS}
    assert paths == declared | OPEN_BY_THEMSELVES


def test_the_stream_sends_only_what_a_scope_of_the_table_opens() -> None:
    """Every good token may listen, so each kind of frame names what it needs; test_stream sees that it is heeded."""
    [stream] = [handler for handler in routes() if isinstance(handler, WebsocketRouteHandler)]
    assert stream.opt["scope"] == ANYBODY
    assert set(stream.opt["frame_scopes"].values()) <= set(SCOPES)


def test_the_owner_has_every_scope_and_a_role_none_that_is_not_in_the_table() -> None:
    """The table is whole."""
    assert ROLES["owner"].scopes == frozenset(SCOPES)
    assert all(role.scopes <= frozenset(SCOPES) for role in ROLES.values())
    assert set(ROLE_ALIASES.values()) <= set(ROLES)


def test_ranks_follow_what_roles_may() -> None:
    """Whoever may more does not rank lower."""
    for less in ROLES.values():
        for more in ROLES.values():
            if less.scopes < more.scopes:
                assert less.rank < more.rank, (less.name, more.name)


@pytest.mark.parametrize(
    ("granter", "role", "is_allowed"),
    [
        ("owner", "owner", True),
        ("admin", "owner", False),
        ("admin", "admin", True),
        ("security_admin", "viewer", True),
        ("security_admin", "analyst", False),
        ("security_admin", "compliance_admin", False),
        ("compliance_admin", "security_admin", False),
    ],
)
def test_nobody_grants_what_they_do_not_have(granter: str, role: str, is_allowed: bool) -> None:
    """A role above one's own, or beside it, cannot be given."""
    assert can_grant(ROLES[granter].scopes, role) is is_allowed


def test_the_page_of_scopes_is_written_from_the_table() -> None:
    """`make generate` keeps them equal."""
    assert (ROOT / "docs" / "reference" / "scopes.md").read_text() == reference()
