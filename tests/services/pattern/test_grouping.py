"""Which pattern an arriving issue belongs to, and the reasons that are given."""

import random
from datetime import timedelta

import pytest
from contracts import ingest, pattern
from testkit.builders import NOW

from services.pattern.commands import group
from services.pattern.engine import texts
from services.pattern.engine.grouping import MAX_EXEMPLARS, Decision, Grouper, New
from services.pattern.engine.issues import Issue
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


def test_reports_of_people_join_by_what_the_linker_learned_and_are_suggested_below() -> None:
    """The score is a probability, the version says whose; the workspace's bar parts joining from suggesting."""
    report = {
        "source": "jira",
        "component": "Export",
        "body": "The export wizard hangs at step three. Stack: PdfWriter",
    }
    grouper = Grouper("ws")
    first, second = grouped(
        grouper,
        issue(1, "Export of invoices to PDF hangs in the wizard", **report),
        issue(2, "Exporting an invoice as PDF hangs the export wizard", **report),
    )
    assert (second.pattern_id, second.method) == (first.pattern_id, Method.TEXT_SIMILARITY)
    assert second.method_version == grouper.linker_version
    assert 0.7 <= second.score < 1
    strict = Grouper("ws")
    strict.settings = Settings(confidence_threshold=1.0)
    first, third = grouped(
        strict,
        issue(1, "Export of invoices to PDF hangs in the wizard", **report),
        issue(3, "Exporting an invoice as PDF hangs the export wizard", **report),
    )
    assert isinstance(third, New)
    assert [(each.pattern_id, each.score) for each in third.suggestions] == [(first.pattern_id, second.score)]


def test_the_log_keeps_no_word_of_a_body_nor_a_name_that_is_masked() -> None:
    """A person's text may be purged with its issue: the log has its masked title, hashes and an embedding."""
    (first,) = grouped(
        Grouper("ws"),
        issue(1, "Login of jane.doe@example.com fails", source="jira", body="Jane Doe lives in Elm Street 7"),
    )
    assert first.exemplar is not None
    title, hashes, embedding = first.exemplar.split("\n")
    assert title == "login of ~ fails"
    assert all(len(each.lstrip("@#")) == 5 for each in hashes.split())
    assert len(embedding) == 344
    assert not {"jane", "doe", "elm", "street"} & set(first.exemplar.lower().replace("\n", " ").split())


def test_other_names_and_numbers_keep_alike_reports_apart() -> None:
    """A backport of one change is not the backport of another."""
    first, second = grouped(
        Grouper("ws"),
        issue(1, "Upgrade jackson-databind to 2.13.4 in module hadoop-common", source="jira"),
        issue(2, "Upgrade log4j-core to 2.17.1 in module hadoop-yarn", source="jira"),
    )
    assert first.pattern_id != second.pattern_id


def test_texts_expire_and_a_grouper_loaded_from_rows_decides_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The index of a workspace keeps its latest texts; a restart finds the very same ones."""
    monkeypatch.setattr(texts, "MAX_TEXTS", 40)
    rng = random.Random(5)
    words = [
        "disk",
        "login",
        "cache",
        "queue",
        "token",
        "export",
        "wizard",
        "render",
        "invoice",
        "ledger",
        "pager",
        "socket",
    ]

    def some(number: int) -> Issue:
        title = " ".join(rng.choice(words) for _ in range(5)) + f" {rng.choice('abcdefgh')}{number % 7}"
        return issue(
            number, title, source=("datadog", "jira")[number % 2], body=" ".join(rng.sample(words, 6))
        )

    grouper = Grouper("ws")
    grouped(grouper, *(some(number) for number in range(160)))
    assert len(grouper.snapshot().exemplars) == 80
    loaded = Grouper.load("ws", grouper.snapshot())
    assert loaded.snapshot() == grouper.snapshot()
    later = [some(number) for number in range(160, 230)]
    assert grouped(loaded, *later) == grouped(grouper, *later)
    assert loaded.snapshot() == grouper.snapshot()
