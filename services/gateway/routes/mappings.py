"""What records become: a mapping tried on a sample, or on what is kept; and the records that could not become an issue."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from contracts import connector
from msgspec import Meta, Struct

from services.gateway.errors import PayloadTooLargeError
from services.gateway.listing import make_cursor, read_cursor
from services.gateway.routes import connectors
from services.gateway.routes.connectors import Expressions, Type
from services.gateway.routes.issues import Identifier
from services.gateway.routes.operation import (
    Accepted,
    AnyOperation,
    Call,
    Gateway,
    NoQuery,
    Operation,
    command,
    settle,
)
from services.gateway.routes.pages import ListQuery, PageInfo

SAMPLE_BYTES_MAX: Final = 900_000
"""Below what the bus takes at once, 1 MiB, with the rest of the request beside it."""
RETRY_SECONDS: Final = 30.0
"""How long trying up to 500 records again may take."""


class PreviewRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mapping to try on records as the source sends them."""

    type: Type
    records: Annotated[
        list[Any] | dict[str, Any],
        Meta(
            description="A list of records, one page of them, one record, or the body of a webhook's delivery."
        ),
    ]
    is_delivery: Annotated[
        bool,
        Meta(
            description="`records` is the body of one delivery: what it would bring is mapped, nothing where its event is "
            "not followed. Of a form, its fields."
        ),
    ] = False
    headers: Annotated[
        dict[Annotated[str, Meta(max_length=100)], Annotated[str, Meta(max_length=1_000)]],
        Meta(max_length=20, description="Of that delivery, such as one that names the event; in any case."),
    ] = {}
    mapping: Expressions = {}
    manifest: Annotated[dict[str, Any] | None, Meta(description="In place of the type's.")] = None


class RemapRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mapping to try on a connector's kept records."""

    mapping: Annotated[Expressions | None, Meta(description="Absent: the connector's present one.")] = None
    manifest: Annotated[
        dict[str, Any] | None, Meta(description="Of a type of your own. Absent: the connector's present one.")
    ] = None


class PreviewedRecord(Struct, frozen=True, kw_only=True):
    """What a record becomes."""

    index: Annotated[int, Meta(description="Its place in the sample, from 0.")]
    issue: Annotated[dict[str, Any] | None, Meta(description="Null: it is rejected or ignored.")]
    is_ignored: Annotated[bool, Meta(description="It is known to be no failure.")]
    field: Annotated[str | None, Meta(description="What is wrong; null: all of it, or nothing.")]
    reason: Annotated[str | None, Meta(description="Why it is rejected; null: it is not.")]
    changed: Annotated[
        tuple[str, ...], Meta(description="Fields that the present mapping gives otherwise; of kept records.")
    ]


class MappingPreview(Struct, frozen=True, kw_only=True):
    """What a mapping makes of records; nothing is reported."""

    data: Annotated[tuple[PreviewedRecord, ...], Meta(description="At most 100.")]
    records: Annotated[int, Meta(description="That were tried; of kept records at most 200.")]
    mapped: int
    changed: int


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A record that could not become an issue."""

    id: str
    stream: Annotated[str, Meta(description="Which one, or webhook.")]
    field: Annotated[str | None, Meta(description="What is wrong; null: all of it.")]
    reason: str
    record: Annotated[str, Meta(description="As it came: JSON, at most 64 KiB of it.")]
    received_at: datetime
    attempts: int


class DeadLetterPage(Struct, frozen=True, kw_only=True):
    """A page of dead letters, newest first."""

    data: tuple[DeadLetter, ...]
    page: PageInfo


class RetryRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which to try again."""

    ids: Annotated[tuple[Identifier, ...], Meta(max_length=100, description="None: the 500 oldest.")] = ()


class Retried(Struct, frozen=True, kw_only=True):
    """What became of them."""

    mapped: Annotated[int, Meta(description="Issues now, or known to be no failure.")]
    rejected: Annotated[int, Meta(description="Dead letters still.")]


def _shown(previewed: connector.MappingPreviewed) -> MappingPreview:
    return MappingPreview(
        data=tuple(
            PreviewedRecord(
                index=record.index,
                issue=record.issue,
                is_ignored=record.is_ignored,
                field=record.path or None,
                reason=record.reason or None,
                changed=record.changed,
            )
            for record in previewed.records
        ),
        records=previewed.n_records,
        mapped=previewed.n_mapped,
        changed=previewed.n_changed,
    )


async def preview(gateway: Gateway, call: Call[NoQuery, PreviewRequest]) -> MappingPreview:
    """What a mapping makes of a sample."""
    sample = msgspec.json.encode(call.body.records)
    if len(sample) > SAMPLE_BYTES_MAX:
        fault = f"longer than {SAMPLE_BYTES_MAX} bytes as JSON"
        raise PayloadTooLargeError(f"records: {fault}.", details={"records": fault})
    request = connector.PreviewMapping(
        type=call.body.type,
        manifest=call.body.manifest,
        mapping=call.body.mapping,
        sample=sample.decode(),
        is_delivery=call.body.is_delivery,
        headers=call.body.headers,
    )
    return _shown(await command(gateway, call.principal, request, reply=connector.MappingPreviewed))


async def preview_remap(gateway: Gateway, call: Call[NoQuery, RemapRequest]) -> MappingPreview:
    """What a mapping makes of a connector's kept records."""
    row = await connectors.find(gateway, call)
    mapping, manifest = call.body.mapping, call.body.manifest
    if manifest is None and row.manifest is not None:
        manifest = msgspec.json.decode(row.manifest, type=dict[str, object])
    request = connector.PreviewMapping(
        type=row.type,
        manifest=manifest,
        mapping=msgspec.json.decode(row.mapping, type=dict[str, str]) if mapping is None else mapping,
        sample="",
        connector_id=row.connector_id,
    )
    return _shown(await command(gateway, call.principal, request, reply=connector.MappingPreviewed))


async def list_letters(gateway: Gateway, call: Call[ListQuery, None]) -> DeadLetterPage:
    """A page of a connector's dead letters."""
    row, query = await connectors.find(gateway, call), call.query
    context = ("dead_letters", f"{call.workspace_id}/{row.connector_id}?{call.scope}")
    before = None
    if query.cursor is not None:
        before = str(read_cursor(query.cursor, secret=gateway.secret, context=context).key)
    request = connector.ListDeadLetters(connector_id=row.connector_id, limit=query.limit, before=before)
    listed = await command(gateway, call.principal, request, reply=connector.DeadLettersListed)
    following = None
    if listed.has_more and listed.letters:
        following = make_cursor(listed.letters[-1].letter_id, 0, secret=gateway.secret, context=context)
    return DeadLetterPage(
        data=tuple(
            DeadLetter(
                id=letter.letter_id,
                stream=letter.stream,
                field=letter.path or None,
                reason=letter.reason,
                record=letter.record,
                received_at=letter.received_at,
                attempts=letter.n_attempts,
            )
            for letter in listed.letters
        ),
        page=PageInfo(next_cursor=following, has_more=following is not None, total=listed.total),
    )


async def retry_letters(gateway: Gateway, call: Call[NoQuery, RetryRequest]) -> Retried:
    """Try dead letters again with the present mapping."""
    row = await connectors.find(gateway, call)
    request = connector.RetryDeadLetters(connector_id=row.connector_id, letter_ids=call.body.ids)
    retried = connectors.deed(gateway, call, "connector.dead_letters_retried", "other", row.connector_id)
    async with retried as ending:
        tried = await command(
            gateway, call.principal, request, reply=connector.DeadLettersRetried, timeout=RETRY_SECONDS
        )
        ending.metadata["mapped"] = str(tried.n_mapped)
    if tried.sequence:
        await settle(gateway, call.workspace_id, tried.sequence, location="/v1/issues")
    return Retried(mapped=tried.n_mapped, rejected=tried.n_rejected)


_ONE = "/v1/connectors/{connector_id}"
_Try = partial(Operation, tag="Connectors", method="POST", scope="connectors:write")

OPERATIONS: tuple[AnyOperation, ...] = (
    _Try(
        id="previewMapping",
        path="/v1/connectors/preview",
        summary="See what a mapping makes of a sample, before it is saved.",
        description="Nothing is reported or kept. Without `mapping`: what the type's own makes of it.",
        body=PreviewRequest,
        replies={200: MappingPreview},
        refusals=(422,),
        handle=preview,
    ),
    _Try(
        id="previewRemap",
        path=f"{_ONE}/remap/preview",
        summary="See what a mapping makes of a connector's kept records.",
        body=RemapRequest,
        is_body_optional=True,
        replies={200: MappingPreview},
        refusals=(422,),
        handle=preview_remap,
    ),
    Operation(
        id="listDeadLetters",
        method="GET",
        path=f"{_ONE}/dead-letters",
        tag="Connectors",
        summary="List records that could not become an issue, newest first, with the reasons.",
        scope="connectors:read",
        query=ListQuery,
        replies={200: DeadLetterPage},
        handle=list_letters,
    ),
    _Try(
        id="retryDeadLetters",
        path=f"{_ONE}/dead-letters/retry",
        summary="Try dead letters again with the present mapping.",
        body=RetryRequest,
        is_body_optional=True,
        replies={200: Retried, 202: Accepted},
        refusals=(409, 422),
        handle=retry_letters,
    ),
)
