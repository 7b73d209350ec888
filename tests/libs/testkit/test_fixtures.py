import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest
from nats.aio.client import Client
from runtime.embedded import EmbeddedNats
from testkit.servers import Database, temporary_folder
from testkit.waiting import eventually


@pytest.mark.parametrize("turn", [1, 2])
def test_database_in_each_test_is_fresh_and_owned_by_the_owner(database: Database, turn: int) -> None:
    with psycopg.connect(database.owner_url) as conn:
        conn.execute("CREATE SCHEMA ingest")
        conn.execute("CREATE TABLE ingest.t (n int)")


def test_roles_are_neither_superuser_nor_free_of_row_security(database: Database) -> None:
    for url in (database.owner_url, database.projector_url, database.app_url):
        with psycopg.connect(url) as conn:
            row = conn.execute(
                "SELECT rolsuper, rolbypassrls, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
        assert row == (False, False, False, False)


@pytest.mark.parametrize("turn", [1, 2])
async def test_streams_in_each_test_are_clean(nc: Client, turn: int) -> None:
    js = nc.jetstream()
    assert await js.streams_info() == []
    await js.add_stream(name="S", subjects=["s.>"])
    await js.publish("s.1", b"x")


async def test_nats_url_carries_the_password(nats_url: str, nats_server: EmbeddedNats) -> None:
    assert nats_url == nats_server.url
    assert nats_url.startswith("nats://causeloop:")


async def test_eventually_returns_the_first_truth() -> None:
    values = iter([0, None, "found"])

    assert await eventually(lambda: next(values)) == "found"


async def test_eventually_shows_the_last_assertion_when_time_runs_out() -> None:
    def never() -> bool:
        raise AssertionError("the reason")

    with pytest.raises(AssertionError, match="not true within") as caught:
        await eventually(never, deadline=0.03)

    assert str(caught.value.__cause__) == "the reason"


def test_temporary_folder_removes_those_of_killed_processes() -> None:
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    left = Path(tempfile.gettempdir()) / f"causeloop-test-{finished.pid}-left"
    left.mkdir()
    with temporary_folder() as first, temporary_folder() as second:
        assert (left.exists(), first.exists(), second.exists()) == (False, True, True)
    assert not first.exists()
