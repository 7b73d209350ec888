"""Deliveries that wait and deliveries that fail: nobody else waits for them, and none is lost."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from types import SimpleNamespace
from unittest.mock import AsyncMock

import msgspec
import pytest
from eventlog import AppendRefusedError
from msgspec.structs import replace
from nats.aio.client import Client
from nats.js.errors import NotFoundError, ServiceUnavailableError
from testkit.waiting import eventually

from services.ingest.connectors.connecting import Source, source_of
from services.ingest.connectors.registry import manifest_of
from services.ingest.errors import ConnectorUnreadableError, LogUnreachableError, PlanFullError
from services.ingest.jobs import deliveries as jobs
from services.ingest.jobs import hands
from services.ingest.jobs.deliveries import TRIES_MAX, Receiver
from services.ingest.jobs.directory import Addressee
from services.ingest.jobs.outbox import KIND, Delivery
from services.ingest.jobs.queue import DELIVERIES, JobQueue
from services.ingest.state import NOTHING_YET
from tests.services.ingest.builders import NOW
from tests.services.ingest.test_intake import SETTINGS, WORKSPACE

ZENDESK = source_of("con_1", SETTINGS)
DELIVERY = Delivery(connector_id="con_1", keys=("id-1",), headers={}, body=b'{"id": 1}', received_at=NOW)


def test_a_delivery_that_is_too_much_is_one_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte has a hundred thousand empty ones."""
    webhook = manifest_of("custom_api").webhook
    assert webhook is not None
    known = Addressee(workspace_id=WORKSPACE, source=ZENDESK, webhook=webhook)
    body = b'[{"a": 1}' + b', {"a": 1}' * 9 + b"]"
    many = replace(DELIVERY, body=body)
    assert len(jobs._records_of(known, many)) == 10
    monkeypatch.setattr(jobs, "RECORDS_MAX", 9)
    assert jobs._records_of(known, many) == (body.decode(),)


class Desk:
    """A receiver over what a test says about its records and its intake; it is offered one delivery."""

    def __init__(self, nc: Client, take_in: AsyncMock) -> None:
        webhook = ZENDESK.manifest.webhook
        assert webhook is not None
        known = Addressee(workspace_id=WORKSPACE, source=ZENDESK, webhook=webhook)
        self.records = AsyncMock()
        self.records.taken_deliveries.return_value = ()
        self.directory = AsyncMock()
        self.directory.find_one.side_effect = {
            id_: replace(known, source=replace(ZENDESK, connector_id=id_)) for id_ in ("con_1", "con_2")
        }.get
        intake = SimpleNamespace(take_in=take_in)
        self.receiver = Receiver(nc, JobQueue(nc), self.directory, self.records, intake)  # type: ignore[arg-type]
        self.message = AsyncMock(
            data=msgspec.msgpack.encode(DELIVERY), subject=f"job.delivery.{WORKSPACE}.1-1"
        )

    async def offer(self, n_delivered: int) -> None:
        self.message.metadata = SimpleNamespace(num_delivered=n_delivered)
        await asyncio.gather(*self.begin(self.message))

    def begin(self, *messages: AsyncMock) -> Sequence[asyncio.Task[None]]:
        """Begin with messages; what works on them."""
        before = set(self.receiver._tasks)
        assert not self.receiver._begin_within(
            [(m, msgspec.msgpack.decode(m.data, type=Delivery)) for m in messages]
        )
        return [*(self.receiver._tasks - before)]


def message_to(connector_id: str, number: int) -> AsyncMock:
    delivery = replace(DELIVERY, connector_id=connector_id, keys=(f"id-{number}",))
    return AsyncMock(
        data=msgspec.msgpack.encode(delivery),
        subject=f"job.delivery.{WORKSPACE}.{number}-1",
        metadata=SimpleNamespace(num_delivered=1),
    )


async def test_delivery_that_always_fails_becomes_a_dead_letter(nc: Client) -> None:
    desk = Desk(nc, AsyncMock(side_effect=OverflowError))
    for n_delivered in range(1, TRIES_MAX):
        await desk.offer(n_delivered)
    waits = [said.kwargs["delay"] for said in desk.message.nak.await_args_list]
    assert waits == [*jobs.RETRY_SECONDS, jobs.RETRY_SECONDS[-1], jobs.RETRY_SECONDS[-1]]
    assert desk.records.reject.await_count == 0
    await desk.offer(TRIES_MAX)
    (_, _, _, (rejection,)) = desk.records.reject.await_args.args
    assert rejection.record == {"id": 1}
    assert (desk.message.ack.await_count, desk.records.note_deliveries.await_count) == (1, 1)


async def test_delivery_that_the_plan_has_no_room_for_is_a_dead_letter_at_once(nc: Client) -> None:
    desk = Desk(
        nc,
        AsyncMock(
            side_effect=PlanFullError(
                "The plan free allows 5 events a month.", [({"id": 1}, NOW)], NOTHING_YET
            )
        ),
    )
    await desk.offer(1)
    (_, _, _, (rejection,)) = desk.records.reject.await_args.args
    assert (rejection.record, rejection.reason) == ({"id": 1}, "The plan free allows 5 events a month.")
    assert rejection.came_at == NOW
    assert (desk.message.ack.await_count, desk.records.note_deliveries.await_count) == (1, 1)


async def test_delivery_waits_for_what_is_ours_however_long(nc: Client) -> None:
    desk = Desk(nc, AsyncMock(side_effect=LogUnreachableError()))
    await desk.offer(10 * TRIES_MAX)
    assert (desk.message.nak.await_count, desk.records.reject.await_count) == (1, 0)


async def test_only_what_a_delivery_fails_by_itself_counts_as_its_failure(nc: Client) -> None:
    """Not that others put it back, or ended with it in hand, nor that something of ours was away."""
    away = [LogUnreachableError() for _ in range(TRIES_MAX)]
    desk = Desk(nc, AsyncMock(side_effect=[*away, OverflowError(), None]))
    for n_delivered in range(TRIES_MAX + 1):
        await desk.offer(TRIES_MAX + n_delivered)
    waits = [said.kwargs["delay"] for said in desk.message.nak.await_args_list]
    longest = TRIES_MAX - len(jobs.AWAY_SECONDS)
    assert waits == [*jobs.AWAY_SECONDS, *[jobs.AWAY_SECONDS[-1]] * longest, jobs.RETRY_SECONDS[0]]
    assert desk.records.reject.await_count == 0
    await desk.offer(2 * TRIES_MAX)
    assert desk.message.ack.await_count == 1
    # It is done: should it be offered once more, it has not failed.
    assert desk.receiver._failures.of(desk.message.subject) == 0


async def test_delivery_that_the_log_can_never_take_is_no_absence_of_the_log(nc: Client) -> None:
    """It is handled by itself then, and in the end a dead letter."""
    refused = LogUnreachableError()
    refused.__cause__ = AppendRefusedError("too large")
    desk = Desk(nc, AsyncMock(side_effect=refused))
    for _ in range(TRIES_MAX):
        await desk.offer(1)
    assert desk.receiver._failures.of(desk.message.subject) == 0
    assert (desk.message.nak.await_count, desk.records.reject.await_count) == (TRIES_MAX - 1, 1)


async def test_delivery_waits_for_who_can_read_its_connector_however_long(nc: Client) -> None:
    desk = Desk(nc, AsyncMock())
    desk.directory.find_one.side_effect = ConnectorUnreadableError("con_1")
    for n_delivered in range(1, 2 * TRIES_MAX + 1):
        await desk.offer(n_delivered)
    assert (desk.message.nak.await_count, desk.message.ack.await_count) == (2 * TRIES_MAX, 0)
    assert (desk.records.reject.await_count, desk.receiver._failures.of(desk.message.subject)) == (0, 0)


async def test_delivery_that_takes_long_is_not_given_away(
    nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "ACK_WAIT_SECONDS", 0.03)

    async def slow(*_: object, **__: object) -> None:
        await eventually(lambda: desk.message.in_progress.await_count > 1)

    desk = Desk(nc, AsyncMock(side_effect=slow))
    await desk.offer(1)
    n_signs = desk.message.in_progress.await_count
    assert n_signs > 1
    await asyncio.sleep(0.05)
    assert (desk.message.ack.await_count, desk.message.in_progress.await_count) == (1, n_signs)


async def _n_unanswered(nc: Client) -> int:
    """Deliveries that were given to somebody."""
    with suppress(NotFoundError):
        return (await nc.jetstream().consumer_info(DELIVERIES, KIND)).num_ack_pending or 0
    return 0


@pytest.mark.parametrize("doing", ["working", "waiting for its share", "gathering"])
async def test_what_somebody_has_who_is_stopped_goes_to_others_at_once(
    nc: Client, monkeypatch: pytest.MonkeyPatch, doing: str
) -> None:
    """Whoever is killed is missed after fifteen seconds only, and each update stops all of them."""
    await JobQueue(nc).ensure()
    for number in range(10):
        message = message_to("con_1", number)
        await nc.jetstream().publish(message.subject, message.data)
    taken: list[object] = []

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    async def take_in(_: Source, __: str, found: Sequence[object], *___: object, **____: object) -> None:
        taken.extend(found)

    async def is_given(n: int) -> bool:
        return await _n_unanswered(nc) == n

    with monkeypatch.context() as while_it_works:
        if doing == "waiting for its share":
            while_it_works.setattr(hands, "IN_HAND_MAX", 8)
            while_it_works.setattr(jobs, "PATIENCE_SECONDS", 60.0)
        if doing == "gathering":
            while_it_works.setattr(jobs, "GATHER_SECONDS", 60.0)
        stopped = asyncio.create_task(Desk(nc, AsyncMock(side_effect=never)).receiver.run())
        try:
            await eventually(lambda: is_given(1 if doing == "gathering" else 10))
            # What the server has given is a moment later with us.
            await asyncio.sleep(0.2)
        finally:
            stopped.cancel()
            await asyncio.gather(stopped, return_exceptions=True)
    other = asyncio.create_task(Desk(nc, AsyncMock(side_effect=take_in)).receiver.run())
    try:
        await eventually(lambda: len(taken) == 10, deadline=jobs.ACK_WAIT_SECONDS / 2)
    finally:
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)


async def test_what_was_fetched_first_is_not_lost_with_what_comes_behind_it() -> None:
    """Neither where the queue does not answer then, nor where this process is stopped just then."""
    first, second = (message_to("con_1", number) for number in range(2))
    first.metadata.num_pending = jobs.FETCHED_AT_ONCE
    failing = AsyncMock()
    failing.fetch.side_effect = [[first], ServiceUnavailableError()]
    assert await jobs._fetch(failing) == [first]
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def fetch(batch: int, **_: object) -> list[AsyncMock]:
        if batch == 1:
            return [first]
        begun.set()
        await may_end.wait()
        return [second]

    fetching = asyncio.create_task(jobs._fetch(AsyncMock(fetch=fetch)))
    await begun.wait()
    fetching.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert [each.nak.await_count for each in (first, second)] == [1, 1]


async def test_the_end_of_a_process_is_not_missed_where_the_client_misses_it(nc: Client) -> None:
    """nats-py gives what came, and nothing else, if it is cancelled at the moment in which it comes."""
    first, begun = message_to("con_1", 0), asyncio.Event()

    async def fetch(_: int, **__: object) -> list[AsyncMock]:
        begun.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return [first]

    fetching = asyncio.create_task(jobs._fetch(AsyncMock(fetch=fetch)))
    await begun.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert first.nak.await_count == 1


async def test_what_is_in_hand_goes_back_also_where_a_stop_is_cut_short(
    nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def hangs(*_: object, **__: object) -> None:
        begun.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        # As psycopg does, which asks the server to end what it is at.
        await asyncio.Event().wait()

    desk = Desk(nc, AsyncMock(side_effect=hangs))
    desk.receiver._begin([(desk.message, DELIVERY)])
    monkeypatch.setattr(desk.receiver, "_pull", AsyncMock(side_effect=asyncio.Event().wait))
    running = asyncio.create_task(desk.receiver.run())
    await begun.wait()
    for _ in range(2):
        running.cancel()
        await asyncio.sleep(0.1)
    assert (running.done(), desk.message.nak.await_count) == (True, 1)


async def test_a_connector_that_takes_long_holds_up_no_other_and_keeps_its_own_order(nc: Client) -> None:
    begun: list[str] = []
    let_go = asyncio.Event()

    async def take_in(source: Source, *_: object, **__: object) -> None:
        begun.append(source.connector_id)
        if source.connector_id == "con_1":
            await let_go.wait()

    desk = Desk(nc, AsyncMock(side_effect=take_in))
    desk.message.metadata = SimpleNamespace(num_delivered=1)
    other = AsyncMock(
        data=msgspec.msgpack.encode(replace(DELIVERY, connector_id="con_2")),
        subject=f"job.delivery.{WORKSPACE}.2-1",
        metadata=SimpleNamespace(num_delivered=1),
    )
    tasks = [*desk.begin(desk.message, other)]
    await eventually(lambda: other.ack.await_count == 1)
    tasks += desk.begin(desk.message, other)
    await eventually(lambda: other.ack.await_count == 2)
    assert (begun, desk.message.ack.await_count) == (["con_1", "con_2", "con_2"], 0)
    let_go.set()
    await asyncio.gather(*tasks)
    assert (begun, desk.message.ack.await_count) == (["con_1", "con_2", "con_2", "con_1"], 2)


async def test_what_comes_while_a_connector_is_at_work_is_taken_in_together(
    nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group costs a dozen round trips: taken in as they come, a busy connector's fall behind."""
    monkeypatch.setattr(jobs, "GROUP_MAX", 3)
    monkeypatch.setattr(jobs, "GROUP_BYTES_MAX", 4_000)
    let_go = asyncio.Event()
    groups: list[list[object]] = []

    async def take_in(_: Source, __: str, found: Sequence[object], *___: object, **____: object) -> None:
        groups.append([number for record in found if isinstance(record, dict) for number in [record["id"]]])
        await let_go.wait()

    def message(number: int, *, size: int = 0) -> AsyncMock:
        body = msgspec.json.encode({"id": number, "text": size * "x"})
        return AsyncMock(
            data=msgspec.msgpack.encode(replace(DELIVERY, keys=(f"id-{number}",), body=body)),
            subject=f"job.delivery.{WORKSPACE}.{number}-1",
            # After an outage of ours, all that waited was offered as often.
            metadata=SimpleNamespace(num_delivered=TRIES_MAX),
        )

    desk = Desk(nc, AsyncMock(side_effect=take_in))
    (work,) = desk.begin(message(0))
    await eventually(lambda: groups == [[0]])
    for number in range(1, 6):
        assert not desk.begin(message(number))
    # One that has failed before, one that is more than a group may be, and one behind them.
    failed = message(6)
    for _ in range(jobs.FAILURES_TOGETHER):
        desk.receiver._failures.add(failed.subject)
    assert not desk.begin(failed, message(7, size=5_000), message(8))
    let_go.set()
    await work
    assert groups == [[0], [1, 2, 3], [4, 5], [6], [7], [8]]


async def test_groups_begin_one_after_the_other_and_grow_while_they_wait(
    nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group costs about the same whatever is in it: many connectors would be worked on one by one otherwise."""
    monkeypatch.setattr(jobs, "GROUP_SECONDS", 0.2)
    monkeypatch.setattr(jobs, "GROUP_ENOUGH", 3)
    begun: list[tuple[str, int, float]] = []
    loop = asyncio.get_running_loop()

    async def take_in(source: Source, _: str, found: Sequence[object], *__: object, **___: object) -> None:
        begun.append((source.connector_id, len(found), loop.time()))

    desk = Desk(nc, AsyncMock(side_effect=take_in))
    began = loop.time()
    tasks = [*desk.begin(message_to("con_1", 1), message_to("con_2", 2))]
    await eventually(lambda: begun)
    tasks += desk.begin(message_to("con_2", 3))
    await asyncio.gather(*tasks)
    assert [(connector_id, n) for connector_id, n, _ in begun] == [("con_1", 1), ("con_2", 2)]
    # From before the first was begun with, to whose work a busy machine may come late.
    assert begun[1][2] - began > 0.19
    begun.clear()
    desk.receiver._next_at = loop.time() + 0.2
    await asyncio.gather(*desk.begin(message_to("con_1", 4), *(message_to("con_2", 5 + n) for n in range(3))))
    assert [connector_id for connector_id, _, _ in begun] == ["con_2", "con_1"]
    # With full hands nothing more can come that waiting were good for.
    begun.clear()
    monkeypatch.setattr(hands, "IN_HAND_MAX", 4)
    desk.receiver._next_at = loop.time() + 3600.0
    assert desk.receiver._in_hand.take(WORKSPACE, "con_2", 1)
    async with asyncio.timeout(30):
        await asyncio.gather(*desk.begin(message_to("con_1", 8)))


async def test_a_slow_connector_has_its_share_in_hand_and_what_is_beyond_goes_back(
    nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it fills the hands of all, and nothing of anybody else is taken from the queue."""
    monkeypatch.setattr(jobs, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(hands, "IN_HAND_MAX", 2048)
    let_go = asyncio.Event()

    async def take_in(source: Source, *_: object, **__: object) -> None:
        if source.connector_id == "con_1":
            await let_go.wait()

    desk = Desk(nc, AsyncMock(side_effect=take_in))
    flood = [message_to("con_1", number) for number in range(hands.IN_HAND_MAX)]
    for start in range(0, len(flood), jobs.FETCHED_AT_ONCE):
        await desk.receiver._offer(await jobs._read(flood[start : start + jobs.FETCHED_AT_ONCE]))
    n_held = hands.IN_HAND_MAX // hands.SHARE_OF_CONNECTOR
    assert [each.nak.await_count for each in flood] == [0] * n_held + [1] * (len(flood) - n_held)
    delays = [each.nak.await_args.kwargs["delay"] for each in flood[n_held:]]
    assert delays == sorted(set(delays))
    other, unreadable = message_to("con_2", -1), AsyncMock(data=b"?", subject="job.delivery.x.1-1")
    async with asyncio.timeout(30):
        await desk.receiver._room()
    await desk.receiver._offer(await jobs._read([unreadable, other]))
    await eventually(lambda: other.ack.await_count == 1)
    assert (unreadable.ack.await_count, desk.message.ack.await_count) == (1, 0)
    let_go.set()
    await eventually(lambda: not desk.receiver._tasks)
    # What went back has not been tried: its first failure is its first.
    back = flood[-1]
    back.metadata.num_delivered = 2
    assert desk.receiver._failures.of(back.subject) == 0
    await desk.receiver._offer(await jobs._read([back]))
    await eventually(lambda: back.ack.await_count == 1)
