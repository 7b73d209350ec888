"""What people answer when they are asked: suggestions, and decisions that contradict each other."""

from contracts import pattern
from contracts.generated.pattern import ConstraintKind, PatternStatus, Side

from ..engine.grouping import Grouper
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

    Raises ContradictionSettledError when the earlier one is in force again.
    """
    earlier, key = command.earlier, command.grouping_key
    if earlier.issue_id is None:
        raise InvalidCommandError("earlier", "must name the issue that it was about")
    for pattern_id in (command.pattern_id, earlier.pattern_id):
        if pattern_id not in grouper.patterns:
            raise PatternNotFoundError(pattern_id)
    pattern_id = grouper.patterns[earlier.pattern_id].merged_into or earlier.pattern_id
    must = earlier.kind is ConstraintKind.MUST_LINK
    if (grouper.must_of(key) == pattern_id) if must else grouper.is_forbidden(key, pattern_id):
        raise ContradictionSettledError
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


def _follow(grouper: Grouper, command: pattern.AnswerSuggestion, gathered: Gathered) -> list[Decided]:
    """The rest of a candidate follows its first issue, unless a person's decision stands against that."""
    begun = grouper.patterns[command.begun_pattern_id]
    if begun.status is not PatternStatus.CANDIDATE or begun.n_members == 0:
        return []
    if grouper.overruled_by_merge(command.pattern_id, begun.pattern_id):
        return []
    merge = pattern.MergePatterns(target_pattern_id=command.pattern_id, source_pattern_id=begun.pattern_id)
    return merge_patterns(grouper, merge, gathered)
