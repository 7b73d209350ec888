"""How patterns hang together: a graph of relations with reasons, and what a later clustering calls the same cluster.

docs/reference/clusters.md explains every number here. Communities are found in `communities.py`, which runs in a process
of its own: its library is large, and the leader must go on grouping.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Final

import msgspec
from contracts import derived_id
from msgspec import Struct

VERSION: Final = "louvain@2026-11-22.2"
SEED: Final = 20261122
FACTORS: Final[Mapping[str, float]] = {
    "service": 1.0,
    "component": 1.0,
    "error_type": 0.5,
    "team": 0.5,
    "environment": 0.25,
}
"""What a shared value is worth between the only two patterns that have it."""
PERIOD_DAYS: Final = 90
MAX_PATTERNS: Final = 2000
MAX_RELATIONS: Final = 5000
# One event holds a clustering: with 1,000 clusters of the longest names and values it stays below half of what the log
# takes. 5,000 relations with two short reasons each have 1.4 MB.
MAX_RELATION_BYTES: Final = 1_500_000
_MAX_VALUE_BYTES: Final = 120
# What more patterns share says nothing of any two of them, and costs the square of their number.
_MAX_SHARING: Final = 40
_MAX_PER_PATTERN: Final = 10
_LEAST_WEIGHT: Final = 0.02
# Of two million pairs many meet once by chance.
_LEAST_MEETINGS: Final = 2
_MAX_REASONS: Final = 5
_MAX_NAME: Final = 200
_DIGITS: Final = 4


class Node(Struct, frozen=True):
    """A pattern. factors: its fingerprint's value of each kind. hours: hours since 1970 in which it failed."""

    pattern_id: str
    name: str
    factors: dict[str, str]
    hours: tuple[int, ...]


class Reason(Struct, frozen=True):
    """Why two patterns hang together, or a whole cluster.

    kind: co_occurrence or a factor. value: the shared value, at most 120 bytes of it. n: hours in which both failed; of a factor, patterns that
    have the value.
    """

    kind: str
    value: str
    n: int
    weight: float


class Relation(Struct, frozen=True):
    """Two patterns that hang together; pattern_id < other_pattern_id. reasons: the weightiest first."""

    pattern_id: str
    other_pattern_id: str
    weight: float
    reasons: tuple[Reason, ...]


class Cluster(Struct, frozen=True):
    """Patterns that hang together more with each other than with the rest, at least two, ascending."""

    cluster_id: str
    name: str
    pattern_ids: tuple[str, ...]
    reasons: tuple[Reason, ...]


class Known(Struct, frozen=True):
    """A cluster of the last clustering."""

    cluster_id: str
    pattern_ids: tuple[str, ...]


class Material(Struct, frozen=True):
    """All that a clustering is computed from."""

    workspace_id: str
    nodes: tuple[Node, ...]
    known: tuple[Known, ...] = ()


class Clustering(Struct, frozen=True):
    """What was found among n_patterns patterns; n_left_out relations were too weak or too many to keep."""

    clusters: tuple[Cluster, ...]
    relations: tuple[Relation, ...]
    n_patterns: int
    n_left_out: int


def relations(nodes: Sequence[Node]) -> tuple[tuple[Relation, ...], int]:
    """The relations to keep, by pattern ids, and how many were left out.

    Every occasion on which k patterns meet is worth 1/(k-1) to each pair of them: an hour in which they failed, or a
    value that they share. Hours count only where two patterns meet at least twice, and more than twice as often as by
    chance.
    """
    found: dict[tuple[str, str], list[Reason]] = {}
    for reason, pair in (*_by_hours(nodes), *_by_factors(nodes)):
        found.setdefault(pair, []).append(reason)
    every = [
        Relation(
            a,
            b,
            round(sum(reason.weight for reason in reasons), _DIGITS),
            tuple(sorted(reasons, key=_reason_order)),
        )
        for (a, b), reasons in found.items()
    ]
    kept = _strongest(every)
    return tuple(sorted(kept, key=lambda r: (r.pattern_id, r.other_pattern_id))), len(every) - len(kept)


def clustered(
    material: Material, communities: Iterable[Sequence[str]], kept: Sequence[Relation], *, n_left_out: int
) -> Clustering:
    """Communities as clusters, each with the id of the known one that it shares most patterns with."""
    groups = sorted(tuple(sorted(each)) for each in communities if len(each) > 1)
    ids = _ids(material, groups)
    nodes = {node.pattern_id: node for node in material.nodes}
    clusters = []
    for cluster_id, group in zip(ids, groups, strict=True):
        inner = _within(group, kept)
        reasons = _common_reasons(inner)
        clusters.append(Cluster(cluster_id, _name(group, inner, nodes), group, reasons))
    return Clustering(tuple(clusters), tuple(kept), len(material.nodes), n_left_out)


def _by_hours(nodes: Sequence[Node]) -> list[tuple[Reason, tuple[str, str]]]:
    present: dict[int, list[str]] = {}
    for node in sorted(nodes, key=lambda node: node.pattern_id):
        for hour in node.hours:
            present.setdefault(hour, []).append(node.pattern_id)
    n_hours = {node.pattern_id: len(node.hours) for node in nodes}
    weights: dict[tuple[str, str], float] = {}
    together: Counter[tuple[str, str]] = Counter()
    for hour in sorted(present):
        met = present[hour]
        if 2 <= len(met) <= _MAX_SHARING:
            for pair in combinations(met, 2):
                weights[pair] = weights.get(pair, 0.0) + 1 / (len(met) - 1)
                together[pair] += 1
    return [
        (Reason("co_occurrence", "", together[pair], round(weight, _DIGITS)), pair)
        for pair, weight in weights.items()
        if together[pair] >= _LEAST_MEETINGS
        and together[pair] > 2 * n_hours[pair[0]] * n_hours[pair[1]] / (PERIOD_DAYS * 24)
    ]


def _by_factors(nodes: Sequence[Node]) -> list[tuple[Reason, tuple[str, str]]]:
    holders: dict[tuple[str, str], list[str]] = {}
    for node in sorted(nodes, key=lambda node: node.pattern_id):
        for kind, value in node.factors.items():
            holders.setdefault((kind, value), []).append(node.pattern_id)
    found = []
    for (kind, value), held in sorted(holders.items()):
        if 2 <= len(held) <= _MAX_SHARING:
            reason = Reason(kind, _cut(value), len(held), round(FACTORS[kind] / (len(held) - 1), _DIGITS))
            found += [(reason, pair) for pair in combinations(held, 2)]
    return found


def _cut(value: str) -> str:
    encoded = value.encode()
    if len(encoded) <= _MAX_VALUE_BYTES:
        return value
    return encoded[: _MAX_VALUE_BYTES - len("…".encode())].decode(errors="ignore") + "…"


def _strongest(every: Sequence[Relation]) -> list[Relation]:
    """Of each pattern at least the ten strongest, of all at most 5,000 and 1.5 MB; of equal ones those with the lower ids."""
    taken: Counter[str] = Counter()
    n_bytes = 0
    kept: list[Relation] = []
    for relation in sorted(every, key=lambda r: (-r.weight, r.pattern_id, r.other_pattern_id)):
        ends = (relation.pattern_id, relation.other_pattern_id)
        if relation.weight < _LEAST_WEIGHT or len(kept) == MAX_RELATIONS:
            break
        if min(taken[end] for end in ends) < _MAX_PER_PATTERN:
            n_bytes += len(msgspec.json.encode(relation))
            if n_bytes > MAX_RELATION_BYTES:
                break
            taken.update(ends)
            kept.append(relation)
    return kept


def _ids(material: Material, groups: Sequence[tuple[str, ...]]) -> list[str]:
    """An id for each group: greedily by the number of shared patterns, else a new one."""
    holder = {pattern_id: known.cluster_id for known in material.known for pattern_id in known.pattern_ids}
    shared = Counter(
        (i, holder[pattern_id])
        for i, group in enumerate(groups)
        for pattern_id in group
        if pattern_id in holder
    )
    ids: dict[int, str] = {}
    used: set[str] = set()
    for (i, cluster_id), _ in sorted(shared.items(), key=lambda item: (-item[1], item[0])):
        if i not in ids and cluster_id not in used:
            ids[i] = cluster_id
            used.add(cluster_id)
    taken = used | {known.cluster_id for known in material.known}
    for i, group in enumerate(groups):
        n = 0
        while i not in ids:
            fresh = derived_id("clu_", material.workspace_id, str(n), *group)
            if fresh not in taken:
                ids[i] = fresh
                taken.add(fresh)
            n += 1
    return [ids[i] for i in range(len(groups))]


def _within(group: Sequence[str], kept: Sequence[Relation]) -> list[Relation]:
    inside = set(group)
    return [each for each in kept if each.pattern_id in inside and each.other_pattern_id in inside]


def _common_reasons(inner: Sequence[Relation]) -> tuple[Reason, ...]:
    """What holds a cluster together: its relations' reasons added up, the weightiest first; n: relations that have it."""
    weights: dict[tuple[str, str], float] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for relation in inner:
        for reason in relation.reasons:
            key = (reason.kind, reason.value)
            weights[key] = weights.get(key, 0.0) + reason.weight
            counts[key] += 1
    every = [
        Reason(kind, value, counts[kind, value], round(weight, _DIGITS))
        for (kind, value), weight in weights.items()
    ]
    return tuple(sorted(every, key=_reason_order)[:_MAX_REASONS])


def _name(group: Sequence[str], inner: Sequence[Relation], nodes: Mapping[str, Node]) -> str:
    """The value that at least half of the patterns share, the most telling kind first; else the most connected pattern."""
    for kind in FACTORS:
        held = Counter(nodes[each].factors[kind] for each in group if kind in nodes[each].factors)
        if held:
            value, n = min(held.items(), key=lambda item: (-item[1], item[0]))
            if n >= 2 and 2 * n >= len(group):
                return f"{kind.replace('_', ' ').capitalize()} {value}"[:_MAX_NAME]
    strength = dict.fromkeys(group, 0.0)
    for relation in inner:
        strength[relation.pattern_id] += relation.weight
        strength[relation.other_pattern_id] += relation.weight
    centre = min(group, key=lambda each: (-round(strength[each], _DIGITS), each))
    return f"Around: {nodes[centre].name}"[:_MAX_NAME]


def _reason_order(reason: Reason) -> tuple[float, str, str]:
    return -reason.weight, reason.kind, reason.value
