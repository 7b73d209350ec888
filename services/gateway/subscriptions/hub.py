"""Who listens, and what they are sent: every event once the read model has passed it."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import aclosing

import msgspec
import structlog
from contracts import Event, Recorded
from eventlog import Batch, LogUnavailableError
from psycopg import Error as DatabaseError
from psycopg_pool import PoolTimeout
from runtime.database import Pool, tenant
from runtime.errors import UnavailableError
from runtime.service import Resources

from services.gateway import _queries
from services.gateway.errors import RateLimitedError
from services.gateway.listing import fetch_one
from services.gateway.routes import patterns
from services.gateway.subscriptions.frames import (
    Frame,
    Packed,
    frames_of,
    link_frame,
    lookup_of,
    pattern_frames,
)
from services.gateway.vocabulary import followed

log = structlog.get_logger()

QUEUE_FRAMES_MAX = 1000
LISTENERS_MAX = 100
"""Of one workspace in one process."""
PROJECTION_SECONDS = 30.0
MEMBERS_SHOWN_MAX = 200
AGGREGATES = ("issue", "pattern", "prediction", "recommendation", "connector", "sync_run", "ticket")
"""What listeners are told of."""


class Subscriber:
    """One client's bounded queue.

    It gets no more once `is_slow`, because something did not fit, or `is_ended`, because its follower failed.
    """

    def __init__(self, workspace_id: str) -> None:
        self.workspace_id = workspace_id
        self.queue: asyncio.Queue[Packed | None] = asyncio.Queue(QUEUE_FRAMES_MAX)
        self.is_slow = False
        self.is_ended = False

    def offer(self, frame: Packed) -> None:
        """Queue a frame, or give the client up: waiting for it would hold up the others."""
        if self.is_slow:
            return
        try:
            self.queue.put_nowait(frame)
        except asyncio.QueueFull:
            self.is_slow = True

    def wake(self) -> None:
        """Have whoever sends look again at who listens; with something to send that happens anyway."""
        if self.queue.empty():
            self.queue.put_nowait(None)

    def end(self) -> None:
        """Nothing more will come; wake whoever sends, so that it sees the end."""
        self.is_ended = True
        if not self.queue.full():
            self.queue.put_nowait(None)


class _Follower:
    """The reader of one workspace's end of the log, while somebody listens."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.task: asyncio.Task[None]


class Hub:
    """Reads a workspace's end of the log once for all its clients of this process, and only while there are any."""

    def __init__(self, resources: Resources, pool: Pool) -> None:
        self._resources = resources
        self._pool = pool
        self._subscribers: dict[str, set[Subscriber]] = defaultdict(set)
        self._followers: dict[str, _Follower] = {}
        self._tasks = asyncio.TaskGroup()

    async def run(self) -> None:
        """Let clients be served until cancelled."""
        async with self._tasks:
            await asyncio.Event().wait()

    async def join(self, workspace_id: str) -> Subscriber:
        """A new client of a workspace; it gets everything that is appended from now on.

        Raises RateLimitedError when the workspace has LISTENERS_MAX of this process already.
        """
        if len(self._subscribers.get(workspace_id, ())) >= LISTENERS_MAX:
            raise RateLimitedError(f"{LISTENERS_MAX} connections of this workspace are open already.")
        subscriber = Subscriber(workspace_id)
        self._subscribers[workspace_id].add(subscriber)
        follower = self._followers.get(workspace_id)
        if follower is None:
            follower = self._followers[workspace_id] = _Follower()
            follower.task = self._tasks.create_task(self._follow_or_end(workspace_id, follower))
        try:
            await follower.begun.wait()
        except asyncio.CancelledError:
            self.leave(subscriber)
            raise
        return subscriber

    def leave(self, subscriber: Subscriber) -> None:
        """A client that is gone."""
        workspace_id = subscriber.workspace_id
        self._subscribers[workspace_id].discard(subscriber)
        if not self._subscribers[workspace_id]:
            del self._subscribers[workspace_id]
            follower = self._followers.pop(workspace_id, None)
            if follower is not None:
                follower.task.cancel()

    def wake(self) -> None:
        """Somebody's rights may have changed: let nobody listen on until the next heartbeat who may not."""
        for subscribers in self._subscribers.values():
            for subscriber in subscribers:
                subscriber.wake()

    def has_listeners(self, workspace_id: str) -> bool:
        """Whether anybody listens to the workspace here."""
        return bool(self._subscribers.get(workspace_id))

    def tell(self, workspace_id: str, frame: Frame) -> None:
        """Send a workspace's clients what no event tells."""
        packed = frame.packed()
        for subscriber in tuple(self._subscribers.get(workspace_id, ())):
            subscriber.offer(packed)

    async def _follow_or_end(self, workspace_id: str, follower: _Follower) -> None:
        """Follow; a failure ends this workspace's clients, who connect again, and nobody else."""
        try:
            await self._follow(workspace_id, follower)
        except Exception:  # the edge: one workspace's failure must not end the process
            log.exception("stream.failed", workspace_id=workspace_id)
            del self._followers[workspace_id]
            for subscriber in self._subscribers.pop(workspace_id, ()):
                subscriber.end()
            follower.begun.set()

    async def _follow(self, workspace_id: str, follower: _Follower) -> None:
        event_log = self._resources.event_log
        partition = event_log.partition_of(workspace_id)
        position: int | None = None
        while True:
            try:
                if position is None:
                    position = await event_log.last_seq(partition)
                    follower.begun.set()
                batches = event_log.read(
                    partition, after=position, aggregates=AGGREGATES, workspace_id=workspace_id
                )
                async with aclosing(batches):
                    async for batch in batches:
                        await self._publish(workspace_id, partition, batch)
                        position = batch.last_seq
            except LogUnavailableError as error:
                log.warning("stream.log_unavailable", partition=partition, error=str(error))
                await asyncio.sleep(0.5)

    async def _publish(self, workspace_id: str, partition: int, batch: Batch) -> None:
        if not batch.events:
            return
        projector = self._resources.projectors[partition]
        while not await projector.reached(batch.last_seq, timeout=PROJECTION_SECONDS):
            log.warning("stream.projection_late", partition=partition, sequence=batch.last_seq)
        frames = [frame for event in batch.events for frame in frames_of(event)]
        frames += await self._looked_up(workspace_id, batch.events)
        packed = [frame.packed() for frame in frames]
        for subscriber in tuple(self._subscribers.get(workspace_id, ())):
            for frame in packed:
                subscriber.offer(frame)

    async def _looked_up(self, workspace_id: str, events: Sequence[Recorded[Event]]) -> list[Frame]:
        """The frames that need rows; clients that miss them because the database is away read them on reconnecting."""
        wanted = lookup_of(events)
        if not wanted.pattern_ids and not wanted.issue_ids:
            return []
        at = events[-1].recorded_at
        try:
            frames: list[Frame] = []
            moved: dict[str, str] = {}
            for pattern_id in sorted(wanted.pattern_ids):
                row = await fetch_one(
                    self._pool, patterns.LISTING, workspace_id=workspace_id, identifier=pattern_id
                )
                is_new = pattern_id in wanted.detected_ids
                # Rows may be ahead of this batch: a pattern is announced by its detection, not before it.
                if row is not None and (is_new or row.created_at < wanted.pattern_ids[pattern_id]):
                    body = msgspec.to_builtins(patterns.present(row), builtin_types=(type(at),))
                    frames += pattern_frames(body, is_new=is_new, at=at)
                if row is not None and pattern_id in wanted.moved_from and not is_new:
                    before = followed(wanted.moved_from[pattern_id], has_recurred=row.has_recurred)
                    if before is not None and before != followed(row.status, has_recurred=row.has_recurred):
                        moved[pattern_id] = before
            async with tenant(self._pool, workspace_id) as conn:
                issue_ids = set(wanted.issue_ids)
                for pattern_id in sorted(wanted.detected_ids | moved.keys()):
                    members = await _queries.list_member_ids(
                        conn, workspace_id=workspace_id, pattern_id=pattern_id, n=MEMBERS_SHOWN_MAX
                    )
                    issue_ids.update(members)
                states = await _queries.list_issue_states(
                    conn, workspace_id=workspace_id, issue_ids=sorted(issue_ids)
                )
        except (DatabaseError, PoolTimeout, UnavailableError) as error:
            log.warning("stream.lookup_failed", workspace_id=workspace_id, error=str(error))
            return []
        following = [state for state in states if state.status != state.own_status]
        linked = [
            link_frame(
                state.issue_id,
                before=state.own_status
                if state.issue_id in wanted.issue_ids
                else moved.get(state.pattern_id or "", state.own_status),
                now=state.status,
                pattern_id=state.pattern_id,
                at=at,
            )
            for state in following
        ]
        return [*frames, *linked]
