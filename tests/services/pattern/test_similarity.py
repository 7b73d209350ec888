"""The index finds what a full comparison would, at a cost that has a bound."""

import random
from copy import deepcopy

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.pattern.engine.similarity import GRAM_BITS, Query, TermIndex, fours_of, grams_of

WORDS = [
    f"{a}{b}{c}"
    for a in ("disk", "login", "cache", "queue", "token")
    for b in ("fail", "lost", "slow")
    for c in ("x", "yz")
]


def index_of(texts: list[str]) -> TermIndex:
    index = TermIndex(bits=GRAM_BITS, depth=8)
    for text in texts:
        index.add(grams_of(text))
    return index


def nearest(index: TermIndex, text: str, *, n_wanted: int) -> list[tuple[int, float]]:
    """Numbers and cosines of the texts that are pooled, closest first."""
    with Query(index, grams_of(text)) as query:
        pool = query.pool(n_wanted=n_wanted)
        cosines = query.cosines(query.beside(pool))
    assert not index.is_asked
    order = np.lexsort((pool, -cosines))
    return [(int(pool[i]), float(cosines[i])) for i in order]


def some_texts(n: int, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choice(WORDS) for _ in range(6)) + f" number {rng.random()}" for _ in range(n)]


def test_the_same_text_is_its_own_nearest_neighbour() -> None:
    """Cosine one, whatever else is there."""
    texts = some_texts(300)
    index = index_of(texts)
    for number in (0, 150, 299):
        best = nearest(index, texts[number], n_wanted=5)[0]
        assert (number, 1.0) == (best[0], round(best[1], 5))


def test_a_close_text_is_found_among_many() -> None:
    """One changed word does not hide a neighbour."""
    texts = some_texts(500)
    number, cosine = nearest(index_of(texts), texts[42].replace("number", "numbers"), n_wanted=5)[0]
    assert number == 42
    assert cosine > 0.8


def test_nothing_in_common_finds_nothing() -> None:
    """No shared gram, no neighbour; an empty index has none either."""
    assert nearest(TermIndex(bits=GRAM_BITS, depth=8), "anything", n_wanted=3) == []
    assert nearest(index_of(["aaaa bbbb"]), "zzzzzz", n_wanted=3) == []


def test_the_work_of_a_query_does_not_grow_with_the_index() -> None:
    """However many texts share a gram, only the newest eight of it are read."""
    same = [f"the very same beginning of every text {n}" for n in range(2_000)]
    assert 0 < len(nearest(index_of(same), same[-1], n_wanted=10_000)) <= 64 * 8


def test_an_index_from_which_texts_expired_answers_as_if_they_had_never_been_there() -> None:
    """Room is won back meanwhile, and numbers go on."""
    texts = some_texts(3_000)
    grown = index_of(texts)
    for _ in range(2_500):
        grown.expire()
    fresh = index_of(texts[2_500:])
    assert (len(grown), grown.first, grown.end) == (500, 2_500, 3_000)
    assert grown.n_bytes < index_of(texts).n_bytes * 1.01
    for query in [*some_texts(20, seed=2), *(text.replace("number", "count") for text in texts[2_490:2_520])]:
        expected = [(number + 2_500, cosine) for number, cosine in nearest(fresh, query, n_wanted=20)]
        assert nearest(grown, query, n_wanted=20) == expected


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
    found = nearest(first, query, n_wanted=4)
    assert found == nearest(second, query, n_wanted=4)
    assert all(0 <= cosine <= 1 for _, cosine in found)


def test_grams_of_short_text_are_few_but_there() -> None:
    """A space before and behind lets even one letter be compared."""
    assert len(grams_of("a").buckets) >= 1
    assert np.array_equal(grams_of("abc").buckets, grams_of("abc").buckets)


def test_titles_of_people_are_compared_by_grams_of_one_size() -> None:
    """One for each place in the text and one more at its end; none without a text but its spaces."""
    assert [int(fours_of(text).counts.sum()) for text in ("", "a", "abc", "xyz" * 1_000)] == [0, 1, 3, 320]
    assert fours_of("abcd").buckets.max() < 1 << GRAM_BITS


def test_a_copy_of_an_index_goes_its_own_way() -> None:
    """What is entered into it is rare there and unknown in the first one."""
    index = index_of(some_texts(50))
    copy = deepcopy(index)
    copy.add(grams_of("zebra crossing"))
    assert nearest(copy, "zebra crossing", n_wanted=1)[0][0] == 50
    assert nearest(index, "zebra crossing", n_wanted=1) == nearest(
        index_of(some_texts(50)), "zebra crossing", n_wanted=1
    )
