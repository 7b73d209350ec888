"""SCIM over HTTP (RFC 7644): paths, headers, media type and errors of the standard instead of ours."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import structlog
from litestar import HttpMethod, Request, Response
from litestar.datastructures import State
from litestar.exceptions import ClientException
from litestar.handlers import HTTPRouteHandler
from pydantic import ValidationError
from runtime.database import tenant
from runtime.errors import ForbiddenError, described
from runtime.faults import refusal_for
from scim2_models import (
    Context,
    Error,
    ForbiddenException,
    InvalidSyntaxException,
    ListResponse,
    NotFoundException,
    PayloadTooLargeException,
    Resource,
    ResourceType,
    ResponseParameters,
    Schema,
    SCIMException,
    SearchRequest,
)

from services.gateway.edge.door import visit_of
from services.gateway.errors import MfaRequiredError
from services.gateway.identity.people.acting import Act
from services.gateway.identity.scim.directory import Directory, Page
from services.gateway.identity.scim.resources import CONFIG, PROVIDER, SCHEMAS, Group, User
from services.gateway.identity.tenancy.plans import load_plan
from services.gateway.routes.operation import Gateway

log = structlog.get_logger()

AnyRequest = Request[object, object, State]

SCOPE: Final = "scim:write"
ROOT: Final = "/v1/scim/v2"
MEDIA_TYPE: Final = "application/scim+json"
BODY_BYTES_MAX: Final = 1024 * 1024
_METHODS: Final = (HttpMethod.GET, HttpMethod.POST, HttpMethod.PUT, HttpMethod.PATCH, HttpMethod.DELETE)
_FIXED: Final = frozenset({"ServiceProviderConfig", "ResourceTypes", "Schemas"})
_KINDS: Final[Mapping[str, type[Resource[Any]]]] = {"Users": User, "Groups": Group}


def scim_routes(gateway: Gateway) -> list[HTTPRouteHandler]:
    """One handler for everything below /v1/scim/v2, so that nothing there is answered in another form."""

    async def answer(request: AnyRequest) -> Response[bytes]:
        try:
            return await _answer(gateway, request)
        except Exception as error:  # noqa: BLE001  # edge: every fault becomes an answer of the standard's form
            return _refusal(request, error)

    return [
        HTTPRouteHandler(
            [ROOT, f"{ROOT}/{{rest:path}}"],
            http_method=list(_METHODS),
            name="scim",
            include_in_schema=False,
            request_max_body_size=BODY_BYTES_MAX,
            opt={"scope": SCOPE},
        )(answer)
    ]


async def _answer(gateway: Gateway, request: AnyRequest) -> Response[bytes]:
    visit = visit_of(request.scope)
    principal = visit.allowed()
    if principal.owes_second_factor:
        raise MfaRequiredError("Give your second factor first.")
    if SCOPE not in principal.scopes:
        raise ForbiddenError(f"This needs the scope {SCOPE}.")
    act = Act(principal=principal, ip=visit.address, now=gateway.resources.clock())
    base = gateway.settings.public_address + ROOT
    segments = [part for part in str(request.path_params.get("rest", "")).split("/") if part]
    if segments and segments[0] in _FIXED:
        return _discovery(request, segments, base=base)
    kind = _KINDS.get(segments[0]) if segments else None
    if kind is None:
        if segments == [".search"]:
            return _error(Error(status=501, detail="Search below /Users or /Groups."))
        raise NotFoundException(detail="There is nothing at this address.")
    if any("\x00" in part for part in segments):
        raise NotFoundException(detail="No id has U+0000 in it.")
    async with tenant(gateway.people, principal.workspace_id) as conn:
        (await load_plan(conn, principal.workspace_id, now=act.now)).require("scim")
        directory = Directory(conn, act, base=base, rng=gateway.rng)
        response = await _Desk(request, directory, kind, segments[0]).serve(segments[1:])
    gateway.access.forget(*directory.touched)
    return response


class _Desk:
    """Serves one request about users or groups."""

    def __init__(
        self, request: AnyRequest, directory: Directory, kind: type[Resource[Any]], endpoint: str
    ) -> None:
        self._request = request
        self._directory = directory
        self._kind = kind
        self._is_users = endpoint == "Users"
        self._if_match = request.headers.get("if-match")

    async def serve(self, rest: list[str]) -> Response[bytes]:
        """The answer for what is below /Users or /Groups."""
        match (self._request.method, rest):
            case ("GET", []):
                return await self._list(_search_of(self._kind, dict(self._request.query_params)))
            case ("POST", [".search"]):
                return await self._list(_search_of(self._kind, await self._body()))
            case ("POST", []):
                return await self._create()
            case ("GET", [identifier]):
                return await self._get(identifier)
            case ("PUT" | "PATCH", [identifier]):
                return await self._change(identifier)
            case ("DELETE", [identifier]):
                delete = self._directory.delete_user if self._is_users else self._directory.delete_group
                await delete(identifier, if_match=self._if_match)
                return Response(b"", status_code=204, media_type=MEDIA_TYPE)
            case (_, [] | [_]):
                return _not_allowed()
        raise NotFoundException(detail="There is nothing at this address.")

    async def _list(self, asked: SearchRequest[Any]) -> Response[bytes]:
        find = self._directory.find_users if self._is_users else self._directory.find_groups
        return _list_response(self._kind, await find(asked), asked)

    async def _create(self) -> Response[bytes]:
        make = self._directory.create_user if self._is_users else self._directory.create_group
        made = await make(await self._body())
        return _resource(made, Context.RESOURCE_CREATION_RESPONSE, self._shape(), status=201)

    async def _get(self, identifier: str) -> Response[bytes]:
        found = await (self._directory.user if self._is_users else self._directory.group)(identifier)
        version = found.meta.version if found.meta else None
        known = self._request.headers.get("if-none-match", "")
        if version and (known.strip() == "*" or version in [tag.strip() for tag in known.split(",")]):
            return Response(b"", status_code=304, headers={"ETag": version}, media_type=MEDIA_TYPE)
        return _resource(found, Context.RESOURCE_QUERY_RESPONSE, self._shape())

    async def _change(self, identifier: str) -> Response[bytes]:
        body = await self._body()
        if self._request.method == "PUT":
            replace = self._directory.replace_user if self._is_users else self._directory.replace_group
            changed: Resource[Any] = await replace(identifier, body, if_match=self._if_match)
            return _resource(changed, Context.RESOURCE_REPLACEMENT_RESPONSE, self._shape())
        patch = self._directory.patch_user if self._is_users else self._directory.patch_group
        changed = await patch(identifier, body, if_match=self._if_match)
        return _resource(changed, Context.RESOURCE_PATCH_RESPONSE, self._shape())

    def _shape(self) -> ResponseParameters[Any]:
        """Which attributes the caller wants back."""
        generic: Any = ResponseParameters
        wanted = {
            key: value
            for key, value in self._request.query_params.items()
            if key.lower() in ("attributes", "excludedattributes")
        }
        shape: ResponseParameters[Any] = generic[self._kind].model_validate(wanted)
        return shape

    async def _body(self) -> dict[str, object]:
        """The JSON object that was sent. Raises InvalidSyntaxException."""
        raw = await self._request.body()
        if len(raw) > BODY_BYTES_MAX:
            raise PayloadTooLargeException
        if b"\\u0000" in raw or b"\x00" in raw:
            raise InvalidSyntaxException(detail="U+0000 cannot be kept.")
        try:
            return msgspec.json.decode(raw, type=dict[str, object])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidSyntaxException(detail=f"The body is no JSON object: {error}") from error


def _discovery(request: AnyRequest, segments: list[str], *, base: str) -> Response[bytes]:
    """What the service says of itself."""
    if request.method != "GET":
        return _not_allowed()
    if "filter" in request.query_params:
        # RFC 7644, section 4: a filter here must not be ignored.
        raise ForbiddenException(detail="Discovery takes no filter.")
    resources: list[Any]
    match segments:
        case ["ServiceProviderConfig"]:
            return _resource(
                _placed(CONFIG, f"{base}/ServiceProviderConfig"), Context.RESOURCE_QUERY_RESPONSE
            )
        case ["ResourceTypes", *rest]:
            kind: type[Resource[Any]] = ResourceType
            resources = [_placed(each, f"{base}/ResourceTypes/{each.id}") for each in PROVIDER.resource_types]
        case ["Schemas", *rest]:
            kind = Schema
            resources = [_placed(each, f"{base}/Schemas/{each.id}") for each in SCHEMAS]
        case _:
            raise NotFoundException(detail="There is nothing at this address.")
    match rest:
        case []:
            generic: Any = SearchRequest
            return _list_response(kind, Page(resources, len(resources), 1), generic[kind]())
        case [identifier]:
            for each in resources:
                if str(each.id).lower() == identifier.lower():
                    return _resource(each, Context.RESOURCE_QUERY_RESPONSE)
    raise NotFoundException(detail=f"There is no {'/'.join(segments)}.")


def _placed(resource: Any, location: str) -> Any:  # Any: whichever of the three kinds, given back as it came
    """A copy with its place."""
    copy = resource.model_copy(deep=True)
    copy.meta = {"resourceType": type(resource).__name__, "location": location}
    return copy


def _search_of(kind: type[Resource[Any]], given: dict[str, Any]) -> SearchRequest[Any]:
    """What a list is asked for, from the address or from the body of a search. Raises pydantic's ValidationError."""
    generic: Any = SearchRequest
    asked: SearchRequest[Any] = generic[kind].model_validate(given)
    return asked


def _list_response(kind: type[Resource[Any]], page: Page, asked: SearchRequest[Any]) -> Response[bytes]:
    generic: Any = ListResponse
    body = generic[kind](
        total_results=page.total,
        start_index=page.start,
        items_per_page=len(page.resources),
        resources=list(page.resources),
    ).model_dump_json(scim_ctx=Context.RESOURCE_QUERY_RESPONSE, response_parameters=asked)
    return Response(
        body.encode(), status_code=200, media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"}
    )


def _resource(
    resource: Resource[Any],
    context: Context,
    shape: ResponseParameters[Any] | None = None,
    *,
    status: int = 200,
) -> Response[bytes]:
    body = resource.model_dump_json(scim_ctx=context, response_parameters=shape)
    headers = {"Cache-Control": "no-store"}
    if resource.meta is not None and resource.meta.version:
        headers["ETag"] = resource.meta.version
    if resource.meta is not None and resource.meta.location:
        headers["Location" if status == 201 else "Content-Location"] = str(resource.meta.location)
    return Response(body.encode(), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def _not_allowed() -> Response[bytes]:
    return _error(Error(status=405, detail="That method is not possible here."))


def _error(error: Error) -> Response[bytes]:
    status = error.status or 500
    headers = {"Cache-Control": "no-store", **({"WWW-Authenticate": "Bearer"} if status == 401 else {})}
    return Response(
        error.model_dump_json().encode(), status_code=status, media_type=MEDIA_TYPE, headers=headers
    )


def _refusal(request: AnyRequest, error: Exception) -> Response[bytes]:
    """Whatever was raised in the standard's form; a bug of ours is logged with its trace."""
    match error:
        case SCIMException():
            return _error(error.to_error())
        case ValidationError():
            return _error(Error.from_validation_errors(error)[0])
        case ClientException():
            return _error(Error(status=error.status_code, detail=error.detail))
    refusal = refusal_for(error)
    if refusal.status >= 500:
        log.exception("scim.failed", path=request.scope["path"], error=described(error), exc_info=error)
    response = _error(Error(status=refusal.status, detail=f"{refusal.code}: {refusal.message}"))
    if refusal.retry_after is not None:
        response.headers["Retry-After"] = str(max(1, round(refusal.retry_after)))
    return response
