"""Rows become reports."""

from datetime import UTC, datetime

import pytest
from causeloop.exits import UsageError
from causeloop.mapping import FieldMapping, RowError, as_time, combined, map_row, read_mapping_file
from hypothesis import given
from hypothesis import strategies as st

PLAIN = FieldMapping()


def test_usual_columns_are_found_by_their_names() -> None:
    """Nothing has to be said about a file with usual column names."""
    row = {
        "Issue Key": "A-1",
        "Summary": "It broke",
        "description": "Badly",
        "priority": "Critical",
        "createdAt": "2026-01-02T03:04:05+01:00",
        "Product": "shop",
        "colour": "red",
    }
    report = map_row(row, PLAIN).report
    assert (
        report.external_id,
        report.title,
        report.body,
        report.severity,
        report.service,
    ) == ("A-1", "It broke", "Badly", "p1", "shop")
    assert datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC) == report.source_created_at
    assert report.metadata == {"colour": "red"}


def test_a_named_column_and_a_constant_win_over_the_usual_names() -> None:
    """--map and --set have the last word."""
    mapping = FieldMapping(columns={"title": "fields.headline"}, constants={"source": "jira"})
    row = {"id": 7, "title": "not this", "fields": {"headline": "this"}}
    report = map_row(row, mapping).report
    assert (report.external_id, report.title, report.source) == ("7", "this", "jira")


def test_an_ignored_column_leaves_no_trace() -> None:
    """--ignore also keeps it out of the metadata."""
    report = map_row({"id": 1, "title": "x", "group": "label"}, FieldMapping(ignore=("group",))).report
    assert report.metadata is None


@pytest.mark.parametrize(
    ("source", "word", "level"),
    [
        ("statuspage", "minor", "p3"),
        ("bugzilla", "minor", "p4"),
        ("jira", "Major", "p3"),
        (None, "BLOCKER", "p1"),
        (None, "warning", "p3"),
    ],
)
def test_a_severity_is_read_with_the_words_of_its_source(source: str | None, word: str, level: str) -> None:
    """The same word means different things in different systems."""
    row = {"title": "x", "severity": word} | ({"source": source} if source else {})
    assert level == map_row(row, PLAIN).report.severity


def test_an_unknown_severity_is_kept_in_the_metadata() -> None:
    """Nothing that a source says is lost."""
    mapped = map_row({"id": 1, "title": "x", "severity": "--"}, PLAIN)
    assert (mapped.report.severity, mapped.report.metadata) == (None, {"severity": "--"})
    assert mapped.notes == ("severity '--' is not known, p3 taken",)


def test_a_list_gives_its_first_item_and_is_kept_whole() -> None:
    """A report has one service; the others stay visible."""
    report = map_row({"id": 1, "title": "x", "services": ["a", "b"]}, PLAIN).report
    assert (report.service, report.metadata) == ("a", {"services": ["a", "b"]})


def test_a_list_written_as_text_is_unwrapped() -> None:
    """Some exports write ['text'] into a text column."""
    assert map_row({"id": 1, "title": "['It broke']"}, PLAIN).report.title == "It broke"


def test_a_long_title_is_cut_and_kept_in_the_body() -> None:
    """A title has at most 300 characters."""
    long = "word " * 100
    report = map_row({"id": 1, "title": long, "body": "more"}, PLAIN).report
    assert report.title is not None and report.body is not None
    assert len(report.title) <= 300 and report.title.endswith("…")
    assert report.body.startswith(long.strip()) and report.body.endswith("more")


def test_a_row_without_an_id_gets_one_of_its_content() -> None:
    """So that the same file again reports nothing new."""
    first, again, other = (
        map_row(row, PLAIN).report for row in ({"title": "x"}, {"title": "x"}, {"title": "y"})
    )
    assert first.external_id == again.external_id != other.external_id


def test_a_row_without_any_text_is_refused() -> None:
    """A report needs a title."""
    with pytest.raises(RowError, match="title"):
        map_row({"id": 1, "minutes": 5}, PLAIN)


def test_an_unreadable_time_is_refused_with_its_value() -> None:
    """A guess would put the failure at a wrong time."""
    with pytest.raises(RowError, match="source_created_at: cannot read 'soon'"):
        map_row({"title": "x", "ts": "soon"}, PLAIN)


@pytest.mark.parametrize(
    "value",
    [
        1_767_323_045,
        1_767_323_045_000,
        "1767323045",
        "2026-01-02T03:04:05Z",
        "2026-01-02 03:04:05",
        "2026/01/02 03:04:05",
    ],
)
def test_times_are_read_in_many_spellings(value: object) -> None:
    """Epoch seconds, milliseconds, ISO 8601 and log spellings name the same moment."""
    assert datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) == as_time(value)


@given(
    st.dictionaries(
        st.text(max_size=12), st.none() | st.text(max_size=40) | st.integers() | st.floats() | st.booleans()
    )
)
def test_any_row_is_mapped_or_refused(row: dict[str, object]) -> None:
    """No value makes the mapping fail in another way, and the same row gives the same report."""
    try:
        mapped = map_row(row, PLAIN)
    except RowError:
        return
    assert mapped == map_row(row, PLAIN)
    assert mapped.report.title and len(mapped.report.title) <= 300


def test_a_mapping_file_says_the_same_as_flags() -> None:
    """And flags win over it."""
    content = b"map: {title: Headline}\nset: {source: jira}\nseverity: {sev-a: p1}\nignore: [group]\n"
    mapping = combined(
        read_mapping_file(content, name="m.yaml"), FieldMapping(constants={"source": "github"})
    )
    report = map_row({"Headline": "x", "severity": "SEV-A", "group": 1}, mapping).report
    assert (report.title, report.source, report.severity, report.metadata) == ("x", "github", "p1", None)


@pytest.mark.parametrize("content", [b"map: {titel: Headline}", b"mapp: {}", b"map: ["])
def test_a_wrong_mapping_file_is_refused_with_the_place(content: bytes) -> None:
    """A misspelt field would be ignored silently otherwise."""
    with pytest.raises(UsageError):
        read_mapping_file(content, name="m.yaml")
