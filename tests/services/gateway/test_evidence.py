"""Explanations from evidence: what sets failures apart is said, with its issues; what chance gives is not."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from services.gateway.engine.evidence import Explanation, Failure, episodes, explain, explain_one
from services.gateway.engine.terms import Contrast, binomial_tail, distinctive

BEGIN = datetime(2026, 10, 1, tzinfo=UTC)
WORDS = [
    "pool",
    "disk",
    "certificate",
    "queue",
    "timeout",
    "refused",
    "search",
    "cache",
    "node",
    "pod",
    "lock",
    "replica",
    "index",
    "quota",
    "dns",
    "shard",
]


def drawn(rng: random.Random, number: int, pattern_id: str = "") -> Failure:
    """A failure like any other."""
    return Failure(
        issue_id=f"iss_{number:05}",
        title=" ".join(rng.sample(WORDS, 4)),
        occurred_at=BEGIN + timedelta(days=40 * rng.random()),
        source="jira",
        service=rng.choice("abcde"),
        team=rng.choice("xy"),
        pattern_id=pattern_id or f"pat_{rng.randrange(30)}",
        pattern_name="Something else",
    )


def others(seed: int = 1, count: int = 400) -> list[Failure]:
    rng = random.Random(seed)
    return [drawn(rng, number) for number in range(count)]


def nightly() -> list[Failure]:
    """Ten failures with a cause: words, a service and hours of their own, more of them lately."""
    return [
        Failure(
            issue_id=f"iss_m{number}",
            title=f"Connection pool exhausted on db-{number}",
            occurred_at=BEGIN + timedelta(days=day, hours=2, minutes=7 * number),
            source="jira",
            service="payments",
            error_type="PoolTimeout",
            pattern_id="pat_me",
        )
        for number, day in enumerate((0, 12, 30, 32, 33, 34, 35, 36, 37, 38))
    ]


def said(explanation: Explanation, kind: str) -> list[str]:
    return [statement.text for statement in explanation.statements if statement.kind == kind]


def test_what_sets_failures_apart_is_said_with_its_issues() -> None:
    """Words, dimensions, rate and hours, each with issues that show it."""
    members = nightly()
    explanation = explain(members, others())
    assert any("connection pool" in text for text in said(explanation, "terms"))
    assert said(explanation, "dimension") == [
        "The error type is “PoolTimeout” in 10 of 10, elsewhere in 0 of 400.",
        "The service is “payments” in 10 of 10, elsewhere in 0 of 400.",
    ]
    assert said(explanation, "rate")[0].startswith("It fails more often than it did: 6 of 8 earlier episodes")
    assert said(explanation, "time_of_day") == ["10 of 10 episodes began between 01:00 and 05:00 UTC."]
    known = {member.issue_id for member in members}
    assert all(s.issue_ids and known.issuperset(s.issue_ids) for s in explanation.statements)
    assert explanation.confidence == round(10 / 13 * (1 - 0.5**4), 2)
    assert explanation.summary == " ".join(statement.text for statement in explanation.statements[1:])


def test_what_fails_together_is_said_with_both_sides() -> None:
    """Another pattern minutes before most episodes; one that is always there says nothing."""
    members = nightly()
    cause = [
        replace(
            member,
            issue_id=f"iss_q{number}",
            occurred_at=member.occurred_at - timedelta(minutes=5),
            pattern_id="pat_q",
            pattern_name="Nightly export",
            service="export",
        )
        for number, member in enumerate(members[:8])
    ]
    constant = [
        replace(
            cause[0], issue_id=f"iss_c{n}", pattern_id="pat_c", occurred_at=BEGIN + timedelta(minutes=20 * n)
        )
        for n in range(3000)
    ]
    explanation = explain(members, [*others(), *cause, *constant])
    (text,) = said(explanation, "co_occurrence")
    assert text.startswith("“Nightly export” failed within 15 minutes of 8 of 10 episodes")
    cited = next(s.issue_ids for s in explanation.statements if s.kind == "co_occurrence")
    assert {"iss_m7", "iss_q7"} <= set(cited)


def test_chance_is_seldom_taken_for_a_cause() -> None:
    """Members drawn like everybody else: at most one explanation in ten finds anything at all."""
    found = 0
    for seed in range(60):
        rng = random.Random(seed)
        background = [drawn(rng, number) for number in range(300)]
        members = [drawn(rng, 1000 + n, "pat_me") for n in range(rng.choice((3, 5, 10, 30)))]
        found += len(explain(members, background).statements) > 1
    assert found <= 6


def test_too_little_is_said_to_be_too_little() -> None:
    """Two members, or nothing to compare with: no cause, no confidence."""
    two = explain(nightly()[:2], others())
    assert (two.confidence, two.summary) == (0.0, "Too few failures to compare: 2, and 3 are needed.")
    alone = explain(nightly()[:4], [])
    assert alone.confidence == 0.0
    assert alone.summary == "Nothing sets these failures apart from the workspace's others yet."


def test_a_single_failure_is_explained_by_what_failed_with_it() -> None:
    """Many of its service within an hour; one that stands alone stays unexplained."""
    issue = replace(nightly()[0], pattern_id=None, occurred_at=BEGIN + timedelta(days=20), service="a")
    lonely = explain_one(issue, others())
    assert (lonely.confidence, len(lonely.statements)) == (0.0, 1)
    around = [
        replace(issue, issue_id=f"iss_n{n}", occurred_at=issue.occurred_at + timedelta(minutes=n))
        for n in range(8)
    ]
    explained = explain_one(issue, [*others(), *around])
    assert said(explained, "neighbours")[0].startswith("8 other failures of service “a”")
    assert 0 < explained.confidence <= 0.25


def test_the_order_of_the_rows_changes_nothing() -> None:
    """The same failures, the same bytes."""
    members, background = nightly(), others()
    expected = explain(members, background)
    rng = random.Random(3)
    for _ in range(3):
        rng.shuffle(members)
        rng.shuffle(background)
        assert explain(members, background) == expected


def test_a_word_is_told_once() -> None:
    """Pairs of words stand for their words; what others say as well is left out."""
    found = distinctive(["disk full on node"] * 4, ["node is slow"] * 50, n_most=5)
    assert [term for term, _ in found] == ["disk full"]
    assert distinctive(["disk full"] * 4, [], n_most=5) == []


def test_the_numbers_are_those_of_the_textbooks() -> None:
    """Binomial tails, and a log odds ratio by hand."""
    assert binomial_tail(0, 9, 0.3) == pytest.approx(1)
    assert binomial_tail(5, 5, 0.5) == pytest.approx(1 / 32)
    assert Contrast(8, 10, 10, 100).z == pytest.approx(4.2, abs=0.1)
    assert Contrast(8, 10, 10, 100).lift == pytest.approx(0.8 / (10.5 / 101))


def test_a_burst_is_one_episode() -> None:
    """Failures less than an hour apart count once."""
    start = nightly()[0]
    burst = [replace(start, occurred_at=BEGIN + timedelta(minutes=m)) for m in (0, 40, 80, 141)]
    assert [failure.occurred_at for failure in episodes(burst)] == [
        BEGIN + timedelta(minutes=141),
        BEGIN,
    ]
