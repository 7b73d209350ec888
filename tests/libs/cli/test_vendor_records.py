"""Records as a tool gives them are read for the import, by the manifest of its type."""

import json
from itertools import islice
from pathlib import Path

import msgspec
import pytest
from causeloop.__main__ import run
from causeloop.exits import UsageError
from causeloop.importing import state_key
from causeloop.mapping import FieldMapping
from causeloop.vendor_records import manifest_in, mapped_records


def test_lines_become_rows_with_their_numbers_and_problems(tmp_path: Path) -> None:
    """A bad line costs only itself; what is no failure is left out."""
    lines = [
        '{"id": 1, "title": "Down", "state": "open"}',
        "{",
        "",
        '{"id": 2, "title": "A pull request", "pull_request": {"url": "x"}}',
        '{"title": "no id"}',
    ]
    file = tmp_path / "issues.jsonl"
    file.write_text("\n".join(lines))
    rows = list(mapped_records("github", file))
    assert [(row.line, bool(row.problem)) for row in rows] == [(1, False), (2, True), (5, True)]
    assert rows[0].identity == "github\x001"
    assert msgspec.json.decode(rows[0].payload)["title"] == "Down"
    assert [
        "not a JSON" if "JSON" in row.problem else row.problem.partition(": ")[2][:10] for row in rows[1:]
    ] == ["not a JSON", "nothing at"]


def test_whoever_needs_only_the_first_rows_need_not_read_all(tmp_path: Path) -> None:
    """As `--dry-run` does; the reader ends then."""
    file = tmp_path / "issues.json"
    file.write_text(json.dumps([{"id": n, "title": f"Issue {n}"} for n in range(20_000)]))
    rows = mapped_records("github", file)
    assert [row.line for row in islice(rows, 2)] == [1, 2]
    rows.close()  # type: ignore[attr-defined]  # a generator


@pytest.mark.parametrize(
    ("type_", "content", "says"), [("weather", "{}", "weather"), ("github", "{", "not JSON")]
)
def test_what_cannot_be_read_at_all_is_said_at_once(
    type_: str, content: str, says: str, tmp_path: Path
) -> None:
    """An unknown type, and a file that is no JSON."""
    file = tmp_path / "records.json"
    file.write_text(content)
    with pytest.raises(UsageError, match=says):
        list(mapped_records(type_, file))


def test_a_manifest_of_ones_own_is_sent_as_the_api_takes_it(tmp_path: Path) -> None:
    """`causeloop connectors add custom_weather.yaml`; a mistake is told with its place and nothing is sent."""
    file = tmp_path / "custom_weather.yaml"
    file.write_text(
        "{type: custom_weather, name: Weather, category: data, docs_url: https://example.com, auth: [{kind: none}],\n"
        "mappings: [{external_id: id, title: what}]}\n"
    )
    assert manifest_in(str(file))["mappings"] == [{"external_id": "id", "title": "what"}]
    file.write_text(file.read_text().replace("what", "'what['"))
    with pytest.raises(UsageError, match=r"custom_weather.yaml: mappings\[0\].title: is not JMESPath"):
        manifest_in(str(file))


def test_an_import_by_another_type_is_another_import(tmp_path: Path) -> None:
    """Otherwise it would go on in the middle of the first one."""
    mapping = FieldMapping()
    keys = {
        state_key(digest="d", mapping=mapping, url="u", source=source) for source in (None, "jira", "github")
    }
    assert len(keys) == 3


def test_a_type_brings_its_own_mapping(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two mappings would contradict each other."""
    (tmp_path / "in.json").write_text("[]")
    code = run(["import", str(tmp_path / "in.json"), "--source", "jira", "--map", "title=x"])
    assert (code, "--source brings its own" in capsys.readouterr().err) == (2, True)
