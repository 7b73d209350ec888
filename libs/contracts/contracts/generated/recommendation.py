"""Events and commands of recommendation.

Generated from proto/causeloop/recommendation/v1 by `causeloop-codegen contracts`; do not edit.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct, field

from contracts.types import Timestamp


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


class InconclusiveReason(StrEnum):
    """Why a proof ended without a verdict.

    bound_reached: The workspace's longest window passed before the confidence was reached.
    superseded: A later fix of the same pattern took over.
    withdrawn: A person took the fix back, or set the pattern to another status.
    """

    BOUND_REACHED = "bound_reached"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"


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
    fit: How well the play's marks fit the pattern, in [0, 1].
    holds_probability: Chance that such a fix holds where it fits: the play's own estimate and this workspace's experience, in [0, 1].
    n_verified: Verified fixes of the same type and effort in this workspace.
    n_broken: Broken fixes of the same type and effort in this workspace.
    alive_probability: Chance that the pattern is still alive, from its forecast over its rate, in [0, 1].
    calibration_ratio: Recurrences seen over those foretold, in this workspace's patterns without a fix.
    """

    fix_holds_probability: float
    expected_recurrences: float
    horizon_days: int
    severity_weight: float
    effort_days: float
    expected_loops_prevented: float
    score: float
    explanation: str
    fit: float
    holds_probability: float
    n_verified: int
    n_broken: int
    alive_probability: float
    calibration_ratio: float


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

    Emitted by recommendation on recommendation/<recommendation_id>. The envelope's time of implemented is when it was.

    recommendation_id: Id of the recommendation.
    pattern_id: The pattern.
    from_status: The status before.
    to_status: The status now.
    reason: Why; may be empty.
    environment: With implemented: environment in which it was; absent: everywhere.
    version: With implemented: first version that has it; absent: not known.
    """

    recommendation_id: str
    pattern_id: str
    from_status: RecommendationStatus
    to_status: RecommendationStatus
    reason: str
    environment: str | None = None
    version: str | None = None


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


class ProofInputs(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The numbers that a proof rests on; the same numbers give the same verdict. Formulas: docs/reference/proof.md.

    prior_shape: Shape of the Gamma prior on the rate.
    gap_days: Rate of the prior in days: the median gap of the workspace's patterns when the proof started.
    n_recurrences: Recurrences before the fix, at least 24 hours apart, in its environment.
    exposure_days: Days from the first failure to the fix.
    level: Confidence wanted by the workspace, in (0.5, 1).
    least_days: Least quiet days wanted by the workspace.
    most_days: Most quiet days waited for by the workspace.
    window_days: Quiet days that the proof takes: those that the level needs, inside the bounds.
    n_recurrences_after: Recurrences within 90 days of the fix, at least 24 hours apart, in its environment and versions.
    n_residual: Failures since the fix in other environments or of older versions.
    model_version: Dated version of the formulas.
    """

    prior_shape: float
    gap_days: float
    n_recurrences: int
    exposure_days: float
    level: float
    least_days: int
    most_days: int
    window_days: float
    n_recurrences_after: int
    n_residual: int
    model_version: str


class LedgerInputs(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the ledger needs to know of a fix: how patterns without one fare.

    is_credited: The pattern was alive when it was fixed; otherwise nothing is credited.
    ratio: Recurrences seen over those foretold, in patterns without a fix.
    ratio_variance: Variance of that ratio, relative to its square.
    dispersion: Scatter of single patterns beyond the model, at least 1.
    n_patterns: Patterns that the three numbers come from.
    """

    is_credited: bool
    ratio: float
    ratio_variance: float
    dispersion: float
    n_patterns: int


class RateDrop(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Exact one-sided test whether a pattern comes back less often than before its fix.

    days_after: Days since the fix.
    p_value: Chance of so few recurrences if nothing had changed, in [0, 1].
    power: Chance that the test sees a rate cut in half, in [0, 1].
    """

    days_after: float
    p_value: float
    power: float


class ProofStarted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pattern was fixed, by a recommendation or by what its closure note says: quiet time counts from now on.

    Emitted by recommendation on fix/<fix_id>. The envelope's time is when it was fixed.

    fix_id: Id of the fix, prefix "fix_".
    pattern_id: The pattern.
    recommendation_ids: The recommendations that were implemented.
    note: What was done, in a person's words; may be empty.
    environment: Environment of the fix; absent: everywhere.
    version: First version with the fix; absent: not known.
    inputs: What the proof rests on.
    ledger: What the ledger rests on.
    """

    fix_id: str
    pattern_id: str
    recommendation_ids: tuple[str, ...] = ()
    note: str
    environment: str | None = None
    version: str | None = None
    inputs: ProofInputs
    ledger: LedgerInputs


class ProofNoted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person said more about a fix that is being proved.

    Emitted by recommendation on fix/<fix_id>.

    fix_id: Id of the fix.
    pattern_id: The pattern.
    note: What was done, in a person's words.
    """

    fix_id: str
    pattern_id: str
    note: str


class ProofReassessed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a fix has changed without a verdict: failures arrived late, elsewhere, or again.

    Emitted by recommendation on fix/<fix_id>.

    fix_id: Id of the fix.
    pattern_id: The pattern.
    inputs: What the proof rests on now.
    rate_drop: The test of the rate, once there are recurrences on either side.
    """

    fix_id: str
    pattern_id: str
    inputs: ProofInputs
    rate_drop: RateDrop | None = None


class FixVerified(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fix held: the pattern stayed quiet for the window.

    Emitted by recommendation on fix/<fix_id>.

    fix_id: Id of the fix.
    pattern_id: The pattern.
    fixed_at: When it was fixed.
    quiet_days: Days without a recurrence.
    confidence: Confidence that the fix holds, in [0, 1).
    inputs: What the verdict rests on.
    """

    fix_id: str
    pattern_id: str
    fixed_at: Timestamp
    quiet_days: float
    confidence: float
    inputs: ProofInputs


class FixBroken(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fix did not hold: the pattern failed again where the fix should have prevented it, even if it had been verified.

    Emitted by recommendation on fix/<fix_id>. The envelope's time is when the pattern failed.

    fix_id: Id of the fix.
    pattern_id: The pattern.
    fixed_at: When it was fixed.
    issue_id: The first failure since then.
    quiet_days: Days without one until then.
    confidence: Confidence that had been reached, in [0, 1).
    was_verified: Whether the fix had been verified.
    inputs: What the verdict rests on.
    """

    fix_id: str
    pattern_id: str
    fixed_at: Timestamp
    issue_id: str
    quiet_days: float
    confidence: float
    was_verified: bool
    inputs: ProofInputs


class FixInconclusive(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A proof ended without a verdict.

    Emitted by recommendation on fix/<fix_id>.

    fix_id: Id of the fix.
    pattern_id: The pattern.
    fixed_at: When it was fixed.
    reason: Why.
    quiet_days: Days without a recurrence.
    confidence: Confidence that was reached, in [0, 1).
    inputs: What the end rests on.
    """

    fix_id: str
    pattern_id: str
    fixed_at: Timestamp
    reason: InconclusiveReason
    quiet_days: float
    confidence: float
    inputs: ProofInputs


class PlayMark(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A value of a fingerprint dimension that speaks for a play.

    dimension: Name of the dimension, such as "component".
    value: Its value, in any case; "*" is any.
    weight: Chance that a pattern with this mark alone has the cause that the play removes, in (0, 1).
    """

    dimension: str
    value: str
    weight: float


class PlayMatches(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What in a pattern speaks for a play, and what rules it out; weights are as of PlayMark.

    terms: Phrases of 1 to 4 words to their weights.
    dimensions: Values of dimensions.
    lacks: Dimensions of which the issues share no value, to their weights.
    recurs: Weight of the mere fact that the pattern keeps coming back.
    excludes: Phrases that rule the play out.
    """

    terms: dict[str, float] = field(default_factory=dict)
    dimensions: tuple[PlayMark, ...] = ()
    lacks: dict[str, float] = field(default_factory=dict)
    recurs: float | None = None
    excludes: tuple[str, ...] = ()


class Play(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A remediation with the marks of the patterns that it is for. The rules are in docs/reference/playbook.md.

    play_id: Lower-case words with hyphens, at most 60 characters.
    title: A few words.
    type: What kind of change.
    effort: How much work.
    holds: Chance that the fix holds where the play fits, in (0, 1).
    matches: The patterns that it is for.
    description: What and why.
    steps: What to do, in order, 3 to 6 steps.
    verification: What would show that it worked.
    """

    play_id: str
    title: str
    type: RecommendationType
    effort: Effort
    holds: float
    matches: PlayMatches
    description: str
    steps: tuple[Step, ...] = ()
    verification: str


class PlayDefined(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A workspace has a play of its own from now on, or another text of it; it replaces a shipped one of the same id.

    Emitted by recommendation on playbook/<workspace_id>.

    workspace_id: Id of the workspace.
    play: The whole play.
    """

    workspace_id: str
    play: Play


class PlayWithdrawn(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A workspace took a play of its own back; a shipped one of the same id is in force again.

    Emitted by recommendation on playbook/<workspace_id>.

    workspace_id: Id of the workspace.
    play_id: The play.
    """

    workspace_id: str
    play_id: str


class RecommendationWithheld(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Nothing is recommended for a pattern, for no play fits it well enough; said again when the best of them changes.

    Emitted by recommendation on abstention/<pattern_id>.

    pattern_id: The pattern.
    best_fit: How well the best play fits, in [0, floor); 0 when nothing in the pattern speaks for any.
    floor: The least fit that is recommended.
    best_play_id: The best play; absent: none.
    best_play_title: Its title.
    playbook_version: Dated version of the playbook.
    """

    pattern_id: str
    best_fit: float
    floor: float
    best_play_id: str | None = None
    best_play_title: str | None = None
    playbook_version: str


class ChangeStatus(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Take up, finish, reopen or dismiss. Endpoint: recommendation.change_status.

    recommendation_id: Id of the recommendation.
    status: The status wanted.
    reason: At most 2,000 characters.
    environment: With implemented: environment in which it was, at most 200 characters; absent: everywhere.
    version: With implemented: first version that has it, at most 200 characters; absent: not known.
    implemented_at: With implemented: when, not in the future; absent: now.
    """

    recommendation_id: str
    status: RecommendationStatus
    reason: str
    environment: str | None = None
    version: str | None = None
    implemented_at: Timestamp | None = None


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


class DefinePlay(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Add a play to the workspace's own, or change it. Endpoint: recommendation.define_play.

    play: The whole play.
    """

    play: Play


class WithdrawPlay(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Take a play of the workspace's own back. Endpoint: recommendation.withdraw_play.

    play_id: The play.
    """

    play_id: str


class PlaybookChanged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to a change of a workspace's own plays.

    play_id: The play.
    is_changed: Whether anything had to be changed.
    sequence: Stream sequence of the last event of the workspace's own plays; 0: there is none.
    """

    play_id: str
    is_changed: bool
    sequence: int


class ReadCatalogue(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Read the plays that every workspace has. Endpoint: recommendation.read_catalogue.

    play_id: Only the play with this id; absent: all.
    """

    play_id: str | None = None


class Catalogue(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The plays that every workspace has: those shipped, and those of the operator's own folder.

    version: Dated version of the playbook.
    plays: By id; of one asked for that or none.
    """

    version: str
    plays: tuple[Play, ...] = ()


Event: TypeAlias = (
    RecommendationMade
    | RecommendationReassessed
    | RecommendationStatusChanged
    | RecommendationStepChecked
    | ProofStarted
    | ProofNoted
    | ProofReassessed
    | FixVerified
    | FixBroken
    | FixInconclusive
    | PlayDefined
    | PlayWithdrawn
    | RecommendationWithheld
)
"""Any event of recommendation."""

AGGREGATES: dict[type[Event], str] = {
    RecommendationMade: "recommendation",
    RecommendationReassessed: "recommendation",
    RecommendationStatusChanged: "recommendation",
    RecommendationStepChecked: "recommendation",
    ProofStarted: "fix",
    ProofNoted: "fix",
    ProofReassessed: "fix",
    FixVerified: "fix",
    FixBroken: "fix",
    FixInconclusive: "fix",
    PlayDefined: "playbook",
    PlayWithdrawn: "playbook",
    RecommendationWithheld: "abstention",
}
"""The type of the aggregate that each event is about."""

ENDPOINTS: dict[type[Struct], str] = {
    ChangeStatus: "recommendation.change_status",
    CheckStep: "recommendation.check_step",
    DefinePlay: "recommendation.define_play",
    WithdrawPlay: "recommendation.withdraw_play",
    ReadCatalogue: "recommendation.read_catalogue",
}
"""The endpoint that answers each request."""
