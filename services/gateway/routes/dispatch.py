"""Operations over HTTP: authenticate, authorise, decode, handle, encode; the same for all of them."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import Any, get_args, get_origin

import msgspec
from litestar import HttpMethod, Request, Response
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct
from runtime.errors import ForbiddenError, UnauthorizedError, ValidationFailedError, details_of

from services.gateway.errors import MfaRequiredError, PayloadTooLargeError, UnsupportedMediaTypeError
from services.gateway.identity.scopes import ANYBODY, SELF
from services.gateway.identity.tokens import Principal, read_access_token
from services.gateway.routes.operation import Answer, AnyOperation, Call, Gateway, not_found

AnyRequest = Request[Any, Any, Any]  # Any: no user, auth or state of Litestar is used

BODY_BYTES_MAX = 8 * 1024 * 1024
USER_AGENT_LENGTH_MAX = 400
PRINCIPALS_KEPT_MAX = 4096
"""How many tokens are kept as found good, so that their signature is checked once."""
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,400}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]")
_PARAMETER = re.compile(r"{(\w+)}")
_PUBLIC = Principal(
    workspace_id="",
    user_id="",
    role="",
    scopes=frozenset(),
    session_id="",
    expires_at=datetime.max.replace(tzinfo=UTC),
)
_NO_PARAMETERS_IN_SCOPE = frozenset({"cursor", "limit"})


def handlers(operations: Sequence[AnyOperation], gateway: Gateway) -> list[HTTPRouteHandler]:
    """A Litestar handler per path, for all of its methods, so that OPTIONS and 405 name all of them."""
    by_path: dict[str, dict[str, AnyOperation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    return [_handler(path, methods, gateway) for path, methods in by_path.items()]


def _handler(path: str, methods: Mapping[str, AnyOperation], gateway: Gateway) -> HTTPRouteHandler:
    async def answer(request: AnyRequest) -> Response[bytes]:
        return await _answer(methods[request.method], gateway, request)

    return HTTPRouteHandler(
        _PARAMETER.sub(r"{\1:str}", path),
        http_method=[HttpMethod(method) for method in methods],
        name="/".join(operation.id for operation in methods.values()),
        include_in_schema=False,
        request_max_body_size=BODY_BYTES_MAX,
    )(answer)


async def _answer(operation: AnyOperation, gateway: Gateway, request: AnyRequest) -> Response[bytes]:
    principal = _PUBLIC
    if operation.scope is not None:
        principal = authenticate(request.headers.get("authorization"), gateway)
        allow(operation, principal)
    query, scope = _query(operation.query, request)
    call = Call(
        principal=principal,
        path=_path(request.path_params),
        query=query,
        body=await _body(operation, request),
        scope=scope,
        ip=request.client.host if request.client else "",
        user_agent=request.headers.get("user-agent", "")[:USER_AGENT_LENGTH_MAX],
    )
    made = await operation.handle(gateway, call)
    status, body = (
        (made.status, made.body) if isinstance(made, Answer) else (next(iter(operation.replies)), made)
    )
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def allow(operation: AnyOperation, principal: Principal) -> None:
    """Raise ForbiddenError or MfaRequiredError unless the operation is open to this principal."""
    if principal.owes_second_factor and not operation.without_second_factor:
        raise MfaRequiredError("Give your second factor first.")
    if operation.scope == SELF:
        if not principal.is_person:
            raise ForbiddenError("This is for people who are signed in; an API token is not enough.")
    elif operation.scope != ANYBODY and operation.scope not in principal.scopes:
        raise ForbiddenError(
            f"This needs the scope {operation.scope}.", details={"scope": str(operation.scope)}
        )


def authenticate(header: str | None, gateway: Gateway) -> Principal:
    """Whom a request's Authorization header speaks for. Raises UnauthorizedError."""
    kind, _, token = (header or "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise UnauthorizedError("Send a token: Authorization: Bearer <access token>.")
    now = gateway.resources.clock()
    key = sha256(token.encode()).digest()
    principal = gateway.principals.get(key)
    if principal is None or principal.expires_at <= now:
        principal = read_access_token(token.strip(), secret=gateway.secret, now=now)
        if len(gateway.principals) >= PRINCIPALS_KEPT_MAX:
            gateway.principals.clear()
        gateway.principals[key] = principal
    return principal


def _path(parameters: Mapping[str, object]) -> dict[str, str]:
    """The ids in the path; what cannot be an id is one that does not exist."""
    found = {name: str(value) for name, value in parameters.items()}
    for name, value in found.items():
        if not _IDENTIFIER.fullmatch(value):
            raise not_found(name.removesuffix("_id").replace("_", " "), repr(value))
    return found


def _query(kind: type[Struct], request: AnyRequest) -> tuple[Struct, str]:
    """The query parameters as their Struct, and as text that two equal requests share."""
    given = list(request.query_params.multi_items())
    parameters = _parameters(kind)
    values: dict[str, object] = {}
    for name, value in given:
        if name not in parameters:
            raise ValidationFailedError(
                f"There is no parameter {name!r} here.", details={name: "unknown parameter"}
            )
        if name in values:
            raise ValidationFailedError(
                f"The parameter {name!r} is given twice.", details={name: "given twice"}
            )
        parameter = parameters[name]
        if parameter.is_time and not (_DATE.match(value) or (value.isdecimal() and parameter.is_whole)):
            raise ValidationFailedError(
                f"{name}: expected an RFC 3339 time.", details={name: "expected an RFC 3339 time"}
            )
        # Words of a vocabulary, so their case does not matter.
        values[name] = value.lower().split(",") if parameter.is_list else value
    try:
        query = msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        # A list's element is the parameter's business as a whole.
        details = {name.partition("[")[0]: fault for name, fault in details_of(error).items()}
        raise ValidationFailedError(_message(details), details=details) from error
    for name in values:
        if getattr(query, name) is None:
            raise ValidationFailedError(
                f"{name}: null is no value here.", details={name: "null is no value here"}
            )
    bound = sorted((name, value) for name, value in given if name not in _NO_PARAMETERS_IN_SCOPE)
    return query, msgspec.json.encode(bound).decode()


class _Parameter(Struct, frozen=True):
    """How the text of a query parameter is taken."""

    is_list: bool
    is_time: bool
    is_whole: bool


@cache
def _parameters(kind: type[Struct]) -> Mapping[str, _Parameter]:
    """The query parameters of an operation by name."""
    return {
        field.encode_name: _Parameter(_is_list(field.type), _is_time(field.type), _is_whole(field.type))
        for field in msgspec.structs.fields(kind)
    }


def _is_list(kind: object) -> bool:
    """Whether a parameter takes a comma list."""
    return get_origin(kind) is tuple or any(
        _is_list(part) for part in get_args(kind) if not isinstance(part, str)
    )


def _is_time(kind: object) -> bool:
    """Whether a parameter takes a time; a lax reading would take a bare number for one."""
    return kind is datetime or any(_is_time(part) for part in get_args(kind))


def _is_whole(kind: object) -> bool:
    """Whether a parameter takes an integer."""
    return kind is int or any(_is_whole(part) for part in get_args(kind))


async def _body(operation: AnyOperation, request: AnyRequest) -> object:
    """The body as the operation wants it. Raises the 400, 413 or 415 that it deserves."""
    if operation.body is None:
        return None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMediaTypeError("Send JSON with Content-Type: application/json.")
    raw = await request.body()
    if len(raw) > BODY_BYTES_MAX:
        raise PayloadTooLargeError(f"The body has {len(raw)} bytes; at most {BODY_BYTES_MAX} are taken.")
    if operation.body is bytes:
        return raw
    try:
        return msgspec.json.decode(raw, type=operation.body)
    except RecursionError as error:
        raise ValidationFailedError(
            "The body is nested too deeply.", details={"body": "nested too deeply"}
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        details = details_of(error)
        raise ValidationFailedError(_message(details), details=details) from error


def _message(details: Mapping[str, str]) -> str:
    return "; ".join(f"{field}: {fault}" for field, fault in details.items())
