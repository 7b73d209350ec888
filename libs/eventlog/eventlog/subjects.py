"""Where an event lives: evt.<partition>.<workspace>.<aggregate type>.<aggregate id>."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from zlib import crc32

_SUBJECT = re.compile(r"evt\.\d{1,4}(\.[A-Za-z0-9_-]{1,128}){3}")


@lru_cache(maxsize=65_536)
def partition_of(workspace_id: str, partitions: int) -> int:
    """The partition of a workspace, in [0, partitions); stable over processes and releases."""
    return crc32(workspace_id.encode()) % partitions


def stream_name(partition: int) -> str:
    """The JetStream stream that holds a partition."""
    return f"EVENTS_{partition}"


def subject_of(partition: int, workspace_id: str, aggregate_type: str, aggregate_id: str) -> str:
    """The one subject of an aggregate.

    Raises ValueError when an id holds anything but letters, digits, _ and -.
    """
    subject = f"evt.{partition}.{workspace_id}.{aggregate_type}.{aggregate_id}"
    if not _SUBJECT.fullmatch(subject):
        raise ValueError(f"not usable as a subject: {subject!r}")
    return subject


def filters(partition: int, aggregates: Iterable[str], workspace_id: str | None = None) -> list[str]:
    """Subject filters for all aggregates of these types; no types means every one."""
    workspace = workspace_id or "*"
    return [f"evt.{partition}.{workspace}.{kind}.*" for kind in aggregates] or [
        f"evt.{partition}.{workspace}.>"
    ]
