"""Whoever changes something is in the audit log: every operation that changes anything writes a line, or says why not."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import CodeType, FunctionType, ModuleType, SimpleNamespace
from typing import Any, get_type_hints

import httpx
import msgspec
import pytest
from runtime.database import pool
from runtime.errors import NotFoundError, UnavailableError
from testkit.servers import Database
from testkit.stack import Stack

from services.gateway.app import OPERATIONS
from services.gateway.edge.door import Visit
from services.gateway.identity.people import acting, scribe
from services.gateway.routes import bulk, dispatch
from services.gateway.routes.operation import Answer, AnyOperation, Call, Gateway, NoQuery

from .tenants import execute, onboard, sign_in
from .test_api import words

LEAVES_NO_LINE = {
    # What sources and programs report, by the thousand; the event names who, and /activity shows it.
    "createIssue": "raw data comes in",
    "ingestEvent": "raw data comes in",
    "ingestSourceIssue": "raw data comes in",
    "ingestBatch": "raw data comes in",
    # Asked by POST because it has a body, or because the answer is a secret; nothing is changed that anybody keeps.
    "lookAtInvitation": "reads",
    "verifyCertificate": "reads",
    "dryRunAlertThreshold": "reads",
    "previewMapping": "reads",
    "previewRemap": "reads",
    "createStreamTicket": "a ticket of 30 s for the token that asks",
    "beginPasskey": "a challenge; adding the passkey writes the line",
    "askPasskey": "a challenge; giving the passkey writes the line",
    "enrolTotp": "nothing holds before it is confirmed, which writes the line",
    # Computed from what is there; nobody decides anything.
    "recomputeClusters": "computes",
    "computeGroupingDiff": "computes",
    "testConnector": "asks the source whether it answers",
}

WRITTEN_BY_THE_DATABASE = {
    "agreeToLink": "agree_to_link",
    "withdrawLink": "withdraw_link",
}
"""By a function of the database, in the transaction of the change."""

_WRITERS = {"write_down", "audit_self", "audit_factor"}
_NAMES_FIRST = {"insert_intent"}


def names_in(function: FunctionType) -> set[str]:
    """Every name that a function uses, in what it defines inside too."""
    codes, names = [function.__code__], set[str]()
    while codes:
        code = codes.pop()
        names |= set(code.co_names)
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return names


def called_by(function: FunctionType, names: set[str]) -> Iterator[FunctionType]:
    """The gateway's functions that it may call: its module's, other modules', of its class, of what `Gateway` holds."""
    owners: list[object] = []
    for name in names:
        value = function.__globals__.get(name)
        if isinstance(value, FunctionType):
            yield value
        elif isinstance(value, ModuleType | type):
            owners.append(value)
    outer = function.__globals__.get(function.__qualname__.partition(".")[0])
    owners.append(outer)
    held = get_type_hints(Gateway)
    owners += [held[name] for name in names & held.keys()]
    for owner in owners:
        for name in names:
            value = inspect.getattr_static(owner, name, None)
            if isinstance(value, FunctionType):
                yield value


def leads_to(wanted: set[str], function: Callable[..., object], seen: set[object]) -> bool:
    """Whether a way leads from a function to one that uses one of these names."""
    found = inspect.unwrap(function)
    if not isinstance(found, FunctionType) or found in seen or not found.__module__.startswith("services."):
        return False
    seen.add(found)
    names = names_in(found)
    if names & wanted or (wanted & _WRITERS and {"_queries", "audit"} <= names):
        return True
    return any(leads_to(wanted, each, seen) for each in called_by(found, names))


def writes_a_line(function: Callable[..., object], seen: set[object]) -> bool:
    """Whether a way leads from a function to one that adds to the audit log."""
    return leads_to(_WRITERS | _NAMES_FIRST, function, seen)


def changing() -> list[AnyOperation]:
    """Every operation that is no GET."""
    return [operation for operation in OPERATIONS if operation.method != "GET"]


def test_every_operation_that_changes_something_leaves_a_line_or_says_why_not() -> None:
    """By itself, through the door, or by a function of the database; the exceptions are listed here and reviewed."""
    excepted = LEAVES_NO_LINE.keys() | WRITTEN_BY_THE_DATABASE.keys()
    silent, doubled = [], []
    for operation in changing():
        ways = [
            operation.deed is not None,
            operation.id in excepted,
            operation.deed is None
            and operation.id not in excepted
            and writes_a_line(operation.handle, set()),
        ]
        silent += [] if any(ways) else [operation.id]
        doubled += [operation.id] if sum(ways) > 1 else []
    assert silent == [] and doubled == []
    assert excepted <= {operation.id for operation in changing()}, "no longer an operation"


def test_a_deed_names_what_is_in_the_path() -> None:
    """Its target is a parameter of the path, and its handler writes no second line."""
    for operation in changing():
        if operation.deed is None:
            continue
        assert operation.deed.of is None or f"{{{operation.deed.of}}}" in operation.path, operation.id
        assert not writes_a_line(operation.handle, set()), operation.id


def test_whoever_asks_another_service_names_the_deed_first() -> None:
    """A line that is written behind a command is lost with whoever is killed in between."""
    behind = [
        operation.id
        for operation in changing()
        if operation.id not in LEAVES_NO_LINE
        and leads_to({"raw_command"}, operation.handle, set())
        and leads_to(_WRITERS, operation.handle, set())
    ]
    # One of its directions is a row, the other a command.
    assert behind == ["createWebhook"]


async def test_a_line_that_cannot_be_written_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written later; what fails at our end leaves one too, and nothing is done that cannot be named first."""
    written: list[Any] = []
    named: list[Any] = []
    asked_at = 0

    async def now_and_then(_pool: object, _space: str, write: Callable[[Any], Awaitable[None]]) -> None:
        nonlocal asked_at
        asked_at += 1
        if asked_at in (2, 8):
            raise UnavailableError("The database does not answer now.")
        await write(None)

    async def insert_intent(_conn: object, **row: object) -> None:
        named.append(row["metadata"])

    async def close_intent(_conn: object, *, outcome: str, **_: object) -> None:
        written.append(outcome)

    async def delete_intent(*_: object, **__: object) -> None:
        written.append("struck")

    done: list[None] = []
    ends: list[Exception | None] = [None, UnavailableError("later"), NotFoundError("nobody"), None]

    async def handle(*_: object) -> None:
        done.append(None)
        if (end := ends.pop(0)) is not None:
            raise end

    monkeypatch.setattr(scribe, "write_row", now_and_then)
    monkeypatch.setattr(scribe, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(scribe._queries, "insert_intent", insert_intent)
    monkeypatch.setattr(scribe._queries, "close_intent", close_intent)
    monkeypatch.setattr(scribe._queries, "delete_intent", delete_intent)
    [operation] = [each for each in OPERATIONS if each.id == "dismissPrediction"]
    operation = msgspec.structs.replace(operation, handle=handle, replies={204: None})

    def clock() -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC)

    gateway: Any = SimpleNamespace(
        resources=SimpleNamespace(clock=clock), scribe=scribe.Scribe(Any, clock=clock)
    )
    asked: Any = SimpleNamespace(scope={"state": {"visit": Visit("", {}, {}, None, None)}})
    call: Any = Call(
        principal=dispatch._PUBLIC, path={"prediction_id": "p"}, query=NoQuery(), body=None, scope=""
    )
    request = dispatch._Request(operation, gateway, asked, shown_by=None)
    assert (await request._handled(call)).status == 204
    assert (named, written) == (['{"fields":null}'], ["{}"])
    for refused in (UnavailableError, NotFoundError):
        with pytest.raises(refused):
            await request._handled(call)
    assert written[1:] == ['{"outcome":"unknown"}', "struck"]
    with pytest.raises(UnavailableError):
        await request._handled(call)
    assert (len(done), len(written)) == (3, 3), "done without being named"

    async def none_of_them(*_: object) -> Answer:
        return Answer(200, None, outcome="refused")

    refusing = msgspec.structs.replace(operation, handle=none_of_them)
    await dispatch._Request(refusing, gateway, asked, shown_by=None)._handled(call)
    assert written[3:] == ["struck"]


def test_a_bulk_change_is_done_with_any_of_them_and_refused_with_none() -> None:
    """What failed at our end may be done nevertheless."""
    refused, failed = NotFoundError("nobody"), UnavailableError("later")
    assert bulk._outcome([refused, None, failed]) == "done"
    assert bulk._outcome([refused, refused]) == "refused"
    assert bulk._outcome([refused, failed]) == "unknown"


async def test_a_process_that_dies_in_a_deed_leaves_its_line_to_another(database: Database) -> None:
    """One line, which says that nobody knows; whoever was only slow writes no second one, and the chain is whole."""
    tenant = await onboard(database.owner_url)
    now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    principal = msgspec.structs.replace(
        dispatch._PUBLIC, workspace_id=tenant.workspace_id, user_id=tenant.owner_id
    )
    act = acting.Act(principal=principal, ip="", now=now)

    async def written() -> list[dict[str, Any]]:
        statement = (
            "SELECT metadata FROM audit_log WHERE workspace_id = %s AND action = 'issue.commented'"
            " ORDER BY entry_number"
        )
        return [row[0] for row in await execute(database.owner_url, statement, tenant.workspace_id)]

    async with pool(database.app_url, schema="identity") as people:
        first = scribe.Scribe(people, clock=lambda: now)
        later = scribe.Scribe(people, clock=lambda: now + scribe.LEFT_AFTER + timedelta(minutes=1))
        deed = first.deed(act, "issue.commented", "create", ("issue", "iss_1"), {"fields": "text"})
        # An older one, of a category that the log refuses, holds up no other.
        await execute(
            database.owner_url,
            "INSERT INTO audit_intents (workspace_id, intent_id, begun_at, actor_id, action, category, target_type,"
            " target_id, metadata) VALUES (%s, 'bad', %s, 'x', 'x', 'bad', 'x', 'x', '{}')",
            tenant.workspace_id,
            now - timedelta(hours=1),
        )
        async with deed:
            await first.close_left()
            assert await written() == []
            await asyncio.gather(later.close_left(), later.close_left())
            unknown = {"fields": "text", "outcome": "unknown", "begun_at": "2026-11-22T12:00:00Z"}
            assert await written() == [unknown]
        assert await written() == [unknown]
        with pytest.raises(NotFoundError):
            async with first.deed(act, "issue.commented", "create", ("issue", "iss_2"), {}):
                raise NotFoundError("nobody")
        async with first.deed(act, "issue.commented", "create", ("issue", "iss_3"), {"fields": "text"}):
            pass
        async with first.deed(act, "issue.commented", "create", ("workspace", "wsp_1"), {}) as ending:
            ending.target, ending.metadata["run"] = ("issue", "iss_4"), "syn_1"
        await later.close_left()
    refused = "DELETE FROM audit_intents WHERE workspace_id = %s RETURNING intent_id"
    assert await execute(database.owner_url, refused, tenant.workspace_id) == [("bad",)]
    assert await written() == [unknown, {"fields": "text"}, {"run": "syn_1"}]
    made = "SELECT target_type, target_id FROM audit_log WHERE workspace_id = %s AND metadata ? 'run'"
    assert await execute(database.owner_url, made, tenant.workspace_id) == [("issue", "iss_4")]
    [whole] = await execute(database.owner_url, "SELECT problem FROM verify_audit(%s)", tenant.workspace_id)
    assert whole == (None,)


def test_no_webhook_is_made_of_which_no_line_can_be_written(stack: Stack) -> None:
    """Neither direction: the one is written with its line, the other named first."""
    tenant = asyncio.run(onboard(stack.database.owner_url))
    headers = {"Authorization": f"Bearer {sign_in(stack.url, tenant.owner_email)}", "Prefer": "wait=10"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=30) as api:
        source = api.post("/v1/connectors", json={"type": "custom_api"}).json()["id"]
        outbound = {"url": "http://127.0.0.1:9/", "event_types": ["issue.created"]}
        inbound = {"direction": "inbound", "connector_id": source}
        closed = f"ADD CONSTRAINT closed CHECK (workspace_id <> '{tenant.workspace_id}') NOT VALID"
        for table in ("audit_log", "audit_intents"):
            asyncio.run(execute(stack.database.owner_url, f"ALTER TABLE {table} {closed}"))
        try:
            refused = [api.post("/v1/webhooks", json=body).status_code for body in (outbound, inbound)]
        finally:
            for table in ("audit_log", "audit_intents"):
                opened = f"ALTER TABLE {table} DROP CONSTRAINT closed"
                asyncio.run(execute(stack.database.owner_url, opened))
        assert refused == [500, 503]
        assert api.get("/v1/webhooks").json()["data"] == []
        assert api.post("/v1/webhooks", json=inbound).json()["previous_secret_until"] is None
        assert api.post("/v1/webhooks", json=outbound).status_code == 201
        assert [
            len(lines(api, f"{what}")) for what in ("webhook.created", "connector.webhook_secret_rotated")
        ] == [1, 1]


def lines(api: httpx.Client, action: str) -> list[dict[str, Any]]:
    """What the audit log has of an action."""
    found: list[dict[str, Any]] = api.get("/v1/audit", params={"action": action}).json()["data"]
    return found


def test_the_door_writes_down_who_did_what_and_not_what_they_wrote(stack: Stack) -> None:
    """Once for a request that is sent again under the same key, and not for one that was refused."""
    tenant = asyncio.run(onboard(stack.database.owner_url))
    headers = {"Authorization": f"Bearer {sign_in(stack.url, tenant.owner_email)}", "Prefer": "wait=10"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=30) as api:
        issue = api.post("/v1/issues", json={"title": words()}).json()["id"]
        once = {"Idempotency-Key": "comment-1"}
        for _ in range(2):
            said = api.post(f"/v1/issues/{issue}/comments", json={"text": "unwritten"}, headers=once)
            assert said.status_code == 201, said.text
        [line] = lines(api, "issue.commented")
        assert (line["actor"]["id"], line["target"]["id"]) == (tenant.owner_id, issue)
        assert line["metadata"] == {"fields": "text"}
        assert api.post("/v1/issues/iss_nobody/comments", json={"text": "x"}).status_code == 404
        assert len(lines(api, "issue.commented")) == 1
