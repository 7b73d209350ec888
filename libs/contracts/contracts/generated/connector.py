"""Events and commands of connector.

Generated from proto/causeloop/connector/v1 by `causeloop-codegen contracts`; do not edit.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct, field

from contracts.types import Timestamp


class ConnectorStatus(StrEnum):
    """Where a connector stands.

    pending: Made, but nobody has given credentials that work yet.
    connected: Credentials were accepted; it is polled, or takes webhooks.
    paused: A person has stopped it.
    error: The vendor refuses it, or has not answered for several runs.
    oauth_expired: The grant of an OAuth connection is gone: a person has to agree again.
    """

    PENDING = "pending"
    CONNECTED = "connected"
    PAUSED = "paused"
    ERROR = "error"
    OAUTH_EXPIRED = "oauth_expired"


class SyncKind(StrEnum):
    """Why a run runs.

    scheduled: It was due.
    manual: Somebody asked for what is new.
    backfill: Somebody asked for a stretch of history.
    remap: The raw records that are kept are mapped again.
    """

    SCHEDULED = "scheduled"
    MANUAL = "manual"
    BACKFILL = "backfill"
    REMAP = "remap"


class SyncOutcome(StrEnum):
    """How a run ended.

    succeeded: Everything that was asked for was read.
    failed: It was given up; what was read before stays.
    cancelled: Somebody ended it.
    """

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TicketState(StrEnum):
    """Where a ticket stands with its tracker, in our words.

    open: Work is to be done or goes on.
    done: The tracker says that it is done.
    dropped: The tracker says that it will not be done.
    """

    OPEN = "open"
    DONE = "done"
    DROPPED = "dropped"


class ConnectorSchedule(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a connector is polled: every interval_seconds, or by cron; one of the two.

    interval_seconds: Seconds from the start of one run to the next, 60 to 604,800.
    cron: Five fields: minute, hour, day of month, month, day of week.
    timezone: IANA time zone that cron is meant in, such as "Europe/Zurich".
    """

    interval_seconds: int | None = None
    cron: str | None = None
    timezone: str


class ConnectorSettings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that a person decides about a connector and that is no secret.

    type: Type of source, such as "pagerduty"; a custom one begins with "custom_".
    display_name: What people call it, 1 to 100 characters.
    config: Fields of the type's manifest, by key.
    auth: Position of the way to sign in among those of the manifest, from 0.
    schedule: When it is polled; absent: only when somebody asks.
    streams: Names of the manifest's streams that are polled; none: all of them.
    mapping: Fields of the mapping that this connector has for itself, by name: JMESPath over a record.
    manifest: A manifest of the workspace's own, for a custom type.
    """

    type: str
    display_name: str
    config: dict[str, str] = field(default_factory=dict)
    auth: int
    schedule: ConnectorSchedule | None = None
    streams: tuple[str, ...] = ()
    mapping: dict[str, str] = field(default_factory=dict)
    manifest: dict[str, object] | None = None


class ConnectorCreated(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A connector was made.

    Emitted by ingest on connector/<connector_id>.

    connector_id: Id of the connector, prefix "con_".
    settings: What was decided about it.
    status: Where it stands at once.
    created_by: Id of the user or service account that made it; absent: the system.
    """

    connector_id: str
    settings: ConnectorSettings
    status: ConnectorStatus
    created_by: str | None = None


class ConnectorConfigured(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something else was decided about a connector.

    Emitted by ingest on connector/<connector_id>.

    connector_id: Id of the connector.
    settings: All of what is decided now.
    """

    connector_id: str
    settings: ConnectorSettings


class ConnectorCredentialsChanged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A connector has other credentials, a grant or a webhook secret: which, never what.

    Emitted by ingest on connector/<connector_id>.

    connector_id: Id of the connector.
    secrets: Names of the secrets that are there now, such as "api_key", "oauth_token" or "webhook_secret".
    """

    connector_id: str
    secrets: tuple[str, ...] = ()


class ConnectorStatusChanged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A connector stands somewhere else.

    Emitted by ingest on connector/<connector_id>.

    connector_id: Id of the connector.
    status: Where it stands now.
    reason: Stable code of why, such as "credentials_rejected"; empty where a person decided it or all is well.
    detail: The same for people, with the vendor's words, at most 500 characters; no secret.
    """

    connector_id: str
    status: ConnectorStatus
    reason: str
    detail: str


class ConnectorDeleted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A connector is gone; its secrets, raw records and dead letters are deleted, the issues that it brought stay.

    Emitted by ingest on connector/<connector_id>.

    connector_id: Id of the connector.
    """

    connector_id: str


class SyncCounts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of the records of a run.

    n_records: Records that the vendor served, and that were handled.
    n_created: Of these, new issues.
    n_updated: Known issues that changed.
    n_unchanged: Known issues, nothing new in them.
    n_ignored: Records that are no failure.
    n_rejected: Records that could not become an issue: they are dead letters now.
    """

    n_records: int
    n_created: int
    n_updated: int
    n_unchanged: int
    n_ignored: int
    n_rejected: int


class SyncRequested(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run was asked for and waits for a worker.

    Emitted by ingest on sync_run/<run_id>, expecting an empty subject.

    run_id: Id of the run, prefix "syn_".
    connector_id: Id of the connector.
    kind: Why it runs.
    window_start: Start of the stretch of a backfill.
    window_end: Its end.
    requested_by: Id of who asked; absent: the schedule.
    """

    run_id: str
    connector_id: str
    kind: SyncKind
    window_start: Timestamp | None = None
    window_end: Timestamp | None = None
    requested_by: str | None = None


class SyncProgressed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run goes on, said at its start and after every chunk of a backfill.

    Emitted by ingest on sync_run/<run_id>.

    run_id: Id of the run.
    connector_id: Id of the connector.
    n_chunks_done: Chunks that are done: stretches of a stream's window.
    n_chunks: Chunks there are.
    counts: What became of the records so far.
    """

    run_id: str
    connector_id: str
    n_chunks_done: int
    n_chunks: int
    counts: SyncCounts


class SyncEnded(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run is over.

    Emitted by ingest on sync_run/<run_id>.

    run_id: Id of the run.
    connector_id: Id of the connector.
    outcome: How.
    counts: What became of the records.
    reason: Stable code of why it failed, such as "rate_limited"; empty otherwise.
    detail: The same for people, with the vendor's words, at most 500 characters; no secret.
    """

    run_id: str
    connector_id: str
    outcome: SyncOutcome
    counts: SyncCounts
    reason: str
    detail: str


class SyncRunsPurged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Runs that were over for long are gone, with all that was told of them; where their connectors stand rests on later ones.

    Emitted by ingest on sync_run/<workspace_id>.

    workspace_id: Id of the workspace.
    run_ids: Ids of the runs, 1 to 500.
    """

    workspace_id: str
    run_ids: tuple[str, ...] = ()


class TicketCreated(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A recommendation has a ticket in a tracker.

    Emitted by ingest on ticket/<ticket_id>, expecting an empty subject: the id derives from recommendation and connector.

    ticket_id: Id of the ticket with us, prefix "tkt_".
    recommendation_id: Id of the recommendation.
    connector_id: Id of the connector that it was pushed through.
    tracker: Type of the tracker, such as "jira".
    external_id: What the tracker calls it, such as "OPS-12".
    external_url: Where a person can read it; absent where the tracker has no such address.
    target: What the tracker needs to be asked about it, by name.
    is_found: Whether it was found by its marker, made by an earlier try.
    created_by: Id of who pushed it; absent: the system.
    """

    ticket_id: str
    recommendation_id: str
    connector_id: str
    tracker: str
    external_id: str
    external_url: str | None = None
    target: dict[str, str] = field(default_factory=dict)
    is_found: bool
    created_by: str | None = None


class TicketStateChanged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A ticket stands somewhere else with its tracker.

    Emitted by ingest on ticket/<ticket_id>.

    ticket_id: Id of the ticket.
    recommendation_id: Id of the recommendation.
    state: Where it stands now.
    external_status: The tracker's own word for it, at most 100 characters.
    """

    ticket_id: str
    recommendation_id: str
    state: TicketState
    external_status: str


class CreateConnector(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Make a connector. Endpoint: ingest.create_connector.

    settings: What is decided about it.
    sealed_credentials: Its secrets, a JSON object of texts sealed for the way to ingest; absent: given later.
    """

    settings: ConnectorSettings
    sealed_credentials: str | None = None


class ConfigureConnector(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Change what is decided about a connector, or its secrets. Endpoint: ingest.configure_connector.

    Whatever is absent stays; a map or list that is present replaces the whole one.

    connector_id: Id of the connector.
    display_name: What people call it, 1 to 100 characters.
    config: Fields of the manifest to set, by key; others stay.
    auth: Position of the way to sign in.
    schedule: When it is polled.
    without_schedule: Whether it is polled only when somebody asks.
    streams: Streams that are polled, in place of those before; all_streams says none.
    all_streams: Whether all streams are polled again.
    mapping: Fields of its own mapping, in place of those before; manifest_mapping says none.
    manifest_mapping: Whether the manifest's mapping counts again.
    sealed_credentials: Its secrets, a JSON object of texts sealed for the way to ingest: those named are replaced.
    is_paused: True pauses it, false resumes it.
    manifest: A custom type's manifest, in place of the one before.
    """

    connector_id: str
    display_name: str | None = None
    config: dict[str, str] = field(default_factory=dict)
    auth: int | None = None
    schedule: ConnectorSchedule | None = None
    without_schedule: bool | None = None
    streams: tuple[str, ...] = ()
    all_streams: bool | None = None
    mapping: dict[str, str] = field(default_factory=dict)
    manifest_mapping: bool | None = None
    sealed_credentials: str | None = None
    is_paused: bool | None = None
    manifest: dict[str, object] | None = None


class ConnectorChanged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to CreateConnector and ConfigureConnector.

    connector_id: Id of the connector.
    settings: What is decided about it now.
    status: Where it stands.
    secrets: Names of its secrets.
    sequence: Stream sequence behind which rows show it.
    """

    connector_id: str
    settings: ConnectorSettings
    status: ConnectorStatus
    secrets: tuple[str, ...] = ()
    sequence: int


class DeleteConnector(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Delete a connector and all that is kept of it but its issues. Endpoint: ingest.delete_connector.

    connector_id: Id of the connector.
    """

    connector_id: str


class ConnectorGone(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to DeleteConnector.

    sequence: Stream sequence behind which rows show it.
    """

    sequence: int


class TestConnector(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Try a connector's credentials with the vendor. Endpoint: ingest.test_connector.

    connector_id: Id of the connector.
    """

    connector_id: str


class ConnectionCheck(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was tried.

    name: What: "credentials", or the name of a stream.
    is_good: Whether it went well.
    detail: What the vendor said, at most 500 characters; no secret.
    """

    name: str
    is_good: bool
    detail: str


class ConnectorTested(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to TestConnector.

    is_good: Whether all went well.
    checks: What was tried, in its order.
    status: Where the connector stands now.
    sequence: Stream sequence behind which rows show it.
    """

    is_good: bool
    checks: tuple[ConnectionCheck, ...] = ()
    status: ConnectorStatus
    sequence: int


class StartAuthorization(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Begin to sign in with OAuth in a browser. Endpoint: ingest.start_authorization.

    connector_id: Id of the connector.
    redirect_uri: The one address at which we take the answer.
    """

    connector_id: str
    redirect_uri: str


class AuthorizationStarted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to StartAuthorization.

    authorize_url: Where the person has to go.
    state: Names this sign-in, prefix "oast_"; good once.
    expires_at: Until when.
    """

    authorize_url: str
    state: str
    expires_at: Timestamp


class FinishAuthorization(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """End a sign-in with the vendor's answer. Endpoint: ingest.finish_authorization.

    state: As the vendor gave it back.
    sealed_code: The vendor's code, sealed for the way to ingest; absent where it refused.
    error: The vendor's refusal, such as "access_denied".
    """

    state: str
    sealed_code: str | None = None
    error: str | None = None


class AuthorizationFinished(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to FinishAuthorization.

    connector_id: Id of the connector.
    status: Where it stands now.
    sequence: Stream sequence behind which rows show it.
    """

    connector_id: str
    status: ConnectorStatus
    sequence: int


class RotateWebhookSecret(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Give a connector a webhook secret, made by us or by the vendor; the one before is taken for another day.

    Endpoint: ingest.rotate_webhook_secret.

    connector_id: Id of the connector.
    sealed_secret: The vendor's, sealed for the way to ingest; absent: we make one.
    """

    connector_id: str
    sealed_secret: str | None = None


class WebhookSecretRotated(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to RotateWebhookSecret.

    sealed_secret: The secret, sealed for the way to the gateway; shown once.
    previous_until: Until when the one before is taken; absent where there was none.
    sequence: Stream sequence behind which rows show it.
    """

    sealed_secret: str
    previous_until: Timestamp | None = None
    sequence: int


class VendorCall(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call of a vendor.

    connector_id: Id of the connector, as the address says it.
    method: HTTP method.
    url: The whole address as the vendor wrote it.
    headers: Headers, names in lower case.
    query: Parameters of the query.
    body: The raw body in base64.
    """

    connector_id: str
    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    body: str


class VendorCalls(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Calls that came at about the same time.

    calls: In the order in which they came.
    """

    calls: tuple[VendorCall, ...] = ()


class ReceiveDelivery(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Vendors called. Endpoint: ingest.receive_delivery.

    The workspace of the request is "-": whose connectors they are is for ingest to look up.

    sealed_calls: A VendorCalls in JSON, sealed for the way to ingest: where a vendor signs nothing, the call itself holds a secret.
    """

    sealed_calls: str


class VendorAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a vendor is answered.

    status: HTTP status.
    content_type: Media type; empty: no body, or a problem of ours where the status is one.
    body: The body, such as the challenge of a handshake.
    headers: Headers, such as the echo of a handshake.
    """

    status: int
    content_type: str
    body: str
    headers: dict[str, str] = field(default_factory=dict)


class DeliveryAnswered(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to ReceiveDelivery. What is answered with 202 is durable.

    answers: One per call, in their order.
    """

    answers: tuple[VendorAnswer, ...] = ()


class StartSync(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Run a connector now. Endpoint: ingest.start_sync.

    connector_id: Id of the connector.
    kind: Manual, backfill or remap.
    window_start: Start of a backfill's stretch.
    window_end: Its end; absent: now.
    """

    connector_id: str
    kind: SyncKind
    window_start: Timestamp | None = None
    window_end: Timestamp | None = None


class CancelSync(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """End a run that waits or runs. Endpoint: ingest.cancel_sync.

    connector_id: Id of the connector.
    run_id: Id of the run.
    """

    connector_id: str
    run_id: str


class SyncAccepted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to StartSync and CancelSync.

    run_id: Id of the run; the one that waits already, where there is one of the kind.
    sequence: Stream sequence behind which rows show it.
    """

    run_id: str
    sequence: int


class DescribeSources(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Tell which types of sources there are. Endpoint: ingest.describe_sources.

    type: One type; absent: all.
    """

    type: str | None = None


class SourceField(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A field that is asked when a source is connected.

    key: Its name.
    title: What it is, for people.
    is_required: Whether it has to be given.
    default: What counts where it is not given.
    choices: What may be given; none: anything.
    """

    key: str
    title: str
    is_required: bool
    default: str | None = None
    choices: tuple[str, ...] = ()


class SourceAuth(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A way to sign in with a source.

    kind: Such as "api_key", "basic", "oauth2_code".
    title: What it is, for people.
    secrets: Its secrets.
    """

    kind: str
    title: str
    secrets: tuple[SourceField, ...] = ()


class SourceType(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A type of source.

    type: Slug, such as "pagerduty".
    name: What people call it.
    category: One of the five categories.
    docs_url: The vendor's documentation.
    is_verified: Whether real payloads or the vendor's specification have been run through it.
    evidence: Which; empty otherwise.
    unchecked: What nobody has held against the vendor.
    notes: For people.
    config: What is asked.
    auth: How one signs in, the usual way first.
    streams: Names of what is polled; none: it is only pushed.
    webhook_schemes: Schemes by which its webhooks are proved; none: it sends none.
    is_tracker: Whether tickets can be pushed to it.
    target: What a ticket needs, such as a project.
    """

    type: str
    name: str
    category: str
    docs_url: str
    is_verified: bool
    evidence: str
    unchecked: tuple[str, ...] = ()
    notes: str
    config: tuple[SourceField, ...] = ()
    auth: tuple[SourceAuth, ...] = ()
    streams: tuple[str, ...] = ()
    webhook_schemes: tuple[str, ...] = ()
    is_tracker: bool
    target: tuple[SourceField, ...] = ()


class SourcesDescribed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to DescribeSources.

    types: In the order of their types.
    """

    types: tuple[SourceType, ...] = ()


class PreviewMapping(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Try a mapping on a sample before it is saved. Endpoint: ingest.preview_mapping.

    type: Type of source; with manifest, the custom type's.
    manifest: A manifest in place of the type's.
    mapping: Fields of a mapping, over the manifest's.
    sample: Records as the source sends them, a JSON list or object of at most 1 MiB; empty: the records that a connector has.
    connector_id: Whose kept records are taken where there is no sample.
    is_delivery: Whether the sample is the body of one webhook delivery, taken for what it would bring.
    headers: Headers of that delivery, by name.
    """

    type: str
    manifest: dict[str, object] | None = None
    mapping: dict[str, str] = field(default_factory=dict)
    sample: str
    connector_id: str | None = None
    is_delivery: bool | None = None
    headers: dict[str, str] = field(default_factory=dict)


class MappedRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a record becomes.

    index: Position in the sample, from 0.
    issue: The issue, as ingest takes it; absent when rejected or ignored.
    is_ignored: Whether the manifest knows that it is no failure.
    path: Field that is wrong; empty: all of it.
    reason: Why it is rejected; empty: it is not.
    changed: Fields that differ from what the present mapping gives, by name; only of kept records.
    """

    index: int
    issue: dict[str, object] | None = None
    is_ignored: bool
    path: str
    reason: str
    changed: tuple[str, ...] = ()


class MappingPreviewed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to PreviewMapping.

    records: One per record, at most 100.
    n_records: Records there were.
    n_mapped: Of those, how many become an issue.
    n_changed: How many would change; only of kept records.
    """

    records: tuple[MappedRecord, ...] = ()
    n_records: int
    n_mapped: int
    n_changed: int


class ListDeadLetters(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """List records that could not become an issue, the newest first. Endpoint: ingest.list_dead_letters.

    connector_id: Id of the connector.
    limit: At most so many, 1 to 100.
    before: Only those before this one, an id of a letter.
    """

    connector_id: str
    limit: int
    before: str | None = None


class DeadLetter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record that could not become an issue.

    letter_id: Its id, prefix "ddl_".
    stream: Name of the stream, or "webhook".
    path: Field that is wrong; empty: all of it.
    reason: Why.
    record: The record as it came, at most 64 KiB of JSON.
    received_at: When it came.
    n_attempts: How often it was tried.
    """

    letter_id: str
    stream: str
    path: str
    reason: str
    record: str
    received_at: Timestamp
    n_attempts: int


class DeadLettersListed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to ListDeadLetters.

    letters: The newest first.
    has_more: Whether there are more.
    total: How many there are in all.
    """

    letters: tuple[DeadLetter, ...] = ()
    has_more: bool
    total: int


class ListReceived(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Tell when sources last posted to these connectors' addresses. Endpoint: ingest.list_received.

    connector_ids: Ids of connectors, at most 100.
    """

    connector_ids: tuple[str, ...] = ()


class Received(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a connector's source last posted something that was taken.

    connector_id: Id of the connector.
    last_received_at: When that was.
    """

    connector_id: str
    last_received_at: Timestamp


class ReceivedListed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to ListReceived.

    received: Those to which anything came within the last 7 days.
    """

    received: tuple[Received, ...] = ()


class RetryDeadLetters(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Try dead letters again with the present mapping. Endpoint: ingest.retry_dead_letters.

    connector_id: Id of the connector.
    letter_ids: Ids of letters, at most 100; none: the 500 oldest.
    """

    connector_id: str
    letter_ids: tuple[str, ...] = ()


class DeadLettersRetried(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to RetryDeadLetters.

    n_mapped: How many became an issue, or are known to be none; they are no letters any more.
    n_rejected: How many are still rejected.
    sequence: Stream sequence behind which rows show the issues; 0 when there were none.
    """

    n_mapped: int
    n_rejected: int
    sequence: int


class PurgeRecords(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Delete what a workspace's sources sent before a time: records that are kept, and dead letters.

    Endpoint: ingest.purge_records.

    received_before: Those go that came before.
    """

    received_before: Timestamp


class RecordsPurged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to PurgeRecords.

    n_records: How many went.
    """

    n_records: int


class PurgeRuns(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Delete runs that are over for long, with their events. Endpoint: ingest.purge_runs.

    run_ids: Ids of runs, 0 to 500; one that is open, or ended since then, is left alone, and so is what ingest's own rows
    rest on: of each connector the last poll, the last one that succeeded and the last three that failed in a row since.
    Whoever asks sees to it that the last 20 that ended stay.
    ended_before: Only those that ended before then.
    """

    run_ids: tuple[str, ...] = ()
    ended_before: Timestamp


class RunsPurged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to PurgeRuns.

    n_runs: How many were purged.
    sequence: Stream sequence behind which rows show it; 0 when there were none.
    """

    n_runs: int
    sequence: int


class PushTicket(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Make a ticket of a recommendation. Endpoint: ingest.push_ticket.

    One that is there already, by our log or by its marker in the tracker, is answered with.

    recommendation_id: Id of the recommendation.
    connector_id: Id of the connector.
    title: One line, at most 250 characters.
    markdown: The text in Markdown, at most 32,768 characters.
    target: What the tracker needs, such as a project, by key.
    """

    recommendation_id: str
    connector_id: str
    title: str
    markdown: str
    target: dict[str, str] = field(default_factory=dict)


class TicketPushed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to PushTicket.

    ticket: The ticket.
    is_new: Whether this request made it.
    sequence: Stream sequence behind which rows show it.
    """

    ticket: TicketCreated
    is_new: bool
    sequence: int


Event: TypeAlias = (
    ConnectorCreated
    | ConnectorConfigured
    | ConnectorCredentialsChanged
    | ConnectorStatusChanged
    | ConnectorDeleted
    | SyncRequested
    | SyncProgressed
    | SyncEnded
    | SyncRunsPurged
    | TicketCreated
    | TicketStateChanged
)
"""Any event of connector."""

AGGREGATES: dict[type[Event], str] = {
    ConnectorCreated: "connector",
    ConnectorConfigured: "connector",
    ConnectorCredentialsChanged: "connector",
    ConnectorStatusChanged: "connector",
    ConnectorDeleted: "connector",
    SyncRequested: "sync_run",
    SyncProgressed: "sync_run",
    SyncEnded: "sync_run",
    SyncRunsPurged: "sync_run",
    TicketCreated: "ticket",
    TicketStateChanged: "ticket",
}
"""The type of the aggregate that each event is about."""

ENDPOINTS: dict[type[Struct], str] = {
    CreateConnector: "ingest.create_connector",
    ConfigureConnector: "ingest.configure_connector",
    DeleteConnector: "ingest.delete_connector",
    TestConnector: "ingest.test_connector",
    StartAuthorization: "ingest.start_authorization",
    FinishAuthorization: "ingest.finish_authorization",
    RotateWebhookSecret: "ingest.rotate_webhook_secret",
    ReceiveDelivery: "ingest.receive_delivery",
    StartSync: "ingest.start_sync",
    CancelSync: "ingest.cancel_sync",
    DescribeSources: "ingest.describe_sources",
    PreviewMapping: "ingest.preview_mapping",
    ListDeadLetters: "ingest.list_dead_letters",
    ListReceived: "ingest.list_received",
    RetryDeadLetters: "ingest.retry_dead_letters",
    PurgeRecords: "ingest.purge_records",
    PurgeRuns: "ingest.purge_runs",
    PushTicket: "ingest.push_ticket",
}
"""The endpoint that answers each request."""
