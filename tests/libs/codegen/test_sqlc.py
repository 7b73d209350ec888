"""From queries.sql to typed functions, run on a real PostgreSQL."""

import importlib.util
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import msgspec
import psycopg
import pytest
import pytest_asyncio
from codegen import sql
from testkit.servers import Database

ROOT = Path(__file__).parents[3]
SAMPLE = Path(__file__).parent / "sample"
NOW = datetime(2026, 11, 22, 8, 15, tzinfo=UTC)


def generated(root: Path, queries: str | None = None) -> ModuleType:
    """The module for the sample's queries, or for others on its schema."""
    folder = root / "services/ingest"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "sqlc.yaml", root)
    shutil.copy(SAMPLE / "schema.sql", folder)
    (folder / "queries.sql").write_text(queries or (SAMPLE / "queries.sql").read_text())
    (path,) = sql.generate(root, ["ingest"])
    spec = importlib.util.spec_from_file_location("generated_queries", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return generated(tmp_path_factory.mktemp("root"))


@pytest_asyncio.fixture
async def projector(database: Database) -> AsyncIterator[psycopg.AsyncConnection]:
    """A projector's connection to the sample's schema."""
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        await owner.execute("CREATE SCHEMA sample")
        await owner.execute("SET search_path TO sample")
        await owner.execute((SAMPLE / "schema.sql").read_text())
        await owner.execute("GRANT USAGE ON SCHEMA sample TO causeloop_projector, causeloop_app")
        await owner.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON issue TO causeloop_projector")
        await owner.execute("GRANT SELECT ON issue TO causeloop_app")
    async with await psycopg.AsyncConnection.connect(database.projector_url, autocommit=True) as connection:
        await connection.execute("SET search_path TO sample")
        yield connection


def rows(count: int, *, seq: int = 1, title: str = "Time-out") -> str:
    """A batch of issues, the first the newest."""
    return msgspec.json.encode(
        [
            {
                "workspace_id": "ws_1",
                "issue_id": f"iss_{index}",
                "title": title,
                "severity": "p1" if index % 2 else "p2",
                "n_seen": 1,
                "metadata": {"index": index},
                "tags": ["a", 'b"c'],
                "occurred_at": NOW - timedelta(minutes=index),
                "seq": seq,
            }
            for index in range(count)
        ]
    ).decode()


async def test_upsert_writes_a_batch_and_ignores_its_repetition(
    queries: ModuleType, projector: psycopg.AsyncConnection
) -> None:
    """One statement writes all rows; the same events again change nothing, later ones do."""
    assert await queries.upsert_issues(projector, rows=rows(5)) == 5
    assert await queries.upsert_issues(projector, rows=rows(5)) == 0
    assert await queries.upsert_issues(projector, rows=rows(2, seq=2, title="Other")) == 2
    assert await queries.count_issues(projector, workspace_id="ws_1") == 5


async def test_list_gives_typed_rows_page_by_page(
    queries: ModuleType, projector: psycopg.AsyncConnection
) -> None:
    """Keyset pages by a moment and an id; filters that are None do not apply."""
    await queries.upsert_issues(projector, rows=rows(5))
    found: list[str] = []
    before_at, before_id = None, None
    for _ in range(3):
        page = await queries.list_issues(
            projector,
            workspace_id="ws_1",
            severities=None,
            service=None,
            before_at=before_at,
            before_id=before_id,
            page_size=2,
        )
        assert all(isinstance(row, queries.IssueRow) for row in page)
        found += [row.issue_id for row in page]
        before_at, before_id = page[-1].occurred_at, page[-1].issue_id
    assert found == [f"iss_{index}" for index in range(5)]


async def test_list_filters_by_any_of_a_list(queries: ModuleType, projector: psycopg.AsyncConnection) -> None:
    """A list parameter is an array of PostgreSQL."""
    await queries.upsert_issues(projector, rows=rows(4))
    page = await queries.list_issues(
        projector,
        workspace_id="ws_1",
        severities=["p1"],
        service=None,
        before_at=None,
        before_id=None,
        page_size=9,
    )
    assert {row.severity for row in page} == {"p1"}


async def test_get_gives_the_named_row_or_none(
    queries: ModuleType, projector: psycopg.AsyncConnection
) -> None:
    """A directive names the Struct and the type of a JSON column."""
    await queries.upsert_issues(projector, rows=rows(1))
    found = await queries.get_issue(projector, workspace_id="ws_1", issue_id="iss_0")
    assert isinstance(found, queries.IssueDetail)
    assert found.metadata == {"index": 0}
    assert await queries.get_issue(projector, workspace_id="ws_1", issue_id="iss_9") is None


async def test_update_and_delete_from_a_batch(
    queries: ModuleType, projector: psycopg.AsyncConnection
) -> None:
    """UPDATE … FROM and plain statements work like the rest."""
    await queries.upsert_issues(projector, rows=rows(3))
    assert await queries.retitle_issues(projector, rows=rows(2, title="New", seq=5)) is None
    latest = await queries.latest_by_severity(projector, workspace_id="ws_1")
    assert [(row.severity, row.n_issues, row.last_at) for row in latest] == [
        ("p1", 1, NOW - timedelta(minutes=1)),
        ("p2", 2, NOW),
    ]
    assert await queries.delete_issue(projector, workspace_id="ws_1", issue_id="iss_0") == 1
    assert await queries.list_titles(projector, workspace_id="ws_1") == ["New", "Time-out"]


async def test_app_role_sees_only_the_workspace_that_is_set(
    queries: ModuleType, projector: psycopg.AsyncConnection, database: Database
) -> None:
    """Row-level security holds for generated functions: the wrong workspace has no rows."""
    await queries.upsert_issues(projector, rows=rows(3))
    async with await psycopg.AsyncConnection.connect(database.app_url) as app:
        await app.execute("SET search_path TO sample")
        await app.execute("SELECT set_config('app.current_workspace', 'ws_2', true)")
        assert await queries.count_issues(app, workspace_id="ws_1") == 0
        await app.execute("SELECT set_config('app.current_workspace', 'ws_1', true)")
        assert await queries.count_issues(app, workspace_id="ws_1") == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-- name: X :exec\nDELETE FROM issue WHERE workspace_id = $1;", "one sentence"),
        ("-- Sum.\n-- name: X :many\nSELECT seq AS a, n_seen AS a FROM issue;", "one name"),
        ("-- Copy.\n-- name: X :copyfrom\nINSERT INTO issue (title) VALUES ($1);", "not supported"),
        ("-- Odd.\n-- name: X :one\nSELECT point(1, 2) AS p;", "no Python type for p"),
        (
            "-- One.\n-- row: R\n-- name: X :many\nSELECT title FROM issue;\n"
            "-- Two.\n-- row: R\n-- name: Y :many\nSELECT seq FROM issue;",
            "other columns",
        ),
        ("-- Wrong.\n-- name: X :many\nSELECT titel FROM issue;", "titel"),
    ],
    ids=["no sentence", "one name twice", "copy under RLS", "unknown type", "shared row", "unknown column"],
)
def test_query_without_a_rule_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """A query that cannot be typed stops the generator and is named."""
    with pytest.raises(sql.SqlcError, match=message):
        generated(tmp_path, text)


def test_names_that_python_or_the_generator_uses_are_kept_apart(tmp_path: Path) -> None:
    """A column `class` or a parameter `cursor` gives valid code."""
    module = generated(
        tmp_path,
        '-- One.\n-- name: FindHTTPIssue :one\nSELECT title AS "class", seq FROM issue'
        " WHERE title = sqlc.arg(cursor) AND issue_id = sqlc.arg(fetched);",
    )
    assert [field.name for field in msgspec.structs.fields(module.FindHTTPIssueRow)] == ["class_", "seq"]
    assert set(module.find_http_issue.__annotations__) == {"conn", "cursor_", "fetched_", "return"}


def test_service_without_queries_is_left_alone(tmp_path: Path) -> None:
    """Each service can be generated before the others exist."""
    shutil.copy(ROOT / "sqlc.yaml", tmp_path)
    assert sql.generate(tmp_path) == ()
    assert sql.preview(tmp_path) == {}
