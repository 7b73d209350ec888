"""The queue of jobs on a real server: once each, shared fairly, and given to somebody else when a hand is gone."""

import asyncio
from collections.abc import Awaitable, Callable
from unittest.mock import AsyncMock, MagicMock

import pytest
from nats.aio.client import Client
from runtime.errors import UnavailableError
from testkit.waiting import eventually

from services.ingest.jobs.queue import (
    CROWDED_DELAY_SECONDS,
    CROWDED_DELAY_SECONDS_MAX,
    SLOW_FOR_SECONDS,
    SLOW_SECONDS,
    STEP_ASIDE_SECONDS_MAX,
    STREAM,
    UNSEEN_SECONDS_MAX,
    Job,
    JobQueue,
    Later,
    StepAside,
    _Hands,
)


async def queue_on(nc: Client, *, ack_wait_seconds: float = 30.0) -> JobQueue:
    queue = JobQueue(nc, ack_wait_seconds=ack_wait_seconds)
    await queue.ensure()
    return queue


def working(
    queue: JobQueue, handle: Callable[[Job], Awaitable[None]], *, at_once: int = 4, per_workspace: int = 2
) -> asyncio.Task[None]:
    return asyncio.create_task(queue.work("sync", handle, at_once=at_once, per_workspace=per_workspace))


async def ended(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_job_is_there_once_until_it_is_done(nc: Client) -> None:
    queue = await queue_on(nc)
    await queue.ensure()
    assert await queue.put("sync", "ws_1", "syn_1", b"a") is True
    assert await queue.put("sync", "ws_1", "syn_1", b"b") is False
    done: list[tuple[str, bytes]] = []

    async def handle(job: Job) -> None:
        assert await queue.put("sync", "ws_1", "syn_1", b"c") is False
        done.append((job.job_id, job.payload))

    worker = working(queue, handle)
    await eventually(lambda: done)
    await eventually(lambda: _put_again(queue))
    await eventually(lambda: len(done) == 2)
    await ended(worker)
    assert done == [("syn_1", b"a"), ("syn_1", b"d")]


async def _put_again(queue: JobQueue) -> bool:
    return await queue.put("sync", "ws_1", "syn_1", b"d")


@pytest.mark.parametrize("limit", [{"max_msgs": 1}, {"max_bytes": 1_500}])
async def test_a_job_that_finds_the_queue_full_is_refused(nc: Client, limit: dict[str, int]) -> None:
    """The server refuses it by the code by which it refuses one that waits already, but it is nowhere."""
    queue, js = await queue_on(nc), nc.jetstream()
    config = (await js.stream_info(STREAM)).config
    assert await queue.put("sync", "ws_1", "syn_1", 1_000 * b"a") is True
    await js.update_stream(config, **limit)
    with pytest.raises(UnavailableError, match="takes no more"):
        await queue.put("sync", "ws_1", "syn_2", 1_000 * b"b")
    assert await queue.put("sync", "ws_1", "syn_1", 1_000 * b"a") is False
    await js.update_stream(config)
    assert await queue.put("sync", "ws_1", "syn_2", 1_000 * b"b") is True


async def test_workspace_with_many_jobs_leaves_hands_to_others(nc: Client) -> None:
    queue = await queue_on(nc)
    for number in range(6):
        await queue.put("sync", "ws_big", f"syn_{number}", b"")
    await queue.put("sync", "ws_small", "syn_9", b"")
    running: set[str] = set()
    most = 0
    let_go = asyncio.Event()

    async def handle(job: Job) -> None:
        nonlocal most
        running.add(job.job_id)
        most = max(most, len([id_ for id_ in running if id_ != "syn_9"]))
        await let_go.wait()
        running.discard(job.job_id)

    worker = working(queue, handle, at_once=3)
    await eventually(lambda: "syn_9" in running)
    assert most <= 2
    let_go.set()
    await ended(worker)


async def test_the_more_jobs_step_aside_the_later_they_come_again() -> None:
    """What is offered again comes before what is new: all at once, they would keep others' jobs from being seen."""
    never = asyncio.Event()

    async def handle(_: Job) -> None:
        await never.wait()

    hands = _Hands(handle, AsyncMock(), at_once=3, per_workspace=1, sign_every=30.0)
    jobs = [
        AsyncMock(
            subject=f"job.sync.ws_1.syn_{number}",
            data=b"",
            metadata=MagicMock(num_delivered=1, num_pending=0),
        )
        for number in range(101)
    ]
    for _ in range(2):
        for job in jobs[1:] if hands._busy else jobs:
            await hands.take(job)
    waits = [job.nak.await_args.kwargs["delay"] for job in jobs[1:]]
    assert min(waits) > 3.9
    assert max(waits) < 4.1
    await hands.drop()


async def test_a_job_that_takes_long_goes_on_when_those_that_wait_have_had_a_turn() -> None:
    """Turns took four seconds, and ten wait for its workspace's hand; with a hand that is idle no other's count."""
    assert await _slept(n_own=10) == 40.0
    assert await _slept(n_pending=20, n_busy=0) == 0.0


async def test_jobs_that_nobody_has_seen_are_looked_at_every_few_seconds() -> None:
    """They may all be of one workspace: three hundred have stepped aside before one of them would have had a turn."""
    assert await _slept(n_pending=300) == UNSEEN_SECONDS_MAX
    assert UNSEEN_SECONDS_MAX <= 2.0


async def test_the_crowd_of_another_workspace_puts_nobody_to_sleep() -> None:
    """Of five thousand that have stepped aside only as many come before it as that workspace may have at once."""
    assert await _slept(n_crowd=5_000) == 2.0
    assert await _slept(n_pending=5_000) == UNSEEN_SECONDS_MAX
    assert await _slept(n_crowd=5_000, of="ws_0") == STEP_ASIDE_SECONDS_MAX
    # Of others as many as of its own.
    assert await _slept(n_crowd=100, n_crowds=2, n_own=3) == (3 + 3 + 3) * 4.0 / 2


async def test_a_job_that_used_little_of_its_turn_goes_on_so_much_sooner() -> None:
    """But no sooner than it says; otherwise whoever waits for a vendor would come last, or at once."""
    assert round(await _slept(n_own=10, used=1.0), 6) == 10.0
    assert await _slept(n_own=10, used=1.0, aside=30.0) == 30.0


async def test_a_job_that_had_a_turn_gives_way_to_those_that_had_none() -> None:
    """Redelivered, it is offered before them; not beyond five minutes, and not while hands are idle for them."""
    now = 0.0

    async def handle(job: Job) -> None:
        nonlocal now
        if job.job_id != "long":
            await asyncio.Event().wait()
        now += 4.0
        raise StepAside

    def message(job_id: str, *, n_pending: int) -> AsyncMock:
        metadata = MagicMock(num_delivered=1, num_pending=n_pending)
        return AsyncMock(subject=f"job.sync.ws_1.{job_id}", data=b"", metadata=metadata)

    hands = _Hands(
        handle,
        AsyncMock(return_value=0),
        at_once=2,
        per_workspace=2,
        sign_every=30.0,
        monotonic=lambda: now,
    )
    first = message("long", n_pending=30)
    await hands.take(first)
    await eventually(lambda: first.nak.await_count)
    await hands.take(message("other", n_pending=30))
    for n_pending in [30] * 28 + [3, 1]:
        again = message("long", n_pending=n_pending)
        await hands.take(again)
        again.nak.assert_awaited_once_with(delay=UNSEEN_SECONDS_MAX)
    none_waits = message("long", n_pending=0)
    await hands.take(none_waits)
    await eventually(lambda: none_waits.nak.await_count)
    assert now == 8.0
    now += STEP_ASIDE_SECONDS_MAX
    long_enough = message("long", n_pending=30)
    await hands.take(long_enough)
    await eventually(lambda: long_enough.nak.await_count)
    assert now == 8.0 + STEP_ASIDE_SECONDS_MAX + 4.0
    await hands.drop()


@pytest.mark.parametrize("waits", ["unseen", "aside", "had its turn", None])
async def test_workspaces_whose_sources_drip_have_half_of_the_hands_together(waits: str | None) -> None:
    """However many they are: whoever's jobs took no long time of late has the others. It passes with time.

    While nobody waits they have all but one, which is for whoever comes.
    """
    now = 0.0

    async def handle(job: Job) -> None:
        nonlocal now
        if job.job_id == "long":
            raise StepAside
        if job.job_id != "drips":
            await asyncio.Event().wait()
        now += SLOW_SECONDS + 1

    def message(workspace_id: str, job_id: str) -> AsyncMock:
        metadata = MagicMock(num_delivered=1, num_pending=1 if waits == "unseen" else 0)
        return AsyncMock(subject=f"job.sync.{workspace_id}.{job_id}", data=b"", metadata=metadata)

    hands = _Hands(
        handle,
        AsyncMock(return_value=0),
        at_once=4,
        per_workspace=3,
        sign_every=30.0,
        monotonic=lambda: now,
    )
    for workspace_id in ("ws_1", "ws_2"):
        drips = message(workspace_id, "drips")
        await hands.take(drips)
        await eventually(lambda drips=drips: drips.ack.await_count)
    if waits == "aside":
        hands._step_aside("ws_4", "f")
        now += CROWDED_DELAY_SECONDS
    if waits == "had its turn":
        long = message("ws_4", "long")
        await hands.take(long)
        await eventually(lambda: long.nak.await_count)
    begun = [message("ws_1", "a"), message("ws_2", "b")]
    beyond = [message("ws_1", "c"), message("ws_2", "d")]
    others = [message("ws_3", "e")]
    for job in (*begun, *beyond, *others):
        await hands.take(job)
    n_aside = [job.nak.await_count for job in (*begun, *beyond, *others)]
    assert n_aside == ([0, 0, 1, 1, 0] if waits else [0, 0, 0, 1, 0])
    now += SLOW_FOR_SECONDS
    await hands.take(beyond[1])
    assert beyond[1].nak.await_count == 1
    await hands.drop()


async def test_who_waits_for_its_accounts_pace_waits_for_no_hand_before() -> None:
    """Nobody gives way to it, nor sleeps for it, until it may go on."""
    now = 0.0

    async def handle(job: Job) -> None:
        if job.job_id == "long":
            raise StepAside
        if job.job_id.startswith("paced"):
            raise StepAside(SLOW_FOR_SECONDS)
        await asyncio.Event().wait()

    def message(workspace_id: str, job_id: str) -> AsyncMock:
        subject = f"job.sync.{workspace_id}.{job_id}"
        return AsyncMock(subject=subject, data=b"", metadata=MagicMock(num_delivered=1, num_pending=0))

    hands = _Hands(
        handle, AsyncMock(return_value=0), at_once=4, per_workspace=4, sign_every=30.0, monotonic=lambda: now
    )
    hands._turn_seconds = 4.0
    hands._slow_until["ws_slow"] = float("inf")
    for number in range(20):
        paced = message("ws_1", f"paced_{number}")
        await hands.take(paced)
        await eventually(lambda paced=paced: paced.nak.await_count)
        assert paced.nak.await_args.kwargs["delay"] == SLOW_FOR_SECONDS
    hands._turn_seconds = 4.0
    now = 1.0
    slow = [message("ws_slow", f"drips_{number}") for number in range(4)]
    for job in slow:
        await hands.take(job)
    assert [job.nak.await_count for job in slow] == [0, 0, 0, 1]
    long = message("ws_1", "long")
    await hands.take(long)
    await eventually(lambda: long.nak.await_count)
    assert long.nak.await_args.kwargs["delay"] == 0.0
    now += SLOW_FOR_SECONDS
    assert hands._others_wait(now)
    await hands.drop()


async def test_what_another_process_took_is_not_remembered_as_waiting() -> None:
    """A slow workspace's job steps aside also where none of it is in hand here, whose end would forget it."""
    now = 0.0

    async def handle(job: Job) -> None:
        await asyncio.Event().wait()

    def message(workspace_id: str) -> AsyncMock:
        subject = f"job.sync.{workspace_id}.drips"
        return AsyncMock(subject=subject, data=b"", metadata=MagicMock(num_delivered=1, num_pending=1))

    hands = _Hands(
        handle, AsyncMock(return_value=0), at_once=2, per_workspace=2, sign_every=30.0, monotonic=lambda: now
    )
    for number in range(50):
        hands._slow_until[f"ws_{number}"] = float("inf")
        await hands.take(message(f"ws_{number}"))
    assert len(hands._aside) == 49
    now = 2 * CROWDED_DELAY_SECONDS_MAX
    await hands.take(message("ws_1"))
    assert set(hands._aside) == {"ws_1"}
    await hands.drop()


async def _slept(
    *,
    n_pending: int = 0,
    n_busy: int = 1,
    n_crowd: int = 0,
    n_crowds: int = 1,
    n_own: int = 0,
    of: str = "ws_1",
    used: float = 4.0,
    aside: float = 0.0,
) -> float:
    """How long a job steps aside where turns took four seconds, of two hands of which ws_0 has n_busy and n_crowd wait
    for it.

    n_crowds: workspaces that these are of. n_own: others of its own that wait. used: what its own turn takes. aside: the
    seconds that it asks for.
    """
    now = 0.0

    async def handle(job: Job) -> None:
        nonlocal now
        if job.job_id.startswith("crowd"):
            await asyncio.Event().wait()
        now += used
        raise StepAside(aside)

    def message(workspace_id: str, job_id: str) -> AsyncMock:
        subject = f"job.sync.{workspace_id}.{job_id}"
        return AsyncMock(subject=subject, data=b"", metadata=MagicMock(num_delivered=1, num_pending=0))

    hands = _Hands(
        handle,
        AsyncMock(return_value=n_pending),
        at_once=2,
        per_workspace=1,
        sign_every=30.0,
        monotonic=lambda: now,
    )
    for number in range(n_busy):
        await hands.take(message("ws_0", f"crowd_{number}"))
    for number in range(n_own):
        hands._step_aside(of, f"own_{number}")
    for number in range(n_crowd):
        hands._step_aside(f"ws_{number % n_crowds * 7}", f"aside_{number}")
    hands._turn_seconds = 4.0
    long = message(of, "long")
    hands._per_workspace += of == "ws_0"
    await hands.take(long)
    await eventually(lambda: long.nak.await_count)
    await hands.drop()
    return float(long.nak.await_args.kwargs["delay"])


async def test_only_failures_lengthen_the_back_off() -> None:
    """A long run of many turns that fails once is tried again soon, and so is one that was limited in between."""
    outcomes: list[Exception] = [
        *[StepAside()] * 9,
        ValueError(),
        Later(60.0),
        ValueError(),
        StepAside(),
        ValueError(),
    ]

    async def handle(job: Job) -> None:
        raise outcomes[job.n_deliveries - 1]

    hands = _Hands(handle, AsyncMock(return_value=0), at_once=1, per_workspace=1, sign_every=30.0)
    waits = []
    for number in range(1, len(outcomes) + 1):
        job = AsyncMock(
            subject="job.sync.ws_1.syn_1", data=b"", metadata=MagicMock(num_delivered=number, num_pending=0)
        )
        await hands.take(job)
        await hands.one_free()
        waits.append(job.nak.await_args.kwargs["delay"])
    assert waits[9:] == [5.0, 60.0, 30.0, 0.0, 5.0]


async def test_job_of_a_hand_that_is_gone_is_done_by_another(nc: Client) -> None:
    queue = await queue_on(nc)
    await queue.put("sync", "ws_1", "syn_1", b"")
    begun = asyncio.Event()
    done: list[int] = []

    async def first(_: Job) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def second(job: Job) -> None:
        done.append(job.n_deliveries)

    worker = working(queue, first)
    await begun.wait()
    await ended(worker)
    other = working(queue, second)
    await eventually(lambda: done)
    await ended(other)
    assert done == [2]


async def test_job_that_takes_long_is_not_given_away(nc: Client) -> None:
    """It gives signs of life, for longer than the wait after which it would be offered to another.

    One comes each third of the wait, and a machine may stand still for the rest of it.
    """
    queue = await queue_on(nc, ack_wait_seconds=9.0)
    await queue.put("sync", "ws_1", "syn_1", b"")
    begun: list[int] = []
    ended_first = asyncio.Event()

    async def slow(job: Job) -> None:
        begun.append(job.n_deliveries)
        if len(begun) == 1:
            await asyncio.sleep(10.0)
            ended_first.set()
            raise Later(0.05)
        assert ended_first.is_set()

    workers = [working(queue, slow), working(queue, slow)]
    await eventually(lambda: len(begun) == 2)
    assert ended_first.is_set()
    await ended(*workers)
