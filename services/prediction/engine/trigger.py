"""What is likely to set a pattern off, and its impact: counts of the past, and only what is significant."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Final

from msgspec import Struct

from services.prediction.engine.drift import drift
from services.prediction.engine.episodes import APART, DAY_SECONDS, episodes

SIGNIFICANCE: Final = 0.01
MIN_EPISODES: Final = 5
MAX_ISSUES: Final = 10

_RECENT = timedelta(days=28)
_HOURS_IN_BLOCK = 3
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class Occurrence(Struct, frozen=True):
    """An event of a pattern: when, and the issue that reported it."""

    at: datetime
    issue_id: str


class Fact(Struct, frozen=True):
    """A piece of evidence; p_value is None where the fact is a plain count and nothing was tested.

    kind: last_gap, rate_change, drift, weekday, hour_of_day, co_occurrence or history.
    trigger: the sentence to show when this fact is what sets the pattern off; empty when it does not say so.
    """

    kind: str
    text: str
    issue_ids: tuple[str, ...]
    p_value: float | None = None
    trigger: str = ""


def explain(
    occurrences: Sequence[Occurrence],
    *,
    now: datetime,
    zone: tzinfo,
    neighbours: Mapping[str, tuple[str, Sequence[datetime]]],
) -> tuple[str, tuple[Fact, ...]]:
    """The likely trigger, empty when nothing is significant, and the facts, strongest first.

    occurrences: of the pattern, at least one, in any order; only those up to `now` are used.
    zone: in which weekdays and hours are meant.
    neighbours: other patterns by id, each with its name and the times of its events.
    """
    past = sorted((one for one in occurrences if one.at <= now), key=lambda one: (one.at, one.issue_id))
    if not past:
        return "", ()
    taken = set(episodes(one.at for one in past))
    starts = list({one.at: one for one in reversed(past) if one.at in taken}.values())[::-1]
    tests = [_weekday(starts, zone), _hour_of_day(starts, zone), _rate_change(starts, now)]
    tests.append(_co_occurrence(starts, neighbours))
    significant = sorted(
        (fact for fact in tests if fact is not None), key=lambda fact: (fact.p_value or 0.0, fact.kind)
    )
    trigger = next((fact.trigger for fact in significant if fact.trigger), "")
    return trigger, (*significant, *_drift(starts, now), *_plain_facts(past, starts, now))


def binomial_tail(hits: int, trials: int, chance: float) -> float:
    """Probability of at least `hits` successes in `trials` independent trials of this chance."""
    if hits <= 0:
        return 1.0
    if chance <= 0.0:
        return 0.0
    if chance >= 1.0:
        return 1.0
    terms = (
        math.exp(
            math.lgamma(trials + 1)
            - math.lgamma(k + 1)
            - math.lgamma(trials - k + 1)
            + k * math.log(chance)
            + (trials - k) * math.log1p(-chance)
        )
        for k in range(hits, trials + 1)
    )
    return min(1.0, math.fsum(terms))


def _weekday(starts: Sequence[Occurrence], zone: tzinfo) -> Fact | None:
    found = _most_common([one.at.astimezone(zone).weekday() for one in starts], chance=1 / 7, n_choices=7)
    if found is None:
        return None
    day, count, p_value = found
    name, n = _WEEKDAYS[day], len(starts)
    return Fact(
        "weekday",
        f"{count} of {n} occurrences were on a {name}; {n / 7:.1f} would be by chance.",
        _ids(one for one in starts if one.at.astimezone(zone).weekday() == day),
        p_value,
        f"Whatever happens on {name}s: {count} of {n} occurrences were on that day.",
    )


def _hour_of_day(starts: Sequence[Occurrence], zone: tzinfo) -> Fact | None:
    blocks = [one.at.astimezone(zone).hour // _HOURS_IN_BLOCK for one in starts]
    n_choices = 24 // _HOURS_IN_BLOCK
    found = _most_common(blocks, chance=1 / n_choices, n_choices=n_choices)
    if found is None:
        return None
    block, count, p_value = found
    n = len(starts)
    span = f"between {block * _HOURS_IN_BLOCK:02}:00 and {(block + 1) * _HOURS_IN_BLOCK:02}:00 {zone}"
    return Fact(
        "hour_of_day",
        f"{count} of {n} occurrences began {span}; {n / n_choices:.1f} would be by chance.",
        _ids(one for one, its in zip(starts, blocks, strict=True) if its == block),
        p_value,
        f"Whatever runs {span}: {count} of {n} occurrences began then.",
    )


def _most_common(values: Sequence[int], *, chance: float, n_choices: int) -> tuple[int, int, float] | None:
    """The value that is too common to be chance, its count, and its p-value corrected for having looked at all."""
    if len(values) < MIN_EPISODES:
        return None
    value, count = min(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    p_value = min(1.0, n_choices * binomial_tail(count, len(values), chance))
    return (value, count, p_value) if p_value < SIGNIFICANCE else None


def _rate_change(starts: Sequence[Occurrence], now: datetime) -> Fact | None:
    """Whether the last 28 days have more occurrences than their share of the whole; a change, not a trigger."""
    age = now - starts[0].at
    if len(starts) < MIN_EPISODES or age < 2 * _RECENT:
        return None
    later = starts[1:]
    recent = [one for one in later if now - one.at < _RECENT]
    p_value = binomial_tail(len(recent), len(later), _RECENT / age)
    if p_value >= SIGNIFICANCE:
        return None
    before = (len(later) - len(recent)) * (_RECENT / (age - _RECENT))
    return Fact(
        "rate_change",
        f"{len(recent)} occurrences in the last 28 days; before that, {before:.1f} per 28 days.",
        _ids(recent),
        p_value,
    )


def _drift(starts: Sequence[Occurrence], now: datetime) -> tuple[Fact, ...]:
    """Whether it fails more often for good than it used to; a change, not a trigger."""
    found = drift([one.at for one in starts], now=now)
    if found is None:
        return ()
    text = f"Since the week of {found.since:%Y-%m-%d} {found.after:.1f} occurrences a week, {found.before:.1f} before."
    return (Fact("drift", text, _ids(one for one in starts if one.at >= found.since)),)


def _co_occurrence(
    starts: Sequence[Occurrence], neighbours: Mapping[str, tuple[str, Sequence[datetime]]]
) -> Fact | None:
    """The pattern that came within the 24 hours before most often, if that is more than chance and one-way."""
    if len(starts) < MIN_EPISODES or not neighbours:
        return None
    best: tuple[float, str, str, list[Occurrence]] | None = None
    moments = [one.at for one in starts]
    for pattern_id, (name, times) in neighbours.items():
        others = episodes(times)
        led = [one for one in starts if _follows(one.at, others)]
        back = sum(_follows(other, moments) for other in others)
        if len(led) < MIN_EPISODES - 1 or back >= len(led):
            continue
        chance = _covered_share(others, moments[0] - APART, moments[-1])
        p_value = min(1.0, len(neighbours) * binomial_tail(len(led), len(starts), chance))
        if p_value < SIGNIFICANCE and (best is None or (p_value, pattern_id) < best[:2]):
            best = (p_value, pattern_id, name, led)
    if best is None:
        return None
    p_value, pattern_id, name, led = best
    counted = f"{len(led)} of {len(starts)} occurrences followed it within 24 hours"
    label = f"“{name}” ({pattern_id})" if name else pattern_id
    return Fact(
        "co_occurrence", f"{label}: {counted}.", _ids(led), p_value, f"{label} comes first: {counted}."
    )


def _follows(moment: datetime, earlier: Sequence[datetime]) -> bool:
    """Whether the last of these sorted times before the moment is at most 24 hours back."""
    before = bisect_left(earlier, moment)
    return before > 0 and moment - earlier[before - 1] <= APART


def _covered_share(times: Sequence[datetime], start: datetime, end: datetime) -> float:
    """Share of the span from start to end that lies within 24 hours after one of the times (24 hours apart)."""
    span = (end - start).total_seconds()
    covered = sum(max(0.0, (min(end, time + APART) - max(start, time)).total_seconds()) for time in times)
    return min(1.0, covered / span) if span > 0 else 1.0


def _plain_facts(past: Sequence[Occurrence], starts: Sequence[Occurrence], now: datetime) -> tuple[Fact, ...]:
    quiet = (now - past[-1].at).total_seconds() / DAY_SECONDS
    age = (now - past[0].at).total_seconds() / DAY_SECONDS
    text = f"{len(starts) - 1} recurrences at least 24 hours apart in {age:.1f} days."
    facts = [Fact("history", text, _ids(starts))]
    gaps = sorted(
        (later.at - earlier.at).total_seconds() / DAY_SECONDS for earlier, later in pairwise(starts)
    )
    text = f"Quiet for {quiet:.1f} days"
    text += f"; the median gap is {gaps[len(gaps) // 2]:.1f} days." if gaps else "."
    facts.append(Fact("last_gap", text, (past[-1].issue_id,)))
    return tuple(facts)


def _ids(occurrences: Iterable[Occurrence]) -> tuple[str, ...]:
    """The issues of the latest of these, oldest first."""
    return tuple(dict.fromkeys(one.issue_id for one in occurrences))[-MAX_ISSUES:]
