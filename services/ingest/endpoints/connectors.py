"""What people decide about connectors and their runs."""

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Final

import msgspec
import structlog
from contracts import connector, derived_id, new_id
from msgspec.structs import replace
from runtime.broker import CommandContext, Endpoint
from runtime.database import Pool, tenant
from runtime.errors import UnavailableError
from runtime.sealing import SealError

from services.ingest import _queries
from services.ingest.commands import connectors as decisions
from services.ingest.connectors import connecting, schedules
from services.ingest.connectors.reserved import GIVEN_FOR, OF_WEBHOOKS
from services.ingest.errors import (
    ConnectorNotFoundError,
    InvalidConnectorError,
    RunNotFoundError,
    TooManyConnectorsError,
    VendorError,
)
from services.ingest.jobs.queue import JobQueue
from services.ingest.jobs.syncing import SyncJob, forget
from services.ingest.projections import POLLS
from services.ingest.records import Records
from services.ingest.reporting import Sources
from services.ingest.state import Connector
from services.ingest.vault import Held, Vault
from services.ingest.vendors.asking import Asking

CONNECTORS_MAX: Final = 500
"""Connectors of one workspace."""
CREDENTIALS: Final = "credentials"

_NAMES: Final = connector.ENDPOINTS
_decode_credentials = msgspec.json.Decoder(dict[str, str]).decode

log = structlog.get_logger()


class Connectors:
    """Answers over the log, the vault and the queue.

    rows: ingest's read model. shown: waits a moment for the rows to hold a sequence of a workspace's log.
    clock: the time in UTC.
    """

    def __init__(
        self,
        sources: Sources,
        vault: Vault,
        records: Records,
        asking: Asking,
        queue: JobQueue,
        *,
        rows: Pool,
        shown: Callable[[str, int], Awaitable[bool]],
        clock: Callable[[], datetime],
        rng: random.Random,
    ) -> None:
        self._sources = sources
        self._vault = vault
        self._records = records
        self._asking = asking
        self._queue = queue
        self._rows = rows
        self._shown = shown
        self._clock = clock
        self._rng = rng

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Its doors on the bus."""
        return (
            Endpoint(_NAMES[connector.CreateConnector], connector.CreateConnector, self.create),
            Endpoint(_NAMES[connector.ConfigureConnector], connector.ConfigureConnector, self.configure),
            Endpoint(_NAMES[connector.DeleteConnector], connector.DeleteConnector, self.delete),
            Endpoint(_NAMES[connector.TestConnector], connector.TestConnector, self.test),
            Endpoint(_NAMES[connector.StartSync], connector.StartSync, self.start_sync),
            Endpoint(_NAMES[connector.CancelSync], connector.CancelSync, self.cancel_sync),
        )

    async def create(
        self, cmd: connector.CreateConnector, context: CommandContext
    ) -> connector.ConnectorChanged:
        """Make a connector; one that is polled runs every half hour unless something else is said.

        Raises InvalidConnectorError, TooManyConnectorsError, UnavailableError and LogUnreachableError.
        """
        settings = connecting.checked(cmd.settings)
        connector_id = new_id("con_", now=self._clock(), rng=self._rng)
        source = connecting.source_of(connector_id, settings)
        is_polled = connecting.is_polled(source.manifest)
        if is_polled and settings.schedule is None:
            settings = replace(settings, schedule=schedules.DEFAULT)
        await self._require_room(context)
        given = self._opened(cmd.sealed_credentials, context)
        secrets: tuple[str, ...] = ()
        if given:
            connecting.check_credentials(source.auth, given, held=())
            # Before the secrets, so that none is left should this process die, or the log not answer, behind them.
            job = SyncJob(connector_id=connector_id, run_id=None, is_new=True)
            job_id = f"{connector_id}-new"
            await self._queue.put("sync", context.workspace_id, job_id, msgspec.json.encode(job))
            changes = {**given, GIVEN_FOR: connecting.address_of(source)}
            secrets = await self._vault.keep(context.workspace_id, connector_id, changes)
        events = decisions.create_connector(
            connector_id,
            settings,
            secrets=secrets,
            is_proved=not is_polled,
            created_by=context.actor,
        )
        sequence = await self._sources.create(connector_id, events, context)
        status = connector.ConnectorStatus.PENDING if is_polled else connector.ConnectorStatus.CONNECTED
        return connector.ConnectorChanged(
            connector_id=connector_id, settings=settings, status=status, secrets=secrets, sequence=sequence
        )

    async def configure(
        self, cmd: connector.ConfigureConnector, context: CommandContext
    ) -> connector.ConnectorChanged:
        """Change what is decided about a connector, its credentials, or whether it is paused.

        Raises ConnectorNotFoundError, InvalidConnectorError, ConnectorContendedError and LogUnreachableError.
        """
        given = self._opened(cmd.sealed_credentials, context)
        state = await self._required(cmd.connector_id, context)
        settings = connecting.checked(connecting.changed(state.settings, cmd), kept=state.settings)
        source = connecting.source_of(cmd.connector_id, settings)
        secrets: tuple[str, ...] | None = None

        def decide(now_state: Connector) -> list[connector.Event]:
            return decisions.configure_connector(
                now_state,
                # What somebody else has changed since stays.
                connecting.checked(connecting.changed(now_state.settings, cmd), kept=now_state.settings),
                secrets=secrets,
                is_paused=cmd.is_paused,
                is_proved=not connecting.is_polled(source.manifest),
            )

        async with AsyncExitStack() as both:
            is_other = given or self._sends_elsewhere(state, source)
            if is_other or settings.manifest != state.settings.manifest:
                # What was there stays there unless the log takes the rest.
                held = await both.enter_async_context(
                    self._vault.held(context.workspace_id, cmd.connector_id)
                )
                if is_other:
                    secrets = await self._exchanged(held, state, source, given)
                else:
                    await self._readdress(held, state, source)
            state, sequence = await self._sources.decide(cmd.connector_id, context, decide)
        return connector.ConnectorChanged(
            connector_id=state.connector_id,
            settings=state.settings,
            status=state.status,
            secrets=state.secrets,
            sequence=sequence,
        )

    async def delete(
        self, cmd: connector.DeleteConnector, context: CommandContext
    ) -> connector.ConnectorGone:
        """Delete a connector and all that is kept of it but its issues; its runs end by themselves.

        Raises ConnectorNotFoundError, ConnectorContendedError, UnavailableError and LogUnreachableError.
        """
        await self._required(cmd.connector_id, context)
        # Before the fact, so that nothing is left should this process die behind it.
        job = SyncJob(connector_id=cmd.connector_id, run_id=None)
        await self._queue.put("sync", context.workspace_id, cmd.connector_id, msgspec.json.encode(job))
        _, sequence = await self._sources.decide(cmd.connector_id, context, decisions.delete_connector)
        await forget(self._vault, self._records, context.workspace_id, cmd.connector_id)
        return connector.ConnectorGone(sequence=sequence)

    async def test(self, cmd: connector.TestConnector, context: CommandContext) -> connector.ConnectorTested:
        """Try a connector's credentials with the vendor, and every stream; it stands where that says.

        Raises ConnectorNotFoundError, InvalidConnectorError, ConnectorContendedError, UnavailableError and
        LogUnreachableError.
        """
        state = await self._required(cmd.connector_id, context)
        source = connecting.source_of(cmd.connector_id, state.settings)
        checks: list[connector.ConnectionCheck] = []
        reason, detail = "", ""
        try:
            access = await self._asking.access(context.workspace_id, source)
            found = await self._asking.probe(context.workspace_id, access)
            token = access.secrets.get("access_token")
            if token is not None and any(check.code == "credentials_rejected" for check in found):
                # A token may have been taken back before its time; its grant may still be good.
                access = await self._asking.access(context.workspace_id, source, rejected=token)
                found = await self._asking.probe(context.workspace_id, access)
        except VendorError as error:
            reason, detail = error.code, error.detail
            checks.append(connector.ConnectionCheck(name=CREDENTIALS, is_good=False, detail=detail))
        else:
            bad = next((check for check in found if check.code is not None), None)
            if bad is not None and bad.code is not None:
                reason, detail = bad.code, bad.detail
            checks += [
                connector.ConnectionCheck(name=check.name, is_good=check.is_good, detail=check.detail)
                for check in found
            ]
        state, sequence = await self._sources.decide(
            cmd.connector_id,
            context,
            lambda now_state: decisions.judge(now_state, reason, detail, n_failed_before=None),
        )
        return connector.ConnectorTested(
            is_good=not reason, checks=tuple(checks), status=state.status, sequence=sequence
        )

    async def start_sync(self, cmd: connector.StartSync, context: CommandContext) -> connector.SyncAccepted:
        """Ask for a run; where one of the kind is open already, that is it.

        Raises ConnectorNotFoundError, ConnectorPausedError, InvalidConnectorError and LogUnreachableError.
        """
        state = await self._required(cmd.connector_id, context)
        if cmd.kind not in {connector.SyncKind.MANUAL, connector.SyncKind.BACKFILL, connector.SyncKind.REMAP}:
            raise InvalidConnectorError({"kind": "use manual, backfill or remap"})
        source = connecting.source_of(cmd.connector_id, state.settings)
        if cmd.kind is not connector.SyncKind.REMAP and not connecting.is_polled(source.manifest):
            raise InvalidConnectorError({"kind": f"{source.manifest.name} is not polled: it only sends"})
        request = decisions.request_run(
            state,
            run_id="",
            kind=cmd.kind,
            window=(cmd.window_start, cmd.window_end),
            requested_by=context.actor,
            now=self._clock(),
        )
        run_id, is_open = await self._open_or_next(cmd, context)
        sequence: int | None = None
        while not is_open and sequence is None:
            sequence = await self._sources.request(replace(request, run_id=run_id), context)
            if sequence is None:
                # Somebody else was first with this id; one that is over has another behind it.
                run = await self._sources.find_run(context.workspace_id, run_id)
                is_open = run is not None and run.ended is None
                run_id = run_id if is_open else derived_id("syn_", run_id)
        if sequence is None:
            sequence = await self._sources.run_version(context.workspace_id, run_id)
            return connector.SyncAccepted(run_id=run_id, sequence=sequence)
        job = SyncJob(connector_id=cmd.connector_id, run_id=run_id)
        try:
            await self._queue.put("sync", context.workspace_id, run_id, msgspec.json.encode(job))
        except UnavailableError as error:
            # It was asked for, so the leader puts it.
            log.warning("run.not_put", run_id=run_id, error=str(error))
        return connector.SyncAccepted(run_id=run_id, sequence=sequence)

    async def cancel_sync(self, cmd: connector.CancelSync, context: CommandContext) -> connector.SyncAccepted:
        """End a run that waits or runs; whoever does it stops behind its page.

        Raises RunNotFoundError, RunEndedError, ConnectorContendedError and LogUnreachableError.
        """
        run = await self._sources.find_run(context.workspace_id, cmd.run_id)
        if run is None or run.request.connector_id != cmd.connector_id:
            raise RunNotFoundError(cmd.run_id)
        sequence = await self._sources.decide_run(cmd.run_id, context, decisions.cancel_run)
        return connector.SyncAccepted(run_id=cmd.run_id, sequence=sequence)

    async def _required(self, connector_id: str, context: CommandContext) -> Connector:
        state = await self._sources.find(context.workspace_id, connector_id)
        if state is None or state.is_deleted:
            raise ConnectorNotFoundError(connector_id)
        return state

    async def _require_room(self, context: CommandContext) -> None:
        async with tenant(self._rows, context.workspace_id) as conn:
            n_connectors = await _queries.count_connectors(conn, workspace_id=context.workspace_id)
        if (n_connectors or 0) >= CONNECTORS_MAX:
            raise TooManyConnectorsError(CONNECTORS_MAX)

    async def _open_or_next(self, cmd: connector.StartSync, context: CommandContext) -> tuple[str, bool]:
        """The run of this kind that is open, and True; else the id of the next, the same for all who ask at once."""
        workspace_id = context.workspace_id
        await self._shown(workspace_id, await self._sources.told(workspace_id, cmd.connector_id))
        kinds = POLLS if cmd.kind in POLLS else {cmd.kind}
        ids = {"workspace_id": workspace_id, "connector_id": cmd.connector_id}
        async with tenant(self._rows, workspace_id) as conn:
            # In this order: a run that opens in between is found, and would else make another id of the same moment's.
            row = await _queries.get_connector(conn, **ids)
            runs = await _queries.list_open_runs_of(conn, **ids)
        found = next((run.run_id for run in runs if connector.SyncKind(run.kind) in kinds), None)
        changed_seq = 0 if row is None else row.changed_seq
        next_id = derived_id("syn_", cmd.connector_id, min(kinds), str(changed_seq))
        # Rows that are behind all the same may still have one that is over.
        run = None if found is None else await self._sources.find_run(workspace_id, found)
        return (run.request.run_id, True) if run is not None and run.ended is None else (next_id, False)

    def _opened(self, sealed: str | None, context: CommandContext) -> Mapping[str, str]:
        """The credentials that came over the bus; none where none did."""
        if sealed is None:
            return {}
        try:
            plain = self._vault.received(sealed, workspace_id=context.workspace_id, what=CREDENTIALS)
            return _decode_credentials(plain)
        except (SealError, msgspec.DecodeError) as error:
            raise InvalidConnectorError({CREDENTIALS: "are no object of texts; send them as such"}) from error

    def _sends_elsewhere(self, state: Connector, source: connecting.Source) -> bool:
        """Whether the connector's secrets would be sent to another address than the one they were given for."""
        if not _signs_in(state.secrets):
            return False
        try:
            before = connecting.source_of(state.connector_id, state.settings)
        except InvalidConnectorError:
            return True
        return connecting.sends_elsewhere(before, source)

    async def _readdress(self, held: Held, state: Connector, source: connecting.Source) -> None:
        """Keep beside credentials that stay where they may go, by the manifest that goes with them from now on."""
        kept = held.secrets.get(GIVEN_FOR)
        if kept is not None and _signs_in(state.secrets):
            before = connecting.source_of(state.connector_id, state.settings)
            if (address := connecting.readdressed(kept, before, source)) is not None:
                await held.keep({GIVEN_FOR: address})

    async def _exchanged(
        self, held: Held, state: Connector, source: connecting.Source, given: Mapping[str, str]
    ) -> tuple[str, ...]:
        """Keep the credentials that were given; the names of all that there are then.

        Where requests go to another address from now on, those of before are not taken along: whoever may change the
        address could otherwise have them sent to their own.
        """
        names = set(held.secrets)
        changes: dict[str, str | None] = {**given, GIVEN_FOR: connecting.address_of(source)}
        if self._sends_elsewhere(state, source):
            asked = {field.key for field in connecting.asked_secrets(source.auth)}
            if asked and not given:
                problem = (
                    "have to be given again, since another manifest or address decides where they are sent"
                )
                raise InvalidConnectorError({CREDENTIALS: problem})
            gone = names - OF_WEBHOOKS
            changes = {**dict.fromkeys(gone), **changes}
            names -= gone
        connecting.check_credentials(source.auth, given, held=names)
        await held.keep(changes)
        return held.names


def _signs_in(secrets: Iterable[str]) -> bool:
    """Whether one of these is sent to the vendor, rather than what proves its webhooks."""
    return not OF_WEBHOOKS.issuperset(secrets)
