"""Everything that crosses a service boundary: events, commands, their envelope and their ids."""

from contracts.codec import (
    MalformedEventError,
    Recorded,
    UnknownEventError,
    decode,
    encode,
    record,
)
from contracts.generated import (
    AGGREGATES,
    EMITTERS,
    EVENT_TYPES,
    Event,
    connector,
    ingest,
    pattern,
    prediction,
    recommendation,
    workspace,
)
from contracts.ids import derived_id, issue_id, new_id, remainder_id
from contracts.types import WEBHOOK_SECRET

__all__ = [
    "AGGREGATES",
    "EMITTERS",
    "EVENT_TYPES",
    "WEBHOOK_SECRET",
    "Event",
    "MalformedEventError",
    "Recorded",
    "UnknownEventError",
    "connector",
    "decode",
    "derived_id",
    "encode",
    "ingest",
    "issue_id",
    "new_id",
    "pattern",
    "prediction",
    "recommendation",
    "record",
    "remainder_id",
    "workspace",
]
