"""What people answer when they are asked: suggestions, and decisions that contradict each other."""

from contracts import pattern
from contracts.generated.pattern import ConstraintKind, PatternStatus, Side

from ..engine.grouping import Grouper
from ..engine.memory import ConstraintRow
from ..errors import (
    ContradictionSettledError,
    InvalidCommandError,
    PatternNotFoundError,
    SuggestionLapsedError,
)
from .curating import link_issue, merge_patterns
from .deciding import Decided, Gathered, take
from .ruling import constrain


def answer_suggestion(
    grouper: Grouper, command: pattern.AnswerSuggestion, gathered: Gathered
) -> list[Decided]:
    """Link the issue to the pattern suggested, or rule that out; either way later issues like it follow.

    What else is in the pattern that the issue began goes along while nobody has seen that one. Raises
    SuggestionLapsedError.
    """
    pattern_id, subject = command.pattern_id, gathered.subject(command.issue_id)
    suggested = grouper.patterns.get(pattern_id)
    if suggested is None:
        raise PatternNotFoundError(pattern_id)
    link = pattern.LinkIssue(pattern_id=pattern_id, issue_id=subject.issue_id)
    is_ruled_out = grouper.is_forbidden(subject.grouping_key, pattern_id)
    if command.is_accepted and subject.pattern_id == pattern_id:
        return link_issue(grouper, link, gathered)
    if is_ruled_out and not command.is_accepted:
        return []
    if suggested.status is PatternStatus.MERGED:
        raise SuggestionLapsedError(f"its pattern was merged into {suggested.merged_into}")
    if subject.pattern_id != command.begun_pattern_id:
        raise SuggestionLapsedError("the issue has left the pattern that it began")
    if is_ruled_out:
        raise SuggestionLapsedError("a person has ruled it out for issues like this one")
    if not command.is_accepted:
        return constrain(grouper, gathered, subject, pattern_id=pattern_id, kind=ConstraintKind.CANNOT_LINK)
    return link_issue(grouper, link, gathered) + _follow(grouper, command, gathered)


def answer_contradiction(
    grouper: Grouper, command: pattern.AnswerContradiction, _gathered: Gathered
) -> list[Decided]:
    """Keep the later of two decisions, or take the earlier one again. No issue that is a member moves.

    Raises ContradictionSettledError when the earlier one is in force again, and when a third decision has overruled
    the later one or would be overruled by the earlier: nobody was asked about that.
    """
    earlier, key = command.earlier, command.grouping_key
    if earlier.issue_id is None:
        raise InvalidCommandError("earlier", "must name the issue that it was about")
    for pattern_id in (command.pattern_id, earlier.pattern_id):
        if pattern_id not in grouper.patterns:
            raise PatternNotFoundError(pattern_id)
    pattern_id = _standing(grouper, earlier.pattern_id)
    if _is_in_force(grouper, ConstraintRow(key, pattern_id, earlier.kind)):
        raise ContradictionSettledError("a person has taken the earlier decision again")
    if _has_third(grouper, command, pattern_id):
        raise ContradictionSettledError("a person has decided anew about issues like these since")
    answered = pattern.ContradictionAnswered(
        contradiction_id=command.contradiction_id, pattern_id=command.pattern_id, keep=command.keep
    )
    decided = [take(grouper, answered, command.pattern_id)]
    if command.keep is Side.EARLIER:
        again = pattern.LinkConstrained(
            pattern_id=pattern_id, issue_id=earlier.issue_id, kind=earlier.kind, grouping_key=key
        )
        decided.append(take(grouper, again, pattern_id, issue_id=earlier.issue_id))
    return decided


def _has_third(grouper: Grouper, command: pattern.AnswerContradiction, pattern_id: str) -> bool:
    """Whether a decision that the contradiction does not name stands against the answer.

    pattern_id: of the earlier decision, after merges. The later one follows from it: a "must" is overruled by a
    "never" about the same pattern or by another "must", a "never" by a "must" about its pattern or by a merge.
    """
    earlier, key = command.earlier, command.grouping_key
    is_never = earlier.kind is ConstraintKind.MUST_LINK and command.pattern_id == earlier.pattern_id
    kind = ConstraintKind.CANNOT_LINK if is_never else ConstraintKind.MUST_LINK
    later = ConstraintRow(key, _standing(grouper, command.pattern_id), kind)
    if command.keep is Side.EARLIER:
        return any(row != later for row in grouper.overruled_by(key, pattern_id, earlier.kind))
    if earlier.kind is ConstraintKind.MUST_LINK:
        return not _is_in_force(grouper, later)
    # A merge stands whatever is decided later; a "must" does until there is another one.
    is_merge = command.pattern_id != earlier.pattern_id
    return not is_merge and grouper.must_of(key) not in (None, later.pattern_id)


def _is_in_force(grouper: Grouper, row: ConstraintRow) -> bool:
    if row.kind is ConstraintKind.MUST_LINK:
        return grouper.must_of(row.grouping_key) == row.pattern_id
    return grouper.is_forbidden(row.grouping_key, row.pattern_id)


def _standing(grouper: Grouper, pattern_id: str) -> str:
    """The pattern that remains of one, after merges."""
    return grouper.patterns[pattern_id].merged_into or pattern_id


def _follow(grouper: Grouper, command: pattern.AnswerSuggestion, gathered: Gathered) -> list[Decided]:
    """The rest of a candidate follows its first issue, unless a person's decision stands against that."""
    begun = grouper.patterns[command.begun_pattern_id]
    if begun.status is not PatternStatus.CANDIDATE or begun.n_members == 0:
        return []
    if grouper.overruled_by_merge(command.pattern_id, begun.pattern_id):
        return []
    merge = pattern.MergePatterns(target_pattern_id=command.pattern_id, source_pattern_id=begun.pattern_id)
    return merge_patterns(grouper, merge, gathered)
