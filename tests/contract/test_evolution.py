"""The contract only grows: what a release wrote, every later build reads."""

import json
import shutil
from pathlib import Path

import pytest
from codegen import release
from codegen.image import BufError
from contracts import EVENT_TYPES, decode, encode
from contracts.upcasts import UPCASTS

ROOT = Path(__file__).parents[2]
GOLDEN = sorted((ROOT / release.GOLDEN).glob("*/*.json"))


def newest_release() -> str:
    newest = release.latest(ROOT)
    assert newest is not None
    return newest.stem


def test_contract_takes_nothing_from_readers_of_the_last_release() -> None:
    """buf finds no change that an old reader of the JSON form could not take."""
    release.check(ROOT)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("string external_id = 3;", "string outer_id = 3;"),
        ("string title = 4;", "int32 title = 4;"),
        ("  // Text or Markdown; may be empty; at most 65,536 characters.\n  string body = 5;\n", ""),
        ("ISSUE_STATUS_WONT_FIX = 9;", "ISSUE_STATUS_REFUSED = 9;"),
    ],
    ids=["field renamed", "type changed", "field removed", "enum value renamed"],
)
def test_contract_that_breaks_old_readers_is_refused(tmp_path: Path, before: str, after: str) -> None:
    """Each kind of breaking change is noticed, so that the test above means something."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    file = tmp_path / "proto/causeloop/ingest/v1/events.proto"
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(BufError):
        release.check(tmp_path)


def test_contract_with_a_new_optional_field_is_accepted(tmp_path: Path) -> None:
    """Growing is allowed."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    file = tmp_path / "proto/causeloop/ingest/v1/events.proto"
    text = file.read_text(encoding="utf-8")
    file.write_text(
        text.replace("string reason = 3;", "string reason = 3;\n  // New.\n  optional string x = 90;"),
        encoding="utf-8",
    )
    release.check(tmp_path)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_golden_payload_of_a_release_decodes_and_encodes_to_the_same_bytes(path: Path) -> None:
    """What a release wrote is read for ever; written again, not a byte differs."""
    payload = path.read_bytes()
    event = decode(payload, seq=1, partition=0)
    if json.loads(payload)["type"] not in UPCASTS:
        assert payload == encode(event)


def test_golden_payloads_of_the_last_release_cover_its_events() -> None:
    """No event known to the last release lacks a golden payload."""
    folder = ROOT / release.GOLDEN / newest_release()
    kept = {json.loads(path.read_bytes())["type"] for path in folder.glob("*.json")}
    assert kept
    assert kept <= set(EVENT_TYPES) | set(UPCASTS)
    assert len(list(folder.glob("*.full.json"))) == len(kept) == len(list(folder.glob("*.least.json")))


def test_release_that_exists_is_never_written_again() -> None:
    """A release is a promise."""
    with pytest.raises(release.ReleaseExistsError):
        release.keep(ROOT, newest_release())
