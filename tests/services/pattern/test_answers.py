"""What people answer when they are asked, and what they are asked when they contradict each other."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from contracts import ingest, pattern
from runtime.errors import StateConflictError
from testkit.builders import NOW

from services.pattern import commands
from services.pattern.commands import Decided
from services.pattern.engine.grouping import Grouper
from services.pattern.engine.issues import Issue
from services.pattern.engine.memory import Settings

from .ledger import Ledger

Kind, Side = pattern.ConstraintKind, pattern.Side
LAG = "Replication lag of the primary database cluster is above its limit"
NEARLY = "Replication lag of the primary database cluster is above the limit"
CARD = "Payment provider declined the request after a timeout in checkout"
DISK = "Disk of the build machine is full"


class Desk:
    """A workspace at which people sit; everything they do is stored in the ledger."""

    def __init__(self, *, confidence_threshold: float = 0.97) -> None:
        self.ledger = Ledger(settings=Settings(confidence_threshold=confidence_threshold))
        self.grouper = Grouper.load("ws", self.ledger.snapshot())

    def report(self, *titles: str, at: timedelta = timedelta(0)) -> list[str]:
        """Report a failure for each title; their issues' ids."""
        issues = []
        for title in titles:
            number = len(self.ledger.issues)
            issue = Issue(
                issue_id=f"iss_{number:04d}",
                title=title,
                source="datadog",
                severity=ingest.Severity.P2,
                occurred_at=NOW + at + timedelta(minutes=number),
                service="checkout",
            )
            self.ledger.issues[issue.issue_id] = issue
            self.ledger.newest_at = max(self.ledger.newest_at, issue.occurred_at)
            issues.append(issue)
        self.grouper.newest_at = self.ledger.newest_at
        self.store(commands.group(self.grouper, issues))
        return [issue.issue_id for issue in issues]

    def restart(self) -> None:
        """Go on with what a leader would load from the rows."""
        self.grouper = Grouper.load("ws", self.ledger.snapshot())

    def store(self, decided: Sequence[Decided]) -> list[pattern.Event]:
        self.ledger.store(self.grouper, decided)
        return [each.event for each in decided]

    def pattern_of(self, issue_id: str) -> str:
        return self.ledger.members[issue_id].pattern_id or ""

    def link(self, issue_id: str, pattern_id: str) -> list[pattern.Event]:
        command = pattern.LinkIssue(pattern_id=pattern_id, issue_id=issue_id)
        return self.store(commands.link_issue(self.grouper, command, self.ledger.gathered([issue_id])))

    def unlink(self, issue_id: str) -> list[pattern.Event]:
        command = pattern.UnlinkIssue(issue_id=issue_id)
        return self.store(commands.unlink_issue(self.grouper, command, self.ledger.gathered([issue_id])))

    def merge(self, target: str, source: str) -> list[pattern.Event]:
        command = pattern.MergePatterns(target_pattern_id=target, source_pattern_id=source)
        return self.store(commands.merge_patterns(self.grouper, command, self.ledger.gathered([])))

    def answer(self, issue_id: str, *, is_accepted: bool) -> list[pattern.Event]:
        """Answer the first suggestion for an issue."""
        begun, suggested = next((b, s) for i, b, s in self.ledger.suggested if i == issue_id)
        command = pattern.AnswerSuggestion(
            pattern_id=suggested, issue_id=issue_id, begun_pattern_id=begun, is_accepted=is_accepted
        )
        return self.store(commands.answer_suggestion(self.grouper, command, self.ledger.gathered([issue_id])))

    def choose(self, asked: pattern.DecisionsContradicted, keep: Side) -> list[pattern.Event]:
        command = pattern.AnswerContradiction(
            contradiction_id=asked.contradiction_id,
            pattern_id=asked.pattern_id,
            grouping_key=asked.grouping_key,
            earlier=asked.earlier,
            keep=keep,
        )
        return self.store(commands.answer_contradiction(self.grouper, command, self.ledger.gathered([])))


def asked_in(events: Sequence[pattern.Event]) -> list[pattern.DecisionsContradicted]:
    return [event for event in events if isinstance(event, pattern.DecisionsContradicted)]


def test_an_accepted_suggestion_teaches_and_takes_the_unseen_rest_along() -> None:
    """The issue is linked for good; what was in the candidate with it, and what comes later, follow by themselves."""
    desk = Desk()
    known, first, second = desk.report(LAG, NEARLY, NEARLY)
    begun = desk.pattern_of(first)
    assert begun == desk.pattern_of(second) != desk.pattern_of(known)
    events = desk.answer(first, is_accepted=True)
    target = desk.pattern_of(known)
    link = next(event for event in events if isinstance(event, pattern.IssuesLinked)).links[0]
    assert (first, pattern.LinkMethod.HUMAN, 1.0) == (link.issue_id, link.method, link.score)
    desk.restart()
    (later,) = desk.report(NEARLY)
    assert [target] * 3 == [desk.pattern_of(each) for each in (first, second, later)]
    assert desk.ledger.patterns[begun].merged_into == target
    assert desk.answer(first, is_accepted=True) == []


def test_a_rejected_suggestion_is_never_made_again() -> None:
    """The issue stays where it is; a later one that is just as near is neither joined nor suggested to it."""
    desk = Desk()
    known, first = desk.report(LAG, NEARLY)
    (event,) = desk.answer(first, is_accepted=False)
    assert isinstance(event, pattern.LinkConstrained) and event.kind is Kind.CANNOT_LINK
    desk.unlink(first)
    desk.restart()
    (later,) = desk.report(NEARLY)
    assert desk.pattern_of(later) not in ("", desk.pattern_of(known))
    assert desk.pattern_of(known) not in [s for i, _, s in desk.ledger.suggested if i == later]
    assert desk.answer(first, is_accepted=False) == []
    with pytest.raises(StateConflictError, match="left the pattern"):
        desk.answer(first, is_accepted=True)


def test_a_suggestion_lapses_when_its_issue_or_its_pattern_moves() -> None:
    """Merged away, or linked elsewhere: there is nothing to answer any more, and it says why."""
    desk = Desk()
    known, first, other = desk.report(LAG, NEARLY, CARD)
    desk.merge(desk.pattern_of(other), desk.pattern_of(known))
    with pytest.raises(StateConflictError, match="was merged into"):
        desk.answer(first, is_accepted=False)
    desk = Desk()
    known, first, other = desk.report(LAG, NEARLY, CARD)
    desk.link(first, desk.pattern_of(other))
    with pytest.raises(StateConflictError, match="left the pattern"):
        desk.answer(first, is_accepted=True)


@pytest.mark.parametrize("keep", list(Side))
def test_a_link_against_an_unlink_is_asked_about(keep: Side) -> None:
    """The later decision holds until somebody chooses; the choice decides for later issues and moves nobody."""
    desk = Desk()
    stays, out = desk.report(CARD, CARD)
    target = desk.pattern_of(stays)
    desk.unlink(out)
    (apart,) = desk.report(CARD)
    assert desk.pattern_of(apart) != target
    (asked,) = asked_in(desk.link(apart, target))
    assert (asked.earlier.kind, asked.earlier.issue_id, asked.earlier.decided_by) == (
        Kind.CANNOT_LINK,
        out,
        "usr_ann",
    )
    assert (asked.later.kind, asked.later.issue_id) == (Kind.MUST_LINK, apart)
    (joins,) = desk.report(CARD)
    assert desk.pattern_of(joins) == target
    desk.choose(asked, keep)
    desk.restart()
    (later,) = desk.report(CARD)
    assert (desk.pattern_of(later) == target) == (keep is Side.LATER)
    assert desk.pattern_of(apart) == target
    if keep is Side.EARLIER:
        with pytest.raises(StateConflictError, match="nothing to answer"):
            desk.choose(asked, keep)


def test_to_change_ones_mind_is_no_contradiction() -> None:
    """Unlinking an issue and linking the same one again takes the first decision back."""
    desk = Desk()
    stays, moved = desk.report(CARD, CARD)
    target = desk.pattern_of(stays)
    assert not asked_in(desk.unlink(moved))
    assert not asked_in(desk.link(moved, target))
    assert not asked_in(desk.unlink(moved))


def test_a_key_cannot_be_promised_to_two_patterns_in_silence() -> None:
    """Two issues with one key, put into two patterns by hand: somebody has to say where the next one goes."""
    desk = Desk()
    first, second, lag, disk = desk.report(CARD, CARD, LAG, DISK)
    assert not asked_in(desk.link(first, desk.pattern_of(lag)))
    (asked,) = asked_in(desk.link(second, desk.pattern_of(disk)))
    assert [ruling.pattern_id for ruling in (asked.earlier, asked.later)] == [
        desk.pattern_of(first),
        desk.pattern_of(second),
    ]
    assert asked.earlier.kind is asked.later.kind is Kind.MUST_LINK


@pytest.mark.parametrize("keep", list(Side))
def test_an_answer_never_overrules_a_decision_that_nobody_was_asked_about(keep: Side) -> None:
    """Decided a third time: the first question is over, whichever side is chosen, and the last decision stands."""
    desk = Desk()
    *cards, lag, disk, nearly = desk.report(
        CARD, CARD, CARD, LAG, DISK, "Certificate of the gateway has expired"
    )
    desk.link(cards[0], desk.pattern_of(lag))
    (first,) = asked_in(desk.link(cards[1], desk.pattern_of(disk)))
    (second,) = asked_in(desk.link(cards[2], desk.pattern_of(nearly)))
    desk.restart()
    with pytest.raises(StateConflictError, match="decided anew"):
        desk.choose(first, keep)
    (later,) = desk.report(CARD)
    assert desk.pattern_of(later) == desk.pattern_of(nearly)
    assert desk.choose(second, keep)
    (later,) = desk.report(CARD)
    assert desk.pattern_of(later) == desk.pattern_of(disk if keep is Side.EARLIER else nearly)


def test_a_pattern_that_was_ruled_out_since_is_not_taken_again() -> None:
    """A "must", then another one, then a "never" about the first pattern: the first is no answer any more."""
    desk = Desk()
    *cards, lag, disk = desk.report(CARD, CARD, CARD, LAG, DISK)
    desk.link(cards[0], desk.pattern_of(lag))
    (asked,) = asked_in(desk.link(cards[1], desk.pattern_of(disk)))
    desk.unlink(cards[0])
    with pytest.raises(StateConflictError, match="decided anew"):
        desk.choose(asked, Side.EARLIER)
    assert desk.choose(asked, Side.LATER)


def test_a_merge_asks_about_the_unlink_that_it_overrules_and_about_no_other() -> None:
    """What was taken out of one part and is in the other is asked about; what neither brings stays out for good."""
    desk = Desk()
    card, card_out, lag, lag_too = desk.report(CARD, CARD, LAG, LAG)
    target, source = desk.pattern_of(card), desk.pattern_of(lag)
    desk.unlink(card_out)
    desk.unlink(lag_too)
    (apart,) = desk.report(CARD)
    elsewhere = desk.pattern_of(apart)
    assert elsewhere not in (target, source)
    assert not asked_in(desk.merge(target, source))
    desk.restart()
    assert target not in [desk.pattern_of(each) for each in desk.report(CARD, LAG)]
    (asked,) = asked_in(desk.merge(target, elsewhere))
    assert (asked.earlier.issue_id, asked.later.merged_pattern_id) == (card_out, elsewhere)
    desk.choose(asked, Side.EARLIER)
    desk.restart()
    (later,) = desk.report(CARD)
    assert desk.pattern_of(later) != target
    assert desk.pattern_of(apart) == target
