"""Lists, bulk changes, comments and activity over HTTP."""

import asyncio
import uuid
from typing import Any

import httpx
import pytest
from contracts import ingest, pattern
from msgspec import Struct
from testkit.stack import Stack

from services.gateway.listing import Filter, Listing
from services.gateway.routes import issues, patterns
from services.gateway.routes.bulk import (
    Assign,
    Bulk,
    LinkPattern,
    SetStatus,
    SetTeam,
    UnlinkPattern,
    request_of,
)
from tests.services.gateway.tenants import onboard, sign_in
from tests.services.gateway.test_api import ingest as report_alike
from tests.services.gateway.test_api import pattern_of, unique, words


@pytest.fixture(scope="module")
def others_issue(stack: Stack) -> str:
    """The id of an issue in another workspace."""
    other = asyncio.run(onboard(stack.database.owner_url))
    headers = {"Authorization": f"Bearer {sign_in(stack.url, other.owner_email)}", "Prefer": "wait=10"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=30) as client:
        return str(make(client)["id"])


def make(api: httpx.Client, **fields: object) -> dict[str, Any]:
    answer = api.post("/v1/issues", json={"title": words(), **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def found(api: httpx.Client, **params: str) -> list[str]:
    answer = api.get("/v1/issues", params=params)
    assert answer.status_code == 200, answer.text
    return [issue["id"] for issue in answer.json()["data"]]


def bulk(api: httpx.Client, op: str, ids: list[str], **value: object) -> dict[str, Any]:
    answer = api.post("/v1/issues/bulk", json={"op": op, "ids": ids, **value})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.parametrize("listing", [issues.LISTING, patterns.LISTING], ids=["issues", "patterns"])
def test_every_filter_is_a_parameter(listing: Listing[Any]) -> None:
    """A filter that no query has could never be asked for, and would fail the first request."""
    query = {"issues": issues.IssueQuery, "patterns": patterns.PatternQuery}[listing.name]
    assert {narrowing.parameter for narrowing in listing.filters} <= set(query.__struct_fields__)


def test_an_absent_parameter_leaves_only_its_default() -> None:
    """And a value that becomes None leaves the filter out."""

    class Query(Struct):
        status: str | None = None
        pattern_id: str | None = None

    filters = (
        Filter("status", "status = {value}", default="active"),
        Filter("pattern_id", "pattern_id = {value}", lambda given: None if given == "none" else given),
    )
    listing = Listing(name="x", view="x", row=Query, sorts={}, default_sort="", filters=filters)
    assert [(c.clause, c.value) for c in listing.conditions(Query())] == [("status = {value}", "active")]
    asked = listing.conditions(Query(status="watching", pattern_id="none"))
    assert [c.value for c in asked] == ["watching"]


def test_issues_are_found_by_where_they_come_from_and_whether_they_are_grouped(api: httpx.Client) -> None:
    service = unique("svc")
    jira = make(api, service=service, source="jira", environment="production")["id"]
    mine = make(api, service=service, environment="staging")["id"]
    other = make(api, service=service, source="github")["id"]
    assert found(api, service=service, source="jira,GITHUB") == [other, jira]
    assert found(api, service=service, environment="staging") == [mine]
    grouped = pattern_of(api, report_alike(api, 4, service=service))
    assert set(found(api, service=service, pattern_id="none")) == {jira, mine, other}
    assert len(found(api, service=service, pattern_id=grouped["id"])) == grouped["issue_count"] == 4


def test_mitigating_and_watching_are_active_in_the_coarser_view(api: httpx.Client) -> None:
    """`status=active` is the group; the finer words pick one status each."""
    made = pattern_of(api, report_alike(api, 4, service=unique("fold")))
    path, name = f"/v1/patterns/{made['id']}", unique("fold")
    api.patch(path, json={"name": name, "status": "mitigating"})
    closed = api.post(f"{path}/close", json={"closure_note": "Pool enlarged."}).json()
    assert (closed["status"], closed["status_group"]) == ("watching", "active")
    for status, n in (("active", 1), ("watching", 1), ("mitigating", 0), ("emerging,resolved", 0)):
        assert api.get("/v1/patterns", params={"q": name, "status": status}).json()["page"]["total"] == n


def test_a_bulk_change_judges_each_issue(api: httpx.Client, others_issue: str) -> None:
    """Unknown and foreign ids fail alike and alone; an id given twice is answered once."""
    one, two = make(api, team="core")["id"], make(api)["id"]
    ids = [one, "iss_unknown", two, others_issue, one]
    answer = bulk(api, "status", ids, value="in_progress")
    assert (answer["done"], answer["failed"], answer["is_visible"]) == (2, 2, True)
    assert [(r["id"], r["outcome"]) for r in answer["results"]] == [
        (one, "done"), ("iss_unknown", "failed"), (two, "done"), (others_issue, "failed"),
    ]  # fmt: skip
    assert {r["error"]["code"] for r in answer["results"] if r["error"]} == {"not_found"}
    assert api.get(f"/v1/issues/{two}").json()["status"] == "mitigating"
    bulk(api, "assign", [one, two], value="usr_ada")
    bulk(api, "team", [one, two], value=None)
    for issue_id in (one, two):
        issue = api.get(f"/v1/issues/{issue_id}").json()
        assert (issue["assignee"], issue["team"]) == ("usr_ada", None)


def test_issues_are_linked_and_unlinked_in_bulk(api: httpx.Client) -> None:
    """An issue that nobody has worked on is pattern_found once it is linked, and new again without."""
    made = pattern_of(api, report_alike(api, 4, service=unique("bulk")))
    ids = [make(api)["id"] for _ in range(3)]
    assert bulk(api, "link_pattern", ids, value=made["id"])["done"] == 3
    linked = [api.get(f"/v1/issues/{issue_id}").json() for issue_id in ids]
    assert {(issue["status"], issue["pattern_id"]) for issue in linked} == {("pattern_found", made["id"])}
    assert bulk(api, "unlink_pattern", ids)["done"] == 3
    freed = [api.get(f"/v1/issues/{issue_id}").json() for issue_id in ids]
    assert {(issue["status"], issue["pattern_id"]) for issue in freed} == {("new", None)}
    refused = bulk(api, "unlink_pattern", ids[:1])
    assert (refused["failed"], refused["results"][0]["error"]["code"] != "internal_error") == (1, True)


@pytest.mark.parametrize(
    "body",
    [
        {"op": "status", "ids": [], "value": "open"},
        {"op": "status", "ids": ["iss_1"] * 101, "value": "open"},
        {"op": "status", "ids": ["iss_1"], "value": "nonsense"},
        {"op": "assign", "ids": ["iss_1"]},
        {"op": "delete", "ids": ["iss_1"]},
    ],
    ids=["none", "too many", "status", "no value", "op"],
)
def test_a_wrong_bulk_change_is_refused_as_a_whole(api: httpx.Client, body: dict[str, object]) -> None:
    assert api.post("/v1/issues/bulk", json=body).status_code == 400


@pytest.mark.parametrize(
    ("bulk", "request_"),
    [
        (SetStatus(ids=("i",), value="open"), ingest.UpdateIssue(issue_id="i", status="open")),
        (Assign(ids=("i",), value="a"), ingest.UpdateIssue(issue_id="i", assignee="a")),
        (Assign(ids=("i",), value=None), ingest.UpdateIssue(issue_id="i", cleared=("assignee",))),
        (SetTeam(ids=("i",), value="t"), ingest.UpdateIssue(issue_id="i", team="t")),
        (SetTeam(ids=("i",), value=None), ingest.UpdateIssue(issue_id="i", cleared=("team",))),
        (LinkPattern(ids=("i",), value="p"), pattern.LinkIssue(issue_id="i", pattern_id="p")),
        (UnlinkPattern(ids=("i",)), pattern.UnlinkIssue(issue_id="i")),
    ],
)
def test_each_kind_of_bulk_change_is_a_command(bulk: Bulk, request_: Struct) -> None:
    assert request_of(bulk, "i") == request_


def test_comments_are_listed_newest_first_and_shown_in_the_activity(
    api: httpx.Client, others_issue: str
) -> None:
    """With who, when and what; another workspace's issue is not there to be talked about."""
    issue = make(api, source="jira", severity="p2")
    path = f"/v1/issues/{issue['id']}"
    made = [api.post(f"{path}/comments", json={"text": text}).json() for text in (" First. ", "Second.")]
    api.patch(path, json={"severity": "p1", "team": "core"})
    api.post(f"{path}/close", json={"status": "resolved", "reason": "Restarted."})
    assert [comment["text"] for comment in made] == ["First.", "Second."]
    first = api.get(f"{path}/comments", params={"limit": 1}).json()
    assert first["data"] == [made[1]]
    assert first["page"]["total"] == 2
    rest = api.get(f"{path}/comments", params={"limit": 1, "cursor": first["page"]["next_cursor"]}).json()
    assert (rest["data"], rest["page"]["has_more"]) == ([made[0]], False)
    activity = api.get(f"{path}/activity").json()
    assert [(entry["type"], entry["summary"]) for entry in activity["data"]] == [
        ("IssueClosed", "status: resolved: Restarted."),
        ("IssueUpdated", "severity: p1; team: core"),
        ("IssueCommented", "Second."),
        ("IssueCommented", "First."),
        ("IssueReported", "Reported by jira as p2, new."),
    ]
    assert {entry["actor"] for entry in activity["data"]} == {made[0]["author_id"]}
    for method, part in (("GET", "activity"), ("GET", "comments"), ("POST", "comments")):
        body = {"text": "Hello?"} if method == "POST" else None
        assert api.request(method, f"/v1/issues/{others_issue}/{part}", json=body).status_code == 404
    assert api.post(f"{path}/comments", json={"text": "x" * 10_001}).status_code == 400
    assert api.post(f"{path}/comments", json={"text": " \n"}).status_code == 400


def test_the_activity_tells_of_the_pattern_that_an_issue_is_in(api: httpx.Client) -> None:
    batch = report_alike(api, 4, service=unique("act"))
    made, issue_id = pattern_of(api, batch), batch["results"][0]["issue_id"]
    newest = api.get(f"/v1/issues/{issue_id}/activity").json()["data"][0]
    assert newest["type"] == "IssuesLinked"
    assert newest["summary"].startswith(f"Linked to {made['id']} (")


def test_a_source_in_the_path_is_the_issues_source(api: httpx.Client) -> None:
    """An unknown one becomes custom_api, as everywhere."""
    external_id = uuid.uuid4().hex
    taken = api.post("/v1/ingest/jira/issues", json={"external_id": external_id})
    assert taken.status_code == 202, taken.text
    again = api.post("/v1/ingest/events", json={"external_id": external_id, "source": "jira"}).json()
    assert (again["issue_id"], again["outcome"]) == (taken.json()["issue_id"], "unchanged")
    strange = api.post("/v1/ingest/homemade/issues", json={"external_id": external_id}).json()
    assert (
        api.post("/v1/ingest/events", json={"external_id": external_id}).json()["issue_id"]
        == strange["issue_id"]
    )
    assert api.post("/v1/ingest/jira/issues", json={"title": "x", "source": "jira"}).status_code == 400
