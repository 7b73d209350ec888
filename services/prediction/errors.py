"""What this context refuses."""

from runtime.errors import NotFoundError, StateConflictError


class PredictionNotFoundError(NotFoundError):
    """No prediction of this workspace has that id."""


class PredictionRecurredError(StateConflictError):
    """The log shows that the pattern recurred, so it was not prevented."""

    code = "prediction_recurred"
