"""Over HTTP: what people are asked about memberships, what they answer, and why an issue is where it is."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from testkit.stack import Stack
from testkit.waiting import eventually

from tests.services.gateway.tenants import Tenant, onboard, sign_in

LAG = "Replication lag of the primary database cluster is above its limit"
NEARLY = "Replication lag of the primary database cluster is above the limit"
CARD = "Payment provider declined the request after a timeout in checkout"


class Person:
    """The owner of a workspace in which two issues are enough for a pattern and only repetitions join by themselves.

    A pattern of two that is detected shows that these settings have reached the grouping.
    """

    def __init__(self, client: httpx.Client, tenant: Tenant) -> None:
        self.client, self.id = client, tenant.owner_id
        self.do("PATCH", "/v1/workspace", {"confidence_threshold": 1.0, "minimum_cluster_size": 2})

    def do(self, method: str, path: str, body: object = None, *, expect: int = 200) -> Any:
        answer = self.client.request(method, path, **({} if body is None else {"json": body}))
        assert answer.status_code == expect, (path, answer.status_code, answer.text)
        return answer.json()

    def get(self, path: str) -> Any:
        return self.do("GET", path)

    def wait(self, path: str, is_there: Callable[[Any], object] = lambda found: found["data"]) -> Any:
        """What a GET shows once it shows it."""

        def found() -> Any:
            shown = self.get(path)
            return shown if is_there(shown) else None

        return asyncio.run(eventually(found, every=0.05))

    def report(self, *titles: str) -> list[str]:
        """Report failures; their ids."""
        bodies = [{"title": title, "service": "checkout"} for title in titles]
        return [self.do("POST", "/v1/issues", body, expect=201)["id"] for body in bodies]

    def pattern_of(self, issue_id: str) -> str:
        """The detected pattern that an issue is in."""
        return str(self.wait(f"/v1/issues/{issue_id}", lambda issue: issue["pattern_id"])["pattern_id"])


@pytest.fixture
def person(stack: Stack) -> Iterator[Person]:
    tenant = asyncio.run(onboard(stack.database.owner_url))
    headers = {"Authorization": f"Bearer {sign_in(stack.url, tenant.owner_email)}", "Prefer": "wait=10"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=30) as client:
        yield Person(client, tenant)


def test_a_queue_of_suggestions_is_answered(person: Person) -> None:
    """Accept moves the issue for good and says who; reject rules out; what has moved on is a 409 that says why."""
    known = person.report(LAG, LAG)
    target = person.pattern_of(known[0])
    (near,) = person.report(NEARLY)
    (asked,) = person.wait("/v1/suggestions")["data"]
    assert (asked["issue"]["id"], asked["pattern"]["id"], asked["status"]) == (near, target, "open")
    assert asked["pattern"]["example_issue_id"] == known[0]
    assert asked["because"].startswith("Its text is like") and asked["method_version"] in asked["because"]
    assert person.get(f"/v1/suggestions?pattern_id={target}&issue_id={near}")["page"]["total"] == 1
    assert person.get("/v1/suggestions?min_probability=1")["data"] == []
    one = f"/v1/suggestions/{asked['id']}"
    accepted = person.do("POST", f"{one}/accept")
    assert (accepted["status"], accepted["answered_by"]) == ("accepted", {"kind": "person", "id": person.id})
    assert person.do("POST", f"{one}/accept") == accepted
    refused = person.do("POST", f"{one}/reject", expect=409)
    assert "was accepted by" in refused["detail"]
    why = person.get(f"/v1/issues/{near}")["membership"]
    assert (why["pattern_id"], why["method"], why["decided_by"]["id"]) == (target, "human", person.id)
    assert person.get("/v1/suggestions")["data"] == []
    (follower,) = person.report(NEARLY)
    assert person.pattern_of(follower) == target


def test_a_rejected_or_lapsed_suggestion_is_closed(person: Person) -> None:
    """A rejection is in the list of constraints; a suggestion whose issue was linked elsewhere has lapsed."""
    known = person.report(LAG, LAG, CARD, CARD)
    target, other = person.pattern_of(known[0]), person.pattern_of(known[2])
    (near,) = person.report(NEARLY)
    (asked,) = person.wait("/v1/suggestions")["data"]
    person.do("POST", f"/v1/suggestions/{asked['id']}/reject")
    (never,) = person.get(f"/v1/constraints?pattern_id={target}")["data"]
    assert (never["kind"], never["issue_id"], never["decided_by"]["id"]) == ("cannot_link", near, person.id)
    assert never["status"] == "in_force" and never["issue_title"] == NEARLY
    (nearer,) = person.report(CARD.replace("the", "this"))
    (again,) = person.wait(f"/v1/suggestions?issue_id={nearer}&pattern_id={other}")["data"]
    person.do("POST", f"/v1/issues/{nearer}/link-pattern", {"pattern_id": target})
    lapsed = person.get(f"/v1/suggestions/{again['id']}")
    assert lapsed["status"] == "lapsed"
    refused = person.do("POST", f"/v1/suggestions/{again['id']}/accept", expect=409)
    assert "has lapsed: the issue has left" in refused["detail"]


def test_decisions_that_contradict_each_other_are_asked_about(person: Person) -> None:
    """Both decisions with who and when; the answer decides where the next failure goes."""
    first, second = person.report(CARD, CARD)
    target = person.pattern_of(first)
    person.do("POST", f"/v1/issues/{second}/unlink-pattern")
    (apart,) = person.report(CARD)
    person.do("POST", f"/v1/issues/{apart}/link-pattern", {"pattern_id": target})
    (asked,) = person.get("/v1/contradictions")["data"]
    assert [asked[side]["issue_id"] for side in ("earlier", "later")] == [second, apart]
    assert [asked[side]["kind"] for side in ("earlier", "later")] == ["cannot_link", "must_link"]
    assert all(asked[side]["decided_by"]["id"] == person.id for side in ("earlier", "later"))
    assert asked["earlier"]["decided_at"] < asked["later"]["decided_at"]
    (law,) = person.get("/v1/constraints?status=contradicted")["data"]
    assert law["contradiction_id"] == asked["id"]
    answered = person.do("POST", f"/v1/contradictions/{asked['id']}/answer", {"keep": "earlier"})
    assert (answered["status"], answered["kept"]) == ("answered", "earlier")
    (law,) = person.get("/v1/constraints")["data"]
    assert (law["kind"], law["status"]) == ("cannot_link", "in_force")
    refused = person.do("POST", f"/v1/contradictions/{asked['id']}/answer", {"keep": "later"}, expect=409)
    assert "nothing to answer" in refused["detail"]
    (later,) = person.report(CARD)
    assert person.get(f"/v1/issues/{later}")["pattern_id"] != target


def test_members_say_how_they_came_and_similar_says_why_not(person: Person) -> None:
    """Method, version, who and when; a merge is told; nothing similar is never told without the reason."""
    (alone,) = person.report(LAG)
    assert person.get(f"/v1/issues/{alone}/similar")["reason"]["code"] == "alone"
    (card,) = person.report(CARD)
    path = f"/v1/issues/{card}/similar"
    unlike = person.wait(path, lambda found: found["reason"]["code"] == "below_threshold")
    assert unlike["data"] == []
    assert f"{unlike['nearest_similarity']:.2f}" in unlike["reason"]["message"]
    known = [alone, *person.report(LAG), *person.report(CARD)]
    target, source = person.pattern_of(alone), person.pattern_of(card)
    person.do("POST", f"/v1/patterns/{target}/merge", {"source_pattern_id": source})
    members = {each["issue_id"]: each for each in person.get(f"/v1/patterns/{target}/members")["data"]}
    assert set(members) == {*known, card}
    assert members[known[1]]["decided_by"] == {"kind": "engine", "id": None}
    assert members[known[1]]["because"].startswith("It has the same masked title and service")
    assert members[known[1]]["merged"] is None
    assert members[card]["merged"]["from_pattern_id"] == source
    assert members[card]["merged"]["decided_by"] == {"kind": "person", "id": person.id}
    person.do("POST", f"/v1/patterns/{target}/close", {"closure_note": "Moved the replica."})
    tried = person.get(f"/v1/patterns/{target}/fixes")
    assert [(fix["note"], fix["outcome"]) for fix in tried["fixes"]] == [("Moved the replica.", "watching")]
    assert tried["fixes"][0]["started_by"]["id"] == person.id
    like = person.get(f"/v1/issues/{card}/similar?limit=1")
    assert like["reason"] is None and len(like["data"]) == 1
    assert (like["data"][0]["similarity"], like["data"][0]["pattern_id"]) == (1.0, target)
