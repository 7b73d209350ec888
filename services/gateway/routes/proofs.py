"""How the proofs of fixes stand, and the ledger of what fixes prevented."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Literal

import msgspec
from contracts import recommendation
from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway import _queries
from services.gateway.proving import LEDGER_DAYS, Entry, confidence, days_between, loops
from services.gateway.routes.issues import Identifier
from services.gateway.routes.operation import AnyOperation, Call, Gateway, Operation
from services.gateway.routes.pages import PastQuery
from services.gateway.vocabulary import VISIBLE

Scope = Annotated[str, Meta(min_length=1, max_length=200, pattern=VISIBLE)]
Verdict = Literal["proving", "verified", "broken", "inconclusive"]
FIXES_MAX = 100
LEDGER_MAX = 10_000
ENTRIES_MAX = 100


class RateDrop(Struct, frozen=True, kw_only=True):
    """Exact test whether the pattern comes back less often than before its fix, on failures a day apart."""

    days_after: Annotated[float, Meta(ge=0, description="Days since the fix that the test looks at.")]
    p_value: Annotated[
        float, Meta(ge=0, le=1, description="Chance of so few recurrences if nothing had changed.")
    ]
    power: Annotated[float, Meta(ge=0, le=1, description="Chance that the test sees a rate cut in half.")]


class Proof(Struct, frozen=True, kw_only=True):
    """Whether a fix holds, and what that rests on."""

    fix_id: str
    verdict: Verdict
    reason: Annotated[
        Literal["bound_reached", "superseded", "withdrawn"] | None,
        Meta(description="Why it is inconclusive."),
    ]
    fixed_at: datetime
    environment: Annotated[str | None, Meta(description="Where it was fixed; null: everywhere.")]
    version: Annotated[str | None, Meta(description="First version with the fix; null: not known.")]
    confidence: Annotated[
        float, Meta(ge=0, le=1, description="That the fix holds; grows with quiet time, fixed by a verdict.")
    ]
    wanted_confidence: Annotated[float, Meta(ge=0, le=1)]
    quiet_days: Annotated[
        float, Meta(ge=0, description="Without a recurrence where the fix should prevent it.")
    ]
    window_days: Annotated[float, Meta(ge=0, description="Quiet days that the proof takes.")]
    needs_quiet_days: Annotated[float, Meta(ge=0, description="Still missing; 0 once there is a verdict.")]
    n_recurrences_before: Annotated[int, Meta(ge=0, description="At least a day apart, in its environment.")]
    exposure_days: Annotated[float, Meta(ge=0, description="From the first failure to the fix.")]
    gap_days: Annotated[float, Meta(ge=0, description="Median gap of the workspace's patterns.")]
    n_recurrences_after: Annotated[int, Meta(ge=0, description="Within 90 days, at least a day apart.")]
    n_residual: Annotated[
        int,
        Meta(ge=0, description="Failures of older versions or in other environments; they break nothing."),
    ]
    broken_by: Annotated[str | None, Meta(description="The issue that broke it.")]
    broken_at: datetime | None
    was_verified: Annotated[bool, Meta(description="It had been verified before it broke.")]
    judged_at: Annotated[datetime | None, Meta(description="When the verdict was given.")]
    rate_drop: RateDrop | None


class Prevented(Struct, frozen=True, kw_only=True):
    """Loops expected without a fix within 90 days of it, so far; seen; and the difference with its 95 % interval."""

    expected: Annotated[float, Meta(ge=0)]
    observed: Annotated[int, Meta(ge=0)]
    prevented: float
    lower: float
    upper: float


class LedgerQuery(PastQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which fixes to count."""

    pattern_id: Annotated[Identifier | None, Meta(description="Of this pattern only.")] = None


class LedgerEntry(Struct, frozen=True, kw_only=True):
    """One fix in the ledger."""

    fix_id: str
    pattern_id: str
    pattern_name: str | None
    fixed_at: datetime
    verdict: Verdict
    prevented: Prevented


class Ledger(Struct, frozen=True, kw_only=True):
    """What fixes prevented: recurrences expected without them, by the rate before, less those seen."""

    horizon_days: Annotated[int, Meta(description="How long after it a fix is counted.")]
    n_fixes: Annotated[
        int, Meta(ge=0, description="Fixes counted; those of patterns that had ended are not.")
    ]
    n_not_counted: Annotated[int, Meta(ge=0, description="Fixes of patterns that had ended before.")]
    total: Prevented
    entries: Annotated[tuple[LedgerEntry, ...], Meta(description="The latest 100 fixes that are counted.")]


def shown_proof(row: _queries.FixesRow, *, now: datetime) -> Proof:
    """How a proof stands at a moment."""
    inputs = msgspec.json.decode(row.inputs, type=recommendation.ProofInputs)
    quiet, reached, needs = row.quiet_days, row.confidence, 0.0
    if row.standing == "proving" or quiet is None or reached is None:
        quiet = days_between(row.fixed_at, now)
        reached = confidence(
            shape=inputs.prior_shape + inputs.n_recurrences,
            rate_days=inputs.gap_days + inputs.exposure_days,
            quiet_days=quiet,
        )
        # Where it never failed before, quiet says nothing.
        reached = reached if inputs.exposure_days > 0.0 else 0.0
        needs = round(max(0.0, inputs.window_days - quiet), 6)
    fields = {
        "fix_id": row.fix_id,
        "verdict": row.standing,
        "reason": row.ended_as,
        "fixed_at": row.fixed_at,
        "environment": row.environment,
        "version": row.version,
        "confidence": reached,
        "wanted_confidence": inputs.level,
        "quiet_days": quiet,
        "window_days": inputs.window_days,
        "needs_quiet_days": needs,
        "n_recurrences_before": inputs.n_recurrences,
        "exposure_days": inputs.exposure_days,
        "gap_days": inputs.gap_days,
        "n_recurrences_after": inputs.n_recurrences_after,
        "n_residual": inputs.n_residual,
        "broken_by": row.broken_by,
        "broken_at": row.broken_at,
        "was_verified": row.was_verified,
        "judged_at": row.judged_at,
        "rate_drop": None if row.rate_drop is None else msgspec.json.decode(row.rate_drop),
    }
    return msgspec.convert(fields, Proof)


async def proofs_by_pattern(
    gateway: Gateway, workspace_id: str, pattern_ids: Iterable[str]
) -> dict[str, list[_queries.FixesRow]]:
    """The fixes of these patterns, the latest first."""
    ids = sorted(set(pattern_ids))
    found: dict[str, list[_queries.FixesRow]] = {}
    if ids:
        async with tenant(gateway.pool, workspace_id) as conn:
            rows = await _queries.list_fixes(
                conn, workspace_id=workspace_id, pattern_ids=ids, n_most=FIXES_MAX * len(ids)
            )
        for row in rows:
            found.setdefault(row.pattern_id, []).append(row)
    return found


async def prevented_by_fix(gateway: Gateway, workspace_id: str, pattern_id: str) -> dict[str, Prevented]:
    """What each fix of a pattern has prevented, as far as it is credited."""
    now = gateway.resources.clock()
    async with tenant(gateway.pool, workspace_id) as conn:
        counted = await _queries.list_ledger(
            conn, workspace_id=workspace_id, pattern_id=pattern_id, n_most=FIXES_MAX
        )
    return {row.fix_id: _prevented([row], now=now) for row in counted if _is_credited(row)}


async def get_ledger(gateway: Gateway, call: Call[LedgerQuery, None]) -> Ledger:
    """What fixes prevented, in all and each."""
    now = gateway.resources.clock()
    async with tenant(gateway.pool, call.workspace_id) as conn:
        rows = await _queries.list_ledger(
            conn, workspace_id=call.workspace_id, pattern_id=call.query.pattern_id, n_most=LEDGER_MAX
        )
    counted = [row for row in rows if _is_credited(row)]
    return Ledger(
        horizon_days=round(LEDGER_DAYS),
        n_fixes=len(counted),
        n_not_counted=len(rows) - len(counted),
        total=_prevented(counted, now=now),
        entries=tuple(
            msgspec.convert(
                {
                    "fix_id": row.fix_id,
                    "pattern_id": row.pattern_id,
                    "pattern_name": row.pattern_name,
                    "fixed_at": row.fixed_at,
                    "verdict": row.standing,
                    "prevented": _prevented([row], now=now),
                },
                LedgerEntry,
            )
            for row in counted[:ENTRIES_MAX]
        ),
    )


def _is_credited(row: _queries.LedgerRow) -> bool:
    return msgspec.json.decode(row.ledger, type=recommendation.LedgerInputs).is_credited


def _prevented(rows: Sequence[_queries.LedgerRow], *, now: datetime) -> Prevented:
    total = loops([_entry(row) for row in rows], now=now)
    return Prevented(**msgspec.structs.asdict(total))


def _entry(row: _queries.LedgerRow) -> Entry:
    inputs = msgspec.json.decode(row.inputs, type=recommendation.ProofInputs)
    ledger = msgspec.json.decode(row.ledger, type=recommendation.LedgerInputs)
    return Entry(
        shape=inputs.prior_shape + inputs.n_recurrences,
        rate_days=inputs.gap_days + inputs.exposure_days,
        ratio=ledger.ratio,
        ratio_variance=ledger.ratio_variance,
        dispersion=ledger.dispersion,
        fixed_at=row.fixed_at,
        ended_at=row.ended_at,
        n_observed=inputs.n_recurrences_after,
    )


_Read = partial(Operation, tag="Fixes", method="GET", scope="patterns:read")

OPERATIONS: tuple[AnyOperation, ...] = (
    _Read(
        id="getLedger",
        path="/v1/ledger",
        summary="See how many loops fixes have prevented, in all and each.",
        description=(
            "Expected without the fixes, from the rate before them, less what was seen; on fixes that changed nothing "
            "it is 0 on average. How: docs/reference/proof.md."
        ),
        query=LedgerQuery,
        has_past=True,
        replies={200: Ledger},
        handle=get_ledger,
    ),
)
