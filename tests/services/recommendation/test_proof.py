"""Whether a fix holds: the worked example of docs/reference/proof.md, what users complain about, and known truths."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from pytest import approx

from services.gateway.proving import Entry, loops
from services.gateway.proving import confidence as shown_confidence
from services.recommendation.engine.proof import (
    LEDGER_DAYS,
    Baseline,
    Failure,
    Fix,
    Scope,
    Terms,
    baseline_of,
    episodes,
    judge,
    place_of,
    rate_drop,
    reach_of,
    window_of,
)
from services.recommendation.engine.reference import Reference, is_credited, reference_of
from services.recommendation.engine.versions import order_of

START = datetime(2026, 1, 1, tzinfo=UTC)
FIX = Fix(fixed_at=START + timedelta(days=60), environment="production", version="2.4.0")


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def failure(number: float, *, environment: str | None = "production", version: str | None = None) -> Failure:
    return Failure(day(number), f"iss_{number}", environment, version)


BEFORE = tuple(failure(number) for number in (0, 10, 20, 30, 40, 50))
"""Five recurrences in the sixty days before the fix."""


def test_the_worked_example_of_the_reference() -> None:
    """The numbers that docs/reference/proof.md shows."""
    baseline = Baseline(n_recurrences=5, exposure_days=60.0, gap_days=14.0)
    assert (baseline.shape, baseline.days) == (6.0, 74.0)
    assert baseline.days_to(0.95) == approx(47.9186, abs=1e-4)
    assert baseline.confidence(14.0) == approx(0.6464, abs=1e-4)
    assert window_of(baseline, Terms()) == approx(47.918624)
    judged = judge(FIX, BEFORE, Terms(), gap_days=14.0, now=day(74))
    assert (judged.standing, judged.quiet_days) == ("proving", 14.0)
    assert judged.needs_quiet_days == approx(33.918624)
    entry = Entry(
        shape=6.0,
        rate_days=74.0,
        ratio=0.8,
        ratio_variance=0.14,
        dispersion=1.0,
        fixed_at=FIX.fixed_at,
        ended_at=None,
        n_observed=0,
    )
    so_far = loops([entry], now=day(60 + 48))
    assert (so_far.expected, so_far.prevented, so_far.lower, so_far.upper) == (3.1135, 3.1135, 0.0, 9.0)


def test_confidence_grows_with_quiet_time_and_the_window_is_where_it_reaches_the_level() -> None:
    baseline = Baseline(n_recurrences=3, exposure_days=40.0, gap_days=10.0)
    grown = [baseline.confidence(quiet) for quiet in range(0, 200, 10)]
    assert grown[0] == 0.0 and grown == sorted(set(grown))
    assert baseline.confidence(baseline.days_to(0.9)) == approx(0.9)
    assert shown_confidence(shape=4.0, rate_days=50.0, quiet_days=30.0) == approx(
        baseline.confidence(30.0), abs=1e-6
    )


@pytest.mark.parametrize(
    ("terms", "at", "standing"),
    [
        (Terms(), 60 + 47.9, "proving"),
        (Terms(), 60 + 47.92, "verified"),
        (Terms(level=0.6, least_days=14), 73.9, "proving"),
        (Terms(level=0.6, least_days=14), 74, "verified"),
        (Terms(most_days=30), 89.9, "proving"),
        (Terms(most_days=30), 90, "inconclusive"),
    ],
)
def test_a_fix_is_verified_at_the_level_inside_the_bounds_else_inconclusive(
    terms: Terms, at: float, standing: str
) -> None:
    """Never a silent yes: at the upper bound without the confidence nothing is claimed."""
    assert judge(FIX, BEFORE, terms, gap_days=14.0, now=day(at)).standing == standing


def test_one_failure_alone_takes_long_to_prove() -> None:
    """Nothing is known of its rate but what other patterns do."""
    judged = judge(FIX, BEFORE[:1], Terms(), gap_days=14.0, now=day(61))
    assert judged.window_days == 365.0
    assert judge(FIX, BEFORE[:1], Terms(), gap_days=14.0, now=day(60 + 365)).standing == "inconclusive"


def test_where_a_pattern_never_failed_quiet_proves_nothing() -> None:
    """A place that no failure names, by a typing error perhaps: nothing is claimed, however long it is quiet."""
    fix = Fix(fixed_at=FIX.fixed_at, environment="prod")
    later = [failure(number) for number in range(61, 800)]
    waiting = judge(fix, [*BEFORE, *later], Terms(), gap_days=14.0, now=day(60 + 364))
    assert (waiting.standing, waiting.confidence, waiting.window_days) == ("proving", 0.0, 365.0)
    ended = judge(fix, [*BEFORE, *later], Terms(), gap_days=14.0, now=day(60 + 365))
    assert (ended.standing, ended.confidence) == ("inconclusive", 0.0)
    anywhere = [failure(number, environment=None) for number in (0, 10, 20, 30, 40, 50)]
    assert judge(fix, anywhere, Terms(), gap_days=14.0, now=day(60 + 48)).standing == "verified"


@pytest.mark.parametrize(
    ("scopes", "reach"),
    [
        ([], (None, None)),
        ([("production", "2.4.0")], ("production", "2.4.0")),
        ([("production", "2.4.0"), ("staging", "2.4.0")], (None, "2.4.0")),
        ([("staging", None), (None, None)], (None, None)),
        ([("Production", "2.10"), ("production ", "2.9")], ("Production", "2.9")),
        ([("production", "2.10"), ("production", "9f3c2ab")], ("production", None)),
    ],
)
def test_several_measures_hold_wherever_one_was_made(scopes: list[Scope], reach: Scope) -> None:
    assert reach_of(scopes) == reach


def test_only_a_fix_of_what_had_come_back_is_credited() -> None:
    """As the patterns that the ratio is taken from: a burst that a note closes has prevented nothing that is known."""
    burst = [day(60 - hours / 24) for hours in (2, 1, 0)]
    assert not is_credited(burst, at=day(60), gap_days=14.0)
    assert not is_credited([day(40), day(55)], at=day(60), gap_days=14.0)
    assert is_credited([day(40), day(48), day(55)], at=day(60), gap_days=14.0)
    assert not is_credited([], at=day(60), gap_days=14.0)


COMPLAINTS = {
    "a failure of an older version": (failure(65, version="2.3.9"), "proving", 1),
    "a pre-release of the fix's version": (failure(65, version="v2.4.0-rc.1"), "proving", 1),
    "a failure in another environment": (failure(65, environment="staging"), "proving", 1),
    "an older version that is reported late, after newer ones": (failure(65, version="1.10"), "proving", 1),
    "an event that happened before the fix and arrived after it": (failure(59.99), "proving", 0),
    "the fix's own version": (failure(65, version="2.4.0"), "broken", 0),
    "a newer version": (failure(65, version="2.10.0"), "broken", 0),
    "a version that cannot be compared": (failure(65, version="9f3c2ab"), "broken", 0),
    "no version at all": (failure(65), "broken", 0),
    "no environment at all": (failure(65, environment=None), "broken", 0),
}


@pytest.mark.parametrize("complaint", COMPLAINTS)
def test_false_regressions_are_residual_exposure_and_real_ones_break(complaint: str) -> None:
    """Only what ran the fix, as far as one can tell, says anything about it."""
    arrived, standing, n_residual = COMPLAINTS[complaint]
    judged = judge(FIX, [*BEFORE, arrived], Terms(), gap_days=14.0, now=day(70))
    assert (judged.standing, judged.n_residual) == (standing, n_residual)
    assert (judged.recurrence is not None) == (standing == "broken")


def test_a_recurrence_after_verification_breaks_the_proof_too() -> None:
    judged = judge(FIX, [*BEFORE, failure(400)], Terms(), gap_days=14.0, now=day(401))
    assert (judged.standing, judged.quiet_days) == ("broken", 340.0)


failures = st.builds(
    lambda hours, environment, version: failure(hours / 4, environment=environment, version=version),
    st.integers(0, 600),
    st.sampled_from([None, "production", "Production", "staging"]),
    st.sampled_from([None, "2.3.0", "2.4.0", "2.5.0-beta", "abcdef0"]),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(failures, max_size=25, unique_by=lambda known: known.issue_id), st.randoms(use_true_random=False)
)
def test_the_order_of_delivery_changes_nothing(known: list[Failure], rng: random.Random) -> None:
    """Event time decides: late, early or shuffled, the same failures give the same bytes."""
    shuffled = list(known)
    rng.shuffle(shuffled)
    first = judge(FIX, known, Terms(), gap_days=14.0, now=day(151))
    assert judge(FIX, shuffled, Terms(), gap_days=14.0, now=day(151)) == first
    reaching = [f for f in known if place_of(f, FIX) == "recurrence"]
    assert (first.standing == "broken") == bool(reaching)
    assert first.n_recurrences_after == len(episodes(sorted(f.occurred_at for f in reaching)))


@pytest.mark.parametrize(
    ("version", "reference", "order"),
    [
        ("1.9.3", "v1.10", "older"),
        ("2.0.0-rc.1", "2.0.0", "older"),
        ("2.0.0-rc.2", "2.0.0-rc.10", "older"),
        ("1.2", "1.2.0", "same"),
        ("1.2.0+build.7", "1.2.0", "same"),
        ("shop@1.3.0", "shop@1.2.9", "newer"),
        ("2026.11.22", "2026.2.3", "newer"),
        ("4711", "4712", "older"),
        ("shop@1.2", "till@1.3", "unknown"),
        ("9f3c2ab", "1.2.0", "unknown"),
        ("4711", "1.2.0", "unknown"),
        ("9f3c2ab", "9F3C2AB", "same"),
        ("", "1.0", "unknown"),
    ],
)
def test_versions_have_an_order_or_none(version: str, reference: str, order: str) -> None:
    opposite = {"older": "newer", "newer": "older", "same": "same", "unknown": "unknown"}
    assert order_of(version, reference) == order
    assert order_of(reference, version) == opposite[order]


def test_the_rate_test_is_exact_and_says_what_it_can_see() -> None:
    """One of twelve recurrences in half of the time: P(X ≤ 1) = 13 / 4096."""
    tested = rate_drop(n_before=11, days_before=30.0, n_after=1, days_after=30.0)
    assert tested is not None and tested.p_value == approx(13 / 4096, abs=1e-6)
    weak = rate_drop(n_before=2, days_before=30.0, n_after=0, days_after=10.0)
    strong = rate_drop(n_before=60, days_before=60.0, n_after=30, days_after=60.0)
    assert weak is not None and strong is not None
    assert weak.power < 0.2 < 0.8 < strong.power
    assert rate_drop(n_before=0, days_before=30.0, n_after=0, days_after=10.0) is None


def bursty(rng: random.Random, *, days: float) -> list[datetime]:
    """A pattern whose rate never changes and that fails in bursts of up to nine within hours."""
    times, at = [], rng.expovariate(0.2)
    while at < days:
        times += [day(at), *(day(at + rng.random() / 4) for _ in range(rng.choice([0, 0, 8])))]
        at += rng.expovariate(0.2)
    return sorted(at for at in times if at <= day(days))


def test_on_episodes_the_rate_test_keeps_its_level_where_raw_counts_do_not() -> None:
    rng = random.Random(2)
    wrong = {"raw": 0, "episodes": 0}
    for _ in range(250):
        times = bursty(rng, days=120.0)
        for name, counted in (("raw", times), ("episodes", episodes(times))):
            n_after = sum(1 for at in counted if at > day(60))
            tested = rate_drop(
                n_before=len(counted) - n_after, days_before=60.0, n_after=n_after, days_after=60.0
            )
            wrong[name] += tested is not None and tested.p_value <= 0.05
    assert wrong["episodes"] <= 0.05 * 250 < 0.08 * 250 < wrong["raw"]


def placebo_world(rng: random.Random, *, life_days: float, shape: float) -> list[list[datetime]]:
    """Patterns that nobody ever fixes: each has its own rate, and dies by itself after a while."""
    patterns = []
    for _ in range(90):
        rate, at = rng.gammavariate(shape, 1 / 30), rng.uniform(0, 500)
        end = min(900.0, at + rng.expovariate(1 / life_days))
        times = []
        while at < end:
            times += [day(at), *(day(at + rng.random() / 3) for _ in range(rng.choice([0, 0, 2])))]
            at += rng.expovariate(rate)
        patterns.append(sorted(times))
    return [times for times in patterns if times]


@pytest.mark.parametrize(("life_days", "shape"), [(1e9, 1.0), (200.0, 1.0), (200.0, 0.5)])
def test_placebo_fixes_are_seldom_verified_and_prevent_nothing(life_days: float, shape: float) -> None:
    """Of fixes that changed nothing at most 5 % are verified and come back; their ledger is 0 within its interval."""
    rng = random.Random(11)
    n_fixes = n_false = n_covered = 0
    n_worlds, drift = 24, []
    for _ in range(n_worlds):
        patterns = placebo_world(rng, life_days=life_days, shape=shape)
        now = rng.uniform(250, 500)
        past = [[at for at in times if at <= day(now)] for times in patterns]
        reference = reference_of(past, now=day(now))
        entries = []
        for times, known in zip(patterns, past, strict=True):
            if not is_credited(known, at=day(now), gap_days=reference.gap_days):
                continue
            baseline = baseline_of(known, fixed_at=day(now), gap_days=reference.gap_days)
            window = timedelta(days=window_of(baseline, Terms()))
            n_fixes += 1
            is_quiet = not any(day(now) < at <= day(now) + window for at in times)
            n_false += is_quiet and window.days < 365 and times[-1] > day(now)
            n_observed = len(episodes(at for at in times if day(now) < at <= day(now + LEDGER_DAYS)))
            entries.append(entry_of(baseline, reference, fixed_at=day(now), n_observed=n_observed))
        total = loops(entries, now=day(now + LEDGER_DAYS))
        n_covered += total.lower <= 0.0 <= total.upper
        drift.append(total.prevented / max(1.0, total.upper - total.lower))
    assert n_fixes > 100
    assert n_false <= 0.05 * n_fixes
    assert n_covered >= n_worlds - 2
    assert abs(sum(drift) / n_worlds) < 0.2


def entry_of(baseline: Baseline, reference: Reference, *, fixed_at: datetime, n_observed: int) -> Entry:
    return Entry(
        shape=baseline.shape,
        rate_days=baseline.days,
        ratio=reference.ratio,
        ratio_variance=reference.ratio_variance,
        dispersion=reference.dispersion,
        fixed_at=fixed_at,
        ended_at=None,
        n_observed=n_observed,
    )


def test_a_fix_that_works_shows_in_the_ledger_and_stops_counting_with_the_next_one() -> None:
    baseline = Baseline(n_recurrences=30, exposure_days=90.0, gap_days=14.0)
    entry = entry_of(baseline, Reference(ratio_variance=0.1), fixed_at=day(0), n_observed=2)
    total = loops([entry], now=day(60))
    assert total.expected == approx(31 / 104 * 60, abs=1e-4)
    assert total.lower > 0.0
    assert loops([entry], now=day(90)) == loops([entry], now=day(500))
    assert loops([replace(entry, ended_at=day(30))], now=day(500)).expected == approx(31 / 104 * 30, abs=1e-4)
    assert loops([], now=day(1)) == loops([replace(entry, n_observed=0)], now=day(0))
