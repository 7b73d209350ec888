"""What an operation is: one method and path with its types, its scope and its refusals.

Everything is decoded, refused and described in OpenAPI from this one description.
"""

import random
from collections.abc import Awaitable, Callable, Mapping
from types import UnionType
from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar

import msgspec
from contracts import connector, ingest, pattern, prediction, recommendation
from msgspec import Meta, Struct
from runtime.broker import CommandContext, ask, name_on_partition
from runtime.database import Pool
from runtime.errors import NotFoundError
from runtime.service import Resources
from runtime.telemetry import current_trace_id, current_traceparent

from services.gateway.catalogue import Catalogue
from services.gateway.edge.cookies import SetCookie
from services.gateway.edge.idempotency import Once
from services.gateway.edge.preconditions import patience
from services.gateway.edge.quota import Quota
from services.gateway.identity.access.authority import Authority
from services.gateway.identity.mfa.factors import SecondFactors
from services.gateway.identity.people.acting import Category
from services.gateway.identity.people.postbox import Postbox
from services.gateway.identity.people.scribe import Outcome, Scribe
from services.gateway.identity.sessions import Sessions
from services.gateway.identity.signin.connections import Connections
from services.gateway.identity.signin.signin import SignIn
from services.gateway.identity.tokens import Principal
from services.gateway.identity.vault.keys import Vault
from services.gateway.identity.webhooks.sending import Sender
from services.gateway.past import Pasts
from services.gateway.settings import GatewaySettings

Q = TypeVar("Q", bound=Struct)
B = TypeVar("B")
R = TypeVar("R")
Q_co = TypeVar("Q_co", bound=Struct, covariant=True)
B_co = TypeVar("B_co", covariant=True)

Method: TypeAlias = Literal["GET", "POST", "PATCH", "PUT", "DELETE"]


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """An operation without query parameters."""


class Gateway(Struct, frozen=True, kw_only=True):
    """What handlers work with, built once in app.py.

    pool: the read model. people: identity. access: whom a token speaks for now. postbox: letters on their way.
    vault: seals secrets that have to be read again. factors: people's second factors.
    sign_in: browsers, through identity providers. connections: workspaces' own providers.
    webhooks: sends to addresses outside. scribe: lines of the audit log about deeds. pasts: the read model as it was. rng: chance for ids; secrets come from the module secrets.
    quota: how many events the plan still allows. once: what must not run twice. catalogue: the types of sources.
    """

    settings: GatewaySettings
    resources: Resources
    pool: Pool
    people: Pool
    sessions: Sessions
    access: Authority
    quota: Quota
    once: Once
    catalogue: Catalogue
    vault: Vault
    factors: SecondFactors
    sign_in: SignIn
    connections: Connections
    postbox: Postbox
    webhooks: Sender
    scribe: Scribe
    pasts: Pasts
    rng: random.Random

    @property
    def secret(self) -> str:
        """What cursors and job ids are signed with."""
        return self.settings.jwt_secret


class Call(Struct, Generic[Q_co, B_co], frozen=True, kw_only=True):
    """One request, decoded: who asks, for what.

    scope: the query as it came, without cursor and limit; cursors are bound to it.
    ip, user_agent: where it comes from, for sessions and the audit log.
    cookies: by name; none when it would change something and does not come from a page of ours.
    """

    principal: Principal
    path: Mapping[str, str]
    query: Q_co
    body: B_co
    scope: str
    ip: str = ""
    user_agent: str = ""
    cookies: Mapping[str, str] = {}

    @property
    def workspace_id(self) -> str:
        """The workspace that the token is for."""
        return self.principal.workspace_id


class Answer(Struct, frozen=True):
    """A reply with another status than the operation's first, with headers or with cookies.

    outcome: of its deed, for the audit log.
    """

    status: int
    body: Struct | None
    headers: Mapping[str, str] = {}
    cookies: tuple[SetCookie, ...] = ()
    outcome: Outcome = "done"


class Deed(Struct, frozen=True):
    """A line of the audit log that the door writes about the operation: who, from where, which fields.

    For what another service decides, whose event names the same actor; a handler that has more to say names the deed
    itself (`connectors.deed`). Whoever writes rows of identity writes the line in the same transaction. Of an operation that failed at our end, so that nobody knows whether it is done,
    the line says `outcome: unknown` (`Scribe.deed`). target: what the line is about, with its id in the path's parameter `of`; without
    that it is the workspace.
    """

    action: str
    category: Category
    target: str
    of: str | None


class Operation(Struct, Generic[Q, B], frozen=True, kw_only=True):
    """One method and path.

    scope: what the token must carry, of identity/scopes.py; SELF: a signed-in person; ANYBODY: any good token;
        None: no token is needed, and the test of the public operations lists it. or_scope: another that is enough.
    without_second_factor: whether a session that owes its second factor may call it, to give one or to leave.
    of_the_person: whether it is about who somebody is in every workspace, which a session that a workspace's own provider
        vouched for is not good for.
    is_page: whether people open it in a browser, who are told of a refusal in words when their browser wants HTML.
    body: what the request's JSON is decoded to, one struct or some told apart by a tag; bytes: handed on unparsed; None: there is no body.
    described_body: what OpenAPI says of a body that is handed on unparsed.
    replies: success status → its body, the usual one first; None: it has none, as with 204.
    refusals: statuses of this operation's own refusals; the general ones are added.
    is_body_optional: whether no body at all is as good as `{}`.
    has_past: whether it can be asked `as_of` a moment, which its query has then: it is answered from the rows of that
        moment. It must read nothing that changes but the read model.
    deed: what the door writes down of it in the audit log; None: the handler does, or the reviewed list says why nobody.
    """

    id: str
    method: Method
    path: str
    tag: str
    summary: str
    handle: Callable[[Gateway, Call[Q, B]], Awaitable[Struct | Answer | None]]
    scope: str | None
    replies: Mapping[int, type[Struct] | None]
    description: str = ""
    query: type[Q] = NoQuery  # type: ignore[assignment]  # the default of an operation without a query
    body: type[B] | UnionType | None = None
    described_body: type | None = None
    refusals: tuple[int, ...] = ()
    without_second_factor: bool = False
    of_the_person: bool = False
    or_scope: str | None = None
    is_body_optional: bool = False
    has_past: bool = False
    is_page: bool = False
    deed: Deed | None = None


AnyOperation: TypeAlias = Operation[Any, Any]  # Any: each operation has its own query and body


def not_found(kind: str, identifier: str) -> NotFoundError:
    """The refusal for what does not exist in the caller's workspace, or is not theirs to see."""
    return NotFoundError(f"There is no {kind} {identifier}.", details={"id": identifier})


ENDPOINTS: Mapping[type, str] = {
    **ingest.ENDPOINTS,
    **pattern.ENDPOINTS,
    **prediction.ENDPOINTS,
    **recommendation.ENDPOINTS,
    **connector.ENDPOINTS,
}
"""Which endpoint takes which command."""


ANSWER_SECONDS = 5.0
"""How long a service may take over a command of its own."""


def context_of(principal: Principal) -> CommandContext:
    """In whose name a command is given, and within which trace."""
    return CommandContext(
        workspace_id=principal.workspace_id,
        actor=principal.user_id,
        correlation_id=current_trace_id() or "",
        traceparent=current_traceparent(),
    )


async def command(
    gateway: Gateway,
    principal: Principal,
    request: Struct,
    *,
    reply: type[R],
    timeout: float = ANSWER_SECONDS,  # noqa: ASYNC109  # handed to the request
) -> R:
    """What the owning service answers to a command that this principal gives."""
    return await raw_command(
        gateway, principal, msgspec.json.encode(request), kind=type(request), reply=reply, timeout=timeout
    )


async def raw_command(
    gateway: Gateway,
    principal: Principal,
    request: bytes,
    *,
    kind: type[Struct],
    reply: type[R],
    timeout: float = ANSWER_SECONDS,  # noqa: ASYNC109  # handed to the request
) -> R:
    """The same for a command of this kind that is encoded already."""
    endpoint = ENDPOINTS[kind]
    if kind in pattern.ENDPOINTS:
        # Pattern is a single writer per partition, so each of its leaders has its own endpoints.
        event_log = gateway.resources.event_log
        partition = event_log.partition_of(principal.workspace_id)
        endpoint = name_on_partition(endpoint, partition, event_log.partitions)
    context = context_of(principal)
    return await ask(
        gateway.resources.nc, request, endpoint=endpoint, reply=reply, context=context, timeout=timeout
    )


class Accepted(Struct, frozen=True, kw_only=True):
    """A change that is durable, and that no GET shows yet."""

    status: Literal["accepted"]
    location: Annotated[str, Meta(description="What will show it in a moment.")]


class NotVisibleYetError(Exception):
    """A change is durable and the wait for a GET to show it is over; answered with 202 Accepted.

    location: the path that will show it; None: the request's own.
    """

    def __init__(self, location: str | None) -> None:
        super().__init__(location)
        self.location = location


async def settle(gateway: Gateway, workspace_id: str, sequence: int, *, location: str | None = None) -> None:
    """Wait until a GET finds what was appended at `sequence`, as long as the request's `Prefer` says.

    Raises NotVisibleYetError after that; so call it once everything is durable.
    """
    if not await gateway.resources.reached(workspace_id, sequence, timeout=patience.get()):
        raise NotVisibleYetError(location)
