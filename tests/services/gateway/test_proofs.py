"""A fix over HTTP: proved where it was made, unharmed by older versions, broken by the fixed one, in the ledger."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.services.gateway.test_api import unique, wait_for, words


def report(
    api: httpx.Client, count: int, *, title: str, service: str, version: str, days_apart: int = 0
) -> list[str]:
    """Failures up to now; the last one is the newest."""
    now = datetime.now(UTC)
    records = [
        {
            "external_id": unique("x"),
            "title": title,
            "service": service,
            "severity": "p2",
            "environment": "production",
            "version": version,
            "source_created_at": (now - timedelta(days=days_apart * (count - 1 - number))).isoformat(),
        }
        for number in range(count)
    ]
    answer = api.post("/v1/ingest/batch", json={"records": records})
    assert answer.status_code == 202, answer.text
    return [result["issue_id"] for result in answer.json()["results"]]


def test_a_fix_is_watched_broken_and_accounted_for(api: httpx.Client) -> None:
    """Closing starts the proof; an older version is residual; the fixed version breaks it and reopens the pattern."""
    title, service = words(), unique("svc")
    issues = report(api, 4, title=title, service=service, version="2.3.0", days_apart=5)
    pattern_id = wait_for(lambda: api.get(f"/v1/issues/{issues[-1]}").json().get("pattern_id"))
    path = f"/v1/patterns/{pattern_id}"
    closing = {"closure_note": "Sized the pool.", "environment": "production", "version": "2.4.0"}
    assert api.post(f"{path}/close", json=closing).status_code == 200

    def proof() -> dict[str, Any]:
        return dict(api.get(path).json()["proof"] or {})

    started = wait_for(proof)
    assert (started["verdict"], started["version"], started["n_residual"]) == ("proving", "2.4.0", 0)
    assert started["wanted_confidence"] == 0.95
    assert 0.0 <= started["confidence"] < 0.1
    assert started["window_days"] >= started["needs_quiet_days"] > 13.0
    report(api, 1, title=title, service=service, version="2.3.9")
    wait_for(lambda: proof()["n_residual"] == 1)
    assert proof()["verdict"] == "proving"
    [breaking] = report(api, 1, title=title, service=service, version="v2.4.1")
    wait_for(lambda: proof()["verdict"] == "broken")
    assert proof()["broken_by"] == breaking
    wait_for(lambda: api.get(path).json()["status"] == "active")
    [fix] = api.get(f"{path}/fixes").json()["fixes"]
    assert (fix["note"], fix["outcome"], fix["proof"]["verdict"]) == ("Sized the pool.", "recurred", "broken")
    assert fix["prevented"]["observed"] == 1
    ledger = api.get("/v1/ledger", params={"pattern_id": pattern_id}).json()
    assert (ledger["n_fixes"], ledger["n_not_counted"], ledger["total"]["observed"]) == (1, 0, 1)
    assert ledger["total"]["lower"] <= ledger["total"]["prevented"] <= ledger["total"]["upper"]
    # What is expected without the fix grows from one question to the next.
    assert ledger["entries"][0]["prevented"] == pytest.approx(fix["prevented"], abs=0.01)


def test_where_a_fix_was_made_is_bounded(api: httpx.Client) -> None:
    issues = report(api, 4, title=words(), service=unique("svc"), version="1.0")
    pattern_id = wait_for(lambda: api.get(f"/v1/issues/{issues[-1]}").json().get("pattern_id"))
    for wrong in ({"environment": ""}, {"version": "v" * 201}, {"fixed_at": "2999-01-01T00:00:00Z"}):
        answer = api.post(f"/v1/patterns/{pattern_id}/close", json={"closure_note": "Done.", **wrong})
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["details"].keys() == wrong.keys()
