"""What a workspace's other patterns say of one that was fixed: how long gaps are, and how forecasts of rates come true. Pure.

The formulas are in docs/reference/proof.md.
"""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from services.recommendation.engine.proof import (
    DEFAULT_GAP_DAYS,
    LEDGER_DAYS,
    baseline_of,
    days_between,
    episodes,
)

GAP_BOUNDS_DAYS: Final = (1.0, 90.0)
PATTERNS_MIN: Final = 8
"""Patterns that came back, below which a workspace's own gap is not known."""
RECURRENCES_MIN: Final = 2
"""Recurrences that a pattern must have had before the look back, as those have that people fix."""
PRIOR_RECURRENCES: Final = 4.0
"""Recurrences that the ratio of 1 is worth: with fewer seen, rates are believed as they are."""
DRIFT_VARIANCE: Final = 0.1
"""Relative variance of the ratio from one quarter to the next, as seen in public incident and bug histories."""
HALF: Final = 0.5
GONE: Final = 0.8
"""A pattern that has been quiet so long that this confidence is reached had ended before anybody fixed it."""


class Reference(Struct, frozen=True, kw_only=True):
    """What is expected of patterns that nobody fixed.

    gap_days: median time to the first recurrence. ratio: recurrences seen in 90 days over those that the rate before had
    foretold; patterns die out, so it is often below 1. ratio_variance: of the ratio, relative to its square.
    dispersion: how much more single patterns scatter around that than the model says, at least 1.
    """

    gap_days: float = DEFAULT_GAP_DAYS
    ratio: float = 1.0
    ratio_variance: float = 1.0 / PRIOR_RECURRENCES + DRIFT_VARIANCE
    dispersion: float = 1.0
    n_patterns: int = 0


class _Control(Struct, frozen=True):
    """A pattern at the landmark, and what became of it. foretold: by its rate alone."""

    shape: float
    foretold: float
    seen: int


def reference_of(patterns: Sequence[Sequence[datetime]], *, now: datetime) -> Reference:
    """From patterns without a fix: when each failed, up to now. The same failures give the same bytes."""
    counted = [episodes(sorted(at for at in times if at <= now)) for times in patterns]
    counted = [times for times in counted if times]
    gap = _median_first_gap(counted, now=now)
    controls = [
        control for times in counted if (control := _control(times, now=now, gap_days=gap)) is not None
    ]
    seen = sum(control.seen for control in controls)
    foretold = math.fsum(control.foretold for control in controls)
    ratio = (seen + PRIOR_RECURRENCES) / (foretold + PRIOR_RECURRENCES)
    return Reference(
        gap_days=gap,
        ratio=round(ratio, 6),
        ratio_variance=round(1.0 / (seen + PRIOR_RECURRENCES) + DRIFT_VARIANCE, 6),
        dispersion=round(_dispersion(controls, ratio), 6),
        n_patterns=len(controls),
    )


def _control(times: Sequence[datetime], *, now: datetime, gap_days: float) -> _Control | None:
    """A pattern as it was 90 days ago; None unless it was one that people would have fixed."""
    landmark = now - timedelta(days=LEDGER_DAYS)
    before = [at for at in times if at <= landmark]
    if not is_credited(before, at=landmark, gap_days=gap_days):
        return None
    baseline = baseline_of(before, fixed_at=landmark, gap_days=gap_days)
    return _Control(baseline.shape, baseline.shape / baseline.days * LEDGER_DAYS, len(times) - len(before))


def _dispersion(controls: Sequence[_Control], ratio: float) -> float:
    """Squared errors over the model's variance, drawn to 1 by as many patterns as the ratio is by recurrences."""
    squares = math.fsum((each.seen - ratio * each.foretold) ** 2 for each in controls)
    modelled = math.fsum(
        ratio * each.foretold + (ratio * each.foretold) ** 2 / each.shape for each in controls
    )
    if modelled <= 0.0:
        return 1.0
    n = len(controls)
    return max(1.0, (squares / modelled * n + PRIOR_RECURRENCES) / (n + PRIOR_RECURRENCES))


def is_credited(times: Sequence[datetime], *, at: datetime, gap_days: float) -> bool:
    """Whether a fix at a moment is one that the ratio speaks of: the pattern had come back often enough and was alive.

    times: its failures until then where the fix was made, oldest first.
    """
    return len(episodes(times)) > RECURRENCES_MIN and was_active(times, at=at, gap_days=gap_days)


def was_active(times: Sequence[datetime], *, at: datetime, gap_days: float) -> bool:
    """Whether a pattern was still alive at a moment, by its own rate up to its last failure.

    times: its failures until then, oldest first. One that had ended has nothing left to prevent, so no fix is credited.
    """
    if not times:
        return False
    baseline = baseline_of(times, fixed_at=times[-1], gap_days=gap_days)
    return baseline.confidence(days_between(times[-1], at)) < GONE


def _median_first_gap(counted: Sequence[Sequence[datetime]], *, now: datetime) -> float:
    """Kaplan-Meier: a pattern that has not come back yet counts for as long as it had the time to."""
    gaps = sorted(
        (days_between(times[0], times[1]), 0) if len(times) > 1 else (days_between(times[0], now), 1)
        for times in counted
    )
    if sum(1 for _, is_open in gaps if not is_open) < PATTERNS_MIN:
        return DEFAULT_GAP_DAYS
    least, most = GAP_BOUNDS_DAYS
    surviving = 1.0
    for i, (gap, is_open) in enumerate(gaps):
        if not is_open:
            surviving *= 1.0 - 1.0 / (len(gaps) - i)
        if surviving <= HALF or math.isclose(surviving, HALF):
            return min(max(gap, least), most)
    return most
