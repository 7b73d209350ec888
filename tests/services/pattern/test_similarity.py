"""The index finds what a full comparison would, at a cost that has a bound."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.pattern.engine.similarity import NgramIndex, grams_of

WORDS = [
    f"{a}{b}{c}"
    for a in ("disk", "login", "cache", "queue", "token")
    for b in ("fail", "lost", "slow")
    for c in ("x", "yz")
]


def index_of(texts: list[str]) -> NgramIndex:
    index = NgramIndex()
    for text in texts:
        index.add(grams_of(text))
    return index


def some_texts(n: int, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choice(WORDS) for _ in range(6)) + f" number {rng.random()}" for _ in range(n)]


def test_the_same_text_is_its_own_nearest_neighbour() -> None:
    """Cosine one, whatever else is there."""
    texts = some_texts(300)
    index = index_of(texts)
    for position in (0, 150, 299):
        best = index.nearest(grams_of(texts[position]), n_wanted=5)[0]
        assert (position, 1.0) == (best.position, round(best.cosine, 5))


def test_a_close_text_is_found_among_many() -> None:
    """One changed word does not hide a neighbour."""
    texts = some_texts(500)
    index = index_of(texts)
    best = index.nearest(grams_of(texts[42].replace("number", "numbers")), n_wanted=5)[0]
    assert best.position == 42
    assert best.cosine > 0.8


def test_nothing_in_common_finds_nothing() -> None:
    """No shared gram, no neighbour; an empty index has none either."""
    assert NgramIndex().nearest(grams_of("anything"), n_wanted=3) == []
    assert index_of(["aaaa bbbb"]).nearest(grams_of("zzzzzz"), n_wanted=3) == []


def test_the_work_of_a_query_does_not_grow_with_the_index() -> None:
    """However many texts share a gram, only the newest eight of it are read."""
    same = [f"the very same beginning of every text {n}" for n in range(2_000)]
    index = index_of(same)
    assert 0 < len(index.nearest(grams_of(same[-1]), n_wanted=10_000)) <= 64 * 8


def test_leaving_out_the_unlike_loses_no_likely_neighbour() -> None:
    """With a least cosine, every neighbour that reaches it is still found, as alike as before, and others go."""
    texts = some_texts(400)
    index = index_of(texts)
    n_left_out = 0
    for query in some_texts(40, seed=2) + [text.replace("number", "count") for text in texts[:20]]:
        everything = index.nearest(grams_of(query), n_wanted=8)
        likely = index.nearest(grams_of(query), n_wanted=8, least_cosine=0.7)
        assert [each for each in everything if each.cosine >= 0.7] == [
            each for each in likely if each.cosine >= 0.7
        ]
        n_left_out += len(everything) - len(likely)
    assert n_left_out > 0


def test_the_grams_of_a_text_are_counted() -> None:
    """Overlapping grams of three sizes, each once with how often it occurs."""
    counts = {n: sorted(grams_of("a" * n).counts.tolist()) for n in (1, 2, 3, 6)}
    # " a ", " aa", "aa " and so on once each; "aaa", "aaaa", "aaaaa" as often as they fit.
    assert counts == {
        1: [1],
        2: [1, 1, 1],
        3: [1, 1, 1, 1, 1, 1],
        6: [1, 1, 1, 1, 1, 1, 2, 3, 4],
    }
    assert sum(grams_of("xyz" * 1_000).counts.tolist()) == 320 + 319 + 318


@given(st.lists(st.text(max_size=30), min_size=1, max_size=12), st.text(max_size=30))
def test_the_same_texts_make_the_same_index(texts: list[str], query: str) -> None:
    """Two indexes of one history answer alike, and every cosine is in [0, 1]."""
    first, second = index_of(texts), index_of(texts)
    found = first.nearest(grams_of(query), n_wanted=4)
    assert found == second.nearest(grams_of(query), n_wanted=4)
    assert all(0 <= each.cosine <= 1 for each in found)
    assert [each.cosine for each in found] == sorted((each.cosine for each in found), reverse=True)


def test_grams_of_short_text_are_few_but_there() -> None:
    """A space before and behind lets even one letter be compared."""
    assert len(grams_of("a").buckets) >= 1
    assert np.array_equal(grams_of("abc").buckets, grams_of("abc").buckets)
