"""Communities of patterns by Louvain's method: a program that reads `Material` and writes `Clustering`, as JSON.

The leader runs it in a process of its own (`python -m services.pattern.engine.communities`), for networkx takes 30 MB and
a large graph seconds, and grouping must not wait.
"""

import os
import sys
from collections.abc import Sequence

import msgspec
import networkx  # type: ignore[import-untyped]  # its types are a package of their own, for these three calls

from services.pattern.engine.clusters import SEED, Clustering, Material, Relation, clustered, relations

_NICENESS = 10


def cluster(material: Material) -> Clustering:
    """The clusters and relations of the material; the same material gives the same bytes.

    Source: Blondel et al. 2008, "Fast unfolding of communities in large networks", as networkx has it, resolution 1 and
    a fixed seed.
    """
    kept, n_left_out = relations(material.nodes)
    return clustered(material, _communities(kept), kept, n_left_out=n_left_out)


def _communities(kept: Sequence[Relation]) -> list[list[str]]:
    """Groups of pattern ids. Nodes are numbers in order of their ids, so that no hash of a text has a say."""
    ids = sorted({end for each in kept for end in (each.pattern_id, each.other_pattern_id)})
    number = {pattern_id: i for i, pattern_id in enumerate(ids)}
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(ids)))
    graph.add_weighted_edges_from(
        (number[each.pattern_id], number[each.other_pattern_id], each.weight) for each in kept
    )
    found = networkx.community.louvain_communities(graph, weight="weight", resolution=1.0, seed=SEED)
    return [[ids[i] for i in sorted(group)] for group in found]


if __name__ == "__main__":
    os.nice(_NICENESS)
    given = msgspec.json.decode(sys.stdin.buffer.read(), type=Material)
    sys.stdout.buffer.write(msgspec.json.encode(cluster(given)))
