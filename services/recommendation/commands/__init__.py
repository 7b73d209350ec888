"""Decisions, all pure: what a person may do with a recommendation, what is recommended, and how fixes stand."""

from services.recommendation.commands.proving import Case, DecidedFix, is_new_fix, prove, terms_of
from services.recommendation.commands.recommending import (
    ALLOWED_MOVES,
    COMMANDS,
    DEFAULT_CONFIDENCE_THRESHOLD,
    REASON_MAX,
    Kind,
    Situation,
    change_status,
    check_step,
    reassess,
    recommend,
    records_by_kind,
    retire,
)

__all__ = [
    "ALLOWED_MOVES",
    "COMMANDS",
    "DEFAULT_CONFIDENCE_THRESHOLD",
    "REASON_MAX",
    "Case",
    "DecidedFix",
    "Kind",
    "Situation",
    "change_status",
    "check_step",
    "is_new_fix",
    "prove",
    "reassess",
    "recommend",
    "records_by_kind",
    "retire",
    "terms_of",
]
