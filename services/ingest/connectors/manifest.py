"""The language of manifests: what one YAML file says about one type of source. Unknown keys are errors.

The polling part of a stream, `endpoint`, is an endpoint of dlt's `rest_api` source, word for word
(https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api), so that it can be handed on as it is.
Templates hold `{config.key}`, a field of `config`, and `{secret.key}`, which a person gives once and nobody reads.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from services.ingest.connectors.expressions import Expression

Category = Literal["cloud_monitoring", "productivity_incident", "crm_support", "data", "security"]
Facet = Literal["auth", "list", "mapping", "webhook", "push"]
Adapter = Literal["sql", "mysql", "snowflake", "instance"]
Level = Literal["p1", "p2", "p3", "p4"]
Stage = Literal["open", "mitigating", "resolved", "closed"]
Slug = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{1,39}$(?!\n)")]
HttpsUrl = Annotated[str, Meta(pattern=r"^https://\S+$(?!\n)")]


class _Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Whatever a manifest is made of."""


class ConfigField(_Part, frozen=True, kw_only=True):
    """Something that is asked when a source is connected, no secret. is_folders: its slashes part those of a path."""

    key: Slug
    title: str
    required: bool = True
    default: str | None = None
    choices: tuple[str, ...] = ()
    is_folders: bool = False


class Regional(_Part, frozen=True, kw_only=True):
    """An address that depends on a config field, the region as a rule."""

    select: str
    choices: dict[str, str]


class ApiKey(_Part, frozen=True, kw_only=True, tag_field="kind", tag="api_key"):
    """One or more secrets in headers or in the query, as templates."""

    title: str = "API key"
    headers: dict[str, str] = {}
    params: dict[str, str] = {}


class Basic(_Part, frozen=True, kw_only=True, tag_field="kind", tag="basic"):
    """HTTP basic; the templates say what stands for user name and password."""

    title: str = "User name and password"
    username: str = "{secret.username}"
    password: str = "{secret.password}"  # noqa: S105 - a template


class AuthorizationCode(_Part, frozen=True, kw_only=True, tag_field="kind", tag="oauth2_code"):
    """OAuth 2, a person agrees in the browser. pkce: whether the vendor takes a code challenge (S256)."""

    authorize_url: str
    token_url: str
    scopes: tuple[str, ...] = ()
    scope_separator: str = " "
    pkce: bool = False
    client_auth: Literal["client_secret_post", "client_secret_basic"] = "client_secret_post"
    authorize_params: dict[str, str] = {}
    token_headers: dict[str, str] = {}


class ClientCredentials(_Part, frozen=True, kw_only=True, tag_field="kind", tag="client_credentials"):
    """OAuth 2, an application by itself."""

    token_url: str
    scopes: tuple[str, ...] = ()
    client_auth: Literal["client_secret_post", "client_secret_basic"] = "client_secret_post"
    token_params: dict[str, str] = {}


class JwtBearer(_Part, frozen=True, kw_only=True, tag_field="kind", tag="jwt_bearer"):
    """A service account's key signs a JWT that is exchanged for a token (RFC 7523)."""

    token_url: str
    scopes: tuple[str, ...] = ()


class AwsKeys(_Part, frozen=True, kw_only=True, tag_field="kind", tag="aws"):
    """AWS access keys; requests are signed with Signature Version 4 for this service."""

    service: str


class KeyPair(_Part, frozen=True, kw_only=True, tag_field="kind", tag="key_pair"):
    """A private key of a user's signs a JWT for each request, as Snowflake takes it.

    account: whose user it is, a template.
    """

    account: str
    title: str = "User with a key pair"


class DatabaseLogin(_Part, frozen=True, kw_only=True, tag_field="kind", tag="database"):
    """A user of a database; read access is enough."""

    title: str = "Database user"


class NoAuth(_Part, frozen=True, kw_only=True, tag_field="kind", tag="none"):
    """Nothing is asked."""


Auth = (
    ApiKey
    | Basic
    | AuthorizationCode
    | ClientCredentials
    | JwtBearer
    | AwsKeys
    | KeyPair
    | DatabaseLogin
    | NoAuth
)


class Probe(_Part, frozen=True, kw_only=True):
    """A cheap request that only good credentials answer with 2xx."""

    path: str
    method: Literal["GET", "POST"] = "GET"
    json: dict[str, object] = {}


# --- polling, in the words of dlt ------------------------------------------------------------------------------


class SinglePage(_Part, frozen=True, kw_only=True, tag_field="type", tag="single_page"):
    """Everything comes at once."""


class JsonLink(_Part, frozen=True, kw_only=True, tag_field="type", tag="json_link"):
    """The address of the next page stands in the body."""

    next_url_path: str


class HeaderLink(_Part, frozen=True, kw_only=True, tag_field="type", tag="header_link"):
    """The address of the next page stands in the Link header (RFC 8288)."""

    links_next_key: str = "next"


class HeaderCursor(_Part, frozen=True, kw_only=True, tag_field="type", tag="header_cursor"):
    """The next page's cursor stands in a header."""

    cursor_key: str
    cursor_param: str


class Cursor(_Part, frozen=True, kw_only=True, tag_field="type", tag="cursor"):
    """The next page's cursor stands in the body, and goes into the query or into the next body."""

    cursor_path: str
    cursor_param: str | None = None
    cursor_body_path: str | None = None
    has_more_path: str | None = None
    stop_after_empty_page: bool = False


class Offset(_Part, frozen=True, kw_only=True, tag_field="type", tag="offset"):
    """Records are counted. total_path: null where the vendor does not say how many there are."""

    limit: int
    offset_param: str | None = "offset"
    limit_param: str | None = "limit"
    offset_body_path: str | None = None
    limit_body_path: str | None = None
    total_path: str | None = "total"
    maximum_offset: int | None = None
    has_more_path: str | None = None


class PageNumber(_Part, frozen=True, kw_only=True, tag_field="type", tag="page_number"):
    """Pages are counted from base_page."""

    base_page: int = 0
    page_param: str | None = "page"
    page_body_path: str | None = None
    total_path: str | None = "total"
    maximum_page: int | None = None
    has_more_path: str | None = None


Paginator = SinglePage | JsonLink | HeaderLink | HeaderCursor | Cursor | Offset | PageNumber


class Incremental(_Part, frozen=True, kw_only=True):
    """Only what changed. The window's ends are given by whoever runs it, in the stream's `time_format`."""

    cursor_path: str
    start_param: str | None = None
    end_param: str | None = None


class Endpoint(_Part, frozen=True, kw_only=True):
    """One request of dlt's `rest_api`. data_selector: names joined by dots, one of a list by its number as in a[0].b,
    or "$" for the whole body.
    """

    path: str
    paginator: Paginator
    method: Literal["GET", "POST"] = "GET"
    params: dict[str, object] = {}
    json: dict[str, object] = {}
    headers: dict[str, str] = {}
    data_selector: Annotated[
        str, Meta(pattern=r"^(\$|[A-Za-z_@][\w@-]*(\[\d+\])?(\.[A-Za-z_@][\w@-]*(\[\d+\])?)*)$(?!\n)")
    ] = "$"
    incremental: Incremental | None = None

    def says(self, end: Literal["start", "end"]) -> bool:
        """Whether a request says where its window starts, or ends."""
        if self.incremental is not None and getattr(self.incremental, f"{end}_param") is not None:
            return True
        return f"{{incremental.{end}_value}}" in f"{self.path} {self.params} {self.json} {self.headers}"


class Details(_Part, frozen=True, kw_only=True):
    """What follows a list of mere ids: a second request gives the records. ids_path: where they go in its body."""

    path: str
    ids_path: str
    data_selector: str
    batch: Annotated[int, Meta(ge=1, le=1_000)] = 100
    json: dict[str, object] = {}


class Stream(_Part, frozen=True, kw_only=True):
    """One list of records: an endpoint, or a database's query with :cursor and :limit.

    time_format: how the vendor writes the ends of a window; `minute` and `space` are in UTC.
    order: how the vendor sorts by the cursor, so that a window can be cut or left early; also which of two records of
    one issue on a page is the later, where their times do not say.
    records_max: the vendor gives no more of one window than about so many, on a single page exactly so many. days_max: nor a longer window.
    cursor_alone: behind the first page nothing but the cursor is sent.
    stop_after_empty_page: the vendor names a next page for ever.
    reread_days: the list is by when a failure began, and changes later, or is listed only when it has ended: a poll
    reads so many days again. cursor_is_change: it is by when a record changed last, though the cursor's name does not
    say so; as where nothing that is listed changes, such as the entries of a log.
    optional: an account may not have it, or not let us see it; the other lists are read all the same.
    details: the list holds ids. partition: the config field whose values, between commas, are asked one by one;
    each record is told its own under `partition_as`.
    """

    name: Slug
    endpoint: Endpoint | None = None
    query: str | None = None
    time_format: Literal["rfc3339", "epoch_s", "epoch_ms", "date", "space", "minute"] = "rfc3339"
    order: Literal["ascending", "descending"] | None = None
    records_max: Annotated[int, Meta(ge=1)] | None = None
    days_max: Annotated[int, Meta(ge=1)] | None = None
    cursor_alone: bool = False
    stop_after_empty_page: bool = False
    reread_days: Annotated[int, Meta(ge=1, le=90)] | None = None
    cursor_is_change: bool = False
    optional: bool = False
    details: Details | None = None
    partition: Slug | None = None
    partition_as: Slug | None = None


# --- records → issues ------------------------------------------------------------------------------------------


class SeverityRule(_Part, frozen=True, kw_only=True):
    """Which severity a word or number stands for; of a list, the first item that is known counts.

    map: lower-case word → level; after it the usual words are tried, then `default`.
    bands: for numbers, [at least, level], highest first.
    """

    path: Expression
    map: dict[str, Level] = {}
    bands: tuple[tuple[float, Level], ...] = ()
    default: Level = "p3"


class StatusRule(_Part, frozen=True, kw_only=True):
    """Which status a word stands for: `map`, then the usual words, then `default`."""

    path: Expression
    map: dict[str, Stage] = {}
    default: Stage = "open"


class Mapping(_Part, frozen=True, kw_only=True):
    """How a record becomes an issue: JMESPath for every field.

    when: the record is of this kind; the first mapping that fits is taken.
    ignore: the record is no failure and is left out.
    html: those of its texts that the vendor gives as HTML, one or a list; a title or body that is one of them is taken
    for what it shows.
    """

    external_id: Expression
    title: Expression
    when: Expression | None = None
    ignore: Expression | None = None
    body: Expression | None = None
    html: Expression | None = None
    severity: SeverityRule | None = None
    status: StatusRule | None = None
    service: Expression | None = None
    component: Expression | None = None
    error_type: Expression | None = None
    environment: Expression | None = None
    version: Expression | None = None
    team: Expression | None = None
    assignee: Expression | None = None
    url: Expression | None = None
    occurred_at: Expression | None = None
    updated_at: Expression | None = None
    metadata: dict[str, Expression] = {}


# --- webhooks --------------------------------------------------------------------------------------------------


class Hmac(_Part, frozen=True, kw_only=True, tag_field="scheme", tag="hmac"):
    """A keyed hash of the raw body.

    prefix: stands before each signature. split: between several of them, any may match.
    signature_key, timestamp_key: names in a header such as `t=1,v1=ab`, whose parts `split` separates.
    timestamp_header, timestamp_path: where else the time is; within tolerance_seconds of now.
    key: what is made the key of, a template over {secret} and {timestamp}; key_encoding: how the secret is written
    ("whsec_" before base64 is dropped).
    signed: what is hashed, a template over {body}, {form} (the fields of a form in the order of their names, names and
    values joined), {timestamp}, {method}, {url} and {h:header}.
    """

    header: str
    algorithm: Literal["sha256", "sha1", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    split: str | None = None
    signature_key: str | None = None
    timestamp_key: str | None = None
    timestamp_header: str | None = None
    timestamp_path: Expression | None = None
    timestamp_unit: Literal["s", "ms", "rfc3339"] = "s"
    tolerance_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 300
    key: str = "{secret}"
    key_encoding: Literal["utf8", "base64", "hex"] = "utf8"
    signed: str = "{body}"


class Digest(_Part, frozen=True, kw_only=True, tag_field="scheme", tag="digest"):
    """SHA-256 in hex of a template over {secret} and {body}; older than keyed hashes and weaker.

    Whoever has seen a call can lengthen its body; what is added begins with bytes that no JSON has.
    """

    header: str
    signed: str = "{secret}{body}"


class StandardWebhooks(_Part, frozen=True, kw_only=True, tag_field="scheme", tag="standard_webhooks"):
    """https://www.standardwebhooks.com; `svix` where the headers have the older names."""

    headers: Literal["webhook", "svix"] = "webhook"
    tolerance_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 300


class Token(_Part, frozen=True, kw_only=True, tag_field="scheme", tag="token"):
    """The secret itself, in a header, in the address or in the body; no better than the way it travels."""

    header: str | None = None
    query: str | None = None
    path: Expression | None = None
    prefix: str = ""


class BasicAuth(_Part, frozen=True, kw_only=True, tag_field="scheme", tag="basic"):
    """HTTP basic; the secret is `user:password`."""


class Jwt(_Part, frozen=True, kw_only=True, tag_field="scheme", tag="jwt"):
    """A signed token. HS256: the secret is the key; RS256: the secret is the vendor's key set (JWKS, JSON).

    keys_url: where the key set is; the secret is then what identity_claim has to say, such as the sender's address.
    body_hash_claim: the claim that holds the SHA-256 of the body in hex; without it the body is not protected.
    """

    header: str = "Authorization"
    prefix: str = ""
    algorithm: Literal["HS256", "RS256"] = "HS256"
    issuer: str | None = None
    audience: str | None = None
    keys_url: HttpsUrl | None = None
    identity_claim: str = "email"
    body_hash_claim: str | None = None
    requires_expiry: bool = True


class Sns(_Part, frozen=True, kw_only=True, tag_field="scheme", tag="sns"):
    """Amazon SNS: an RSA signature in the body; the secret is the ARN of the topic."""


Scheme = Hmac | Digest | StandardWebhooks | Token | BasicAuth | Jwt | Sns


class Place(_Part, frozen=True, kw_only=True):
    """Where a value of a webhook stands: in a header or, by JMESPath, in the body."""

    header: str | None = None
    path: Expression | None = None


class Echo(_Part, frozen=True, kw_only=True, tag_field="kind", tag="echo"):
    """The vendor asks whether we are there: a text of the call is sent back. Nothing is kept of it.

    header, query, path: where the text stands, one of them. answer: the key of a JSON object that it goes into;
    absent: it is answered as plain text. is_proved: the vendor signs this call too, so it is believed first.
    """

    header: str | None = None
    query: str | None = None
    path: Expression | None = None
    answer: str | None = None
    method: Literal["POST", "GET"] = "POST"
    is_proved: bool = False


class Presence(_Part, frozen=True, kw_only=True, tag_field="kind", tag="presence"):
    """The vendor asks with HEAD whether anybody is there; 200 without a body says so."""


class GivenSecret(_Part, frozen=True, kw_only=True, tag_field="kind", tag="given_secret"):
    """The first call brings the secret that later ones are signed with; taken only while the connector has none.

    header, path: where it stands, one of them; a header is sent back.
    is_read: a person has to give it back to the vendor, so rotating the secret shows it once in place of a new one.
    """

    header: str | None = None
    path: Expression | None = None
    is_read: bool = False


class SnsConfirmation(_Part, frozen=True, kw_only=True, tag_field="kind", tag="sns_confirmation"):
    """Amazon SNS asks whether a subscription is wanted: the address in the message, once proved, is fetched."""


Handshake = Echo | Presence | GivenSecret | SnsConfirmation


class RecordPath(_Part, frozen=True, kw_only=True):
    """Where records stand in a payload.

    path: finds a record or a list of them. events: patterns of event types; empty: any.
    add: values of the payload that a record gets too, under these names.
    decode: what was found is JSON written as text. then: where the records are in that.
    """

    path: Expression
    then: Expression | None = None
    events: tuple[str, ...] = ()
    add: dict[str, Expression] = {}
    decode: bool = False


class Webhook(_Part, frozen=True, kw_only=True):
    """What the vendor posts to us. verify: a call is good by any of these, or by our own signature.

    handshake: calls that are no delivery, by which the vendor makes sure of us.
    event_id: what the vendor calls this one call, not the failure: a second call with it is dropped as a repetition.
    """

    records: tuple[RecordPath, ...]
    verify: tuple[Scheme, ...]
    handshake: tuple[Handshake, ...] = ()
    event_id: Place | None = None
    event_type: Place | None = None


# --- push ------------------------------------------------------------------------------------------------------


class Find(_Part, frozen=True, kw_only=True):
    """Look for a ticket by its marker. id, url: as in Push; they may hold {marker} in a text of JMESPath."""

    path: str
    id: Expression
    method: Literal["GET", "POST"] = "GET"
    json: dict[str, object] = {}
    headers: dict[str, str] = {}
    url: Expression | None = None


class TicketStatus(_Part, frozen=True, kw_only=True):
    """Ask for one ticket, {id}. words: the tracker's word for where it stands, or several, such as status and reason.

    map: lower-case word → our state; after it the usual words are tried; any other word means that it is open.
    """

    path: str
    words: Expression
    method: Literal["GET", "POST"] = "GET"
    json: dict[str, object] = {}
    headers: dict[str, str] = {}
    map: dict[str, Literal["open", "done", "dropped"]] = {}


class Push(_Part, frozen=True, kw_only=True):
    """Create a ticket. Templates may hold {title}, {markdown}, {html}, {adf} (a document of Atlassian, alone in its
    text), {marker}, {uuid} (the same for the same ticket), {begun} and {begun_ms} (when it was tried first),
    {config.…} and {target.…}.

    id, url: where the answer says them; url_template: for vendors whose answer has no address for people; may hold {id}.
    target: what is asked for each ticket, such as a project.
    find: how it is looked up where the answer to a try was lost; without it such a ticket is not tried again for a day.
    is_idempotent: the tracker makes one ticket of all requests with the same {marker}, so it may be asked again.
    status: how it is followed. title_max, text_max: the most characters that the tracker takes of each.
    """

    path: str
    body: dict[str, object] | list[object]
    id: Expression
    title_max: Annotated[int, Meta(ge=20, le=250)] = 250
    text_max: Annotated[int, Meta(ge=200, le=32_768)] = 32_768
    method: Literal["POST"] = "POST"
    headers: dict[str, str] = {}
    url: Expression | None = None
    url_template: str | None = None
    target: tuple[ConfigField, ...] = ()
    find: Find | None = None
    is_idempotent: bool = False
    status: TicketStatus | None = None


class Manifest(_Part, frozen=True, kw_only=True):
    """One type of source.

    verified: real payloads of the vendor, or its own specification, have been run through the mapping;
    `evidence` says which. unchecked: facts that nobody has held against the vendor.
    adapter: code that polling needs beside the streams; `sql`, `mysql` and `snowflake` run a stream's query, the
    first on what speaks as PostgreSQL does; `instance` asks Atlassian which address a person's token is good for.
    id_scope: what stands before the ids of a connector, a template over {config.…}, where every account of the vendor
    counts for itself; empty where its ids are good everywhere.
    link: where a person sees a record, a template over {config.…} and {id}, for vendors whose records do not say it;
    it goes before what a mapping finds.
    rate_per_minute: how many requests an account may be asked.
    """

    type: Slug
    name: str
    category: Category
    docs_url: HttpsUrl
    mappings: tuple[Mapping, ...]
    auth: tuple[Auth, ...]
    id_scope: str = ""
    link: str = ""
    verified: bool = False
    evidence: str = ""
    unchecked: tuple[Facet, ...] = ()
    notes: str = ""
    adapter: Adapter | None = None
    rate_per_minute: Annotated[int, Meta(ge=1, le=10_000)] = 300
    config: tuple[ConfigField, ...] = ()
    base_url: str | Regional | None = None
    headers: dict[str, str] = {}
    test: Probe | None = None
    streams: tuple[Stream, ...] = ()
    webhook: Webhook | None = None
    push: Push | None = None


def decode_hook(kind: type, value: object) -> object:
    """What msgspec does not know by itself: expressions, out of their text."""
    if kind is Expression and isinstance(value, str):
        return Expression(value)
    if kind is object:
        return value
    raise ValueError(f"expected text, got {type(value).__name__}")


def encode_hook(value: object) -> object:
    """The way back."""
    if isinstance(value, Expression):
        return value.text
    raise NotImplementedError(type(value))


def decode(content: bytes) -> Manifest:
    """The manifest in a YAML file; raises msgspec.DecodeError with the place."""
    return msgspec.yaml.decode(content, type=Manifest, dec_hook=decode_hook)
