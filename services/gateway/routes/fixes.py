"""What was tried against a pattern, and what came of it: one call instead of its whole history."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
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

_MOVES_MAX: Final = 1_000
"""Moves that are looked at, the latest ones; a pattern has few in a year."""

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
        moves = await _queries.list_pattern_moves(conn, workspace_id=space, pattern_ids=ids, n=_MOVES_MAX)
    by_pattern: dict[str, list[_queries.PatternMove]] = {}
    for move in reversed(moves):
        by_pattern.setdefault(move.pattern_id, []).append(move)
    fixes = [
        fix
        for each, moved in by_pattern.items()
        for fix in await _weighed(gateway, space, each, fixes_in(moved))
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


def fixes_in(moves: Sequence[_queries.PatternMove]) -> list[Fix]:
    """The fixes that a pattern's moves tell of, oldest first as the moves are.

    A resolved fix has held until the pattern moves again; when that is a recurrence, it has not.
    """
    fixes: list[Fix] = []
    for move in moves:
        is_watching = move.to_status == PatternStatus.WATCHING.value
        is_watched = bool(fixes) and fixes[-1].outcome == "watching"
        if is_watched and is_watching and move.moved_at == fixes[-1].started_at:
            # A note on the fix that is being watched, not another one.
            fixes[-1] = msgspec.structs.replace(fixes[-1], note=move.closure_note or fixes[-1].note)
            continue
        if fixes and fixes[-1].outcome in ("watching", "held"):
            fixes[-1] = _ended(fixes[-1], move)
        if is_watching:
            fixes.append(
                Fix(
                    pattern_id=move.pattern_id,
                    note=move.closure_note,
                    reason=move.reason,
                    started_by=decider(move.moved_by),
                    started_at=move.moved_at,
                    outcome="watching",
                    because=None,
                    ended_at=None,
                    quiet_days=None,
                )
            )
    return fixes


def _ended(fix: Fix, move: _queries.PatternMove) -> Fix:
    match PatternStatus(move.to_status):
        case PatternStatus.RESOLVED:
            outcome: Outcome = "held"
        case PatternStatus.WATCHING:
            outcome = "replaced"
        case PatternStatus.MERGED:
            # The pattern that remains goes on from here; this fix was neither broken nor proved.
            return fix
        case _:
            # Only the reason tells a fix that was taken back from one that was broken.
            is_broken = move.moved_by is None and "withdrawn" not in move.reason
            outcome = "recurred" if is_broken else "reopened"
    quiet = (move.moved_at - fix.started_at).total_seconds() / _SECONDS_PER_DAY
    return msgspec.structs.replace(
        fix,
        outcome=outcome,
        because=move.reason,
        ended_at=move.moved_at,
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
        description="With what was tried against patterns that were merged into it; of the latest 1,000 moves.",
        scope="patterns:read",
        replies={200: Fixes},
        handle=list_fixes,
    ),
)
