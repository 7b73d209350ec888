"""The recurrence model: what it learns, from what, and what it must never do."""

import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zlib import decompress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.prediction.engine.backtest import (
    WINDOWS,
    Events,
    Said,
    _Record,
    forecasts,
    judge,
    main,
    would_have_fired,
)
from services.prediction.engine.behaviour import APART_DAYS, begin, behaviour, grow, history_of, logit
from services.prediction.engine.fitting import Learner, Past, learn
from services.prediction.engine.forecasting import forecast
from services.prediction.engine.gamma_poisson import LEAST, MOST, WINDOWS_DAYS, probability
from services.prediction.engine.recurrence import Model, drivers, opinion, opinions
from services.prediction.engine.scoring import MIN_RECORD, NANO, Score, calibration_error, reliability

START = datetime(2026, 1, 1, tzinfo=UTC)


def quietly(share: float) -> None:
    """Progress that nobody watches."""


def history(seed: int, *, n_patterns: int = 40, days: float = 400.0) -> tuple[tuple[float, str], ...]:
    """Patterns that recur at their own constant rates, some of which end."""
    rng = random.Random(seed)
    rows = []
    for number in range(n_patterns):
        rate, at = rng.gammavariate(0.6, 0.08), rng.uniform(0.0, days * 0.7)
        end = days if rng.random() < 0.5 else rng.uniform(at, days)
        while at < end:
            rows.append((at, f"pat_{number}"))
            at += rng.expovariate(max(rate, 1e-3))
    return tuple(sorted(rows))


@pytest.fixture(scope="module")
def model() -> Model:
    """What such a workspace teaches."""
    learnt = learn(Past(history(1), 400.0))
    assert learnt is not None
    return learnt


def test_the_same_past_gives_the_same_model() -> None:
    """Byte for byte, so that anybody can make it again from the log."""
    assert learn(Past(history(2), 300.0)) == learn(Past(history(2), 300.0))


def test_nothing_is_learned_before_its_window_has_ended() -> None:
    """What happens after now changes nothing, and no point of a window that is still open is used."""
    events, now = history(3), 200.0
    past = tuple(event for event in events if event[0] <= now)
    assert learn(Past(events, now)) == learn(Past(past, now))
    young = learn(Past(tuple((at, key) for at, key in events if at <= 6.9), 6.9))
    assert young is None


def test_a_longer_window_is_never_less_probable_whatever_answers() -> None:
    """The base rate of 7 days answers while the models still do for 30 and 90, and the other way round."""
    behind = Score(400, 240, 200 * NANO, 90 * NANO, span_days=60.0)
    dormant = behaviour([0.0, 1.0, 2.0])
    for state, fallen in ((dormant, 7), (dormant, 30), (behaviour([float(day) for day in range(60)]), 90)):
        said = forecast(state, 400.0, scores={fallen: msgspec.structs.replace(behind, span_days=400.0)})
        assert [one.window_days for one in said if one.model == "base_rate"] == [fallen]
        assert [one.probability for one in said] == sorted(one.probability for one in said)
        assert all(one.lower <= one.probability <= one.upper for one in said)
        # What is scored is what the models say, not what another window's base rate made of it.
        assert [one.said for one in said] == opinions(state, 400.0, WINDOWS_DAYS, None)


def test_too_little_is_not_learned_from() -> None:
    """Below the floor the shipped prior answers alone."""
    events = tuple((7.0 * week, "pat_a") for week in range(5))
    assert learn(Past(events, 36.0)) is None
    state = behaviour(at for at, _ in events)
    assert opinion(state, 36.0, 7, None).probability == probability(history_of(state, 36.0), 7)


def test_what_was_prevented_is_not_learned_from() -> None:
    """Points whose window meets the prevented one are left out, whatever followed."""
    events, now = history(4), 300.0
    free, censored = learn(Past(events, now)), learn(Past(events, now, (("pat_1", 0.0, 400.0),)))
    without = {key for _, key in events} - {"pat_1"}
    assert free is not None
    assert censored is not None
    assert "pat_1" not in without
    seen, left = free.windows[0].n_outcomes, censored.windows[0].n_outcomes
    assert left < seen


def test_the_learner_keeps_no_more_than_it_needs() -> None:
    """Starting late, as the nightly refit does in a big workspace, follows every pattern from its first event."""
    late, whole = Learner(first_point=250.0), Learner()
    for at, key in history(5):
        late.observe(at, key)
        whole.observe(at, key)
    assert late.patterns == whole.patterns
    assert late.surroundings(400.0) == whole.surroundings(400.0)


@given(st.lists(st.floats(0.0, 300.0), min_size=1, max_size=40), st.sampled_from(WINDOWS_DAYS))
@settings(max_examples=60, deadline=None)
def test_probabilities_stay_in_bounds_and_drivers_add_up(
    model: Model, days: list[float], window: int
) -> None:
    """Whatever the history: within [0.002, 0.98], rising with the window, and explained without a remainder."""
    state, now = behaviour(days), 301.0
    said = opinions(state, now, WINDOWS_DAYS, model)
    chances = [one.probability for one in said]
    assert chances == sorted(chances)
    assert all(LEAST <= chance <= MOST for chance in chances)
    chance = chances[WINDOWS_DAYS.index(window)]
    parts = drivers(state, now, window, model, base_rate=0.2, probability=chance)
    assert math.fsum(part.log_odds for part in parts) == pytest.approx(logit(chance) - logit(0.2))


@given(st.lists(st.floats(0.0, 300.0), min_size=2, max_size=30))
@settings(max_examples=60, deadline=None)
def test_a_state_counts_as_episodes_do(days: list[float]) -> None:
    """Growing by one event at a time counts what a look at the whole list counts."""
    taken: list[float] = []
    for day in sorted(days):
        if not taken or day - taken[-1] >= APART_DAYS:
            taken.append(day)
    state = behaviour(days)
    assert (state.n_episodes, state.n_events, state.episode_at) == (len(taken), len(days), taken[-1])
    assert state.pace[0] == pytest.approx(sum(2.0 ** (-(taken[-1] - day) / 3.5) for day in taken))


def test_a_dormant_pattern_that_wakes_fires(model: Model) -> None:
    """Known failure elsewhere: nine quiet months must not keep a pattern that fails again from being heard."""
    state = begin(0.0)
    for day in (10.0, 19.0, 30.0):
        grow(state, day)
    asleep = opinion(state, 299.0, 30, model).probability
    grow(state, 300.0)
    grow(state, 302.0)
    awake = opinion(state, 303.0, 30, model).probability
    assert asleep < 0.2
    assert awake > 3 * asleep
    for day in (304.0, 306.0, 308.0):
        grow(state, day)
    assert opinion(state, 308.5, 30, model).probability > 0.7


def test_a_slow_ramp_fires(model: Model) -> None:
    """Known failure elsewhere: a rate that grows slowly must not lift the bar that it has to reach."""
    state, gap, at = begin(0.0), 40.0, 0.0
    said = []
    while gap > 2.0:
        at += gap
        grow(state, at)
        gap *= 0.9
        said.append(opinion(state, at + 0.5, 30, model).probability)
    assert said[0] < 0.7 < said[-1]
    # Once over the alert threshold it stays there: nothing rises with it.
    first = next(place for place, chance in enumerate(said) if chance >= 0.7)
    assert min(said[first + 3 :]) >= 0.7


def test_probabilities_come_true_as_often_as_they_say() -> None:
    """Patterns with known rates, learned from one half of the time and judged by the other."""
    rows = history(6, n_patterns=90, days=500.0)
    events = Events(START, list(rows))
    said = [one for one in forecasts(events, {}, quietly) if one.at > 250.0]
    result = judge(said, events, 30)
    assert result.calibration_error < 0.06
    assert result.skill > 0.15


@pytest.mark.parametrize("window", [7, 30])
def test_intervals_of_a_learned_model_hold_the_true_probability(window: int) -> None:
    """Patterns with known constant rates: at least eight times in ten, and on average not too high or too low."""
    rng = random.Random(5)
    rates = {f"pat_{number}": rng.gammavariate(0.8, 1 / 25) for number in range(200)}
    rows: dict[str, list[float]] = {}
    for pattern, rate in rates.items():
        at = rng.uniform(0.0, 150.0)
        while at < 300.0:
            rows.setdefault(pattern, []).append(at)
            at += rng.expovariate(max(rate, 1e-4))
    learnt = learn(Past(tuple(sorted((at, key) for key, days in rows.items() for at in days)), 300.0))
    often = {key: days for key, days in rows.items() if len(days) >= 2}
    held, errors = 0, []
    for pattern, days in often.items():
        (answer,) = forecast(behaviour(days), 300.0, model=learnt, windows=(window,))
        truth = -math.expm1(-rates[pattern] * window)
        held += answer.lower <= truth <= answer.upper
        errors.append(answer.probability - truth)
    assert held >= 0.8 * len(often)
    # The shipped prior alone is .13 too low for patterns that never end.
    assert abs(math.fsum(errors) / len(errors)) < 0.08


def test_a_backtest_never_peeks() -> None:
    """Cutting off the future changes no forecast that was made before it."""
    rows = list(history(7, n_patterns=20, days=260.0))
    whole = list(forecasts(Events(START, rows), {}, quietly))
    cut = list(forecasts(Events(START, [row for row in rows if row[0] <= 210.0]), {}, quietly))
    assert cut
    assert [one for one in whole if one.at <= cut[-1].at] == cut


def test_given_points_are_forecast_as_the_weekly_ones() -> None:
    """Asking for a day and a key of the weekly ones gives what they gave; an unknown key gets an answer too."""
    events = Events(START, list(history(8, n_patterns=20, days=260.0)))
    weekly = [one for one in forecasts(events, {}, quietly) if one.at == 210.0]
    points = {210.0: [*dict.fromkeys(one.key for one in weekly), "never seen"]}
    asked = list(forecasts(events, points, quietly))
    assert [(one.key, one.window_days, one.probability) for one in asked[:-2]] == [
        (one.key, one.window_days, one.probability) for one in weekly
    ]
    assert [one.key for one in asked[-2:]] == ["never seen"] * 2


def test_alerts_fire_once_per_crossing_and_are_counted() -> None:
    """Two crossings, of which one came true after two days; one hit was below."""
    events = Events(START, [(0.0, "a"), (12.0, "a"), (100.0, "b")])
    said = [
        Said(at, "a", 7, chance, 0.5, True, False)
        for at, chance in ((1.0, 0.8), (3.0, 0.9), (5.0, 0.2), (8.0, 0.3), (10.0, 0.7))
    ]
    alerts = would_have_fired(said, events, 7, 0.7)
    assert (alerts.n, alerts.n_true, alerts.lead_days) == (2, 1, 2.0)
    assert alerts.recall == pytest.approx(1 / 3)


def test_a_backtest_says_what_the_product_says(model: Model) -> None:
    """Also where the models are behind: the base rate is that of the outcomes fitted, not that of the record."""
    record, state = _Record(), behaviour([0.0, 1.0, 40.0, 200.0])
    for window in WINDOWS:
        record._sums[window] = [400, 300, 200 * NANO, 90 * NANO]
        record._resolved[window].extend([(10.0, True, 0, 0), (300.0, True, 0, 0)])
    scores = {window: record.score(window) for window in WINDOWS}
    live = forecast(state, 350.0, model=model, scores=scores, windows=WINDOWS)
    assert [one.model for one in live] == ["base_rate", "base_rate"]
    said = list(record.say(iter([("key", state)]), 350.0, model))
    assert [one.probability for one in said] == [one.probability for one in live]
    assert all(one.is_by_base_rate for one in said)


def test_a_record_is_judged_once_it_is_long_enough() -> None:
    """Many resolutions in one week are one surprise."""
    good = Score(MIN_RECORD, 100, 10 * NANO, 20 * NANO, span_days=28.0)
    assert good.skill(7) == 0.5
    assert good.skill(30) is None
    assert Score(MIN_RECORD - 1, 100, 10 * NANO, 20 * NANO, span_days=400.0).skill(7) is None


def test_calibration_is_the_mean_distance_from_what_happened() -> None:
    """Four forecasts of 0.5 of which one came true, and one sure one that did."""
    bins = reliability([(0.5, True), (0.5, False), (0.5, False), (0.5, False), (1.0, True)])
    assert calibration_error(bins) == pytest.approx(0.8 * 0.25)


def test_the_command_reads_scores_writes_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A CSV in; scores, a CSV of forecasts and a PNG out, the same bytes each time."""
    file = tmp_path / "events.csv"
    lines = [
        f"{(START + timedelta(days=at)).isoformat()},{key},high"
        for at, key in history(9, n_patterns=12, days=250.0)
    ]
    file.write_text("ts,key,severity\n" + "\n".join(lines) + "\n", encoding="utf-8")
    out, plot = tmp_path / "said.csv", tmp_path / "reliability.png"
    words = [str(file), "--out", str(out), "--plot", str(plot), "--threshold", "0.5"]
    assert main(words) == 0
    assert "skill" in capsys.readouterr().out
    first = out.read_bytes(), plot.read_bytes()
    assert main(words) == 0
    assert (out.read_bytes(), plot.read_bytes()) == first
    assert out.read_text(encoding="utf-8").splitlines()[0] == "T_iso,key,h,p"
    start = first[1].index(b"IDAT") + 4
    width, height = (int.from_bytes(first[1][place : place + 4], "big") for place in (16, 20))
    assert len(decompress(first[1][start : start + len(first[1]) - start - 16])) == height * (3 * width + 1)
    points = tmp_path / "points.csv"
    points.write_text(f"{(START + timedelta(days=200)).isoformat()},pat_1\n", encoding="utf-8")
    assert main([str(file), "--points", str(points), "--out", str(out)]) == 0
    assert len(out.read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.parametrize("text", ["", "ts,name\n2026-01-01T00:00:00Z,a\n", "ts,key\n", "ts,key\nnever,a\n"])
def test_a_file_that_cannot_be_read_is_said(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and a sentence, never a traceback."""
    file = tmp_path / "events.csv"
    file.write_text(text, encoding="utf-8")
    assert main([str(file)]) == 2
    assert capsys.readouterr().err.startswith("✗")
