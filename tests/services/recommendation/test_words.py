"""Words of titles, log lines and class names become comparable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recommendation.engine.words import stem, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("OutOfMemoryError at pool-<num>", ("out", "of", "memory", "error", "at", "pool")),
        ("nullpointerexception", ("nullpointer", "exception")),
        ("OOMKilled", ("oom", "kill")),
        ("HTTPSConnectionPool", ("http", "connection", "pool")),
        ("read_timed-out", ("read", "timed", "out")),
        ("429 Too Many Requests", ("429", "too", "many", "request")),
        ("", ()),
    ],
)
def test_text_is_taken_apart(text: str, expected: tuple[str, ...]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    "forms",
    [
        ("retry", "retries", "retried", "retrying"),
        ("cache", "caches", "cached", "caching"),
        ("queue", "queues", "queued", "queueing"),
        ("drop", "drops", "dropped", "dropping"),
        ("crash", "crashes", "crashed", "crashing"),
        ("expire", "expires", "expired", "expiring"),
        ("exceed", "exceeds", "exceeded", "exceeding"),
        ("kill", "kills", "killed", "killing"),
    ],
)
def test_forms_of_a_word_have_one_stem(forms: tuple[str, ...]) -> None:
    assert len({stem(form) for form in forms}) == 1


@given(st.text(max_size=200))
def test_any_text_gives_words_without_spaces(text: str) -> None:
    assert all(word and " " not in word for word in words(text))
