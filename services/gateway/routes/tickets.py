"""Tickets: what a page shows the stream in the place of a token, since an address is written down in many places."""

from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Meta, Struct

from services.gateway.identity.scopes import ANYBODY
from services.gateway.identity.tokens import TICKET_SECONDS, issue_ticket
from services.gateway.routes.operation import AnyOperation, Call, Gateway, NoQuery, Operation


class StreamTicket(Struct, frozen=True, kw_only=True):
    """What opens the stream once."""

    ticket: Annotated[
        str,
        Meta(
            description="For `?ticket=`, or the subprotocols `ticket, <ticket>`. Good once, at any gateway."
        ),
    ]
    expires_at: datetime


async def make_ticket(gateway: Gateway, call: Call[NoQuery, None]) -> StreamTicket:
    """A ticket that stands for the caller's session or API token."""
    now = gateway.resources.clock()
    return StreamTicket(
        ticket=issue_ticket(call.principal, secret=gateway.secret, now=now),
        expires_at=now.replace(microsecond=0) + timedelta(seconds=TICKET_SECONDS),
    )


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="createStreamTicket",
        method="POST",
        path="/v1/stream/tickets",
        tag="Auth",
        summary="Get a ticket that opens the stream once.",
        description=f"Within {TICKET_SECONDS} seconds. The stream then lasts and shows what it would with the token that"
        " this was called with, and ends with it.",
        scope=ANYBODY,
        replies={201: StreamTicket},
        handle=make_ticket,
    ),
)
