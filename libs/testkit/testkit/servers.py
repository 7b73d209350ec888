"""Real PostgreSQL and NATS for tests: small, on free ports, in a folder that goes away."""

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from msgspec import Struct
from nats.aio.client import Client
from nats.js.errors import NotFoundError
from psycopg import sql
from runtime import scratch
from runtime.embedded import (
    EmbeddedNats,
    EmbeddedPostgres,
    NatsOptions,
    PostgresOptions,
    bootstrap_roles,
    create_database,
)

SMALL_POSTGRES = PostgresOptions(shared_buffers="32MB", max_connections=100, is_durable=False)
SMALL_NATS = NatsOptions(sync_interval="2m", max_file_store="4GB")

_numbers = itertools.count(1)


class Database(Struct, frozen=True):
    """A fresh database of one test, and how to enter it."""

    name: str
    admin_url: str
    owner_url: str
    projector_url: str
    app_url: str


@contextmanager
def temporary_folder(purpose: str = "test") -> Iterator[Path]:
    """A folder that is removed with all that is in it."""
    folder = scratch.make(purpose)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres() -> Iterator[EmbeddedPostgres]:
    """A running PostgreSQL with our roles."""
    with (
        temporary_folder() as folder,
        EmbeddedPostgres(folder / "postgres", options=SMALL_POSTGRES) as server,
    ):
        bootstrap_roles(server.url(), server.role_passwords())
        yield server


@contextmanager
def nats_server() -> Iterator[EmbeddedNats]:
    """A running nats-server with JetStream."""
    with temporary_folder() as folder, EmbeddedNats(folder / "nats", options=SMALL_NATS) as server:
        yield server


@contextmanager
def database(server: EmbeddedPostgres, *, template: str = "template1") -> Iterator[Database]:
    """A fresh database, dropped afterwards even when someone is still connected; empty, or as `template` is."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server.url(), autocommit=True) as conn:
        # Copying files takes less than half of what writing every page of the template to the WAL does.
        copied = sql.SQL("CREATE DATABASE {} OWNER causeloop_owner TEMPLATE {} STRATEGY FILE_COPY")
        conn.execute(copied.format(sql.Identifier(name), sql.Identifier(template)))
        create_database(conn, name)
    try:
        yield urls_of(server, name)
    finally:
        if server.is_running:
            with psycopg.connect(server.url(), autocommit=True) as conn:
                conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def urls_of(server: EmbeddedPostgres, name: str) -> Database:
    """How each of our roles enters a database of this server."""
    return Database(
        name=name,
        admin_url=server.url(database=name),
        owner_url=server.url("causeloop_owner", database=name),
        projector_url=server.url("causeloop_projector", database=name),
        app_url=server.url("causeloop_app", database=name),
    )


async def remove_streams(nc: Client) -> None:
    """Delete every stream of the server, so that the next test begins with an empty log."""
    # Deleting files may last longer than the five seconds of the library.
    js = nc.jetstream(timeout=30.0)
    for stream in await js.streams_info():
        try:
            await js.delete_stream(stream.config.name or "")
        except NotFoundError:
            continue
