"""The queue of jobs: a JetStream work queue that survives whoever works on it.

A job is there once: while one of its id waits or is worked on, putting it again changes nothing.
"""

import asyncio
import re
import time
from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from typing import Final, Literal

import nats.errors
import structlog
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError
from runtime.errors import UnavailableError, described

STREAM: Final = "JOBS"
DELIVERIES: Final = "DELIVERIES"
"""The same for what vendors send, apart: however much that is, runs have their place."""
JOBS_MAX: Final = 200_000
JOBS_BYTES_MAX: Final = 64 * 1024 * 1024
DELIVERIES_BYTES_MAX: Final = 512 * 1024 * 1024
AGE_MAX_SECONDS: Final = 7 * 86_400
"""A job that nobody could do for a week is given up."""

ACK_WAIT_SECONDS: Final = 15.0
"""After so long without a sign of life a job is given to somebody else."""
TAKEN_MAX: Final = 65_536
FETCH_SECONDS: Final = 20.0
STEP_ASIDE_SECONDS_MAX: Final = 300.0
UNSEEN_SECONDS_MAX: Final = 2.0
"""How long a run that takes long lets others have a turn, and after how much of that it looks again where there are jobs
that nobody has seen yet: they may all be of one workspace, most of which step aside at once and leave a hand idle."""
SLOW_SECONDS: Final = 10.0
SLOW_FOR_SECONDS: Final = 600.0
SLOW_SHARE: Final = 2
"""Whose job holds a hand for longer than that is slow for so long; while others wait slow workspaces have half of the
hands together, and all but one while nobody does, so that however many sources drip, the others are asked."""
CROWDED_DELAY_SECONDS: Final = 2.0
CROWDED_STEP_SECONDS: Final = 0.02
CROWDED_DELAY_SECONDS_MAX: Final = 60.0
"""When a job is offered again whose workspace had its share of hands at the time, and how much later for each other of
that workspace that steps aside: what is offered again comes before what is new, so it must not come all at once."""
BACK_OFF_SECONDS: Final = (5.0, 30.0, 120.0, 600.0)
"""When a job is offered again that failed for the first time, the second, …: a bug, or a server of ours that is away.
Each process counts what failed in its own hands since the job got on; turns and waits are no failures."""
FAILING_MAX: Final = 10_000
"""Jobs whose failures are counted; beyond them, the one that failed longest ago begins anew."""

_SUBJECT: Final = re.compile(r"job(\.[A-Za-z0-9_-]{1,128}){3}")
_NOT_STORED: Final = 10077
_WAITS_ALREADY: Final = "maximum messages per subject exceeded"
"""The server has one code for all that it could not store, such as what finds the queue full; the words tell them apart."""
_STREAM_EXISTS: Final = frozenset({10058, 10065})

Kind = Literal["sync"]

log = structlog.get_logger()


class Job(Struct, frozen=True):
    """Something to do. n_deliveries: how often it was offered to somebody, from 1."""

    workspace_id: str
    job_id: str
    payload: bytes
    n_deliveries: int


class Later(Exception):  # noqa: N818  # no error: the job is wanted again
    """Raised by whoever works on a job: not now, but in so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class StepAside(Later):
    """Raised by whoever works on a job that takes long: it goes on when those that wait now have had a turn.

    seconds: no sooner than that, where it could not get on. Whoever used less of a turn than others goes on so much sooner.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(seconds)


class JobQueue:
    """Jobs of several kinds, each `job.<kind>.<workspace>.<id>`.

    replicas: copies of the stream where it has to be made. ack_wait_seconds: see ACK_WAIT_SECONDS.
    """

    def __init__(self, nc: Client, *, replicas: int = 1, ack_wait_seconds: float = ACK_WAIT_SECONDS) -> None:
        self._nc = nc
        self._js: JetStreamContext = nc.jetstream(timeout=5.0)
        self._replicas = replicas
        self._ack_wait = ack_wait_seconds

    async def ensure(self) -> None:
        """Make the streams that are not there; one that exists stays as its operator set it."""
        await self._ensure(STREAM, "job.sync.>", JOBS_BYTES_MAX)
        await self._ensure(DELIVERIES, "job.delivery.>", DELIVERIES_BYTES_MAX)

    async def _ensure(self, name: str, subjects: str, bytes_max: int) -> None:
        config = StreamConfig(
            name=name,
            subjects=[subjects],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=True,
            max_msgs_per_subject=1,
            max_msgs=JOBS_MAX,
            max_bytes=bytes_max,
            max_age=AGE_MAX_SECONDS,
            storage=StorageType.FILE,
            num_replicas=self._replicas,
        )
        try:
            await self._js.add_stream(config)
        except APIError as error:
            if error.err_code not in _STREAM_EXISTS:
                raise

    async def put(self, kind: Kind, workspace_id: str, job_id: str, payload: bytes) -> bool:
        """Put a job; False where it waits already, or is being worked on.

        Ids are of letters, digits, _ and -. Raises UnavailableError, when putting it again is safe.
        """
        subject = f"job.{kind}.{workspace_id}.{job_id}"
        if not _SUBJECT.fullmatch(subject):
            raise ValueError(f"not usable as a subject: {subject!r}")
        try:
            await self._js.publish(subject, payload, stream=STREAM)
        except APIError as error:
            if waits_already(error.err_code, error.description):
                return False
            raise UnavailableError("The queue of jobs takes no more now.", retry_after=5.0) from error
        except (nats.errors.Error, TimeoutError) as error:
            raise UnavailableError("The queue of jobs does not answer.") from error
        return True

    async def work(
        self,
        kind: Kind,
        handle: Callable[[Job], Awaitable[None]],
        *,
        at_once: int,
        per_workspace: int,
    ) -> None:
        """Take jobs and handle them, without end; several processes share them.

        A job is done when `handle` returns. Raising Later offers it again then; any other error offers it again after
        a back-off. at_once, per_workspace: how many run in this process; a workspace's other jobs step aside,
        and those of slow workspaces beyond their share.
        """
        hands = _Hands(
            handle,
            lambda: self._n_pending(kind),
            at_once=at_once,
            per_workspace=per_workspace,
            sign_every=self._ack_wait / 3,
        )
        try:
            while True:
                try:
                    await self._pull(kind, hands)
                except (nats.errors.Error, APIError, TimeoutError, OSError) as error:
                    log.warning("jobs.unreachable", kind=kind, error=repr(error))
                    if isinstance(error, NotFoundError):
                        with suppress(APIError, nats.errors.Error):
                            await self.ensure()
                    await asyncio.sleep(1.0)
        finally:
            await hands.drop()

    async def _n_pending(self, kind: Kind) -> int:
        """Jobs that were never offered to any process."""
        found = await self._js.consumer_info(STREAM, kind)
        return found.num_pending or 0

    async def _pull(self, kind: Kind, hands: "_Hands") -> None:
        config = ConsumerConfig(
            durable_name=kind,
            filter_subject=f"job.{kind}.>",
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._ack_wait,
            max_deliver=-1,
            max_ack_pending=TAKEN_MAX,
        )
        await self._js.add_consumer(STREAM, config)
        subscription = await self._js.pull_subscribe_bind(durable=kind, stream=STREAM)
        try:
            while True:
                await hands.one_free()
                with suppress(nats.errors.TimeoutError, TimeoutError):
                    # One by one: of several, the client would hold the first until it has them all.
                    (message,) = await subscription.fetch(1, timeout=FETCH_SECONDS)
                    await hands.take(message)
        finally:
            with suppress(Exception):
                await subscription.unsubscribe()


class _HadTurn(Struct, frozen=True):
    """Whose job stepped aside after a turn. due: when it is offered again. latest: when it gives way no longer.

    since: from when on it waits for a hand; before, it could not get on with one.
    """

    workspace_id: str
    due: float
    latest: float
    since: float = 0.0


class _Hands:
    """Those of one process: so many at once, so many of them for one workspace. n_pending: jobs that nobody has seen."""

    def __init__(
        self,
        handle: Callable[[Job], Awaitable[None]],
        n_pending: Callable[[], Awaitable[int]],
        *,
        at_once: int,
        per_workspace: int,
        sign_every: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._handle = handle
        self._n_pending = n_pending
        self._monotonic = monotonic
        self._turn_seconds: float | None = None
        self._at_once = at_once
        self._per_workspace = per_workspace
        self._sign_every = sign_every
        self._busy: Tally[str] = Tally()
        self._slow_until: dict[str, float] = {}
        self._aside: OrderedDict[str, dict[str, float]] = OrderedDict()
        self._had_turn: dict[str, _HadTurn] = {}
        self._n_failed: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()

    async def one_free(self) -> None:
        """Return when a hand is free."""
        while len(self._tasks) >= self._at_once:
            self._freed.clear()
            await self._freed.wait()

    async def take(self, message: Msg) -> None:
        """Begin with a job, or let it step aside."""
        _, _, workspace_id, job_id = message.subject.split(".")
        had = self._had_turn.pop(job_id, None)
        if had is not None and (wait := self._give_way(had, message.metadata.num_pending)):
            self._had_turn[job_id] = _HadTurn(workspace_id, self._monotonic() + wait, had.latest)
            await message.nak(delay=wait)
            return
        if not self._has_hand(workspace_id, message.metadata.num_pending):
            await message.nak(delay=self._step_aside(workspace_id, job_id))
            return
        self._aside.get(workspace_id, {}).pop(job_id, None)
        self._busy[workspace_id] += 1
        job = Job(workspace_id, job_id, message.data, message.metadata.num_delivered)
        task = asyncio.create_task(self._do(message, job), name=f"job-{job_id}")
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._done(done, workspace_id))

    def _has_hand(self, workspace_id: str, n_unseen: int) -> bool:
        """Whether one more job of a workspace may begin, where nobody has seen so many yet."""
        now = self._monotonic()
        self._slow_until = {name: until for name, until in self._slow_until.items() if until > now}
        if workspace_id in self._slow_until:
            n_slow = sum(self._busy[name] for name in self._slow_until)
            crowded = n_unseen > 0 or self._others_wait(now)
            if n_slow >= max(1, self._at_once // SLOW_SHARE if crowded else self._at_once - 1):
                return False
        return self._busy[workspace_id] < self._per_workspace

    def _others_wait(self, now: float) -> bool:
        """Whether a job that stepped aside, of a workspace that is not slow, is to be offered again by now."""
        # What did not come again was taken by another process.
        late = now - CROWDED_DELAY_SECONDS_MAX
        return any(
            late <= had.due <= now and had.workspace_id not in self._slow_until
            for had in self._had_turn.values()
        ) or any(
            late <= due <= now
            for of, jobs in self._aside.items()
            if of not in self._slow_until
            for due in jobs.values()
        )

    def _give_way(self, had: _HadTurn, n_unseen: int) -> float:
        """For how many seconds a job steps aside once more, since so many have never had a turn: what is offered again
        comes before them.
        """
        left = had.latest - self._monotonic()
        if n_unseen < self._at_once - len(self._tasks) or left <= 0:
            return 0.0
        apart = CROWDED_STEP_SECONDS * len(self._had_turn)
        return min(UNSEEN_SECONDS_MAX + apart, CROWDED_DELAY_SECONDS_MAX, left)

    def _step_aside(self, workspace_id: str, job_id: str) -> float:
        """For how many seconds; the more others of its workspace have done so, the longer."""
        now = self._monotonic()
        waiting = self._aside.setdefault(workspace_id, {})
        self._aside.move_to_end(workspace_id)
        waiting.pop(job_id, None)
        # What did not come again was taken by another process.
        late = now - CROWDED_DELAY_SECONDS_MAX
        while waiting and next(iter(waiting.values())) < late:
            del waiting[next(iter(waiting))]
        while (of := next(iter(self._aside))) != workspace_id and _were_due(self._aside[of], late):
            del self._aside[of]
        wait = min(CROWDED_DELAY_SECONDS + CROWDED_STEP_SECONDS * len(waiting), CROWDED_DELAY_SECONDS_MAX)
        waiting[job_id] = now + wait
        return wait

    async def drop(self) -> None:
        """End what runs; the jobs are offered to others at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None], workspace_id: str) -> None:
        self._tasks.discard(task)
        self._busy[workspace_id] -= 1
        if not self._busy[workspace_id]:
            del self._busy[workspace_id]
            self._aside.pop(workspace_id, None)
        self._freed.set()

    def _note_turn(self, seconds: float) -> None:
        """Turns take so long of late."""
        before = seconds if self._turn_seconds is None else self._turn_seconds
        self._turn_seconds = 0.8 * before + 0.2 * seconds

    async def _until_next_turn(self, job: Job, used: float, *, least: float) -> float:
        """Seconds in which those that wait now have had a turn, as turns have been; too soon would be before them.

        Those of its own workspace, at that one's share of hands; those of others only while no hand is idle, and of
        each workspace no more than may have one at once, or than wait of its own. used: seconds that its own turn took;
        the less of a turn that is, the less it waits. least: no sooner than that, where it could not get on.
        """
        now = self._monotonic()
        # What did not come again was taken by another process.
        late = now - CROWDED_DELAY_SECONDS_MAX
        self._had_turn = {id_: had for id_, had in self._had_turn.items() if had.due >= late}
        waiting = Tally(had.workspace_id for had in self._had_turn.values() if had.since <= now)
        for of, jobs in self._aside.items():
            waiting[of] += sum(due >= late for due in jobs.values())
        turn = self._turn_seconds or 0.0
        wait = waiting[job.workspace_id] * turn / self._per_workspace
        if len(self._tasks) >= self._at_once:
            most = max(self._per_workspace, waiting[job.workspace_id])
            n_others = sum(min(n, most) for n in waiting.values())
            n_unseen = 0
            with suppress(nats.errors.Error, APIError, TimeoutError):
                n_unseen = await self._n_pending()
            unseen = min(n_unseen * turn / self._at_once, UNSEEN_SECONDS_MAX)
            wait = max(wait, n_others * turn / self._at_once + unseen)
        share = min(1.0, used / turn if turn else 1.0)
        wait = max(least, min(wait * share, STEP_ASIDE_SECONDS_MAX))
        self._had_turn[job.job_id] = _HadTurn(
            job.workspace_id, now + wait, now + STEP_ASIDE_SECONDS_MAX * share, since=now + least
        )
        return wait

    async def _do(self, message: Msg, job: Job) -> None:
        signs = asyncio.create_task(give_signs([message], every=self._sign_every))
        begun_at, used = self._monotonic(), 0.0
        try:
            try:
                await self._handle(job)
            finally:
                used = self._monotonic() - begun_at
                self._note_turn(used)
                if used > SLOW_SECONDS:
                    self._slow_until[job.workspace_id] = self._monotonic() + SLOW_FOR_SECONDS
        except StepAside as aside:
            if not aside.seconds:
                self._n_failed.pop((job.workspace_id, job.job_id), None)
            wait = await self._until_next_turn(job, used, least=aside.seconds)
            await _answer(message.nak(delay=wait))
        except Later as later:
            await _answer(message.nak(delay=later.seconds))
        except asyncio.CancelledError:
            await _answer(message.nak())
            raise
        except Exception as error:  # edge: a bug in a job must not end the process
            wait = self._back_off(job)
            log.exception("job.failed", job_id=job.job_id, error=described(error), retry_after=wait)
            await _answer(message.nak(delay=wait))
        else:
            self._n_failed.pop((job.workspace_id, job.job_id), None)
            await _answer(message.ack())
        finally:
            signs.cancel()

    def _back_off(self, job: Job) -> float:
        """In how many seconds a job that has failed once more is offered again."""
        key = (job.workspace_id, job.job_id)
        n_failed = self._n_failed.pop(key, 0) + 1
        self._n_failed[key] = n_failed
        if len(self._n_failed) > FAILING_MAX:
            self._n_failed.popitem(last=False)
        return BACK_OFF_SECONDS[min(n_failed, len(BACK_OFF_SECONDS)) - 1]


def waits_already(err_code: int | None, description: str | None) -> bool:
    """Whether a job was refused since one of its id is in the queue; what was refused for anything else is not there."""
    return err_code == _NOT_STORED and description == _WAITS_ALREADY


def _were_due(jobs: dict[str, float], moment: float) -> bool:
    """Whether the last of these jobs to step aside was due before a moment; so was none at all."""
    return not jobs or jobs[next(reversed(jobs))] < moment


async def give_signs(messages: Collection[Msg], *, every: float) -> None:
    """Say each so many seconds that these, whichever they are by then, are being worked on; without end."""
    while True:
        await asyncio.sleep(every)
        for message in tuple(messages):
            await _answer(message.in_progress())


async def hand_back(messages: Iterable[Msg]) -> None:
    """Offer these to others at once; what was answered before stays so."""
    for message in messages:
        await _answer(message.nak())


async def _answer(sent: Awaitable[None]) -> None:
    """What could not be said is found out by the server: it offers the job again."""
    with suppress(nats.errors.Error, OSError):
        await sent
