"""The envelope: what is written, what is read, what is refused."""

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from contracts import (
    MalformedEventError,
    Recorded,
    UnknownEventError,
    decode,
    encode,
    ingest,
    pattern,
    record,
)
from contracts.generated import Event
from contracts.upcasts import Upcast

NOW = datetime(2026, 11, 22, 8, 15, 30, 250_000, tzinfo=UTC)


def closed(reason: str = "fixed") -> ingest.IssueClosed:
    return ingest.IssueClosed(issue_id="iss_1", status=ingest.IssueStatus.RESOLVED, reason=reason)


def reported() -> ingest.IssueReported:
    return ingest.IssueReported(
        issue_id="iss_1",
        source="jira",
        external_id="A-1",
        title="Time-out",
        body="",
        severity=ingest.Severity.P1,
        status=ingest.IssueStatus.NEW,
        metadata={"x": "deep"},
    )


def recorded(data: Event | None = None, *, cause: Recorded[Event] | None = None) -> Recorded[Event]:
    return record(
        data or closed(),
        workspace_id="ws_1",
        aggregate_id="iss_1",
        occurred_at=NOW,
        recorded_at=NOW + timedelta(seconds=1),
        source="ingest",
        cause=cause,
    )


def event_id(
    data: Event | None = None,
    *,
    workspace_id: str = "ws_1",
    aggregate_id: str = "iss_1",
    occurred_at: datetime = NOW,
    correlation_id: str | None = None,
    cause: Recorded[Event] | None = None,
) -> str:
    return record(
        data or closed(),
        workspace_id=workspace_id,
        aggregate_id=aggregate_id,
        occurred_at=occurred_at,
        recorded_at=NOW,
        source="ingest",
        correlation_id=correlation_id,
        cause=cause,
    ).id


def test_encode_writes_one_cloudevents_body() -> None:
    """Every attribute under its CloudEvents name, the event's own fields in data."""
    event = recorded()
    assert {
        "type": "causeloop.ingest.v1.IssueClosed",
        "id": event.id,
        "source": "/causeloop/ingest",
        "subject": "issue/iss_1",
        "time": "2026-11-22T08:15:30.250000Z",
        "dataschema": "urn:causeloop:schema:causeloop.ingest.v1.IssueClosed",
        "workspaceid": "ws_1",
        "recordedtime": "2026-11-22T08:15:31.250000Z",
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "data": {"issue_id": "iss_1", "status": "resolved", "reason": "fixed"},
    } == json.loads(encode(event))


def test_decode_gives_the_event_with_its_place_in_the_log() -> None:
    """Sequence and partition come from the reader, everything else from the body."""
    event = recorded()
    read = decode(encode(event), seq=7, partition=2)
    assert (read.seq, read.partition) == (7, 2)
    assert event.data == read.data
    assert (
        read.type,
        read.aggregate_type,
        read.aggregate_id,
    ) == ("causeloop.ingest.v1.IssueClosed", "issue", "iss_1")


def test_encode_leaves_out_the_place_in_the_log() -> None:
    """An event that was read is written as it was."""
    payload = encode(recorded())
    assert payload == encode(decode(payload, seq=7, partition=2))


def test_decode_ignores_a_place_in_the_body() -> None:
    """Only the log says where an event stands."""
    body = json.loads(encode(recorded())) | {"seq": 99, "partition": 5, "-seq": 12}
    read = decode(json.dumps(body).encode(), seq=7, partition=0)
    assert (read.seq, read.partition) == (7, 0)


def test_decode_finds_the_type_wherever_it_stands() -> None:
    """A body written by another library may have its attributes in any order."""
    body = json.loads(encode(recorded()))
    shuffled = json.dumps(dict(sorted(body.items(), reverse=True))).encode()
    assert recorded() == decode(shuffled, seq=0, partition=0)


def test_decode_ignores_fields_of_a_newer_build() -> None:
    """A new field breaks no old reader."""
    body = json.loads(encode(recorded()))
    body["newattribute"] = {"x": 1}
    body["data"]["added_later"] = [1, 2]
    assert recorded() == decode(json.dumps(body).encode(), seq=0, partition=0)


def test_decode_of_an_unknown_type_names_it() -> None:
    """A newer build's event is told from a broken one."""
    body = json.loads(encode(recorded())) | {"type": "causeloop.ingest.v7.IssueSung"}
    with pytest.raises(UnknownEventError) as caught:
        decode(json.dumps(body).encode(), seq=1, partition=0)
    assert caught.value.event_type == "causeloop.ingest.v7.IssueSung"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'"x"',
        b'{"type": 3}',
        b"\xff\xfe",
        encode(recorded()).replace(b'"resolved"', b'"no_such_status"'),
        encode(recorded()).replace(b'"reason":"fixed"', b'"other":"fixed"'),
        encode(recorded()).replace(b'0000Z"', b'0000"'),
        encode(recorded()).replace(b"fixed", b"\xff\xfe"),
        encode(recorded(reported())).replace(b'"deep"', b"[" * 50_000 + b"]" * 50_000),
    ],
)
def test_decode_of_anything_else_is_refused(payload: bytes) -> None:
    """Broken JSON, a wrong value, a missing field, a time without an offset, no UTF-8, absurd nesting."""
    with pytest.raises(MalformedEventError):
        decode(payload, seq=1, partition=0)


def test_record_of_the_same_decision_gives_the_same_id() -> None:
    """A crash between append and checkpoint repeats nothing."""
    cause = recorded()
    assert recorded(closed("again"), cause=cause).id == recorded(closed("again"), cause=cause).id


def test_record_of_another_fact_gives_another_id() -> None:
    """Workspace, subject, type, data and cause or moment each count."""
    cause = recorded()
    ids = [
        event_id(),
        event_id(closed("other")),
        event_id(occurred_at=NOW + timedelta(microseconds=1)),
        event_id(correlation_id="req_1"),
        event_id(cause=cause),
        event_id(workspace_id="ws_2"),
        event_id(aggregate_id="iss_2"),
    ]
    assert len(ids) == len(set(ids))
    assert all(len(found) == len("evt_") + 26 for found in ids)


def test_record_inherits_from_its_cause() -> None:
    """One request can be followed through everything that it set off."""
    root = recorded()
    first = recorded(cause=root)
    traced = msgspec.structs.replace(first, correlation_id="req_9", traceparent="00-aa-bb-01")
    second = recorded(cause=traced)
    assert (root.id, root.id) == (first.causation_id, first.correlation_id)
    assert (traced.id, "req_9", "00-aa-bb-01") == (
        second.causation_id,
        second.correlation_id,
        second.traceparent,
    )


def test_record_keeps_what_is_given_over_what_would_be_inherited() -> None:
    """The caller knows best."""
    event = record(
        closed(),
        workspace_id="ws_1",
        aggregate_id="iss_1",
        occurred_at=NOW,
        recorded_at=NOW,
        source="ingest",
        cause=recorded(),
        actor="usr_1",
        correlation_id="req_2",
        traceparent="00-cc-dd-01",
        event_id="evt_given",
    )
    assert (
        event.id,
        event.actor,
        event.correlation_id,
        event.traceparent,
    ) == ("evt_given", "usr_1", "req_2", "00-cc-dd-01")


def test_events_cannot_be_changed() -> None:
    """Facts are immutable."""
    with pytest.raises(AttributeError):
        recorded().id = "evt_other"  # type: ignore[misc]  # this is what must fail


def test_request_with_an_unknown_field_is_refused() -> None:
    """A client's typing error is told to the client, not swallowed."""
    with pytest.raises(msgspec.ValidationError, match="patern_id"):
        msgspec.json.decode(b'{"pattern_id":"pat_1","issue_id":"i","patern_id":"x"}', type=pattern.LinkIssue)


OLDEST = "causeloop.ingest.v0.IssueEnded"
OLD = "causeloop.ingest.v0.IssueFinished"
STEPS = {
    OLDEST: Upcast(OLD, lambda data: {"issue_id": data["id"], "why": data.get("why", "")}),
    OLD: Upcast(
        "causeloop.ingest.v1.IssueClosed",
        lambda data: {"issue_id": data["issue_id"], "status": "closed", "reason": data["why"]},
    ),
}


@pytest.mark.parametrize(
    ("old_type", "old_data"),
    [(OLDEST, {"id": "iss_1", "why": "done"}), (OLD, {"issue_id": "iss_1", "why": "done"})],
)
def test_decode_of_an_old_type_goes_through_every_step(old_type: str, old_data: dict[str, str]) -> None:
    """An event of a former version is read as today's, on the path that every event takes."""
    body = json.loads(encode(recorded())) | {"type": old_type, "data": old_data}
    read = decode(json.dumps(body).encode(), seq=4, partition=1, upcasts=STEPS)
    assert ingest.IssueClosed(issue_id="iss_1", status=ingest.IssueStatus.CLOSED, reason="done") == read.data
    assert (read.type, read.seq, read.partition) == ("causeloop.ingest.v1.IssueClosed", 4, 1)
    assert read.id == recorded().id


def test_decode_of_an_old_type_with_broken_data_is_refused() -> None:
    """A step is no way around the contract."""
    body = json.loads(encode(recorded())) | {"type": OLD, "data": {"issue_id": "iss_1", "why": 3}}
    with pytest.raises(MalformedEventError):
        decode(json.dumps(body).encode(), seq=4, partition=1, upcasts=STEPS)
    body["data"] = None
    with pytest.raises(MalformedEventError):
        decode(json.dumps(body).encode(), seq=4, partition=1, upcasts=STEPS)


def test_decode_of_an_old_type_that_leads_nowhere_names_it() -> None:
    """A step to a type that does not exist is found out."""
    steps = {OLD: Upcast("causeloop.ingest.v9.Gone", lambda data: data)}
    body = json.loads(encode(recorded())) | {"type": OLD, "data": {}}
    with pytest.raises(UnknownEventError):
        decode(json.dumps(body).encode(), seq=4, partition=1, upcasts=steps)
