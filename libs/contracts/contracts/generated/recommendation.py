"""Events and commands of recommendation.

Generated from proto/causeloop/recommendation/v1 by `causeloop-codegen contracts`; do not edit.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct


class RecommendationType(StrEnum):
    """What kind of change a remediation is.

    code_fix: A change of the program.
    config_change: A change of its configuration.
    process: A change of how people work.
    monitoring: A change of what is watched.
    """

    CODE_FIX = "code_fix"
    CONFIG_CHANGE = "config_change"
    PROCESS = "process"
    MONITORING = "monitoring"


class RecommendationStatus(StrEnum):
    """Where a recommendation stands.

    pending: Nobody has taken it up.
    in_progress: Somebody is on it.
    implemented: Done.
    dismissed: Not wanted.
    """

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    IMPLEMENTED = "implemented"
    DISMISSED = "dismissed"


class Effort(StrEnum):
    """How much work a remediation is.

    low: Within a day.
    medium: Within a week.
    high: Longer.
    """

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class RecommendationImpact(StrEnum):
    """What a remediation is worth.

    high: Prevents much, costs much.
    medium: In between.
    quick_win: Prevents much, costs little.
    """

    HIGH = "high"
    MEDIUM = "medium"
    QUICK_WIN = "quick_win"


class Step(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a remediation.

    title: A few words.
    description: How to do it.
    """

    title: str
    description: str


class Arithmetic(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the score came about: score = expected_loops_prevented * severity_weight / effort_days.

    fix_holds_probability: Chance that the fix holds, in [0, 1].
    expected_recurrences: Recurrences expected within the horizon if nothing is done.
    horizon_days: Horizon in days.
    severity_weight: Weight of the pattern's severity, 1 to 8.
    effort_days: Effort in days of work.
    expected_loops_prevented: fix_holds_probability * expected_recurrences.
    score: What recommendations are ranked by, highest first.
    explanation: The whole in a sentence, with its numbers.
    """

    fix_holds_probability: float
    expected_recurrences: float
    horizon_days: int
    severity_weight: float
    effort_days: float
    expected_loops_prevented: float
    score: float
    explanation: str


class RecommendationMade(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A remediation was drawn from the playbook for a pattern.

    Emitted by recommendation on recommendation/<recommendation_id>.

    recommendation_id: Id of the recommendation, prefix "rec_".
    pattern_id: The pattern.
    play_id: Entry of the playbook.
    playbook_version: Dated version of the playbook.
    title: A few words.
    description: What and why.
    type: What kind of change.
    effort: How much work.
    impact: What it is worth.
    steps: What to do, in order.
    verification: What would show that it worked.
    evidence: Why this entry fits this pattern, fact by fact.
    arithmetic: How its score came about.
    """

    recommendation_id: str
    pattern_id: str
    play_id: str
    playbook_version: str
    title: str
    description: str
    type: RecommendationType
    effort: Effort
    impact: RecommendationImpact
    steps: tuple[Step, ...] = ()
    verification: str
    evidence: tuple[str, ...] = ()
    arithmetic: Arithmetic


class RecommendationReassessed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The pattern changed, and with it the worth of a recommendation.

    Emitted by recommendation on recommendation/<recommendation_id>.

    recommendation_id: Id of the recommendation.
    impact: What it is worth now.
    arithmetic: How its score comes about now.
    pattern_id: The pattern.
    """

    recommendation_id: str
    impact: RecommendationImpact
    arithmetic: Arithmetic
    pattern_id: str


class RecommendationStatusChanged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody took a recommendation up, finished it or dismissed it.

    Emitted by recommendation on recommendation/<recommendation_id>.

    recommendation_id: Id of the recommendation.
    pattern_id: The pattern.
    from_status: The status before.
    to_status: The status now.
    reason: Why; may be empty.
    """

    recommendation_id: str
    pattern_id: str
    from_status: RecommendationStatus
    to_status: RecommendationStatus
    reason: str


class RecommendationStepChecked(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody ticked a step, or took the tick back.

    Emitted by recommendation on recommendation/<recommendation_id>.

    recommendation_id: Id of the recommendation.
    step_index: Position in steps, from 0.
    is_done: Whether it is done.
    """

    recommendation_id: str
    step_index: int
    is_done: bool


class ChangeStatus(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Take up, finish, reopen or dismiss. Endpoint: recommendation.change_status.

    recommendation_id: Id of the recommendation.
    status: The status wanted.
    reason: At most 2,000 characters.
    """

    recommendation_id: str
    status: RecommendationStatus
    reason: str


class CheckStep(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Tick a step, or take the tick back. Endpoint: recommendation.check_step.

    recommendation_id: Id of the recommendation.
    step_index: Position in steps, from 0.
    is_done: Whether it is done.
    """

    recommendation_id: str
    step_index: int
    is_done: bool


class RecommendationChanged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to every command on recommendations.

    recommendation_id: Id of the recommendation.
    status: Its status now.
    sequence: Stream sequence of the recommendation's last event.
    """

    recommendation_id: str
    status: RecommendationStatus
    sequence: int


Event: TypeAlias = (
    RecommendationMade
    | RecommendationReassessed
    | RecommendationStatusChanged
    | RecommendationStepChecked
)
"""Any event of recommendation."""

AGGREGATES: dict[type[Event], str] = {
    RecommendationMade: "recommendation",
    RecommendationReassessed: "recommendation",
    RecommendationStatusChanged: "recommendation",
    RecommendationStepChecked: "recommendation",
}
"""The type of the aggregate that each event is about."""

ENDPOINTS: dict[type[Struct], str] = {
    ChangeStatus: "recommendation.change_status",
    CheckStep: "recommendation.check_step",
}
"""The endpoint that answers each request."""
