"""Issues: list, report, look at, change, close, link by hand."""

from datetime import datetime
from functools import partial
from typing import Annotated, Literal

import msgspec
from contracts import ingest, pattern
from msgspec import Meta, Struct
from runtime.errors import ValidationFailedError

from services.gateway.identity.tokens import Principal
from services.gateway.listing import Filter, Listing, SortKey
from services.gateway.routes.membership import Membership, reasons
from services.gateway.routes.operation import (
    Accepted,
    Answer,
    AnyOperation,
    Call,
    Deed,
    Gateway,
    Operation,
    command,
    settle,
)
from services.gateway.routes.pages import (
    ListQuery,
    PageInfo,
    Reply,
    carry_out,
    list_page,
    page_info,
    read_one,
    shown,
)
from services.gateway.vocabulary import (
    GROUPS,
    LABELS,
    AnyIssueStatus,
    AnySeverity,
    IssueStatus,
    Line,
    Note,
    Search,
    SeverityFormat,
    SeverityInput,
    StatusGroup,
    Url,
    VisibleLine,
    search_terms,
    severity_codes,
    statuses_of,
)

Sort = Literal[
    "created_at", "-created_at", "ingested_at", "-ingested_at", "updated_at", "-updated_at",
    "source_created_at", "-source_created_at", "risk_score", "-risk_score",
    "severity", "-severity", "status", "-status",
]  # fmt: skip
Identifier = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$(?!\n)")]
Body = Annotated[str, Meta(max_length=65_536, description="Text or Markdown.")]
Metadata = Annotated[dict[str, object], Meta(description="Free keys and values, at most 64 KiB as JSON.")]
Moment = Annotated[datetime, Meta(tz=True)]
NONE = "none"
_REASONS = (
    "score",
    "method",
    "method_version",
    "matched_dimensions",
    "linked_at",
    "linked_by",
    "merged_from",
    "merged_by",
    "merged_at",
)
"""Columns of issue_rows that say why an issue is in its pattern."""


class IssueRow(Struct, frozen=True):
    """One row of issue_rows."""

    issue_id: str
    seq: int
    source: str
    external_id: str
    title: str
    body: str
    severity: str
    risk_score: int
    status: str
    pattern_id: str | None
    service: str | None
    component: str | None
    error_type: str | None
    environment: str | None
    version: str | None
    team: str | None
    assignee: str | None
    external_url: str | None
    connector_id: str | None
    metadata: str
    analysis: str | None
    reason: str | None
    source_created_at: datetime
    source_updated_at: datetime | None
    created_at: datetime
    updated_at: datetime
    score: float | None
    method: str | None
    method_version: str | None
    matched_dimensions: str | None
    linked_at: datetime | None
    linked_by: str | None
    merged_from: str | None
    merged_by: str | None
    merged_at: datetime | None


class IssueSummary(Struct, frozen=True, kw_only=True):
    """An issue as lists show it."""

    id: str
    external_id: str
    source: str
    title: str
    severity: Annotated[
        AnySeverity, Meta(description="p1 … p4; the label instead with `severity_format=label`.")
    ]
    severity_label: Annotated[
        AnySeverity, Meta(description="critical … low; the code instead with `severity_format=label`.")
    ]
    status: IssueStatus
    status_group: StatusGroup
    risk_score: Annotated[
        int, Meta(ge=0, le=100, description="The severity's weight; a fifth of it once the issue is over.")
    ]
    pattern_id: Annotated[str | None, Meta(description="The pattern it is in, once that is detected.")]
    service: str | None
    component: str | None
    error_type: str | None
    environment: str | None
    version: str | None
    team: str | None
    assignee: str | None
    external_url: str | None
    connector_id: str | None
    source_created_at: Annotated[datetime, Meta(description="When it happened at its source.")]
    source_updated_at: datetime | None
    ingested_at: Annotated[datetime, Meta(description="When it was recorded; the same as created_at.")]
    created_at: datetime
    updated_at: datetime


class AnalysisEvidence(Struct, frozen=True, kw_only=True):
    """A sentence that an analysis rests on."""

    id: str
    kind: str
    text: str
    issue_ids: tuple[str, ...]


class AnalysisClaim(Struct, frozen=True, kw_only=True):
    """What an analysis says, and the evidence behind it."""

    text: str
    evidence_ids: tuple[str, ...]


class Analysis(Struct, frozen=True, kw_only=True):
    """Why an issue happened, as of the last analysis."""

    analysis_id: str
    tier: Literal["fast", "balanced", "deep"]
    analyzed_at: datetime
    root_cause: AnalysisClaim
    contributing_factors: tuple[AnalysisClaim, ...]
    why_recurring: AnalysisClaim
    confidence: Annotated[
        float, Meta(ge=0, le=1, description="How much evidence there is; no probability that it is right.")
    ]
    model: Annotated[str, Meta(description="`evidence`, or the name of the model that answered.")]
    model_version: Annotated[str, Meta(description="Dated version of the method or of the prompt.")]
    evidence: tuple[AnalysisEvidence, ...]
    fallback_reason: Annotated[
        str | None, Meta(description="Why no model answered although one was to be asked.")
    ]


class Issue(IssueSummary, frozen=True, kw_only=True):
    """An issue with everything that is known of it."""

    body: str
    description: Annotated[str, Meta(description="The same as body.")]
    metadata: dict[str, object]
    reason: Annotated[str | None, Meta(description="Why it was closed.")]
    analysis: Annotated[Analysis | None, Meta(description="Null until it has been analysed.")]
    membership: Annotated[
        Membership | None, Meta(description="Why it is in its pattern; null: it is in none that is detected.")
    ]


class IssuePage(Struct, frozen=True, kw_only=True):
    """A page of issues."""

    data: tuple[IssueSummary, ...]
    page: PageInfo


class FormatQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How severities are spelled in the reply."""

    severity_format: SeverityFormat = "code"


class IssueQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of the list of issues; those that are absent do not apply."""

    status: Annotated[
        tuple[AnyIssueStatus, ...] | None,
        Meta(description="Statuses or status groups; `closed` is the group."),
    ] = None
    severity: Annotated[tuple[AnySeverity, ...] | None, Meta(description="Either spelling.")] = None
    pattern_id: Annotated[Identifier | None, Meta(description="`none`: in no pattern.")] = None
    source: tuple[Line, ...] | None = None
    service: Line | None = None
    environment: Line | None = None
    team: Line | None = None
    assignee: Line | None = None
    q: Annotated[Search | None, Meta(description="Words that title or body must hold, in any case.")] = None
    risk_min: Annotated[int, Meta(ge=0, le=100)] | None = None
    risk_max: Annotated[int, Meta(ge=0, le=100)] | None = None
    date_from: Annotated[Moment | None, Meta(description="Happened at its source at or after.")] = None
    date_to: Annotated[Moment | None, Meta(description="Happened at its source before.")] = None
    sort: Sort = "-created_at"
    severity_format: SeverityFormat = "code"


SourceName = Annotated[Line, Meta(description="Connector type; an unknown one becomes custom_api.")]


class Failure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a report may say of a failure; what is left out of a known one stays as it is."""

    body: Body | None = None
    severity: Annotated[SeverityInput | None, Meta(description="A new issue without one gets p3.")] = None
    status: Annotated[AnyIssueStatus | None, Meta(description="A new issue without one gets new.")] = None
    service: Line | None = None
    component: Line | None = None
    error_type: Line | None = None
    environment: Line | None = None
    version: Line | None = None
    team: Line | None = None
    assignee: Line | None = None
    external_url: Url | None = None
    connector_id: Line | None = None
    source_created_at: Moment | None = None
    source_updated_at: Moment | None = None
    metadata: Metadata | None = None


class NewIssue(Failure, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An issue to report by hand."""

    title: VisibleLine
    source: SourceName | None = None
    external_id: Annotated[
        VisibleLine | None,
        Meta(description="The source's own id; known already: that issue is updated and the answer is 200."),
    ] = None


class IssueChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields to change; null empties a field that may be empty; absent ones stay."""

    title: VisibleLine | msgspec.UnsetType = msgspec.UNSET
    body: Body | msgspec.UnsetType = msgspec.UNSET
    severity: SeverityInput | msgspec.UnsetType = msgspec.UNSET
    status: AnyIssueStatus | msgspec.UnsetType = msgspec.UNSET
    service: Line | msgspec.UnsetType | None = msgspec.UNSET
    component: Line | msgspec.UnsetType | None = msgspec.UNSET
    error_type: Line | msgspec.UnsetType | None = msgspec.UNSET
    environment: Line | msgspec.UnsetType | None = msgspec.UNSET
    version: Line | msgspec.UnsetType | None = msgspec.UNSET
    team: Line | msgspec.UnsetType | None = msgspec.UNSET
    assignee: Line | msgspec.UnsetType | None = msgspec.UNSET
    external_url: Url | msgspec.UnsetType | None = msgspec.UNSET
    metadata: Metadata | msgspec.UnsetType = msgspec.UNSET


class Closing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How work on an issue ended."""

    status: Literal["resolved", "closed", "wont_fix"] = "closed"
    reason: Note = ""


class PatternLink(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pattern that an issue belongs to."""

    pattern_id: Identifier


LISTING = Listing(
    name="issues",
    view="issue_rows",
    row=IssueRow,
    key="issue_id",
    sorts={
        "created_at": SortKey("created_at", "timestamptz"),
        "ingested_at": SortKey("created_at", "timestamptz"),
        "updated_at": SortKey("updated_at", "timestamptz"),
        "source_created_at": SortKey("source_created_at", "timestamptz"),
        "risk_score": SortKey("risk_score", "integer"),
        # p1 is the most severe, so that -severity, like -risk_score, starts with the worst.
        "severity": SortKey("severity", "text", is_inverted=True),
        "status": SortKey("status", "text"),
    },
    default_sort="-created_at",
    filters=(
        Filter("status", "status = ANY({value}::text[])", statuses_of),
        Filter("severity", "severity = ANY({value}::text[])", severity_codes),
        Filter("pattern_id", "pattern_id = {value}", lambda given: None if given == NONE else given),
        Filter(
            "pattern_id",
            "(pattern_id IS NULL) = {value}::boolean",
            lambda given: "true" if given == NONE else None,
        ),
        Filter("source", "source = ANY({value}::text[])", list),
        Filter("service", "service = {value}"),
        Filter("environment", "environment = {value}"),
        Filter("team", "team = {value}"),
        Filter("assignee", "assignee = {value}"),
        # Half the price of the database's collation, and the same for words of ASCII letters.
        Filter(
            "q",
            "(title || ' ' || body) COLLATE \"C\" ILIKE ALL({value}::text[])",
            lambda given: [term for term in search_terms(given) if term.isascii()] or None,
        ),
        Filter(
            "q",
            "(title || ' ' || body) ILIKE ALL({value}::text[])",
            lambda given: [term for term in search_terms(given) if not term.isascii()] or None,
        ),
        Filter("risk_min", "risk_score >= {value}"),
        Filter("risk_max", "risk_score <= {value}"),
        Filter("date_from", "source_created_at >= {value}"),
        Filter("date_to", "source_created_at < {value}"),
    ),
)


def summary(row: IssueRow, *, style: SeverityFormat) -> IssueSummary:
    """A row as lists show it."""
    return msgspec.convert(_fields(row, style=style), IssueSummary)


def detail(row: IssueRow, *, style: SeverityFormat) -> Issue:
    """A row with everything."""
    fields = _fields(row, style=style)
    metadata = msgspec.json.decode(row.metadata, type=dict[str, object])
    fields |= {
        "body": row.body,
        "description": row.body,
        "metadata": metadata,
        "reason": row.reason,
        "analysis": None if row.analysis is None else msgspec.json.decode(row.analysis),
        "membership": _membership(row),
    }
    return msgspec.convert(fields, Issue)


def _membership(row: IssueRow) -> Membership | None:
    if row.pattern_id is None:
        return None
    columns = {name: getattr(row, name) for name in _REASONS}
    return msgspec.convert({"pattern_id": row.pattern_id, **reasons(**columns)}, Membership)


def _fields(row: IssueRow, *, style: SeverityFormat) -> dict[str, object]:
    fields = msgspec.structs.asdict(row)
    code, label = row.severity, LABELS[row.severity]
    fields |= {
        "id": row.issue_id,
        "severity": label if style == "label" else code,
        "severity_label": code if style == "label" else label,
        "status_group": GROUPS[row.status],
        "ingested_at": row.created_at,
    }
    return fields


async def list_issues(gateway: Gateway, call: Call[IssueQuery, None]) -> IssuePage:
    """A page of issues."""
    found = await list_page(gateway, call, LISTING)
    data = shown(found, lambda row: summary(row, style=call.query.severity_format))
    return IssuePage(data=data, page=page_info(found))


async def get_issue(gateway: Gateway, call: Call[FormatQuery, None]) -> Issue:
    """One issue."""
    row = await read_one(gateway, call.workspace_id, LISTING, call.path["issue_id"])
    return detail(row, style=call.query.severity_format)


async def report_one(
    gateway: Gateway, principal: Principal, report: ingest.IssueReport
) -> tuple[ingest.ReportResult, int]:
    """Report one failure; what became of it and the sequence to reach. Raises ValidationFailedError."""
    reply = await command(
        gateway,
        principal,
        ingest.ReportIssues(records=(report,)),
        reply=ingest.IssuesReported,
    )
    result = reply.results[0]
    if result.outcome is ingest.ReportOutcome.REJECTED or result.issue_id is None:
        reason = result.reason or "rejected"
        field, _, fault = reason.partition(" ")
        raise ValidationFailedError(reason, details={field.rstrip(":"): fault or reason})
    return result, reply.sequence


async def create_issue(gateway: Gateway, call: Call[FormatQuery, NewIssue]) -> Answer:
    """Report an issue and answer with it."""
    await gateway.quota.take(call.workspace_id, 1)
    report = msgspec.convert(msgspec.structs.asdict(call.body), ingest.IssueReport)
    result, sequence = await report_one(gateway, call.principal, report)
    await settle(gateway, call.workspace_id, sequence, location=f"/v1/issues/{result.issue_id}")
    row = await read_one(gateway, call.workspace_id, LISTING, str(result.issue_id))
    status = 201 if result.outcome is ingest.ReportOutcome.CREATED else 200
    return Answer(status, detail(row, style=call.query.severity_format))


async def update_issue(gateway: Gateway, call: Call[FormatQuery, IssueChange]) -> Issue:
    """Change an issue's fields."""
    given = {
        name: value
        for name in IssueChange.__struct_fields__
        if (value := getattr(call.body, name)) is not msgspec.UNSET
    }
    cleared = tuple(name for name, value in given.items() if value is None)
    change = {name: value for name, value in given.items() if value is not None}
    change |= {"issue_id": call.path["issue_id"], "cleared": cleared}
    request = msgspec.convert(change, ingest.UpdateIssue)
    return await _changed(gateway, call, request, reply=ingest.IssueChanged)


async def close_issue(gateway: Gateway, call: Call[FormatQuery, Closing]) -> Issue:
    """End work on an issue."""
    status = ingest.IssueStatus(call.body.status)
    request = ingest.CloseIssue(issue_id=call.path["issue_id"], status=status, reason=call.body.reason)
    return await _changed(gateway, call, request, reply=ingest.IssueChanged)


async def _changed(
    gateway: Gateway, call: Call[FormatQuery, object], request: Struct, *, reply: type[Reply]
) -> Issue:
    row, _ = await carry_out(gateway, call, LISTING, request, reply=reply)
    return detail(row, style=call.query.severity_format)


async def link_pattern(gateway: Gateway, call: Call[FormatQuery, PatternLink]) -> Issue:
    """Put an issue into a pattern by hand."""
    request = pattern.LinkIssue(pattern_id=call.body.pattern_id, issue_id=call.path["issue_id"])
    return await _changed(gateway, call, request, reply=pattern.PatternChanged)


async def unlink_pattern(gateway: Gateway, call: Call[FormatQuery, None]) -> Issue:
    """Take an issue out of its pattern by hand."""
    request = pattern.UnlinkIssue(issue_id=call.path["issue_id"])
    return await _changed(gateway, call, request, reply=pattern.PatternChanged)


_ALL, _ONE = "/v1/issues", "/v1/issues/{issue_id}"
_Read = partial(Operation, tag="Issues", method="GET", scope="issues:read")
_Change = partial(
    Operation,
    tag="Issues",
    method="POST",
    scope="issues:write",
    query=FormatQuery,
    replies={200: Issue, 202: Accepted},
    refusals=(409, 422),
)

OPERATIONS: tuple[AnyOperation, ...] = (
    _Read(
        id="listIssues",
        path=_ALL,
        summary="List issues, newest first.",
        query=IssueQuery,
        replies={200: IssuePage},
        handle=list_issues,
    ),
    _Change(
        id="createIssue",
        path=_ALL,
        summary="Report an issue.",
        description="Answers when a GET finds it. 200 instead of 201: `source` and `external_id` name an issue"
        " that is known already, and what is new in the report has changed it.",
        body=NewIssue,
        replies={201: Issue, 200: Issue, 202: Accepted},
        handle=create_issue,
    ),
    _Read(
        id="getIssue",
        path=_ONE,
        summary="Look at an issue.",
        query=FormatQuery,
        replies={200: Issue},
        handle=get_issue,
    ),
    _Change(
        id="updateIssue",
        method="PATCH",
        path=_ONE,
        summary="Change fields of an issue.",
        body=IssueChange,
        deed=Deed("issue.updated", "update", "issue", "issue_id"),
        handle=update_issue,
    ),
    _Change(
        id="closeIssue",
        path=f"{_ONE}/close",
        summary="End work on an issue.",
        body=Closing,
        deed=Deed("issue.closed", "update", "issue", "issue_id"),
        handle=close_issue,
    ),
    _Change(
        id="linkIssuePattern",
        path=f"{_ONE}/link-pattern",
        summary="Put an issue into a pattern by hand; later grouping obeys.",
        scope="patterns:write",
        body=PatternLink,
        deed=Deed("issue.linked", "update", "issue", "issue_id"),
        handle=link_pattern,
    ),
    _Change(
        id="unlinkIssuePattern",
        path=f"{_ONE}/unlink-pattern",
        summary="Take an issue out of its pattern by hand; later grouping obeys.",
        scope="patterns:write",
        deed=Deed("issue.unlinked", "update", "issue", "issue_id"),
        handle=unlink_pattern,
    ),
)
