"""Takes a whole list out of the API, page by page, into a file."""

import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import IO, Final, Protocol

import msgspec
import polars as pl
from msgspec import Struct

from causeloop.api import Api
from causeloop.exits import StorageError, UsageError

PAGE: Final = 100

Item = dict[str, object]


class Page(Struct, frozen=True):
    """Where a list goes on."""

    next_cursor: str | None = None
    has_more: bool = False
    total: int = 0


class Listing(Struct, frozen=True):
    """One page of a list."""

    data: list[Item]
    page: Page = Page()


class Sink(Protocol):
    """Takes items and makes a file of them."""

    def write(self, items: list[Item]) -> None:
        """Take one page."""

    def close(self) -> None:
        """Finish the file."""


async def pages(api: Api, resource: str, filters: Mapping[str, str]) -> AsyncIterator[Listing]:
    """All pages of a list in its order."""
    cursor: str | None = None
    while True:
        params = {**filters, "limit": str(PAGE)} | ({"cursor": cursor} if cursor else {})
        listing = await api.get(f"/v1/{resource}", Listing, params=params)
        yield listing
        cursor = listing.page.next_cursor
        if not cursor:
            return


def sink(file: Path | None) -> Sink:
    """What writes the kind of file that the name says; JSON Lines to standard output without one.

    Raises UsageError for an unknown kind, StorageError when the file cannot be made.
    """
    if file is None:
        return _LinesSink(sys.stdout.buffer)
    try:
        match file.suffix.lower():
            case ".jsonl" | ".ndjson":
                return _LinesSink(file.open("wb"))
            case ".csv" | ".parquet":
                file.touch()
                return _TableSink(file)
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error.strerror}") from error
    raise UsageError(
        f"{file.name}: this kind of file is not known", advice="Name it .jsonl, .csv or .parquet."
    )


class _LinesSink:
    """JSON Lines, written as they come."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, items: list[Item]) -> None:
        """Take one page."""
        self._file.writelines(msgspec.json.encode(item) + b"\n" for item in items)

    def close(self) -> None:
        """Finish the file."""
        self._file.flush()
        if self._file is not sys.stdout.buffer:
            self._file.close()


class _TableSink:
    """CSV or Parquet; nested values become JSON text, columns are those of all items."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._items: list[Item] = []

    def write(self, items: list[Item]) -> None:
        """Take one page."""
        self._items.extend({name: _flat(value) for name, value in item.items()} for item in items)

    def close(self) -> None:
        """Finish the file."""
        frame = pl.DataFrame(self._items, infer_schema_length=None)
        try:
            if self._file.suffix.lower() == ".csv":
                frame.write_csv(self._file)
            else:
                frame.write_parquet(self._file)
        except OSError as error:
            raise StorageError(f"{self._file} cannot be written: {error.strerror}") from error


def _flat(value: object) -> object:
    return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else value
