"""What pattern refuses, and why."""

from runtime.errors import NotFoundError, StateConflictError, UnavailableError, ValidationFailedError


class PatternNotFoundError(NotFoundError):
    """The workspace has no such pattern."""

    def __init__(self, pattern_id: str) -> None:
        super().__init__(f"there is no pattern {pattern_id}", details={"pattern_id": pattern_id})


class IssueNotFoundError(NotFoundError):
    """The workspace has no such issue."""

    def __init__(self, issue_id: str) -> None:
        super().__init__(f"there is no issue {issue_id}", details={"issue_id": issue_id})


class NotAMemberError(NotFoundError):
    """The issue does not belong to the pattern."""

    def __init__(self, issue_id: str, pattern_id: str | None) -> None:
        where = f"pattern {pattern_id}" if pattern_id else "any pattern"
        super().__init__(f"issue {issue_id} is not a member of {where}", details={"issue_id": issue_id})


class PatternMergedError(StateConflictError):
    """The pattern ended when it was merged into another one."""

    def __init__(self, pattern_id: str, merged_into: str) -> None:
        super().__init__(
            f"pattern {pattern_id} was merged into {merged_into}; use that one",
            details={"pattern_id": merged_into},
        )


class StatusNotAllowedError(StateConflictError):
    """A pattern cannot be moved to that status by hand."""

    def __init__(self, status: str, instead: str) -> None:
        super().__init__(
            f"a pattern is not set to {status!r} by hand: {instead}", details={"status": instead}
        )


class SuggestionLapsedError(StateConflictError):
    """What a suggestion was about is not as it was when it was made."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the suggestion has lapsed: {why}", details={"suggestion": why})


class ContradictionSettledError(StateConflictError):
    """The two decisions do not contradict each other any more."""

    def __init__(self, why: str) -> None:
        super().__init__(f"there is nothing to answer: {why}", details={"contradiction": why})


class PatternContendedError(StateConflictError):
    """Others kept changing the pattern while the command was being decided."""

    def __init__(self) -> None:
        super().__init__("the pattern keeps changing; send the command again")


class GroupingVersionNotFoundError(NotFoundError):
    """The workspace has no such version of grouping."""

    def __init__(self, version_id: str) -> None:
        super().__init__(f"there is no grouping version {version_id}", details={"version_id": version_id})


class GroupingVersionRejectedError(StateConflictError):
    """A version that is no better than the shipped one is not switched on; one of another build's features not even compared."""

    def __init__(self, version_id: str) -> None:
        super().__init__(
            f"grouping version {version_id} was worse on decisions that it had not seen, or is of another build",
            details={"version_id": "rejected"},
        )


class GroupingContendedError(StateConflictError):
    """Somebody else has just changed the workspace's versions."""

    def __init__(self) -> None:
        super().__init__("the workspace's grouping versions have just changed; look again")


class InvalidCommandError(ValidationFailedError):
    """A field of a command is wrong."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}", details={field: problem})


class NotReadyError(UnavailableError):
    """This process is not the leader yet, or the log does not answer; sending the command again is safe."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}; send the command again", retry_after=1.0)
