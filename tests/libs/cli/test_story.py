"""The demo's story."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

from causeloop.story import RECURRING, WEEKS, live, past

NOW = datetime(2026, 3, 5, 16, 0, tzinfo=UTC)


def test_the_same_moment_and_seed_tell_the_same_story() -> None:
    """So that an interrupted telling can be repeated."""
    assert past(NOW) == past(NOW)
    assert past(NOW) != past(NOW, seed=1)


def test_about_four_hundred_failures_lie_in_the_last_weeks_in_order() -> None:
    """Nothing in the future, nothing too old, no id twice."""
    reports = past(NOW)
    times = [report.source_created_at for report in reports if report.source_created_at]
    assert 300 <= len(reports) <= 500
    assert sorted(times) == times
    assert times[0] >= NOW - timedelta(weeks=WEEKS, days=1)
    assert times[-1] <= NOW
    assert len(reports) == len({(report.source, report.external_id) for report in reports})


def test_every_failure_comes_back_often_enough_to_be_a_pattern() -> None:
    """And comes from several sources."""
    reports = past(NOW)
    counts = Counter(report.error_type for report in reports if report.error_type)
    assert {failure.error_type for failure in RECURRING} == set(counts)
    assert min(counts.values()) >= 6
    assert len({report.source for report in reports}) >= 6


def test_old_failures_are_resolved_and_fresh_ones_are_not() -> None:
    """As in life."""
    for report in past(NOW):
        assert report.source_created_at is not None
        assert (NOW - report.source_created_at > timedelta(days=2)) == (report.status == "resolved")


def test_live_failures_are_new_each_time() -> None:
    """Each has an id and a time of its own."""
    rng = random.Random(1)
    told = [live(NOW + timedelta(seconds=second), rng) for second in range(50)]
    assert len({(report.source, report.external_id) for report in told}) == 50
    assert all(report.title and "{" not in report.title + (report.body or "") for report in told)
