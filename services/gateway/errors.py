"""The gateway's own refusals: slug + status."""

from collections.abc import Mapping

from runtime.errors import AppError


class InvalidFactorError(AppError):
    """The code, or the passkey's answer, is wrong or was used before."""

    code = "invalid_factor"
    status = 422


class InvalidGrantError(AppError):
    """The subject token or refresh token that was to be exchanged is not good."""

    code = "invalid_grant"
    status = 401


class MfaRequiredError(AppError):
    """The session owes the second factor that its person has set up."""

    code = "mfa_required"
    status = 403


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


class UnsupportedFactorError(AppError):
    """A kind of second factor that is not offered."""

    code = "unsupported_factor"
    status = 422


class PayloadTooLargeError(AppError):
    """A request's body is longer than what is taken at once."""

    code = "payload_too_large"
    status = 413


class UnsupportedMediaTypeError(AppError):
    """A request's body is not JSON."""

    code = "unsupported_media_type"
    status = 415


class SeatLimitError(AppError):
    """All seats of the organization are taken."""

    code = "seat_limit"
    status = 422


class LastAdminError(AppError):
    """Without this member nobody could let others in any more."""

    code = "last_admin"
    status = 422


class SsoRequiredError(AppError):
    """The workspace's own identity provider speaks for that address."""

    code = "sso_required"
    status = 403
