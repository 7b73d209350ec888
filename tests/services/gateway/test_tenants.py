"""Two tenants full of data: no route shows one of them anything of the other, and each is open to whom it should be."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest
from msgspec import Struct
from testkit.stack import Stack
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from services.gateway.app import OPERATIONS
from services.gateway.identity.scopes import ANYBODY, PLATFORM, ROLES, SELF
from services.gateway.routes.operation import AnyOperation
from tests.services.gateway.inhabited import FREE_PARAMETERS, PREFIXES, SCIM, Inhabited, Two
from tests.services.gateway.tenants import execute, join, sign_in

PARAMETER = re.compile(r"{(\w+)}")

BODIES: Mapping[str, dict[str, Any]] = {
    "/v1/auth/sync": {"subject_token": "x"},
    "/v1/service-accounts/{service_account_id}/tokens": {"name": "x", "scopes": ["issues:read"]},
    "/v1/mfa/passkeys/{passkey_id}": {"name": "x"},
    "/v1/issues/{issue_id}/link-pattern": {"pattern_id": "{pattern_id}"},
    "/v1/patterns/{pattern_id}/close": {"closure_note": "x"},
    "/v1/patterns/{pattern_id}/merge": {"source_pattern_id": "{pattern_id}"},
    "/v1/patterns/{pattern_id}/split": {"issue_ids": ["{issue_id}"]},
    "/v1/issues/{issue_id}/comments": {"text": "x"},
    "/v1/contradictions/{contradiction_id}/answer": {"keep": "later"},
    "/v1/scim-groups/{group_id}": {"role": "viewer"},
    "/v1/governance/rtbf/requests/{request_id}": {"status": "verifying"},
    "/v1/governance/rtbf/requests/{request_id}/reject": {"reason": "x"},
    "/v1/predictions/{prediction_id}/feedback": {"outcome": "hit"},
    "/v1/recommendations/{recommendation_id}": {"status": "accepted"},
    "/v1/connectors/{connector_id}/schedule": {"poll_interval_seconds": 3600},
    "/v1/connectors/{connector_id}/backfill": {"from": "2026-01-01T00:00:00Z"},
}
"""Bodies that get past the decoder, for operations that need one and have an id in their path."""

ITS_OWN_SECRET = {
    "/v1/invitations/look": "whoever has the link may look; its token is nowhere in an answer but that to the sender",
    "/v1/invitations/accept": "likewise",
    "/v1/auth/exchange": "proved below",
    "/v1/auth/refresh": "whoever has the token",
    "/v1/auth/login": "for people who are not signed in yet",
    "/v1/auth/callback": "likewise",
    "/v1/auth/links/{connection_id}": "somebody of another tenant is asked by it; proved in test_vouching",
    "/v1/provisioning/clients": "of no tenant",
}
"""Operations that are not about the caller's workspace, and what guards them."""


def is_id(parameter: str) -> bool:
    return parameter not in FREE_PARAMETERS


def requests_with_ids(of: Inhabited) -> Iterator[tuple[AnyOperation, str, dict[str, Any]]]:
    """Every operation with an id in its path, as a request about this tenant's things."""
    for operation in OPERATIONS:
        parameters = PARAMETER.findall(operation.path)
        if operation.path in ITS_OWN_SECRET or not any(map(is_id, parameters)):
            continue
        path = of.path_of(operation)
        assert path is not None, f"{operation.path}: no id is known for it; add its kind, and make one"
        body = BODIES.get(operation.path, {})
        needs = {
            field.encode_name
            for field in (msgspec.structs.fields(operation.body) if is_struct(operation.body) else ())
            if field.required
        }
        assert needs <= set(body), f"{operation.path}: add a body with {needs}"
        yield operation, path, filled(body, of)


def is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def filled(body: dict[str, Any], of: Inhabited) -> dict[str, Any]:
    """The body with this tenant's ids."""
    text = msgspec.json.encode(body).decode()
    for parameter in PREFIXES:
        text = text.replace(f'"{{{parameter}}}"', f'"{of.an_id(parameter)}"')
    found: dict[str, Any] = msgspec.json.decode(text)
    return found


def send(
    client: httpx.Client, operation: AnyOperation, path: str, body: dict[str, Any], **more: Any
) -> httpx.Response:
    return client.request(
        operation.method, path, **({} if operation.body is None else {"json": body}), **more
    )


def shows(answer: httpx.Response, of: Inhabited, *, asked: str = "") -> list[str]:
    """What an answer has of this tenant, except what the caller wrote."""
    text = answer.text
    known = [found for ids in of.ids.values() for found in ids if found not in asked]
    known += [of.word, of.tenant.slug, of.tenant.owner_email, of.keyholder_id]
    return [each for each in known if each in text]


def test_what_is_anothers_is_not_there(two: Two) -> None:
    """With ids of B in the path A gets 404 from every operation, in the words that an id gets that nobody has."""
    asked = 0
    for operation, path, body in requests_with_ids(two.b):
        client = two.a.keyholder if operation.path.startswith("/v1/mfa") else two.a.owner
        answer = send(client, operation, path, body)
        assert answer.status_code == 404, (operation.method, path, answer.text)
        assert shows(answer, two.b, asked=path + str(body)) == [], (operation.method, path)
        assert plain(answer) == plain(send(client, operation, unknown(path), filled_unknown(body))), (
            operation.path
        )
        if operation.method in ("PATCH", "PUT"):
            matched = send(client, operation, path, body, headers={"If-Match": '"x"'})
            assert matched.status_code in (404, 412), (path, matched.text)
            assert shows(matched, two.b, asked=path + str(body)) == []
            nobodys = send(
                client, operation, unknown(path), filled_unknown(body), headers={"If-Match": '"x"'}
            )
            assert plain(matched) == plain(nobodys), operation.path
        asked += 1
    assert asked > 30


def unknown(text: str) -> str:
    """The text with ids of the same kinds that nobody has."""
    return re.sub(
        r"\b((?:[a-z]+_)+)[0-9A-Z]{26}\b", lambda found: found[1] + "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", text
    )


def filled_unknown(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(unknown(msgspec.json.encode(body).decode()))
    return found


def plain(answer: httpx.Response) -> tuple[int, object]:
    """An answer without what is different each time: ids and traces."""
    problem = answer.json()
    problem.pop("instance", None)
    problem["error"].pop("trace_id")
    text = re.sub(r"ing_job_[\w-]+", "_", msgspec.json.encode(problem).decode())
    return answer.status_code, re.sub(r"[a-z_]+_[0-9A-Z]{26}", "_", text)


def test_ids_of_another_lead_nowhere_from_ones_own_things(two: Two) -> None:
    """In a body or beside one's own id in a path: the same 404."""
    a, b = two.a, two.b
    mine = {name: a.an_id(name) for name in PREFIXES}
    theirs = {name: b.an_id(name) for name in PREFIXES}
    for method, path, body in (
        ("POST", f"/v1/issues/{mine['issue_id']}/link-pattern", {"pattern_id": theirs["pattern_id"]}),
        ("POST", f"/v1/patterns/{mine['pattern_id']}/merge", {"source_pattern_id": theirs["pattern_id"]}),
        ("POST", f"/v1/patterns/{mine['pattern_id']}/split", {"issue_ids": [theirs["issue_id"]]}),
        (
            "POST",
            f"/v1/service-accounts/{mine['service_account_id']}/tokens/{theirs['token_id']}/rotate",
            None,
        ),
        ("DELETE", f"/v1/service-accounts/{mine['service_account_id']}/tokens/{theirs['token_id']}", None),
    ):
        answer = a.owner.request(method, path, **({} if body is None else {"json": body}))
        assert answer.status_code in (404, 409, 422), (path, answer.text)
        assert shows(answer, b, asked=path + str(body)) == [], (path, answer.text)
        nobodys = a.owner.request(method, unknown_of(path, theirs), **json_of(body, theirs))
        assert plain(answer) == plain(nobodys), path


def unknown_of(text: str, theirs: Mapping[str, str | None]) -> str:
    """The text with ids that nobody has in the place of theirs."""
    for each in theirs.values():
        if each:
            text = text.replace(each, unknown(each))
    return text


def json_of(body: dict[str, Any] | None, theirs: Mapping[str, str | None]) -> dict[str, Any]:
    if body is None:
        return {}
    return {"json": msgspec.json.decode(unknown_of(msgspec.json.encode(body).decode(), theirs))}


def test_whatever_is_read_has_no_word_of_another(two: Two) -> None:
    """Every GET without an id in its path; filters by an id or a word of B find nothing; B's cursors are none."""
    for operation in OPERATIONS:
        path = two.a.path_of(operation, {})
        if operation.method != "GET" or operation.path in ITS_OWN_SECRET or path is None:
            continue
        answer = two.a.owner.get(path)
        assert answer.status_code < 500, (path, answer.text)
        assert shows(answer, two.b) == [], path
        names = {field.encode_name for field in msgspec.structs.fields(operation.query)}
        for name, value in (
            ("pattern_id", two.b.an_id("pattern_id")),
            ("q", two.b.word),
            ("service", two.b.word),
        ):
            if name in names:
                found = two.a.owner.get(path, params={name: value})
                assert shows(found, two.b, asked=str(value)) in ([], [two.b.word])
                listed = found.json().get("data", found.json().get("entries"))
                assert found.status_code == 404 or listed == [], (path, name, found.text)
        if {"cursor", "limit"} <= names:
            cursor = two.b.owner.get(two.b.path_of(operation) or "", params={"limit": 1}).json()["page"][
                "next_cursor"
            ]
            if cursor is not None:
                assert two.a.owner.get(path, params={"limit": 1, "cursor": cursor}).status_code == 400, path


def test_the_same_external_id_and_the_same_key_are_ones_own(two: Two) -> None:
    """Both reported the same thing under the same Idempotency-Key; both have their own issue of it."""
    body = {"title": "Whoever is first", "external_id": f"first-{uuid4().hex}"}
    key = {"Idempotency-Key": uuid4().hex}
    one, other = (each.owner.post("/v1/issues", json=body, headers=key) for each in (two.a, two.b))
    assert (one.status_code, other.status_code) == (201, 201)
    assert one.json()["id"] != other.json()["id"]
    assert "idempotency-replayed" not in other.headers


def test_nobody_signs_in_to_another_workspace(two: Two, stack: Stack) -> None:
    """Asking for B's workspace is answered as asking for one that nobody has."""
    answers = [
        httpx.post(
            f"{stack.url}/v1/auth/exchange",
            json={"subject_token": two.a.tenant.owner_email, "workspace_id": workspace},
            timeout=30,
        )
        for workspace in (two.b.tenant.workspace_id, unknown(two.b.tenant.workspace_id))
    ]
    assert answers[0].status_code in (403, 404)
    assert plain(answers[0]) == plain(answers[1])


def test_an_invitation_tells_nothing_about_whom_it_is_for(two: Two) -> None:
    """Somebody may be known to another client under a name, which the one who invites them does not get to see."""
    email = two.b.tenant.owner_email
    invited = two.a.owner.post("/v1/invitations", json={"email": email, "role": "viewer"})
    assert invited.status_code == 201, invited.text
    [member] = two.a.owner.get("/v1/members", params={"status": "invited", "q": email}).json()["data"]
    assert (member["name"], member["avatar_url"]) == ("owner", None)
    for answer in (invited, two.a.owner.get("/v1/members"), two.a.owner.get(f"/v1/members/{member['id']}")):
        assert two.b.word not in answer.text
    assert two.a.owner.delete(f"/v1/invitations/{invited.json()['invitation']['id']}").status_code == 204


def test_the_stream_is_of_ones_own_workspace(two: Two, stack: Stack) -> None:
    """A token of A does not open B's, and hears nothing of what B reports."""
    token = str(two.a.owner.headers["Authorization"]).removeprefix("Bearer ")
    address = f"{stack.url.replace('http', 'ws')}/v1/stream?token={token}"
    theirs = f"{address}&workspace={two.b.tenant.workspace_id}"
    with connect(theirs) as socket, pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=30)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4003
    with connect(address) as socket:
        # Only then is it listened to what comes.
        assert '"connected"' in str(socket.recv(timeout=30))
        two.b.owner.post("/v1/issues", json={"title": f"{two.b.word} again"})
        mine = two.a.owner.post("/v1/issues", json={"title": "Heard"}).json()["id"]
        heard = ""
        while mine not in heard:
            heard += str(socket.recv(timeout=30))
        assert two.b.word not in heard
        assert two.b.tenant.workspace_id not in heard


def test_a_directory_sees_only_its_own_people_and_groups(two: Two) -> None:
    """SCIM, whose routes are beside the operations: 404, empty lists, and nobody of B gets into a group of A."""
    a, b = two.a.directory, two.b
    user = next(found["id"] for found in b.directory.get(f"{SCIM}/Users").json()["Resources"])
    group = b.directory.get(f"{SCIM}/Groups").json()["Resources"][0]["id"]
    assert shows(a.get(f"{SCIM}/Users"), b) == []
    assert shows(a.get(f"{SCIM}/Groups"), b) == []
    for kind, name in (("Users", "userName"), ("Groups", "displayName")):
        found = a.get(f"{SCIM}/{kind}", params={"filter": f'{name} co "{b.word}"'})
        assert found.json()["totalResults"] == 0
    patch = {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [{"op": "replace", "path": "displayName", "value": "Mine"}],
    }
    replaced = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": "Mine"}
    for path in (f"{SCIM}/Users/{user}", f"{SCIM}/Groups/{group}"):
        for method, body in (("GET", None), ("PATCH", patch), ("PUT", replaced), ("DELETE", None)):
            answer = a.request(method, path, **({} if body is None else {"json": body}))
            nobodys = a.request(method, unknown(path), **({} if body is None else {"json": body}))
            assert answer.status_code == nobodys.status_code, (method, path, answer.text)
            assert answer.status_code == 404 or method == "PUT", (method, path, answer.text)
            assert shows(answer, b, asked=path) == [], (method, path)
    assert b.directory.get(f"{SCIM}/Users/{user}").status_code == 200
    assert b.directory.get(f"{SCIM}/Groups/{group}").json()["displayName"] == b.word
    mixed = {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"],
        "displayName": f"mixed {uuid4().hex}",
        "members": [{"value": user}],
    }
    answer = a.post(f"{SCIM}/Groups", json=mixed)
    assert shows(answer, b, asked=user) == []
    if answer.status_code == 201:
        assert answer.json().get("members", []) == []


# Roles


@pytest.fixture(scope="module")
def callers(two: Two, stack: Stack) -> Iterator[dict[str, tuple[httpx.Client, frozenset[str], bool]]]:
    """Name → client, its scopes, whether a person is signed in. Each role of the table, and tokens of one scope."""
    found: dict[str, tuple[httpx.Client, frozenset[str], bool]] = {}
    for role in ROLES.values():
        _, email = joined(stack, two.a, role.name)
        found[role.name] = two.a.client(sign_in(stack.url, email)), role.scopes, True
    for scope in ("issues:read", "members:write", "scim:write"):
        made = two.a.owner.post("/v1/api-tokens", json={"name": f"only {scope}", "scopes": [scope]}).json()
        found[f"token of {scope}"] = two.a.client(made["secret"]), frozenset({scope}), False
    yield found


def joined(stack: Stack, of: Inhabited, role: str) -> tuple[str, str]:
    return asyncio.run(join(stack.database.owner_url, of.tenant, role))


def test_every_route_is_open_to_exactly_whom_the_table_of_scopes_says(
    two: Two, callers: dict[str, tuple[httpx.Client, frozenset[str], bool]]
) -> None:
    """A parameter that no operation has is found only behind the door, and stops the request there: 400 says that it
    was open, 403 that it was not."""
    for operation in OPERATIONS:
        if operation.scope is None:
            continue
        path = f"{two.a.path_of(operation)}?no_such_parameter=1"
        for name, (client, scopes, is_person) in callers.items():
            is_open = operation.scope == ANYBODY or operation.scope in scopes
            if operation.scope == SELF:
                is_open = is_person
            answer = client.request(operation.method, path)
            expected = 400 if is_open else 403
            assert answer.status_code == expected, (operation.id, name, answer.text)
            problem = answer.json()["error"]
            assert problem["code"] == ("validation_error" if is_open else "forbidden"), (operation.id, name)
            if is_open:
                assert problem["details"] == {"no_such_parameter": "unknown parameter"}, operation.id
            elif operation.scope not in (SELF, PLATFORM):
                assert problem["details"] == {"scope": operation.scope}, operation.id


def test_without_a_token_every_route_but_the_public_ones_is_shut(two: Two, stack: Stack) -> None:
    """401 before anything else is looked at."""
    with httpx.Client(base_url=stack.url, timeout=30) as nobody:
        for operation in OPERATIONS:
            if operation.scope is None:
                continue
            answer = nobody.request(operation.method, f"{two.b.path_of(operation)}?no_such_parameter=1")
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized"), operation.id
        assert nobody.get(f"{SCIM}/Users").status_code == 401


def test_whoever_owes_a_second_factor_may_only_give_it_or_leave(two: Two, stack: Stack) -> None:
    """403 mfa_required everywhere else, whatever the role."""
    email = execute_one(stack, "SELECT email FROM users WHERE user_id = %s", two.a.keyholder_id)
    client = two.a.client(sign_in(stack.url, email))
    for operation in OPERATIONS:
        if operation.scope in (None, PLATFORM):
            continue
        answer = client.request(operation.method, f"{two.a.path_of(operation)}?no_such_parameter=1")
        if operation.without_second_factor:
            assert answer.json()["error"]["code"] in ("validation_error", "forbidden"), operation.id
        else:
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "mfa_required"), operation.id
    directory = client.get(f"{SCIM}/Users")
    assert (directory.status_code, directory.json()["detail"].partition(":")[0]) == (403, "mfa_required")


def execute_one(stack: Stack, statement: str, *values: object) -> Any:
    [(value,)] = asyncio.run(execute(stack.database.owner_url, statement, *values))
    return value


def test_a_directory_needs_its_scope(
    two: Two, callers: dict[str, tuple[httpx.Client, frozenset[str], bool]]
) -> None:
    """SCIM's routes keep to the same table."""
    for name, (client, scopes, _) in callers.items():
        answer = client.get(f"{SCIM}/Users")
        assert answer.status_code == (200 if "scim:write" in scopes else 403), (name, answer.text)
