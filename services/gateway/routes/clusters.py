"""Clusters of patterns, related patterns, and a new clustering."""

from datetime import datetime
from functools import partial
from typing import Annotated, Literal

import msgspec
from contracts import pattern
from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway import _queries
from services.gateway.listing import Filter, Listing, SortKey
from services.gateway.routes import patterns
from services.gateway.routes.operation import Answer, AnyOperation, Call, Gateway, NoQuery, Operation, command
from services.gateway.routes.pages import (
    AsOf,
    PageInfo,
    PastListQuery,
    PastQuery,
    list_page,
    page_info,
    read_one,
    shown,
)
from services.gateway.vocabulary import PatternStatus, Search, search_terms

Sort = Literal[
    "risk_score", "-risk_score", "issue_count", "-issue_count", "last_seen_at", "-last_seen_at", "name", "-name",
]  # fmt: skip
Kind = Literal["co_occurrence", "service", "component", "error_type", "team", "environment"]
Weight = Annotated[float, Meta(ge=0)]


class ClusterRow(Struct, frozen=True):
    """One row of cluster_rows."""

    cluster_id: str
    seq: int
    name: str
    pattern_ids: list[str]
    reasons: str
    computed_at: datetime
    n_patterns: int
    issue_count: int
    risk_score: float
    last_seen_at: datetime


class Reason(Struct, frozen=True, kw_only=True):
    """Why patterns hang together."""

    kind: Kind
    value: Annotated[str | None, Meta(description="The shared value; null for co_occurrence.")]
    n: Annotated[
        int,
        Meta(
            ge=0,
            description="Of two patterns: hours in which both failed, or patterns that have the value."
            " Of a cluster: relations with this reason.",
        ),
    ]
    weight: Annotated[Weight, Meta(description="What it adds to the weight.")]
    text: Annotated[str, Meta(description="The same in a sentence.")]


class Cluster(Struct, frozen=True, kw_only=True):
    """Patterns that hang together more with each other than with the rest."""

    id: Annotated[str, Meta(description="Stays while most of its patterns stay together.")]
    name: str
    pattern_count: int
    issue_count: int
    risk_score: Annotated[float, Meta(ge=0, le=100, description="Of its riskiest pattern.")]
    last_seen_at: datetime
    reasons: Annotated[tuple[Reason, ...], Meta(description="What holds it together, the weightiest first.")]
    computed_at: datetime


class Clustering(Struct, frozen=True, kw_only=True):
    """How the clusters were computed."""

    run_id: Annotated[str, Meta(description="As the answer to a request for it had it.")]
    computed_at: datetime
    method_version: str
    pattern_count: Annotated[int, Meta(description="Patterns that were looked at.")]
    relation_count: int
    left_out_count: Annotated[int, Meta(description="Relations that were too weak or too many to keep.")]


class ClusterPage(Struct, frozen=True, kw_only=True):
    """A page of clusters."""

    data: tuple[Cluster, ...]
    page: PageInfo
    clustering: Annotated[Clustering | None, Meta(description="Null before the first one.")]
    reason: Annotated[str | None, Meta(description="Why there is no cluster at all.")]


class ClusterQuery(PastListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of the list of clusters."""

    q: Annotated[Search | None, Meta(description="Words that the name must hold.")] = None
    sort: Sort = "-risk_score"


class Node(Struct, frozen=True, kw_only=True):
    """A pattern in the graph."""

    pattern_id: str
    name: str
    status: PatternStatus
    risk_score: Annotated[float, Meta(ge=0, le=100)]
    issue_count: int
    last_seen_at: datetime


class Edge(Struct, frozen=True, kw_only=True):
    """Two patterns that hang together."""

    pattern_id: str
    other_pattern_id: str
    weight: Weight
    reasons: tuple[Reason, ...]


class ClusterGraph(Cluster, frozen=True, kw_only=True):
    """A cluster as a graph."""

    nodes: Annotated[tuple[Node, ...], Meta(description="The riskiest first.")]
    edges: Annotated[tuple[Edge, ...], Meta(description="The strongest first.")]


class Related(Node, frozen=True, kw_only=True):
    """A pattern that hangs together with the one that was asked about."""

    weight: Weight
    reasons: tuple[Reason, ...]


class InCluster(Struct, frozen=True, kw_only=True):
    """The cluster that a pattern is in."""

    id: str
    name: str


class RelatedPatterns(Struct, frozen=True, kw_only=True):
    """The patterns that are related to one."""

    pattern_id: str
    data: Annotated[tuple[Related, ...], Meta(description="The most related first.")]
    reason: Annotated[str | None, Meta(description="Why there is none.")]
    cluster: InCluster | None
    computed_at: Annotated[datetime | None, Meta(description="Null before the first clustering.")]


class RelatedQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many related patterns."""

    limit: Annotated[int, Meta(ge=1, le=50)] = 10
    as_of: AsOf = None


class ClusteringBegun(Struct, frozen=True, kw_only=True):
    """A clustering that is to come."""

    status: Literal["accepted"]
    run_id: Annotated[str, Meta(description="`clustering.run_id` of the list has it once it is done.")]
    location: Annotated[str, Meta(description="What will show it.")]


LISTING = Listing(
    name="clusters",
    view="cluster_rows",
    row=ClusterRow,
    key="cluster_id",
    only="n_patterns > 0",
    sorts={
        "risk_score": SortKey("risk_score", "double precision"),
        "issue_count": SortKey("issue_count", "bigint"),
        "last_seen_at": SortKey("last_seen_at", "timestamptz"),
        "name": SortKey("name", "text"),
    },
    default_sort="-risk_score",
    filters=(Filter("q", "name ILIKE ALL({value}::text[])", search_terms),),
)
_NOT_YET = "Patterns have not been clustered yet; ask for it with POST /v1/clusters/recompute."


def _present(row: ClusterRow) -> Cluster:
    return msgspec.convert(_fields(row), Cluster)


def _fields(row: ClusterRow) -> dict[str, object]:
    fields = msgspec.structs.asdict(row)
    fields |= {
        "id": row.cluster_id,
        "pattern_count": row.n_patterns,
        "reasons": [_told(reason, _of_cluster(reason)) for reason in _reasons(row.reasons)],
    }
    return fields


def _reasons(text: str) -> tuple[pattern.RelationReason, ...]:
    return msgspec.json.decode(text, type=tuple[pattern.RelationReason, ...])


def _told(reason: pattern.RelationReason, text: str) -> Reason:
    fields = {**msgspec.structs.asdict(reason), "value": reason.value or None, "text": text}
    return msgspec.convert(fields, Reason)


def _of_two(reason: pattern.RelationReason) -> str:
    if reason.kind == "co_occurrence":
        return f"Both failed in the same hour {reason.n} {'time' if reason.n == 1 else 'times'} in 90 days."
    kind, others = reason.kind.replace("_", " "), reason.n - 2
    also = (
        f", as {'does 1 other pattern' if others == 1 else f'do {others} other patterns'}" if others else ""
    )
    return f"Both have the {kind} {reason.value}{also}."


def _of_cluster(reason: pattern.RelationReason) -> str:
    pairs = "1 pair" if reason.n == 1 else f"{reason.n} pairs"
    if reason.kind == "co_occurrence":
        return f"{pairs} of its patterns failed in the same hours."
    return f"{pairs} of its patterns share the {reason.kind.replace('_', ' ')} {reason.value}."


async def list_clusters(gateway: Gateway, call: Call[ClusterQuery, None]) -> ClusterPage:
    """A page of clusters."""
    clustering = await _clustering(gateway, call.workspace_id)
    while True:
        found = await list_page(gateway, call, LISTING)
        now = await _clustering(gateway, call.workspace_id)
        if now == clustering:
            break
        # Another one came between the reads; they are minutes apart, so the next try is the last.
        clustering = now
    reason = None
    if clustering is None:
        reason = _NOT_YET
    elif not found.total and call.query.q is None:
        reason = (
            f"None of the {clustering.pattern_count} patterns hang together:"
            " no two share a telling value, or fail in the same hours at least twice and twice as often as by chance."
        )
    return ClusterPage(
        data=shown(found, _present), page=page_info(found), clustering=clustering, reason=reason
    )


async def get_cluster(gateway: Gateway, call: Call[PastQuery, None]) -> ClusterGraph:
    """A cluster with its patterns and their relations."""
    row = await read_one(gateway, call.workspace_id, LISTING, call.path["cluster_id"])
    async with tenant(gateway.pool, call.workspace_id) as conn:
        nodes = await _queries.list_cluster_nodes(
            conn, workspace_id=call.workspace_id, pattern_ids=row.pattern_ids
        )
        there = [node.pattern_id for node in nodes]
        among = await _queries.list_relations_among(conn, workspace_id=call.workspace_id, pattern_ids=there)
    edges = [
        Edge(
            pattern_id=each.pattern_id,
            other_pattern_id=each.other_pattern_id,
            weight=each.weight,
            reasons=_between(each.reasons),
        )
        for each in among
    ]
    fields = _fields(row) | {"nodes": [msgspec.structs.asdict(node) for node in nodes], "edges": edges}
    return msgspec.convert(fields, ClusterGraph)


async def list_related(gateway: Gateway, call: Call[RelatedQuery, None]) -> RelatedPatterns:
    """The patterns that hang together with one."""
    pattern_id = call.path["pattern_id"]
    about = await read_one(gateway, call.workspace_id, patterns.LISTING, pattern_id)
    clustering = await _clustering(gateway, call.workspace_id)
    async with tenant(gateway.pool, call.workspace_id) as conn:
        found = await _queries.list_related(
            conn, workspace_id=call.workspace_id, pattern_id=pattern_id, n=call.query.limit
        )
        inside = await _queries.find_cluster_of(conn, workspace_id=call.workspace_id, pattern_id=pattern_id)
    return RelatedPatterns(
        pattern_id=pattern_id,
        data=tuple(
            msgspec.convert(msgspec.structs.asdict(each) | {"reasons": _between(each.reasons)}, Related)
            for each in found
        ),
        reason=None if found else _why_none(about, clustering),
        cluster=None if inside is None else InCluster(id=inside.cluster_id, name=inside.name),
        computed_at=None if clustering is None else clustering.computed_at,
    )


async def recompute_clusters(gateway: Gateway, call: Call[NoQuery, None]) -> Answer:
    """Have the patterns clustered anew."""
    request = pattern.RecomputeClusters()
    begun = await command(gateway, call.principal, request, reply=pattern.ClusteringRequested)
    return Answer(202, ClusteringBegun(status="accepted", run_id=begun.run_id, location=_ALL))


def _between(reasons: str) -> tuple[Reason, ...]:
    return tuple(_told(reason, _of_two(reason)) for reason in _reasons(reasons))


def _why_none(about: patterns.PatternRow, clustering: Clustering | None) -> str:
    if clustering is None:
        return _NOT_YET
    if about.status == "merged":
        return f"It was merged into {about.merged_into}; ask for the patterns related to that one."
    if about.created_at >= clustering.computed_at:
        return "It was detected after the last clustering; the next one looks at it."
    return (
        "It shares no telling value with another pattern, and fails with none in the same hours at least twice and"
        " twice as often as by chance."
    )


async def _clustering(gateway: Gateway, workspace_id: str) -> Clustering | None:
    async with tenant(gateway.pool, workspace_id) as conn:
        row = await _queries.get_clustering(conn, workspace_id=workspace_id)
    if row is None:
        return None
    return Clustering(
        run_id=row.run_id,
        computed_at=row.computed_at,
        method_version=row.method_version,
        pattern_count=row.n_patterns,
        relation_count=row.n_relations,
        left_out_count=row.n_left_out,
    )


_ALL = "/v1/clusters"
_Read = partial(Operation, tag="Clusters", method="GET", scope="patterns:read")

OPERATIONS: tuple[AnyOperation, ...] = (
    _Read(
        id="listClusters",
        path=_ALL,
        summary="List clusters of patterns, the riskiest first.",
        description="Clusters are computed in the background, some minutes after new patterns and every six hours.",
        query=ClusterQuery,
        has_past=True,
        replies={200: ClusterPage},
        handle=list_clusters,
    ),
    _Read(
        id="getCluster",
        path=f"{_ALL}/{{cluster_id}}",
        summary="Look at a cluster as a graph: patterns, relations and reasons.",
        query=PastQuery,
        has_past=True,
        replies={200: ClusterGraph},
        handle=get_cluster,
    ),
    _Read(
        id="listRelatedPatterns",
        path="/v1/patterns/{pattern_id}/related",
        summary="List the patterns that hang together with one, and why; never nothing without a reason.",
        query=RelatedQuery,
        has_past=True,
        replies={200: RelatedPatterns},
        handle=list_related,
    ),
    Operation(
        id="recomputeClusters",
        tag="Clusters",
        method="POST",
        path=f"{_ALL}/recompute",
        summary="Cluster the patterns anew, in the background.",
        scope="patterns:write",
        replies={202: ClusteringBegun},
        handle=recompute_clusters,
    ),
)
