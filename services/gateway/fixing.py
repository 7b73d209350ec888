"""Events of fixes → rows: what was done about patterns, and how the proof of it stands."""

from typing import TypeAlias, assert_never

import msgspec
from contracts import Event, Recorded, recommendation

Row: TypeAlias = dict[str, object]
RecommendationEvent: TypeAlias = (
    recommendation.RecommendationMade
    | recommendation.RecommendationReassessed
    | recommendation.RecommendationStatusChanged
    | recommendation.RecommendationStepChecked
)
FixChange: TypeAlias = (
    recommendation.ProofNoted
    | recommendation.ProofReassessed
    | recommendation.FixVerified
    | recommendation.FixBroken
    | recommendation.FixInconclusive
)
FixEvent: TypeAlias = recommendation.ProofStarted | FixChange


def fix_row(event: Recorded[Event], data: recommendation.ProofStarted) -> Row:
    """The row of a fix whose proof starts."""
    return {
        "workspace_id": event.workspace_id,
        "fix_id": data.fix_id,
        "seq": event.seq,
        "pattern_id": data.pattern_id,
        "recommendation_ids": _json(data.recommendation_ids),
        "note": data.note,
        "environment": data.environment,
        "version": data.version,
        "fixed_at": event.time,
        "standing": "proving",
        "was_verified": False,
        "inputs": _json(data.inputs),
        "ledger": _json(data.ledger),
        "updated_at": event.recorded_at,
    }


def fix_change(event: Recorded[Event], data: FixChange) -> Row:
    """What a later event changes of it."""
    change: Row = {"updated_at": event.recorded_at}
    match data:
        case recommendation.ProofNoted():
            change["note"] = data.note
        case recommendation.ProofReassessed():
            change["inputs"] = _json(data.inputs)
            if data.rate_drop is not None:
                change["rate_drop"] = _json(data.rate_drop)
        case recommendation.FixVerified():
            change |= _verdict(event, data, standing="verified")
        case recommendation.FixBroken():
            change |= _verdict(event, data, standing="broken")
            change |= {
                "broken_by": data.issue_id,
                "broken_at": event.time,
                "was_verified": data.was_verified,
            }
        case recommendation.FixInconclusive():
            change |= _verdict(event, data, standing="inconclusive")
            change["ended_as"] = data.reason
        case never:
            assert_never(never)
    return change


def _verdict(
    event: Recorded[Event],
    data: recommendation.FixVerified | recommendation.FixBroken | recommendation.FixInconclusive,
    *,
    standing: str,
) -> Row:
    return {
        "standing": standing,
        "ended_as": None,
        "judged_at": event.recorded_at,
        "quiet_days": data.quiet_days,
        "confidence": data.confidence,
        "inputs": _json(data.inputs),
    }


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
