"""What there is of sources and of what they sent: the catalogue, mappings tried out, records that were rejected."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Final, TypeVar

import msgspec
from contracts import connector
from msgspec import Struct
from msgspec.structs import replace
from runtime.broker import CommandContext, Endpoint

from services.ingest.connectors.catalogue import described
from services.ingest.connectors.connecting import source_of
from services.ingest.connectors.expressions import ExpressionError
from services.ingest.connectors.manifest import Manifest
from services.ingest.connectors.payloads import read_delivery, records_in
from services.ingest.connectors.previewing import preview, preview_change
from services.ingest.connectors.registry import UnknownTypeError
from services.ingest.errors import ConnectorNotFoundError, InvalidConnectorError
from services.ingest.jobs.intake import Intake
from services.ingest.records import Kept, Records
from services.ingest.reporting.sources import Sources
from services.ingest.state import Connector

SAMPLE_BYTES_MAX: Final = 1024 * 1024
SHOWN_MAX: Final = 100
KEPT_MAX: Final = 200
"""Kept records that a mapping is tried on; each costs about a millisecond, and the answer is waited for."""
LETTERS_MAX: Final = 100
RETRIED_MAX: Final = 500
SAMPLE_RECORDS_MAX: Final = 500
ANSWER_BYTES_MAX: Final = 512 * 1024
"""Of what an answer lists; the broker carries a message of a megabyte."""
_AT_ONCE: Final = 5
"""Records that are mapped before others may go on."""


S = TypeVar("S", bound=Struct)


class Keeping:
    """Answers about what is kept. clock: the time in UTC."""

    def __init__(
        self, sources: Sources, records: Records, intake: Intake, *, clock: Callable[[], datetime]
    ) -> None:
        self._sources = sources
        self._records = records
        self._intake = intake
        self._clock = clock

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Those about what is kept."""
        names = connector.ENDPOINTS
        return (
            Endpoint(names[connector.DescribeSources], connector.DescribeSources, self.describe_sources),
            Endpoint(names[connector.PreviewMapping], connector.PreviewMapping, self.preview_mapping),
            Endpoint(names[connector.ListDeadLetters], connector.ListDeadLetters, self.list_dead_letters),
            Endpoint(names[connector.ListReceived], connector.ListReceived, self.list_received),
            Endpoint(names[connector.PurgeRecords], connector.PurgeRecords, self.purge_records),
            Endpoint(names[connector.RetryDeadLetters], connector.RetryDeadLetters, self.retry_dead_letters),
        )

    async def describe_sources(
        self, cmd: connector.DescribeSources, _: CommandContext
    ) -> connector.SourcesDescribed:
        """Which types of sources there are. Raises InvalidConnectorError for one that there is not."""
        try:
            return described(cmd.type)
        except UnknownTypeError as error:
            raise InvalidConnectorError({"type": f"there is no type {str(error)[:60]!r}"}) from error

    async def preview_mapping(
        self, cmd: connector.PreviewMapping, context: CommandContext
    ) -> connector.MappingPreviewed:
        """What a mapping makes of a sample, or would change in what is kept of a connector; nothing is stored.

        A sample is a list of records, a page, a webhook's body or one record; a delivery is read as the inbound webhook
        reads it, with its headers. Of kept records the first KEPT_MAX in the
        order of their ids are taken, and those that change are shown first.
        Raises InvalidConnectorError and ConnectorNotFoundError.
        """
        if cmd.sample or cmd.connector_id is None:
            return await self._preview_sample(cmd)
        return await self._preview_kept(cmd, cmd.connector_id, context)

    async def list_dead_letters(
        self, cmd: connector.ListDeadLetters, context: CommandContext
    ) -> connector.DeadLettersListed:
        """Records that could not become an issue, the newest first.

        Raises InvalidConnectorError and ConnectorNotFoundError.
        """
        if not 1 <= cmd.limit <= LETTERS_MAX:
            raise InvalidConnectorError({"limit": f"is {cmd.limit}; ask for 1 to {LETTERS_MAX}"})
        await self._connector(cmd.connector_id, context)
        found, total = await self._records.letters(
            context.workspace_id, cmd.connector_id, limit=cmd.limit + 1, before=cmd.before or ""
        )
        letters = _fitting(
            connector.DeadLetter(
                letter_id=letter.letter_id,
                stream=letter.stream,
                path=letter.path,
                reason=letter.reason,
                record=letter.record,
                received_at=letter.received_at,
                n_attempts=letter.n_attempts,
            )
            for letter in found[: cmd.limit]
        )
        return connector.DeadLettersListed(letters=letters, has_more=len(found) > len(letters), total=total)

    async def list_received(
        self, cmd: connector.ListReceived, context: CommandContext
    ) -> connector.ReceivedListed:
        """When webhooks of connectors were last taken. Raises InvalidConnectorError for too many of them."""
        if len(cmd.connector_ids) > SHOWN_MAX:
            raise InvalidConnectorError(
                {"connector_ids": f"are {len(cmd.connector_ids)}; ask for at most {SHOWN_MAX}"}
            )
        found = await self._records.last_received(context.workspace_id, cmd.connector_ids)
        return connector.ReceivedListed(
            received=tuple(
                connector.Received(connector_id=connector_id, last_received_at=at)
                for connector_id, at in found.items()
            )
        )

    async def retry_dead_letters(
        self, cmd: connector.RetryDeadLetters, context: CommandContext
    ) -> connector.DeadLettersRetried:
        """Try dead letters again with the present mapping; what is no issue again stays one.

        Raises InvalidConnectorError, ConnectorNotFoundError, and LogUnreachableError, when trying again is safe.
        """
        if len(cmd.letter_ids) > LETTERS_MAX:
            raise InvalidConnectorError(
                {"letter_ids": f"has {len(cmd.letter_ids)}; send at most {LETTERS_MAX}"}
            )
        found = await self._connector(cmd.connector_id, context)
        source = source_of(cmd.connector_id, found.settings)
        letters = await self._records.to_retry(
            context.workspace_id, cmd.connector_id, cmd.letter_ids, limit=RETRIED_MAX
        )
        sequence = 0
        in_order = sorted(letters, key=lambda each: (each.stream, each.came_at))
        for stream, group in groupby(in_order, lambda each: each.stream):
            tried = list(group)
            taken = await self._intake.take_in(
                source,
                stream,
                [each.record for each in tried],
                context,
                came_at=[each.came_at for each in tried],
            )
            sequence = max(sequence, taken.sequence)
        n_mapped = await self._records.accept(context.workspace_id, cmd.connector_id, letters)
        return connector.DeadLettersRetried(
            n_mapped=n_mapped, n_rejected=len(letters) - n_mapped, sequence=sequence
        )

    async def purge_records(
        self, cmd: connector.PurgeRecords, context: CommandContext
    ) -> connector.RecordsPurged:
        """Delete records and dead letters that have reached their age."""
        n_records = await self._records.purge(context.workspace_id, received_before=cmd.received_before)
        return connector.RecordsPurged(n_records=n_records)

    async def _preview_sample(self, cmd: connector.PreviewMapping) -> connector.MappingPreviewed:
        settings = connector.ConnectorSettings(
            type=cmd.type, display_name="", auth=0, mapping=cmd.mapping, manifest=cmd.manifest
        )
        manifest = source_of("", settings).manifest
        payload = _decoded(cmd.sample)
        records = (
            _delivered(manifest, payload, cmd) if cmd.is_delivery else records_in(manifest, payload).records
        )
        if len(records) > SAMPLE_RECORDS_MAX:
            raise InvalidConnectorError(
                {"sample": f"has {len(records)} records; send at most {SAMPLE_RECORDS_MAX}"}
            )
        now = self._clock()
        mapped = []
        for index, record in enumerate(records):
            mapped.append(preview(manifest, record, index=index, now=now))
            if index % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return _previewed(mapped)

    async def _preview_kept(
        self, cmd: connector.PreviewMapping, connector_id: str, context: CommandContext
    ) -> connector.MappingPreviewed:
        found = await self._connector(connector_id, context)
        manifest = found.settings.manifest if cmd.manifest is None else cmd.manifest
        present = source_of(connector_id, found.settings)
        proposed = source_of(connector_id, replace(found.settings, mapping=cmd.mapping, manifest=manifest))
        now = self._clock()
        mapped: list[connector.MappedRecord] = []
        for kept in await self._some(context.workspace_id, connector_id):
            mapped.append(preview_change(present, proposed, kept.record, index=len(mapped), now=now))
            if len(mapped) % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return _previewed(sorted(mapped, key=lambda each: not each.changed))

    async def _some(self, workspace_id: str, connector_id: str) -> Sequence[Kept]:
        async for page in self._records.pages(workspace_id, connector_id, size=KEPT_MAX):
            return page
        return []

    async def _connector(self, connector_id: str, context: CommandContext) -> Connector:
        found = await self._sources.find(context.workspace_id, connector_id)
        if found is None or found.is_deleted:
            raise ConnectorNotFoundError(connector_id)
        return found


def _delivered(manifest: Manifest, payload: object, cmd: connector.PreviewMapping) -> tuple[object, ...]:
    """The records that a webhook's delivery would bring. Raises InvalidConnectorError for a type without webhook."""
    if manifest.webhook is None:
        raise InvalidConnectorError({"is_delivery": f"{manifest.name} sends no webhooks; leave it out"})
    try:
        return read_delivery(manifest.webhook, payload, cmd.headers).records
    except ExpressionError:
        # What cannot be read is a record itself, as of a real delivery.
        return (cmd.sample,)


def _previewed(mapped: Sequence[connector.MappedRecord]) -> connector.MappingPreviewed:
    return connector.MappingPreviewed(
        records=_fitting(mapped[:SHOWN_MAX]),
        n_records=len(mapped),
        n_mapped=sum(each.issue is not None for each in mapped),
        n_changed=sum(bool(each.changed) for each in mapped),
    )


def _fitting(items: Iterable[S]) -> tuple[S, ...]:
    """As many of the first as an answer holds."""
    fitting: list[S] = []
    n_bytes = 0
    for item in items:
        n_bytes += len(msgspec.json.encode(item))
        if fitting and n_bytes > ANSWER_BYTES_MAX:
            break
        fitting.append(item)
    return tuple(fitting)


def _decoded(sample: str) -> object:
    """The JSON of a sample. Raises InvalidConnectorError."""
    if len(sample.encode()) > SAMPLE_BYTES_MAX:
        raise InvalidConnectorError({"sample": f"is longer than {SAMPLE_BYTES_MAX} bytes"})
    try:
        return msgspec.json.decode(sample)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidConnectorError({"sample": f"is no JSON: {error}"}) from error
