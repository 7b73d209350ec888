"""Clusters, related patterns and the request for a new clustering, over HTTP."""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta

import httpx
import pytest
from testkit.stack import Stack

from tests.services.gateway.tenants import onboard, sign_in
from tests.services.gateway.test_api import unique, wait_for, words


@pytest.fixture
def mine(stack: Stack) -> Iterator[httpx.Client]:
    """A client of its own: what others report does not hang together with it."""
    tenant = asyncio.run(onboard(stack.database.owner_url))
    headers = {"Authorization": f"Bearer {sign_in(stack.url, tenant.owner_email)}", "Prefer": "wait=10"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=30) as client:
        yield client


def patterns_of(api: httpx.Client, count: int, *, service: str) -> set[str]:
    """Patterns of one service, three failures each, all in the same three hours."""
    records = [
        {
            "title": title,
            "service": service,
            "external_id": unique("one"),
            "source_created_at": f"2026-11-20T{hour}:05:00Z",
        }
        for title in [words() for _ in range(count)]
        for hour in (10, 13, 17)
    ]
    answer = api.post("/v1/ingest/batch", json={"records": records})
    assert answer.status_code == 202, answer.text
    paths = [f"/v1/issues/{result['issue_id']}" for result in answer.json()["results"]]

    def joined() -> set[str] | None:
        found = {api.get(path).json().get("pattern_id") for path in paths}
        return None if None in found else found

    return set(wait_for(joined))


def test_patterns_are_clustered_and_related_with_reasons(mine: httpx.Client) -> None:
    """Nothing without a reason; asked for, then listed, looked at as a graph, told of each pattern, and as it was."""
    pay, mail = patterns_of(mine, 3, service="pay"), patterns_of(mine, 2, service="mail")
    one = min(pay)
    early, empty = mine.get(f"/v1/patterns/{one}/related").json(), mine.get("/v1/clusters").json()
    assert (early["data"], early["computed_at"], empty["data"], empty["clustering"]) == ([], None, [], None)
    assert "recompute" in early["reason"] and early["reason"] == empty["reason"]
    asked = mine.post("/v1/clusters/recompute")
    assert (asked.status_code, asked.json()["status"]) == (202, "accepted")

    def done() -> dict[str, object] | None:
        listed: dict[str, object] = mine.get("/v1/clusters", params={"sort": "name"}).json()
        clustering = listed["clustering"]
        is_done = isinstance(clustering, dict) and clustering["run_id"] == asked.json()["run_id"]
        return listed if is_done else None

    listed = wait_for(done, seconds=120)
    assert [(each["name"], each["pattern_count"]) for each in listed["data"]] == [
        ("Service mail", 2),
        ("Service pay", 3),
    ]
    assert (listed["reason"], listed["clustering"]["pattern_count"]) == (None, 5)
    cluster = listed["data"][1]
    graph = mine.get(f"/v1/clusters/{cluster['id']}").json()
    assert pay == {node["pattern_id"] for node in graph["nodes"]}
    assert len(graph["edges"]) == 3
    related = mine.get(f"/v1/patterns/{one}/related").json()
    assert [each["pattern_id"] in pay for each in related["data"]] == [True, True, False, False]
    assert mail <= {each["pattern_id"] for each in related["data"]}
    assert (related["reason"], related["cluster"]["id"]) == (None, cluster["id"])
    assert {reason["text"] for reason in related["data"][0]["reasons"]} >= {
        "Both have the service pay, as does 1 other pattern.",
        "Both failed in the same hour 3 times in 90 days.",
    }
    just_before = datetime.fromisoformat(related["computed_at"]) - timedelta(milliseconds=1)
    past = mine.get("/v1/clusters", params={"as_of": just_before.isoformat()}).json()
    assert (past["data"], past["clustering"]) == ([], None)


def test_what_is_not_there_is_not_found(mine: httpx.Client) -> None:
    """Neither a cluster nor the relations of a pattern."""
    assert mine.get("/v1/clusters/clu_none").status_code == 404
    assert mine.get("/v1/patterns/pat_none/related").status_code == 404
