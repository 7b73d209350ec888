"""The versions by which a workspace's issues are grouped, from events to rows."""

from typing import Any, TypeAlias, assert_never

import msgspec
from contracts import Event, Recorded, pattern
from psycopg import AsyncConnection

from services.gateway import _queries

Row: TypeAlias = dict[str, object]
VersionEvent: TypeAlias = (
    pattern.GroupingVersionFitted | pattern.GroupingVersionCompared | pattern.GroupingVersionActivated
)
SHIPPED_ID = "shipped"
"""What the linker that comes with the build is called as a version, in every workspace."""


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


class GroupingVersions:
    """The rows of one batch; each row appears once, with the last word on it."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], Row] = {}
        self._active: dict[str, Row] = {}
        self._comparisons: dict[tuple[str, str], Row] = {}

    def add(self, event: Recorded[Event], data: VersionEvent) -> None:
        """Take an event in."""
        space = event.workspace_id
        match data:
            case pattern.GroupingVersionFitted():
                self._versions[space, data.version_id] = _fitted(event, data)
                self._versions[space, SHIPPED_ID] = _shipped(space, data.shipped)
            case pattern.GroupingVersionCompared():
                fields = msgspec.structs.asdict(data) | {"moves": _json(data.moves)}
                row = {**fields, "workspace_id": space, "compared_at": event.time}
                self._comparisons[space, data.version_id] = row
            case pattern.GroupingVersionActivated():
                self._active[space] = {
                    "workspace_id": space,
                    "version_id": data.version_id,
                    "activated_at": event.recorded_at,
                    "activated_by": event.actor,
                }
            case never:
                assert_never(never)

    async def write(self, conn: AsyncConnection[Any]) -> None:
        """Write all rows."""
        for statement, rows in (
            (_queries.upsert_grouping_versions, self._versions),
            (_queries.upsert_groupings, self._active),
            (_queries.upsert_grouping_comparisons, self._comparisons),
        ):
            if rows:
                await statement(conn, rows=_json(list(rows.values())))


def _fitted(event: Recorded[Event], data: pattern.GroupingVersionFitted) -> Row:
    return {
        "workspace_id": event.workspace_id,
        "version_id": data.version_id,
        "seq": event.seq,
        "version": data.linker.version,
        "fitted_at": event.time,
        "n_decisions": data.n_decisions,
        "n_joining": data.n_joining,
        "shipped_loss": data.shipped_loss,
        "loss": data.loss,
        "is_better": data.is_better,
        "linker": _json(data.linker),
        "shipped": _json(data.shipped),
    }


def _shipped(workspace_id: str, linker: pattern.Linker) -> Row:
    """The shipped one is a version among others, to be compared with and gone back to."""
    numbers = _json(linker)
    return {
        "workspace_id": workspace_id,
        "version_id": SHIPPED_ID,
        "seq": 0,
        "version": linker.version,
        "is_better": True,
        "linker": numbers,
        "shipped": numbers,
    }
