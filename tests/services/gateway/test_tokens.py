"""Signing in as people, API tokens, service accounts, sessions and the profile, over HTTP."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from psycopg import AsyncConnection
from testkit.stack import Stack
from testkit.waiting import eventually
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from services.gateway.identity.scopes import ROLES, SCOPES
from tests.services.gateway.tenants import Tenant, cut_short, execute, join, onboard, sign_in

Enter = Callable[[str], httpx.Client]


@pytest.fixture(scope="module")
def tenant(stack: Stack) -> Tenant:
    """A client of this module's own."""
    return asyncio.run(onboard(stack.database.owner_url))


@pytest.fixture
def enter(stack: Stack) -> Iterator[Enter]:
    """Signs people in by their address, or programs by their token."""
    clients: list[httpx.Client] = []

    def client(credential: str) -> httpx.Client:
        token = sign_in(stack.url, credential) if "@" in credential else credential
        made = httpx.Client(
            base_url=stack.url, headers={"Authorization": f"Bearer {token}", "Prefer": "wait=10"}, timeout=30
        )
        clients.append(made)
        return made

    yield client
    for made in clients:
        made.close()


@pytest.fixture
def owner(enter: Enter, tenant: Tenant) -> httpx.Client:
    return enter(tenant.owner_email)


def sql(stack: Stack, statement: str, *values: object) -> list[Any]:
    return asyncio.run(execute(stack.database.owner_url, statement, *values))


def member(stack: Stack, tenant: Tenant, role: str) -> tuple[str, str]:
    return asyncio.run(join(stack.database.owner_url, tenant, role))


def make(
    client: httpx.Client, name: str, *scopes: str, at: str = "/v1/api-tokens", **more: Any
) -> dict[str, Any]:
    answer = client.post(at, json={"name": name, "scopes": list(scopes), **more})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def actions(stack: Stack, target_id: str) -> list[str]:
    rows = sql(stack, "SELECT action FROM audit_log WHERE target_id = %s ORDER BY entry_number", target_id)
    return [action for (action,) in rows]


def test_a_personal_token_acts_as_its_owner_within_its_scopes(
    stack: Stack, owner: httpx.Client, enter: Enter, tenant: Tenant
) -> None:
    """Shown once, stored hashed, listed without its secret."""
    made = make(owner, "reader", "issues:read")
    secret = made.pop("secret")
    assert secret.startswith("clp_pat_")
    assert made["hint"] == secret[-4:]
    assert owner.get(f"/v1/api-tokens/{made['id']}").json() == made
    [listed] = [token for token in owner.get("/v1/api-tokens").json()["data"] if token["id"] == made["id"]]
    assert listed == made
    program = enter(secret)
    assert program.get("/v1/issues").status_code == 200
    refused = program.post("/v1/issues", json={"title": "x"})
    assert (refused.status_code, refused.json()["error"]["details"]) == (403, {"scope": "issues:write"})
    [row] = sql(stack, "SELECT to_jsonb(t)::text FROM api_tokens AS t WHERE token_id = %s", made["id"])
    assert secret not in row[0]
    assert actions(stack, made["id"]) == ["token.created"]
    assert tenant.workspace_id in owner.get("/v1/users/me").text


def test_a_token_gets_only_what_its_maker_has(
    stack: Stack, tenant: Tenant, enter: Enter, owner: httpx.Client
) -> None:
    """Neither a person's nor a program's token can make one that may more; unknown scopes do not exist."""
    _, email = member(stack, tenant, "viewer")
    viewer = enter(email)
    refused = viewer.post("/v1/api-tokens", json={"name": "more", "scopes": ["issues:read", "issues:write"]})
    assert (refused.status_code, refused.json()["error"]["details"]) == (403, {"scope": "issues:write"})
    unknown = viewer.post("/v1/api-tokens", json={"name": "odd", "scopes": ["everything"]})
    assert (unknown.status_code, unknown.json()["code"]) == (400, "validation_error")
    late = {"name": "late", "scopes": ["issues:read"], "expires_at": "2020-01-01T00:00:00Z"}
    assert viewer.post("/v1/api-tokens", json=late).status_code == 400
    narrow = enter(make(owner, "narrow", "tokens:write", "tokens:read")["secret"])
    assert narrow.post("/v1/api-tokens", json={"name": "wide", "scopes": ["issues:read"]}).status_code == 403
    wide = make(owner, "wide", "issues:read")
    assert narrow.post(f"/v1/api-tokens/{wide['id']}/rotate").status_code == 403


def test_no_secret_outlives_the_token_that_got_it(owner: httpx.Client, enter: Enter) -> None:
    """Neither a new one's nor another's that is rotated; a person who is signed in is not bound by their session."""
    soon, later = "2999-01-01T00:00:00Z", "2999-02-01T00:00:00Z"
    lasting = make(owner, "lasting", "tokens:write")
    assert lasting["expires_at"] is None
    maker = enter(make(owner, "ending", "tokens:write", "tokens:read", expires_at=soon)["secret"])
    assert make(maker, "asked for ever", "tokens:read")["expires_at"] == soon
    assert make(maker, "asked for longer", "tokens:read", expires_at=later)["expires_at"] == soon
    before = "2998-01-01T00:00:00Z"
    shorter = make(maker, "asked for less", "tokens:write", expires_at=before)
    assert shorter["expires_at"] == before
    assert maker.post(f"/v1/api-tokens/{lasting['id']}/rotate").status_code == 403
    assert maker.post(f"/v1/api-tokens/{shorter['id']}/rotate").status_code == 200
    assert make(enter(lasting["secret"]), "by a lasting one", "tokens:write")["expires_at"] is None


def test_names_are_unique_per_owner_until_revoked(owner: httpx.Client) -> None:
    """409; the name is free again afterwards."""
    made = make(owner, "the name", "issues:read")
    again = {"name": "the name", "scopes": ["issues:read"]}
    refused = owner.post("/v1/api-tokens", json=again)
    assert (refused.status_code, refused.json()["error"]["details"]) == (409, {"name": "is taken"})
    assert owner.delete(f"/v1/api-tokens/{made['id']}").status_code == 204
    make(owner, "the name", "issues:read")


def test_rotating_kills_the_old_secret_at_once_and_revoking_is_final(
    stack: Stack, owner: httpx.Client, enter: Enter
) -> None:
    """At the very next request of each."""
    made = make(owner, "turning", "issues:read")
    old = enter(made["secret"])
    assert old.get("/v1/issues").status_code == 200
    rotated = owner.post(f"/v1/api-tokens/{made['id']}/rotate").json()
    assert old.get("/v1/issues").status_code == 401
    new = enter(rotated["secret"])
    assert new.get("/v1/issues").status_code == 200
    assert owner.delete(f"/v1/api-tokens/{made['id']}").status_code == 204
    answer = new.get("/v1/issues")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    for path, method in (("", "GET"), ("", "DELETE"), ("/rotate", "POST")):
        assert owner.request(method, f"/v1/api-tokens/{made['id']}{path}").status_code == 404
    assert actions(stack, made["id"]) == ["token.created", "token.rotated", "token.revoked"]


def test_a_service_account_acts_by_itself(
    stack: Stack, owner: httpx.Client, enter: Enter, tenant: Tenant
) -> None:
    """It takes no seat, survives its maker, can be suspended, and writes as itself."""
    maker_id, email = member(stack, tenant, "security_admin")
    maker = enter(email)
    account = maker.post("/v1/service-accounts", json={"name": "ci", "description": "Builds."}).json()
    at = f"/v1/service-accounts/{account['id']}/tokens"
    refused = maker.post(at, json={"name": "t", "scopes": ["issues:write"]})
    assert refused.status_code == 403
    machine = enter(make(maker, "reading", "issues:read", at=at)["secret"])
    writer_token = make(owner, "writing", "issues:read", "issues:write", at=at)
    assert writer_token["secret"].startswith("clp_svc_")
    assert maker.post(f"{at}/{writer_token['id']}/rotate").status_code == 403
    writer = enter(writer_token["secret"])
    issue = writer.post("/v1/issues", json={"title": "Found by a machine"})
    assert issue.status_code in (200, 201), issue.text
    sql(stack, "DELETE FROM memberships WHERE user_id = %s", maker_id)
    assert machine.get("/v1/issues").status_code == 200
    assert machine.get("/v1/users/me").status_code == 403
    assert machine.get("/v1/api-tokens").status_code == 403
    change = owner.patch(f"/v1/service-accounts/{account['id']}", json={"status": "suspended"})
    assert change.json()["status"] == "suspended"
    assert machine.get("/v1/issues").status_code == 403
    owner.patch(f"/v1/service-accounts/{account['id']}", json={"status": "active"})
    assert machine.get("/v1/issues").status_code == 200
    assert owner.get(at).json()["page"]["total"] == 2
    assert owner.delete(f"/v1/service-accounts/{account['id']}").status_code == 204
    assert machine.get("/v1/issues").status_code == 401
    assert owner.get(at).status_code == 404
    assert actions(stack, account["id"]) == [
        "service_account.created",
        "service_account.updated",
        "service_account.updated",
        "service_account.deleted",
    ]


async def test_a_token_for_an_account_that_is_being_deleted(stack: Stack, owner: httpx.Client) -> None:
    """Is refused as a change at the same moment, whichever rows the deletion takes first."""
    answer = await asyncio.to_thread(owner.post, "/v1/service-accounts", json={"name": "going"})
    account = answer.json()["id"]
    async with await AsyncConnection.connect(
        stack.database.owner_url, options="-c search_path=identity"
    ) as deleting:
        await deleting.execute("DELETE FROM service_accounts WHERE service_account_id = %s", [account])
        making = asyncio.create_task(
            asyncio.to_thread(
                owner.post,
                f"/v1/service-accounts/{account}/tokens",
                json={"name": "late", "scopes": ["issues:read"]},
            )
        )
        waiting = (
            "SELECT pid FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
        )

        async def waits() -> bool:
            return await (await deleting.execute(waiting)).fetchone() is not None

        await eventually(waits)
    refused = await making
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict"), refused.text


def test_nobody_sees_the_accounts_and_tokens_of_others(
    stack: Stack, owner: httpx.Client, enter: Enter
) -> None:
    """404 for another client's, and for another member's."""
    theirs = asyncio.run(onboard(stack.database.owner_url))
    stranger = enter(theirs.owner_email)
    account = owner.post("/v1/service-accounts", json={"name": "ours"}).json()
    token = make(owner, "ours", "issues:read")
    for path in (f"/v1/service-accounts/{account['id']}", f"/v1/api-tokens/{token['id']}"):
        assert stranger.get(path).status_code == 404
        assert stranger.delete(path).status_code == 404
    assert stranger.get("/v1/service-accounts").json()["page"]["total"] == 0
    wrong = f"/v1/service-accounts/{account['id']}/tokens/{token['id']}"
    assert owner.delete(wrong).status_code == 404


def test_the_catalogue_names_every_scope(stack: Stack, tenant: Tenant, enter: Enter) -> None:
    """And says which the caller has."""
    _, email = member(stack, tenant, "viewer")
    data = enter(email).get("/v1/api-tokens/scopes").json()["data"]
    assert {entry["name"] for entry in data} == set(SCOPES)
    assert {entry["name"] for entry in data if entry["is_held"]} == ROLES["viewer"].scopes
    assert {entry["tab"] for entry in data} == {"Data", "Integrations", "Workspace", "AI & Reports", "Admin"}


def test_sessions_are_listed_and_another_one_can_be_ended(stack: Stack, tenant: Tenant, enter: Enter) -> None:
    """The one in use only by signing out; either ends its tokens at the next request."""
    _, email = member(stack, tenant, "viewer")
    exchange = {"json": {"subject_token": email}, "headers": {"User-Agent": "Browser/1"}, "timeout": 30}
    pair = httpx.post(f"{stack.url}/v1/auth/exchange", **exchange).json()  # type: ignore[arg-type]  # as written above
    other = enter(pair["access_token"])
    here = enter(email)
    listed = here.get("/v1/sessions").json()
    assert listed["page"]["total"] == 2
    found = {session["id"]: session for session in listed["data"]}
    assert found[pair["session_id"]]["user_agent"] == "Browser/1"
    assert found[pair["session_id"]]["ip"]
    assert [session["is_current"] for session in listed["data"]] == [True, False]
    mine = listed["data"][0]["id"]
    assert here.delete(f"/v1/sessions/{mine}").status_code == 409
    assert here.delete(f"/v1/sessions/{pair['session_id']}").status_code == 204
    assert other.get("/v1/issues").status_code == 401
    again = httpx.post(
        f"{stack.url}/v1/auth/refresh", json={"refresh_token": pair["refresh_token"]}, timeout=30
    )
    assert (again.status_code, again.json()["code"]) == (401, "invalid_grant")
    assert here.delete(f"/v1/sessions/{pair['session_id']}").status_code == 404
    assert here.post("/v1/auth/sign-out").status_code == 204
    assert here.get("/v1/issues").status_code == 401
    assert actions(stack, mine) == ["session.started", "session.revoked"]


def test_a_person_changes_what_is_theirs(stack: Stack, tenant: Tenant, enter: Enter) -> None:
    """Bounds, null takes away, absent stays."""
    user_id, email = member(stack, tenant, "viewer")
    me = enter(email)
    profile = me.get("/v1/users/me").json()
    assert (profile["id"], profile["email"], profile["role"]) == (user_id, email, "viewer")
    change = {
        "name": "Ada",
        "avatar_url": "https://pictures.example/ada.png",
        "timezone": "Europe/London",
        "locale": "en-GB",
    }
    changed = me.patch("/v1/users/me", json=change).json()
    assert {key: changed[key] for key in change} == change
    assert me.patch("/v1/users/me", json={"locale": None}).json() == {
        **changed,
        "locale": None,
        "updated_at": me.get("/v1/users/me").json()["updated_at"],
    }
    for wrong in (
        {"name": ""},
        {"name": None},
        {"name": "x" * 201},
        {"avatar_url": "http://pictures.example/x"},
        {"avatar_url": "https://" + "x" * 2050},
        {"timezone": "Mars/Olympus"},
        {"locale": "english please"},
        {"email": "other@example.com"},
    ):
        assert me.patch("/v1/users/me", json=wrong).status_code == 400, wrong


def test_syncing_in_mock_mode_has_nobody_to_bind_to(owner: httpx.Client, tenant: Tenant) -> None:
    """The person stays who they are."""
    answer = owner.post("/v1/auth/sync", json={"subject_token": "anything"})
    assert (answer.status_code, answer.json()["id"]) == (200, tenant.owner_id)


def test_a_token_that_was_good_is_refused_once_it_has_expired(
    stack: Stack, tenant: Tenant, enter: Enter
) -> None:
    """Its end is looked at each time, kept decision or not."""
    token = sign_in(stack.url, tenant.owner_email)
    # A busy machine may take longer for the first request than the first token lasts.
    clients = (enter(cut_short(token, seconds=seconds)) for seconds in (2, 20))
    client = next(each for each in clients if each.get("/v1/issues").status_code == 200)
    give_up_at = time.monotonic() + 30
    while client.get("/v1/issues").status_code != 401:
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


async def test_a_stream_ends_with_the_right_to_it(stack: Stack, tenant: Tenant) -> None:
    """Suspended in SQL while connected: 4401 before anything more is sent; so does a revoked API token."""
    user_id, email = await join(stack.database.owner_url, tenant, "viewer")
    async with httpx.AsyncClient(base_url=stack.url, timeout=30) as client:
        pair = (await client.post("/v1/auth/exchange", json={"subject_token": email})).json()
        signed_in = {"Authorization": f"Bearer {pair['access_token']}"}
        token = {"name": "listening", "scopes": ["issues:read"]}
        made = (await client.post("/v1/api-tokens", json=token, headers=signed_in)).json()
        address = stack.url.replace("http://", "ws://") + "/v1/stream?token="
        async with connect(address + pair["access_token"]) as one, connect(address + made["secret"]) as two:
            assert '"connected"' in str(await one.recv())
            assert '"connected"' in str(await two.recv())
            await client.delete(f"/v1/api-tokens/{made['id']}", headers=signed_in)
            await execute(
                stack.database.owner_url,
                "UPDATE memberships SET status = 'suspended' WHERE user_id = %s",
                user_id,
            )
            assert await asyncio.gather(closed(one), closed(two)) == [4401, 4401]


async def closed(socket: Any) -> int:
    async with asyncio.timeout(30):
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                await socket.recv()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code
