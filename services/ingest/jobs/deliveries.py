"""Deliveries of vendors, taken from the queue of jobs and made issues of."""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final
from weakref import WeakValueDictionary

import msgspec
import nats.errors
import psycopg
import structlog
from eventlog import AppendRefusedError, LogUnavailableError
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import APIError
from psycopg_pool import PoolTimeout
from runtime.broker import CommandContext
from runtime.errors import UnavailableError

from services.ingest.connectors.expressions import ExpressionError
from services.ingest.connectors.payloads import UnreadableError, payload_of, read_delivery
from services.ingest.errors import PlanFullError
from services.ingest.jobs.directory import Addressee, Directory
from services.ingest.jobs.hands import Failures, InHand
from services.ingest.jobs.intake import PUSHED, Intake
from services.ingest.jobs.outbox import KIND, Delivery
from services.ingest.jobs.queue import (
    ACK_WAIT_SECONDS,
    DELIVERIES,
    FETCH_SECONDS,
    JOBS_MAX,
    JobQueue,
    give_signs,
    hand_back,
)
from services.ingest.records import Records, Rejection

RECORDS_MAX: Final = 5_000
"""Of one delivery; one with more is a dead letter as a whole."""
FETCHED_AT_ONCE: Final = 64
GATHER_SECONDS: Final = 0.05
"""How long the first that comes waits for others, unless enough of them wait, and then once more if none came: each
fetch costs, and so does each group that is made of it."""
PATIENCE_SECONDS: Final = 1.0
"""How long a workspace that has its share in hand is waited for, which keeps the order; then its deliveries go back."""
GROUP_MAX: Final = 250
GROUP_BYTES_MAX: Final = 1024 * 1024
"""Deliveries of one connector that are taken in together, for a group costs a dozen round trips; one may be larger."""
GROUP_ENOUGH: Final = 32
GROUP_SECONDS: Final = 0.005
"""Between the beginnings of groups of fewer deliveries: with many connectors each waits longer for its turn, and its groups
are larger."""
GROUPS_AT_ONCE: Final = 4
GROUPS_PER_WORKSPACE: Final = 2
"""Groups that are worked on at once. One connector's come one after the other."""
FAILURES_TOGETHER: Final = 3
"""After so many failures a delivery is handled by itself, so that it holds up no others."""
RETRY_SECONDS: Final = (1.0, 5.0, 30.0, 120.0, 600.0)
TRIES_MAX: Final = 8
"""Half an hour's: what fails by itself for so often, in one process, becomes a dead letter; while something of ours is away it
waits."""
AWAY_SECONDS: Final = (1.0, 5.0, 30.0, 120.0)
"""When something of ours was away, by how often that was so, in this process, since the delivery came."""
GIVEN_UP: Final = f"could not be taken in, {TRIES_MAX} times; try it again when the cause is mended"

_AWAY: Final = (UnavailableError, LogUnavailableError, psycopg.OperationalError, PoolTimeout)
"""What is wrong with us and not with a delivery."""

_UNREACHABLE: Final = (nats.errors.Error, APIError, TimeoutError, OSError)

log = structlog.get_logger()


class Receiver:
    """Takes deliveries out of the queue, many at a time, and makes issues of them.

    A delivery leaves the queue when its issues are durable and it is written down as taken; whoever dies before that
    leaves it to the next, who reports the same once more, which changes nothing.
    """

    def __init__(
        self, nc: Client, queue: JobQueue, directory: Directory, records: Records, intake: Intake
    ) -> None:
        self._js = nc.jetstream(timeout=5.0)
        self._queue = queue
        self._directory = directory
        self._records = records
        self._intake = intake
        self._tasks: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        self._in_hand = InHand()
        self._failures = Failures()
        self._absences = Failures()
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._slow: set[str] = set()
        self._next_at = 0.0
        self._all = asyncio.Semaphore(GROUPS_AT_ONCE)
        self._doors: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def run(self) -> None:
        """Work without end; several processes share the deliveries. Once it is cancelled, others have what it had in hand."""
        try:
            while True:
                try:
                    await self._pull()
                except _UNREACHABLE as error:
                    log.warning("deliveries.unreachable", error=repr(error))
                    with suppress(APIError, nats.errors.Error, TimeoutError):
                        await self._queue.ensure()
                    await asyncio.sleep(1.0)
        finally:
            in_hand = [message for lane in self._lanes.values() for message in lane.in_hand.values()]
            for task in self._tasks:
                task.cancel()
            try:
                await asyncio.gather(*self._tasks, return_exceptions=True)
            finally:
                # Also when one of them does not end and this is cut short.
                await hand_back(in_hand)

    async def _pull(self) -> None:
        await self._js.add_consumer(
            DELIVERIES,
            ConsumerConfig(
                durable_name=KIND,
                filter_subject=f"job.{KIND}.>",
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT_SECONDS,
                max_deliver=-1,
                # Also what went back for a while counts: it must not keep others' from being offered.
                max_ack_pending=JOBS_MAX,
            ),
        )
        subscription = await self._js.pull_subscribe_bind(durable=KIND, stream=DELIVERIES)
        try:
            while True:
                await self._room()
                with suppress(nats.errors.TimeoutError, TimeoutError):
                    await self._offer(await _read(await _fetch(subscription)))
        finally:
            with suppress(Exception):
                await subscription.unsubscribe()

    async def _room(self) -> None:
        """Return when more may be taken."""
        while self._in_hand.is_full:
            self._freed.clear()
            await self._freed.wait()

    async def _offer(self, offered: "Sequence[Offered]") -> None:
        """Begin with what there is room for. Whoever has their share is waited for a moment, until all theirs are done
        only once; then what is beyond it goes back, and nobody else waits for it."""
        rest = self._begin_within(offered)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while any(_workspace_of(message) not in self._slow for message, _ in rest):
                    self._freed.clear()
                    await self._freed.wait()
                    rest = self._begin_within(rest)
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            await hand_back(message for message, _ in rest)
            raise
        now = asyncio.get_running_loop().time()
        for message, _ in rest:
            workspace_id = _workspace_of(message)
            self._slow.add(workspace_id)
            await message.nak(delay=self._in_hand.put_back(workspace_id, message.subject, now=now))

    def _begin_within(self, offered: "Sequence[Offered]") -> "Sequence[Offered]":
        """What is beyond the share of its connector or workspace; of each connector the first are begun with."""
        begun: list[Offered] = []
        rest: list[Offered] = []
        full: set[tuple[str, str]] = set()
        for message, delivery in offered:
            name = (_workspace_of(message), delivery.connector_id)
            if name in full or not self._in_hand.take(*name, len(message.data)):
                full.add(name)
                rest.append((message, delivery))
            else:
                begun.append((message, delivery))
        self._begin(begun)
        return rest

    def _begin(self, offered: "Sequence[Offered]") -> None:
        """Put each behind those of its connector, which are worked on in their order; nobody waits for it here."""
        for message, delivery in offered:
            name = (_workspace_of(message), delivery.connector_id)
            lane = self._lanes.get(name)
            if lane is None:
                lane = self._lanes[name] = _Lane()
                task = asyncio.create_task(self._work(*name, lane))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            lane.put((message, delivery))

    async def _work(self, workspace_id: str, connector_id: str, lane: "_Lane") -> None:
        """What waits of one connector, one group after the other; what comes before a group's turn goes with it."""
        signs = asyncio.create_task(give_signs(lane.in_hand.values(), every=ACK_WAIT_SECONDS / 3))
        try:
            while lane.waiting:
                async with self._door(workspace_id, GROUPS_PER_WORKSPACE), self._all:
                    await self._turn(workspace_id, lane)
                    group = lane.take(self._is_alone)
                    try:
                        await self._do(workspace_id, connector_id, group)
                    except _UNREACHABLE as error:
                        # What could not be said to the server it finds out by itself.
                        log.warning("deliveries.unanswered", n=len(group), error=repr(error))
                    finally:
                        self._let_go(workspace_id, connector_id, lane, group)
        finally:
            signs.cancel()
            del self._lanes[workspace_id, connector_id]
            self._let_go(workspace_id, connector_id, lane, lane.waiting)

    async def _turn(self, workspace_id: str, lane: "_Lane") -> None:
        """Return when a group may begin; at once where waiting makes it no larger, or hardly cheaper."""
        is_large = len(lane.waiting) >= GROUP_ENOUGH and not self._is_alone(lane.waiting[0])
        if is_large or not self._in_hand.has_room(workspace_id):
            return
        loop = asyncio.get_running_loop()
        begins_at = max(loop.time(), self._next_at)
        self._next_at = begins_at + GROUP_SECONDS
        await asyncio.sleep(begins_at - loop.time())

    def _let_go(
        self, workspace_id: str, connector_id: str, lane: "_Lane", members: "Collection[Offered]"
    ) -> None:
        """These are in hand no longer, done or not."""
        for message, _ in members:
            lane.in_hand.pop(id(message), None)
            self._in_hand.give_back(workspace_id, connector_id, len(message.data))
        if not self._in_hand.has_any(workspace_id):
            self._slow.discard(workspace_id)
        self._freed.set()

    def _is_alone(self, offered: "Offered") -> bool:
        """What has failed before holds up no others."""
        return self._failures.of(offered[0].subject) >= FAILURES_TOGETHER

    def _door(self, name: str, room: int) -> asyncio.Semaphore:
        """There while somebody is in it or waits at it, who go in in the order in which they came."""
        door = self._doors.get(name)
        if door is None:
            door = self._doors[name] = asyncio.Semaphore(room)
        return door

    async def _do(self, workspace_id: str, connector_id: str, members: "Sequence[Offered]") -> None:
        try:
            try:
                await self._take(workspace_id, connector_id, [delivery for _, delivery in members])
            except Exception as error:
                if (
                    _is_ours(error)
                    or max(self._failures.add(message.subject) for message, _ in members) < TRIES_MAX
                ):
                    raise
                for _, delivery in members:
                    await self._give_up(workspace_id, delivery, error)
        except Exception as error:  # noqa: BLE001  # edge: what fails here waits in the queue, nothing is lost
            wait = self._back_off(members, error)
            log.warning("deliveries.postponed", n=len(members), error=repr(error), retry_after=wait)
            for message, _ in members:
                await message.nak(delay=wait)
        else:
            for message, _ in members:
                await message.ack()
                self._in_hand.forget(workspace_id, message.subject)
                self._failures.forget(message.subject)
                self._absences.forget(message.subject)

    def _back_off(self, members: "Sequence[Offered]", error: Exception) -> float:
        """In how many seconds what could not be taken in is offered again."""
        if _is_ours(error):
            n_absences = max(self._absences.add(message.subject) for message, _ in members)
            return AWAY_SECONDS[min(n_absences, len(AWAY_SECONDS)) - 1]
        n_failed = max(self._failures.of(message.subject) for message, _ in members)
        return RETRY_SECONDS[min(n_failed, len(RETRY_SECONDS)) - 1]

    async def _give_up(self, workspace_id: str, delivery: Delivery, error: Exception) -> None:
        """Keep as a dead letter what could not be taken in: it may be tried again when that is mended."""
        connector_id = delivery.connector_id
        known = await self._directory.find_one(connector_id)
        if known is None:
            _note_dropped(connector_id, 1)
            return
        log.error("delivery.given_up", connector_id=connector_id, error=type(error).__name__)
        try:
            records = _records_of(known, delivery)
            await self._reject(workspace_id, connector_id, records, GIVEN_UP, came_at=delivery.received_at)
        except Exception:  # noqa: BLE001  # it may be the very record that cannot be read, so as it came
            body = delivery.body.decode(errors="replace")
            await self._reject(workspace_id, connector_id, (body,), GIVEN_UP, came_at=delivery.received_at)
        await self._records.note_deliveries(workspace_id, connector_id, delivery.keys)

    async def _reject(
        self,
        workspace_id: str,
        connector_id: str,
        records: Sequence[object],
        reason: str,
        *,
        came_at: datetime | None = None,
    ) -> None:
        rejections = [Rejection(record, "", reason, came_at) for record in records]
        await self._records.reject(workspace_id, connector_id, PUSHED, rejections)

    async def _take(self, workspace_id: str, connector_id: str, deliveries: Sequence[Delivery]) -> None:
        known = await self._directory.find_one(connector_id)
        if known is None or known.workspace_id != workspace_id:
            # Deleted since: nobody wants them any more.
            _note_dropped(connector_id, len(deliveries))
            return
        keys = [key for delivery in deliveries for key in delivery.keys]
        taken = set(await self._records.taken_deliveries(workspace_id, connector_id, keys))
        found: list[object] = []
        came_at: list[datetime] = []
        for delivery in deliveries:
            if taken.isdisjoint(delivery.keys):
                records = _records_of(known, delivery)
                found += records
                came_at += [delivery.received_at] * len(records)
            taken.update(delivery.keys)
        if found:
            context = CommandContext(workspace_id=workspace_id, correlation_id=deliveries[0].keys[0])
            try:
                # One that went back is not newer than those that were taken in meanwhile.
                await self._intake.take_in(known.source, PUSHED, found, context, came_at=came_at)
            except PlanFullError as error:
                # The vendor was told that we have them, and will not send them again.
                letters = [Rejection(record, "", error.message, at) for record, at in error.refused]
                await self._records.reject(workspace_id, connector_id, PUSHED, letters)
        await self._records.note_deliveries(workspace_id, connector_id, keys)


Offered = tuple[Msg, Delivery]


class _Lane:
    """What is in hand of one connector, in its order. in_hand: also what is being worked on."""

    def __init__(self) -> None:
        self.waiting: deque[Offered] = deque()
        self.in_hand: dict[int, Msg] = {}

    def put(self, offered: Offered) -> None:
        """Behind all others."""
        self.waiting.append(offered)
        self.in_hand[id(offered[0])] = offered[0]

    def take(self, is_alone: Callable[[Offered], bool]) -> list[Offered]:
        """The first ones, as many as make a group; one that is alone is one by itself."""
        group: list[Offered] = []
        n_bytes = 0
        while self.waiting and len(group) < GROUP_MAX:
            message, _ = offered = self.waiting[0]
            n_bytes += len(message.data)
            if group and (n_bytes > GROUP_BYTES_MAX or is_alone(group[0]) or is_alone(offered)):
                break
            group.append(self.waiting.popleft())
        return group


_decode = msgspec.msgpack.Decoder(Delivery).decode


def _is_ours(error: Exception) -> bool:
    """Whether something of ours is away, and not the delivery such that it can never be taken in."""
    return isinstance(error, _AWAY) and not isinstance(error.__cause__, AppendRefusedError)


async def _fetch(subscription: JetStreamContext.PullSubscription) -> list[Msg]:
    """What waits, once something does. Raises TimeoutError where nothing came for long."""
    first = asyncio.create_task(subscription.fetch(1, timeout=FETCH_SECONDS))
    try:
        # Cancelled itself at the moment in which something comes, it would go on as if nothing were.
        messages = await asyncio.shield(first)
    except asyncio.CancelledError:
        first.cancel()
        with suppress(*_UNREACHABLE, asyncio.CancelledError):
            await hand_back(await first)
        raise
    others = None
    try:
        if messages[0].metadata.num_pending < FETCHED_AT_ONCE:
            await asyncio.sleep(GATHER_SECONDS)
        others = asyncio.create_task(subscription.fetch(FETCHED_AT_ONCE - 1, timeout=GATHER_SECONDS))
        messages += await asyncio.shield(others)
    except asyncio.CancelledError:
        if others is not None:
            # Cancelled as well, it would lose what it has by now.
            with suppress(*_UNREACHABLE):
                messages += await others
        await hand_back(messages)
        raise
    except _UNREACHABLE:
        # The next look says so too, if it lasts; the first is at hand.
        pass
    return messages


async def _read(messages: Sequence[Msg]) -> list[Offered]:
    """What the queue gave; what none of ours has put there leaves it, for nobody could ever read it."""
    offered: list[Offered] = []
    for message in messages:
        try:
            offered.append((message, _decode(message.data)))
        except msgspec.DecodeError:
            log.exception("delivery.unreadable", subject=message.subject)
            await message.ack()
    return offered


def _note_dropped(connector_id: str, n: int) -> None:
    log.warning("deliveries.dropped", connector_id=connector_id, n=n)


def _workspace_of(message: Msg) -> str:
    return message.subject.split(".")[2]


def _records_of(known: Addressee, delivery: Delivery) -> tuple[object, ...]:
    """The records in a delivery; one that is too much, or cannot be read, as a manifest of somebody's own may make it, is one
    itself."""
    try:
        payload = payload_of(delivery.body, delivery.headers.get("content-type", ""))
        records = read_delivery(known.webhook, payload, delivery.headers).records
        if len(records) <= RECORDS_MAX:
            return records
    except (UnreadableError, ExpressionError):
        pass
    return (delivery.body.decode(errors="replace"),)
