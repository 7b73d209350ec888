"""Tickets: made once however often it is asked, found again after a crash, and followed to their end."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

import msgspec
import psycopg
import structlog
from contracts import Event, Recorded, connector, derived_id, record
from eventlog import Append, ConflictError, EventLog
from msgspec import Struct
from psycopg_pool import PoolTimeout
from runtime.broker import CommandContext, Endpoint
from runtime.database import Pool
from runtime.errors import AppError
from runtime.outbound import Outbound

from services.ingest import _queries
from services.ingest.commands.connectors import judge
from services.ingest.connectors import manifest as language
from services.ingest.connectors import tickets
from services.ingest.connectors.connecting import Source, source_of
from services.ingest.errors import (
    ConnectorNotConnectedError,
    ConnectorNotFoundError,
    InvalidTicketError,
    TicketUncertainError,
    TicketUnsettledError,
    VendorError,
    refusal,
)
from services.ingest.reporting import SERVICE, Sources, or_unreachable
from services.ingest.state import fold_ticket
from services.ingest.vendors.oauth import Grants, values_of
from services.ingest.vendors.pushes import Push, Pushes
from services.ingest.vendors.tickets import RefusedError, Tracker, UnsettledError

TICKET: Final = "ticket"
WAIT_SECONDS: Final = 15.0
"""How long a push waits for another of the same ticket."""
TRY_SECONDS: Final = 50.0
"""How long one try may take with all of its requests, well within its lease."""
LOOK_AGAIN_SECONDS: Final = (0.5, 2.0)
"""When a ticket is looked for whose answer was lost, before whoever asked is sent away."""
SETTLED_AFTER: Final = timedelta(seconds=30)
"""When it is looked for next: a tracker's search may lag behind."""
LET_GO_AFTER: Final = timedelta(minutes=5)
"""How long a ticket is looked for before it counts as not made."""
GIVEN_UP_AFTER: Final = timedelta(days=1)
"""How long a ticket is looked for whose tracker cannot be asked."""
FOLLOWED_EVERY: Final = timedelta(minutes=15)
ROUND_SECONDS: Final = 30.0
LAPSED_MAX: Final = 1_000
SETTLED_MAX: Final = 10
FOLLOWED_MAX: Final = 50
OPEN_MAX: Final = 5_000
"""Most tickets of one round: those whose making was interrupted, of those the ones of one workspace that are settled, the
open ones of one connector that are asked for, and those looked at."""
TRACKERS_MAX: Final = 8
TRACKERS_PER_WORKSPACE: Final = 2
TRACKERS_PER_ROUND: Final = 4
FOLLOW_SECONDS: Final = 20.0
"""Trackers that are asked at once, of all and of one workspace, how many of one workspace are in a round, and how long
each is: slow ones hold up their own tickets and those of their workspace, and no round for long. As many tickets are
settled beside them, each for so long; of what is to be settled a round begins nothing more after ROUND_SECONDS."""
ASKED_MAX: Final = 50_000
"""Tickets and connectors whose last time is known, and workspaces that had a turn in what is settled; what is forgotten
counts as never asked."""

_POLL_SECONDS: Final = 0.25

T = TypeVar("T")

log = structlog.get_logger("ingest.ticketing")


class _Desk(Struct, frozen=True):
    """A tracker and the part of its manifest that says how tickets are made there."""

    source: Source
    push: language.Push
    tracker: Tracker


class Ticketing:
    """Over one log, and whoever asks trackers for it. Safe to be used by several processes at once."""

    def __init__(
        self,
        event_log: EventLog,
        sources: Sources,
        grants: Grants,
        pushes: Pushes,
        outbound: Outbound,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = event_log
        self._sources = sources
        self._grants = grants
        self._pushes = pushes
        self._outbound = outbound
        self._clock = clock
        self._monotonic = monotonic
        self._asked: OrderedDict[str, datetime] = OrderedDict()
        self._had_turn: OrderedDict[str, float] = OrderedDict()
        self._trackers = asyncio.Semaphore(TRACKERS_MAX)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoint of making tickets."""
        return (Endpoint(connector.ENDPOINTS[connector.PushTicket], connector.PushTicket, self.push),)

    async def push(self, cmd: connector.PushTicket, context: CommandContext) -> connector.TicketPushed:
        """Make a ticket of a recommendation, or answer with the one there is.

        Before the tracker is asked, an intent is written down; the one who wrote it first asks, everybody after looks
        the ticket up by its marker before asking, and the event ends the intent.
        Raises ConnectorNotFoundError, ConnectorNotConnectedError, InvalidTicketError, VendorRefusedError,
        VendorUnavailableError, TicketUnsettledError, TicketUncertainError and LogUnreachableError.
        """
        source, push = await self._tracker_of(cmd, context.workspace_id)
        problems = tickets.target_problems(push, cmd.target) | _text_problems(cmd)
        if problems:
            raise InvalidTicketError(problems)
        ticket_id = tickets.ticket_id(context.workspace_id, cmd.recommendation_id, cmd.connector_id)
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        while True:
            there = await self._there(context.workspace_id, ticket_id)
            if there is not None:
                return there
            ours = await self._pushes.begin(
                context.workspace_id,
                ticket_id,
                recommendation_id=cmd.recommendation_id,
                connector_id=cmd.connector_id,
                target=tickets.settled_target(push, cmd.target),
                requested_by=context.actor,
            )
            if ours is not None:
                return await self._made(
                    ours, source, push, tickets.text_values(push, cmd.title, cmd.markdown), context
                )
            if asyncio.get_running_loop().time() >= deadline:
                raise TicketUnsettledError(retry_after=SETTLED_AFTER.total_seconds())
            await asyncio.sleep(_POLL_SECONDS)

    async def settle(self) -> int:
        """Look for tickets whose making somebody began and nobody ended; how many were found.

        One that is not there is let go: whoever asked was told that it was not known, and may ask again. Workspaces that
        had no turn for longest go first, and what a round does not come to waits for the next.
        """
        workspaces: dict[str, list[str]] = {}
        for workspace_id, ticket_id in await self._pushes.lapsed(limit=LAPSED_MAX):
            workspaces.setdefault(workspace_id, []).append(ticket_id)
        hands = asyncio.Semaphore(TRACKERS_MAX)
        until = self._monotonic() + ROUND_SECONDS
        settling = []
        for workspace_id in sorted(workspaces, key=lambda each: self._had_turn.get(each, -1.0)):
            share = asyncio.Semaphore(TRACKERS_PER_WORKSPACE)
            for ticket_id in workspaces[workspace_id][:SETTLED_MAX]:
                settling.append(self._take_up(workspace_id, ticket_id, share, hands, until=until))
        return sum(await asyncio.gather(*settling))

    async def _take_up(
        self,
        workspace_id: str,
        ticket_id: str,
        share: asyncio.Semaphore,
        hands: asyncio.Semaphore,
        *,
        until: float,
    ) -> bool:
        """Whether what another try left behind was found. share: of its workspace in the hands that settle."""
        async with share, hands:
            if self._monotonic() >= until:
                return False
            self._had_turn[workspace_id] = self._monotonic()
            self._had_turn.move_to_end(workspace_id)
            while len(self._had_turn) > ASKED_MAX:
                self._had_turn.popitem(last=False)
            try:
                ours = await self._pushes.take_up(workspace_id, ticket_id)
                return ours is not None and await self._settled_or_given_up(ours)
            except Exception as error:  # noqa: BLE001  # edge: one ticket's trouble ends neither the round nor the process
                log.warning("ticket.not_settled", ticket_id=ticket_id, error=_said(error))
                return False

    async def _settled_or_given_up(self, ours: Push) -> bool:
        """Whether it was found; one that cannot be asked for is given up in the end."""
        context = CommandContext(
            workspace_id=ours.workspace_id, correlation_id=ours.ticket_id, actor=ours.requested_by
        )
        try:
            async with asyncio.timeout(FOLLOW_SECONDS):
                return await self._settled(ours, context)
        except Exception:
            if self._clock() - ours.begun_at >= GIVEN_UP_AFTER:
                await self._pushes.end(ours)
            raise

    async def follow(self, found: Sequence[_queries.OpenTicket]) -> int:
        """Ask where open tickets stand, each at most every FOLLOWED_EVERY, the longest unasked first; how many changed.

        Of a workspace's trackers those that were in no round for longest.
        """
        now = self._clock()
        due = [row for row in found if now - self._asked.get(row.ticket_id, row.created_at) >= FOLLOWED_EVERY]
        due.sort(key=lambda row: self._asked.get(row.ticket_id, row.created_at))
        workspaces: dict[str, dict[str, list[_queries.OpenTicket]]] = {}
        for row in due:
            workspaces.setdefault(row.workspace_id, {}).setdefault(row.connector_id, []).append(row)
        groups = []
        for trackers in workspaces.values():
            share = asyncio.Semaphore(TRACKERS_PER_WORKSPACE)
            next_ = sorted(trackers.values(), key=self._last_round)[:TRACKERS_PER_ROUND]
            groups += [self._group(rows[:FOLLOWED_MAX], share) for rows in next_]
        return sum(await asyncio.gather(*groups))

    def _last_round(self, rows: Sequence[_queries.OpenTicket]) -> datetime:
        """When this tracker was asked, or has been waiting for it since."""
        return self._asked.get(rows[0].connector_id, rows[0].created_at)

    async def _group(self, rows: Sequence[_queries.OpenTicket], share: asyncio.Semaphore) -> int:
        """Ask one tracker where its tickets stand, as far as the time goes; how many changed.

        share: of its workspace in what is asked at once.
        """
        workspace_id, connector_id = rows[0].workspace_id, rows[0].connector_id
        n_changed = 0
        try:
            async with share, self._trackers, asyncio.timeout(FOLLOW_SECONDS):
                self._asked[connector_id] = self._clock()
                self._asked.move_to_end(connector_id)
                desk = await self._desk(workspace_id, connector_id)
                for row in rows:
                    self._asked[row.ticket_id] = self._clock()
                    self._asked.move_to_end(row.ticket_id)
                    n_changed += await self._followed(row, desk)
        except TimeoutError:
            log.warning("tickets.not_followed", connector_id=connector_id, error="out of time")
        except Exception as error:  # noqa: BLE001  # edge: as above
            # The others of this tracker would fare alike.
            self._asked.update(dict.fromkeys((row.ticket_id for row in rows), self._clock()))
            log.warning("tickets.not_followed", connector_id=connector_id, error=_said(error))
        while len(self._asked) > ASKED_MAX:
            self._asked.popitem(last=False)
        return n_changed

    async def _tracker_of(self, cmd: connector.PushTicket, workspace_id: str) -> tuple[Source, language.Push]:
        found = await self._sources.find(workspace_id, cmd.connector_id)
        if found is None or found.is_deleted:
            raise ConnectorNotFoundError(cmd.connector_id)
        source = source_of(cmd.connector_id, found.settings)
        if source.manifest.push is None:
            raise InvalidTicketError({"connector_id": f"{source.manifest.name} takes no tickets"})
        if found.status is not connector.ConnectorStatus.CONNECTED:
            raise ConnectorNotConnectedError(cmd.connector_id, found.status.value)
        return source, source.manifest.push

    async def _desk(self, workspace_id: str, connector_id: str) -> _Desk:
        """Raises ConnectorNotFoundError, InvalidConnectorError, VendorError."""
        found = await self._sources.find(workspace_id, connector_id)
        if found is None or found.is_deleted:
            raise ConnectorNotFoundError(connector_id)
        source = source_of(connector_id, found.settings)
        if source.manifest.push is None:
            raise VendorError("not_configured", f"{source.manifest.name} takes no tickets")
        secrets = await self._grants.fresh(source, workspace_id=workspace_id)
        return _Desk(
            source, source.manifest.push, self._tracker(workspace_id, source, source.manifest.push, secrets)
        )

    def _tracker(
        self, workspace_id: str, source: Source, push: language.Push, secrets: Mapping[str, str]
    ) -> Tracker:
        return Tracker(source, push, secrets, self._outbound.of(workspace_id))

    async def _made(
        self,
        ours: Push,
        source: Source,
        push: language.Push,
        texts: Mapping[str, object],
        context: CommandContext,
    ) -> connector.TicketPushed:
        """The ticket, made or found; the intent is ended unless it is not known whether it is there."""
        given = _values(ours, source)
        try:
            # Behind its lease another may take the ticket up, so by then we have stopped.
            async with asyncio.timeout(TRY_SECONDS):
                found, is_new = await self._asked_for(ours, source, push, {**given, **texts}, context)
        except (UnsettledError, TimeoutError) as error:
            log.warning("ticket.unsettled", ticket_id=ours.ticket_id, error=str(error))
            await self._pushes.release(ours, after=SETTLED_AFTER)
            raise TicketUnsettledError(retry_after=SETTLED_AFTER.total_seconds()) from error
        except TicketUncertainError:
            await self._pushes.release(ours, after=SETTLED_AFTER)
            raise
        except VendorError as error:
            if ours.n_attempts == 1:
                await self._pushes.end(ours)
            else:
                # An earlier try may have made it, and we could not see.
                await self._pushes.release(ours, after=SETTLED_AFTER)
            if not isinstance(error, RefusedError):
                await self._tell(ours.connector_id, error, context)
            raise refusal(error) from error
        return await self._written(ours, source, found, context, is_new=is_new)

    async def _asked_for(
        self,
        ours: Push,
        source: Source,
        push: language.Push,
        given: Mapping[str, object],
        context: CommandContext,
    ) -> tuple[tickets.Made, bool]:
        """The ticket and whether we made it. Raises UnsettledError, TicketUncertainError and VendorError."""
        secrets = await self._grants.fresh(source, workspace_id=context.workspace_id)
        tracker = self._tracker(context.workspace_id, source, push, secrets)
        if ours.n_attempts > 1 and not push.is_idempotent:
            if push.find is None:
                raise TicketUncertainError(str(given["marker"]))
            found = await self._renewing(tracker, source, secrets, context, lambda each: each.find(given))
            if found is not None:
                return found, False

        async def create(each: Tracker) -> tickets.Made:
            # Asked before each request: a process that was held up may wake behind its lease.
            if not await self._pushes.keep(ours):
                raise UnsettledError("vendor_failed", "another try has taken the ticket up")
            return await each.create(given)

        try:
            return await self._renewing(tracker, source, secrets, context, create), True
        except UnsettledError:
            if push.find is None:
                raise
            for pause in LOOK_AGAIN_SECONDS:
                await asyncio.sleep(pause)
                found = await _or_none(tracker, given)
                if found is not None:
                    return found, True
            raise

    async def _renewing(
        self,
        tracker: Tracker,
        source: Source,
        secrets: Mapping[str, str],
        context: CommandContext,
        ask: Callable[[Tracker], Awaitable[T]],
    ) -> T:
        """What the tracker answers; where it refuses the token, with another one, once."""
        try:
            return await ask(tracker)
        except VendorError as error:
            token = secrets.get("access_token")
            if error.code != "credentials_rejected" or token is None or source.manifest.push is None:
                raise
            renewed = await self._grants.fresh(source, workspace_id=context.workspace_id, rejected=token)
            return await ask(self._tracker(context.workspace_id, source, source.manifest.push, renewed))

    async def _settled(self, ours: Push, context: CommandContext) -> bool:
        """Whether what another try left behind was found. Raises VendorError and AppError."""
        if await self._there(ours.workspace_id, ours.ticket_id) is not None:
            await self._pushes.end(ours)
            return True
        desk = await self._desk(ours.workspace_id, ours.connector_id)
        found = await desk.tracker.find(_values(ours, desk.source))
        if found is not None:
            await self._written(ours, desk.source, found, context, is_new=False)
            return True
        age = self._clock() - ours.begun_at
        # Without a way to look, only time tells; asking once more for the same marker is safe where it is the key.
        if desk.push.is_idempotent or age >= (GIVEN_UP_AFTER if desk.push.find is None else LET_GO_AFTER):
            await self._pushes.end(ours)
        return False

    async def _written(
        self, ours: Push, source: Source, found: tickets.Made, context: CommandContext, *, is_new: bool
    ) -> connector.TicketPushed:
        """The event that ends an intent. Raises LogUnreachableError, after which the marker finds the ticket again."""
        event = connector.TicketCreated(
            ticket_id=ours.ticket_id,
            recommendation_id=ours.recommendation_id,
            connector_id=ours.connector_id,
            tracker=source.manifest.type,
            external_id=found.external_id,
            external_url=found.external_url,
            target=ours.target,
            is_found=not is_new,
            created_by=context.actor,
        )
        try:
            sequence = await self._append(event, ours.ticket_id, 0, context)
        except ConflictError:
            there = await self._there(ours.workspace_id, ours.ticket_id)
            if there is None:
                raise
            await self._pushes.end(ours)
            return there
        await self._pushes.end(ours)
        return connector.TicketPushed(ticket=event, is_new=is_new, sequence=sequence)

    async def _there(self, workspace_id: str, ticket_id: str) -> connector.TicketPushed | None:
        """The ticket as the log has it."""
        history = await or_unreachable(self._log.history(workspace_id, TICKET, ticket_id))
        ticket = fold_ticket(history)
        if ticket is None:
            return None
        return connector.TicketPushed(ticket=ticket.created, is_new=False, sequence=history[-1].seq)

    async def _followed(self, row: _queries.OpenTicket, desk: _Desk) -> bool:
        """Ask for one ticket and tell what changed."""
        target = msgspec.json.decode(row.target, type=dict[str, str])
        given = tickets.values(values_of(desk.source), row.ticket_id, target=target, begun_at=row.created_at)
        standing = await desk.tracker.standing({**given, "id": row.external_id})
        if standing is None:
            return False
        history = await or_unreachable(self._log.history(row.workspace_id, TICKET, row.ticket_id))
        ticket = fold_ticket(history)
        if ticket is None or (ticket.state, ticket.external_status) == standing:
            return False
        state, word = standing
        event = connector.TicketStateChanged(
            ticket_id=row.ticket_id,
            recommendation_id=ticket.created.recommendation_id,
            state=state,
            external_status=word,
        )
        context = CommandContext(workspace_id=row.workspace_id, correlation_id=row.ticket_id)
        try:
            await self._append(event, row.ticket_id, history[-1].seq, context)
        except ConflictError:
            return False
        return True

    async def _append(
        self, event: connector.Event, ticket_id: str, version: int, context: CommandContext
    ) -> int:
        now = self._clock()
        recorded: Recorded[Event] = record(
            event,
            workspace_id=context.workspace_id,
            aggregate_id=ticket_id,
            occurred_at=now,
            recorded_at=now,
            source=SERVICE,
            actor=context.actor,
            correlation_id=context.correlation_id,
            traceparent=context.traceparent,
            event_id=derived_id("evt_", context.workspace_id, TICKET, ticket_id, str(version)),
        )
        return await or_unreachable(self._log.append(Append(recorded, version)))

    async def _tell(self, connector_id: str, error: VendorError, context: CommandContext) -> None:
        """Say where a connector stands whose grant is gone."""
        if error.code == "oauth_expired":
            await self._sources.decide(
                connector_id,
                context,
                lambda state: judge(state, error.code, error.detail, n_failed_before=None),
            )


async def settle(ticketing: Ticketing, *, leads: Callable[[int], bool]) -> None:
    """Settle tickets again and again, on the process that leads the first partition, however long trackers take."""
    while True:
        try:
            if leads(0):
                await ticketing.settle()
        except (psycopg.Error, PoolTimeout, AppError) as error:
            # The next round makes up for it.
            log.warning("tickets.round_failed", error=repr(error))
        await asyncio.sleep(ROUND_SECONDS)


async def watch(ticketing: Ticketing, pool: Pool, *, partitions: int, leads: Callable[[int], bool]) -> None:
    """Follow tickets again and again, on the process that leads a partition.

    pool: of the role that sees the rows of all workspaces, on ingest's read model.
    """
    behind = dict.fromkeys(range(partitions), ("", "", ""))
    while True:
        try:
            for partition in filter(leads, range(partitions)):
                async with pool.connection() as conn:
                    workspace_id, connector_id, ticket_id = behind[partition]
                    found = await _queries.list_open_tickets(
                        conn,
                        partition=partition,
                        after_workspace=workspace_id,
                        after_connector=connector_id,
                        after_ticket=ticket_id,
                        row_limit=OPEN_MAX,
                    )
                last = found[-1] if len(found) == OPEN_MAX else None
                behind[partition] = (
                    (last.workspace_id, last.connector_id, last.ticket_id) if last else ("", "", "")
                )
                n_changed = await ticketing.follow(found)
                if n_changed:
                    log.info("tickets.changed", n_tickets=n_changed)
        except (psycopg.Error, PoolTimeout, AppError) as error:
            # The next round makes up for it.
            log.warning("tickets.round_failed", error=repr(error))
        await asyncio.sleep(ROUND_SECONDS)


def _said(error: Exception) -> str:
    """What may be logged of an error: of one that nobody expected, whose words may hold anything, its type."""
    return str(error) if isinstance(error, VendorError | AppError) else type(error).__name__


def _values(ours: Push, source: Source) -> dict[str, object]:
    return tickets.values(values_of(source), ours.ticket_id, target=ours.target, begun_at=ours.begun_at)


def _text_problems(cmd: connector.PushTicket) -> dict[str, str]:
    problems = {}
    if not len(cmd.title.strip()) > 0 or len(cmd.title) > tickets.TITLE_LENGTH_MAX:
        problems["title"] = f"needs 1 to {tickets.TITLE_LENGTH_MAX} characters"
    if len(cmd.markdown) > tickets.MARKDOWN_LENGTH_MAX:
        problems["markdown"] = f"needs at most {tickets.MARKDOWN_LENGTH_MAX} characters"
    return problems


async def _or_none(tracker: Tracker, given: Mapping[str, object]) -> tickets.Made | None:
    try:
        return await tracker.find(given)
    except VendorError:
        return None
