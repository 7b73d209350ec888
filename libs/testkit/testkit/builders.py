"""Events for tests: valid, different by number, and overridable field by field."""

from datetime import UTC, datetime, timedelta

from contracts import Event, Recorded, ingest, issue_id, record
from msgspec.structs import replace

WORKSPACE = "ws_test"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def recorded(
    data: Event,
    aggregate_id: str,
    *,
    workspace_id: str = WORKSPACE,
    at: datetime = NOW,
    seq: int = 0,
    source: str = "ingest",
) -> Recorded[Event]:
    """An event in its envelope, as it is read from the log; `seq` 0 means not stored yet."""
    envelope = record(
        data,
        workspace_id=workspace_id,
        aggregate_id=aggregate_id,
        occurred_at=at,
        recorded_at=at,
        source=source,
        correlation_id="req_test",
    )
    return replace(envelope, seq=seq)


def issue_reported(
    number: int = 1,
    *,
    workspace_id: str = WORKSPACE,
    title: str | None = None,
    at: datetime | None = None,
    **fields: object,
) -> Recorded[Event]:
    """The report of issue `number`: its id, title and time follow from the number.

    fields: any other field of IssueReported, by name.
    """
    external_id = f"EXT-{number}"
    values: dict[str, object] = {
        "issue_id": issue_id(workspace_id, "custom_api", external_id),
        "source": "custom_api",
        "external_id": external_id,
        "title": title or f"Checkout fails with error {number}",
        "body": "",
        "severity": ingest.Severity.P2,
        "status": ingest.IssueStatus.NEW,
        "service": "checkout",
        "environment": "production",
        "metadata": {},
        **fields,
    }
    data = ingest.IssueReported(**values)  # type: ignore[arg-type]  # named by the caller, checked by its test
    return recorded(
        data,
        data.issue_id,
        workspace_id=workspace_id,
        at=at or NOW + timedelta(seconds=number),
        seq=number,
    )
