"""The OpenAPI 3.1 document: written from the operations, so that it cannot say anything else than they do."""

import re
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, TypeAlias, assert_never

import msgspec
from msgspec import Struct
from runtime.problems import PROBLEM_MEDIA_TYPE, Problem

from services.gateway.identity.scopes import ANYBODY, PLATFORM, SELF
from services.gateway.routes.operation import AnyOperation

Json: TypeAlias = dict[str, Any]  # Any: JSON

_PARAMETER = re.compile(r"{(\w+)}")
_REASONS: Mapping[int, str] = {
    400: "The request does not have the required shape; `error.details` names each field.",
    401: "The token is missing, wrong or expired.",
    403: "The token lacks the scope, or the person is not known here.",
    404: "It does not exist in this workspace.",
    409: "Its state does not allow this, somebody was faster, or the `Idempotency-Key` belongs to another request.",
    412: "It is not as `If-Match` says.",
    413: "The body is longer than 8 MiB.",
    414: "Path and query are longer than 8 KiB.",
    415: "The body is not JSON.",
    422: "Well-formed, but not possible.",
    429: "Too many requests in this minute; see Retry-After.",
    431: "The headers are longer than 32 KiB.",
    500: "A bug of ours; the log has more under the same trace id.",
    503: "Something that is needed does not answer now; see Retry-After.",
}
_SUCCESS: Mapping[int, str] = {
    200: "Done.",
    201: "Made.",
    202: "Taken, durable.",
    204: "Done; there is nothing to say.",
    302: "Go on at `Location`.",
}
_WHOLE = {"type": "integer", "minimum": 0}
_HEADERS: Mapping[str, Json] = {
    "X-Request-Id": {
        "description": "Equals error.trace_id and the logs' id.",
        "schema": {"type": "string"},
    },
    "X-RateLimit-Limit": {
        "description": "Requests a minute; absent without a limit.",
        "schema": _WHOLE,
    },
    "X-RateLimit-Remaining": {"description": "How many are left in this minute.", "schema": _WHOLE},
    "X-RateLimit-Reset": {"description": "Seconds until the next minute begins.", "schema": _WHOLE},
    "Retry-After": {"description": "Seconds to wait.", "schema": _WHOLE},
    "ETag": {"description": "Changes with the representation's bytes.", "schema": {"type": "string"}},
    "Location": {"description": "What will show it in a moment.", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "`true`: the answer of an earlier request with the same key.",
        "schema": {"type": "string"},
    },
    "Preference-Applied": {
        "description": "What was heeded of `Prefer`.",
        "schema": {"type": "string"},
    },
}
_ALWAYS = ("X-Request-Id", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_ASKED_FOR: Mapping[str, Json] = {
    "Idempotency-Key": {
        "description": "Runs once for each key; a repeat within 24 hours gets the first answer again.",
        "schema": {"type": "string", "pattern": r"^[!-~]{1,255}$(?!\n)"},
    },
    "If-Match": {
        "description": "An `ETag`: change it only while it is so.",
        "schema": {"type": "string"},
    },
    "If-None-Match": {
        "description": "An `ETag`: 304 when it is still so.",
        "schema": {"type": "string"},
    },
    "Prefer": {
        "description": "`wait=N`: wait at most N seconds, up to 10, until a GET finds it. `respond-async`: do not wait.",
        "schema": {"type": "string"},
    },
}
_TAGS: Mapping[str, str] = {
    "Auth": "Signing in and out, sessions, oneself.",
    "MFA": "Second factors of whoever is signed in.",
    "Single sign-on": "The workspace's own identity providers.",
    "Tokens": "What programs sign in with.",
    "Issues": "Failures, one by one.",
    "Ingestion": "Failures by the hundred.",
    "Patterns": "Root causes that issues share.",
    "Clusters": "Patterns that hang together, and why.",
    "Fixes": "What fixes have prevented.",
    "Predictions": "How likely a pattern is to recur.",
    "Recommendations": "What to do about it, best first.",
    "Playbook": "The remediations that recommendations are drawn from.",
    "Provisioning": "Making clients, by whoever runs the platform.",
    "Connectors": "Sources: signing in, runs, mappings, and what they post.",
    "Webhooks": "Addresses of yours that are told of events, what they were sent and what they said.",
    "Workspace": "The tenant and how its services judge.",
    "People": "Who belongs to the workspace, and who is invited.",
    "Audit": "Who did what, in a chain that shows when a line was changed.",
    "Governance": "How long data is kept, exports of it, and its erasure.",
}
_NEEDS: Mapping[str, str] = {
    SELF: "Needs a signed-in person; no API token is enough.",
    ANYBODY: "Needs any token that is good.",
    PLATFORM: "Needs a provisioning key, `clp_admin_…`.",
}
_DESCRIPTION = (
    "Raw failures become issues, issues that share a root cause become patterns, patterns yield predictions and ranked"
    " recommendations. Every call sees one workspace: the token's. Lists come as `{data, page}`; a page leads on with"
    " `page.next_cursor`. Errors are RFC 9457 problems that also carry `error.code` and `error.trace_id`. Live changes"
    " come over the WebSocket `/v1/stream?token=…&workspace=…`, and as signed webhooks to addresses of yours:"
    " `POST /v1/webhooks` with the events that you choose."
)


def document(
    operations: Sequence[AnyOperation], *, version: str, items: Mapping[str, Json] | None = None
) -> Json:
    """The whole document as JSON values. items: of paths that are no operations."""
    types = _types(operations)
    schemas, components = msgspec.json.schema_components(
        types, schema_hook=_any_value, ref_template="#/components/schemas/{name}"
    )
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, Json] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
            operation, by_type, components
        )
    for query in {operation.query for operation in operations}:
        # Queries are parameters, not bodies.
        components.pop(query.__name__, None)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Causeloop API", "version": version, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": {**paths, **(items or {})},
        "components": {
            "schemas": components,
            "headers": dict(_HEADERS),
            "parameters": {
                name: {"name": name, "in": "header", "required": False, **described}
                for name, described in _ASKED_FOR.items()
            },
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An access token of /v1/auth/exchange.",
                }
            },
        },
    }


def _any_value(kind: type) -> Json:
    """The schema of what may be any JSON value."""
    if kind is object:
        return {"description": "Any JSON value."}
    raise NotImplementedError(f"no schema for {kind!r}")


def _types(operations: Sequence[AnyOperation]) -> list[type | UnionType]:
    """Every type that the document speaks of, once."""
    found: dict[type | UnionType, None] = {Problem: None}
    for operation in operations:
        found[operation.query] = None
        for kind in (*operation.replies.values(), operation.described_body or operation.body):
            if kind is not None and kind is not bytes:
                found[kind] = None
    return list(found)


def _operation(
    operation: AnyOperation, schemas: Mapping[type | UnionType, Json], components: Mapping[str, Json]
) -> Json:
    made: Json = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": [
            *_path_parameters(operation),
            *_query_parameters(operation.query, components),
            *({"$ref": f"#/components/parameters/{name}"} for name in _headers_heeded(operation)),
        ],
        "responses": _responses(operation, schemas),
    }
    if operation.scope is not None:
        made["security"] = [{"bearer": []}]
        needs = _NEEDS.get(operation.scope, f"Needs the scope `{operation.scope}`.")
        made["description"] = f"{operation.description} {needs}".strip()
        if operation.scope not in _NEEDS:
            made["x-required-scope"] = operation.scope
    elif operation.description:
        made["description"] = operation.description
    body = operation.described_body or operation.body
    if body is not None:
        made["requestBody"] = {
            "required": not operation.is_body_optional,
            "content": {"application/json": {"schema": schemas[body]}},
        }
    return made


def _responses(operation: AnyOperation, schemas: Mapping[type | UnionType, Json]) -> Json:
    responses: Json = {
        str(status): {
            "description": _SUCCESS[status],
            "headers": _headers_sent(operation, status),
            **({} if kind is None else {"content": {"application/json": {"schema": schemas[kind]}}}),
        }
        for status, kind in operation.replies.items()
    }
    if operation.method == "GET":
        responses["304"] = {
            "description": "It is as `If-None-Match` says.",
            "headers": _headers_sent(operation, 304),
        }
    for status in refusals_of(operation):
        responses[str(status)] = {
            "description": _REASONS[status],
            "headers": _headers_sent(operation, status),
            "content": {PROBLEM_MEDIA_TYPE: {"schema": schemas[Problem]}},
        }
    return responses


def _headers_sent(operation: AnyOperation, status: int) -> Json:
    """The headers that an answer of this status may have."""
    names = list(_ALWAYS)
    if status in (409, 429, 503):
        names.append("Retry-After")
    if status in (200, 304) and operation.method in ("GET", "PATCH", "PUT"):
        names.append("ETag")
    if status == 202:
        names.append("Location")
    if status < 300 and operation.method != "GET":
        names += [
            "Preference-Applied",
            *(["Idempotency-Replayed"] if "Idempotency-Key" in _headers_heeded(operation) else []),
        ]
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _headers_heeded(operation: AnyOperation) -> tuple[str, ...]:
    """The headers that change what a request does. Without a token nobody is known to whom an answer could be repeated."""
    once = () if operation.scope is None else ("Idempotency-Key",)
    match operation.method:
        case "GET":
            return ("If-None-Match",)
        case "POST":
            return (*once, "Prefer")
        case "PATCH" | "PUT":
            return (*once, "If-Match", "Prefer")
        case "DELETE":
            return ("If-Match", "Prefer")
        case never:
            assert_never(never)


def refusals_of(operation: AnyOperation) -> tuple[int, ...]:
    """Every status other than success that an operation can answer with."""
    general = {400, 414, 429, 431, 500, 503}
    if operation.scope is not None:
        general |= {401, 403}
    if "{" in operation.path:
        general |= {404}
    if operation.body is not None:
        general |= {413, 415}
    heeded = _headers_heeded(operation)
    if "Idempotency-Key" in heeded:
        general |= {409}
    if "If-Match" in heeded:
        general |= {409, 412}
    if operation.has_past:
        general |= {422}
    return tuple(sorted(general | set(operation.refusals)))


def _path_parameters(operation: AnyOperation) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PARAMETER.findall(operation.path)
    ]


def _query_parameters(query: type[Struct], components: Mapping[str, Json]) -> list[Json]:
    schema = components.get(query.__name__, {})
    return [_query_parameter(name, dict(kind)) for name, kind in schema.get("properties", {}).items()]


def _query_parameter(name: str, schema: Json) -> Json:
    """A field of the query's Struct as a parameter: a query has no null, and lists are separated by commas."""
    description = schema.pop("description", None)
    if schema.get("default", 0) is None:
        del schema["default"]
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        schema = {**{key: value for key, value in schema.items() if key != "anyOf"}, **options[0]}
    elif options:
        schema["anyOf"] = options
    made: Json = {"name": name, "in": "query", "required": False}
    if schema.get("type") == "array":
        schema["minItems"] = 1
        made |= {"style": "form", "explode": False}
    description = description or schema.pop("description", None)
    if description:
        made["description"] = description
    return {**made, "schema": schema}
