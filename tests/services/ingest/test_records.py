"""What is kept of sources: the latest of each record, rejected ones once and within bounds, positions, and no longer than said."""

import random
from contextlib import suppress
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace
from psycopg import AsyncConnection, OperationalError
from runtime.database import Pool
from runtime.sealing import MasterKeys, SealingKey
from testkit.servers import Database

from services.ingest import records as room
from services.ingest.records import Kept, Mark, Raw, Records, Rejection
from services.ingest.vault import Vault
from tests.services.ingest.test_vault import CON, NOW, ONE, OTHER, TWO


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def records(sources_pool: Pool, clock: Clock) -> Records:
    return Records(sources_pool, clock=clock, rng=random.Random(1))


async def test_the_latest_of_each_record_is_kept_and_read_again(records: Records) -> None:
    """Page by page in the order of their ids; what has not changed is not written again."""
    first = [Raw(f"id-{n}", {"n": n, "text": "é\ud800\0"}) for n in range(5)]
    assert await records.keep(ONE, CON, "incidents", first) == 5
    assert await records.keep(ONE, CON, "incidents", [Raw("id-0", {"n": 0}), Raw("id-0", {"n": 9})]) == 1
    assert await records.keep(ONE, CON, "incidents", first[1:]) == 0
    assert await records.keep(ONE, CON, "incidents", [Raw("big", "x" * room.RAW_BYTES_MAX)]) == 0
    await records.keep(ONE, OTHER, "incidents", first)
    await records.keep(TWO, CON, "incidents", first)
    assert await records.n_kept(ONE, CON) == 5
    pages = [page async for page in records.pages(ONE, CON, size=2)]
    assert [len(page) for page in pages] == [2, 2, 1]
    kept = [each for page in pages for each in page]
    times = [each.received_at for each in kept]
    assert times == [NOW] * 5
    assert kept == [
        Kept("id-0", "incidents", {"n": 9}, times[0]),
        *(Kept(raw.external_id, "incidents", raw.record, times[1]) for raw in first[1:]),
    ]
    assert [page async for page in records.pages(ONE, CON, after="id-4")] == []


async def test_a_rejected_record_is_one_letter_however_often_it_comes(records: Records) -> None:
    """Its tries are counted, and the newest reason is told."""
    for reason in ("no id", "still no id\0" + "x" * 1000):
        await records.reject(ONE, CON, "incidents", [Rejection({"a": 1}, "external_id", reason)] * 2)
    await records.reject(ONE, CON, "alerts", [Rejection({"a": 1}, "", "of no kind")])
    await records.reject(TWO, CON, "alerts", [Rejection({"a": 1}, "", "of no kind")])
    (alert, incident), total = await records.letters(ONE, CON, limit=2)
    assert total == 2
    assert (alert.stream, alert.path, alert.n_attempts) == ("alerts", "", 1)
    assert (incident.stream, incident.path, incident.n_attempts) == ("incidents", "external_id", 2)
    assert incident.record == '{"a":1}'
    assert incident.reason == ("still no id" + "x" * 1000)[: room.REASON_LENGTH_MAX]
    assert await records.letters(ONE, CON, limit=2, before=alert.letter_id) == ([incident], 2)


async def test_letters_are_bounded_in_size_and_number(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the number only those that are there already are counted; one too long is kept in part and not tried again."""
    monkeypatch.setattr(room, "LETTERS_MAX", 3)
    long = Rejection("é" * room.LETTER_BYTES_MAX, "", "too long")
    others = [Rejection({"n": n}, "", "why") for n in range(4)]
    assert await records.reject(ONE, CON, "s", [long, *others[:2]]) == 3
    assert await records.reject(ONE, CON, "s", [others[3], others[0]]) == 1
    letters, total = await records.letters(ONE, CON, limit=9)
    assert total == 3
    assert sorted(letter.n_attempts for letter in letters) == [1, 1, 2]
    assert max(len(letter.record.encode()) for letter in letters) <= room.LETTER_BYTES_MAX
    retried = await records.to_retry(ONE, CON, [], limit=9)
    assert sorted(str(each.record) for each in retried) == ["{'n': 0}", "{'n': 1}"]


async def test_letters_of_a_workspace_are_bounded_over_all_its_connectors(
    records: Records, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bytes, of which a short one counts for some as well; those that are there are counted on, and others' are others'."""
    monkeypatch.setattr(room, "LETTERS_BYTES_MAX", 4 * room.LETTER_BYTES_MIN)
    long = Rejection("x" * (2 * room.LETTER_BYTES_MIN - 2), "", "long")
    short = [Rejection({"n": n}, "", "short") for n in range(3)]
    assert await records.reject(ONE, CON, "s", [long, short[0]]) == 2
    clock.now += room.WEIGHED_FOR
    assert await records.reject(ONE, OTHER, "s", [long, *short]) == 0
    assert await records.reject(ONE, OTHER, "s", short) == 1
    assert await records.reject(ONE, CON, "s", [short[0], short[1]]) == 1
    assert await records.reject(TWO, CON, "s", short) == 3


async def test_a_letter_goes_when_a_retry_does_not_reject_it_again(records: Records) -> None:
    """And stays when it does, with its tries counted."""
    await records.reject(ONE, CON, "s", [Rejection({"n": n}, "", "why") for n in range(3)])
    letters, _ = await records.letters(ONE, CON, limit=9)
    named = await records.to_retry(ONE, CON, [letters[0].letter_id, "ddl_unknown"], limit=9)
    assert [each.letter_id for each in named] == [letters[0].letter_id]
    retried = await records.to_retry(ONE, CON, [], limit=9)
    again = retried[0]
    await records.reject(ONE, CON, again.stream, [Rejection(again.record, "", "still")])
    assert await records.accept(ONE, CON, retried) == 2
    (left,), total = await records.letters(ONE, CON, limit=9)
    assert (left.letter_id, left.n_attempts, total) == (again.letter_id, 2, 1)


async def test_letters_that_fail_again_let_others_be_tried(records: Records, clock: Clock) -> None:
    """Otherwise the first ones would be tried each time, and none behind them ever."""
    rejected = [Rejection({"n": n}, "", "wrong") for n in range(4)]
    await records.reject(ONE, CON, "s", rejected)
    tried: list[object] = []
    for _ in range(2):
        clock.now += timedelta(minutes=1)
        some = [each.record for each in await records.to_retry(ONE, CON, [], limit=2)]
        await records.reject(ONE, CON, "s", [Rejection(record, "", "wrong") for record in some])
        tried += some
    assert sorted(map(str, tried)) == [str(each.record) for each in rejected]


async def test_a_delivery_is_new_once(records: Records, clock: Clock) -> None:
    """Until it is swept, so that a table of ids does not grow for ever."""
    assert await records.taken_deliveries(ONE, CON, ["d1", "d2"]) == frozenset()
    await records.note_deliveries(ONE, CON, ["d1", "d1"])
    assert await records.taken_deliveries(ONE, CON, ["d1", "d2"]) == {"d1"}
    assert await records.taken_deliveries(ONE, OTHER, ["d1"]) == frozenset()
    clock.now = NOW + timedelta(days=room.DELIVERY_DAYS)
    await records.sweep()
    await records.note_deliveries(ONE, CON, ["d1", "d2"])
    assert await records.taken_deliveries(ONE, CON, ["d1", "d2"]) == {"d1", "d2"}
    clock.now += timedelta(seconds=1)
    await records.sweep()
    assert await records.taken_deliveries(ONE, CON, ["d1", "d2"]) == {"d2"}


def mark(resume: dict[str, object], *, high_water: datetime | None = None) -> Mark:
    return Mark(run_id="syn_1", stream="s", resume=resume, high_water=high_water)


async def test_a_stream_resumes_where_it_was_and_never_goes_back(
    records: Records, sources_pool: Pool
) -> None:
    """The high-water mark is of all runs, a position to resume at is of one, written by who has its lock."""
    later = NOW + timedelta(hours=1)
    await records.checkpoint(ONE, CON, mark({"chunk": 1}, high_water=later))
    await records.checkpoint(ONE, CON, mark({"chunk": 1}, high_water=NOW))
    assert await records.high_waters(ONE, CON, {}) == {"s": later}
    await records.checkpoint(ONE, CON, mark({"chunk": 2, "at": {"offset": 300}}))
    assert await records.resumes(ONE, CON, "syn_1") == {"s": {"chunk": 2, "at": {"offset": 300}}}
    assert await records.resumes(ONE, CON, "syn_2") == {}
    async with sources_pool.connection() as lock:
        await records.checkpoint(ONE, CON, mark({"chunk": 3}), over=lock)
        with suppress(OperationalError):
            await lock.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        with pytest.raises(OperationalError):
            await records.checkpoint(ONE, CON, mark({"chunk": 4}), over=lock)
    assert await records.resumes(ONE, CON, "syn_1") == {"s": {"chunk": 3}}
    await records.end_run(ONE, CON, "syn_1")
    await records.end_run(ONE, CON, "")
    assert await records.resumes(ONE, CON, "syn_1") == {}
    assert await records.high_waters(ONE, CON, {}) == {"s": later}
    assert await records.high_waters(TWO, CON, {}) == {}
    # What is asked elsewhere was never read there.
    assert await records.high_waters(ONE, CON, {"s": "board b"}) == {}
    await records.checkpoint(ONE, CON, replace(mark({}, high_water=NOW), asked="board b"))
    assert await records.high_waters(ONE, CON, {"s": "board b"}) == {"s": NOW}
    assert await records.high_waters(ONE, CON, {}) == {}


async def test_what_is_forgotten_purged_or_erased_is_gone_from_every_table(
    records: Records, clock: Clock, sources_pool: Pool, sources_database: Database
) -> None:
    """Of this connector, of this age, of this workspace, and of nothing else."""

    async def fill(workspace_id: str, connector_id: str) -> None:
        await records.keep(workspace_id, connector_id, "s", [Raw("1", {})])
        await records.reject(workspace_id, connector_id, "s", [Rejection({}, "", "why")])
        await records.note_deliveries(workspace_id, connector_id, ["d"])
        await records.checkpoint(workspace_id, connector_id, mark({}))

    for workspace_id, connector_id in ((ONE, CON), (ONE, OTHER), (TWO, CON)):
        await fill(workspace_id, connector_id)
    async with await AsyncConnection.connect(sources_database.owner_url, autocommit=True) as conn:

        async def left(workspace_id: str, connector_id: str) -> list[int]:
            found = []
            for table in ("raw_records", "dead_letters", "deliveries", "stream_positions"):
                cursor = await conn.execute(
                    f"SELECT count(*) FROM sources.{table} WHERE workspace_id = %s AND connector_id = %s",
                    (workspace_id, connector_id),
                )
                found += [n for (n,) in await cursor.fetchall()]
            return found

        await records.forget(ONE, CON)
        assert await left(ONE, CON) == [0, 0, 0, 0]
        assert await left(ONE, OTHER) == await left(TWO, CON) == [1, 1, 1, 1]
        assert await records.purge(ONE, received_before=NOW) == 0
        assert await records.purge(ONE, received_before=NOW + timedelta(seconds=1)) == 2
        assert await left(ONE, OTHER) == [0, 0, 1, 1]
        assert await left(TWO, CON) == [1, 1, 1, 1]
        await Vault(MasterKeys(SealingKey.made()), sources_pool, clock=clock).keep(TWO, CON, {"key": "k"})
        assert await records.erase([TWO, "ws_unknown"]) == [TWO]
        assert await left(TWO, CON) == [0, 0, 0, 0]
        assert await left(ONE, OTHER) == [0, 0, 1, 1]
        cursor = await conn.execute(
            "SELECT count(*) FROM sources.data_keys NATURAL FULL JOIN sources.secrets"
        )
        assert await cursor.fetchone() == (0,)
        # What is written late goes at the next one.
        await records.note_deliveries(TWO, CON, ["late"])
        assert await records.erase([TWO]) == [TWO]
        assert await records.erase([TWO]) == []
