"""Append to, read, project and rebuild from the event log. The README is the interface."""

from .errors import (
    AppendRefusedError,
    ConflictError,
    EventLogError,
    LogUnavailableError,
    PoisonEventError,
    ReadModelError,
)
from .log import Append, Conflict, EventLog
from .projection import Connection, Projection, Reaction, schema_version
from .projector import ProjectedBatch, Projector, ProjectorStatus
from .reader import Batch
from .readmodel import Certificate, TableDigest, apply_schema, rebuild, verify

__all__ = [
    "Append",
    "AppendRefusedError",
    "Batch",
    "Certificate",
    "Conflict",
    "ConflictError",
    "Connection",
    "EventLog",
    "EventLogError",
    "LogUnavailableError",
    "PoisonEventError",
    "ProjectedBatch",
    "Projection",
    "Projector",
    "ProjectorStatus",
    "Reaction",
    "ReadModelError",
    "TableDigest",
    "apply_schema",
    "rebuild",
    "schema_version",
    "verify",
]
