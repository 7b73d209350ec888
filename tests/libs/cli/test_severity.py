"""Severity words."""

import pytest
from causeloop.exits import UsageError
from causeloop.severity import LEVELS, VOCABULARIES, vocabulary


def test_every_vocabulary_leads_to_known_levels() -> None:
    """p1 to p4, and words in lower case."""
    for words in VOCABULARIES.values():
        assert set(words.values()) <= LEVELS
        assert all(word == word.lower() for word in words)


def test_pairs_extend_the_generic_words() -> None:
    """What is not named keeps its meaning."""
    words = vocabulary("Sev-A=p1,minor=p2")
    assert (words["sev-a"], words["minor"], words["blocker"]) == ("p1", "p2", "p1")


@pytest.mark.parametrize("text", ["nagios", "a=p9"])
def test_an_unknown_name_or_level_is_refused(text: str) -> None:
    """With what can be given instead."""
    with pytest.raises(UsageError):
        vocabulary(text)
