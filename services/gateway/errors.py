"""The gateway's own refusals: slug + status."""

from runtime.errors import AppError


class InvalidGrantError(AppError):
    """The subject token or refresh token that was to be exchanged is not good."""

    code = "invalid_grant"
    status = 401


class MfaRequiredError(AppError):
    """The session owes the second factor that its person has set up."""

    code = "mfa_required"
    status = 403


class PayloadTooLargeError(AppError):
    """A request's body is longer than what is taken at once."""

    code = "payload_too_large"
    status = 413


class UnsupportedMediaTypeError(AppError):
    """A request's body is not JSON."""

    code = "unsupported_media_type"
    status = 415
