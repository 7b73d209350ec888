"""From the log into the queue of deliveries: each event once for each webhook that asks for it, whoever is killed when."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final

import msgspec
import psycopg
import structlog
from contracts import Event, Recorded
from eventlog import Batch, LogUnavailableError
from psycopg_pool import PoolTimeout
from runtime.database import tenant
from runtime.errors import UnavailableError

from services.gateway import _queries as rows
from services.gateway.identity.webhooks import _queries
from services.gateway.identity.webhooks.sending import PENDING_MAX
from services.gateway.routes.operation import Gateway
from services.gateway.subscriptions.occasions import Occasion, delivery_id_of, event_id_of, occasions_of

log = structlog.get_logger("gateway.webhooks")

POLL_SECONDS: Final = 0.5
REST_SECONDS: Final = 30.0
PROJECTION_SECONDS: Final = 30.0
_AGGREGATES = ("issue", "pattern", "prediction", "recommendation", "fix", "sync_run")
_WORLD_FAILED = (LogUnavailableError, UnavailableError, PoolTimeout, psycopg.Error, OSError)


class _Queued(msgspec.Struct, frozen=True):
    """A delivery as the queue takes it."""

    webhook_id: str
    delivery_id: str
    event_id: str
    event_type: str
    event_sequence: int
    subject_id: str
    details: object
    occurred_at: str


class _MovedError(Exception):
    """The queue is no longer where we left it: another gateway leads."""


class Herald:
    """Queues what the log tells. Each gateway has one; of a partition, that of the gateway which leads it works.

    The position moves with the rows in one transaction and only from where it was, so that neither a crash nor two
    leaders queue anything twice; a rebuild of the read model does not touch it.
    """

    def __init__(self, gateway: Gateway, *, on_queued: Callable[[], None]) -> None:
        self._gateway = gateway
        self._on_queued = on_queued

    async def run(self) -> None:
        """Queue until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for partition in range(self._gateway.resources.event_log.partitions):
                tasks.create_task(self._run(partition))

    async def _run(self, partition: int) -> None:
        while True:
            try:
                if self._gateway.resources.leads(partition):
                    await self._follow(partition)
            except _MovedError:
                log.info("webhooks.position_moved", partition=partition)
            except _WORLD_FAILED as error:
                log.warning("webhooks.interrupted", partition=partition, error=repr(error))
            except Exception:  # the edge: what cannot be queued must not end the gateway
                log.exception("webhooks.not_queued", partition=partition)
                await asyncio.sleep(REST_SECONDS)
            await asyncio.sleep(POLL_SECONDS)

    async def _follow(self, partition: int) -> None:
        """Queue as long as we lead and anybody listens; without webhooks nothing is read."""
        async with self._gateway.people.connection() as conn:
            beginning = await _queries.webhooks_begin(conn, log_partition=partition)
        if beginning.first_sequence is None:
            return
        queued_to = beginning.queued_to
        # What is in between was nobody's.
        position = max(beginning.first_sequence, queued_to or 0)
        batches = self._gateway.resources.event_log.read(partition, after=position, aggregates=_AGGREGATES)
        async with aclosing(batches):
            async for batch in batches:
                if not self._gateway.resources.leads(partition):
                    return
                await self._queue(partition, batch, queued_to=queued_to)
                queued_to = batch.last_seq

    async def _queue(self, partition: int, batch: Batch, *, queued_to: int | None) -> None:
        projector = self._gateway.resources.projectors[partition]
        while not await projector.reached(batch.last_seq, timeout=PROJECTION_SECONDS):
            log.warning("webhooks.projection_late", partition=partition, sequence=batch.last_seq)
        deliveries = await self._deliveries(batch.events)
        async with self._gateway.people.connection() as conn:
            is_queued = await _queries.queue_webhooks(
                conn,
                log_partition=partition,
                from_position=-1 if queued_to is None else queued_to,
                to_position=batch.last_seq,
                deliveries=msgspec.json.encode(deliveries).decode(),
                pending_max=PENDING_MAX,
                now_at=self._gateway.resources.clock(),
            )
        if not is_queued:
            raise _MovedError
        if deliveries:
            self._on_queued()

    async def _deliveries(self, events: Sequence[Recorded[Event]]) -> list[_Queued]:
        told: dict[str, list[tuple[Recorded[Event], Occasion]]] = defaultdict(list)
        for event in events:
            for occasion in occasions_of(event):
                told[event.workspace_id].append((event, occasion))
        if not told:
            return []
        async with self._gateway.people.connection() as conn:
            listening = await _queries.list_listening(conn, workspace_ids=sorted(told))
        connectors = await self._connectors(told, listening)
        return [
            _delivery(webhook, event, occasion)
            for webhook in listening
            for event, occasion in told[webhook.workspace_id]
            if occasion.type in webhook.event_types
            and event.seq > webhook.from_sequence
            and webhook.connector_id
            in (None, occasion.connector_id or connectors.get((webhook.workspace_id, occasion.subject_id)))
        ]

    async def _connectors(
        self,
        told: dict[str, list[tuple[Recorded[Event], Occasion]]],
        listening: Sequence[_queries.Listening],
    ) -> dict[tuple[str, str], str | None]:
        """The connectors of the issues that webhooks of one connector may have to be told of."""
        found: dict[tuple[str, str], str | None] = {}
        for workspace_id in {each.workspace_id for each in listening if each.connector_id is not None}:
            issue_ids = {
                occasion.subject_id
                for _, occasion in told[workspace_id]
                if occasion.type in ("issue.created", "issue.status.changed")
            }
            if not issue_ids:
                continue
            async with tenant(self._gateway.pool, workspace_id) as conn:
                issues = await rows.list_issue_connectors(
                    conn, workspace_id=workspace_id, issue_ids=sorted(issue_ids)
                )
            found |= {(workspace_id, issue.issue_id): issue.connector_id for issue in issues}
        return found


def _delivery(webhook: _queries.Listening, event: Recorded[Event], occasion: Occasion) -> _Queued:
    event_id = event_id_of(event, occasion)
    return _Queued(
        webhook_id=webhook.webhook_id,
        delivery_id=delivery_id_of(webhook.webhook_id, event_id),
        event_id=event_id,
        event_type=occasion.type,
        event_sequence=event.seq,
        subject_id=occasion.subject_id,
        details=occasion.details,
        occurred_at=event.recorded_at.isoformat(),
    )
