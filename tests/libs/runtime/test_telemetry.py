import io
import json
import logging
import subprocess
import sys

import pytest
import structlog
from opentelemetry import trace
from runtime import logs, telemetry
from runtime.telemetry import current_trace_id, current_traceparent, parse, span_from

TRACE = "ab" * 16
PARENT = f"00-{TRACE}-{'cd' * 8}-01"


def test_span_continues_the_trace_with_an_id_of_its_own() -> None:
    with span_from(PARENT, "work"):
        inside = current_traceparent()

    assert inside is not None
    assert inside[3:35] == TRACE
    assert inside != PARENT
    assert current_traceparent() is None


def test_span_inside_a_span_keeps_the_trace() -> None:
    with span_from(PARENT, "outer"):
        outer = current_traceparent()
        with span_from(None, "inner"):
            assert current_trace_id() == TRACE
            assert current_traceparent() != outer
        assert current_traceparent() == outer


def test_span_without_a_parent_begins_a_trace() -> None:
    with span_from(None, "one"):
        first = current_trace_id()
    with span_from(None, "two"):
        second = current_trace_id()

    assert first is not None
    assert first != second


@pytest.mark.parametrize(
    "text", [None, "", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", PARENT[:-1] + "x"]
)
def test_parse_of_what_is_no_traceparent_is_none(text: str | None) -> None:
    assert parse(text) is None


def test_traceparent_is_read_back_as_it_was_written() -> None:
    found = parse(PARENT)

    assert found is not None
    assert telemetry.format_traceparent(found) == PARENT
    assert telemetry.trace_id_of(PARENT) == TRACE


def test_without_an_endpoint_the_sdk_is_not_imported() -> None:
    code = (
        "import sys, runtime.process, runtime.telemetry as t; t.configure('x'); "
        "sys.exit(any(m.startswith('opentelemetry.sdk') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_with_an_endpoint_spans_are_recorded() -> None:
    code = (
        "import runtime.telemetry as t; t.configure('x', endpoint='http://127.0.0.1:9', version='1')\n"
        f"with t.span_from({PARENT!r}, 'work', links=[{PARENT!r}]) as span:\n"
        "    assert span.is_recording() and t.current_trace_id() == 'ab' * 16\n"
        "    assert len(span.links) == 1\n"
        "import os; os._exit(0)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_every_line_has_the_trace_and_no_local_variable() -> None:
    stream = io.StringIO()
    before = structlog.get_config()
    logs.configure("pattern", stream=stream, level="info")
    log = structlog.get_logger()
    try:
        with span_from(PARENT, "work"):
            log.info("issue.linked", seq=3)
            log.debug("not.shown")
            logging.getLogger("some.library").warning("careful with %s", "this")
            password = "hunter2"
            try:
                raise ValueError("broken")
            except ValueError:
                log.exception("work.failed", n=len(password))
    finally:
        structlog.configure(**before)

    lines = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["issue.linked", "careful with this", "work.failed"]
    assert {line["trace_id"] for line in lines} == {TRACE}
    assert {line["service"] for line in lines} == {"pattern"}
    assert lines[2]["exception"][0]["exc_value"] == "broken"
    assert "hunter2" not in stream.getvalue()
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_lines_for_people_are_readable() -> None:
    stream = io.StringIO()
    before = structlog.get_config()
    logs.configure("pattern", stream=stream, as_json=False)
    try:
        structlog.get_logger().info("issue.linked", seq=3)
    finally:
        structlog.configure(**before)

    assert "issue.linked" in stream.getvalue()
    assert "seq=3" in stream.getvalue()
