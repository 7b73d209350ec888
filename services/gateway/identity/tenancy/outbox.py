"""The outbox's relay: what was written beside identity's rows reaches the log, in order, each fact once."""

import asyncio
import time
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

import msgspec
import psycopg
import structlog
from contracts import Event, Recorded, record, workspace
from eventlog import Append, AppendRefusedError, ConflictError, EventLog, LogUnavailableError
from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from runtime.metrics import remember_error

from services.gateway.identity.tenancy import _queries
from services.gateway.identity.tenancy._queries import Fact

log = structlog.get_logger()

POLL_SECONDS: Final = 1.0
WAIT_SECONDS: Final = 30.0
"""How long a workspace waits whose next fact cannot be told, before it is tried again."""
PAGE: Final = 500
WORKSPACES_AT_ONCE: Final = 32

# The server notices a vanished leader within about five seconds and frees its lock.
_OPTIONS = (
    "-c search_path=identity -c tcp_keepalives_idle=2 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3"
)

_WORLD_FAILED = (
    LogUnavailableError,
    ConflictError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    ConnectionError,
    TimeoutError,
)


class UntellableFactError(Exception):
    """A row of the outbox is no event of a workspace, or the log refuses it; an operator has to look at it."""


class _Seen(Struct, frozen=True):
    """What the log has of a workspace: the ids of its events, and the sequence of the last."""

    ids: frozenset[str]
    last: int


_NOTHING = _Seen(frozenset(), 0)


class Relay:
    """Moves facts from the outbox to the log. Every gateway runs one; the one that holds the lock works.

    url: PostgreSQL as the application's role.
    """

    def __init__(self, event_log: EventLog, *, url: str) -> None:
        self._log = event_log
        self._url = url
        self._waiting: dict[str, str] = {}
        self._retry_at = 0.0

    async def run(self) -> None:
        """Relay until cancelled; after a failure of the world begin again."""
        while True:
            try:
                await self._stand_by_and_lead()
            except _WORLD_FAILED as error:
                log.warning("outbox.interrupted", error=repr(error))
                await asyncio.sleep(POLL_SECONDS)

    def alarms(self) -> Sequence[str]:
        """What an operator has to look at; the dashboard's errors say more."""
        if not self._waiting:
            return ()
        return (
            f"Facts of {len(self._waiting)} workspaces wait in identity.outbox, because one cannot be told.",
        )

    async def _stand_by_and_lead(self) -> None:
        conn = await AsyncConnection.connect(
            self._url,
            autocommit=True,
            options=_OPTIONS,
            connect_timeout=5,
            application_name="causeloop-outbox",
            cursor_factory=AsyncRawCursor,
        )
        async with conn:
            while True:
                if await _queries.try_lead(conn):
                    break
                await asyncio.sleep(POLL_SECONDS)
            await conn.execute("LISTEN identity_outbox")
            while True:
                await self._drain(conn)
                # Whether one comes or not: what a failure left is tried again.
                async for _ in conn.notifies(timeout=POLL_SECONDS, stop_after=1):
                    pass

    async def _drain(self, conn: AsyncConnection[tuple[object, ...]]) -> None:
        """Tell everything that waits to be told."""
        if self._waiting and time.monotonic() >= self._retry_at:
            self._waiting.clear()
        while facts := await _queries.list_untold_facts(conn, page_size=PAGE, without=list(self._waiting)):
            told: list[int] = []
            at_once = asyncio.Semaphore(WORKSPACES_AT_ONCE)
            ordered = sorted(facts, key=attrgetter("workspace_id"))  # stable: each workspace keeps its order
            outcomes = await asyncio.gather(
                *(
                    self._tell(list(of_one), told, at_once)
                    for _, of_one in groupby(ordered, key=attrgetter("workspace_id"))
                ),
                return_exceptions=True,
            )
            if told:
                await _queries.forget_facts(conn, outbox_ids=told)
            for outcome in outcomes:
                if outcome is not None:
                    raise outcome

    async def _tell(self, facts: Sequence[Fact], told: list[int], at_once: asyncio.Semaphore) -> None:
        """Append the facts of one workspace in order, up to one that cannot be told."""
        # A new workspace has no history to look at; of another one it holds what a crash left undeleted.
        seen = _NOTHING if facts[0].event_type == "WorkspaceCreated" else None
        async with at_once:
            for fact in facts:
                try:
                    event = as_event(fact)
                    if seen is None:
                        seen = await self._look(fact.workspace_id)
                    seen = await self._append(event, seen)
                except (UntellableFactError, AppendRefusedError) as error:
                    self._wait(fact, error)
                    return
                told.append(fact.outbox_id)

    async def _append(self, event: Recorded[Event], seen: _Seen) -> _Seen:
        """Append an event unless the log has it; what the log has now. Raises ConflictError at a second race."""
        if event.id in seen.ids:
            return seen
        try:
            last = await self._log.append(Append(event, seen.last))
        except ConflictError:
            seen = await self._look(event.workspace_id)
            if event.id in seen.ids:
                return seen
            if isinstance(event.data, workspace.WorkspaceCreated):
                raise UntellableFactError("the log knows the workspace already, by another event") from None
            last = await self._log.append(Append(event, seen.last))
        return _Seen(seen.ids | {event.id}, last)

    async def _look(self, workspace_id: str) -> _Seen:
        history = await self._log.history(workspace_id, "workspace", workspace_id)
        if not history:
            return _NOTHING
        return _Seen(frozenset(event.id for event in history), history[-1].seq)

    def _wait(self, fact: Fact, error: Exception) -> None:
        """Leave the workspace alone for a while, so that the others go on."""
        text = f"identity.outbox row {fact.outbox_id} ({fact.event_type}): {error}"
        self._waiting[fact.workspace_id] = text
        self._retry_at = time.monotonic() + WAIT_SECONDS
        remember_error(text)
        log.error(
            "outbox.fact_refused", outbox_id=fact.outbox_id, event_type=fact.event_type, error=str(error)
        )


def as_event(fact: Fact) -> Recorded[Event]:
    """The event that a row of the outbox stands for. Raises UntellableFactError."""
    try:
        data = _data(fact)
    except msgspec.ValidationError as error:
        raise UntellableFactError(str(error)) from error
    if data.workspace_id != fact.workspace_id:
        raise UntellableFactError(f"it is about {data.workspace_id}, in the name of {fact.workspace_id}")
    return record(
        data,
        workspace_id=fact.workspace_id,
        aggregate_id=fact.workspace_id,
        occurred_at=fact.recorded_at,
        recorded_at=fact.recorded_at,
        source="gateway",
        actor=fact.actor,
        traceparent=fact.traceparent,
        event_id=fact.event_id,
    )


def _data(fact: Fact) -> workspace.Event:
    match fact.event_type:
        case "WorkspaceCreated":
            return msgspec.convert(fact.data, workspace.WorkspaceCreated)
        case "WorkspaceSettingsChanged":
            return msgspec.convert(fact.data, workspace.WorkspaceSettingsChanged)
        case "WorkspaceSuspended":
            return msgspec.convert(fact.data, workspace.WorkspaceSuspended)
        case "WorkspaceReinstated":
            return msgspec.convert(fact.data, workspace.WorkspaceReinstated)
        case "WorkspaceErased":
            return msgspec.convert(fact.data, workspace.WorkspaceErased)
        case unknown:
            raise UntellableFactError(f"{unknown!r} is no event of a workspace")
