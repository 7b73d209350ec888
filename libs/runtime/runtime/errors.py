"""Refusals: the errors a caller is meant to see, with a code and an HTTP status."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import ClassVar


class AppError(Exception):
    """A refusal that travels unchanged over the broker and becomes problem+json over HTTP.

    A subclass sets `code`, a stable snake_case slug, and `status`, the HTTP status it maps to.
    details: field path or topic → what is wrong with it, for people and programs.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, str] = dict(details or {})

    @property
    def retry_after(self) -> float | None:
        """Seconds after which the caller may try again; None when trying again is pointless."""
        return None


def described(error: BaseException) -> str:
    """An exception for logs and dashboards: its repr, but of a UnicodeError, which holds the whole text, the reason only."""
    if isinstance(error, UnicodeEncodeError | UnicodeDecodeError | UnicodeTranslateError):
        return f"{type(error).__name__}({error.reason!r})"
    return repr(error)


class NotFoundError(AppError):
    """What was asked for does not exist in this workspace."""

    code = "not_found"
    status = 404


class StateConflictError(AppError):
    """The state of the thing does not allow this, or somebody was faster."""

    code = "conflict"
    status = 409


class ValidationFailedError(AppError):
    """The request does not have the required shape; `details` names each field."""

    code = "validation_error"
    status = 400


class UnauthorizedError(AppError):
    """The caller is not known: the token is missing, wrong or expired."""

    code = "unauthorized"
    status = 401


class ForbiddenError(AppError):
    """The caller is known and may not do this."""

    code = "forbidden"
    status = 403


class PlanLimitError(AppError):
    """The organization's plan does not allow more; `details` names the limit and the plan."""

    code = "plan_limit"
    status = 422


class UnavailableError(AppError):
    """Something that is needed does not answer now; trying again later may work."""

    code = "unavailable"
    status = 503

    def __init__(
        self, message: str, *, details: Mapping[str, str] | None = None, retry_after: float = 1.0
    ) -> None:
        super().__init__(message, details=details)
        self._retry_after = retry_after

    @property
    def retry_after(self) -> float | None:
        """Seconds after which the caller may try again."""
        return self._retry_after


class InternalError(AppError):
    """A bug of ours; the log line with the same trace id says which."""


class StartError(Exception):
    """The process cannot start; the message is one line that says what to do."""


_NAMED_FIELD = re.compile(r"(?:missing required|contains unknown) field `([^`]+)`")

_KNOWN: dict[str, type[AppError]] = {
    kind.code: kind
    for kind in (
        NotFoundError,
        StateConflictError,
        ValidationFailedError,
        UnauthorizedError,
        ForbiddenError,
        PlanLimitError,
        UnavailableError,
        InternalError,
    )
}


@lru_cache(maxsize=256)
def error_class(code: str, status: int) -> type[AppError]:
    """The error class with this code and status; one made to measure when no shared class has them."""
    known = _KNOWN.get(code)
    if known is not None and known.status == status:
        return known
    name = "".join(part.title() for part in code.split("_")) + "Error"
    return type(
        name, (AppError,), {"__doc__": "A refusal of another service.", "code": code, "status": status}
    )


def rebuild(code: str, status: int, message: str, details: Mapping[str, str] | None = None) -> AppError:
    """The refusal that another process raised, as an exception of this one."""
    return error_class(code, status)(message, details=details)


def details_of(error: Exception, *, root: str = "$") -> dict[str, str]:
    """The field path and the fault in a msgspec decoding error: {"items[0].title": "Expected `str`…"}.

    root: where the body begins in msgspec's paths. A fault of the body as a whole is under "body".
    """
    fault, _, path = str(error).partition(" - at `")
    path = path.rstrip("`").replace("[...]", "[]")
    path = path.removeprefix(root if path.startswith(root) else "$").lstrip(".")
    named = _NAMED_FIELD.search(fault)
    field = ".".join(part for part in (path, named and named.group(1)) if part)
    if fault == "Invalid RFC3339 encoded datetime":
        fault = f"{fault}; write it like 2026-11-23T09:00:00Z"
    return {field or "body": fault}
