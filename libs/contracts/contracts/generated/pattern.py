"""Events and commands of pattern.

Generated from proto/causeloop/pattern/v1 by `causeloop-codegen contracts`; do not edit.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from contracts.generated import ingest
from contracts.types import Timestamp


class PatternStatus(StrEnum):
    """Where a pattern stands.

    candidate: Too few issues to show; kept so that the next one finds it.
    emerging: Reached the minimum cluster size.
    active: Recurs.
    mitigating: A fix is being worked on.
    watching: It was fixed, and the proof of that runs.
    resolved: Its fix is verified.
    merged: Its issues moved into another pattern.
    """

    CANDIDATE = "candidate"
    EMERGING = "emerging"
    ACTIVE = "active"
    MITIGATING = "mitigating"
    WATCHING = "watching"
    RESOLVED = "resolved"
    MERGED = "merged"


class LinkMethod(StrEnum):
    """How an issue came to a pattern.

    seed: It is the pattern's first issue.
    exact_key: Same masked title and service as an earlier member.
    text_similarity: Text similar enough to an earlier member.
    dimension_key: No usable text; same dimensions as an earlier member.
    human: A person decided it.
    """

    SEED = "seed"
    EXACT_KEY = "exact_key"
    TEXT_SIMILARITY = "text_similarity"
    DIMENSION_KEY = "dimension_key"
    HUMAN = "human"


class ConstraintKind(StrEnum):
    """What a person has decided about an issue and a pattern.

    must_link: Must be a member.
    cannot_link: Must never be a member.
    """

    MUST_LINK = "must_link"
    CANNOT_LINK = "cannot_link"


class Side(StrEnum):
    """Which of two decisions that contradict each other.

    earlier: The one that was there.
    later: The one that overruled it.
    """

    EARLIER = "earlier"
    LATER = "later"


class NothingSimilar(StrEnum):
    """Why nothing is similar.

    alone: The workspace has no other issue.
    no_text: The issue has no text to compare, and none has the same dimensions.
    below_threshold: The nearest issue is less alike than what counts.
    """

    ALONE = "alone"
    NO_TEXT = "no_text"
    BELOW_THRESHOLD = "below_threshold"


class Link(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One issue's membership of a pattern, with its reasons.

    issue_id: Id of the issue.
    score: Certainty of the membership in [0, 1].
    method: How it was found.
    method_version: Dated version of the method, such as "exact-key@2026-11-22".
    matched_dimensions: Dimensions on which the issue agrees with the pattern, such as "service".
    grouping_key: Digest of the issue's masked title and service; equal keys are the same failure.
    occurred_at: When the failure happened at its source.
    severity: Severity of the issue when it was linked.
    environment: Deployment environment of the issue when it was linked.
    version: Version in which it failed, when it was linked.
    """

    issue_id: str
    score: float
    method: LinkMethod
    method_version: str
    matched_dimensions: tuple[str, ...] = ()
    grouping_key: str
    occurred_at: Timestamp
    severity: ingest.Severity
    environment: str | None = None
    version: str | None = None


class Assessment(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a pattern after an event.

    issue_count: Number of member issues.
    risk_score: Urgency in [0, 100]; the formula is in docs/reference/risk-score.md.
    confidence: Certainty that the members share one cause, in [0, 1].
    first_seen_at: Earliest event time of a member.
    last_seen_at: Latest event time of a member.
    mttr_seconds: Mean time from the first failure of an episode to its repair, in seconds; absent while no episode was repaired.
    """

    issue_count: int
    risk_score: float
    confidence: float
    first_seen_at: Timestamp
    last_seen_at: Timestamp
    mttr_seconds: float | None = None


class FingerprintDimension(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A value that members of a pattern share.

    name: service, component, error_type, environment, team, source, hour_of_day or day_of_week.
    value: The most common value.
    share: Share of the members that have it, in (0, 1].
    lift: That share divided by the share of all grouped issues of the workspace that have it; 1 says nothing special.
    """

    name: str
    value: str
    share: float
    lift: float | None = None


class Suggestion(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pattern that an issue may belong to, not surely enough to put it there.

    suggestion_id: Id of the suggestion, prefix "sug_"; derived from the issue and the pattern.
    pattern_id: The pattern suggested.
    score: Probability that the issue belongs to it, in [0, 1].
    method: How it was found.
    method_version: Dated version of the method, such as "linker@2026-11-22".
    matched_dimensions: Dimensions on which the issue agrees with the pattern, such as "service".
    """

    suggestion_id: str
    pattern_id: str
    score: float
    method: LinkMethod
    method_version: str
    matched_dimensions: tuple[str, ...] = ()


class Ruling(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person's decision about a grouping key and a pattern.

    pattern_id: The pattern that it was about.
    kind: Must or cannot.
    issue_id: The issue that it was about; absent: a whole pattern was merged.
    merged_pattern_id: The pattern that was merged into it, where that was the decision.
    decided_by: Who decided, a person's or a service account's id; absent: the actor of the event that holds this.
    decided_at: When it was decided; absent: at the time of the event that holds this.
    """

    pattern_id: str
    kind: ConstraintKind
    issue_id: str | None = None
    merged_pattern_id: str | None = None
    decided_by: str | None = None
    decided_at: Timestamp | None = None


class IssuesLinked(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Issues joined a pattern; those of one batch come as one event.

    The first such event of a pattern makes it a candidate.
    Emitted by pattern on pattern/<pattern_id>.

    pattern_id: Id of the pattern, prefix "pat_".
    links: The new members, in their order in the log.
    assessment: The pattern with them.
    exemplar: Masked text that stands for the first link's issue; later issues are compared with it.
    """

    pattern_id: str
    links: tuple[Link, ...] = ()
    assessment: Assessment
    exemplar: str | None = None


class PatternDetected(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A candidate reached the minimum cluster size and is shown from now on, as emerging.

    Emitted by pattern on pattern/<pattern_id>.

    pattern_id: Id of the pattern.
    name: Name for people, 1 to 200 characters.
    fingerprint: What the members share, most telling first.
    assessment: The pattern at its detection.
    """

    pattern_id: str
    name: str
    fingerprint: tuple[FingerprintDimension, ...] = ()
    assessment: Assessment


class PatternDescribed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pattern was described anew after it had grown, or renamed by a person.

    Emitted by pattern on pattern/<pattern_id>.

    pattern_id: Id of the pattern.
    name: Its name now.
    fingerprint: What the members share now.
    assessment: The pattern now.
    """

    pattern_id: str
    name: str
    fingerprint: tuple[FingerprintDimension, ...] = ()
    assessment: Assessment


class PatternStatusChanged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pattern moved to another status.

    Emitted by pattern on pattern/<pattern_id>. The envelope's time of a move to watching is when it was fixed.

    pattern_id: Id of the pattern.
    from_status: The status before.
    to_status: The status now.
    reason: The rule or the person's reason, in a sentence.
    closure_note: What was done about it, when a person closed the pattern.
    fix_environment: Environment in which it was fixed; absent: everywhere.
    fix_version: First version with the fix; absent: not known.
    heard_sequence: Sequence of the last recommendation or verdict that the rule had heard of; what came behind it is still to be
    followed, even when it is in the log before this event. Absent: a person's move, or one of nothing heard.
    """

    pattern_id: str
    from_status: PatternStatus
    to_status: PatternStatus
    reason: str
    closure_note: str | None = None
    fix_environment: str | None = None
    fix_version: str | None = None
    heard_sequence: int | None = None


class IssueUnlinked(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person or a correction took an issue out of a pattern.

    Emitted by pattern on pattern/<pattern_id>.

    pattern_id: Id of the pattern.
    issue_id: Id of the issue.
    assessment: The pattern without it.
    """

    pattern_id: str
    issue_id: str
    assessment: Assessment


class LinkConstrained(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person's decision that every later grouping obeys.

    Emitted by pattern on pattern/<pattern_id>.

    pattern_id: Id of the pattern.
    issue_id: Id of the issue that the decision was about.
    kind: Must or cannot.
    grouping_key: Grouping key of that issue: later issues with it follow the decision.
    """

    pattern_id: str
    issue_id: str
    kind: ConstraintKind
    grouping_key: str


class PatternsMerged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All members of one pattern moved into another, for good: later issues follow.

    Emitted by pattern on pattern/<target_pattern_id>; the source gets a PatternStatusChanged in the same batch.

    target_pattern_id: The pattern that remains.
    source_pattern_id: The pattern that ended.
    assessment: The target with all members.
    """

    target_pattern_id: str
    source_pattern_id: str
    assessment: Assessment


class PatternSplit(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Some members left a pattern for a new one, for good: later issues like them follow.

    Emitted by pattern on pattern/<pattern_id>; the new pattern gets IssuesLinked and PatternDetected in the same batch.

    pattern_id: The pattern that they left.
    new_pattern_id: The pattern that they form.
    issue_ids: The issues that moved.
    assessment: The old pattern without them.
    """

    pattern_id: str
    new_pattern_id: str
    issue_ids: tuple[str, ...] = ()
    assessment: Assessment


class LinkSuggested(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An issue began a pattern of its own although it may belong to others; it stays there until a person decides.

    LinkConstrained on that issue and a suggested pattern is the answer: must accepts, cannot rejects.
    Emitted by pattern on pattern/<pattern_id>.

    pattern_id: The pattern that the issue began.
    issue_id: Id of the issue.
    suggestions: Most probable first, 1 to 3; none that a person forbade.
    """

    pattern_id: str
    issue_id: str
    suggestions: tuple[Suggestion, ...] = ()


class DecisionsContradicted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person's decision overruled an earlier one that was about another issue with the same grouping key.

    Later issues with that key obey the later decision until somebody answers which one is right.
    Emitted by pattern on pattern/<pattern_id>.

    contradiction_id: Id of the contradiction, prefix "ctr_".
    pattern_id: The pattern of the later decision.
    grouping_key: What both decisions are about: issues with this key.
    earlier: The decision that was there.
    later: The decision that overruled it.
    """

    contradiction_id: str
    pattern_id: str
    grouping_key: str
    earlier: Ruling
    later: Ruling


class ContradictionAnswered(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person chose between two decisions that contradict each other; for the earlier one a LinkConstrained follows.

    Issues that are members already stay where people put them.
    Emitted by pattern on pattern/<pattern_id>.

    contradiction_id: Id of the contradiction.
    pattern_id: The pattern of the later decision.
    keep: The decision that later issues obey.
    """

    contradiction_id: str
    pattern_id: str
    keep: Side


class RelationReason(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why two patterns hang together, or a whole cluster.

    kind: co_occurrence, service, component, error_type, team or environment.
    value: The shared value; empty for co_occurrence.
    n: Of a relation: hours in which both failed, or patterns that have the value. Of a cluster: relations with this reason.
    weight: What it adds to the weight, above 0.
    """

    kind: str
    value: str
    n: int
    weight: float


class PatternRelation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Two patterns that hang together.

    pattern_id: The one with the lower id.
    other_pattern_id: The other one.
    weight: Sum of the reasons' weights.
    reasons: Why, the weightiest first.
    """

    pattern_id: str
    other_pattern_id: str
    weight: float
    reasons: tuple[RelationReason, ...] = ()


class PatternCluster(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Patterns that hang together more with each other than with the rest.

    cluster_id: Id of the cluster, prefix "clu_"; the same in later clusterings while most of its patterns stay together.
    name: What they share, for people; 1 to 200 characters.
    pattern_ids: Its patterns, at least two, ascending.
    reasons: What holds it together, the weightiest first, at most 5.
    """

    cluster_id: str
    name: str
    pattern_ids: tuple[str, ...] = ()
    reasons: tuple[RelationReason, ...] = ()


class ClustersComputed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The patterns of a workspace were clustered anew; this takes the place of every earlier clustering.

    Emitted by pattern on clustering/<workspace_id>.

    workspace_id: The workspace.
    run_id: Id of this clustering, prefix "run_"; whoever asked for it was told.
    clusters: Every cluster.
    relations: The relations that are kept, at most 5,000.
    n_patterns: Patterns that were looked at.
    n_left_out: Relations that were too weak or too many to keep.
    method_version: Dated version of the method, such as "louvain@2026-11-22".
    """

    workspace_id: str
    run_id: str
    clusters: tuple[PatternCluster, ...] = ()
    relations: tuple[PatternRelation, ...] = ()
    n_patterns: int
    n_left_out: int
    method_version: str


class Linker(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The numbers of a learned linker, which says how probably two reports of people are one failure.

    version: Its dated version, such as "linker@2026-11-22.2"; memberships that it makes carry it.
    features: What it knows of two reports, in the order of the weights.
    weights: What each feature counts.
    intercept: What is added to every sum.
    prior_share: Share of texts that repeat an earlier one where nothing is known, in (0, 1).
    prior_texts: How many texts that share counts for.
    prior_gain: How much of the distance of logits is added for a workspace whose texts repeat more or less often.
    least_shift: Least that is added for that.
    most_shift: Most that is added for that.
    """

    version: str
    features: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    intercept: float
    prior_share: float
    prior_texts: float
    prior_gain: float
    least_shift: float
    most_shift: float


class GroupingVersionFitted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A linker was fitted for a workspace from what its people decided. It groups nothing before somebody activates it.

    Emitted by pattern on grouping/<workspace_id>. The envelope's time is when the decisions were read.

    workspace_id: The workspace.
    version_id: Id of the version, prefix "gvr_".
    number: Which fit of the workspace it is, from 1.
    linker: What was fitted.
    shipped: The shipped linker that it was drawn to.
    n_decisions: Issues and patterns that people decided about.
    n_joining: How many of these belong together.
    shipped_loss: Mean log loss of the shipped linker per decision, in nats.
    loss: The same of linkers fitted without the decision.
    is_better: Whether that is less; otherwise the version is rejected and cannot be activated.
    """

    workspace_id: str
    version_id: str
    number: int
    linker: Linker
    shipped: Linker
    n_decisions: int
    n_joining: int
    shipped_loss: float
    loss: float
    is_better: bool


class GroupingMove(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An issue that a version would have put elsewhere when it arrived; it stays where it is.

    issue_id: Id of the issue.
    pattern_id: The pattern that it is in now; absent: a person took it out.
    from_pattern_id: Where the version in use puts it; absent: into a new pattern.
    to_pattern_id: Where the other version puts it; absent: into a new pattern.
    from_score: How sure the version in use is, in [0, 1], of its pattern or, where it has none, of the other version's; absent: less than what is suggested.
    to_score: How sure the other version is of its pattern or, where it has none, of the one of the version in use.
    """

    issue_id: str
    pattern_id: str | None = None
    from_pattern_id: str | None = None
    to_pattern_id: str | None = None
    from_score: float | None = None
    to_score: float | None = None


class GroupingVersionCompared(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """It was found out what a version would have moved of the latest reports of people.

    Emitted by pattern on grouping/<workspace_id>.

    workspace_id: The workspace.
    run_id: Id of this comparison, prefix "run_"; whoever asked for it was told.
    version_id: Id of the version; "shipped": the one that comes with the build.
    version: Its dated version.
    base_version_id: Id of the version that was in use.
    base_version: The dated version of that one.
    n_texts: Texts that were read, at most 10,000.
    n_asked: The latest of them, at most 2,000, which both versions were asked about.
    n_decided: Of these, settled by a person's decision or a known key.
    n_moved: Of these, decided differently.
    n_joining: Moved into a pattern instead of beginning one.
    n_leaving: Beginning a pattern instead of joining one.
    moves: What moves, the latest first, at most 500.
    """

    workspace_id: str
    run_id: str
    version_id: str
    version: str
    base_version_id: str
    base_version: str
    n_texts: int
    n_asked: int
    n_decided: int
    n_moved: int
    n_joining: int
    n_leaving: int
    moves: tuple[GroupingMove, ...] = ()


class GroupingVersionActivated(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """From now on new issues of a workspace are grouped by this version; those that have a pattern stay in it.

    Emitted by pattern on grouping/<workspace_id>, by a person's command only.

    workspace_id: The workspace.
    version_id: Id of the version; "shipped": the one that comes with the build.
    version: Its dated version.
    previous_version_id: Id of the version that was in use.
    linker: Its numbers; absent: those that come with the build.
    """

    workspace_id: str
    version_id: str
    version: str
    previous_version_id: str
    linker: Linker | None = None


class LinkIssue(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Put an issue into a pattern by hand. Endpoint: pattern.link_issue.

    pattern_id: Id of the pattern.
    issue_id: Id of the issue.
    """

    pattern_id: str
    issue_id: str


class UnlinkIssue(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Take an issue out of its pattern by hand. Endpoint: pattern.unlink_issue.

    pattern_id: Id of the pattern; absent: whichever it is in.
    issue_id: Id of the issue.
    """

    pattern_id: str | None = None
    issue_id: str


class MergePatterns(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Move all members of one pattern into another. Endpoint: pattern.merge_patterns.

    target_pattern_id: The pattern that remains.
    source_pattern_id: The pattern that ends.
    """

    target_pattern_id: str
    source_pattern_id: str


class SplitPattern(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Move some members into a new pattern. Endpoint: pattern.split_pattern.

    pattern_id: The pattern that they leave.
    issue_ids: 1 to 500 of its members, not all of them.
    name: Name of the new pattern; absent: from its issues.
    """

    pattern_id: str
    issue_ids: tuple[str, ...] = ()
    name: str | None = None


class UpdatePattern(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Rename a pattern or move it to another status. Endpoint: pattern.update_pattern.

    pattern_id: Id of the pattern.
    name: New name, 1 to 200 characters.
    status: New status.
    """

    pattern_id: str
    name: str | None = None
    status: PatternStatus | None = None


class ClosePattern(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Record what was done about a pattern; the proof of it starts. Endpoint: pattern.close_pattern.

    pattern_id: Id of the pattern.
    closure_note: What was done, 1 to 10,000 characters.
    environment: Environment in which it was fixed, at most 200 characters; absent: everywhere.
    version: First version with the fix, at most 200 characters; absent: not known.
    fixed_at: When it was fixed, not in the future; absent: now, or when the fix was made that is being proved.
    """

    pattern_id: str
    closure_note: str
    environment: str | None = None
    version: str | None = None
    fixed_at: Timestamp | None = None


class AnswerSuggestion(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Accept or reject a suggestion, as the caller saw it. Endpoint: pattern.answer_suggestion.

    pattern_id: The pattern suggested.
    issue_id: Id of the issue.
    begun_pattern_id: The pattern that the issue began; when it has left that, the suggestion has lapsed.
    is_accepted: Accept; false: reject.
    """

    pattern_id: str
    issue_id: str
    begun_pattern_id: str
    is_accepted: bool


class AnswerContradiction(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Choose between two decisions that contradict each other. Endpoint: pattern.answer_contradiction.

    contradiction_id: Id of the contradiction.
    pattern_id: The pattern of the later decision.
    grouping_key: The key that both are about.
    earlier: The decision that was there; it was about an issue.
    keep: The decision that later issues are to obey.
    """

    contradiction_id: str
    pattern_id: str
    grouping_key: str
    earlier: Ruling
    keep: Side


class FindSimilar(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Find the issues that are nearest to one. Endpoint: pattern.find_similar.

    issue_id: Id of the issue.
    limit: How many at most, 1 to 20.
    """

    issue_id: str
    limit: int


class SimilarIssue(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An issue that is like another one.

    issue_id: Id of the issue.
    pattern_id: The pattern that it is in, if in one.
    similarity: How alike, in [0, 1]; 1: the same masked title and service.
    method: What was compared.
    method_version: Dated version of the method.
    matched_dimensions: Dimensions on which both agree, such as "service".
    """

    issue_id: str
    pattern_id: str | None = None
    similarity: float
    method: LinkMethod
    method_version: str
    matched_dimensions: tuple[str, ...] = ()


class SimilarFound(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to FindSimilar.

    issues: Most alike first.
    reason: Why there is none; absent: there are some.
    least_similarity: Least similarity that counts, in [0, 1].
    nearest_similarity: Similarity of the nearest text, below what counts; absent: nothing was compared.
    compared_count: How many texts there are to compare with.
    """

    issues: tuple[SimilarIssue, ...] = ()
    reason: NothingSimilar | None = None
    least_similarity: float
    nearest_similarity: float | None = None
    compared_count: int


class PatternChanged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to every command on patterns.

    pattern_id: The pattern that the command was about; of a split, the new one.
    status: Its status now.
    sequence: Stream sequence of the last event appended.
    """

    pattern_id: str
    status: PatternStatus
    sequence: int


class RecomputeClusters(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Cluster the patterns of the workspace anew, soon. Endpoint: pattern.recompute_clusters.
    """


class ClusteringRequested(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to RecomputeClusters.

    run_id: Id of the clustering to come: its ClustersComputed has it.
    """

    run_id: str


class CompareGroupingVersion(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Find out what a grouping version would move, soon. Endpoint: pattern.compare_grouping_version.

    version_id: Id of the version, or "shipped".
    """

    version_id: str


class ComparisonRequested(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to CompareGroupingVersion.

    run_id: Id of the comparison to come: its GroupingVersionCompared has it.
    """

    run_id: str


class ActivateGroupingVersion(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Group new issues by a version from now on. Endpoint: pattern.activate_grouping_version.

    version_id: Id of the version, or "shipped".
    """

    version_id: str


class GroupingVersionChanged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply to ActivateGroupingVersion.

    version_id: Id of the version in use.
    sequence: Stream sequence of the last event about the workspace's versions.
    """

    version_id: str
    sequence: int


Event: TypeAlias = (
    IssuesLinked
    | PatternDetected
    | PatternDescribed
    | PatternStatusChanged
    | IssueUnlinked
    | LinkConstrained
    | PatternsMerged
    | PatternSplit
    | LinkSuggested
    | DecisionsContradicted
    | ContradictionAnswered
    | ClustersComputed
    | GroupingVersionFitted
    | GroupingVersionCompared
    | GroupingVersionActivated
)
"""Any event of pattern."""

AGGREGATES: dict[type[Event], str] = {
    IssuesLinked: "pattern",
    PatternDetected: "pattern",
    PatternDescribed: "pattern",
    PatternStatusChanged: "pattern",
    IssueUnlinked: "pattern",
    LinkConstrained: "pattern",
    PatternsMerged: "pattern",
    PatternSplit: "pattern",
    LinkSuggested: "pattern",
    DecisionsContradicted: "pattern",
    ContradictionAnswered: "pattern",
    ClustersComputed: "clustering",
    GroupingVersionFitted: "grouping",
    GroupingVersionCompared: "grouping",
    GroupingVersionActivated: "grouping",
}
"""The type of the aggregate that each event is about."""

ENDPOINTS: dict[type[Struct], str] = {
    LinkIssue: "pattern.link_issue",
    UnlinkIssue: "pattern.unlink_issue",
    MergePatterns: "pattern.merge_patterns",
    SplitPattern: "pattern.split_pattern",
    UpdatePattern: "pattern.update_pattern",
    ClosePattern: "pattern.close_pattern",
    AnswerSuggestion: "pattern.answer_suggestion",
    AnswerContradiction: "pattern.answer_contradiction",
    FindSimilar: "pattern.find_similar",
    RecomputeClusters: "pattern.recompute_clusters",
    CompareGroupingVersion: "pattern.compare_grouping_version",
    ActivateGroupingVersion: "pattern.activate_grouping_version",
}
"""The endpoint that answers each request."""
