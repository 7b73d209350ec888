"""What was tried against a pattern, and what came of it: one call instead of its whole history."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from contracts import Event, Recorded, pattern
from contracts.generated.pattern import PatternStatus
from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway import _queries
from services.gateway.routes.membership import Decider, decider
from services.gateway.routes.operation import AnyOperation, Call, Gateway, NoQuery, Operation
from services.gateway.routes.pages import read_one
from services.gateway.routes.patterns import LISTING
from services.gateway.routes.proofs import Prevented, Proof, prevented_by_fix, proofs_by_pattern, shown_proof

_SECONDS_PER_DAY: Final = 86_400.0

Outcome = Literal["watching", "held", "recurred", "reopened", "replaced"]


class Fix(Struct, frozen=True, kw_only=True):
    """A time in which a pattern was watched because something had been done about it."""

    pattern_id: Annotated[str, Meta(description="This pattern, or one that was merged into it.")]
    note: Annotated[str | None, Meta(description="What was done, as a person wrote it; null: see reason.")]
    reason: str
    started_by: Decider
    started_at: datetime
    outcome: Annotated[
        Outcome,
        Meta(
            description="watching: nothing yet. held: it stayed quiet and was resolved. recurred: it happened again,"
            " even after it was resolved. reopened: a person did not wait, or withdrew it. replaced: something else was done meanwhile."
        ),
    ]
    because: Annotated[str | None, Meta(description="Why it ended so; null: it has not.")]
    ended_at: datetime | None
    quiet_days: Annotated[
        float | None, Meta(description="From its start to its end; null: it has not ended.")
    ]
    proof: Annotated[
        Proof | None, Meta(description="Whether it holds; null in the moment before it is weighed.")
    ] = None
    prevented: Annotated[
        Prevented | None,
        Meta(description="Null when the pattern had ended before, or the fix was withdrawn."),
    ] = None


class Tried(Struct, frozen=True, kw_only=True):
    """A recommendation that somebody has taken up, finished or turned down."""

    id: str
    pattern_id: str
    title: str
    type: str
    effort: str
    status: Literal["in_progress", "implemented", "dismissed"]
    note: Annotated[str, Meta(description="What was said when the status changed.")]
    verification: Annotated[str, Meta(description="What would show that it works.")]
    created_at: datetime
    updated_at: datetime


class Fixes(Struct, frozen=True, kw_only=True):
    """Everything that was tried against a pattern, the latest first."""

    pattern_id: str
    fixes: tuple[Fix, ...]
    recommendations: tuple[Tried, ...]


async def list_fixes(gateway: Gateway, call: Call[NoQuery, None]) -> Fixes:
    """What was tried against a pattern and against those that were merged into it."""
    pattern_id, space = call.path["pattern_id"], call.workspace_id
    await read_one(gateway, space, LISTING, pattern_id)
    async with tenant(gateway.pool, space) as conn:
        merged = await _queries.list_merged_into(conn, workspace_id=space, pattern_id=pattern_id)
        ids = [pattern_id, *(row.pattern_id for row in merged)]
        rows = await _queries.list_tried(conn, workspace_id=space, pattern_ids=ids)
    histories = await gateway.resources.event_log.histories(space, "pattern", ids)
    fixes = [
        fix
        for each, history in zip(ids, histories, strict=True)
        for fix in await _weighed(gateway, space, each, fixes_in(history))
    ]
    return Fixes(
        pattern_id=pattern_id,
        fixes=tuple(sorted(fixes, key=lambda fix: fix.started_at, reverse=True)),
        recommendations=tuple(_tried(row) for row in rows),
    )


async def _weighed(gateway: Gateway, workspace_id: str, pattern_id: str, fixes: list[Fix]) -> list[Fix]:
    """The same with their proofs, which are known by when the fix was made."""
    rows = (await proofs_by_pattern(gateway, workspace_id, [pattern_id])).get(pattern_id, []) if fixes else []
    prevented = await prevented_by_fix(gateway, workspace_id, pattern_id) if rows else {}
    by_time = {row.fixed_at: row for row in reversed(rows)}
    now = gateway.resources.clock()
    return [
        msgspec.structs.replace(fix, proof=shown_proof(row, now=now), prevented=prevented.get(row.fix_id))
        if (row := by_time.get(fix.started_at)) is not None
        else fix
        for fix in fixes
    ]


def fixes_in(history: Sequence[Recorded[Event]]) -> list[Fix]:
    """The fixes that a pattern's own events tell of, oldest first.

    A resolved fix has held until the pattern moves again; when that is a recurrence, it has not.
    """
    fixes: list[Fix] = []
    for event in history:
        data = event.data
        if not isinstance(data, pattern.PatternStatusChanged):
            continue
        is_watched = bool(fixes) and fixes[-1].outcome == "watching"
        if is_watched and data.to_status is PatternStatus.WATCHING and event.time == fixes[-1].started_at:
            # A note on the fix that is being watched, not another one.
            fixes[-1] = msgspec.structs.replace(fixes[-1], note=data.closure_note or fixes[-1].note)
            continue
        if fixes and fixes[-1].outcome == "watching" and event.time == fixes[-1].started_at:
            # A note on the fix that is watched already.
            fixes[-1] = msgspec.structs.replace(fixes[-1], note=data.closure_note or fixes[-1].note)
            continue
        if fixes and fixes[-1].outcome in ("watching", "held"):
            fixes[-1] = _ended(fixes[-1], event, data)
        if data.to_status is PatternStatus.WATCHING:
            fixes.append(
                Fix(
                    pattern_id=data.pattern_id,
                    note=data.closure_note,
                    reason=data.reason,
                    started_by=decider(event.actor),
                    started_at=event.time,
                    outcome="watching",
                    because=None,
                    ended_at=None,
                    quiet_days=None,
                )
            )
    return fixes


def _ended(fix: Fix, event: Recorded[Event], data: pattern.PatternStatusChanged) -> Fix:
    match data.to_status:
        case PatternStatus.RESOLVED:
            outcome: Outcome = "held"
        case PatternStatus.WATCHING:
            outcome = "replaced"
        case PatternStatus.MERGED:
            # The pattern that remains goes on from here; this fix was neither broken nor proved.
            return fix
        case _:
            # Only the reason tells a fix that was taken back from one that was broken.
            is_broken = event.actor is None and "withdrawn" not in data.reason
            outcome = "recurred" if is_broken else "reopened"
    quiet = (event.time - fix.started_at).total_seconds() / _SECONDS_PER_DAY
    return msgspec.structs.replace(
        fix,
        outcome=outcome,
        because=data.reason,
        ended_at=event.time,
        quiet_days=round(max(0.0, quiet), 2),
    )


def _tried(row: _queries.TriedRecommendation) -> Tried:
    fields = msgspec.structs.asdict(row)
    return msgspec.convert({**fields, "id": row.recommendation_id, "note": row.status_reason}, Tried)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="listPatternFixes",
        method="GET",
        path="/v1/patterns/{pattern_id}/fixes",
        tag="Patterns",
        summary="See what was tried against a pattern, with notes and what came of it.",
        description="From the log itself, with what was tried against patterns that were merged into it.",
        scope="patterns:read",
        replies={200: Fixes},
        handle=list_fixes,
    ),
)
