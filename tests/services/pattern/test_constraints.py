"""Whatever people decide, in whatever order and with whatever restarts: the grouper obeys, and forgets nothing."""

from datetime import timedelta

import msgspec
from contracts import ingest, pattern
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runtime.errors import AppError
from testkit.builders import NOW

from services.pattern import commands
from services.pattern.engine.grouping import Grouper
from services.pattern.engine.issues import Issue, features_of
from services.pattern.engine.memory import Settings
from services.pattern.state import stamp

from .ledger import Ledger

# Three families of texts; within one, the texts are close enough to be one pattern.
TITLES = (
    "Replication lag of the primary database cluster is above its limit",
    "Replication lag of the primary database cluster is above the limit",
    "Replication lag of the secondary database cluster is above the limit",
    "Payment provider declined the request after a timeout in checkout",
    "Payment provider declined this request after a timeout in checkout",
    "Certificate of the public endpoint expired",
    "...",
)
SERVICES = ("checkout", None)
COMPONENTS = ("api", "worker")

reports = st.tuples(
    st.just("report"),
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 1), st.integers(0, 1), st.integers(0, 9)),
        min_size=1,
        max_size=4,
    ),
)
choices = st.integers(0, 1_000)
decisions = st.one_of(
    st.tuples(st.just("link"), choices, choices),
    st.tuples(st.just("unlink"), choices, choices),
    st.tuples(st.just("merge"), choices, choices),
    st.tuples(st.just("split"), choices, st.lists(choices, min_size=1, max_size=3)),
    st.tuples(st.just("close"), choices, choices),
    st.tuples(st.sampled_from(("accept", "reject", "keep earlier", "keep later")), choices, choices),
    st.tuples(st.just("rename"), choices, choices),
)
steps = st.lists(
    st.one_of(reports, decisions, decisions, st.tuples(st.just("reload"))), min_size=8, max_size=20
)


class World:
    """A grouper that is loaded anew at random, beside one that never is, beside the plain fold of the log."""

    def __init__(self) -> None:
        # Certainty that most pairs of one family lack, so that they are suggested.
        self.ledger = Ledger(settings=Settings(confidence_threshold=0.97))
        self.kept, self.loaded = (Grouper.load("ws", self.ledger.snapshot()) for _ in range(2))

    def step(self, step: tuple[object, ...]) -> None:
        match step:
            case ("report", list(items)):
                self._report(items)
            case ("reload",):
                self.loaded = Grouper.load("ws", self.ledger.snapshot())
            case (str(name), int(first), second):
                self._decide(name, first, second)

    def check(self) -> None:
        expected = self.ledger.snapshot()
        assert expected == self.kept.snapshot()
        assert msgspec.json.encode(expected) == msgspec.json.encode(self.loaded.snapshot())

    def _report(self, items: list[tuple[int, int, int, int]]) -> None:
        issues = []
        for title, service, component, days in items:
            number = len(self.ledger.issues)
            issue = Issue(
                issue_id=f"iss_{number:04d}",
                title=TITLES[title],
                source="datadog",
                severity=ingest.Severity.P2,
                occurred_at=NOW - timedelta(days=days, minutes=number),
                service=SERVICES[service],
                component=COMPONENTS[component],
            )
            issues.append(issue)
            self.ledger.issues[issue.issue_id] = issue
            self.ledger.newest_at = max(self.ledger.newest_at, issue.occurred_at)
        self.kept.newest_at = self.loaded.newest_at = self.ledger.newest_at
        rules = {
            issue.issue_id: (self.ledger.must(key), self.ledger.cannot(key))
            for issue in issues
            for key in [features_of(issue).key]
        }
        self._store(lambda grouper: commands.group(grouper, issues))
        for issue_id, (must, cannot) in rules.items():
            found = self.ledger.members[issue_id].pattern_id
            assert must is None or found == must
            assert found not in cannot
            assert found in self.ledger.living()

    def _decide(self, name: str, first: int, second: object) -> None:
        living, members = self.ledger.living(), sorted(self.ledger.members)
        if not living:
            return
        chosen = living[first % len(living)]
        number = second if isinstance(second, int) else 0
        issue_id = members[number % len(members)]
        gathered = self.ledger.gathered([issue_id])
        match name:
            case "link":
                link = pattern.LinkIssue(pattern_id=chosen, issue_id=issue_id)
                self._store(lambda grouper: commands.link_issue(grouper, link, gathered))
            case "unlink":
                unlink = pattern.UnlinkIssue(issue_id=issue_id)
                self._store(lambda grouper: commands.unlink_issue(grouper, unlink, gathered))
            case "merge":
                merge = pattern.MergePatterns(
                    target_pattern_id=chosen, source_pattern_id=living[number % len(living)]
                )
                self._store(lambda grouper: commands.merge_patterns(grouper, merge, gathered))
            case "split":
                assert isinstance(second, list)
                own = sorted(member.issue_id for member in self.ledger.of(chosen))
                moved = (
                    tuple(dict.fromkeys(own[each % len(own)] for each in second)) if own else ("iss_0000",)
                )
                split = pattern.SplitPattern(pattern_id=chosen, issue_ids=moved)
                found = self.ledger.gathered(moved)
                self._store(lambda grouper: commands.split_pattern(grouper, split, found))
            case "close":
                close = pattern.ClosePattern(pattern_id=chosen, closure_note="Done.")
                self._store(lambda grouper: commands.close_pattern(grouper, close, gathered, now=NOW))
            case "accept" | "reject":
                self._answer(first, is_accepted=name == "accept")
            case "keep earlier" | "keep later":
                self._choose(first, keep=pattern.Side(name.removeprefix("keep ")))
            case "rename":
                update = pattern.UpdatePattern(pattern_id=chosen, name=f"Name {number}")
                self._store(lambda grouper: commands.update_pattern(grouper, update, gathered))

    def _answer(self, number: int, *, is_accepted: bool) -> None:
        """Accepted: it is a member and stays one; rejected: no issue like it ever joins."""
        if not self.ledger.suggested:
            return
        issue_id, begun, suggested = self.ledger.suggested[number % len(self.ledger.suggested)]
        answer = pattern.AnswerSuggestion(
            pattern_id=suggested, issue_id=issue_id, begun_pattern_id=begun, is_accepted=is_accepted
        )
        gathered = self.ledger.gathered([issue_id])
        if not self._store(lambda grouper: commands.answer_suggestion(grouper, answer, gathered)):
            return
        member = self.ledger.members[issue_id]
        if is_accepted:
            assert member.pattern_id == suggested == self.ledger.must(member.grouping_key)
        else:
            assert suggested in self.ledger.cannot(member.grouping_key)

    def _choose(self, number: int, *, keep: pattern.Side) -> None:
        """The earlier decision, once chosen, is in force; no membership changes."""
        if not self.ledger.contradictions:
            return
        asked = self.ledger.contradictions[number % len(self.ledger.contradictions)]
        answer = pattern.AnswerContradiction(
            contradiction_id=asked.contradiction_id,
            pattern_id=asked.pattern_id,
            grouping_key=asked.grouping_key,
            earlier=asked.earlier,
            keep=keep,
        )
        before = dict(self.ledger.members)
        none = self.ledger.gathered([])
        if not self._store(lambda grouper: commands.answer_contradiction(grouper, answer, none)):
            return
        assert self.ledger.members == before
        named = asked.earlier.pattern_id
        place = (asked.grouping_key, self.ledger.patterns[named].merged_into or named)
        is_in_force = self.ledger.constraints.get(place) is asked.earlier.kind
        assert is_in_force == (keep is pattern.Side.EARLIER)

    def _store(self, decide: object) -> bool:
        """Both groupers decide alike, or refuse alike; then the log has it. False: refused."""
        outcomes = []
        for grouper in (self.kept, self.loaded):
            try:
                outcomes.append(decide(grouper))  # type: ignore[operator]  # a decision, named by its caller
            except AppError as refusal:
                outcomes.append(str(refusal))
        assert msgspec.json.encode(outcomes[0]) == msgspec.json.encode(outcomes[1])
        if not isinstance(outcomes[0], list):
            return False
        seq = self.ledger.seq
        self.ledger.store(self.kept, outcomes[0])
        for number, each in enumerate(outcomes[1], seq + 1):
            stamp(self.loaded, each.event, pattern_id=each.pattern_id, seq=number)
        return True


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_what_people_decided_holds_for_ever(taken: list[tuple[object, ...]]) -> None:
    """Constraints hold for every later issue; memory kept, memory loaded and the plain fold are the same bytes."""
    world = World()
    for step in taken:
        world.step(step)
        world.check()


def test_the_steps_reach_every_decision() -> None:
    """A fixed walk through all commands, so that the property above is not about nothing."""
    world = World()
    walk: list[tuple[object, ...]] = [
        ("report", [(0, 0, 0, 0), (1, 0, 0, 1), (3, 0, 1, 2), (3, 0, 1, 3)]),
        ("report", [(0, 0, 0, 0), (1, 0, 1, 5), (3, 1, 1, 2), (6, 1, 0, 3)]),
        ("unlink", 0, 0),
        ("reload",),
        ("report", [(0, 0, 0, 0)]),
        ("link", 1, 1),
        ("split", 0, [0]),
        ("merge", 0, 1),
        ("rename", 0, 7),
        ("reload",),
        ("close", 0, 1),
        ("report", [(0, 0, 0, 0), (1, 0, 0, 0), (3, 0, 0, 0), (4, 0, 0, 0), (5, 0, 0, 0)]),
    ]
    for step in walk:
        world.step(step)
        world.check()
    assert len(world.ledger.constraints) >= 1
    assert any(row.merged_into for row in world.ledger.patterns.values())
