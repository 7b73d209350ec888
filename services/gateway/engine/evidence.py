"""Why failures happen, as far as rows tell: sentences that each name the issues they come from.

Every sentence has passed a test against what the workspace's other failures would give by chance. It is a function of
the failures alone: no clock, no chance, no model. docs/reference/explanation.md has the formulas.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from .terms import Contrast, binomial_tail, distinctive, words_of

VERSION: Final = "evidence@2026-11-22"
"""Dated: another text or another test is another version."""

Kind: TypeAlias = Literal[
    "extent", "terms", "dimension", "rate", "time_of_day", "co_occurrence", "neighbours"
]

MEMBERS_LEAST: Final = 3
"""Members before they are compared with others at all."""
CITED_MAX: Final = 5
"""Issues that one sentence names."""
DIMENSIONS: Final = ("error_type", "component", "service", "environment", "version", "team", "source")
_TERMS_MAX = 3
_DIMENSIONS_MAX = 4
_CO_OCCURRING_MAX = 3
_LIFT_LEAST = 1.5
_P_MOST = 0.01
_RECENT = timedelta(days=7)
_SPAN_LEAST = timedelta(days=14)
_EPISODE_GAP = timedelta(hours=1)
_EPISODES_LEAST = 5
_HOURS_WIDE = 4
_NEAR = timedelta(minutes=15)
_HOUR = timedelta(hours=1)


class Failure(Struct, frozen=True, kw_only=True):
    """An issue, as far as it says something about its kind. pattern_id, pattern_name: of its shown pattern."""

    issue_id: str
    title: str
    occurred_at: datetime
    source: str
    service: str | None = None
    component: str | None = None
    error_type: str | None = None
    environment: str | None = None
    version: str | None = None
    team: str | None = None
    pattern_id: str | None = None
    pattern_name: str | None = None


class Statement(Struct, frozen=True, kw_only=True):
    """One sentence, and up to five issues that it comes from, the newest first."""

    kind: Kind
    text: str
    issue_ids: tuple[str, ...]


class Explanation(Struct, frozen=True, kw_only=True):
    """What is known of a cause.

    summary: the sentences that single something out, or that nothing does.
    statements: every sentence, in the order of reading.
    confidence: how much stands behind it, 0 … 1: n / (n + 3) · (1 − 2^−k) for n members and k kinds of evidence that
        passed their test. Not a probability that it is right.
    """

    summary: str
    statements: tuple[Statement, ...]
    confidence: float
    version: str = VERSION


def explain(members: Sequence[Failure], others: Sequence[Failure]) -> Explanation:
    """What the failures of a pattern have in common and other failures of the workspace have not.

    members, others: the latest of each, at least one member; in any order.
    """
    ours = sorted(members, key=lambda failure: (failure.occurred_at, failure.issue_id), reverse=True)
    found: list[Statement] = []
    if len(ours) >= MEMBERS_LEAST:
        found += (*_terms(ours, others), *_dimensions(ours, others), *_rate(ours), *_hours(ours))
        found += _co_occurring(ours, others)
    n_kinds = len({statement.kind for statement in found})
    confidence = round(len(ours) / (len(ours) + 3) * (1 - 0.5**n_kinds), 2)
    return Explanation(
        summary=_summary(ours, found),
        statements=(_extent(ours), *found),
        confidence=confidence,
    )


def explain_one(issue: Failure, others: Sequence[Failure]) -> Explanation:
    """What is known of a failure that is of no pattern: what else failed with it.

    others: failures of the workspace around its time. At most 0.25 of confidence, as a single failure proves little.
    """
    near = [other for other in others if abs(other.occurred_at - issue.occurred_at) <= _HOUR]
    found = [
        *_neighbours(issue, near, others),
        *_co_occurring([issue], others),
    ]
    n_kinds = len({statement.kind for statement in found})
    alone = "It is the only failure of its kind so far; nothing singles out a cause yet."
    return Explanation(
        summary=" ".join(statement.text for statement in found) or alone,
        statements=(_extent([issue]), *found),
        confidence=round(0.25 * (1 - 0.5**n_kinds), 2),
    )


def _summary(ours: Sequence[Failure], found: Sequence[Statement]) -> str:
    if found:
        return " ".join(statement.text for statement in found)
    if len(ours) < MEMBERS_LEAST:
        return f"Too few failures to compare: {len(ours)}, and {MEMBERS_LEAST} are needed."
    return "Nothing sets these failures apart from the workspace's others yet."


def _extent(ours: Sequence[Failure]) -> Statement:
    last, first = ours[0].occurred_at, ours[-1].occurred_at
    if len(ours) == 1:
        text = f"It happened on {_day(last)}."
    elif _day(first) == _day(last):
        text = f"{len(ours)} failures on {_day(last)}."
    else:
        text = f"{len(ours)} failures from {_day(first)} to {_day(last)}."
    return Statement(kind="extent", text=text, issue_ids=_cited(ours))


def _terms(ours: Sequence[Failure], others: Sequence[Failure]) -> Iterator[Statement]:
    found = distinctive(
        [failure.title for failure in ours], [failure.title for failure in others], n_most=_TERMS_MAX
    )
    for term, contrast in found:
        having = [failure for failure in ours if term in words_of(failure.title)]
        yield Statement(kind="terms", text=f"Titles say “{term}” {contrast}.", issue_ids=_cited(having))


def _dimensions(ours: Sequence[Failure], others: Sequence[Failure]) -> Iterator[Statement]:
    found = []
    for name in DIMENSIONS:
        values = [value for failure in ours if (value := getattr(failure, name))]
        if not values:
            continue
        value = max(sorted(set(values)), key=values.count)
        elsewhere = sum(getattr(other, name) == value for other in others)
        contrast = Contrast(values.count(value), len(ours), elsewhere, len(others))
        if contrast.is_telling and contrast.lift >= _LIFT_LEAST:
            found.append((name, value, contrast))
    for name, value, contrast in sorted(found, key=lambda each: -each[2].z)[:_DIMENSIONS_MAX]:
        having = [failure for failure in ours if getattr(failure, name) == value]
        yield Statement(
            kind="dimension",
            text=f"The {name.replace('_', ' ')} is “{value}” {contrast}.",
            issue_ids=_cited(having),
        )


def _rate(ours: Sequence[Failure]) -> Iterator[Statement]:
    """Whether the last week holds more, or fewer, episodes than an even rate would put there.

    The first and the last one are where the time begins and ends, so only those between them count.
    """
    begun = episodes(ours)
    if len(begun) < _EPISODES_LEAST or begun[0].occurred_at - begun[-1].occurred_at < _SPAN_LEAST:
        return
    span = begun[0].occurred_at - begun[-1].occurred_at
    recent = [failure for failure in begun[1:-1] if failure.occurred_at > begun[0].occurred_at - _RECENT]
    n, even = len(begun) - 2, _RECENT / span
    if binomial_tail(len(recent), n, even) <= _P_MOST:
        word, cited = "more", recent
    elif 1 - binomial_tail(len(recent) + 1, n, even) <= _P_MOST:
        word, cited = "less", begun
    else:
        return
    text = (
        f"It fails {word} often than it did: {len(recent)} of {n} earlier episodes lie in the 7 days before the last"
        f" one, where an even rate over {span / timedelta(days=1):.0f} days puts {n * even:.1f}."
    )
    yield Statement(kind="rate", text=text, issue_ids=_cited(cited))


def _hours(ours: Sequence[Failure]) -> Iterator[Statement]:
    """Four hours of the day that hold more episodes than chance would, of the 24 that there are to choose from."""
    begun = episodes(ours)
    if len(begun) < _EPISODES_LEAST:
        return

    def within(start: int) -> list[Failure]:
        return [failure for failure in begun if (failure.occurred_at.hour - start) % 24 < _HOURS_WIDE]

    most = max(len(within(hour)) for hour in range(24))
    fullest = [hour for hour in range(24) if len(within(hour)) == most]
    start = fullest[len(fullest) // 2]
    inside = within(start)
    if 24 * binomial_tail(len(inside), len(begun), _HOURS_WIDE / 24) <= _P_MOST:
        end = (start + _HOURS_WIDE) % 24
        text = f"{len(inside)} of {len(begun)} episodes began between {start:02}:00 and {end:02}:00 UTC."
        yield Statement(kind="time_of_day", text=text, issue_ids=_cited(inside))


def _co_occurring(ours: Sequence[Failure], others: Sequence[Failure]) -> Iterator[Statement]:
    """Patterns that fail within 15 minutes of more episodes than the time that they cover would give."""
    if len(others) < 2:
        return
    first = min(other.occurred_at for other in others)
    last = max(other.occurred_at for other in others)
    begun = [failure for failure in episodes(ours) if first - _NEAR <= failure.occurred_at <= last + _NEAR]
    if not begun or last - first < 4 * _NEAR:
        return
    by_pattern: dict[str, list[Failure]] = {}
    for other in others:
        if other.pattern_id and other.pattern_id != ours[0].pattern_id:
            by_pattern.setdefault(other.pattern_id, []).append(other)
    found = []
    for pattern_id, theirs in by_pattern.items():
        met = [
            (failure, near)
            for failure in begun
            if (near := _nearest(failure, theirs)) and abs(near.occurred_at - failure.occurred_at) <= _NEAR
        ]
        covered = min(_covered(theirs) / (last - first + 2 * _NEAR), 1.0)
        chance = binomial_tail(len(met), len(begun), covered) * len(by_pattern)
        if met and chance <= _P_MOST:
            found.append((chance, pattern_id, met, len(begun) * covered))
    for _, _, met, expected in sorted(found, key=lambda each: each[:2])[:_CO_OCCURRING_MAX]:
        name = met[0][1].pattern_name or met[0][1].title
        text = (
            f"“{name}” failed within 15 minutes of {len(met)} of {len(begun)} episodes;"
            f" by chance it would of {expected:.1f}."
        )
        pairs = [failure.issue_id for pair in met for failure in pair]
        yield Statement(
            kind="co_occurrence", text=text, issue_ids=tuple(dict.fromkeys(pairs))[: 2 * CITED_MAX]
        )


def _neighbours(issue: Failure, near: Sequence[Failure], others: Sequence[Failure]) -> Iterator[Statement]:
    """Failures of the same service within an hour, where that many are not usual."""
    if issue.service is None or len(others) < 2:
        return
    times = [other.occurred_at for other in others]
    share = min(2 * _HOUR / max(max(times) - min(times), 2 * _HOUR), 1.0)
    same = [other for other in others if other.service == issue.service]
    close = [other for other in near if other.service == issue.service]
    if len(close) > 1 and binomial_tail(len(close), len(same), share) <= _P_MOST:
        text = (
            f"{len(close)} other failures of service “{issue.service}” happened within an hour of it;"
            f" by chance {len(same) * share:.1f} would."
        )
        newest = sorted(close, key=lambda each: (each.occurred_at, each.issue_id), reverse=True)
        yield Statement(kind="neighbours", text=text, issue_ids=_cited(newest))


def episodes(failures: Sequence[Failure]) -> list[Failure]:
    """The first failure of each run of failures less than an hour apart, the newest first."""
    begun: list[Failure] = []
    before: datetime | None = None
    for failure in sorted(failures, key=lambda each: (each.occurred_at, each.issue_id)):
        if before is None or failure.occurred_at - before >= _EPISODE_GAP:
            begun.append(failure)
        before = failure.occurred_at
    return begun[::-1]


def _covered(failures: Sequence[Failure]) -> timedelta:
    """How much time lies within 15 minutes of any of them."""
    total, until = timedelta(), None
    for at in sorted(failure.occurred_at for failure in failures):
        start = at - _NEAR if until is None or at - _NEAR > until else until
        until = at + _NEAR
        total += until - start
    return total


def _nearest(failure: Failure, theirs: Sequence[Failure]) -> Failure | None:
    def distance(other: Failure) -> tuple[timedelta, str]:
        return abs(other.occurred_at - failure.occurred_at), other.issue_id

    return min(theirs, key=distance, default=None)


def _cited(failures: Sequence[Failure]) -> tuple[str, ...]:
    return tuple(failure.issue_id for failure in failures[:CITED_MAX])


def _day(at: datetime) -> str:
    return at.strftime("%Y-%m-%d")
