"""A person's decision that every later grouping obeys, and what it says of the decisions that it overrules."""

from collections.abc import Collection

from contracts import derived_id, pattern
from contracts.generated.pattern import ConstraintKind

from ..engine.grouping import Grouper
from ..engine.memory import ConstraintRow
from .deciding import Decided, Gathered, Subject, take


def constrain(
    grouper: Grouper,
    gathered: Gathered,
    subject: Subject,
    *,
    pattern_id: str,
    kind: ConstraintKind,
    also_about: Collection[str] = (),
) -> list[Decided]:
    """Take a decision about an issue and a pattern, after the contradictions that it makes.

    An earlier decision about the same issue, or about one of `also_about`, is taken back and no contradiction.
    """
    key, own = subject.grouping_key, {subject.issue_id, *also_about}
    later = pattern.Ruling(pattern_id=pattern_id, kind=kind, issue_id=subject.issue_id)
    decided = [
        contradict(grouper, gathered, overruled, later)
        for overruled in grouper.overruled_by(key, pattern_id, kind)
        if gathered.rulings[key, overruled.pattern_id].issue_id not in own
    ]
    constrained = pattern.LinkConstrained(
        pattern_id=pattern_id, issue_id=subject.issue_id, kind=kind, grouping_key=key
    )
    return [*decided, take(grouper, constrained, pattern_id, issue_id=subject.issue_id)]


def contradict(
    grouper: Grouper, gathered: Gathered, overruled: ConstraintRow, later: pattern.Ruling
) -> Decided:
    """Record that a decision overrules another one, to be asked about."""
    key = overruled.grouping_key
    earlier = gathered.rulings[key, overruled.pattern_id]
    version = grouper.patterns[later.pattern_id].version
    about = (key, earlier.pattern_id, later.pattern_id, later.issue_id or later.merged_pattern_id or "")
    contradicted = pattern.DecisionsContradicted(
        contradiction_id=derived_id("ctr_", grouper.workspace_id, *about, str(version)),
        pattern_id=later.pattern_id,
        grouping_key=key,
        earlier=earlier,
        later=later,
    )
    return take(grouper, contradicted, later.pattern_id, issue_id=later.issue_id)
