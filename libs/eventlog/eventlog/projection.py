"""What a service says about its read model and its reactions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Protocol

import msgspec
from contracts import Event, Recorded
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

Connection = AsyncConnection[TupleRow]

# event_id, event_seq: the last event applied, by which a log that was replaced is recognised.
# What somebody decided before they knew of an erasure may come after it, so the rows remember who was erased.
CHECKPOINT_SQL = """
CREATE TABLE checkpoint (
    partition integer PRIMARY KEY,
    position bigint NOT NULL,
    reaction_position bigint NOT NULL,
    event_seq bigint,
    event_id text
);
CREATE TABLE erased_workspaces (
    workspace_id text PRIMARY KEY
)
"""

ISOLATION_SQL = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON {table} TO causeloop_app
    USING (workspace_id = (SELECT current_setting('app.current_workspace', true)));
CREATE POLICY projector ON {table} TO causeloop_projector USING (true) WITH CHECK (true)
"""
"""What every table of a read model gets: the application reads the workspace that its transaction names, no other."""


class Projection(msgspec.Struct, frozen=True):
    """A read model: which events it reads and how they become rows.

    name: of the service and of its Postgres schema.
    aggregates: aggregate types whose events it reads; none = all. Whatever they are, the rows of a workspace that is
        erased are deleted, and its events are left out from then on.
    project: writes the rows of a batch of at most 1,000 events in log order, inside a transaction
        whose search_path is the schema. A function of the events and the rows alone: no clock, no chance.
    schema_sql: the whole text of schema.sql; another text is another version. Every table in it has a workspace_id;
        row-level security is put on each of them.
    linger_seconds: how long to gather events into a batch that is not full. 0 where a client waits for the rows;
        elsewhere a little waiting saves most of the transactions when events come one by one.
    """

    name: str
    aggregates: tuple[str, ...]
    project: Callable[[Sequence[Recorded[Event]], Connection], Awaitable[None]]
    schema_sql: str
    linger_seconds: float = 0.0

    @property
    def reads(self) -> tuple[str, ...]:
        """The aggregate types to read from the log: erasures are told on workspaces; none = all."""
        if not self.aggregates or "workspace" in self.aggregates:
            return self.aggregates
        return (*self.aggregates, "workspace")

    @property
    def version(self) -> str:
        """See `schema_version`."""
        return schema_version(self.schema_sql)


def schema_version(schema_sql: str) -> str:
    """The first 16 hex digits of the SHA-256 of a schema's text and of what every schema gets beside it."""
    return sha256((schema_sql + CHECKPOINT_SQL + ISOLATION_SQL).encode()).hexdigest()[:16]


def last_of(events: Sequence[Recorded[Event]]) -> tuple[int | None, str | None]:
    """Sequence and id of the last event, as the checkpoint keeps them; None when there is none."""
    return (events[-1].seq, events[-1].id) if events else (None, None)


class Reaction(Protocol):
    """Others' events become our decisions: only live, only on the leader, never in a replay.

    Calls never overlap. What is raised restarts it when the world failed (log, database, conflict),
    else it stops the projector with an alarm.
    """

    async def start(self, *, partition: int, position: int, caught_up_at: int) -> None:
        """Begin as leader: the rows are at `position`, the log ended at `caught_up_at`; load memory from the rows."""
        ...

    async def observe(self, batch: Sequence[Recorded[Event]], *, live: bool) -> None:
        """Take events whose rows are committed, in log order; some come again after a restart.

        live: everything that was in the log at the start has been seen; decide what is undecided.
        """
        ...

    async def tick(self, *, now: datetime) -> None:
        """Do what is due; about once a second while live."""
        ...
