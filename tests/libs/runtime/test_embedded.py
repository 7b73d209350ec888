import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from runtime import _folder, broker, children, embedded
from runtime.embedded import (
    DiskFullError,
    EmbeddedNats,
    EmbeddedPostgres,
    EmbeddedServerError,
    FolderAccessError,
    FolderInUseError,
    PortInUseError,
    bootstrap_roles,
    free_port,
)
from testkit.servers import SMALL_NATS, SMALL_POSTGRES, temporary_folder
from testkit.waiting import eventually

AS_ROOT = os.geteuid() == 0


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_folder() as path:
        yield path


def postgres(folder: Path, port: int = 0) -> EmbeddedPostgres:
    return EmbeddedPostgres(folder / "postgres", port, options=SMALL_POSTGRES)


def nats(folder: Path, port: int = 0) -> EmbeddedNats:
    return EmbeddedNats(folder / "nats", port, options=SMALL_NATS)


def modes_outside(folder: Path) -> dict[Path, int]:
    return {parent: parent.stat().st_mode for parent in folder.parents}


def test_a_free_port_is_kept_from_whoever_asks_for_any() -> None:
    port = free_port()
    with socket.socket() as client, pytest.raises(OSError, match="in use"):
        client.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)) as server:
        assert server.getsockname()[1] == port


def test_postgres_keeps_data_and_passwords_over_restarts_and_crashes(folder: Path) -> None:
    before = modes_outside(folder)
    server = postgres(folder)
    url = server.start()
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE TABLE kept (n int)")
        conn.execute("INSERT INTO kept VALUES (1)")
    server.stop()
    assert (server.start(), server.is_running) == (url, True)
    server.kill()
    assert not server.is_running
    server.start()
    with psycopg.connect(url) as conn:
        assert conn.execute("SELECT n FROM kept").fetchall() == [(1,)]
    server.stop()
    assert modes_outside(folder) == before


def test_postgres_asks_for_a_password_and_does_not_run_as_root(folder: Path) -> None:
    with postgres(folder) as server:
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"postgresql://postgres:wrong@127.0.0.1:{server.port}/postgres")
        owner = Path(f"/proc/{server.pid}").stat().st_uid if sys.platform == "linux" else os.getuid()
    assert owner == (65534 if AS_ROOT else os.getuid())


def test_folders_and_secrets_are_closed_to_others(folder: Path) -> None:
    with postgres(folder), nats(folder):
        for path in (folder / "postgres", folder / "nats", folder / "postgres" / "data"):
            assert path.stat().st_mode & 0o777 == 0o700
        for path in (
            folder / "postgres/passwords.json",
            folder / "nats/passwords.json",
            folder / "nats/nats.conf",
        ):
            assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not AS_ROOT, reason="only root drops its privileges")
def test_postgres_below_a_folder_closed_to_others_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    reachable = embedded._is_open_to_all
    monkeypatch.setattr(
        embedded, "_is_open_to_all", lambda path: "site-packages" not in str(path) and reachable(path)
    )
    server = postgres(closed)
    with server:
        assert server._binaries is not None
        copy = server._binaries.copy
        assert copy is not None
        assert copy.stat().st_uid == 0
        with psycopg.connect(server.url()) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
    assert not copy.exists()
    assert closed.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("make", [postgres, nats])
def test_start_twice_in_one_folder_is_refused_by_name(folder: Path, make: type[EmbeddedNats]) -> None:
    with make(folder), pytest.raises(FolderInUseError, match=f"process {os.getpid()}.*CAUSELOOP_DATA"):
        make(folder).start()


@pytest.mark.parametrize(("make", "variable"), [(postgres, "POSTGRES_PORT"), (nats, "NATS_PORT")])
def test_start_on_a_port_in_use_names_the_variable(
    folder: Path, make: type[EmbeddedNats], variable: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortInUseError, match=variable):
            make(folder, taken.getsockname()[1]).start()
    with make(folder):
        pass


def test_start_on_a_full_disk_says_how_much_is_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_folder, "MIN_FREE_BYTES", shutil.disk_usage(folder).total * 2)

    with pytest.raises(DiskFullError, match="is full: PostgreSQL needs at least"):
        postgres(folder).start()


def test_start_where_a_file_is_in_the_way_names_the_folder(folder: Path) -> None:
    (folder / "nats").write_text("not a folder")

    with pytest.raises(FolderAccessError, match="Cannot use the data folder"):
        nats(folder).start()


def test_start_over_a_pid_file_of_a_stranger_ignores_it(folder: Path) -> None:
    with postgres(folder):
        pass
    (folder / "postgres/data/postmaster.pid").write_text(f"{os.getpid()}\n/elsewhere\n")

    with postgres(folder) as server:
        assert server.is_running


def test_start_after_half_an_initdb_begins_again(folder: Path) -> None:
    with postgres(folder):
        pass
    (folder / "postgres/initializing").touch()
    shutil.rmtree(folder / "postgres/data/base")

    with postgres(folder) as server, psycopg.connect(server.url()) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_start_with_broken_data_shows_what_the_server_says(folder: Path) -> None:
    with postgres(folder):
        pass
    (folder / "postgres/data/global/pg_control").write_bytes(b"rubbish")

    with pytest.raises(EmbeddedServerError, match=r"PostgreSQL does not start: .*server\.log"):
        postgres(folder).start()


PARENT = """
import sys, time
from pathlib import Path
from runtime.embedded import EmbeddedNats, EmbeddedPostgres
servers = [EmbeddedPostgres(Path(sys.argv[1]) / "postgres"), EmbeddedNats(Path(sys.argv[1]) / "nats")]
for server in servers:
    server.start()
print(*(server.pid for server in servers), flush=True)
time.sleep(60)
"""


def test_servers_die_with_a_killed_parent_and_start_again(folder: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(folder)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert all(map(children.is_alive, pids))

    parent.kill()
    parent.wait()
    with postgres(folder), nats(folder):
        assert not any(map(children.is_alive, pids))


@pytest.mark.skipif(sys.platform != "linux", reason="on other systems the death signal does not exist")
async def test_orphans_are_ended_by_the_next_start(folder: Path) -> None:
    first = postgres(folder), nats(folder)
    for server in first:
        server.start()
        assert server._child is not None
        # As if the parent had died without the signal reaching its child.
        server._folder.close()

    second = postgres(folder), nats(folder)
    for server in second:
        server.start()

    await eventually(
        lambda: all(server._child is not None and server._child.poll() is not None for server in first)
    )
    for server in second:
        server.stop()


def test_bootstrap_roles_twice_changes_nothing_but_passwords(folder: Path) -> None:
    with postgres(folder) as server:
        for _ in range(2):
            bootstrap_roles(server.url(), server.role_passwords())
        with psycopg.connect(server.url("causeloop_owner", database="causeloop")) as conn:
            conn.execute("SET ROLE causeloop_projector")
        with (
            psycopg.connect(server.url("causeloop_app", database="causeloop")) as conn,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            conn.execute("CREATE SCHEMA mine")


def test_roles_sql_for_production_makes_the_same_roles(folder: Path) -> None:
    script = Path(__file__).parents[3] / "deploy/postgres/roles.sql"
    query = """
        SELECT rolname, rolcanlogin, rolsuper, rolbypassrls, rolcreatedb, rolcreaterole, rolreplication,
               (SELECT array_agg((m.roleid::regrole, m.inherit_option, m.set_option) ORDER BY 1)::text
                FROM pg_auth_members m WHERE m.member = r.oid),
               (SELECT (pg_get_userbyid(datdba), datacl)::text FROM pg_database WHERE datname = 'causeloop')
        FROM pg_roles r WHERE rolname LIKE 'causeloop_%' ORDER BY 1"""

    def catalog(server: EmbeddedPostgres) -> list[tuple[object, ...]]:
        with psycopg.connect(server.url()) as conn:
            return conn.execute(query).fetchall()

    with EmbeddedPostgres(folder / "one", options=SMALL_POSTGRES) as one:
        bootstrap_roles(one.url(), one.role_passwords())
        expected = catalog(one)
    with EmbeddedPostgres(folder / "two", options=SMALL_POSTGRES) as two:
        assert two._binaries is not None
        variables = [f"--set={role.removeprefix('causeloop_')}_password=x" for role in embedded.ROLES]
        psql = [str(two._binaries.folder / "psql"), two.url(), "-q", *variables, "-f", str(script)]
        for _ in range(2):
            subprocess.run(psql, check=True, capture_output=True)
        assert catalog(two) == expected


async def test_nats_accepts_messages_of_8_megabytes_and_keeps_streams(folder: Path) -> None:
    server = nats(folder)
    client = await broker.connect(server.start(), name="test")
    assert client.max_payload == 8_000_000 or client.max_payload == 8 * 1024 * 1024
    js = client.jetstream()
    await js.add_stream(name="S", subjects=["s.>"])
    await js.publish("s.1", b"kept")
    server.kill()
    server.start()
    await eventually(lambda: client.stats["reconnects"] == 1 and client.is_connected)
    assert (await js.get_msg("S", seq=1)).data == b"kept"
    await client.close()
    server.stop()


def test_nats_refuses_a_stranger(folder: Path) -> None:
    with nats(folder) as server, socket.create_connection(("127.0.0.1", server.port)) as conn:
        conn.recv(4096)
        conn.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        assert b"Authorization Violation" in conn.recv(4096)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a process's state in a file")
@pytest.mark.parametrize("error", [FileNotFoundError, ProcessLookupError])
def test_a_process_that_ends_while_it_is_looked_at_is_dead(
    monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    def gone(_: Path) -> str:
        raise error

    monkeypatch.setattr(Path, "read_text", gone)
    assert not children.is_alive(os.getpid())


def test_spawn_of_a_missing_program_says_so(folder: Path) -> None:
    with (folder / "log").open("wb") as log:
        child = children.spawn([str(folder / "missing")], env={}, output=log)
    assert child.wait(timeout=30) != 0
    assert "cannot run" in (folder / "log").read_text()


def test_stop_of_a_child_that_ignores_signals_kills_it(folder: Path) -> None:
    stubborn = (
        "import signal,time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    read_end, write_end = os.pipe()
    child = children.spawn([sys.executable, "-c", stubborn], env={}, output=write_end)
    assert os.read(read_end, 2) == b"up"
    children.stop(child, first=signal.SIGTERM, patience=0.1, last=signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    os.close(read_end)
    os.close(write_end)


def test_child_spawned_on_a_thread_outlives_the_thread() -> None:
    children_of_thread: list[subprocess.Popen[bytes]] = []
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    thread = threading.Thread(target=lambda: children_of_thread.append(children.spawn(command, env={})))
    thread.start()
    thread.join()

    [child] = children_of_thread
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(timeout=0.3)
    child.kill()
    child.wait()
