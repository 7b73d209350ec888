"""Patterns: list, look at, now or as they were, change, close, merge, split; frequency, history."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Literal

import msgspec
from contracts import pattern
from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway import _queries
from services.gateway.engine.evidence import Kind
from services.gateway.explaining.material import explain_pattern
from services.gateway.forecasting import expected_counts
from services.gateway.listing import Filter, Listing, SortKey
from services.gateway.routes.issues import Identifier, Moment
from services.gateway.routes.operation import (
    Accepted,
    AnyOperation,
    Call,
    Deed,
    Gateway,
    NoQuery,
    Operation,
)
from services.gateway.routes.pages import (
    ListQuery,
    PageInfo,
    PastListQuery,
    PastQuery,
    carry_out,
    list_page,
    page_info,
    read_one,
    shown,
)
from services.gateway.routes.proofs import Proof, Scope, proofs_by_pattern, shown_proof
from services.gateway.routes.timeline import Timeline, timeline_page
from services.gateway.vocabulary import (
    PATTERN_GROUPS,
    VISIBLE,
    Line,
    PatternGroup,
    PatternStatus,
    Search,
    search_terms,
    statuses_of,
)

Sort = Literal[
    "created_at", "-created_at", "last_seen_at", "-last_seen_at", "risk_score", "-risk_score",
    "confidence", "-confidence", "issue_count", "-issue_count", "updated_at", "-updated_at", "name", "-name",
]  # fmt: skip
Window = Literal["7d", "30d", "90d"]
DAYS = {"7d": 7, "30d": 30, "90d": 90}
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=VISIBLE)]


class PatternRow(Struct, frozen=True):
    """One shown row of patterns."""

    pattern_id: str
    seq: int
    name: str
    status: str
    fingerprint: str
    risk_score: float
    confidence: float
    issue_count: int
    first_seen_at: datetime
    last_seen_at: datetime
    created_at: datetime
    updated_at: datetime
    status_reason: str | None
    closure_note: str | None
    closed_at: datetime | None
    merged_into: str | None
    mttr_seconds: float | None
    has_recurred: bool


class Dimension(Struct, frozen=True, kw_only=True):
    """A value that members share."""

    name: str
    value: str
    share: Annotated[float, Meta(ge=0, le=1, description="Share of the members that have it.")]
    lift: (
        Annotated[
            float, Meta(ge=0, description="That share over the share in the workspace; 1: nothing special.")
        ]
        | None
    ) = None


class Pattern(Struct, frozen=True, kw_only=True):
    """The root cause that a set of issues shares."""

    id: str
    name: str
    status: PatternStatus
    status_group: Annotated[
        PatternGroup, Meta(description="The coarser view: mitigating and watching are active.")
    ]
    status_reason: Annotated[str | None, Meta(description="The rule or the person's reason for the status.")]
    risk_score: Annotated[float, Meta(ge=0, le=100)]
    confidence: Annotated[float, Meta(ge=0, le=1)]
    fingerprint: Annotated[dict[str, str], Meta(description="What the members share, most telling first.")]
    dimensions: Annotated[tuple[Dimension, ...], Meta(description="The fingerprint with shares and lift.")]
    issue_count: int
    first_seen_at: datetime
    last_seen_at: datetime
    created_at: Annotated[datetime, Meta(description="When it was detected.")]
    updated_at: datetime
    closure_note: str | None
    closed_at: datetime | None
    merged_into: Annotated[str | None, Meta(description="The pattern that its issues moved into.")]
    mttr_seconds: (
        Annotated[
            float,
            Meta(ge=0, description="Mean time from an episode's first failure to the end of its last issue."),
        ]
        | None
    )
    has_recurred: Annotated[bool, Meta(description="It came back after a fix had been tried.")]


class CauseStatement(Struct, frozen=True, kw_only=True):
    """A sentence that passed a test against the workspace's other failures."""

    kind: Kind
    text: str
    issue_ids: Annotated[tuple[str, ...], Meta(description="Issues that it comes from, the latest first.")]


class RootCause(Struct, frozen=True, kw_only=True):
    """What sets the members apart from the workspace's other failures."""

    summary: Annotated[str, Meta(description="What singles something out, or that nothing does.")]
    statements: tuple[CauseStatement, ...]
    confidence: Annotated[
        float, Meta(ge=0, le=1, description="How much evidence there is; no probability that it is right.")
    ]
    version: Annotated[str, Meta(description="Dated version of the method.")]


class PatternDetail(Pattern, frozen=True, kw_only=True):
    """A pattern with the evidence of its cause, and how its latest fix stands."""

    root_cause: Annotated[
        RootCause | None, Meta(description="As of updated_at; null when it has no issue any more.")
    ]
    proof: Annotated[Proof | None, Meta(description="Of the latest fix; null while nothing was fixed.")]


class PatternPage(Struct, frozen=True, kw_only=True):
    """A page of patterns."""

    data: tuple[Pattern, ...]
    page: PageInfo


class PatternQuery(PastListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of the list of patterns."""

    status: Annotated[
        tuple[PatternStatus, ...] | None,
        Meta(description="Statuses or status groups; `active` is the group. Default: all but merged."),
    ] = None
    q: Annotated[Search | None, Meta(description="Words that the name must hold.")] = None
    team: Annotated[
        Line | None, Meta(description="The team of at least half of its issues: the fingerprint's.")
    ] = None
    risk_min: Annotated[float, Meta(ge=0, le=100)] | None = None
    risk_max: Annotated[float, Meta(ge=0, le=100)] | None = None
    sort: Sort = "-created_at"


class FrequencyQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far to look back and ahead."""

    window: Window = "30d"


class Bucket(Struct, frozen=True, kw_only=True):
    """Failures of one day, in UTC."""

    bucket_ts: datetime
    count: int


class Band(Struct, frozen=True, kw_only=True):
    """Failures expected on one day to come."""

    bucket_ts: datetime
    value: Annotated[float, Meta(ge=0, description="Expected failures.")]
    lower: Annotated[float, Meta(ge=0, description="Lower end of the 80 % interval of the count.")]
    upper: Annotated[float, Meta(ge=0)]


class Basis(Struct, frozen=True, kw_only=True):
    """What the band is computed from."""

    prediction_id: str
    model: str
    probability: Annotated[
        float, Meta(ge=0, le=1, description="The frozen probability of a recurrence within the window.")
    ]
    chance_per_day: Annotated[float, Meta(ge=0, le=1, description="That a day has any failure.")]
    failures_per_failing_day: Annotated[float, Meta(ge=0, description="Mean over the last 90 days.")]


class Frequency(Struct, frozen=True, kw_only=True):
    """How often a pattern failed, and how often it is expected to."""

    pattern_id: str
    window: Window
    points: Annotated[tuple[Bucket, ...], Meta(description="One per day, oldest first, today last.")]
    predicted: Annotated[
        tuple[Band, ...], Meta(description="One per day to come; empty while there is no prediction.")
    ]
    basis: Annotated[Basis | None, Meta(description="Null while there is no prediction.")]


class PatternChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change; what is absent stays."""

    name: Name | None = None
    status: Literal["emerging", "active", "mitigating", "watching", "resolved"] | None = None


class Closure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was done about a pattern."""

    closure_note: Annotated[str, Meta(min_length=1, max_length=10_000, pattern=VISIBLE)]
    environment: Annotated[Scope | None, Meta(description="Where it was fixed; absent: everywhere.")] = None
    version: Annotated[Scope | None, Meta(description="First version with the fix, if it is known.")] = None
    fixed_at: Annotated[
        Moment | None, Meta(description="Absent: now, or that of the fix that is being proved already.")
    ] = None


class Merge(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pattern whose issues move here."""

    source_pattern_id: Identifier


class Split(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The issues that form a pattern of their own."""

    issue_ids: Annotated[tuple[Identifier, ...], Meta(min_length=1, max_length=500)]
    name: Name | None = None


LISTING = Listing(
    name="patterns",
    view="patterns",
    row=PatternRow,
    key="pattern_id",
    only="is_shown",
    sorts={
        "created_at": SortKey("created_at", "timestamptz"),
        "updated_at": SortKey("updated_at", "timestamptz"),
        "last_seen_at": SortKey("last_seen_at", "timestamptz"),
        "risk_score": SortKey("risk_score", "double precision"),
        "confidence": SortKey("confidence", "double precision"),
        "issue_count": SortKey("issue_count", "bigint"),
        "name": SortKey("name", "text"),
    },
    default_sort="-created_at",
    filters=(
        Filter(
            "status",
            "status = ANY({value}::text[])",
            lambda given: statuses_of(given, PATTERN_GROUPS),
            default=[status for status in PATTERN_GROUPS if status != "merged"],
        ),
        Filter("q", "name ILIKE ALL({value}::text[])", search_terms),
        Filter(
            "team",
            "fingerprint::jsonb @> {value}::jsonb",
            lambda given: msgspec.json.encode([{"name": "team", "value": given}]).decode(),
        ),
        Filter("risk_min", "risk_score >= {value}"),
        Filter("risk_max", "risk_score <= {value}"),
    ),
)


def present(row: PatternRow) -> Pattern:
    """A row as the API shows it."""
    dimensions = msgspec.json.decode(row.fingerprint, type=tuple[Dimension, ...])
    fields = msgspec.structs.asdict(row)
    fields |= {
        "id": row.pattern_id,
        "status_group": PATTERN_GROUPS[row.status],
        "fingerprint": _as_map(dimensions),
        "dimensions": dimensions,
    }
    return msgspec.convert(fields, Pattern)


def _as_map(dimensions: tuple[Dimension, ...]) -> dict[str, str]:
    return {dimension.name: dimension.value for dimension in dimensions}


async def list_patterns(gateway: Gateway, call: Call[PatternQuery, None]) -> PatternPage:
    """A page of patterns."""
    found = await list_page(gateway, call, LISTING)
    return PatternPage(data=shown(found, present), page=page_info(found))


async def get_pattern(gateway: Gateway, call: Call[PastQuery, None]) -> PatternDetail:
    """One pattern."""
    row = await read_one(gateway, call.workspace_id, LISTING, call.path["pattern_id"])
    return await _detail(gateway, call.workspace_id, row)


async def _detail(gateway: Gateway, workspace_id: str, row: PatternRow) -> PatternDetail:
    found = await explain_pattern(gateway.pool, workspace_id, row.pattern_id, known_at=row.updated_at)
    cause = None if found is None else msgspec.convert(found, RootCause, from_attributes=True)
    fixes = (await proofs_by_pattern(gateway, workspace_id, [row.pattern_id])).get(row.pattern_id)
    proof = shown_proof(fixes[0], now=gateway.resources.clock()) if fixes else None
    return PatternDetail(**msgspec.structs.asdict(present(row)), root_cause=cause, proof=proof)


async def get_frequency(gateway: Gateway, call: Call[FrequencyQuery, None]) -> Frequency:
    """Failures per day, and recurrences expected."""
    pattern_id, days = call.path["pattern_id"], DAYS[call.query.window]
    await read_one(gateway, call.workspace_id, LISTING, pattern_id)
    today = gateway.resources.clock().replace(hour=0, minute=0, second=0, microsecond=0)
    async with tenant(gateway.pool, call.workspace_id) as conn:
        counted = await _queries.count_occurrences(
            conn,
            workspace_id=call.workspace_id,
            pattern_id=pattern_id,
            since_at=today - timedelta(days=DAYS["90d"] - 1),
            until_at=today + timedelta(days=1),
        )
        forecasts = await _queries.list_forecasts(
            conn, workspace_id=call.workspace_id, window_days=days, pattern_id=pattern_id
        )
    counts = {row.bucket_at.astimezone(UTC): row.n_issues for row in counted}
    first = today - timedelta(days=days - 1)
    predicted, basis = _expected(forecasts, counts, today=today, days=days)
    return Frequency(
        pattern_id=pattern_id,
        window=call.query.window,
        points=tuple(
            Bucket(bucket_ts=at, count=counts.get(at, 0))
            for at in (first + timedelta(days=day) for day in range(days))
        ),
        predicted=predicted,
        basis=basis,
    )


def _expected(
    forecasts: Sequence[_queries.ListForecastsRow],
    counts: Mapping[datetime, int],
    *,
    today: datetime,
    days: int,
) -> tuple[tuple[Band, ...], Basis | None]:
    """The band of the days to come by the current forecast of the window, and what it rests on."""
    if not forecasts:
        return (), None
    forecast = forecasts[0]
    daily = expected_counts(
        forecast.inputs,
        probability=forecast.probability,
        window_days=days,
        sizes=sorted(counts.values()),
    )
    band = tuple(
        Band(bucket_ts=today + timedelta(days=day), value=daily.value, lower=daily.lower, upper=daily.upper)
        for day in range(1, days + 1)
    )
    basis = Basis(
        prediction_id=forecast.prediction_id,
        model=forecast.model,
        probability=forecast.probability,
        chance_per_day=daily.chance,
        failures_per_failing_day=daily.mean_size,
    )
    return band, basis


async def get_history(gateway: Gateway, call: Call[ListQuery, None]) -> Timeline:
    """What happened to a pattern, newest first."""
    pattern_id = call.path["pattern_id"]
    await read_one(gateway, call.workspace_id, LISTING, pattern_id)
    history = await gateway.resources.event_log.history(call.workspace_id, "pattern", pattern_id)
    return timeline_page(
        history, call.query, secret=gateway.secret, scope=f"{call.workspace_id}/{pattern_id}"
    )


async def _changed(gateway: Gateway, call: Call[NoQuery, Struct], request: Struct) -> PatternDetail:
    row, _ = await carry_out(gateway, call, LISTING, request, reply=pattern.PatternChanged)
    return await _detail(gateway, call.workspace_id, row)


async def update_pattern(gateway: Gateway, call: Call[NoQuery, PatternChange]) -> PatternDetail:
    """Rename a pattern or move it to another status."""
    if call.body.name is None and call.body.status is None:
        row = await read_one(gateway, call.workspace_id, LISTING, call.path["pattern_id"])
        return await _detail(gateway, call.workspace_id, row)
    status = None if call.body.status is None else pattern.PatternStatus(call.body.status)
    request = pattern.UpdatePattern(pattern_id=call.path["pattern_id"], name=call.body.name, status=status)
    return await _changed(gateway, call, request)


async def close_pattern(gateway: Gateway, call: Call[NoQuery, Closure]) -> PatternDetail:
    """Record what was done; the proof window starts."""
    request = pattern.ClosePattern(
        pattern_id=call.path["pattern_id"],
        closure_note=call.body.closure_note,
        environment=call.body.environment,
        version=call.body.version,
        fixed_at=call.body.fixed_at,
    )
    return await _changed(gateway, call, request)


async def merge_patterns(gateway: Gateway, call: Call[NoQuery, Merge]) -> PatternDetail:
    """Move all issues of another pattern into this one."""
    await read_one(gateway, call.workspace_id, LISTING, call.body.source_pattern_id)
    request = pattern.MergePatterns(
        target_pattern_id=call.path["pattern_id"], source_pattern_id=call.body.source_pattern_id
    )
    return await _changed(gateway, call, request)


async def split_pattern(gateway: Gateway, call: Call[NoQuery, Split]) -> PatternDetail:
    """Move some issues into a new pattern; the answer is that one."""
    request = pattern.SplitPattern(
        pattern_id=call.path["pattern_id"], issue_ids=call.body.issue_ids, name=call.body.name
    )
    _, made = await carry_out(gateway, call, LISTING, request, reply=pattern.PatternChanged)
    row = await read_one(gateway, call.workspace_id, LISTING, made.pattern_id)
    return await _detail(gateway, call.workspace_id, row)


_ALL, _ONE = "/v1/patterns", "/v1/patterns/{pattern_id}"
_Read = partial(Operation, tag="Patterns", method="GET", scope="patterns:read")
_Change = partial(
    Operation,
    tag="Patterns",
    method="POST",
    scope="patterns:write",
    replies={200: PatternDetail, 202: Accepted},
    refusals=(409, 422),
)

OPERATIONS: tuple[AnyOperation, ...] = (
    _Read(
        id="listPatterns",
        path=_ALL,
        summary="List patterns, newest first.",
        description="A pattern is listed from its detection on: candidates with too few issues are not.",
        query=PatternQuery,
        has_past=True,
        replies={200: PatternPage},
        handle=list_patterns,
    ),
    _Read(
        id="getPattern",
        path=_ONE,
        summary="Look at a pattern, now or as it was.",
        query=PastQuery,
        has_past=True,
        replies={200: PatternDetail},
        handle=get_pattern,
    ),
    _Change(
        id="updatePattern",
        method="PATCH",
        path=_ONE,
        summary="Rename a pattern or move it to another status.",
        body=PatternChange,
        deed=Deed("pattern.updated", "update", "pattern", "pattern_id"),
        handle=update_pattern,
    ),
    _Read(
        id="getPatternFrequency",
        path=f"{_ONE}/frequency",
        summary="See failures per day and the recurrences expected.",
        query=FrequencyQuery,
        replies={200: Frequency},
        handle=get_frequency,
    ),
    _Read(
        id="getPatternHistory",
        path=f"{_ONE}/history",
        summary="See what happened to a pattern, newest first, from the log itself.",
        query=ListQuery,
        replies={200: Timeline},
        handle=get_history,
    ),
    _Change(
        id="closePattern",
        path=f"{_ONE}/close",
        summary="Record what was done about a pattern; the proof of it starts.",
        body=Closure,
        deed=Deed("pattern.closed", "update", "pattern", "pattern_id"),
        handle=close_pattern,
    ),
    _Change(
        id="mergePatterns",
        path=f"{_ONE}/merge",
        summary="Move all issues of another pattern into this one, for good.",
        body=Merge,
        deed=Deed("pattern.merged", "update", "pattern", "pattern_id"),
        handle=merge_patterns,
    ),
    _Change(
        id="splitPattern",
        path=f"{_ONE}/split",
        summary="Move some issues into a pattern of their own; answers with that.",
        body=Split,
        deed=Deed("pattern.split", "update", "pattern", "pattern_id"),
        handle=split_pattern,
    ),
)
