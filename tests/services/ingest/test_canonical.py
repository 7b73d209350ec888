"""What a record looks like after normalisation, and what is refused with which reason."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from contracts import ingest, issue_id
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.commands import canonical_report
from services.ingest.commands.canonical import Cleaner
from services.ingest.commands.sources import KNOWN_SOURCES, known_source
from services.ingest.errors import InvalidIssueError
from tests.services.ingest.builders import NOW, WORKSPACE, report


def reason_of(**fields: object) -> str:
    with pytest.raises(InvalidIssueError) as refused:
        report(**fields)
    return refused.value.reason


@pytest.mark.parametrize(
    ("spelling", "severity"),
    [("p1", "p1"), ("P2", "p2"), ("Critical", "p1"), ("HIGH", "p2"), (" medium ", "p3"), ("low", "p4")],
)
def test_severity_in_any_spelling_is_understood(spelling: str, severity: str) -> None:
    assert severity == report(severity=spelling).severity


@pytest.mark.parametrize(
    ("spelling", "status"),
    [
        *((status.value, status.value) for status in ingest.IssueStatus),
        ("Open", "new"),
        ("in progress", "mitigating"),
        ("IN-PROGRESS", "mitigating"),
        ("wont fix", "wont_fix"),
    ],
)
def test_status_and_status_group_are_understood(spelling: str, status: str) -> None:
    assert status == report(status=spelling).status


@pytest.mark.parametrize(
    ("spelling", "source"),
    [
        (None, "custom_api"),
        ("", "custom_api"),
        ("homegrown tool", "custom_api"),
        ("Jira", "jira"),
        (" AWS CloudWatch ", "aws_cloudwatch"),
        ("New Relic", "newrelic"),
        ("github-actions", "github_actions"),
    ],
)
def test_source_in_any_spelling_becomes_a_known_slug(spelling: str | None, source: str) -> None:
    assert source == known_source(spelling)


def test_known_sources_are_slugs() -> None:
    assert all(known_source(slug) == slug and slug == slug.lower() for slug in KNOWN_SOURCES)
    assert len(KNOWN_SOURCES) >= 70


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            {"severity": "p5"},
            "severity: 'p5' is none of p1, p2, p3, p4, critical, high, medium, low; use one",
        ),
        ({"status": "broken"}, "status: 'broken' is none of new,"),
        ({"title": "x" * 301}, "title: is 301 characters long; shorten it to at most 300"),
        ({"external_id": "x" * 301}, "external_id: is 301 characters long; shorten it to at most 300"),
        ({"external_id": "a\x00b"}, "external_id: holds a control character; remove it"),
        ({"external_id": "a\nb"}, "external_id: holds a control character; remove it"),
        ({"external_id": None}, "external_id: is required in a batch"),
        ({"body": "x" * 65_537}, "body: is 65537 characters long; shorten it to at most 65536"),
        ({"service": "x" * 301}, "service: is 301 characters long; shorten it to at most 300"),
        ({"external_url": "ftp://a.example/x"}, "external_url: is not an address; use http:// or https://"),
        ({"external_url": "javascript:alert(1)"}, "external_url: is not an address"),
        ({"external_url": "https://a.example/x y"}, "external_url: is not an address"),
        (
            {"external_url": "https://me:secret@a.example/"},
            "external_url: holds a user name or password; remove",
        ),
        (
            {"external_url": "https://a.example/" + "x" * 2048},
            "external_url: is 2066 characters long; shorten",
        ),
        ({"metadata": {"x": "y" * 65_536}}, "metadata: is 65544 bytes of JSON; shorten it to at most 65536"),
        (
            {"metadata": {"x": "\ud800"}},
            "metadata: holds half of a surrogate pair, which is no character; send both or neither",
        ),
        ({"metadata": {"x": 10**5000}}, "metadata: holds a number that is too long; send it as a string"),
        (
            {"source_created_at": NOW + timedelta(days=1, seconds=1)},
            "source_created_at: lies more than a day",
        ),
        ({"source_updated_at": datetime(2262, 1, 1, tzinfo=UTC)}, "source_updated_at: lies more than a day"),
        ({"source_updated_at": datetime(1, 1, 1, tzinfo=UTC)}, "source_updated_at: lies before 1970"),
        (
            {"source_created_at": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))},
            "source_created_at: lies before 1970",
        ),
        (
            {"source_created_at": datetime(2026, 1, 1)},  # noqa: DTZ001  # naive on purpose
            "source_created_at: has no time zone; end it with Z or with an offset",
        ),
    ],
)
def test_wrong_field_is_refused_with_its_name_and_what_to_do(fields: dict[str, object], reason: str) -> None:
    assert reason_of(**fields).startswith(reason)


def test_several_wrong_fields_are_all_told_at_once() -> None:
    reason = reason_of(severity="x", status="y", title="z" * 999)
    assert [part.partition(":")[0] for part in reason.split("; ") if ": " in part] == [
        "title",
        "severity",
        "status",
    ]


def nested(levels: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(levels - 1):
        value = {"x": value}
    return value


def test_metadata_of_16_levels_is_taken_and_of_17_refused() -> None:
    assert nested(16) == report(metadata=nested(16)).metadata
    assert reason_of(metadata=nested(17)).startswith(
        "metadata: is nested more than 16 levels deep; flatten it"
    )
    assert reason_of(metadata=nested(900)).startswith("metadata: is nested more than 16 levels deep")


def test_metadata_with_many_brackets_in_strings_is_not_deep() -> None:
    metadata: dict[str, object] = {"log": "[{" * 40}
    assert metadata == report(metadata=metadata).metadata


def test_metadata_gets_sorted_keys_on_every_level_and_no_nul() -> None:
    cleaned = report(
        metadata={"b": [{"z": 1, "a": "x\x00\x00y"}], "a": "\\u0000 stays", "c\x00": "\\\x00"}
    ).metadata
    assert repr({"a": "\\u0000 stays", "b": [{"a": "xy", "z": 1}], "c": "\\"}) == repr(cleaned)


def test_texts_are_stripped_composed_and_freed_of_control_characters() -> None:
    command = report(
        title="  Caf\u0065\u0301 \n\t down\x00 \x1b[31mred\x1b[0m ",
        body="one\r\ntwo\rthree\ttab\x07\x7f\n",
        service=" che\u200bckout ",
    )
    assert (command.title, command.body, command.service) == (
        "Café   down red",
        "one\ntwo\nthree\ttab",
        "che\u200bckout",
    )


def test_times_become_utc() -> None:
    moment = datetime(2026, 4, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    command = report(source_created_at=moment)
    assert command.source_created_at == datetime(2026, 4, 1, tzinfo=UTC)
    assert command.source_created_at.tzinfo is UTC


def test_missing_fields_fall_back_to_strings_of_the_metadata() -> None:
    command = report(
        service="own",
        metadata={
            "service": "x",
            "component": " ui ",
            "error_type": 5,
            "environment": "y" * 301,
            "version": "",
        },
    )
    assert (
        command.service,
        command.component,
        command.error_type,
        command.environment,
        command.version,
    ) == ("own", "ui", None, None, None)


def test_identity_derives_from_workspace_source_and_composed_external_id() -> None:
    composed = report(external_id=" caf\u00e9 ")
    assert issue_id(WORKSPACE, "jira", "café") == composed.issue_id
    assert composed == report(external_id="cafe\u0301")
    assert composed.issue_id != report(external_id="café", source="github").issue_id


def test_single_report_without_external_id_gets_the_fresh_one() -> None:
    record = ingest.IssueReport(title="x", external_id="  ")
    command = canonical_report(record, workspace_id=WORKSPACE, fresh_id="ext_1", now=NOW)
    assert (command.issue_id, command.external_id) == (issue_id(WORKSPACE, "custom_api", "ext_1"), "ext_1")


@given(st.text())
def test_line_is_canonical_after_one_cleaning(value: str) -> None:
    clean = Cleaner(now=NOW)
    once = clean.line("service", value)
    assert once == clean.line("service", once)
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in once)


@given(st.text())
def test_text_is_canonical_after_one_cleaning(value: str) -> None:
    clean = Cleaner(now=NOW)
    once = clean.text("body", value)
    assert once == clean.text("body", once)
    assert "\x00" not in once and "\r" not in once


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_metadata_is_canonical_after_one_cleaning(value: dict[str, object]) -> None:
    clean = Cleaner(now=NOW)
    once = clean.metadata(value)
    if not clean.problems:
        assert repr(once) == repr(clean.metadata(once))
        if "\x00" not in repr(value) and "\\x00" not in repr(value):
            assert value == once
