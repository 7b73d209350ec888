"""Plays are found by facts, said in sentences, and not at all when nothing speaks for them."""

import pytest
from contracts import pattern
from hypothesis import given
from hypothesis import strategies as st

from services.recommendation.app import read_playbook
from services.recommendation.engine.matching import FIT_FLOOR, PLAYS_MAX, Matcher, Traits, choose

MATCHER = Matcher(read_playbook())
TERMS = sorted({term for play in MATCHER.playbook.plays for term in play.matches.terms})


def shared(name: str, value: str, share: float = 1.0) -> pattern.FingerprintDimension:
    return pattern.FingerprintDimension(name=name, value=value, share=share)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Something is wrong",
        "We are experiencing an issue with multiple components.",
        "Incident with Codespaces",
    ],
)
def test_nothing_telling_gives_no_play(name: str) -> None:
    assert MATCHER.choose(Traits(name=name)) == ()


def test_evidence_names_the_place_of_each_fact() -> None:
    traits = Traits(
        name="Checkout cannot reach its database",
        exemplar="hikari pool: connection is not available, request timed out after <num>",
        fingerprint=(
            shared("error_type", "ConnectionPoolTimeoutException", 0.9),
            shared("service", "checkout"),
        ),
    )
    [fit] = [fit for fit in MATCHER.fits(traits) if fit.play.id == "size-connection-pool"]
    assert (
        '90% of its issues have error_type "ConnectionPoolTimeoutException", which contains "connection pool".'
        in fit.evidence
    )
    assert any(sentence.startswith("A typical issue says") for sentence in fit.evidence)


def test_a_class_name_in_lower_case_is_understood() -> None:
    traits = Traits(name="Cart fails", exemplar="java.lang.nullpointerexception at cart")
    assert MATCHER.choose(traits)[0].play.id == "guard-null-dereference"


def test_one_phrase_in_two_places_counts_once() -> None:
    once = MATCHER.fit_of("resolve-deadlocks", Traits(name="deadlock detected"))
    twice = MATCHER.fit_of(
        "resolve-deadlocks", Traits(name="deadlock detected", exemplar="deadlock detected")
    )
    assert once is not None
    assert twice is not None
    assert once.fit == twice.fit


def test_an_excluded_phrase_rules_a_play_out() -> None:
    traits = Traits(
        name="HTTPSConnectionPool(host='api'): Read timed out", exemplar="connection pool read timed out"
    )
    ids = [fit.play.id for fit in MATCHER.fits(traits)]
    assert "set-call-timeouts" in ids
    assert "size-connection-pool" not in ids


def test_a_missing_owner_speaks_only_with_something_else() -> None:
    assert MATCHER.choose(Traits(name="Import is wrong")) == ()
    with_team = MATCHER.fit_of(
        "assign-owner", Traits(name="wrong team", fingerprint=(shared("team", "core"),))
    )
    without = MATCHER.fit_of("assign-owner", Traits(name="wrong team"))
    assert with_team is not None
    assert without is not None
    assert without.fit > with_team.fit


def test_a_failure_that_keeps_coming_back_is_reviewed_when_nothing_else_is_known() -> None:
    [fit] = MATCHER.choose(Traits(name="Incident with Codespaces", is_recurring=True))
    assert fit.play.id == "hold-blameless-review"
    assert fit.evidence[0] == "It keeps coming back: at least 5 issues over at least 3 days."
    clear = MATCHER.choose(Traits(name="certificate has expired", is_recurring=True))
    assert "hold-blameless-review" not in [fit.play.id for fit in clear]


def test_an_unknown_play_has_no_fit() -> None:
    assert MATCHER.fit_of("no-such-play", Traits(name="deadlock")) is None


def test_plays_of_different_types_are_preferred() -> None:
    chosen = MATCHER.choose(Traits(name="certificate has expired"))
    assert {"config_change", "monitoring"} <= {fit.play.type for fit in chosen}


@given(
    st.lists(st.sampled_from([*TERMS, "checkout", "is", "broken"]), max_size=6),
    st.lists(st.sampled_from(TERMS), max_size=3),
    st.floats(min_value=0.01, max_value=1.0),
)
def test_choice_obeys_its_rules_for_any_pattern(name: list[str], error: list[str], share: float) -> None:
    traits = Traits(name=" ".join(name), fingerprint=(shared("error_type", " ".join(error), share),))
    fits = MATCHER.fits(traits)
    chosen = choose(fits)
    assert len(chosen) <= PLAYS_MAX
    assert bool(chosen) == bool(fits)
    assert all(FIT_FLOOR <= fit.fit <= 1.0 and fit.evidence for fit in chosen)
    assert len({fit.play.id for fit in chosen}) == len(chosen)
    assert chosen == MATCHER.choose(traits)


@given(st.sampled_from(TERMS), st.sampled_from(TERMS))
def test_more_evidence_never_lowers_a_fit(first: str, second: str) -> None:
    alone = {fit.play.id: fit.fit for fit in MATCHER.fits(Traits(name=first))}
    both = {fit.play.id: fit.fit for fit in MATCHER.fits(Traits(name=f"{first}; nothing; {second}"))}
    for play_id, fit in alone.items():
        play = next(play for play in MATCHER.playbook.plays if play.id == play_id)
        if play_id in both or not play.matches.excludes:
            assert both[play_id] >= fit - 0.31  # a longer phrase may replace its stronger part
