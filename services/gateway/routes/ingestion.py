"""Ingestion: one event, a batch of up to 500, and how far an intake has come."""

from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from contracts import ingest
from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway import _queries
from services.gateway.errors import PayloadTooLargeError
from services.gateway.identity.tokens import Principal
from services.gateway.routes.issues import Failure, SourceName, report_one
from services.gateway.routes.jobs import Job, job_id, read_job_id
from services.gateway.routes.operation import (
    AnyOperation,
    Call,
    Gateway,
    NoQuery,
    Operation,
    not_found,
    raw_command,
)
from services.gateway.vocabulary import VisibleLine

RECORDS_MAX = 500


class SourceIssue(Failure, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One failure of the source that the path names; without an external_id it is always a new one."""

    external_id: VisibleLine | None = None
    title: Annotated[VisibleLine | None, Meta(description="Falls back to external_id.")] = None


class IngestEvent(SourceIssue, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One failure of a source; without an external_id it is always a new one."""

    source: SourceName | None = None


class IngestBatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to 500 failures."""

    records: Annotated[
        tuple[object, ...],
        Meta(
            min_length=1,
            max_length=RECORDS_MAX,
            extra_json_schema={"items": {"anyOf": [{"$ref": "#/components/schemas/IngestEvent"}, {}]}},
            description="IngestEvent objects, with an external_id each. Every record is judged by itself: one that is"
            " none, or not a good one, comes back in `rejected` and never fails the rest.",
        ),
    ]


class Rejected(Struct, frozen=True, kw_only=True):
    """A record that was not taken."""

    index: Annotated[int, Meta(ge=0, description="Position in records.")]
    reason: str


class RecordResult(Struct, frozen=True, kw_only=True):
    """What became of one record."""

    index: Annotated[int, Meta(ge=0)]
    outcome: Literal["created", "updated", "unchanged", "rejected"]
    issue_id: str | None
    reason: str | None


class EventAccepted(Struct, frozen=True, kw_only=True):
    """One failure was taken; it is durable."""

    accepted: int
    rejected: tuple[Rejected, ...]
    issue_id: str
    outcome: Literal["created", "updated", "unchanged"]
    job_id: str


class BatchAccepted(Struct, frozen=True, kw_only=True):
    """What became of a batch; what was accepted is durable."""

    accepted: int
    rejected: tuple[Rejected, ...]
    results: tuple[RecordResult, ...]
    job_id: str


class JobStatus(Struct, frozen=True, kw_only=True):
    """How far an intake has come."""

    job_id: str
    status: Annotated[
        Literal["accepted", "projected", "grouped"],
        Meta(
            description="accepted: durable. projected: every GET finds it. grouped: pattern has looked at it."
        ),
    ]
    accepted: int
    rejected: int
    received_at: datetime


async def ingest_event(gateway: Gateway, call: Call[NoQuery, IngestEvent]) -> EventAccepted:
    """Take one failure."""
    return await _taken(gateway, call.principal, msgspec.structs.asdict(call.body))


async def ingest_source_issue(gateway: Gateway, call: Call[NoQuery, SourceIssue]) -> EventAccepted:
    """Take one failure of the source that the path names."""
    fields = {**msgspec.structs.asdict(call.body), "source": call.path["source"]}
    return await _taken(gateway, call.principal, fields)


async def _taken(gateway: Gateway, principal: Principal, fields: dict[str, object]) -> EventAccepted:
    await gateway.quota.take(principal.workspace_id, 1)
    now = gateway.resources.clock()
    report = msgspec.convert(fields, ingest.IssueReport)
    result, sequence = await report_one(gateway, principal, report)
    is_new = result.outcome is ingest.ReportOutcome.CREATED
    issue_id = str(result.issue_id)
    job = Job(sequence, 1, 0, int(now.timestamp() * 1000), issue_id if is_new else "")
    return EventAccepted(
        accepted=1,
        rejected=(),
        issue_id=issue_id,
        outcome=msgspec.convert(result.outcome.value, Literal["created", "updated", "unchanged"]),
        job_id=job_id(job, workspace_id=principal.workspace_id, secret=gateway.secret),
    )


async def ingest_batch(gateway: Gateway, call: Call[NoQuery, bytes]) -> BatchAccepted:
    """Take a batch; its bytes go to ingest as they came."""
    longest = gateway.resources.nc.max_payload - 4096
    if len(call.body) > longest:
        raise PayloadTooLargeError(
            f"The batch has {len(call.body)} bytes; the broker takes {longest}. Send fewer records at once."
        )
    n_records = _count_records(call.body)
    if n_records:
        await gateway.quota.take(call.workspace_id, n_records)
    now = gateway.resources.clock()
    reply = await raw_command(
        gateway, call.principal, call.body, kind=ingest.ReportIssues, reply=ingest.IssuesReported
    )
    rejected = tuple(
        Rejected(index=result.index, reason=result.reason or "rejected")
        for result in reply.results
        if result.outcome is ingest.ReportOutcome.REJECTED
    )
    created = [r.issue_id for r in reply.results if r.outcome is ingest.ReportOutcome.CREATED and r.issue_id]
    accepted = len(reply.results) - len(rejected)
    job = Job(
        reply.sequence, accepted, len(rejected), int(now.timestamp() * 1000), created[-1] if created else ""
    )
    return BatchAccepted(
        accepted=accepted,
        rejected=rejected,
        results=msgspec.convert(
            msgspec.to_builtins([_result(r) for r in reply.results]), tuple[RecordResult, ...]
        ),
        job_id=job_id(job, workspace_id=call.workspace_id, secret=gateway.secret),
    )


class _Counted(Struct, frozen=True):
    """A batch as far as it has to be read to count its records."""

    records: list[msgspec.Raw]


def _count_records(batch: bytes) -> int:
    """How many records a batch has; 0 for one that ingest refuses as a whole."""
    try:
        n_records = len(msgspec.json.decode(batch, type=_Counted).records)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 0
    return n_records if n_records <= RECORDS_MAX else 0


def _result(result: ingest.ReportResult) -> dict[str, object]:
    return {
        "index": result.index,
        "outcome": result.outcome.value,
        "issue_id": result.issue_id,
        "reason": result.reason,
    }


async def ingest_status(gateway: Gateway, call: Call[NoQuery, None]) -> JobStatus:
    """How far an intake has come."""
    identifier = call.path["job_id"]
    job = read_job_id(identifier, workspace_id=call.workspace_id, secret=gateway.secret)
    if job is None:
        raise not_found("job", identifier)
    return JobStatus(
        job_id=identifier,
        status=await _progress(gateway, call.workspace_id, job),
        accepted=job.accepted,
        rejected=job.rejected,
        received_at=datetime.fromtimestamp(job.received_at_ms / 1000, tz=UTC),
    )


async def _progress(
    gateway: Gateway, workspace_id: str, job: Job
) -> Literal["accepted", "projected", "grouped"]:
    if not await gateway.resources.reached(workspace_id, job.sequence, timeout=0.05):
        return "accepted"
    if not job.issue_id:
        return "grouped"
    async with tenant(gateway.pool, workspace_id) as conn:
        is_grouped = await _queries.is_grouped(conn, workspace_id=workspace_id, issue_id=job.issue_id)
    return "grouped" if is_grouped else "projected"


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="ingestEvent",
        method="POST",
        path="/v1/ingest/events",
        tag="Ingestion",
        summary="Take one failure.",
        description="The same `external_id` and `source` again update the issue.",
        scope="ingest:write",
        body=IngestEvent,
        replies={202: EventAccepted},
        refusals=(422,),
        handle=ingest_event,
    ),
    Operation(
        id="ingestSourceIssue",
        method="POST",
        path="/v1/ingest/{source}/issues",
        tag="Ingestion",
        summary="Take one failure of a source.",
        description="Like /v1/ingest/events with the source in the path; an unknown one becomes custom_api.",
        scope="ingest:write",
        body=SourceIssue,
        replies={202: EventAccepted},
        refusals=(422,),
        handle=ingest_source_issue,
    ),
    Operation(
        id="ingestBatch",
        method="POST",
        path="/v1/ingest/batch",
        tag="Ingestion",
        summary="Take up to 500 failures.",
        description="Each record is judged by itself: one that is not good is named in `rejected` and the rest is taken.",
        scope="ingest:write",
        body=bytes,
        described_body=IngestBatch,
        replies={202: BatchAccepted},
        refusals=(422,),
        handle=ingest_batch,
    ),
    Operation(
        id="getIngestStatus",
        method="GET",
        path="/v1/ingest/status/{job_id}",
        tag="Ingestion",
        summary="See how far an intake has come.",
        scope="ingest:write",
        replies={200: JobStatus},
        handle=ingest_status,
    ),
)
