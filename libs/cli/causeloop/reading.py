"""Reads the rows of a file: JSON Lines (also gzipped), CSV and Parquet, in bounded memory."""

import gzip
import hashlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from causeloop.exits import UsageError
from causeloop.mapping import Line

CHUNK_ROWS: Final = 5_000


def digest(path: Path) -> str:
    """A hash of the file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def count_rows(path: Path) -> int:
    """How many rows the file has, for the progress bar; one fast pass."""
    match _kind(path):
        case "jsonl":
            with _opened(path) as file:
                return sum(1 for line in file if not line.isspace())
        case "csv":
            return int(_csv(path).select(pl.len()).collect().item())
        case _:
            return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def read_rows(path: Path) -> Iterator[Line]:
    """The rows of the file in order; a line that cannot be read is given with its problem, not skipped.

    Raises UsageError when the file as a whole cannot be read.
    """
    match _kind(path):
        case "jsonl":
            return _json_lines(path)
        case "csv":
            return _table(_csv(path), path)
        case _:
            return _table(pl.scan_parquet(path), path)


def _kind(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".jsonl", ".ndjson", ".json")):
        return "jsonl"
    if name.endswith((".csv", ".tsv")):
        return "csv"
    if name.endswith((".parquet", ".pq")):
        return "parquet"
    raise UsageError(
        f"{path.name}: this kind of file is not known",
        advice="Give JSON Lines (.jsonl, .jsonl.gz), CSV (.csv, .tsv, also .gz) or Parquet (.parquet).",
    )


def _opened(path: Path) -> BufferedIOBase:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")


def _json_lines(path: Path) -> Iterator[Line]:
    # By line, not through polars: one bad line must not fail the file, and rows may differ in their fields.
    decoder = msgspec.json.Decoder()
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, 1):
                if not line.isspace():
                    yield _json_line(number, line, decoder)
    except (OSError, EOFError) as error:
        raise UsageError(f"{path.name}: cannot be read: {error}") from error


def _json_line(number: int, line: bytes, decoder: "msgspec.json.Decoder[object]") -> Line:
    try:
        row = decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Line(number=number, row=None, problem=f"not JSON: {error}")
    if not isinstance(row, dict):
        return Line(number=number, row=None, problem="not a JSON object")
    return Line(number=number, row=row)


def _csv(path: Path) -> pl.LazyFrame:
    # Everything is read as text: the mapping knows what a column means better than a guess from its first rows.
    separator = "\t" if ".tsv" in path.name.lower() else ","
    return pl.scan_csv(path, separator=separator, infer_schema=False, truncate_ragged_lines=True)


def _table(frame: pl.LazyFrame, path: Path) -> Iterator[Line]:
    number = 0
    try:
        for chunk in frame.collect_batches(chunk_size=CHUNK_ROWS, maintain_order=True):
            for row in chunk.iter_rows(named=True):
                number += 1
                yield Line(number=number, row=row)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UsageError(f"{path.name}: cannot be read after row {number}: {error}") from error
