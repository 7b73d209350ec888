"""Which pattern an arriving issue belongs to, and the reasons that are given."""

from collections.abc import Sequence
from datetime import timedelta

from contracts import ingest, pattern
from testkit.builders import NOW

from services.pattern.commands import group
from services.pattern.engine.grouping import MAX_EXEMPLARS, Decision, Grouper, New
from services.pattern.engine.issues import Features, Issue
from services.pattern.engine.linking import Candidate, Choice
from services.pattern.engine.memory import Settings

Method = pattern.LinkMethod


def issue(number: int, title: str, **fields: object) -> Issue:
    values: dict[str, object] = {
        "issue_id": f"iss_{number}",
        "title": title,
        "source": "datadog",
        "severity": ingest.Severity.P2,
        "occurred_at": NOW + timedelta(minutes=number),
        "service": "checkout",
        **fields,
    }
    return Issue(**values)  # type: ignore[arg-type]  # named by the test


def grouped(grouper: Grouper, *issues: Issue) -> list[Decision]:
    """What each issue was assigned, one after the other."""
    assigned = []
    for each in issues:
        assignment = grouper.assign(each)
        grouper.link(assignment.member(each), exemplar=assignment.exemplar, title=each.title)
        assigned.append(assignment)
    return assigned


def test_an_exact_repetition_joins_by_its_key() -> None:
    """Ids and numbers differ, the key does not; agreement is recorded."""
    first, second = grouped(
        Grouper("ws"),
        issue(1, "Job 17 of 10.0.0.1 failed", component="api"),
        issue(2, "Job 23 of 10.0.0.9 failed", component="worker"),
    )
    assert (type(first), first.method) == (New, Method.SEED)
    assert (first.pattern_id, Method.EXACT_KEY, 1.0) == (second.pattern_id, second.method, second.score)
    assert second.matched_dimensions == ("service", "source", "hour_of_day")
    assert second.exemplar is None


def test_close_machine_text_joins_by_similarity_with_its_cosine() -> None:
    """The score is the cosine, and the version says which method gave it."""
    _, second = grouped(
        Grouper("ws"),
        issue(1, "Replication lag of the primary database cluster is above its limit"),
        issue(2, "Replication lag of the primary database cluster is above the limit"),
    )
    assert second.method is Method.TEXT_SIMILARITY
    assert 0.85 <= second.score < 1
    assert second.method_version.startswith("char-tfidf@")
    assert second.exemplar is not None


def test_a_workspace_can_ask_for_more_certainty() -> None:
    """Below its threshold nothing is linked by itself."""
    grouper = Grouper("ws")
    grouper.settings = Settings(confidence_threshold=0.99)
    first, second = grouped(
        grouper,
        issue(1, "Replication lag of the primary database cluster is above its limit"),
        issue(2, "Replication lag of the primary database cluster is above the limit"),
    )
    assert first.pattern_id != second.pattern_id
    assert isinstance(second, New)
    assert [each.pattern_id for each in second.suggestions] == [first.pattern_id]
    assert 0.85 <= second.suggestions[0].score < 0.99


def test_the_same_words_of_another_service_stay_apart_unless_more_agrees() -> None:
    """Between machines a service is nearly a border; a common component and error type open it."""
    grouper = Grouper("ws")
    title = "Request to upstream timed out"
    alone, other = grouped(grouper, issue(1, title), issue(2, title, service="search"))
    assert alone.pattern_id != other.pattern_id
    shared = {"component": "proxy", "error_type": "TimeoutError"}
    third, fourth = grouped(
        Grouper("ws"), issue(3, title, **shared), issue(4, title, service="search", **shared)
    )
    assert third.pattern_id == fourth.pattern_id


def test_reports_of_people_join_only_when_nearly_the_same() -> None:
    """Different reports of people stay apart, near-copies join."""
    first, second, third = grouped(
        Grouper("ws"),
        issue(1, "Cannot save the document after rename", source="jira"),
        issue(2, "Cannot print the document after resize", source="jira"),
        issue(3, "Cannot save the documents after rename", source="jira"),
    )
    assert first.pattern_id != second.pattern_id
    assert first.pattern_id == third.pattern_id


def test_issues_without_text_join_by_their_dimensions() -> None:
    """Service, component and the like stand in; without those every issue is its own."""
    first, second, third, fourth = grouped(
        Grouper("ws"),
        issue(1, "IM0001", component="db"),
        issue(2, "IM0002", component="db"),
        issue(3, "IM0003", service=None),
        issue(4, "IM0004", service=None),
    )
    assert (first.pattern_id, Method.DIMENSION_KEY) == (second.pattern_id, second.method)
    assert third.pattern_id != fourth.pattern_id


def test_a_title_that_says_nothing_gives_way_to_the_body() -> None:
    """The start of the body is the text then."""
    first, second = grouped(
        Grouper("ws"),
        issue(1, "#17", body="Disk of the archive is full"),
        issue(2, "#18", body="Disk of the archive is full"),
    )
    assert first.pattern_id == second.pattern_id


def test_a_pattern_keeps_few_texts() -> None:
    """The index does not grow with variations of one failure."""
    grouper = Grouper("ws")
    names = [
        "alpha",
        "bravo",
        "charlie",
        "delta",
        "echo",
        "foxtrot",
        "golf",
        "hotel",
        "india",
        "juliett",
        "kilo",
        "lima",
    ]
    grouped(
        grouper,
        *[
            issue(
                n, f"The nightly export of all customer invoices for region {name} has failed with a timeout"
            )
            for n, name in enumerate(names)
        ],
    )
    assert max(len(found.exemplars) for found in grouper.patterns.values()) <= MAX_EXEMPLARS


def test_one_batch_makes_one_event_per_pattern_and_text() -> None:
    """Ninety repetitions of three failures are three events, not ninety."""
    titles = ("Queue is stuck", "Certificate expired", "Disk full")
    decided = group(Grouper("ws"), [issue(n, titles[n % 3]) for n in range(90)])
    linked = [each.event for each in decided if isinstance(each.event, pattern.IssuesLinked)]
    assert [len(event.links) for event in linked] == [30, 30, 30]
    assert all(event.exemplar for event in linked)


class TakeFirst:
    """A linker of tomorrow: any candidate will do."""

    def least_cosine(self, features: Features) -> float:
        return 0.0

    def choose(self, issue: Issue, features: Features, candidates: Sequence[Candidate]) -> Choice | None:
        if not candidates:
            return None
        return Choice(candidates[0], 0.9, Method.TEXT_SIMILARITY, "learned@test")


def test_another_linker_takes_the_place_between_candidates_and_decision() -> None:
    """The interface is two methods."""
    first, second = grouped(
        Grouper("ws", linker=TakeFirst()),
        issue(1, "The payment was declined by the bank"),
        issue(2, "The payment was refused by the bank"),
    )
    assert (first.pattern_id, 0.9, "learned@test") == (second.pattern_id, second.score, second.method_version)
