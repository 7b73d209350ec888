"""Files are read in order, line by line, whatever is in them."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from causeloop.exits import UsageError
from causeloop.reading import count_rows, digest, read_rows

ROWS = [{"id": "1", "title": "a, b"}, {"id": "2", "title": 'quoted "c"\nsecond line'}]


def written(folder: Path, name: str) -> Path:
    path = folder / name
    match path.name.partition(".")[2]:
        case "jsonl":
            path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
        case "jsonl.gz":
            path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in ROWS).encode()))
        case "csv":
            pl.DataFrame(ROWS).write_csv(path)
        case "tsv":
            pl.DataFrame(ROWS).write_csv(path, separator="\t")
        case _:
            pl.DataFrame(ROWS).write_parquet(path)
    return path


@pytest.mark.parametrize("name", ["f.jsonl", "f.jsonl.gz", "f.csv", "f.tsv", "f.parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    """The format does not matter."""
    path = written(tmp_path, name)
    lines = list(read_rows(path))
    assert [line.row for line in lines] == ROWS
    assert [line.number for line in lines] == [1, 2]
    assert count_rows(path) == 2


def test_a_line_that_is_not_json_is_given_with_its_number(tmp_path: Path) -> None:
    """One bad line never fails the file."""
    path = tmp_path / "f.jsonl"
    path.write_text('{"id": 1}\n\n{"id": \n[1]\n{"id": 4}\n')
    lines = list(read_rows(path))
    assert [line.number for line in lines] == [1, 3, 4, 5]
    assert [line.problem.partition(":")[0] for line in lines] == ["", "not JSON", "not a JSON object", ""]


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    """With the kinds that are known."""
    with pytest.raises(UsageError, match="not known"):
        read_rows(tmp_path / "f.xlsx")


def test_a_broken_archive_is_refused(tmp_path: Path) -> None:
    """The file as a whole cannot be read."""
    path = tmp_path / "f.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": 1}\n' * 1000)[:-20])
    with pytest.raises(UsageError, match="cannot be read"):
        list(read_rows(path))


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    """Not the name."""
    one, two = tmp_path / "a.csv", tmp_path / "b.csv"
    one.write_text("x")
    two.write_text("x")
    assert digest(one) == digest(two)
    two.write_text("y")
    assert digest(one) != digest(two)
