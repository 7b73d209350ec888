"""A workspace is erased while another writes: nothing of it is found in any store, and the other is as it was."""

# ruff: noqa: ASYNC212  # nothing else waits for the loop meanwhile

import asyncio
import tarfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import msgspec
import nats
import pytest
from eventlog import EventLog, verify
from msgspec import Struct
from psycopg import AsyncConnection, sql
from testkit.stack import Stack
from testkit.waiting import eventually

from services.gateway.identity.governance.certificates import Certificate, is_genuine
from services.gateway.projections import projection as gateway
from services.ingest.app import projection as ingest
from services.pattern.projections import PROJECTION as PATTERN
from services.prediction.projections import PROJECTION as PREDICTION
from services.recommendation.app import projection as recommendation

from . import sources
from .tenants import Tenant, execute, join, onboard
from .test_governance import client, finished


class Trace(Struct, frozen=True):
    """Where a word was found."""

    store: str
    text: str


async def rows_with(stack: Stack, words: list[str]) -> list[Trace]:
    """Every row of every table of every schema that has one of the words, as a superuser sees them."""
    found: list[Trace] = []
    async with await AsyncConnection.connect(stack.postgres.url(database="causeloop")) as conn:
        cursor = await conn.execute(
            "SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
        )
        tables = await cursor.fetchall()
        assert {"identity", "gateway", "pattern", "ingest"} <= {schema for schema, _ in tables}
        for schema, table in tables:
            statement = sql.SQL("SELECT r::text FROM {} AS r WHERE r::text ILIKE ANY (%s)").format(
                sql.Identifier(schema, table)
            )
            cursor = await conn.execute(statement, ([f"%{word}%" for word in words],))
            found += [Trace(f"{schema}.{table}", text) for (text,) in await cursor.fetchall()]
    return found


async def messages_with(stack: Stack, words: list[str]) -> list[Trace]:
    """Every message of every stream that has one of the words in subject, headers or payload; KV buckets are streams."""
    found: list[Trace] = []
    nc = await nats.connect(stack.nats.url)
    try:
        js = nc.jetstream()
        streams = await js.streams_info()
        assert streams
        for stream in streams:
            name = stream.config.name
            assert name is not None
            sequence = max(1, stream.state.first_seq)  # 0 where there never was a message
            while sequence <= stream.state.last_seq:
                try:
                    message = await js.get_msg(name, seq=sequence)
                except nats.js.errors.NotFoundError:
                    sequence += 1
                    continue
                text = f"{message.subject} {message.headers} {(message.data or b'').decode(errors='replace')}"
                if any(word.lower() in text.lower() for word in words):
                    found.append(Trace(name, text))
                sequence += 1
    finally:
        await nc.close()
    return found


def files_with(folder: Path, words: list[str]) -> list[Trace]:
    """Every exported file whose name or content has one of the words."""
    found: list[Trace] = []
    for path in folder.rglob("*"):
        text = str(path.relative_to(folder))
        if path.is_file() and path.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                for entry in archive:
                    content = archive.extractfile(entry)
                    text += content.read().decode() if content else ""
        if any(word.lower() in text.lower() for word in words):
            found.append(Trace(str(path), text[:200]))
    return found


def report(owner: httpx.Client, word: str, number: int) -> str:
    """A new issue with the word in every text of it."""
    answer = owner.post(
        "/v1/issues",
        json={
            "title": f"{word} checkout times out after deploy",
            "body": f"{word}: java.net.SocketTimeoutException in {word}-service",
            "external_id": f"{word}-{number}",
            "service": f"{word}-service",
            "severity": "p1",
            "metadata": {"who": word},
        },
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def verified(stack: Stack) -> dict[str, bool]:
    """Whether each read model equals what the log says."""
    nc = await nats.connect(stack.nats.url)
    try:
        log = await EventLog.connect(nc, ensure_streams=False)
        outcome = {}
        for projection in (gateway(), ingest(), PATTERN, PREDICTION, recommendation()):
            certificate = await verify(
                log,
                projection,
                owner_url=stack.database.owner_url,
                projector_url=stack.database.projector_url,
            )
            outcome[projection.name] = certificate.is_equal
        return outcome
    finally:
        await nc.close()


@pytest.fixture
async def gone(stack: Stack) -> Tenant:
    """Whoever is to be erased."""
    return await onboard(stack.database.owner_url)


@pytest.fixture
def owner(stack: Stack, gone: Tenant) -> Iterator[httpx.Client]:
    """Its owner."""
    with client(stack, gone.owner_email) as signed_in:
        yield signed_in


async def test_nothing_is_found_of_an_erased_workspace_and_everything_of_the_other(
    stack: Stack, gone: Tenant, owner: httpx.Client
) -> None:
    """Rows, messages, files, words and ids; the tombstone's and the certificate's workspace id excepted."""
    word, other_word = f"zebra{uuid4().hex[:8]}", f"okapi{uuid4().hex[:8]}"
    stays = await onboard(stack.database.owner_url)
    other = client(stack, stays.owner_email)
    issues = [report(owner, word, number) for number in range(6)]
    kept = [report(other, other_word, number) for number in range(6)]
    forgotten, address = await join(stack.database.owner_url, gone, "viewer")
    asked = owner.post("/v1/governance/rtbf/requests", json={"subject": address}).json()
    assert owner.post(f"/v1/governance/rtbf/requests/{asked['id']}/approve").status_code == 200
    exported = owner.post("/v1/governance/exports")
    done = await finished(owner, f"/v1/governance/exports/{exported.json()['id']}")
    assert done["status"] == "succeeded"
    await eventually(lambda: owner.get("/v1/patterns").json()["data"])
    await sources.connect(stack, gone.workspace_id, word, recommendation_id="rec_none")
    await sources.keep(stack, stays.workspace_id, "con_kept", other_word)
    words = [
        word,
        gone.slug,
        gone.organization_id,
        gone.owner_id,
        gone.owner_email,
        issues[0],
        exported.json()["id"],
        forgotten,
        address,
    ]
    folder = Path(stack.exports)
    assert len({trace.store for trace in await rows_with(stack, words)}) > 10
    assert await messages_with(stack, words)
    assert files_with(folder, words)

    stop = asyncio.Event()

    async def go_on_writing() -> int:
        """The other workspace writes all the while."""
        count = 6
        while not stop.is_set():
            kept.append(await asyncio.to_thread(report, other, other_word, count))
            count += 1
        return count

    writing = asyncio.create_task(go_on_writing())
    begun = owner.request("DELETE", "/v1/workspace", json={"confirm": gone.slug})
    assert begun.status_code == 202, begun.text
    assert owner.get("/v1/issues").status_code in (401, 403)

    certificates: list[str] = []

    async def is_completed() -> bool:
        rows = await execute(
            stack.database.owner_url,
            "SELECT certificate::text FROM erasures WHERE workspace_id = %s AND status = 'completed'",
            gone.workspace_id,
        )
        certificates[:] = [text for (text,) in rows]
        return bool(certificates)

    await eventually(is_completed, deadline=60)
    stop.set()
    n_kept = await writing

    assert await rows_with(stack, words) == []
    assert await messages_with(stack, words) == []
    assert files_with(folder, [*words, gone.workspace_id]) == []
    # By its id, the tombstone and the list that it leads to, and the certificate.
    places = {trace.store for trace in await rows_with(stack, [gone.workspace_id])}
    assert places == {"identity.erasures"} | {
        f"{service}.erased_workspaces"
        for service in ("gateway", "ingest", "pattern", "prediction", "recommendation")
    }
    [tombstone] = await messages_with(stack, [gone.workspace_id])
    assert "WorkspaceErased" in tombstone.text

    certificate = msgspec.json.decode(certificates[0], type=Certificate)
    assert is_genuine(certificate, public_key=certificate.public_key)
    erased = certificate.statement.erased
    assert (erased["identity"]["memberships"], erased["identity"]["organizations"]) == (1, 1)
    assert erased["identity"]["users"] == 2
    assert erased["log"]["messages"] >= 12 and erased["exports"]["files"] == 1
    assert set(erased["rows_left"].values()) == {0}

    assert other.get("/v1/issues", params={"limit": 1}).json()["page"]["total"] == n_kept == len(set(kept))
    assert other.get("/v1/audit/verification").json()["is_intact"]
    other.close()
    tables = {trace.store for trace in await rows_with(stack, [stays.workspace_id])}
    of_sources = await execute(
        stack.database.owner_url,
        "SELECT 'sources.' || tablename FROM pg_tables WHERE schemaname = 'sources'"
        " AND tablename NOT IN ('schema_migrations', 'paces')",
    )
    assert of_sources
    assert {table for (table,) in of_sources} <= tables & set(erased["rows_left"])
    assert set((await verified(stack)).values()) == {True}


async def test_an_erasure_goes_on_after_the_gateway_was_killed(stack: Stack) -> None:
    """Right after it was asked for; another process finishes what the database and the log say is to be done."""
    gone = await onboard(stack.database.owner_url)
    with client(stack, gone.owner_email) as owner:
        report(owner, f"zebra{uuid4().hex[:8]}", 1)
        assert owner.request("DELETE", "/v1/workspace", json={"confirm": gone.slug}).status_code == 202
    process = stack.services["gateway"]
    process.kill()
    process.start()
    await process.ready()

    async def is_completed() -> bool:
        return await execute(
            stack.database.owner_url, "SELECT status FROM erasures WHERE workspace_id = %s", gone.workspace_id
        ) == [("completed",)]

    await eventually(is_completed, deadline=60)
    assert await rows_with(stack, [gone.slug, gone.owner_id, gone.organization_id]) == []
    [tombstone] = await messages_with(stack, [gone.workspace_id])
    assert "WorkspaceErased" in tombstone.text
