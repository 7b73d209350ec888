"""Events and commands of ingest.

Generated from proto/causeloop/ingest/v1 by `causeloop-codegen contracts`; do not edit.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from contracts.types import Timestamp


class Severity(StrEnum):
    """How bad a failure is; p1 is the worst.

    p1: Critical.
    p2: High.
    p3: Medium; the default where a source says nothing.
    p4: Low.
    """

    P1 = "p1"
    P2 = "p2"
    P3 = "p3"
    P4 = "p4"


class IssueStatus(StrEnum):
    """Where an issue stands.

    new: Reported, nobody has looked yet.
    analyzing: An analysis is running.
    analyzed: An analysis has ended.
    in_loop: Part of a loop that is being worked on.
    pattern_found: Linked to a pattern.
    mitigating: Somebody is mitigating it.
    resolved: The failure is over.
    closed: Closed without further work.
    wont_fix: Will not be fixed.
    """

    NEW = "new"
    ANALYZING = "analyzing"
    ANALYZED = "analyzed"
    IN_LOOP = "in_loop"
    PATTERN_FOUND = "pattern_found"
    MITIGATING = "mitigating"
    RESOLVED = "resolved"
    CLOSED = "closed"
    WONT_FIX = "wont_fix"


class AnalysisTier(StrEnum):
    """How thorough an analysis is, and how long it may take.

    fast: Seconds: the evidence alone.
    balanced: With some of the issue's text; the default.
    deep: With more of the issue's text and of what is like it.
    """

    FAST = "fast"
    BALANCED = "balanced"
    DEEP = "deep"


class ReportOutcome(StrEnum):
    """What became of one record.

    created: A new issue.
    updated: A known issue changed.
    unchanged: A known issue, nothing new in it.
    rejected: Not taken; the reason says why.
    """

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"


class IssueReported(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A failure was reported for the first time.

    Emitted by ingest on issue/<issue_id>, expecting an empty subject: the id derives from
    (workspace, source, external_id), so the same failure can be reported only once.
    The envelope's time is when the failure happened at its source.

    issue_id: Id of the issue, prefix "iss_".
    source: Connector type that the failure came from, or "custom_api".
    external_id: The source's own id, 1 to 300 characters; unique within workspace and source.
    title: One line, 1 to 300 characters.
    body: Text or Markdown; may be empty; at most 65,536 characters.
    severity: Normalised severity.
    status: Normalised status.
    service: Service or product that failed.
    component: Part of the service that failed.
    error_type: Class of the error, such as an exception's name.
    environment: Deployment environment, such as "production".
    version: Version or release in which it failed.
    team: Team that owns the failure.
    assignee: Id or name of the person on it, as the source spells it.
    external_url: Where a person can read the original.
    connector_id: Id of the connector that delivered it, prefix "con_".
    source_updated_at: When the source last changed it.
    metadata: Free keys and values, kept as they came.
    """

    issue_id: str
    source: str
    external_id: str
    title: str
    body: str
    severity: Severity
    status: IssueStatus
    service: str | None = None
    component: str | None = None
    error_type: str | None = None
    environment: str | None = None
    version: str | None = None
    team: str | None = None
    assignee: str | None = None
    external_url: str | None = None
    connector_id: str | None = None
    source_updated_at: Timestamp | None = None
    metadata: dict[str, object]


class IssueUpdated(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An issue changed; only the fields that changed are present.

    Emitted by ingest on issue/<issue_id>. The envelope's time is when it changed at its source.

    issue_id: Id of the issue.
    title: New title.
    body: New body.
    severity: New severity.
    status: New status.
    service: New service.
    component: New component.
    error_type: New error type.
    environment: New environment.
    version: New version.
    team: New team.
    assignee: New assignee.
    external_url: New address of the original.
    source_updated_at: New time of the source's last change.
    metadata: The whole new metadata.
    cleared: Names of the optional fields that now have no value.
    """

    issue_id: str
    title: str | None = None
    body: str | None = None
    severity: Severity | None = None
    status: IssueStatus | None = None
    service: str | None = None
    component: str | None = None
    error_type: str | None = None
    environment: str | None = None
    version: str | None = None
    team: str | None = None
    assignee: str | None = None
    external_url: str | None = None
    source_updated_at: Timestamp | None = None
    metadata: dict[str, object] | None = None
    cleared: tuple[str, ...] = ()


class IssueClosed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Work on an issue ended.

    Emitted by ingest on issue/<issue_id>.

    issue_id: Id of the issue.
    status: The final status: resolved, closed or wont_fix.
    reason: Why, in a person's words; may be empty.
    """

    issue_id: str
    status: IssueStatus
    reason: str


class IssueCommented(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person said something about an issue; it changes nothing of the issue itself.

    Emitted by ingest on issue/<issue_id>. A text may hold personal data: it goes with the issue's subject.

    issue_id: Id of the issue.
    comment_id: Id of the comment, prefix "cmt_".
    author_id: Who wrote it: a person's or a service account's id.
    text: Text or Markdown, 1 to 10,000 characters.
    """

    issue_id: str
    comment_id: str
    author_id: str
    text: str


class AnalysisStarted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody asked why an issue happened; until the answer is recorded it is being analysed.

    Emitted by ingest on issue/<issue_id>. Its status is shown as analyzing until then.

    issue_id: Id of the issue.
    analysis_id: Id of the analysis, prefix "ana_".
    tier: How thorough.
    """

    issue_id: str
    analysis_id: str
    tier: AnalysisTier


class AnalysisEvidence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A sentence that an analysis rests on.

    id: By which claims cite it: "e1", "e2" and so on.
    kind: What it is about, such as "terms" or "co_occurrence".
    text: The sentence.
    issue_ids: Issues that it comes from, the latest first.
    """

    id: str
    kind: str
    text: str
    issue_ids: tuple[str, ...] = ()


class AnalysisClaim(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an analysis says, and why it may.

    text: A sentence or two.
    evidence_ids: Ids of the evidence behind it.
    """

    text: str
    evidence_ids: tuple[str, ...] = ()


class Analysis(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to why an issue happened.

    root_cause: What caused it.
    contributing_factors: What helped, at most 6.
    why_recurring: Why it comes back.
    confidence: How much stands behind it, in [0, 1]; no probability that it is right.
    model: "evidence", or the name of the model that answered.
    model_version: Dated version of the method or of the prompt.
    evidence: Everything that could be cited.
    fallback_reason: Why no model answered although one was to be asked.
    """

    root_cause: AnalysisClaim
    contributing_factors: tuple[AnalysisClaim, ...] = ()
    why_recurring: AnalysisClaim
    confidence: float
    model: str
    model_version: str
    evidence: tuple[AnalysisEvidence, ...] = ()
    fallback_reason: str | None = None


class AnalysisRecorded(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An analysis ended with an answer.

    Emitted by ingest on issue/<issue_id>. Replays read it; nothing is ever asked again.

    issue_id: Id of the issue.
    analysis_id: Id of the analysis.
    tier: How thorough it was.
    status: The issue's own status from now on: analyzed where it was new.
    analysis: The answer.
    """

    issue_id: str
    analysis_id: str
    tier: AnalysisTier
    status: IssueStatus
    analysis: Analysis


class ModelMessage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of a prompt.

    role: "system" or "user".
    text: Its text, redacted.
    """

    role: str
    text: str


class ModelAttempt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One try at asking a model.

    asked_at: When it was asked.
    duration_ms: How long it took, in milliseconds.
    answer: What it answered, cut at 16,384 characters; absent where nothing came.
    outcome: "taken", "abstained", or why it was not taken.
    """

    asked_at: Timestamp
    duration_ms: int
    answer: str | None = None
    outcome: str


class ModelExchange(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was sent to a model, and what came back.

    model: Name of the model.
    host: Host that was asked.
    prompt_version: Dated version of the prompt.
    messages: What was sent.
    attempts: The tries, in their order.
    """

    model: str
    host: str
    prompt_version: str
    messages: tuple[ModelMessage, ...] = ()
    attempts: tuple[ModelAttempt, ...] = ()


class ModelAsked(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model was asked for an analysis.

    Emitted by ingest on prompt/<analysis_id>, beside AnalysisRecorded; kept as long as prompt logs are.

    analysis_id: Id of the analysis.
    issue_id: Id of the issue.
    exchange: What was sent, and what came back.
    """

    analysis_id: str
    issue_id: str
    exchange: ModelExchange


class IssueExpired(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An issue has reached the age at which its workspace keeps issues no longer: from now on it is shown to nobody.

    Emitted by ingest on issue/<issue_id>.

    issue_id: Id of the issue.
    """

    issue_id: str


class IssueRestored(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An expired issue was reported once more and is shown again, its age counted from now.

    Emitted by ingest on issue/<issue_id>. The envelope's time is when the failure happened at its source. It has all of
    the issue, so that nothing before it is needed.

    issue_id: Id of the issue.
    issue: The issue with what the report changed.
    """

    issue_id: str
    issue: IssueReported


class PromptsExpired(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Prompt logs have reached their age: what models were asked for these analyses is shown to nobody from now on, and waits to be deleted. Emitted by ingest on retention/<workspace_id>.

    workspace_id: The workspace.
    analysis_ids: Ids of the analyses, at most 100.
    """

    workspace_id: str
    analysis_ids: tuple[str, ...] = ()


class PurgedIssue(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of an issue that was purged: what patterns are counted by, nothing that anybody wrote.

    issue_id: Id that the issue had; a report of the same failure begins a new issue under it.
    last_sequence: Sequence of its last purged event: all events about the issue up to there are deleted.
    source: Connector type that it came from.
    severity: Severity when it was first reported.
    occurred_at: When the failure happened at its source.
    reported_at: When it was first reported.
    service: Service that failed.
    component: Part of the service.
    error_type: Class of the error.
    environment: Deployment environment.
    version: Version or release.
    team: Team that owned it.
    status: Where it stood.
    ended_at: When it was resolved or closed, if it was over.
    analysis_ids: Ids of its analyses; what models were asked for them is deleted too.
    """

    issue_id: str
    last_sequence: int
    source: str
    severity: Severity
    occurred_at: Timestamp
    reported_at: Timestamp
    service: str | None = None
    component: str | None = None
    error_type: str | None = None
    environment: str | None = None
    version: str | None = None
    team: str | None = None
    status: IssueStatus
    ended_at: Timestamp | None = None
    analysis_ids: tuple[str, ...] = ()


class IssuesPurged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Expired issues are deleted for good, with what was said about them: their events behind this one, rows with it.

    Emitted by ingest on retention/<workspace_id>.

    workspace_id: The workspace.
    issues: What stays of each, at most 500.
    counted_from: Start of a UTC day, behind the last change of each: what is counted by the day before it is no longer counted.
    """

    workspace_id: str
    issues: tuple[PurgedIssue, ...] = ()
    counted_from: Timestamp


class IssueReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One failure as a client describes it; ingest normalises it.

    external_id: The source's own id; a single report without one gets a new one, prefix "ext_".
    source: Connector type; an unknown one becomes "custom_api", which is also the default.
    title: 1 to 300 characters after falling back to external_id.
    body: Text or Markdown.
    severity: p1 to p4 or critical, high, medium, low, in any case; default p3.
    status: Any status or status group of the contract; default new.
    service: Service or product that failed; falls back to metadata.service.
    component: Part of the service; falls back to metadata.component.
    error_type: Class of the error; falls back to metadata.error_type.
    environment: Deployment environment; falls back to metadata.environment.
    version: Version or release; falls back to metadata.version.
    team: Team that owns it.
    assignee: Person on it.
    external_url: Where a person can read the original.
    connector_id: Id of the connector that delivered it.
    source_created_at: When it happened at its source; default: now.
    source_updated_at: When the source last changed it.
    metadata: Free keys and values, at most 64 KiB as JSON.
    """

    external_id: str | None = None
    source: str | None = None
    title: str | None = None
    body: str | None = None
    severity: str | None = None
    status: str | None = None
    service: str | None = None
    component: str | None = None
    error_type: str | None = None
    environment: str | None = None
    version: str | None = None
    team: str | None = None
    assignee: str | None = None
    external_url: str | None = None
    connector_id: str | None = None
    source_created_at: Timestamp | None = None
    source_updated_at: Timestamp | None = None
    metadata: dict[str, object] | None = None


class ReportIssues(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Report 1 to 500 failures. Endpoint: ingest.report_issues.

    The bytes of a batch request over HTTP are this message, unparsed by the gateway.

    records: Each is judged by itself: one bad record never fails the rest.
    """

    records: tuple[IssueReport, ...] = ()


class ReportResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one record of ReportIssues.

    index: Position in records, from 0.
    outcome: What became of it.
    issue_id: The issue; absent when rejected.
    reason: Why it was rejected, naming the field.
    """

    index: int
    outcome: ReportOutcome
    issue_id: str | None = None
    reason: str | None = None


class IssuesReported(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to ReportIssues.

    results: One per record, in their order.
    sequence: Stream sequence at which every issue of the results can be read; 0 when all were rejected.
    """

    results: tuple[ReportResult, ...] = ()
    sequence: int


class UpdateIssue(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Change fields of an issue. Endpoint: ingest.update_issue.

    issue_id: Id of the issue.
    severity: New severity, any spelling.
    status: New status or status group, any spelling.
    title: New title.
    body: New body.
    team: New team.
    assignee: New assignee.
    service: New service.
    component: New component.
    error_type: New error type.
    environment: New environment.
    version: New version.
    external_url: New address of the original.
    metadata: The whole new metadata.
    cleared: Names of optional fields to empty.
    """

    issue_id: str
    severity: str | None = None
    status: str | None = None
    title: str | None = None
    body: str | None = None
    team: str | None = None
    assignee: str | None = None
    service: str | None = None
    component: str | None = None
    error_type: str | None = None
    environment: str | None = None
    version: str | None = None
    external_url: str | None = None
    metadata: dict[str, object] | None = None
    cleared: tuple[str, ...] = ()


class CloseIssue(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """End work on an issue. Endpoint: ingest.close_issue.

    issue_id: Id of the issue.
    status: The final status: resolved, closed or wont_fix.
    reason: Why; may be empty.
    """

    issue_id: str
    status: IssueStatus
    reason: str


class IssueChanged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to UpdateIssue and CloseIssue: the issue after the change.

    issue: The issue as it is now.
    occurred_at: When it happened.
    sequence: Stream sequence of the issue's last event.
    """

    issue: IssueReported
    occurred_at: Timestamp
    sequence: int


class CommentIssue(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Say something about an issue. Endpoint: ingest.comment_issue.

    The command's sender is the author.

    issue_id: Id of the issue.
    text: Text or Markdown, 1 to 10,000 characters.
    """

    issue_id: str
    text: str


class IssueCommentAdded(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to CommentIssue.

    comment: The comment as it was stored.
    commented_at: When it was written.
    sequence: Stream sequence of the comment.
    """

    comment: IssueCommented
    commented_at: Timestamp
    sequence: int


class StartAnalysis(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Ask why an issue happened. Endpoint: ingest.start_analysis.

    One that runs already is answered with, whatever its tier.

    issue_id: Id of the issue.
    tier: How thorough.
    """

    issue_id: str
    tier: AnalysisTier


class AnalysisAccepted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to StartAnalysis.

    analysis_id: Id of the analysis that runs.
    sequence: Stream sequence of its start.
    """

    analysis_id: str
    sequence: int


class RecordAnalysis(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Write down the answer to a running analysis. Endpoint: ingest.record_analysis.

    One that does not run any more changes nothing.

    issue_id: Id of the issue.
    analysis_id: Id of the analysis.
    analysis: The answer.
    exchange: What a model was asked for it; absent where none was.
    """

    issue_id: str
    analysis_id: str
    analysis: Analysis
    exchange: ModelExchange | None = None


class ExpireIssues(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Show issues no longer that have not changed for long. Endpoint: ingest.expire_issues.

    issue_ids: Ids of issues, 1 to 500; one that has changed since, is expired or unknown is left alone.
    unchanged_since: Only those that nobody has reported, changed or commented on since then.
    """

    issue_ids: tuple[str, ...] = ()
    unchanged_since: Timestamp


class PurgeIssues(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Delete expired issues for good. Endpoint: ingest.purge_issues.

    issue_ids: Ids of issues, 0 to 500; one that is not expired, or since later than that, is left alone.
    expired_before: Only those that expired before then.
    """

    issue_ids: tuple[str, ...] = ()
    expired_before: Timestamp


class ExpirePrompts(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Show what models were asked no longer, where that is long ago. Endpoint: ingest.expire_prompts.

    analysis_ids: Ids of analyses, 1 to 100; one for which no model was asked, or later than that, is left alone.
    asked_before: Only what was asked before then.
    """

    analysis_ids: tuple[str, ...] = ()
    asked_before: Timestamp


class PromptsRetired(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to ExpirePrompts.

    n_prompts: Of how many analyses.
    sequence: Stream sequence behind which rows show it; 0 when there were none.
    """

    n_prompts: int
    sequence: int


class IssuesRetired(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to ExpireIssues and PurgeIssues.

    n_issues: How many were expired or purged.
    sequence: Stream sequence behind which rows show it; 0 when there were none.
    """

    n_issues: int
    sequence: int


Event: TypeAlias = (
    IssueReported
    | IssueUpdated
    | IssueClosed
    | IssueCommented
    | AnalysisStarted
    | AnalysisRecorded
    | ModelAsked
    | IssueExpired
    | IssueRestored
    | PromptsExpired
    | IssuesPurged
)
"""Any event of ingest."""

AGGREGATES: dict[type[Event], str] = {
    IssueReported: "issue",
    IssueUpdated: "issue",
    IssueClosed: "issue",
    IssueCommented: "issue",
    AnalysisStarted: "issue",
    AnalysisRecorded: "issue",
    ModelAsked: "prompt",
    IssueExpired: "issue",
    IssueRestored: "issue",
    PromptsExpired: "retention",
    IssuesPurged: "retention",
}
"""The type of the aggregate that each event is about."""

ENDPOINTS: dict[type[Struct], str] = {
    ReportIssues: "ingest.report_issues",
    UpdateIssue: "ingest.update_issue",
    CloseIssue: "ingest.close_issue",
    CommentIssue: "ingest.comment_issue",
    StartAnalysis: "ingest.start_analysis",
    RecordAnalysis: "ingest.record_analysis",
    ExpireIssues: "ingest.expire_issues",
    PurgeIssues: "ingest.purge_issues",
    ExpirePrompts: "ingest.expire_prompts",
}
"""The endpoint that answers each request."""
