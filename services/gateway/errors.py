"""The gateway's own refusals: slug + status."""

from collections.abc import Mapping

from runtime.errors import AppError, ForbiddenError


class InvalidFactorError(AppError):
    """The code, or the passkey's answer, is wrong or was used before."""

    code = "invalid_factor"
    status = 422


class InvalidGrantError(AppError):
    """The subject token or refresh token that was to be exchanged is not good."""

    code = "invalid_grant"
    status = 401


class SessionEndedError(InvalidGrantError):
    """The refresh token was used before, or its session is over; so is what came of it."""

    def __init__(self, session_id: str) -> None:
        super().__init__("The refresh token was used before, or its session has ended. Sign in again.")
        self.session_id = session_id


class MfaRequiredError(ForbiddenError):
    """The session owes the second factor that its person has set up."""

    code = "mfa_required"


class RateLimitedError(AppError):
    """Too many requests within a time; `retry_after` says when the next one has a chance."""

    code = "rate_limited"
    status = 429

    def __init__(
        self, message: str, *, details: Mapping[str, str] | None = None, retry_after: float = 1.0
    ) -> None:
        super().__init__(message, details=details)
        self._retry_after = retry_after

    @property
    def retry_after(self) -> float | None:
        """Seconds after which the caller may try again."""
        return self._retry_after


class ProviderUnusableError(AppError):
    """An identity provider cannot be reached, may not be, or does not describe itself as it has to."""

    code = "provider_unusable"
    status = 422


class UnsupportedFactorError(AppError):
    """A kind of second factor that is not offered."""

    code = "unsupported_factor"
    status = 422


class PayloadTooLargeError(AppError):
    """A request's body is longer than what is taken at once."""

    code = "payload_too_large"
    status = 413


class PastTooLongError(AppError):
    """More happened up to `as_of` than one answer about the past is made of."""

    code = "past_too_long"
    status = 422

    def __init__(self, events_max: int) -> None:
        super().__init__(
            f"Up to that moment the workspace had more than {events_max} events of the kinds that this needs,"
            " which is more than one answer is made of. Read the history of what you look for instead.",
            details={"as_of": f"more than {events_max} events"},
        )


class UnsupportedMediaTypeError(AppError):
    """A request's body is not JSON."""

    code = "unsupported_media_type"
    status = 415


class SeatLimitError(AppError):
    """All seats of the organization are taken."""

    code = "seat_limit"
    status = 422


class LastAdminError(AppError):
    """Without this member the workspace would have no owner any more."""

    code = "last_admin"
    status = 422


class SsoRequiredError(AppError):
    """The workspace's own identity provider speaks for that address."""

    code = "sso_required"
    status = 403


class ConnectorRefusedError(AppError):
    """What was asked of a connector contradicts itself, or does not fit the type of its source; `details` names each place."""

    code = "connector_refused"
    status = 422


class WebhookRefusedError(AppError):
    """A webhook would go where nothing may be sent, or ask for what it can never get; `details` names each place."""

    code = "webhook_refused"
    status = 422


class IdempotencyConflictError(AppError):
    """An Idempotency-Key that was used for another request, or whose answer is not kept."""

    code = "idempotency_conflict"
    status = 409


class RequestRunningError(AppError):
    """The same request, or another conditional change of the same resource, still runs."""

    code = "request_running"
    status = 409

    @property
    def retry_after(self) -> float | None:
        """Seconds after which the caller may try again."""
        return 1.0


class AnalysisLimitError(AppError):
    """As many analyses of the workspace run as may; one has to end first."""

    code = "analysis_limit"
    status = 429

    @property
    def retry_after(self) -> float | None:
        """Seconds after which the caller may try again."""
        return 10.0


class PreconditionFailedError(AppError):
    """If-Match names another state of the resource than the present one."""

    code = "precondition_failed"
    status = 412


class UriTooLongError(AppError):
    """The path and query are longer than what is taken."""

    code = "uri_too_long"
    status = 414


class HeadersTooLargeError(AppError):
    """The headers are longer than what is taken."""

    code = "headers_too_large"
    status = 431


class RetentionBelowMinimumError(AppError):
    """Something would be kept for less time than it has to be."""

    code = "retention_below_minimum"
    status = 422


class PlanFeatureError(AppError):
    """The plan does not have the feature; `details` names both."""

    code = "plan_limit"
    status = 403
