"""How patterns hang together: relations with reasons, clusters with stable ids, the same bytes every time."""

import random
import subprocess
import sys

import msgspec
import pytest
from contracts.generated.pattern import ClustersComputed, PatternCluster, PatternRelation

from services.pattern.engine.clusters import (
    FACTORS,
    MAX_PATTERNS,
    MAX_RELATIONS,
    Clustering,
    Known,
    Material,
    Node,
    clustered,
    relations,
)
from services.pattern.engine.communities import cluster


def node(number: int, *hours: int, **factors: str) -> Node:
    return Node(f"pat_{number:03d}", f"Failure {number}", factors, hours)


def material(*nodes: Node, known: tuple[Known, ...] = ()) -> Material:
    return Material("ws_1", nodes, known)


def test_an_occasion_of_k_patterns_is_worth_one_over_k_minus_one() -> None:
    """The worked example of docs/reference/clusters.md: three hours together, two of them with a third, and a service."""
    nodes = (node(1, 10, 20, 22, service="pay"), node(2, 10, 20, 22, service="pay"), node(3, 20, 22))
    kept, n_left_out = relations(nodes)
    by_pair = {(each.pattern_id[-1], each.other_pattern_id[-1]): each for each in kept}
    assert {pair: each.weight for pair, each in by_pair.items()} == {
        ("1", "2"): 3.0,
        ("1", "3"): 1.0,
        ("2", "3"): 1.0,
    }
    assert [(r.kind, r.value, r.n, r.weight) for r in by_pair["1", "2"].reasons] == [
        ("co_occurrence", "", 3, 2.0),
        ("service", "pay", 2, 1.0),
    ]
    assert n_left_out == 0


def test_patterns_that_always_fail_meet_by_chance() -> None:
    """Meeting in every hour of 90 days relates nobody; meeting in all of ten hours does."""
    always = tuple(range(90 * 24))
    assert relations((node(1, *always), node(2, *always)))[0] == ()
    assert len(relations((node(1, *range(10)), node(2, *range(10))))[0]) == 1


def test_one_hour_together_is_no_evidence() -> None:
    """Among thousands of patterns many share one hour by chance."""
    assert relations((node(1, 7), node(2, 7))) == ((), 0)
    assert [each.weight for each in relations((node(1, 7, 9), node(2, 7, 9)))[0]] == [2.0]


@pytest.mark.parametrize("character", ["🔥", '"'])
def test_a_clustering_stays_far_below_what_the_log_takes(character: str) -> None:
    """The most patterns with the longest values that intake lets through: what is too large is left out, and counted."""
    nodes = [
        Node(
            f"pat_{n:026d}",
            character * 200,
            {kind: f"{kind}{n // 12}".ljust(300, character) for kind in FACTORS},
            (n // 12, n // 12 + 500),
        )
        for n in range(MAX_PATTERNS)
    ]
    kept, n_left_out = relations(nodes)
    pairs = [(nodes[n].pattern_id, nodes[n + 1].pattern_id) for n in range(0, MAX_PATTERNS, 2)]
    found = clustered(material(*nodes), pairs, kept, n_left_out=n_left_out)
    event = ClustersComputed(
        workspace_id="ws_1",
        run_id="run_1",
        clusters=msgspec.convert(found.clusters, tuple[PatternCluster, ...], from_attributes=True),
        relations=msgspec.convert(found.relations, tuple[PatternRelation, ...], from_attributes=True),
        n_patterns=found.n_patterns,
        n_left_out=n_left_out,
        method_version="test",
    )
    assert len(msgspec.json.encode(event)) < 4_000_000
    assert len(kept) > 800 and len(found.clusters) == 1000
    assert len(kept) + n_left_out == 166 * 66 + 28
    assert kept[0].reasons[1].value.startswith("component0") and kept[0].reasons[1].value.endswith("…")


def test_what_too_many_share_relates_nobody() -> None:
    """The price of an occasion is the square of its patterns, and a crowd says nothing of two of them."""
    assert relations([node(n, 7, 8, environment="production") for n in range(41)])[0] == ()
    kept, n_left_out = relations([node(n, 7, 8) for n in range(40)])
    assert len(kept) + n_left_out == 40 * 39 // 2
    met = [end for each in kept for end in (each.pattern_id, each.other_pattern_id)]
    assert all(met.count(node(n).pattern_id) >= 10 for n in range(40))


def test_clusters_are_what_hangs_together_and_say_why() -> None:
    """Two services with one bridge: two clusters, named after what is shared; a loner is in none."""
    nodes = [node(n, n, 100, 101, service="pay") for n in range(3)] + [
        node(n, 200, service="mail") for n in (3, 4)
    ]
    found = cluster(material(*nodes, node(5, 999)))
    assert [(each.name, each.pattern_ids) for each in found.clusters] == [
        ("Service pay", ("pat_000", "pat_001", "pat_002")),
        ("Service mail", ("pat_003", "pat_004")),
    ]
    assert {reason.kind for reason in found.clusters[0].reasons} == {"service", "co_occurrence"}
    nameless = cluster(material(node(1, 5, 15), node(2, 5, 6, 15, 16), node(3, 6, 16)))
    assert [each.name for each in nameless.clusters] == ["Around: Failure 2"]


def test_a_cluster_keeps_its_id_while_most_of_it_stays() -> None:
    """One that loses a member, one that grows, and one that splits: the larger part keeps the id."""
    pay, mail = [node(n, 100, 101) for n in range(4)], [node(n, 200, 201) for n in range(4, 8)]
    before = {each.pattern_ids[0]: each for each in cluster(material(*pay, *mail)).clusters}
    known = tuple(Known(each.cluster_id, each.pattern_ids) for each in before.values())
    moved = [*pay[:3], node(3, 200, 201), *mail, node(8, 100, 101)]
    after = {each.pattern_ids[0]: each for each in cluster(material(*moved, known=known)).clusters}
    assert after["pat_000"].cluster_id == before["pat_000"].cluster_id
    assert after["pat_003"].cluster_id == before["pat_004"].cluster_id
    halves = [*pay[:3], node(3, 300, 301), node(9, 300, 301), *mail]
    split = {
        each.pattern_ids[0]: each.cluster_id for each in cluster(material(*halves, known=known)).clusters
    }
    assert split["pat_000"] == before["pat_000"].cluster_id
    assert split["pat_003"] not in {each.cluster_id for each in known}
    assert len(set(split.values())) == 3


@pytest.mark.parametrize("seed", range(5))
def test_the_same_material_gives_the_same_bytes_in_any_order(seed: int) -> None:
    """Neither the order of the patterns nor anything else of the process matters."""
    rng = random.Random(seed)
    nodes = [
        node(
            n,
            *sorted(rng.sample(range(300), 6)),
            service=f"svc{rng.randrange(8)}",
            team=f"t{rng.randrange(4)}",
        )
        for n in range(60)
    ]
    once = msgspec.json.encode(cluster(material(*nodes)))
    rng.shuffle(nodes)
    assert once == msgspec.json.encode(cluster(material(*nodes)))


def test_a_process_of_its_own_says_the_same() -> None:
    """It reads and writes JSON, under another seed of hashes; the relations stay within their bounds."""
    rng = random.Random(1)
    nodes = tuple(
        node(n, *sorted(rng.sample(range(2000), 20)), service=f"svc{rng.randrange(40)}") for n in range(400)
    )
    given = msgspec.json.encode(material(*nodes))
    command = [sys.executable, "-m", "services.pattern.engine.communities"]
    outputs = [
        subprocess.run(
            command, input=given, capture_output=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    found = msgspec.json.decode(outputs[0], type=Clustering)
    assert 400 < len(found.relations) <= MAX_RELATIONS and found.n_left_out > 0
    assert all(len(each.pattern_ids) > 1 for each in found.clusters)
