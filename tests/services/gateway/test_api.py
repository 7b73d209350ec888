"""The API over HTTP, with all five services behind it."""

import asyncio
import base64
import json
import math
import random
import re
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from testkit.stack import Stack

from services.gateway.vocabulary import VISIBLE
from tests.libs.cli.in_process import causeloop
from tests.services.gateway.tenants import cut_short, onboard, sign_in


def wait_for(found: Callable[[], Any], *, seconds: float = 30.0) -> Any:
    """What `found` gives once it gives something."""
    give_up_at = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < give_up_at, "it did not happen in time"
        time.sleep(0.05)
    return value


def unique(word: str) -> str:
    return f"{word}{uuid.uuid4().hex[:8]}"


def words(count: int = 6) -> str:
    """A title that no other failure has, in words that look like words."""
    letters = random.Random(uuid.uuid4().int)
    return " ".join("".join(letters.choices("abdefgiklmnoprstuv", k=7)) for _ in range(count))


def ingest(api: httpx.Client, count: int, *, service: str) -> dict[str, Any]:
    title = words()
    records = [
        {
            "external_id": unique("x"),
            "title": title,
            "service": service,
            "error_type": "PoolTimeout",
            "severity": "high",
        }
        for _ in range(count)
    ]
    answer = api.post("/v1/ingest/batch", json={"records": records})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def pattern_of(api: httpx.Client, batch: dict[str, Any]) -> dict[str, Any]:
    """The pattern that a batch became, once every issue of it is shown in it: the last ones join after it is found."""
    paths = [f"/v1/issues/{result['issue_id']}" for result in batch["results"]]

    def joined() -> str | None:
        found = {api.get(path).json().get("pattern_id") for path in paths}
        return found.pop() if len(found) == 1 else None

    return dict(api.get(f"/v1/patterns/{wait_for(joined)}").json())


def test_a_reported_issue_is_read_at_once(api: httpx.Client) -> None:
    """Read-your-writes: the answer's issue, a GET and the list agree."""
    made = api.post(
        "/v1/issues", json={"title": "Disk full", "severity": "Critical", "metadata": {"disk": "/var"}}
    )
    assert made.status_code == 201, made.text
    issue = made.json()
    assert (issue["severity"], issue["severity_label"], issue["status_group"]) == ("p1", "critical", "open")
    assert api.get(f"/v1/issues/{issue['id']}").json() == issue
    assert api.get("/v1/issues", params={"limit": 1}).json()["data"][0]["id"] == issue["id"]
    label = api.get(f"/v1/issues/{issue['id']}", params={"severity_format": "label"}).json()
    assert (label["severity"], label["severity_label"]) == ("critical", "p1")


def test_a_search_knows_no_case_in_any_alphabet(api: httpx.Client) -> None:
    """All words must occur, in title or body."""
    word = unique("zug")
    made = api.post("/v1/issues", json={"title": f"{word} ausfall", "body": "STÖRUNG an der Weiche"}).json()
    for query, n in ((f"{word.upper()} störung", 1), (f"{word} Störung weiche", 1), (f"{word} Ströme", 0)):
        found = api.get("/v1/issues", params={"q": query}).json()
        assert [issue["id"] for issue in found["data"]] == [made["id"]] * n
        assert found["page"]["total"] == n


def test_the_same_external_id_is_one_issue(api: httpx.Client) -> None:
    """Again with another title is an update, and says so."""
    body = {"title": "First", "external_id": unique("same"), "source": "jira"}
    first = api.post("/v1/issues", json=body)
    again = api.post("/v1/issues", json={**body, "title": "Second"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["title"] == "Second"


def test_an_issue_is_changed_and_closed(api: httpx.Client) -> None:
    """null empties a field; closing lowers the risk."""
    issue = api.post("/v1/issues", json={"title": "Slow", "team": "core", "service": "search"}).json()
    changed = api.patch(f"/v1/issues/{issue['id']}", json={"team": None, "status": "in_progress"}).json()
    assert (changed["team"], changed["service"], changed["status"]) == (None, "search", "mitigating")
    closed = api.post(
        f"/v1/issues/{issue['id']}/close", json={"status": "wont_fix", "reason": "By design."}
    ).json()
    assert (closed["status"], closed["status_group"], closed["reason"]) == (
        "wont_fix",
        "closed",
        "By design.",
    )
    assert closed["risk_score"] < issue["risk_score"]


def test_lists_filter_sort_and_search(api: httpx.Client) -> None:
    """Filters narrow, words search title and body, sorts order, pages add up."""
    service, word = unique("svc"), unique("needle")
    for severity in ("p4", "p1", "p2"):
        api.post("/v1/issues", json={"title": f"{word} {severity}", "service": service, "severity": severity})
    api.post(
        "/v1/issues", json={"title": "Other", "body": f"Holds {word.upper()} in its body", "service": service}
    )
    found = api.get("/v1/issues", params={"service": service, "sort": "-severity"}).json()
    assert [issue["severity"] for issue in found["data"]] == ["p1", "p2", "p3", "p4"]
    assert found["page"] == {"next_cursor": None, "has_more": False, "total": 4}
    params: dict[str, Any] = {"q": word, "severity": "CRITICAL,p3", "sort": "risk_score"}
    assert [issue["severity"] for issue in api.get("/v1/issues", params=params).json()["data"]] == [
        "p3",
        "p1",
    ]
    first = api.get("/v1/issues", params={"service": service, "limit": 3}).json()
    assert first["page"]["has_more"]
    rest = {"service": service, "limit": 3, "cursor": first["page"]["next_cursor"]}
    second = api.get("/v1/issues", params=rest).json()
    assert len({issue["id"] for issue in first["data"] + second["data"]}) == 4
    assert api.get("/v1/issues", params={**rest, "sort": "created_at"}).status_code == 400
    assert api.get("/v1/issues", params={**rest, "service": "x"}).status_code == 400


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/issues?limit=0", "limit"),
        ("/v1/issues?limit=101", "limit"),
        ("/v1/issues?sort=title", "sort"),
        ("/v1/issues?status=nonsense", "status"),
        ("/v1/issues?unknown=1", "unknown"),
        ("/v1/issues?limit=1&limit=2", "limit"),
        ("/v1/issues?risk_min=null", "risk_min"),
        ("/v1/issues?date_from=5", "date_from"),
        ("/v1/issues?q=%00", "q"),
        ("/v1/issues?cursor=eyJvZmZzZXQiOiAyNX0", "cursor"),
        ("/v1/patterns?status=candidate", "status"),
        ("/v1/predictions?min_probability=2", "min_probability"),
        ("/v1/recommendations?type=prayer", "type"),
    ],
)
def test_a_wrong_parameter_is_named(api: httpx.Client, path: str, field: str) -> None:
    """400 with problem+json, the field in details, the trace id equal to the header."""
    answer = api.get(path)
    problem = answer.json()
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"] == problem["error"]["code"] == "validation_error"
    assert list(problem["error"]["details"]) == [field]
    assert problem["error"]["trace_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b'{"title":"x","nonsense":1}', {}, 400),
        (b'{"title":"   "}', {}, 400),
        (b'{"title":"x"}', {"Content-Type": "text/plain"}, 415),
        (b'{"title":"x","metadata":' + b'{"a":' * 5000 + b"1" + b"}" * 5001, {}, 400),
        (b'{"title":"x","body":"' + b"a" * (8 * 1024 * 1024) + b'"}', {}, 413),
    ],
    ids=["broken", "list", "unknown", "blank", "text", "deep", "long"],
)
def test_a_wrong_body_is_refused(
    api: httpx.Client, body: bytes, headers: dict[str, str], status: int
) -> None:
    """Never with a 500."""
    answer = api.post("/v1/issues", content=body, headers={"Content-Type": "application/json", **headers})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_batch_judges_each_record(api: httpx.Client) -> None:
    """One bad record never fails the rest, and the job id says how far it has come."""
    records = [
        {"external_id": unique("b"), "title": "Fine"},
        {"external_id": unique("b"), "title": 7},
        {"title": "No id"},
    ]
    taken = api.post("/v1/ingest/batch", json={"records": records}).json()
    assert taken["accepted"] == 1
    assert [rejected["index"] for rejected in taken["rejected"]] == [1, 2]
    assert [result["outcome"] for result in taken["results"]] == ["created", "rejected", "rejected"]
    job = wait_for(
        lambda: (
            (found := api.get(f"/v1/ingest/status/{taken['job_id']}").json())["status"] == "grouped" and found
        )
    )
    assert (job["accepted"], job["rejected"]) == (1, 2)
    assert api.get("/v1/ingest/status/ing_job_unknown").status_code == 404


def test_one_event_is_taken(api: httpx.Client) -> None:
    """202 with the issue and the job."""
    event = {"external_id": unique("e"), "metadata": {"service": "billing"}, "severity": "p1"}
    taken = api.post("/v1/ingest/events", json=event)
    assert taken.status_code == 202, taken.text
    assert (taken.json()["accepted"], taken.json()["rejected"], taken.json()["outcome"]) == (1, [], "created")
    issue = wait_for(
        lambda: (r := api.get(f"/v1/issues/{taken.json()['issue_id']}")).status_code == 200 and r.json()
    )
    assert (issue["title"], issue["service"]) == (event["external_id"], "billing")


def test_failures_become_a_pattern_with_prediction_and_recommendation(api: httpx.Client) -> None:
    """The loop, from the API's side."""
    service = unique("pool")
    taken = ingest(api, 6, service=service)
    issue_id = taken["results"][0]["issue_id"]
    pattern = pattern_of(api, taken)
    assert pattern["fingerprint"]["service"] == service
    assert api.get(f"/v1/issues/{issue_id}").json()["status"] == "pattern_found"
    path = f"/v1/patterns/{pattern['id']}"
    members = api.get(f"{path}/members", params={"limit": 4}).json()
    assert (len(members["data"]), members["page"]["total"]) == (4, 6)
    assert sum(point["count"] for point in api.get(f"{path}/frequency").json()["points"]) == 6
    predictions = wait_for(
        lambda: (
            (f := api.get("/v1/predictions", params={"pattern_id": pattern["id"]}).json())["page"]["total"]
            == 3
            and f
        )
    )
    assert {prediction["window_days"] for prediction in predictions["data"]} == {7, 30, 90}
    recommended = wait_for(
        lambda: api.get("/v1/recommendations", params={"pattern_id": pattern["id"]}).json()["data"]
    )
    assert recommended[0]["rank"] >= 1


def test_the_past_of_a_pattern_can_be_read(api: httpx.Client) -> None:
    """as_of a sequence or a time; before its detection there was none."""
    taken = ingest(api, 4, service=unique("past"))
    pattern = pattern_of(api, taken)
    path = f"/v1/patterns/{pattern['id']}"
    renamed = api.patch(path, json={"name": "A better name"}).json()
    assert renamed["name"] == "A better name"
    history = api.get(f"{path}/history").json()["data"]
    detection = next(entry for entry in history if entry["type"] == "PatternDetected")
    assert api.get(path, params={"as_of": detection["sequence"]}).json()["name"] == pattern["name"]
    assert api.get(path, params={"as_of": detection["sequence"] - 1}).status_code == 404
    assert api.get(path, params={"as_of": "2020-01-01T00:00:00Z"}).status_code == 404
    later = (datetime.now(UTC) + timedelta(minutes=1)).isoformat().replace("+00:00", "Z")
    now = api.get(path, params={"as_of": later}).json()
    assert now["name"] == "A better name"
    first = api.get(f"{path}/history", params={"limit": 1}).json()
    second = api.get(f"{path}/history", params={"limit": 1, "cursor": first["page"]["next_cursor"]}).json()
    # More may be said of the pattern meanwhile; what was said stays in its order.
    ids = [entry["id"] for entry in api.get(f"{path}/history").json()["data"]]
    at = ids.index(first["data"][0]["id"])
    assert second["data"][0]["id"] == ids[at + 1]


def test_people_link_unlink_split_merge_and_close(api: httpx.Client) -> None:
    """Every decision about patterns, read back at once."""
    one = ingest(api, 4, service=unique("one"))
    two = ingest(api, 4, service=unique("two"))
    first = pattern_of(api, one)
    second = pattern_of(api, two)
    assert first["id"] != second["id"]
    issue_id = one["results"][1]["issue_id"]
    unlinked = api.post(f"/v1/issues/{issue_id}/unlink-pattern")
    assert unlinked.status_code == 200, unlinked.text
    assert unlinked.json()["pattern_id"] != first["id"]
    linked = api.post(f"/v1/issues/{issue_id}/link-pattern", json={"pattern_id": second["id"]})
    assert linked.status_code == 200, linked.text
    assert linked.json()["pattern_id"] == second["id"]
    merged = api.post(f"/v1/patterns/{second['id']}/merge", json={"source_pattern_id": first["id"]})
    assert merged.status_code == 200, merged.text
    assert merged.json()["issue_count"] == 8
    gone = api.get(f"/v1/patterns/{first['id']}").json()
    assert (gone["status"], gone["merged_into"]) == ("merged", second["id"])
    split = api.post(f"/v1/patterns/{second['id']}/split", json={"issue_ids": [issue_id], "name": "Apart"})
    assert split.status_code == 200, split.text
    assert (split.json()["name"], split.json()["issue_count"]) == ("Apart", 1)
    closed = api.post(f"/v1/patterns/{second['id']}/close", json={"closure_note": "Renewed it."})
    assert closed.status_code == 200, closed.text
    assert (closed.json()["status"], closed.json()["closure_note"]) == ("watching", "Renewed it.")


def test_predictions_are_judged_and_dismissed(
    stack: Stack, api: httpx.Client, access_token: str, tmp_path: Path
) -> None:
    """Feedback and dismissal show at once; tiles, forecast and accuracy have the contract's shape."""
    pattern = pattern_of(api, ingest(api, 4, service=unique("fc")))
    mine = {"pattern_id": pattern["id"], "window_days": 30}
    prediction = wait_for(lambda: api.get("/v1/predictions", params=mine).json()["data"])[0]
    path = f"/v1/predictions/{prediction['id']}"
    # The drivers lead from the base rate to the probability, in log odds.
    distance = _log_odds(prediction["probability"]) - _log_odds(prediction["base_rate"])
    assert sum(driver["log_odds"] for driver in prediction["drivers"]) == pytest.approx(distance, abs=1e-3)
    assert prediction["bucket"]["n"] >= prediction["bucket"]["hits"]
    draft = {"probability": prediction["probability"], "window_days": 30, "days": 365}
    tried = api.post("/v1/predictions/dry-run", json=draft).json()
    assert tried["fired"] == tried["hits"] + tried["misses"] + tried["undecided"]
    assert prediction["id"] in {alert["prediction_id"] for alert in tried["alerts"]}
    assert api.post("/v1/predictions/dry-run", json=draft | {"probability": 1}).json()["fired"] == 0
    asked = ("alerts", "threshold", str(draft["probability"]), "--dry-run", "--window", "30", "--days", "365")
    shown = causeloop(*asked, "--json", cwd=tmp_path, CAUSELOOP_URL=stack.url, CAUSELOOP_TOKEN=access_token)
    assert (shown.returncode, json.loads(shown.stdout)["fired"] >= tried["fired"]) == (0, True), shown.stderr
    judged = api.post(f"{path}/feedback", json={"outcome": "prevented", "note": "Rolled back."})
    assert judged.status_code == 200, judged.text
    assert (judged.json()["feedback"], judged.json()["feedback_note"]) == ("prevented", "Rolled back.")
    forecast = api.get(
        "/v1/predictions/forecast", params={"window": "7d", "pattern_id": pattern["id"]}
    ).json()
    assert forecast["today_index"] == 6
    assert [point["kind"] for point in forecast["points"]] == ["observed"] * 7 + ["forecast"] * 7
    assert forecast["axis"]["y_ticks"] == [0, 25, 50, 75, 100]
    assert forecast["alert_threshold"]["label"].startswith("ALERT ")
    dismissed = api.post(f"{path}/dismiss", json={"reason": "Known."})
    assert dismissed.status_code == 200, dismissed.text
    assert dismissed.json()["status"] == "dismissed"
    assert prediction["id"] not in {
        one["id"] for one in api.get("/v1/predictions", params=mine).json()["data"]
    }
    assert set(api.get("/v1/predictions/accuracy").json()) >= {
        "brier",
        "base_rate_brier",
        "skill",
        "n",
        "reliability",
        "calibration_error",
        "versions",
    }


def _log_odds(chance: float) -> float:
    return math.log(chance / (1 - chance))


def test_recommendations_are_taken_up(api: httpx.Client) -> None:
    """Steps are ticked; a dismissed one has no rank; rank 1 is first."""
    pattern = pattern_of(api, ingest(api, 6, service=unique("rec")))
    mine = {"pattern_id": pattern["id"]}
    recommendation = wait_for(lambda: api.get("/v1/recommendations", params=mine).json()["data"])[0]
    path = f"/v1/recommendations/{recommendation['id']}"
    ticked = api.put(f"{path}/steps/0", json={"is_done": True})
    assert ticked.status_code == 200, ticked.text
    assert ticked.json()["steps"][0]["is_done"]
    assert api.put(f"{path}/steps/99", json={}).status_code == 404
    taken = api.patch(path, json={"status": "accepted"})
    assert (taken.status_code, taken.json()["status"]) == (200, "in_progress")
    nowhere = api.patch(path, json={"status": "pending", "environment": "production"})
    assert (nowhere.status_code, nowhere.json()["code"]) == (400, "validation_error")
    assert "environment" in nowhere.text, "and the document says so, by a schema for each status"
    dismissed = api.patch(path, json={"status": "dismissed", "reason": "Not now."}).json()
    assert (dismissed["status"], dismissed["rank"]) == ("dismissed", None)
    ranks = [found["rank"] for found in api.get("/v1/recommendations", params={"limit": 100}).json()["data"]]
    assert [rank for rank in ranks if rank] == list(range(1, len([rank for rank in ranks if rank]) + 1))


def test_texts_with_nul_are_refused_and_the_field_is_named(api: httpx.Client) -> None:
    """PostgreSQL cannot store U+0000: such an event would stop every projection. The id is not even looked up."""
    name, note, reason = "a\0b", "\0", "because\0"
    for method, path, body, field in (
        ("PATCH", "/v1/patterns/pat_1", {"name": name}, "name"),
        ("POST", "/v1/patterns/pat_1/split", {"issue_ids": ["iss_1"], "name": name}, "name"),
        ("POST", "/v1/patterns/pat_1/close", {"closure_note": "done\0"}, "closure_note"),
        ("POST", "/v1/predictions/prd_1/feedback", {"outcome": "hit", "note": note}, "note"),
        ("POST", "/v1/predictions/prd_1/dismiss", {"reason": reason}, "reason"),
        ("PATCH", "/v1/recommendations/rec_1", {"status": "dismissed", "reason": reason}, "reason"),
        ("POST", "/v1/issues/iss_1/close", {"reason": reason}, "reason"),
    ):
        answer = api.request(method, path, json=body)
        assert answer.status_code == 400, (path, answer.text)
        assert list(answer.json()["error"]["details"]) == [field], (path, answer.text)


def test_what_is_seen_in_a_name_may_be_anywhere_in_it() -> None:
    """Blank before and after, over lines; found in one pass, whatever the length."""
    for good in ("a", "  a", "\n\t a \n", "a b\nc\n", "\x01é", "日本"):
        assert re.search(VISIBLE, good), good
    for bad in ("", " \n", "\x01\x7f", "\0", "a\0", "\0a", "a\0\n", "a\n\0b"):
        assert not re.search(VISIBLE, bad), bad
    started = time.process_time()
    assert not re.search(VISIBLE, " a" * 100_000 + "\0")
    assert time.process_time() - started < 1


def test_settings_change_once(api: httpx.Client) -> None:
    """The four settings, their bounds, and nothing for nothing."""
    changed = api.patch("/v1/workspace", json={"proof_window_days": 21, "confidence_threshold": 0.7}).json()
    assert changed["settings"]["proof_window_days"] == 21
    assert api.patch("/v1/workspace", json={}).json() == changed
    assert api.patch("/v1/workspace", json={"proof_window_days": 6}).status_code == 400
    assert api.get("/v1/workspace").json() == changed


def test_without_a_good_token_nothing_opens(stack: Stack, access_token: str) -> None:
    """401, whatever is wrong with it."""
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        for header in (
            "",
            "Bearer",
            "Bearer nonsense",
            "Basic abc",
            f"Bearer {cut_short(access_token, seconds=-1)}",
        ):
            answer = client.get("/v1/issues", headers={"Authorization": header})
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_another_workspace_sees_nothing_of_ours(api: httpx.Client, stack: Stack) -> None:
    """Its lists are empty, our ids are unknown there, and our cursors are no cursors."""
    issue = api.post("/v1/issues", json={"title": "Ours"}).json()
    api.post("/v1/issues", json={"title": "Ours too"})
    cursor = api.get("/v1/issues", params={"limit": 1}).json()["page"]["next_cursor"]
    other = asyncio.run(onboard(stack.database.owner_url))
    theirs = {"Authorization": f"Bearer {sign_in(stack.url, other.owner_email)}"}
    with httpx.Client(base_url=stack.url, headers=theirs, timeout=30) as client:
        assert client.get("/v1/issues").json()["page"]["total"] == 0
        assert client.get(f"/v1/issues/{issue['id']}").status_code == 404
        assert client.patch(f"/v1/issues/{issue['id']}", json={"title": "Mine"}).status_code == 404
        assert client.post(f"/v1/issues/{issue['id']}/unlink-pattern").status_code == 404
        assert client.get("/v1/issues", params={"limit": 1, "cursor": cursor}).status_code == 400


def test_a_cursor_that_was_changed_is_refused(api: httpx.Client) -> None:
    """Whatever is changed in it."""
    for title in ("One", "Two"):
        api.post("/v1/issues", json={"title": title})
    cursor = api.get("/v1/issues", params={"limit": 1}).json()["page"]["next_cursor"]
    raw = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    raw[-2] ^= 1
    changed = base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")
    answer = api.get("/v1/issues", params={"limit": 1, "cursor": changed})
    assert (answer.status_code, answer.json()["detail"]) == (400, "malformed cursor token")


def test_signing_in_gives_the_whole_pair(stack: Stack) -> None:
    """The union of both documented shapes; an empty subject is refused."""
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        answer = client.post("/v1/auth/exchange", json={"subject_token": "x"}).json()
        assert set(answer) == {
            "access_token", "refresh_token", "token_type", "expires_in", "scope", "workspace_id", "session_id", "id_token",
        }  # fmt: skip
        assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 3600)
        assert answer["refresh_token"].startswith("clp_refresh_")
        for token in ("", "\x00", "a\x00b"):
            assert client.post("/v1/auth/exchange", json={"subject_token": token}).status_code == 400
        for kind, status in (("jwt", 200), ("id_token", 200), ("access_token", 200), ("saml2", 400)):
            typed = {
                "subject_token": "x",
                "subject_token_type": f"urn:ietf:params:oauth:token-type:{kind}",
            }
            typed_answer = client.post("/v1/auth/exchange", json=typed)
            assert typed_answer.status_code == status, kind
            assert status == 200 or "subject_token_type" in typed_answer.json()["error"]["details"]
        assert client.post("/v1/auth/refresh", json={"refresh_token": "x"}).json()["code"] == "invalid_grant"
        payload = json.loads(base64.urlsafe_b64decode(answer["access_token"].split(".")[1] + "=="))
        assert set(payload) == {"iss", "sub", "ws", "sid", "iat", "exp", "typ"}
        assert {"issues:read", "issues:write"} <= set(answer["scope"].split())


def test_browsers_are_let_in_by_origin_only(api: httpx.Client) -> None:
    """CORS for the configured origin, security headers for all."""
    allowed = api.get("/v1/workspace", headers={"Origin": "http://localhost:3000"})
    assert allowed.headers["access-control-allow-origin"] == "http://localhost:3000"
    other = api.get("/v1/workspace", headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in other.headers
    assert other.headers["x-content-type-options"] == "nosniff"


def test_a_method_that_is_not_there_says_which_are(api: httpx.Client) -> None:
    """405 with Allow."""
    answer = api.delete("/v1/issues")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].replace(" ", "").split(",")) == {"GET", "HEAD", "POST", "OPTIONS"}


def test_report_of_a_known_issue_that_leaves_fields_out_changes_only_what_it_says(api: httpx.Client) -> None:
    """A source that repeats itself in fewer words neither reopens a closed issue nor empties its fields."""
    first = {
        "external_id": "known-1",
        "source": "jira",
        "title": "Login fails",
        "severity": "p1",
        "body": "why",
        "metadata": {"a": 1},
    }
    issue = api.post("/v1/issues", json=first).json()
    assert api.post(f"/v1/issues/{issue['id']}/close", json={"status": "resolved"}).status_code == 200
    again = {"external_id": "known-1", "source": "jira", "title": "Login fails again"}
    assert api.post("/v1/ingest/events", json=again).json()["outcome"] == "updated"
    answer = api.post("/v1/issues", json=again)
    assert answer.status_code == 200
    known = answer.json()
    expected = ("Login fails again", "p1", "resolved", "why", {"a": 1})
    assert expected == (known["title"], known["severity"], known["status"], known["body"], known["metadata"])
