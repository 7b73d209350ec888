"""What webhooks were sent and said: the log of deliveries, one more try, a test."""

from datetime import datetime
from functools import partial
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from contracts import new_id
from msgspec import Meta, Struct
from runtime.database import tenant
from runtime.errors import StateConflictError

from services.gateway.identity.webhooks import _queries
from services.gateway.identity.webhooks.messages import TEST_TYPE, Envelope
from services.gateway.identity.webhooks.sending import PENDING_MAX
from services.gateway.listing import Condition, Filter, Listing, SortKey
from services.gateway.routes.members import act_of
from services.gateway.routes.operation import AnyOperation, Call, Gateway, NoQuery, Operation, not_found
from services.gateway.routes.pages import ListQuery, PageInfo, list_page, page_info, shown
from services.gateway.routes.webhooks import find
from services.gateway.vocabulary import Line

_UNNOTED: Final = "It is not noted yet what came of it; the gateway may have ended meanwhile."


class TestResult(Struct, frozen=True, kw_only=True):
    """What a receiver said to a test."""

    __test__ = False  # pytest would take the name for a test

    success: bool
    delivery_id: str
    response_status: int | None
    response_excerpt: Annotated[str | None, Meta(description="The first 1,024 bytes of the answer.")]
    error: Annotated[str | None, Meta(description="Why there was no answer.")]
    duration_ms: int


class DeliveryRow(Struct, frozen=True):
    """One row of webhook_deliveries, as the API shows it."""

    delivery_id: str
    event_id: str
    event_type: str
    subject_id: str
    occurred_at: datetime
    status: str
    n_attempts: int
    next_attempt_at: datetime | None
    last_attempt_at: datetime | None
    response_status: int | None
    response_excerpt: str | None
    error: str | None
    duration_ms: int | None
    created_at: datetime
    seq: int


Status: TypeAlias = Literal["pending", "succeeded", "failed", "skipped"]


class Delivery(Struct, frozen=True, kw_only=True):
    """What became of one event at one webhook."""

    id: str
    event_id: Annotated[str, Meta(description="The same as the body's id and the header webhook-id.")]
    event_type: str
    subject_id: Annotated[str, Meta(description="What it is about, whose state is sent.")]
    occurred_at: datetime
    status: Annotated[
        Status,
        Meta(
            description="failed: given up; of a test, also while it is on its way. skipped: what it is about was gone before it could be sent."
        ),
    ]
    attempts: int
    next_attempt_at: datetime | None
    last_attempt_at: datetime | None
    response_status: Annotated[
        int | None, Meta(description="Of the last attempt; null: there was no answer.")
    ]
    response_excerpt: Annotated[str | None, Meta(description="The first 1,024 bytes of that answer.")]
    error: str | None
    duration_ms: int | None
    created_at: datetime


class DeliveryPage(Struct, frozen=True, kw_only=True):
    """A page of deliveries."""

    data: tuple[Delivery, ...]
    page: PageInfo


class DeliveryQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of the list of deliveries."""

    status: tuple[Status, ...] | None = None
    event_type: tuple[Line, ...] | None = None
    sort: Literal["created_at", "-created_at"] = "-created_at"


DELIVERIES = Listing(
    name="deliveries",
    view="webhook_deliveries",
    row=DeliveryRow,
    key="delivery_id",
    sorts={"created_at": SortKey("created_at", "timestamptz")},
    default_sort="-created_at",
    filters=(
        Filter("status", "status = ANY({value}::text[])", list),
        Filter("event_type", "event_type = ANY({value}::text[])", list),
    ),
)


def _shown(row: DeliveryRow) -> Delivery:
    fields = msgspec.structs.asdict(row) | {"id": row.delivery_id, "attempts": row.n_attempts}
    return msgspec.convert(fields, Delivery)


async def test_webhook(gateway: Gateway, call: Call[NoQuery, None]) -> TestResult:
    """A test event, sent now."""
    act, space, webhook_id = act_of(gateway, call), call.workspace_id, call.path["webhook_id"]
    receiver = await gateway.webhooks.find(space, webhook_id)
    if receiver is None:
        raise not_found("webhook", webhook_id)
    delivery_id = new_id("whd_", now=act.now, rng=gateway.rng)
    envelope = Envelope(
        id=new_id("evt_", now=act.now, rng=gateway.rng),
        type=TEST_TYPE,
        workspace_id=space,
        created_at=act.now,
        data={"message": "This is a test.", "webhook_id": webhook_id},
    )
    async with tenant(gateway.people, space) as conn:
        if await _queries.lock_webhook(conn, workspace_id=space, webhook_id=webhook_id) is None:
            raise not_found("webhook", webhook_id)
        await _queries.insert_test(
            conn,
            workspace_id=space,
            webhook_id=webhook_id,
            delivery_id=delivery_id,
            event_id=envelope.id,
            event_type=TEST_TYPE,
            created_at=act.now,
            error=_UNNOTED,
        )
        await act.write_down(conn, "webhook.tested", "other", ("webhook", webhook_id))
    attempt = await gateway.webhooks.post(receiver, envelope, delivery_id=delivery_id)
    await gateway.webhooks.note(receiver, delivery_id, attempt, n_before=0, is_test=True)
    return TestResult(
        success=attempt.is_good,
        delivery_id=delivery_id,
        response_status=attempt.response_status,
        response_excerpt=attempt.excerpt,
        error=attempt.error,
        duration_ms=attempt.duration_ms,
    )


test_webhook.__test__ = False  # type: ignore[attr-defined]  # pytest would take the name for a test


async def list_deliveries(gateway: Gateway, call: Call[DeliveryQuery, None]) -> DeliveryPage:
    """A page of what a webhook was sent, and is to be."""
    row = await find(gateway, call)
    of = [Condition("webhook_id = {value}", row.webhook_id)]
    found = await list_page(
        gateway, call, DELIVERIES, conditions=of, of=row.webhook_id, source=gateway.people
    )
    return DeliveryPage(data=shown(found, _shown), page=page_info(found))


async def redeliver(gateway: Gateway, call: Call[NoQuery, None]) -> Delivery:
    """The same event once more, as a delivery of its own."""
    act, space = act_of(gateway, call), call.workspace_id
    webhook_id, delivery_id = call.path["webhook_id"], call.path["delivery_id"]
    async with tenant(gateway.people, space) as conn:
        webhook = await _queries.lock_webhook(conn, workspace_id=space, webhook_id=webhook_id)
        if webhook is None:
            raise not_found("webhook", webhook_id)
        before = await _queries.get_delivery(
            conn, workspace_id=space, webhook_id=webhook_id, delivery_id=delivery_id
        )
        if before is None:
            raise not_found("delivery", delivery_id)
        if before.event_type == TEST_TYPE:
            raise StateConflictError("A test is not sent again; send another.")
        if before.status == "pending":
            raise StateConflictError("It is on its way still.")
        if not webhook.is_active:
            raise StateConflictError("The webhook is switched off.")
        n_waiting = await _queries.count_waiting(
            conn, workspace_id=space, webhook_id=webhook_id, most=PENDING_MAX
        )
        if n_waiting >= PENDING_MAX:
            raise StateConflictError(f"{PENDING_MAX:,} deliveries wait for this webhook already.")
        again_id = new_id("whd_", now=act.now, rng=gateway.rng)
        await _queries.insert_delivery(
            conn,
            workspace_id=space,
            webhook_id=webhook_id,
            delivery_id=again_id,
            event_id=before.event_id,
            event_type=before.event_type,
            event_sequence=before.event_sequence,
            subject_id=before.subject_id,
            details=before.details,
            occurred_at=before.occurred_at,
            next_attempt_at=act.now,
            created_at=act.now,
        )
        await act.write_down(
            conn, "webhook.redelivered", "other", ("webhook", webhook_id), event_id=before.event_id
        )
        again = await _queries.get_delivery(
            conn, workspace_id=space, webhook_id=webhook_id, delivery_id=again_id
        )
    if again is None:
        raise LookupError("the new delivery gave no row")
    return _shown(msgspec.convert(again, DeliveryRow, from_attributes=True))


_ONE = "/v1/webhooks/{webhook_id}"
_Hook = partial(Operation, tag="Webhooks", scope="webhooks:admin")

OPERATIONS: tuple[AnyOperation, ...] = (
    _Hook(
        id="testWebhook",
        method="POST",
        path=f"{_ONE}/test",
        summary="Send a webhook a test event now.",
        description="200 whether the receiver took it or not: `success` says. Once, also while it is switched off.",
        replies={200: TestResult},
        handle=test_webhook,
    ),
    _Hook(
        id="listWebhookDeliveries",
        method="GET",
        path=f"{_ONE}/deliveries",
        summary="See what a webhook was sent and what it said.",
        description="Of the last 2 days; what was not delivered, of the last 7.",
        query=DeliveryQuery,
        replies={200: DeliveryPage},
        handle=list_deliveries,
    ),
    _Hook(
        id="redeliverWebhookDelivery",
        method="POST",
        path=f"{_ONE}/deliveries/{{delivery_id}}/redeliver",
        summary="Send an event once more.",
        description="As a delivery of its own, with the same event id and the state of now.",
        replies={202: Delivery},
        refusals=(409,),
        handle=redeliver,
    ),
)
