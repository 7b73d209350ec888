"""A workspace's own plays, and why nothing is recommended for a pattern, from events to rows."""

from typing import Any, TypeAlias, assert_never

import msgspec
from contracts import Event, Recorded, recommendation
from psycopg import AsyncConnection

from services.gateway import _queries

Row: TypeAlias = dict[str, object]
Key: TypeAlias = tuple[str, str]
PlaybookEvent: TypeAlias = (
    recommendation.PlayDefined | recommendation.PlayWithdrawn | recommendation.RecommendationWithheld
)


class Playbooks:
    """What one batch says of them."""

    def __init__(self) -> None:
        self._defined: dict[Key, Row] = {}
        self._withdrawn: dict[Key, Row] = {}
        self._withheld: dict[Key, Row] = {}

    def add(self, event: Recorded[Event], data: PlaybookEvent) -> None:
        """Take one event in."""
        workspace_id = event.workspace_id
        match data:
            case recommendation.PlayDefined(play=play):
                key = (workspace_id, play.play_id)
                known = self._defined.get(key, {})
                self._defined[key] = {
                    "workspace_id": workspace_id,
                    "play_id": play.play_id,
                    "seq": event.seq,
                    "play": _json(play),
                    "defined_by": event.actor,
                    "created_at": known.get("created_at", event.recorded_at),
                    "updated_at": event.recorded_at,
                }
            case recommendation.PlayWithdrawn(play_id=play_id):
                key = (workspace_id, play_id)
                self._defined.pop(key, None)
                self._withdrawn[key] = {"workspace_id": workspace_id, "play_id": play_id}
            case recommendation.RecommendationWithheld():
                self._withheld[workspace_id, data.pattern_id] = {
                    "workspace_id": workspace_id,
                    "seq": event.seq,
                    "withheld_at": event.recorded_at,
                    **msgspec.structs.asdict(data),
                }
            case never:
                assert_never(never)

    async def write(self, conn: AsyncConnection[Any]) -> None:
        """Write it; what was withdrawn goes first, for what was defined again after that is new."""
        if self._withdrawn:
            await _queries.delete_plays(conn, rows=_json(list(self._withdrawn.values())))
        if self._defined:
            await _queries.upsert_plays(conn, rows=_json(list(self._defined.values())))
        if self._withheld:
            await _queries.upsert_abstentions(conn, rows=_json(list(self._withheld.values())))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
