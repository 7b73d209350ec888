"""Operations over HTTP: authenticate, authorise, decode, handle, encode; the same for all of them."""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from functools import cache
from html import escape
from typing import Any, TypeAlias, get_args, get_origin

import msgspec
from litestar import HttpMethod, Request, Response
from litestar.datastructures import Cookie
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct
from runtime.errors import AppError, ForbiddenError, UnavailableError, ValidationFailedError, details_of

from services.gateway.edge.bodies import DEPTH_MAX, faults_in, is_too_deep
from services.gateway.edge.cookies import SetCookie
from services.gateway.edge.door import visit_of
from services.gateway.edge.idempotency import Identity, Reply, checked_key
from services.gateway.edge.preconditions import (
    WAIT_SECONDS_MAX,
    etag_of,
    is_expected,
    is_same,
    patience,
    preference_of,
)
from services.gateway.errors import (
    MfaRequiredError,
    PayloadTooLargeError,
    PreconditionFailedError,
    RequestRunningError,
    UnsupportedMediaTypeError,
)
from services.gateway.identity.people.acting import Act
from services.gateway.identity.people.scribe import Ending
from services.gateway.identity.scopes import ANYBODY, PLATFORM, SELF
from services.gateway.identity.tokens import Principal
from services.gateway.routes.operation import (
    Accepted,
    Answer,
    AnyOperation,
    Call,
    Gateway,
    NotVisibleYetError,
    not_found,
)
from services.gateway.routes.sheets import sheet

AnyRequest = Request[Any, Any, Any]  # Any: no user, auth or state of Litestar is used
AnyCall: TypeAlias = Call[Any, Any]  # Any: each operation has its own query and body

BODY_BYTES_MAX = 8 * 1024 * 1024
USER_AGENT_LENGTH_MAX = 400
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
    shown_by = methods.get("GET")
    by_method = {**methods, "HEAD": shown_by} if shown_by is not None else methods

    async def answer(request: AnyRequest) -> Response[bytes] | Response[str]:
        operation = by_method[request.method]
        try:
            reply = await _Request(operation, gateway, request, shown_by=shown_by).answer()
        except AppError as refusal:
            if operation.is_page and "text/html" in request.headers.get("accept", ""):
                return sheet(
                    "Not signed in", f"<main><p>{escape(refusal.message)}</p></main>", status=refusal.status
                )
            raise
        return Response(
            reply.body,
            status_code=reply.status,
            media_type="application/json",
            headers=dict(reply.headers),
            cookies=[_cookie(cookie) for cookie in reply.cookies],
        )

    return HTTPRouteHandler(
        _PARAMETER.sub(r"{\1:str}", path),
        http_method=[HttpMethod(method) for method in by_method],
        # Litestar would take a lone DELETE for one that answers with 204; the operation says what it answers with.
        status_code=200,
        name="/".join(operation.id for operation in methods.values()),
        include_in_schema=False,
        request_max_body_size=BODY_BYTES_MAX,
    )(answer)


def _cookie(cookie: SetCookie) -> Cookie:
    return Cookie(
        key=cookie.name,
        value=cookie.value,
        path=cookie.path,
        max_age=cookie.seconds,
        secure=cookie.is_secure,
        httponly=True,
        samesite=cookie.same_site,
    )


class _Request:
    """One request to an operation, from the door to its answer.

    shown_by: the GET of the same path, whose representation entity tags are about.
    """

    def __init__(
        self, operation: AnyOperation, gateway: Gateway, request: AnyRequest, *, shown_by: AnyOperation | None
    ) -> None:
        self._operation = operation
        self._gateway = gateway
        self._request = request
        self._shown_by = shown_by
        self._visit = visit_of(request.scope)
        self._headers = {"Cache-Control": "no-store"}

    async def answer(self) -> Reply:
        """The answer. Raises the refusal that it deserves."""
        operation, visit = self._operation, self._visit
        principal = _PUBLIC
        if operation.scope is not None:
            principal = visit.allowed()
            allow(operation, principal)
        query, scope = _query(operation.query, self._request)
        call = Call(
            principal=principal,
            path=_path(self._request.path_params),
            query=query,
            body=await _body(operation, self._request),
            scope=scope,
            ip=visit.address,
            user_agent=(visit.header(b"user-agent") or "")[:USER_AGENT_LENGTH_MAX],
            cookies=visit.cookies,
        )
        if operation.method == "GET":
            return await self._shown(call)
        key = visit.header(b"idempotency-key")
        if key is None or operation.method == "DELETE" or operation.scope is None:
            # Without a token nobody is known to whom an answer could be given again.
            return await self._changed(call)
        return await self._once(call, checked_key(key))

    async def _once(self, call: AnyCall, key: str) -> Reply:
        """The answer to a request that must not run twice."""
        identity = Identity(
            workspace_id=call.workspace_id,
            principal_id=call.principal.user_id,
            method=self._operation.method,
            path=self._request.scope["path"],
            key=key,
        )
        content = self._request.scope["query_string"] + b"\n" + await self._request.body()
        return await self._gateway.once.run(identity, content=content, work=lambda: self._changed(call))

    async def _shown(self, call: AnyCall) -> Reply:
        """The answer to a GET, or 304 when the caller has it already."""
        reply = await self._handled(call)
        if reply.status != 200:
            return reply
        etag = etag_of(reply.body)
        headers = {**reply.headers, "ETag": etag}
        known = self._visit.header(b"if-none-match")
        if known is not None and is_same(known, etag):
            return Reply(304, headers, b"")
        return Reply(200, headers, reply.body)

    async def _changed(self, call: AnyCall) -> Reply:
        """The answer to a change: with If-Match only while the resource is as the caller knows it."""
        wanted = self._visit.header(b"prefer")
        preference = preference_of(wanted) if wanted is not None else None
        if preference is not None:
            patience.set(preference.seconds)
            self._headers["Preference-Applied"] = preference.applied
        expected = self._visit.header(b"if-match")
        if expected is None or self._operation.method == "POST":
            return self._tagged(await self._handled(call))
        busy = RequestRunningError(
            "Others are changing this now, each if it is as they know it. Try again in a moment."
        )
        async with self._gateway.once.alone(call.workspace_id, self._request.scope["path"], busy=busy):
            etag = await self._present_etag(call)
            if not is_expected(expected, etag):
                raise PreconditionFailedError(
                    "It is not as your If-Match says. Read it again, then decide.",
                    details={"If-Match": f"now {etag}" if etag else "there is nothing to compare with"},
                )
            return self._tagged(await self._handled(call))

    async def _present_etag(self, call: AnyCall) -> str | None:
        """The tag of the resource as it is now, with all that the log held when this was asked; None: there is none."""
        if self._shown_by is None:
            return None
        resources = self._gateway.resources
        end = await resources.event_log.last_seq(resources.event_log.partition_of(call.workspace_id))
        if not await resources.reached(call.workspace_id, end, timeout=WAIT_SECONDS_MAX):
            raise UnavailableError("The read model is behind, so If-Match cannot be checked now.")
        present = await self._shown_by.handle(
            self._gateway, msgspec.structs.replace(call, query=self._shown_by.query(), body=None)
        )
        return etag_of(_encoded(self._shown_by, present).body)

    def _tagged(self, reply: Reply) -> Reply:
        """With the entity tag, when the answer to a change is what a GET would show."""
        if self._shown_by is None or reply.status != 200:
            return reply
        if self._operation.replies.get(200) is not self._shown_by.replies.get(200):
            return reply
        return msgspec.structs.replace(reply, headers={**reply.headers, "ETag": etag_of(reply.body)})

    async def _handled(self, call: AnyCall) -> Reply:
        async with self._written_down(call) as ending:
            try:
                made = await self._made(call)
            except NotVisibleYetError as error:
                location = error.location or self._request.scope["path"]
                made = Answer(202, Accepted(status="accepted", location=location), {"Location": location})
            if isinstance(made, Answer):
                ending.outcome = made.outcome
        reply = _encoded(self._operation, made)
        return msgspec.structs.replace(reply, headers={**self._headers, **reply.headers})

    def _written_down(self, call: AnyCall) -> AbstractAsyncContextManager[Ending]:
        """Note a deed in the audit log: names of fields, never what is in them."""
        deed = self._operation.deed
        if deed is None:
            return nullcontext(Ending())
        target_id = call.workspace_id if deed.of is None else call.path[deed.of]
        act = Act(principal=call.principal, ip=call.ip, now=self._gateway.resources.clock())
        metadata = {"fields": _given(call.body)}
        return self._gateway.scribe.deed(act, deed.action, deed.category, (deed.target, target_id), metadata)

    async def _made(self, call: AnyCall) -> Struct | Answer | None:
        """What the handler makes, of the rows as they are or as they were."""
        gateway = self._gateway
        as_of = call.query.as_of if self._operation.has_past else None
        if as_of is None:
            return await self._operation.handle(gateway, call)
        async with gateway.pasts.at(call.workspace_id, as_of) as (rows, resources):
            past = msgspec.structs.replace(gateway, pool=rows, resources=resources)
            return await self._operation.handle(past, call)


def _given(body: object) -> str | None:
    """Which fields a body has, by name; None when it has none."""
    if not isinstance(body, Struct):
        return None
    given = [
        field.encode_name
        for field in msgspec.structs.fields(body)
        if getattr(body, field.name) not in (None, msgspec.UNSET, field.default)
    ]
    return ", ".join(given) or None


def _encoded(operation: AnyOperation, made: Struct | Answer | None) -> Reply:
    """What a handler made, as bytes."""
    answer = made if isinstance(made, Answer) else Answer(next(iter(operation.replies)), made)
    body = b"" if answer.body is None else msgspec.json.encode(answer.body)
    return Reply(answer.status, answer.headers, body, answer.cookies)


def allow(operation: AnyOperation, principal: Principal) -> None:
    """Raise ForbiddenError or MfaRequiredError unless the operation is open to this principal."""
    if principal.owes_second_factor and not operation.without_second_factor:
        raise MfaRequiredError("Give your second factor first.")
    if (principal.kind == "platform") != (operation.scope == PLATFORM):
        raise ForbiddenError("A provisioning key is for provisioning, and nothing else is.")
    if operation.scope == SELF:
        if not principal.is_person:
            raise ForbiddenError("This is for people who are signed in; an API token is not enough.")
        if operation.of_the_person and principal.is_vouched:
            raise ForbiddenError(
                "Your organization's own provider signed you in, which is good for its workspace. This is about you in"
                " every workspace: sign in through the platform's provider.",
                details={"reason": "platform_session"},
            )
    elif (
        operation.scope not in (ANYBODY, PLATFORM)
        and not {operation.scope, operation.or_scope} & principal.scopes
    ):
        raise ForbiddenError(
            f"This needs the scope {operation.scope}.", details={"scope": str(operation.scope)}
        )


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
            if not kind.__struct_config__.forbid_unknown_fields:
                continue
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
    if operation.is_body_optional and not await request.body():
        return msgspec.convert({}, operation.body)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMediaTypeError("Send JSON with Content-Type: application/json.")
    raw = await request.body()
    if len(raw) > BODY_BYTES_MAX:
        raise PayloadTooLargeError(f"The body has {len(raw)} bytes; at most {BODY_BYTES_MAX} are taken.")
    if is_too_deep(raw):
        raise ValidationFailedError(
            f"The body nests deeper than {DEPTH_MAX} levels.", details={"body": "nested too deeply"}
        )
    if operation.body is bytes:
        return raw
    try:
        return msgspec.json.decode(raw, type=operation.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        details = faults_in(raw, operation.body, error)
        raise ValidationFailedError(_message(details), details=details) from error


def _message(details: Mapping[str, str]) -> str:
    return "; ".join(f"{field}: {fault}" for field, fault in details.items())
