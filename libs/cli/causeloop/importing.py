"""Sends the rows of a file to the API in batches, remembers how far it came, and counts what became of them."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from contracts import ingest
from msgspec import Struct

from causeloop.api import Api, ResponseError
from causeloop.exits import StorageError
from causeloop.mapping import FieldMapping, Line, RowError, map_row
from causeloop.running import write_private

BATCH_RECORDS: Final = 500
BATCH_BYTES: Final = 2_000_000
CONCURRENT_BATCHES: Final = 4
TOO_LARGE: Final = 413


class Counts(Struct, frozen=True):
    """What became of the rows so far."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0

    @property
    def total(self) -> int:
        """All rows that were dealt with."""
        return self.created + self.updated + self.unchanged + self.rejected

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            created=self.created + other.created,
            updated=self.updated + other.updated,
            unchanged=self.unchanged + other.unchanged,
            rejected=self.rejected + other.rejected,
        )


class ImportState(Struct, frozen=True, kw_only=True):
    """How far an import came; what the state file holds."""

    file: str
    rows_done: int = 0
    """Rows from the start of the file that are all dealt with."""
    counts: Counts = Counts()
    is_finished: bool = False


class ImportedRecord(Struct, frozen=True):
    """What the API says about one record of a batch."""

    index: int
    outcome: str = "created"
    issue_id: str | None = None
    reason: str | None = None


class BatchReply(Struct, frozen=True):
    """The API's answer to a batch."""

    accepted: int = 0
    rejected: tuple[ImportedRecord, ...] = ()
    results: tuple[ImportedRecord, ...] = ()


class Failure(Struct, frozen=True):
    """One line of the errors file."""

    line: int
    reason: str
    external_id: str | None = None


class Prepared(Struct, frozen=True):
    """One row: ready to be sent, or why it is not."""

    line: int
    identity: str
    """Source and external id; empty when the row could not be mapped."""
    payload: bytes = b""
    problem: str = ""


class Outcome(Struct, frozen=True):
    """What became of one batch."""

    n_rows: int
    counts: Counts
    failures: tuple[Failure, ...]


class StateFile:
    """The small file that lets an interrupted import go on where it stopped."""

    def __init__(self, folder: Path, *, key: str) -> None:
        self._path = folder / "imports" / f"{key}.json"

    def read(self) -> ImportState | None:
        """The state of an earlier run; None when there was none or it cannot be read."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=ImportState)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def write(self, state: ImportState) -> None:
        """Remember the state; raises StorageError when the folder cannot be written."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_private(self._path, msgspec.json.encode(state))
        except OSError as error:
            raise StorageError(
                f"{self._path} cannot be written: {error.strerror}", advice="Give another folder with --data."
            ) from error


def state_key(*, digest: str, mapping: FieldMapping, url: str, source: str | None = None) -> str:
    """The name of an import's state: same file, same mapping or type of source, same Causeloop."""
    parts = (digest, mapping, url) if source is None else (digest, mapping, url, source)
    content = msgspec.json.encode(parts, order="deterministic")
    return hashlib.sha256(content).hexdigest()[:24]


def prepare(lines: Iterable[Line], mapping: FieldMapping) -> Iterator[Prepared]:
    """Map every line; a line that cannot be mapped carries its problem."""
    for line in lines:
        if line.row is None:
            yield Prepared(line=line.number, identity="", problem=line.problem)
            continue
        try:
            report = map_row(line.row, mapping).report
        except RowError as error:
            yield Prepared(line=line.number, identity="", problem=str(error))
        else:
            payload = msgspec.json.encode(report)
            yield Prepared(line=line.number, identity=_identity(report), payload=payload)


def batches(rows: Iterable[Prepared]) -> Iterator[list[Prepared]]:
    """Rows in batches of at most BATCH_RECORDS and about BATCH_BYTES, in order."""
    batch: list[Prepared] = []
    size = 0
    for row in rows:
        if batch and (len(batch) == BATCH_RECORDS or size + len(row.payload) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += len(row.payload)
    if batch:
        yield batch


class Importer:
    """Sends batches, a few at a time, and advances the state in the order of the file."""

    def __init__(
        self, api: Api, *, state: ImportState, on_progress: Callable[[ImportState, tuple[Failure, ...]], None]
    ) -> None:
        self._api = api
        self._on_progress = on_progress
        self._open: deque[tuple[frozenset[str], asyncio.Task[Outcome]]] = deque()
        self.state = state

    async def run(self, rows: Iterable[Prepared]) -> ImportState:
        """Import all rows; raises CliError when the API is away for too long or refuses."""
        try:
            for batch in batches(rows):
                ids = frozenset(row.identity for row in batch if row.identity)
                while len(self._open) >= CONCURRENT_BATCHES or self._is_open(ids):
                    await self._settle_oldest()
                self._open.append((ids, asyncio.create_task(self._send(batch))))
            while self._open:
                await self._settle_oldest()
        finally:
            for _, task in self._open:
                task.cancel()
            await asyncio.gather(*(task for _, task in self._open), return_exceptions=True)
        self._advance(Outcome(n_rows=0, counts=Counts(), failures=()), is_finished=True)
        return self.state

    def _is_open(self, ids: frozenset[str]) -> bool:
        # Two batches with the same issue must not overtake each other: the later row has the last word.
        return any(ids & others for others, _ in self._open)

    async def _settle_oldest(self) -> None:
        _, task = self._open[0]
        outcome = await task
        self._open.popleft()
        self._advance(outcome, is_finished=False)

    def _advance(self, outcome: Outcome, *, is_finished: bool) -> None:
        self.state = ImportState(
            file=self.state.file,
            rows_done=self.state.rows_done + outcome.n_rows,
            counts=self.state.counts + outcome.counts,
            is_finished=is_finished,
        )
        self._on_progress(self.state, outcome.failures)

    async def _send(self, batch: list[Prepared]) -> Outcome:
        failures = [Failure(line=row.line, reason=row.problem) for row in batch if row.problem]
        good = [row for row in batch if not row.problem]
        counts = Counts(rejected=len(failures))
        for rows, reply in await self._post(good):
            sent = _judge(rows, reply)
            counts += sent.counts
            failures.extend(sent.failures)
        failures.sort(key=lambda failure: failure.line)
        return Outcome(n_rows=len(batch), counts=counts, failures=tuple(failures))

    async def _post(self, rows: list[Prepared]) -> list[tuple[list[Prepared], BatchReply]]:
        """The replies to the rows; a batch that is too large for the API is halved."""
        if not rows:
            return []
        body = b'{"records":[' + b",".join(row.payload for row in rows) + b"]}"
        try:
            return [(rows, await self._api.post("/v1/ingest/batch", body, BatchReply))]
        except ResponseError as error:
            if error.status != TOO_LARGE:
                raise
            if len(rows) == 1:
                reply = BatchReply(rejected=(ImportedRecord(index=0, reason="the record is too large"),))
                return [(rows, reply)]
        middle = len(rows) // 2
        return [*await self._post(rows[:middle]), *await self._post(rows[middle:])]


def _judge(rows: list[Prepared], reply: BatchReply) -> Outcome:
    """Count the outcomes of a batch; rejected records become failures."""
    rejected = {record.index: record.reason or "rejected" for record in reply.rejected}
    rejected |= {r.index: r.reason or "rejected" for r in reply.results if r.outcome == "rejected"}
    outcomes = [record.outcome for record in reply.results]
    n_updated, n_unchanged = outcomes.count("updated"), outcomes.count("unchanged")
    failures = tuple(
        Failure(line=rows[index].line, reason=reason, external_id=rows[index].identity.partition("\0")[2])
        for index, reason in sorted(rejected.items())
    )
    counts = Counts(
        created=len(rows) - len(rejected) - n_updated - n_unchanged,
        updated=n_updated,
        unchanged=n_unchanged,
        rejected=len(rejected),
    )
    return Outcome(n_rows=len(rows), counts=counts, failures=failures)


def _identity(report: ingest.IssueReport) -> str:
    return f"{report.source or ''}\0{report.external_id}"
