"""What hangs together, from events to rows: a clustering takes the place of the one before."""

from typing import Any, TypeAlias

import msgspec
from contracts import Event, Recorded, pattern
from psycopg import AsyncConnection

from services.gateway import _queries

Row: TypeAlias = dict[str, object]


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


class Clusterings:
    """The latest clustering of each workspace in one batch."""

    def __init__(self) -> None:
        self._clusterings: dict[str, Row] = {}
        self._clusters: dict[str, list[Row]] = {}
        self._relations: dict[str, list[Row]] = {}

    def add(self, event: Recorded[Event], data: pattern.ClustersComputed) -> None:
        """Take a clustering in; what this batch had of its workspace is forgotten."""
        workspace_id = event.workspace_id
        self._clusterings[workspace_id] = {
            "workspace_id": workspace_id,
            "seq": event.seq,
            "run_id": data.run_id,
            "computed_at": event.time,
            "method_version": data.method_version,
            "n_patterns": data.n_patterns,
            "n_left_out": data.n_left_out,
        }
        self._clusters[workspace_id] = [
            {
                "workspace_id": workspace_id,
                "cluster_id": cluster.cluster_id,
                "seq": place,
                "name": cluster.name,
                "pattern_ids": cluster.pattern_ids,
                "reasons": _json(cluster.reasons),
            }
            for place, cluster in enumerate(data.clusters, start=1)
        ]
        self._relations[workspace_id] = [
            {
                "workspace_id": workspace_id,
                "pattern_id": relation.pattern_id,
                "other_pattern_id": relation.other_pattern_id,
                "weight": relation.weight,
                "reasons": _json(relation.reasons),
            }
            for relation in data.relations
        ]

    async def write(self, conn: AsyncConnection[Any]) -> None:
        """Put each clustering in the place of what was there."""
        if not self._clusterings:
            return
        latest = _json(list(self._clusterings.values()))
        await _queries.delete_clusters(conn, rows=latest)
        await _queries.delete_relations(conn, rows=latest)
        await _queries.upsert_clusterings(conn, rows=latest)
        await _queries.insert_clusters(conn, rows=_all(self._clusters))
        await _queries.insert_relations(conn, rows=_all(self._relations))


def _all(rows: dict[str, list[Row]]) -> str:
    return _json([row for of_workspace in rows.values() for row in of_workspace])
