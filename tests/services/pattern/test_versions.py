"""What people decided is law for every version of the linker, however eager, and for a grouper loaded from rows."""

from datetime import timedelta

import msgspec
import pytest
from contracts import ingest, pattern
from hypothesis import given, settings
from hypothesis import strategies as st
from testkit.builders import NOW

from services.pattern.engine.grouping import Grouper, Join, New
from services.pattern.engine.issues import Issue, features_of
from services.pattern.engine.weights import LinkerArtefact, shipped

Kind = pattern.ConstraintKind

EAGER = msgspec.structs.replace(shipped(), version="linker@eager", intercept=40.0)
"""Joins whatever is near at all."""
SHY = msgspec.structs.replace(shipped(), version="linker@shy", intercept=-40.0)
"""Joins nothing, suggests nothing."""
TITLES = (
    "Export wizard hangs on invoices",
    "Export wizard hangs on large invoices",
    "Export dialog hangs on invoices",
    "Login form loses the password",
    "Login form loses my password again",
    "Print preview of invoices is blank",
)


def issue(number: int, title: str) -> Issue:
    return Issue(
        issue_id=f"iss_{number}",
        title=title,
        body=f"Since the update: {title}.",
        source="jira",
        severity=ingest.Severity.P3,
        occurred_at=NOW + timedelta(minutes=number),
        service="editor",
    )


def take(grouper: Grouper, each: Issue) -> Join | New:
    decision = grouper.assign(each)
    grouper.link(decision.member(each), exemplar=decision.exemplar, title=each.title)
    return decision


titles = st.sampled_from(range(len(TITLES)))
constraints = st.lists(st.tuples(titles, titles, st.sampled_from(list(Kind))), max_size=12)


@settings(max_examples=25, deadline=None)
@given(constraints, st.lists(titles, min_size=1, max_size=8))
@pytest.mark.parametrize("linker", [shipped(), EAGER, SHY], ids=["shipped", "eager", "shy"])
def test_no_version_overrules_a_person(
    linker: LinkerArtefact, decided: list[tuple[int, int, pattern.ConstraintKind]], later: list[int]
) -> None:
    """Whatever must be together is, whatever must not never is, nor is it suggested; after a restart neither."""
    grouper = Grouper("ws", linker=SHY)
    seeds = [take(grouper, issue(number, title)) for number, title in enumerate(TITLES)]
    keys = [features_of(issue(0, title)).key for title in TITLES]
    for of, into, kind in decided:
        grouper.constrain(keys[of], seeds[into].pattern_id, kind)
    # The version changes and everything is grouped anew, by one that grew and by one that was loaded.
    ours = Grouper.load("ws", grouper.snapshot(), linker=linker)
    theirs = Grouper.load("ws", ours.snapshot(), linker=linker)
    for number, which in enumerate(later, 100):
        variant = issue(number, TITLES[which])
        decision = take(ours, variant)
        assert decision == take(theirs, variant)
        latest = {into: kind for of, into, kind in decided if of == which}
        nevers = {seeds[into].pattern_id for into, kind in latest.items() if kind is Kind.CANNOT_LINK}
        assert decision.pattern_id not in nevers
        if isinstance(decision, New):
            assert nevers.isdisjoint(each.pattern_id for each in decision.suggestions)
        must = ours.must_of(keys[which])
        assert must is None or decision.pattern_id == must
    assert ours.snapshot() == theirs.snapshot()


def test_the_versions_of_this_test_differ_where_nobody_decided() -> None:
    """The eager one joins near texts, the shy one joins none, so the property above says something."""
    joined = {}
    for linker in (EAGER, SHY):
        grouper = Grouper("ws", linker=linker)
        joined[linker.version] = len({take(grouper, issue(n, t)).pattern_id for n, t in enumerate(TITLES)})
    assert joined == {"linker@eager": 4, "linker@shy": len(TITLES)}
