"""Reports of people that are little but a title: one rare word in common is no reason to join."""

from copy import deepcopy
from datetime import timedelta
from itertools import product

import pytest
from contracts import ingest
from msgspec.structs import replace
from testkit.builders import NOW

from services.pattern.engine.grouping import Grouper, Join, New
from services.pattern.engine.issues import Issue

OTHER_CAUSES = [
    ("Ledger connection pool exhausted", "Ledger certificate expired"),
    ("Checkout times out on payment", "Checkout shows wrong currency"),
    ("Login page returns 500", "Login page layout broken on mobile"),
    ("Login page returns 500", "Login page returns 404"),
    ("Payment gateway timeout", "Payment gateway refunds duplicated"),
    ("Search index out of date", "Search results in wrong order"),
    ("Inventory sync job fails", "Inventory counts negative after import"),
    ("Kafka consumer lag on orders topic", "Kafka broker disk full"),
    ("Kafka consumer lag on orders topic", "Kafka consumer lag on payments topic"),
    ("Password reset email not sent", "Password reset link expired immediately"),
    ("Redis memory eviction of sessions", "Redis replication broken"),
    ("Nightly billing export empty", "Nightly billing export slow"),
    ("Webhook deliveries delayed", "Webhook signature invalid"),
    ("Invoice PDF missing logo", "Invoice PDF shows wrong VAT"),
    ("Dashboard shows no data", "Dashboard export fails"),
    ("Checkout latency high", "Checkout error rate high"),
    ("Ledger error rate too high", "Checkout error rate too high"),
]
SAME_CAUSE = [
    ("Ledger connection pool exhausted", "Connection pool of ledger exhausted again"),
    ("Checkout times out on payment", "Payment times out at checkout"),
    ("Kafka consumer lag on orders topic", "Consumer lag on Kafka topic orders growing"),
    ("Password reset email not sent", "Password reset emails are not being sent"),
    ("Webhook deliveries delayed", "Delayed webhook deliveries"),
    ("Certificate of ledger expired", "Ledger certificate expired"),
    ("Invoice PDF shows wrong VAT", "Wrong VAT shown on invoice PDF"),
    ("Mobile app crashes on startup", "Mobile app crashing at startup"),
    ("Database backup missing for Sunday", "Database backup for Sunday is missing"),
    ("Order 481516 stuck in pending", "Order 481999 stuck in pending"),
]
FILLERS = [
    f"{thing} {fails} {when}"
    for when, fails, thing in product(
        ("during nightly run", "for new customers", "after the upgrade", "behind the proxy", "at midnight"),
        ("fails", "hangs", "is slow", "loses messages", "rejects uploads", "drops sessions"),
        (
            "Billing",
            "Cart",
            "Profile",
            "Mailer",
            "Scheduler",
            "Catalog",
            "Pricing",
            "Warehouse",
            "Auth",
            "Printing",
        ),
    )
]


def report(number: int, title: str, body: str = "") -> Issue:
    return Issue(
        issue_id=f"iss_{number}",
        title=title,
        body=body,
        source="jira",
        severity=ingest.Severity.P2,
        occurred_at=NOW + timedelta(minutes=number),
    )


def enter(grouper: Grouper, issue: Issue) -> Join | New:
    """Decide and link."""
    decision = grouper.assign(issue)
    grouper.link(decision.member(issue), exemplar=decision.exemplar, title=issue.title)
    return decision


@pytest.fixture(scope="module", params=[0, 20, 300])
def workspace(request: pytest.FixtureRequest) -> Grouper:
    """One with so many reports of other services."""
    grouper = Grouper("ws")
    for number in range(request.param):
        enter(grouper, report(number, FILLERS[number]))
    return grouper


def after(workspace: Grouper, first: Issue, second: Issue) -> tuple[str, Join | New]:
    """The pattern of the first issue, and what is decided on the second one."""
    grouper = deepcopy(workspace)
    pattern_id = enter(grouper, first).pattern_id
    return pattern_id, enter(grouper, second)


def test_other_causes_in_one_service_stay_apart(workspace: Grouper) -> None:
    """A wrong merge hides a failure: a person is asked at most, with a score below any careful bar."""
    for one, other in OTHER_CAUSES:
        pattern_id, decision = after(workspace, report(900, one), report(901, other))
        assert isinstance(decision, New), (one, other)
        assert all(each.score <= 0.6 for each in decision.suggestions if each.pattern_id == pattern_id)


def test_one_cause_joins_in_other_words_order_and_tense(workspace: Grouper) -> None:
    """Every word of the shorter title is there, however it is inflected."""
    for one, other in SAME_CAUSE:
        pattern_id, decision = after(workspace, report(900, one), report(901, other))
        assert (decision.pattern_id, type(decision)) == (pattern_id, Join), (one, other)


def test_bodies_of_other_failures_do_not_join_titles_with_a_word_in_common(workspace: Grouper) -> None:
    """Bodies that have nothing in common are no evidence."""
    first = report(
        900, "Checkout times out on payment", "Customers see a spinner for thirty seconds, then an error."
    )
    second = report(
        901, "Checkout shows wrong currency", "German visitors get prices in dollars since Tuesday morning."
    )
    _, decision = after(workspace, first, second)
    assert isinstance(decision, New)


def test_of_titles_that_differ_in_a_number_each_is_suggested_at_least() -> None:
    """Among several alike none stands out, so none is joined; but a person is asked."""
    grouper = Grouper("ws")
    for number in range(6):
        title = f"Payment gateway times out for order {1000 + number}"
        issue = replace(report(number, title, "timeout waiting for psp answer"), service="checkout")
        decision = enter(grouper, issue)
        assert number == 0 or isinstance(decision, Join) or decision.suggestions, number
