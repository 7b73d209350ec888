"""PostgreSQL and NATS: the embedded ones, or those that the environment names."""

import asyncio
from typing import Final, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

import nats
import nats.errors
import psycopg
from msgspec import Struct
from runtime.embedded import (
    DATABASE,
    EmbeddedNats,
    EmbeddedPostgres,
    NatsOptions,
    bootstrap_roles,
)

from causeloop.exits import CliError, NotAvailableError, UsageError
from causeloop.up.folder import DataFolder, Secrets
from causeloop.up.settings import UpSettings

CONNECT_SECONDS: Final = 5


class EmbeddedServer(Protocol):
    """A server that is a child of this process."""

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""

    def start(self) -> str:
        """Start it and wait until it answers."""

    def stop(self) -> None:
        """Stop it cleanly."""


class DatabaseUrls(Struct, frozen=True, kw_only=True):
    """One database, seen by our three roles."""

    app: str
    projector: str
    owner: str


class Servers:
    """The two servers that the services need; `start` gives their addresses, `stop` ends the embedded ones."""

    def __init__(self, settings: UpSettings, folder: DataFolder, secrets: Secrets) -> None:
        self._settings = settings
        self._folder = folder
        self._secrets = secrets
        self.embedded: dict[str, EmbeddedServer] = {}

    async def start_nats(self) -> str:
        """The address of a NATS that answers."""
        if self._settings.nats_url:
            await _require_nats(self._settings.nats_url)
            return self._settings.nats_url
        options = NatsOptions(sync_interval=self._settings.nats_sync_interval)
        server = EmbeddedNats(self._folder.path / "nats", self._settings.nats_port, options=options)
        self.embedded["NATS"] = server
        # Not in a thread: on Linux the child would die with the thread that started it.
        return server.start()

    def start_database(self) -> DatabaseUrls:
        """The addresses of a database that has our roles."""
        settings = self._settings
        if settings.database_projector_url and settings.database_owner_url:
            if not settings.database_url:
                raise UsageError(
                    "DATABASE_URL is missing beside DATABASE_PROJECTOR_URL and DATABASE_OWNER_URL",
                    advice="Set it to the address with the role causeloop_app.",
                )
            urls = DatabaseUrls(
                app=settings.database_url,
                projector=settings.database_projector_url,
                owner=settings.database_owner_url,
            )
            _bootstrap_nothing(urls.owner)
            return urls
        if settings.database_url:
            return self._bootstrap(settings.database_url, self._secrets.role_passwords)
        server = EmbeddedPostgres(self._folder.path / "postgres", settings.postgres_port)
        self.embedded["PostgreSQL"] = server
        return self._bootstrap(server.start(), server.role_passwords())

    def _bootstrap(self, admin_url: str, passwords: dict[str, str]) -> DatabaseUrls:
        try:
            bootstrap_roles(admin_url, passwords)
        except psycopg.errors.InsufficientPrivilege as error:
            raise CliError(
                f"the role in DATABASE_URL may not create roles and databases: {_last_line(error)}",
                advice="Give one that may, or make them with deploy/postgres/roles.sql and set DATABASE_URL, "
                "DATABASE_PROJECTOR_URL and DATABASE_OWNER_URL to the three.",
            ) from error
        except psycopg.OperationalError as error:
            raise _database_away(error) from error
        app, projector, owner = (
            _as_role(admin_url, role, passwords[role])
            for role in ("causeloop_app", "causeloop_projector", "causeloop_owner")
        )
        return DatabaseUrls(app=app, projector=projector, owner=owner)

    def stop(self) -> None:
        """Stop the embedded servers: first the log, then the database."""
        for name in ("NATS", "PostgreSQL"):
            server = self.embedded.pop(name, None)
            if server is not None:
                server.stop()


def _as_role(url: str, role: str, password: str) -> str:
    """The address of our database on the same server, for another role."""
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, f"{role}:{quote(password)}@{where}", f"/{DATABASE}", parts.query, ""))


def _bootstrap_nothing(owner_url: str) -> None:
    try:
        psycopg.connect(owner_url, connect_timeout=CONNECT_SECONDS).close()
    except psycopg.OperationalError as error:
        raise _database_away(error) from error


def _database_away(error: psycopg.Error) -> NotAvailableError:
    return NotAvailableError(
        f"the PostgreSQL that DATABASE_URL names does not let us in: {_last_line(error)}",
        advice="Start it or correct DATABASE_URL; without that variable Causeloop runs its own PostgreSQL.",
    )


def _last_line(error: psycopg.Error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


async def _require_nats(url: str) -> None:
    advice = "Start it or correct NATS_URL; without that variable Causeloop runs its own nats-server."
    heard: list[Exception] = []

    async def hear(error: Exception) -> None:
        heard.append(error)

    connecting = nats.connect(
        url,
        error_cb=hear,
        connect_timeout=CONNECT_SECONDS,
        max_reconnect_attempts=1,
        reconnect_time_wait=0.1,
    )
    try:
        async with asyncio.timeout(CONNECT_SECONDS + 1):
            client = await connecting
    except (OSError, TimeoutError, nats.errors.Error, ValueError) as error:
        raise NotAvailableError(
            f"the NATS that NATS_URL names does not let us in: {heard[0] if heard else error}", advice=advice
        ) from error
    try:
        await client.jetstream(timeout=CONNECT_SECONDS).account_info()
    except (TimeoutError, nats.errors.Error) as error:
        raise NotAvailableError(
            "the NATS that NATS_URL names has no JetStream",
            advice="Start it with JetStream: nats-server -js.",
        ) from error
    finally:
        await client.close()
