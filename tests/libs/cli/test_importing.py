"""An import sends batches, counts outcomes, waits for a busy API, and goes on where it stopped."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from causeloop import api as api_module
from causeloop.api import Api, ResponseError, Token
from causeloop.exits import NotAvailableError
from causeloop.importing import (
    BATCH_RECORDS,
    Counts,
    Failure,
    Importer,
    ImportState,
    StateFile,
    batches,
    prepare,
    state_key,
)
from causeloop.mapping import FieldMapping, Line

Handler = Callable[[httpx.Request], httpx.Response]


class Receiver:
    """An API that keeps issues as ingest does, by external id."""

    def __init__(self) -> None:
        self.issues: dict[str, str] = {}
        self.sizes: list[int] = []
        self.limit = 10_000

    def __call__(self, request: httpx.Request) -> httpx.Response:
        records = msgspec.json.decode(request.content)["records"]
        if len(records) > self.limit:
            return httpx.Response(413, json={"error": {"code": "too_large", "message": "too large"}})
        self.sizes.append(len(records))
        results = [self._take(index, record) for index, record in enumerate(records)]
        return httpx.Response(202, json={"accepted": len(records), "results": results})

    def _take(self, index: int, record: dict[str, str]) -> dict[str, object]:
        if record["title"] == "refuse me":
            return {"index": index, "outcome": "rejected", "reason": "title: not this one"}
        known = self.issues.get(record["external_id"])
        self.issues[record["external_id"]] = record["title"]
        outcome = "created" if known is None else "unchanged" if known == record["title"] else "updated"
        return {"index": index, "outcome": outcome, "issue_id": "iss_1"}


def client(handler: Handler) -> Api:
    transport = httpx.MockTransport(handler)
    return Api(
        httpx.AsyncClient(transport=transport, base_url="http://api"), Token("t"), rng=random.Random(1)
    )


def lines(*titles: str, start: int = 1) -> Iterator[Line]:
    for number, title in enumerate(titles, start):
        yield Line(number=number, row={"id": f"i{number}", "title": title})


async def imported(handler: Handler, rows: Iterator[Line]) -> tuple[ImportState, list[Failure]]:
    failures: list[Failure] = []
    importer = Importer(
        client(handler), state=ImportState(file="f"), on_progress=lambda _, failed: failures.extend(failed)
    )
    return await importer.run(prepare(rows, FieldMapping())), failures


async def test_every_row_is_counted_by_what_became_of_it() -> None:
    """Created, unchanged, updated, rejected by the API, rejected here."""
    receiver = Receiver()
    receiver.issues = {"i2": "two", "i3": "old"}
    rows = [*lines("one", "two", "three", "refuse me"), Line(number=5, row=None, problem="not JSON")]
    state, failures = await imported(receiver, iter(rows))
    assert Counts(created=1, updated=1, unchanged=1, rejected=2) == state.counts
    assert [(each.line, each.reason) for each in failures] == [(4, "title: not this one"), (5, "not JSON")]
    assert (state.rows_done, state.is_finished) == (5, True)


async def test_rows_travel_in_batches_of_five_hundred() -> None:
    """The API takes no more at once."""
    receiver = Receiver()
    state, _ = await imported(receiver, lines(*["x"] * 1201))
    assert sorted(receiver.sizes) == [201, 500, 500]
    assert 1201 == state.counts.created == len(receiver.issues)


async def test_a_batch_that_is_too_large_is_halved() -> None:
    """Until the API takes it."""
    receiver = Receiver()
    receiver.limit = 100
    state, _ = await imported(receiver, lines(*["x"] * 300))
    assert state.counts.created == 300
    assert max(receiver.sizes) <= 100


async def test_the_later_row_of_the_same_issue_has_the_last_word() -> None:
    """Also when the two are in different batches, which otherwise travel at the same time."""
    receiver = Receiver()
    later = Line(number=9_999, row={"id": "i1", "title": "last"})
    await imported(receiver, iter([*lines(*["x"] * BATCH_RECORDS), later]))
    assert receiver.issues["i1"] == "last"


async def test_a_busy_api_is_given_the_time_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """429 with Retry-After delays and does not fail."""
    receiver, pauses = Receiver(), []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(api_module.asyncio, "sleep", pause)
    answers = iter([httpx.Response(429, headers={"Retry-After": "7"}), httpx.Response(503)])
    state, _ = await imported(lambda request: next(answers, None) or receiver(request), lines("one"))
    assert state.counts.created == 1
    assert 7 <= pauses[0] < 8 and pauses[1] < 1


async def test_an_api_that_stays_away_ends_the_import_with_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent before is remembered."""

    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(api_module, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(NotAvailableError, match="does not answer"):
        await imported(refuse, lines("one"))


async def test_a_refused_batch_ends_the_import_with_the_reason() -> None:
    """Repeating would not help."""
    refused = httpx.Response(400, json={"error": {"code": "validation_error", "message": "no records"}})
    with pytest.raises(ResponseError, match="no records"):
        await imported(lambda _: refused, lines("one"))


def test_the_state_survives_and_is_found_by_file_and_mapping(tmp_path: Path) -> None:
    """Another file, mapping or API is another import."""
    key = state_key(digest="d", mapping=FieldMapping(), url="http://a")
    state = ImportState(file="f", rows_done=500, counts=Counts(created=500))
    StateFile(tmp_path, key=key).write(state)
    assert state == StateFile(tmp_path, key=key).read()
    others = {
        state_key(digest="e", mapping=FieldMapping(), url="http://a"),
        state_key(digest="d", mapping=FieldMapping(ignore=("x",)), url="http://a"),
        state_key(digest="d", mapping=FieldMapping(), url="http://b"),
    }
    assert key not in others and len(others) == 3
    assert all(StateFile(tmp_path, key=other).read() is None for other in others)


def test_batches_are_bounded_by_bytes_too() -> None:
    """Large records travel in smaller batches."""
    body = "x" * 60_000
    rows = prepare(
        (Line(number=n, row={"id": n, "title": "t", "body": body}) for n in range(100)), FieldMapping()
    )
    assert all(sum(len(row.payload) for row in batch) < 2_100_000 for batch in batches(rows))
