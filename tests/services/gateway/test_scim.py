"""SCIM 2.0 as a client's directory uses it, and as the standard's own tester does."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock
from uuid import uuid4

import httpx
import pytest
from httpx2 import Client
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_models import ScimProvider, SearchRequest, TooManyException
from scim2_tester import Status, check_server
from testkit.stack import Stack

from services.gateway.identity.scim.directory import LOOKED_THROUGH_MAX, _search
from tests.services.gateway.tenants import Tenant, execute, join, onboard

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


class Directory:
    """A client's directory with its token."""

    def __init__(
        self,
        stack: Stack,
        tenant: Tenant,
        *,
        scopes: tuple[str, ...] = ("scim:write",),
        name: str = "Directory",
    ) -> None:
        self.stack = stack
        self.tenant = tenant
        with httpx.Client(base_url=stack.url, timeout=30) as http:
            signed_in = http.post("/v1/auth/exchange", json={"subject_token": tenant.owner_email}).json()
            self.owner = {"Authorization": f"Bearer {signed_in['access_token']}"}
            machine = http.post("/v1/service-accounts", json={"name": name}, headers=self.owner).json()
            made = http.post(
                f"/v1/service-accounts/{machine['id']}/tokens",
                json={"name": "SCIM", "scopes": list(scopes)},
                headers=self.owner,
            )
            assert made.status_code == 201, made.text
            token = made.json()["secret"]
        self.http = httpx.Client(
            base_url=f"{stack.url}/v1/scim/v2",
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/scim+json"},
            timeout=30,
        )

    def sql(self, statement: str, *values: object) -> list[Any]:
        return asyncio.run(execute(self.stack.database.owner_url, statement, *values))

    def user(self, name: str = "ada", **more: Any) -> httpx.Response:
        address = f"{name}-{uuid4().hex[:10]}@acme.example"
        body = {
            "schemas": [USER],
            "userName": address,
            "name": {"givenName": "Ada", "familyName": "Lovelace"},
            "emails": [{"value": address, "primary": True, "type": "work"}],
            "active": True,
            **more,
        }
        return self.http.post("/Users", json=body)

    def patch(self, path: str, *operations: dict[str, Any], **headers: str) -> httpx.Response:
        body = {"schemas": [PATCH], "Operations": operations}
        return self.http.patch(path, json=body, headers=headers)

    def group(self, name: str, *members: str) -> dict[str, Any]:
        body = {
            "schemas": [GROUP],
            "displayName": name,
            "members": [{"value": member, "display": "whoever"} for member in members],
        }
        answer = self.http.post("/Groups", json=body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def members(self) -> dict[str, tuple[str, str]]:
        """Address → role and status."""
        rows = self.sql(
            "SELECT email, role, status FROM members WHERE workspace_id = %s", self.tenant.workspace_id
        )
        return {email: (role, status) for email, role, status in rows}


@pytest.fixture
def directory(stack: Stack) -> Directory:
    return Directory(stack, asyncio.run(onboard(stack.database.owner_url, seats=500)))


def found(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [each["userName"] for each in answer.json().get("Resources", [])]


def refused(answer: httpx.Response, status: int, scim_type: str | None = None) -> None:
    body = answer.json()
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/scim+json"
    assert (body["status"], body.get("scimType")) == (str(status), scim_type), answer.text


def test_the_standards_own_tester_finds_no_error(directory: Directory) -> None:
    """Discovery, every operation, every attribute of every resource."""
    with Client(
        base_url=str(directory.http.base_url),
        headers={"Authorization": directory.http.headers["Authorization"]},
        timeout=30,
    ) as http:
        results = check_server(SyncSCIMClient(http, provider=ScimProvider()))
    failures = [
        f"{result.title}: {result.reason}"
        for result in results
        if result.status in (Status.ERROR, Status.CRITICAL, Status.DEVIATION)
    ]
    assert not failures, "\n".join(failures)
    n_good = sum(result.status == Status.SUCCESS for result in results)
    assert n_good > 50, [f"{result.title}: {result.status}" for result in results]


def test_a_directory_makes_changes_suspends_and_removes(directory: Directory) -> None:
    """A member from the first request on; active says who takes a seat."""
    made = directory.user()
    assert made.status_code == 201, made.text
    assert made.headers["content-type"] == "application/scim+json"
    user = made.json()
    assert made.headers["location"] == user["meta"]["location"]
    address = user["userName"]
    assert directory.members()[address] == ("viewer", "active")
    path = f"/Users/{user['id']}"
    changed = directory.patch(path, {"op": "Replace", "path": "name.familyName", "value": "Byron"})
    assert changed.json()["name"] == {"givenName": "Ada", "familyName": "Byron"}
    # As Microsoft Entra writes it: no path, and other capitals.
    directory.patch(path, {"op": "replace", "value": {"active": False}})
    assert directory.members()[address] == ("viewer", "suspended")
    assert directory.http.get(path).json()["active"] is False
    again = directory.http.put(path, json={**user, "active": True, "displayName": "Ada B."})
    assert (again.json()["active"], again.json()["displayName"]) == (True, "Ada B.")
    assert directory.http.delete(path).status_code == 204
    refused(directory.http.get(path), 404)
    assert address not in directory.members()
    actions = directory.sql(
        "SELECT action FROM audit_log WHERE workspace_id = %s ORDER BY entry_number",
        directory.tenant.workspace_id,
    )
    told = [action for (action,) in actions if action.startswith("member.")]
    assert told == [
        "member.provisioned",
        "member.described",
        "member.described",
        "member.suspended",
        "member.described",
        "member.reinstated",
        "member.removed",
    ]


def test_what_no_database_keeps_is_nobodys_id_and_no_filter(directory: Directory) -> None:
    """U+0000 in an address or a filter is the caller's, not a failure of ours."""
    ids = ("/Users/%00", "/Groups/x%00y")
    for path in ids:
        assert directory.http.get(path).status_code == directory.http.delete(path).status_code == 404
    for text in ("\x00", "\\u0000", "\\ud800"):
        for attribute in ("userName", "externalId", "id", "emails.value", "displayName"):
            for operator in ("eq", "co"):
                asked = directory.http.get("/Users", params={"filter": f'{attribute} {operator} "{text}"'})
                assert asked.status_code in (200, 400), (attribute, operator, text, asked.text)


def test_filters_and_pages(directory: Directory) -> None:
    """eq, co, sw, and, or, not, pr and groups of values; startIndex and count; what is no filter is refused."""
    for name in ("grace", "alan", "barbara"):
        assert directory.user(name, externalId=f"ext-{name}").status_code == 201
    get = directory.http.get
    [alan] = found(get("/Users", params={"filter": 'externalId eq "ext-alan"'}))
    assert found(get("/Users", params={"filter": f'userName eq "{alan.upper()}"'})) == [alan]
    assert found(get("/Users", params={"filter": 'userName sw "grace-" and active eq true'})) != []
    assert len(found(get("/Users", params={"filter": 'userName co "a" and not (userName sw "owner")'}))) == 3
    assert found(get("/Users", params={"filter": f'emails[value eq "{alan}"]'})) == [alan]
    assert len(found(get("/Users", params={"filter": 'externalId pr or userName sw "owner"'}))) == 4
    page = get("/Users", params={"startIndex": 2, "count": 2}).json()
    assert (page["totalResults"], page["startIndex"], page["itemsPerPage"]) == (4, 2, 2)
    filtered = get("/Users", params={"filter": "externalId pr", "startIndex": 3, "count": 5}).json()
    assert (filtered["totalResults"], filtered["itemsPerPage"]) == (3, 1)
    assert get("/Users", params={"count": 0}).json()["totalResults"] == 4
    assert found(get("/Users", params={"startIndex": 99999999999})) == []
    short = get("/Users", params={"attributes": "userName", "count": 1}).json()["Resources"][0]
    assert set(short) == {"schemas", "id", "userName"}
    refused(get("/Users", params={"filter": "userName eq"}), 400, "invalidFilter")
    refused(get("/Users", params={"filter": 'shoe eq "43"'}), 400, "invalidFilter")
    searched = directory.http.post(
        "/Users/.search",
        json={
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
            "filter": 'externalId eq "ext-grace"',
        },
    )
    assert len(found(searched)) == 1


def test_a_person_is_there_once(directory: Directory) -> None:
    """409 uniqueness for the same name or address in any case; a member by hand can be adopted."""
    made = directory.user().json()
    same = {"schemas": [USER], "userName": made["userName"].upper(), "emails": [{"value": "x@acme.example"}]}
    refused(directory.http.post("/Users", json=same), 409, "uniqueness")
    other = {"schemas": [USER], "userName": "x", "emails": [{"value": made["userName"].upper()}]}
    refused(directory.http.post("/Users", json=other), 409, "uniqueness")
    _, email = asyncio.run(join(directory.stack.database.owner_url, directory.tenant, "analyst"))
    [by_hand] = directory.http.get("/Users", params={"filter": f'userName eq "{email}"'}).json()["Resources"]
    adopted = directory.patch(
        f"/Users/{by_hand['id']}", {"op": "add", "path": "externalId", "value": "ext-1"}
    )
    assert adopted.json()["externalId"] == "ext-1"
    assert directory.members()[email] == ("analyst", "active")


def test_an_address_follows_the_directory_until_the_first_sign_in(directory: Directory) -> None:
    """Afterwards, or when another client knows the person, it is theirs."""
    user = directory.user().json()
    new = f"new-{uuid4().hex[:8]}@acme.example"
    to_new = {"op": "replace", "path": "emails", "value": [{"value": new, "primary": True}]}
    directory.patch(f"/Users/{user['id']}", to_new)
    assert new in directory.members()
    httpx.post(
        f"{directory.stack.url}/v1/auth/exchange", json={"subject_token": new}, timeout=30
    ).raise_for_status()
    later = {"op": "replace", "path": "emails", "value": [{"value": "later@acme.example"}]}
    answer = directory.patch(f"/Users/{user['id']}", later)
    assert answer.json()["emails"] == [{"value": "later@acme.example"}]
    assert new in directory.members()
    [(email,)] = directory.sql("SELECT email FROM users WHERE user_id = %s", directory.tenant.owner_id)
    [owner] = directory.http.get("/Users", params={"filter": f'userName eq "{email}"'}).json()["Resources"]
    directory.patch(f"/Users/{owner['id']}", {"op": "replace", "path": "displayName", "value": "Renamed"})
    [(name,)] = directory.sql("SELECT name FROM users WHERE user_id = %s", directory.tenant.owner_id)
    assert name != "Renamed"


def test_a_group_stands_for_a_role(directory: Directory) -> None:
    """The highest of a member's groups; none: viewer; and only for whom the directory provisioned."""
    ada, bob = directory.user("ada").json(), directory.user("bob").json()
    [(manual,)] = directory.sql(
        "SELECT membership_id FROM memberships WHERE user_id = %s", directory.tenant.owner_id
    )
    analysts = directory.group("Analysts", ada["id"], manual)
    admins = directory.group("Admins", bob["id"])
    assert directory.members()[ada["userName"]] == ("viewer", "active")
    with httpx.Client(base_url=directory.stack.url, headers=directory.owner, timeout=30) as api:
        for group, role in ((analysts, "analyst"), (admins, "admin")):
            mapped = api.patch(f"/v1/scim-groups/{group['id']}", json={"role": role})
            assert (mapped.status_code, mapped.json()["role"]) == (200, role)
        listed = api.get("/v1/scim-groups").json()["data"]
        assert {each["display_name"]: (each["role"], each["members"]) for each in listed} == {
            "Analysts": ("analyst", 2),
            "Admins": ("admin", 1),
        }
        assert api.patch(f"/v1/scim-groups/{admins['id']}", json={"role": "owner"}).status_code == 400
        assert directory.members()[ada["userName"]] == ("analyst", "active")
        assert directory.members()[directory.tenant.owner_email] == ("owner", "active")
        adding = {"op": "add", "path": "members", "value": [{"value": ada["id"]}]}
        assert directory.patch(f"/Groups/{admins['id']}", adding).status_code == 200
        assert directory.members()[ada["userName"]] == ("admin", "active")
        by_hand = api.patch(f"/v1/members/{ada['id']}", json={"role": "viewer"})
        assert by_hand.status_code == 409
        seen = directory.http.get(f"/Users/{ada['id']}").json()["groups"]
        assert [each["display"] for each in seen] == ["Analysts", "Admins"]
        removing = {"op": "remove", "path": f'members[value eq "{ada["id"]}"]'}
        directory.patch(f"/Groups/{admins['id']}", removing)
        assert directory.members()[ada["userName"]] == ("analyst", "active")
        # As Microsoft Entra removes a member.
        entra = {"op": "Remove", "path": "members", "value": [{"value": ada["id"]}]}
        directory.patch(f"/Groups/{analysts['id']}", entra)
        assert directory.members()[ada["userName"]] == ("viewer", "active")
        assert directory.http.delete(f"/Groups/{admins['id']}").status_code == 204
        assert directory.members()[bob["userName"]] == ("viewer", "active")


def test_versions_guard_changes(directory: Directory) -> None:
    """304 for what is known, 412 for what has changed since."""
    user = directory.user().json()
    path, version = f"/Users/{user['id']}", user["meta"]["version"]
    assert directory.http.get(path, headers={"If-None-Match": version}).status_code == 304
    operation = {"op": "replace", "path": "displayName", "value": "Countess"}
    changed = directory.patch(path, operation, **{"If-Match": version})
    assert changed.headers["etag"] == changed.json()["meta"]["version"] != version
    refused(directory.patch(path, operation, **{"If-Match": version}), 412)
    refused(directory.http.delete(path, headers={"If-Match": version}), 412)


def test_what_a_directory_may_not(stack: Stack, directory: Directory) -> None:
    """Other scopes, other plans, other clients, the last administrator, more seats, and nonsense."""
    own = directory.user().json()
    other = Directory(stack, asyncio.run(onboard(stack.database.owner_url, seats=2)))
    refused(other.http.get(f"/Users/{own['id']}"), 404)
    refused(other.patch(f"/Users/{own['id']}", {"op": "replace", "path": "active", "value": False}), 404)
    group = {"schemas": [GROUP], "displayName": "G", "members": [{"value": own["id"]}]}
    refused(other.http.post("/Groups", json=group), 400, "invalidValue")
    assert own["userName"] not in str(other.http.get("/Users").json())
    assert other.user().status_code == 201
    full = other.user()
    refused(full, 422)
    assert full.json()["detail"].startswith("seat_limit: ")
    [(owner,)] = other.sql("SELECT membership_id FROM memberships WHERE user_id = %s", other.tenant.owner_id)
    refused(other.http.delete(f"/Users/{owner}"), 422)
    weak = Directory(stack, directory.tenant, scopes=("members:write",), name="Weak")
    refused(weak.http.get("/Users"), 403)
    refused(httpx.get(f"{stack.url}/v1/scim/v2/Users", timeout=30), 401)
    other.sql(
        "UPDATE organizations SET plan = 'free' WHERE organization_id = %s", other.tenant.organization_id
    )
    refused(other.http.get("/Users"), 403)
    for body in (b"[]", b"{", b'{"userName": "a\\u0000@b.example"}', b'{"userName": 7}'):
        assert directory.http.post("/Users", content=body).status_code == 400
    refused(
        directory.http.post("/Users", json={"schemas": [USER], "userName": "no address"}), 400, "invalidValue"
    )
    refused(directory.http.get("/Cats"), 404)
    refused(directory.http.post("/.search", json={}), 501)
    refused(directory.http.put("/Users", json={}), 405)
    nested = {"schemas": [GROUP], "displayName": "G", "members": [{"value": own["id"], "type": "Group"}]}
    refused(directory.http.post("/Groups", json=nested), 400, "invalidValue")


def test_a_directory_does_not_learn_what_a_stranger_is_called_elsewhere(directory: Directory) -> None:
    """Until they come, their name is what the directory says; then it is their own. A directory's word does not make
    them come: they agree, or the operator approves the domain."""
    elsewhere = asyncio.run(onboard(directory.stack.database.owner_url))
    directory.sql(
        "UPDATE users SET name = 'Told to others', avatar_url = 'https://x.example/a.png' WHERE user_id = %s",
        elsewhere.owner_id,
    )
    made = directory.user(
        userName=elsewhere.owner_email, emails=[{"value": elsewhere.owner_email, "primary": True}]
    )
    assert (made.status_code, made.json()["active"]) == (201, False), made.text
    path = f"/Users/{made.json()['id']}"
    again = {"op": "replace", "path": "active", "value": True}
    assert directory.patch(path, again).json()["active"] is False
    assert directory.members()[elsewhere.owner_email] == ("viewer", "invited")

    def shown() -> Any:
        http = httpx.get(f"{directory.stack.url}/v1/members", headers=directory.owner, timeout=30)
        [member] = [each for each in http.json()["data"] if each["email"] == elsewhere.owner_email]
        return member["name"], member["avatar_url"]

    assert shown() == ("Ada Lovelace", None)
    assert "Told to others" not in directory.http.get(f"/Users/{made.json()['id']}").text
    directory.sql(
        "SELECT approve_domain(%s, %s)", directory.tenant.slug, elsewhere.owner_email.partition("@")[2]
    )
    assert directory.patch(path, again).json()["active"] is True
    assert shown() == ("Ada Lovelace", None)
    directory.sql(
        "UPDATE memberships SET last_active_at = now() WHERE workspace_id = %s AND user_id = %s",
        directory.tenant.workspace_id,
        elsewhere.owner_id,
    )
    assert shown() == ("Told to others", "https://x.example/a.png")
    # Whoever was here comes back on the directory's word, and stays when they become known elsewhere.
    directory.sql("DELETE FROM approved_domains")
    off = {"op": "replace", "path": "active", "value": False}
    for change, status in ((again, "active"), (off, "suspended"), (again, "active")):
        assert directory.patch(path, change).status_code == 200
        assert directory.members()[elsewhere.owner_email] == ("viewer", status)


def test_an_invitation_that_is_over_gives_no_role(directory: Directory) -> None:
    """Also when the directory lets somebody in who was invited once."""
    email = f"late-{uuid4().hex[:10]}@acme.example"
    invited = httpx.post(
        f"{directory.stack.url}/v1/invitations",
        json={"email": email, "role": "admin"},
        headers=directory.owner,
        timeout=30,
    )
    assert invited.status_code == 201, invited.text
    directory.sql("UPDATE invitations SET expires_at = now() - interval '1 day' WHERE email = %s", email)
    [(member_id,)] = directory.sql("SELECT membership_id FROM members WHERE email = %s", email)
    change = {"op": "replace", "path": "active", "value": True}
    assert directory.patch(f"/Users/{member_id}", change).status_code == 200
    assert directory.members()[email] == ("viewer", "active")


class Waiting:
    """Resources that say where they were looked at."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def match(self, _resource: object) -> bool:
        self.threads.add(threading.get_ident())
        return True


async def test_a_vague_filter_looks_through_few_and_beside_the_event_loop() -> None:
    """Pydantic takes 0.2 ms for each of them."""
    asked: Any = SearchRequest(filter='title eq "x"')
    waiting = Waiting()
    object.__setattr__(asked, "filter", SimpleNamespace(ast=asked.filter.ast, match=waiting.match))

    async def fetch(_exact: object, size: int, _skipped: int) -> list[int]:
        return list(range(min(size, n_there)))

    n_there = LOOKED_THROUGH_MAX
    assert (await _search(asked, ("id",), fetch, AsyncMock())).total == LOOKED_THROUGH_MAX == 2_000
    assert threading.get_ident() not in waiting.threads
    n_there += 1
    with pytest.raises(TooManyException):
        await _search(asked, ("id",), fetch, AsyncMock())
