"""Decisions, all pure: on recommendations, on what is recommended, on fixes, and on a workspace's own plays."""

from services.recommendation.commands.playbooks import (
    checked_play,
    define_play,
    play_of,
    sent_play,
    withdraw_play,
)
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
    withhold,
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
    "checked_play",
    "define_play",
    "is_new_fix",
    "play_of",
    "prove",
    "reassess",
    "recommend",
    "records_by_kind",
    "retire",
    "sent_play",
    "terms_of",
    "withdraw_play",
    "withhold",
]
