"""Errors over HTTP: RFC 9457 problem+json that also carries our `error` object."""

import structlog
from litestar import Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from msgspec import DecodeError, Struct

from runtime import metrics
from runtime.errors import AppError, InternalError, described, details_of
from runtime.faults import refusal_for
from runtime.telemetry import current_trace_id

log = structlog.get_logger()

AnyRequest = Request[object, object, State]

PROBLEM_MEDIA_TYPE = "application/problem+json"

_CODES = {
    400: "validation_error",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    409: "conflict",
    412: "precondition_failed",
    413: "payload_too_large",
    414: "uri_too_long",
    415: "unsupported_media_type",
    429: "rate_limited",
    431: "headers_too_large",
    503: "unavailable",
}
_TITLES = {
    400: "Bad request",
    401: "Not signed in",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    409: "Conflict",
    412: "Changed meanwhile",
    413: "Body too large",
    414: "Address too long",
    415: "Unsupported media type",
    422: "Not possible",
    429: "Too many requests",
    431: "Headers too large",
    500: "Internal error",
    503: "Unavailable",
}


class ErrorBody(Struct, frozen=True, omit_defaults=True):
    """The `error` object of every failed request; trace_id equals the X-Request-Id header."""

    code: str
    message: str
    trace_id: str
    details: dict[str, str] = {}


class Problem(Struct, frozen=True, omit_defaults=True):
    """The body of every failed request."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    error: ErrorBody


def request_id() -> str:
    """The id of the current request: its trace id written as a UUID."""
    found = current_trace_id() or "0" * 32
    return f"{found[:8]}-{found[8:12]}-{found[12:16]}-{found[16:20]}-{found[20:]}"


def problem(
    path: str, *, code: str, status: int, message: str, details: dict[str, str] | None = None
) -> Problem:
    """What a failed request is answered with."""
    return Problem(
        type=f"urn:causeloop:problem:{code}",
        title=_TITLES.get(status, "Error"),
        status=status,
        detail=message,
        instance=path,
        code=code,
        error=ErrorBody(code=code, message=message, trace_id=request_id(), details=details or {}),
    )


def problem_response(
    path: str, *, code: str, status: int, message: str, details: dict[str, str] | None = None
) -> Response[Problem]:
    """The same as an answer."""
    body = problem(path, code=code, status=status, message=message, details=details)
    return Response(body, status_code=status, media_type=PROBLEM_MEDIA_TYPE)


def answer_error(request: AnyRequest, error: Exception) -> Response[Problem]:
    """The problem+json for whatever a handler or the framework raised; never a stack trace."""
    path = request.scope["path"]
    match error:
        case HTTPException() if error.status_code < 500 or error.status_code == 503:
            return _of_framework(request, error)
        case DecodeError():
            return problem_response(
                path, code="validation_error", status=400, message=str(error), details=details_of(error)
            )
    refusal = refusal_for(error)
    if isinstance(refusal, InternalError):
        log.exception("request.failed", path=path, error=described(error), exc_info=error)
        metrics.remember_error(f"{request.method} {path}: {described(error)}")
    elif refusal.status >= 500:
        log.warning("request.unavailable", method=request.method, path=path, error=described(error))
    return _of_refusal(path, refusal)


def _of_refusal(path: str, refusal: AppError) -> Response[Problem]:
    response = problem_response(
        path, code=refusal.code, status=refusal.status, message=refusal.message, details=refusal.details
    )
    if refusal.retry_after is not None:
        response.headers["Retry-After"] = str(max(1, round(refusal.retry_after)))
    if refusal.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _of_framework(request: AnyRequest, error: HTTPException) -> Response[Problem]:
    path = request.scope["path"]
    message, status = error.detail, error.status_code
    details: dict[str, str] = {}
    match error:
        case NotFoundException():
            message = f"There is nothing at {path}."
        case MethodNotAllowedException():
            message = f"{request.method} is not possible here."
        case _ if status == 400:
            details = _details_of_validation(error)
            message = "; ".join(f"{key}: {value}" for key, value in details.items()) or error.detail
    code = _CODES.get(status, "error")
    response = problem_response(path, code=code, status=status, message=message, details=details)
    response.headers.update(error.headers or {})
    return response


def _details_of_validation(error: HTTPException) -> dict[str, str]:
    """The field path → fault map out of the framework's several shapes of a validation error."""
    if isinstance(error.__cause__, DecodeError):
        return details_of(error.__cause__, root="$.data")
    details: dict[str, str] = {}
    for item in error.extra if isinstance(error.extra, list) else ():
        if isinstance(item, dict) and "message" in item:
            key = str(item.get("key") or "body").removeprefix("data.")
            details[key] = str(item["message"])
    return details
