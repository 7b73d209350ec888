"""What recommendation refuses, and why."""

from collections.abc import Iterable

from contracts import recommendation
from runtime.errors import (
    AppError,
    NotFoundError,
    StateConflictError,
    UnavailableError,
    ValidationFailedError,
)


class RecommendationNotFoundError(NotFoundError):
    """The workspace has no such recommendation."""

    def __init__(self, recommendation_id: str) -> None:
        super().__init__(f"there is no recommendation {recommendation_id}", details={"id": recommendation_id})


class MoveNotAllowedError(StateConflictError):
    """The recommendation cannot go from its status to the wanted one; the message names where it can go."""

    def __init__(
        self,
        current: recommendation.RecommendationStatus,
        wanted: recommendation.RecommendationStatus,
        allowed: Iterable[recommendation.RecommendationStatus],
    ) -> None:
        moves = ", ".join(sorted(allowed))
        super().__init__(
            f"a recommendation that is {current} cannot become {wanted}; from here it can become: {moves}",
            details={"status": f"is {current}; allowed: {moves}"},
        )


class DismissedError(StateConflictError):
    """Nobody works on the steps of a dismissed recommendation."""

    def __init__(self) -> None:
        super().__init__(
            "the recommendation is dismissed; reopen it (status pending) before checking its steps",
            details={"status": "is dismissed"},
        )


class NoSuchStepError(ValidationFailedError):
    """The recommendation has fewer steps."""

    def __init__(self, step_index: int, n_steps: int) -> None:
        super().__init__(
            f"there is no step {step_index}; the recommendation has steps 0 to {n_steps - 1}",
            details={"step_index": f"must be from 0 to {n_steps - 1}"},
        )


class ReasonTooLongError(ValidationFailedError):
    """The reason has too many characters."""

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(
            f"the reason has {length} characters; at most {limit} are allowed",
            details={"reason": f"at most {limit} characters"},
        )


class ReasonNotStorableError(ValidationFailedError):
    """The reason holds U+0000, which no database row can hold."""

    def __init__(self) -> None:
        super().__init__(
            "the reason holds the character U+0000",
            details={"reason": "must not hold the character U+0000"},
        )


class ScopeError(ValidationFailedError):
    """Where or when a recommendation was implemented cannot be so."""

    def __init__(self, field: str, fault: str) -> None:
        super().__init__(f"{field}: {fault}", details={field: fault})


class RecommendationContendedError(StateConflictError):
    """Others kept changing the recommendation while the command was being decided."""

    def __init__(self, recommendation_id: str) -> None:
        super().__init__(
            f"recommendation {recommendation_id} keeps changing; send the command again",
            details={"id": recommendation_id},
        )


class LogUnreachableError(UnavailableError):
    """The event log did not confirm; sending the same command again is safe."""

    def __init__(self) -> None:
        super().__init__("the event log did not confirm the write; send the same request again")


class PlayRefusedError(AppError):
    """A play breaks rules of the playbook; `details` names each place."""

    code = "play_refused"
    status = 422

    def __init__(self, mistakes: Iterable[tuple[str, str]]) -> None:
        """mistakes: place in the play, and what is wrong there."""
        details: dict[str, str] = {}
        for place, fault in mistakes:
            details[place] = f"{details[place]}; {fault}" if place in details else fault
        lines = "; ".join(f"{path}: {fault}" for path, fault in details.items())
        super().__init__(f"the play breaks rules of the playbook: {lines}", details=details)


class PlayNotFoundError(NotFoundError):
    """Nobody has such a play."""

    def __init__(self, play_id: str) -> None:
        super().__init__(f"there is no play {play_id}", details={"id": play_id})


class PlayShippedError(StateConflictError):
    """The play is not the workspace's own."""

    def __init__(self, play_id: str) -> None:
        super().__init__(
            f"play {play_id} is one that every workspace has; define one with its id to replace it",
            details={"play_id": "is not the workspace's own"},
        )


class PlaybookFullError(StateConflictError):
    """The workspace has as many plays of its own as it may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the workspace has {limit} plays of its own, and may have no more; withdraw one first",
            details={"plays": f"at most {limit}"},
        )


class PlaybookContendedError(StateConflictError):
    """Others kept changing the workspace's plays while the command was being decided."""

    def __init__(self) -> None:
        super().__init__("the workspace's plays keep changing; send the command again")
