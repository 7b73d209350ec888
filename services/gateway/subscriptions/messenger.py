"""From the queue of deliveries to the webhooks: fair among workspaces, one at a time to each, again after a failure."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, Literal, get_args

import msgspec
import psycopg
import structlog
from prometheus_client import Counter as Metric
from prometheus_client import Histogram
from psycopg_pool import PoolTimeout
from runtime import metrics
from runtime.database import tenant
from runtime.errors import UnavailableError
from runtime.places import Places

from services.gateway.identity.webhooks import _queries
from services.gateway.identity.webhooks.messages import Envelope
from services.gateway.identity.webhooks.sending import SECONDS, Attempt, Receiver, Sender
from services.gateway.listing import fetch_one
from services.gateway.routes import issues, patterns, predictions, recommendations, sync_runs
from services.gateway.routes.operation import Gateway
from services.gateway.routes.proofs import proofs_by_pattern, shown_proof
from services.gateway.subscriptions.occasions import delivery_id_of

log = structlog.get_logger("gateway.webhooks")

AT_ONCE_MAX: Final = 32
"""Webhooks that one gateway sends to at the same time."""
OF_A_WORKSPACE_MAX: Final = 4
SLOW_SECONDS: Final = 4.0
"""Whose receiver takes longer than that of one turn is slow, so that its workspace has to share: see `runtime.places`.
Less than it takes to find that nobody is there; 20 deliveries at 200 ms."""
TURN_DELIVERIES_MAX: Final = 20
TURN_SECONDS: Final = 40.0
LEASE_SECONDS: Final = 15.0
"""How long a webhook stays with a gateway that gives no sign of life."""
HELD_SECONDS: Final = SECONDS + 3.0
"""What has to be left of it for one more attempt."""
FREE_SECONDS: Final = 2.0
"""How long a gateway that ends takes at most to leave its webhooks to others."""
LOOK_SECONDS: Final = 1.0
VISIBLE_SECONDS: Final = 10.0
PURGE_SECONDS: Final = 3600.0
PURGED_AT_ONCE: Final = 10_000
KEPT_SUCCEEDED: Final = timedelta(days=2)
KEPT: Final = timedelta(days=7)
_WORLD_FAILED = (UnavailableError, PoolTimeout, psycopg.Error, OSError)
_GONE: Final = "What it is about is gone, or not to be seen."
_UNMADE: Final = "We could not put together what is sent. This is ours to mend; it is tried again."

Outcome = Literal["taken", "refused", "unanswered", "unsent"]
ATTEMPTS: Final = Metric(
    "causeloop_webhook_attempts",
    "Attempts at webhooks, by what came of them: taken, refused (not 2xx), unanswered, or unsent: not called, for want of a"
    " secret or as nothing may be sent there. Without tests.",
    ["outcome"],
    registry=metrics.REGISTRY,
)
for _each in get_args(Outcome):
    ATTEMPTS.labels(_each)  # a rate of what never was is zero
LAG_SECONDS: Final = Histogram(
    "causeloop_webhook_lag_seconds",
    "From an event to the first call that tells a webhook of it; not of what is sent once more.",
    registry=metrics.REGISTRY,
    buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200, 43_200),
)


class Content(msgspec.Struct, frozen=True):
    """What a delivery says. connector_id: whose it is; None: no connector's."""

    data: Mapping[str, object]
    connector_id: str | None = None


class Messenger:
    """Sends what is due. Each gateway has one; they share the webhooks, and none sends to what another is at."""

    def __init__(self, gateway: Gateway, sender: Sender) -> None:
        self._gateway = gateway
        self._sender = sender
        self._places = Places(AT_ONCE_MAX, each=OF_A_WORKSPACE_MAX)
        self._turns: set[asyncio.Task[None]] = set()
        # A turn as it was taken → as it is held by now: one that was lost has nothing to do with the next at its webhook.
        self._leased: dict[_queries.Turn, _queries.Turn] = {}
        self._told = asyncio.Event()

    def wake(self) -> None:
        """Look at the queue now."""
        self._told.set()

    async def run(self) -> None:
        """Send until cancelled; what was being sent then is sent again, with the same id, by another at once."""
        purge_at = 0.0
        try:
            while True:
                self._told.clear()
                try:
                    while len(self._turns) < AT_ONCE_MAX and await self._begin_turn():
                        pass
                    if asyncio.get_running_loop().time() >= purge_at and await self._purge():
                        purge_at = asyncio.get_running_loop().time() + PURGE_SECONDS
                except _WORLD_FAILED as error:
                    log.warning("webhooks.queue_unreachable", error=repr(error))
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._told.wait()
        finally:
            for turn in self._turns:
                turn.cancel()
            await asyncio.gather(*self._turns, return_exceptions=True)
            await self._free()

    async def _free(self) -> None:
        """Leave to others what was leased and did not come to its end."""
        try:
            async with asyncio.timeout(FREE_SECONDS):
                for held in self._leased.values():
                    await self._sender.end_turn(held)
        except (*_WORLD_FAILED, TimeoutError) as error:
            log.warning("webhooks.leases_left", error=repr(error))

    async def _begin_turn(self) -> bool:
        now = self._gateway.resources.clock()
        async with self._gateway.people.connection() as conn:
            taken = await _queries.take_turn(
                conn,
                now_at=now,
                until=now + timedelta(seconds=LEASE_SECONDS),
                without=[*self._places.without()],
            )
        if taken is None:
            return False
        self._leased[taken] = taken
        turn = asyncio.create_task(self._turn_or_log(taken))
        self._turns.add(turn)
        self._places.take(taken.workspace_id)

        def ended(_: object) -> None:
            self._turns.discard(turn)
            self._places.give_back(taken.workspace_id)
            self._told.set()

        turn.add_done_callback(ended)
        return True

    async def _turn_or_log(self, taken: _queries.Turn) -> None:
        """The edge: one webhook that goes wrong is left alone until its lease is over, and holds up no other."""
        with structlog.contextvars.bound_contextvars(webhook_id=taken.webhook_id):
            try:
                await self._turn(taken)
            except _WORLD_FAILED as error:
                log.warning("webhooks.turn_interrupted", error=repr(error))
            except Exception:
                log.exception("webhooks.turn_failed")
            # Not where it is cancelled: then `run` ends, and frees what is left here.
            self._leased.pop(taken, None)

    async def _turn(self, taken: _queries.Turn) -> None:
        loop, held = asyncio.get_running_loop(), taken
        ends_at = loop.time() + TURN_SECONDS
        async with tenant(self._gateway.people, taken.workspace_id) as conn:
            due = await _queries.list_due(
                conn,
                workspace_id=taken.workspace_id,
                webhook_id=taken.webhook_id,
                now_at=self._gateway.resources.clock(),
                page_size=TURN_DELIVERIES_MAX,
            )
        visible = max((delivery.event_sequence for delivery in due), default=0)
        if not await self._gateway.resources.reached(taken.workspace_id, visible, timeout=VISIBLE_SECONDS):
            due = []
        n_seconds = 0.0
        for delivery in due:
            # Found anew for each: it may have been switched off, moved, deleted or given another secret meanwhile.
            receiver = await self._sender.find(taken.workspace_id, taken.webhook_id)
            if receiver is None or not receiver.is_active or loop.time() >= ends_at:
                break
            if self._places.is_beyond(taken.workspace_id):
                break
            envelope = await self._envelope(receiver, delivery)
            if envelope is None:
                continue
            # Not before: the rows may take long, just when the database is busy.
            still = await self._held(held)
            if still is None:
                return
            held = self._leased[taken] = still
            attempt = await self._call(receiver, delivery, envelope)
            n_seconds += attempt.duration_ms / 1000
            if n_seconds > SLOW_SECONDS:
                self._places.note_slow(taken.workspace_id)
            if not attempt.is_good:
                break
        await self._sender.end_turn(held)

    async def _held(self, taken: _queries.Turn) -> _queries.Turn | None:
        """The turn, ours for as long as an attempt takes; None: a process that was held up has lost it."""
        now = self._gateway.resources.clock()
        if taken.leased_until - now >= timedelta(seconds=HELD_SECONDS):
            return taken
        return await self._sender.hold_turn(taken, until=now + timedelta(seconds=LEASE_SECONDS))

    async def _envelope(self, receiver: Receiver, delivery: _queries.Due) -> Envelope | None:
        """What is sent; None: there is nothing to send, which is noted."""
        workspace_id = receiver.workspace_id
        try:
            content = await content_of(self._gateway, workspace_id, delivery)
        except _WORLD_FAILED:
            raise
        except Exception:  # the edge: one that cannot be made steps aside, like one that was not taken
            log.exception("webhooks.content_unmade", delivery_id=delivery.delivery_id)
            unmade = Attempt(None, None, _UNMADE, 0, is_ours=True)
            await self._sender.note(receiver, delivery.delivery_id, unmade, n_before=delivery.n_attempts)
            return None
        if content is None:
            async with tenant(self._gateway.people, workspace_id) as conn:
                await _queries.skip_delivery(
                    conn, error=_GONE, workspace_id=workspace_id, delivery_id=delivery.delivery_id
                )
            return None
        return Envelope(
            id=delivery.event_id,
            type=delivery.event_type,
            workspace_id=workspace_id,
            connector_id=content.connector_id,
            created_at=delivery.occurred_at,
            data=content.data,
        )

    async def _call(self, receiver: Receiver, delivery: _queries.Due, envelope: Envelope) -> Attempt:
        """How it went, which is noted."""
        # A delivery that somebody asked for anew has another id, and is late by no fault of ours.
        is_first = delivery.delivery_id == delivery_id_of(receiver.webhook_id, delivery.event_id)
        late = self._gateway.resources.clock() - delivery.occurred_at
        attempt = await self._sender.post(receiver, envelope, delivery_id=delivery.delivery_id)
        ATTEMPTS.labels(_outcome(attempt)).inc()
        if is_first and not delivery.n_attempts and attempt.is_called:
            LAG_SECONDS.observe(max(late.total_seconds(), 0.0))
        await self._sender.note(receiver, delivery.delivery_id, attempt, n_before=delivery.n_attempts)
        return attempt

    async def _purge(self) -> bool:
        """Delete some of what is old; whether that was all."""
        async with self._gateway.people.connection() as conn:
            n_purged = await _queries.purge_deliveries(
                conn,
                now_at=self._gateway.resources.clock(),
                succeeded=KEPT_SUCCEEDED,
                others=KEPT,
                most=PURGED_AT_ONCE,
            )
        if n_purged:
            log.info("webhooks.deliveries_purged", n=n_purged)
        return n_purged < PURGED_AT_ONCE


def _outcome(attempt: Attempt) -> Outcome:
    if attempt.is_good:
        return "taken"
    if not attempt.is_called:
        return "unsent"
    return "unanswered" if attempt.response_status is None else "refused"


async def content_of(gateway: Gateway, workspace_id: str, delivery: _queries.Due) -> Content | None:
    """The resource as GET shows it now, with what the event adds; None: it is gone, or not to be seen."""
    found = await _resource(gateway, workspace_id, delivery)
    if found is None:
        return None
    details = msgspec.json.decode(delivery.details, type=dict[str, object])
    data = msgspec.to_builtins(found, builtin_types=(datetime,))
    connector_id = data.get("connector_id")
    return Content(data | details, connector_id if isinstance(connector_id, str) else None)


async def _resource(gateway: Gateway, workspace_id: str, delivery: _queries.Due) -> msgspec.Struct | None:
    pool, subject_id = gateway.pool, delivery.subject_id
    match delivery.event_type.partition(".")[0]:
        case "issue":
            issue = await fetch_one(pool, issues.LISTING, workspace_id=workspace_id, identifier=subject_id)
            return None if issue is None else issues.detail(issue, style="code")
        case "pattern":
            pattern = await fetch_one(
                pool, patterns.LISTING, workspace_id=workspace_id, identifier=subject_id
            )
            return None if pattern is None else patterns.present(pattern)
        case "prediction":
            made = await fetch_one(
                pool, predictions.LISTING, workspace_id=workspace_id, identifier=subject_id
            )
            return None if made is None else predictions.present(made)
        case "recommendation":
            row = await fetch_one(
                pool, recommendations.LISTING, workspace_id=workspace_id, identifier=subject_id
            )
            return None if row is None else (await recommendations.ranked(gateway, workspace_id, [row]))[0]
        case "fix":
            pattern_id = msgspec.json.decode(delivery.details, type=dict[str, str])["pattern_id"]
            proofs = (await proofs_by_pattern(gateway, workspace_id, [pattern_id])).get(pattern_id, [])
            now = gateway.resources.clock()
            return next((shown_proof(proof, now=now) for proof in proofs if proof.fix_id == subject_id), None)
        case "connector":
            run = await fetch_one(pool, sync_runs.LISTING, workspace_id=workspace_id, identifier=subject_id)
            return None if run is None else sync_runs.present(run)
        case _:
            return None
