"""Issues reach their age: first nobody is shown them, then nothing of them is found, and patterns go on as they were."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast
from uuid import uuid4

import httpx
import nats
import pytest
from contracts import Event, Recorded, connector, ingest, issue_id, prediction, record, workspace
from eventlog import Append, EventLog
from msgspec import Struct
from msgspec.structs import replace
from nats.aio.client import Client
from runtime.database import Pool, pool
from runtime.errors import UnavailableError
from runtime.service import Resources
from testkit.stack import Stack
from testkit.waiting import eventually

from services.gateway.governance.retaining import BEGINNING, Behind, Retainer
from services.gateway.identity.governance._queries import Windows
from services.gateway.past import Pasts
from services.gateway.projections import projection

from .tenants import Tenant, onboard
from .test_governance import client, finished, unpacked
from .test_workspace_erasure import messages_with, rows_with, verified

LONG_AGO = (NOW := datetime.now(UTC)) - timedelta(days=400)
WINDOWS = Windows(workspace_id="", issues_days=365, prompt_logs_days=90, predictions_days=365, grace_days=30)


class Scene(Struct):
    """A workspace with three issues of long ago and three of now, all of one pattern. word: in every text of the old."""

    tenant: Tenant
    owner: httpx.Client
    log: EventLog
    nc: Client
    rows: Pool
    word: str
    old: list[str]
    new: list[str]
    pattern_id: str = ""

    async def retain(self, *, days_later: float = 0, window: Windows | None = None) -> None:
        """All that is due at a time, as the gateway that leads does it every hour."""
        later = timedelta(days=days_later)
        retainer = Retainer(self.nc, self.log, self.rows, clock=lambda: datetime.now(UTC) + later)
        window = replace(window or WINDOWS, workspace_id=self.tenant.workspace_id)
        for work in retainer.works.values():
            after: Behind | None = BEGINNING
            async with asyncio.timeout(60):
                while after is not None:
                    try:
                        after = await work(window, after)
                    except UnavailableError:
                        # Rows that come late: the one that leads tries again, too.
                        await asyncio.sleep(0.1)

    def listed(self) -> set[str]:
        """What the list of issues shows; its count is the same."""
        answer = self.owner.get("/v1/issues", params={"limit": 100}).json()
        ids = {issue["id"] for issue in answer["data"]}
        assert answer["page"]["total"] == len(ids)
        return ids

    async def gone(self) -> None:
        """Hidden, and seen to be."""
        await self.retain()
        await eventually(lambda: self.listed() == set(self.new))

    async def purged(self) -> None:
        """Deleted, and seen to be, in the gateway's rows."""
        await self.gone()
        await self.retain(days_later=31)

        async def is_purged() -> bool:
            return not await messages_with_subject(self)

        await eventually(is_purged)


async def known_then(scene: Scene, stack: Stack, *, sequence: int) -> set[str]:
    """The issues and predictions that an answer about the past is made of."""
    resources = SimpleNamespace(event_log=scene.log, clock=lambda: datetime.now(UTC))
    pasts = Pasts(cast(Resources, resources), projection(), url=stack.database.app_url)
    keeping = asyncio.create_task(pasts.run())
    try:
        async with pasts.at(scene.tenant.workspace_id, sequence) as (rows, _), rows.connection() as conn:
            cursor = await conn.execute(
                "SELECT issue_id FROM issues UNION SELECT issue_id FROM comments"
                " UNION SELECT prediction_id FROM predictions"
            )
            return {str(id_) for (id_,) in await cursor.fetchall()}
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def messages_with_subject(scene: Scene) -> list[int]:
    """How many events of each old issue the log has, those that have any."""
    histories = await scene.log.histories(scene.tenant.workspace_id, "issue", scene.old)
    return [len(history) for history in histories if history]


def reported(tenant: Tenant, word: str, number: int) -> list[Recorded[Event]]:
    """An issue of long ago and a comment on it, as they came in then."""
    external_id = f"{word}-{number}"
    id_ = issue_id(tenant.workspace_id, "custom_api", external_id)
    at = LONG_AGO + timedelta(hours=number)

    def said(data: Event, key: str) -> Recorded[Event]:
        return record(
            data,
            workspace_id=tenant.workspace_id,
            aggregate_id=id_,
            occurred_at=at,
            recorded_at=at,
            source="ingest",
            event_id=f"evt_{key}{id_}",
        )

    return [
        said(
            ingest.IssueReported(
                issue_id=id_,
                source="custom_api",
                external_id=external_id,
                title=f"Checkout times out for {word}@customer.example",
                body=f"{word} wrote: nothing works",
                severity=ingest.Severity.P1,
                status=ingest.IssueStatus.NEW,
                service="checkout",
                assignee=word,
                external_url=f"https://tracker.example/{word}",
                metadata={"customer": word},
            ),
            "1",
        ),
        said(
            ingest.IssueCommented(
                issue_id=id_, comment_id=f"cmt_{id_}", author_id="usr_x", text=f"{word} called"
            ),
            "2",
        ),
        said(
            ingest.IssueClosed(issue_id=id_, status=ingest.IssueStatus.RESOLVED, reason=f"{word} is happy"),
            "3",
        ),
    ]


@pytest.fixture
async def scene(stack: Stack) -> AsyncIterator[Scene]:
    tenant = await onboard(stack.database.owner_url)
    nc = await nats.connect(stack.nats.url)
    log = await EventLog.connect(nc, ensure_streams=False)
    word = f"zebra{uuid4().hex[:8]}"
    rows = pool(stack.database.app_url, schema="gateway", max_size=2)
    await rows.open()
    old = []
    for number in range(3):
        events = reported(tenant, word, number)
        for event in events:
            await log.append(Append(event, None))
        old.append(events[0].aggregate_id)
    owner = client(stack, tenant.owner_email)
    made = Scene(tenant, owner, log, nc, rows, word, old, [])
    for number in range(3):
        body = {"title": f"Checkout times out for {number}@customer.example", "service": "checkout"}
        answer = owner.post("/v1/issues", json=body)
        assert answer.status_code == 201, answer.text
        made.new.append(answer.json()["id"])

    def is_one_pattern() -> bool:
        found = owner.get("/v1/patterns").json()["data"]
        made.pattern_id = found[0]["id"] if found else ""
        return bool(found) and found[0]["issue_count"] == 6

    await eventually(is_one_pattern)
    yield made
    owner.close()
    await rows.close()
    await nc.close()


def counted(scene: Scene) -> dict[str, object]:
    """What is said of the pattern that rests on counts and times."""
    found = scene.owner.get(f"/v1/patterns/{scene.pattern_id}").json()
    series = scene.owner.get(f"/v1/patterns/{scene.pattern_id}/frequency", params={"window": "90d"}).json()
    kept = ("name", "status", "issue_count", "risk_score", "confidence", "fingerprint", "first_seen_at")
    # At midnight an empty day comes and another goes.
    days = [day for day in series["points"] if day["count"]]
    return {**{name: found[name] for name in kept}, "days": days}


async def nothing_with(stack: Stack, words: list[str]) -> bool:
    """Whether no row of any service and no message has one of the words; each is deleted in its own time."""
    return await rows_with(stack, words) == [] and await messages_with(stack, words) == []


async def test_what_has_expired_is_shown_nowhere_and_patterns_go_on_counting_it(
    scene: Scene, stack: Stack
) -> None:
    before = counted(scene)
    assert scene.owner.get(f"/v1/issues/{scene.old[0]}").status_code == 200
    [*_, last] = await scene.log.history(scene.tenant.workspace_id, "issue", scene.old[-1])
    assert await known_then(scene, stack, sequence=last.seq) == set(scene.old)
    await scene.gone()
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("GET", "/activity"),
        ("GET", "/comments"),
        ("POST", "/comments"),
    ):
        body = {"severity": "low"} if method == "PATCH" else {"text": "Still there?"}
        more = {} if method == "GET" else {"json": body}
        answer = scene.owner.request(method, f"/v1/issues/{scene.old[0]}{path}", **more)
        assert answer.status_code == 404, (method, path, answer.text)
    assert await known_then(scene, stack, sequence=last.seq) == set()
    members = scene.owner.get(f"/v1/patterns/{scene.pattern_id}/members").json()
    assert {member["issue_id"] for member in members["data"]} == set(scene.new)
    assert counted(scene) == before
    assert scene.word not in await exported(scene)
    assert set((await verified(stack)).values()) == {True}


async def exported(scene: Scene) -> str:
    """All that a copy of the workspace has."""
    export_id = scene.owner.post("/v1/governance/exports").json()["id"]
    done = await finished(scene.owner, f"/v1/governance/exports/{export_id}")
    return str(unpacked(scene.owner.get(done["download_url"]).content))


async def test_nothing_is_found_of_purged_issues_and_a_replay_gives_the_same_rows(
    scene: Scene, stack: Stack
) -> None:
    before = counted(scene)
    assert {trace.store for trace in await rows_with(stack, [scene.word])} >= {
        "gateway.issues",
        "gateway.comments",
    }
    await scene.purged()
    await eventually(lambda: nothing_with(stack, [scene.word]))
    assert set((await verified(stack)).values()) == {True}
    assert counted(scene) == before
    assert scene.listed() == set(scene.new)


async def test_what_is_reported_again_after_its_purge_begins_anew(scene: Scene, stack: Stack) -> None:
    await scene.purged()
    answer = scene.owner.post(
        "/v1/issues",
        json={
            "title": "Checkout times out for somebody@customer.example",
            "external_id": f"{scene.word}-0",
            "service": "checkout",
        },
    )
    assert answer.status_code == 201, answer.text
    again = answer.json()
    # Its pattern may have it already, and it follows that; closed it is no more.
    assert again["id"] == scene.old[0] and again["status"] in ("new", "pattern_found")
    await eventually(lambda: counted(scene)["issue_count"] == 7)
    members = scene.owner.get(f"/v1/patterns/{scene.pattern_id}/members").json()["data"]
    assert {member["issue_id"] for member in members} == {*scene.new, scene.old[0]}
    assert scene.owner.get(f"/v1/issues/{scene.old[0]}/comments").json()["data"] == []
    assert set((await verified(stack)).values()) == {True}


async def test_a_report_brings_an_expired_issue_back_with_its_pattern(scene: Scene, stack: Stack) -> None:
    await scene.gone()
    answer = scene.owner.post(
        "/v1/issues",
        json={"external_id": f"{scene.word}-1", "title": "Checkout times out again", "service": "checkout"},
    )
    assert answer.status_code in (200, 201), answer.text
    await eventually(lambda: scene.listed() == {*scene.new, scene.old[1]})
    found = scene.owner.get(f"/v1/issues/{scene.old[1]}").json()
    assert (found["title"], found["pattern_id"]) == ("Checkout times out again", scene.pattern_id)
    assert len(scene.owner.get(f"/v1/issues/{scene.old[1]}/comments").json()["data"]) == 1
    await scene.retain(days_later=31)
    assert scene.old[1] in scene.listed()
    assert counted(scene)["issue_count"] == 6
    assert set((await verified(stack)).values()) == {True}


def foretold(scene: Scene, key: str, *said: prediction.Event, days: float, says: str) -> list[Append]:
    """A weekly prediction of long ago, and what was said of it on each day after; the log takes them as one."""
    id_ = f"prd_{scene.word}_{key}"
    made = prediction.PredictionMade(
        prediction_id=id_,
        pattern_id=scene.pattern_id,
        window_days=7,
        probability=0.9,
        lower=0.8,
        upper=0.95,
        impact=prediction.Impact.HIGH,
        likely_trigger=says,
        model="gamma_poisson",
        model_version="gamma-poisson@2024-11-22",
        inputs=prediction.ForecastInputs(
            n_recurrences=3,
            exposure_days=40.0,
            quiet_days=2.0,
            prior_shape=0.5,
            prior_rate_days=30.0,
            base_rate=0.3,
            n_resolved=2,
        ),
        expires_at=LONG_AGO + timedelta(days=days + 7),
        low_confidence=False,
    )
    at = LONG_AGO + timedelta(days=days)
    return [
        Append(
            record(
                replace(data, prediction_id=id_),
                workspace_id=scene.tenant.workspace_id,
                aggregate_id=id_,
                occurred_at=at + timedelta(days=number),
                recorded_at=at + timedelta(days=number),
                source="prediction",
                event_id=f"evt_{number}{id_}",
            ),
            0,
        )
        for number, data in enumerate((made, *said))
    ]


def accuracy(scene: Scene) -> dict[str, object]:
    """How well predictions did; sums of halves and wholes differ in their last digits."""
    answer = scene.owner.get("/v1/predictions/accuracy")
    found: dict[str, object] = json.loads(answer.text, parse_float=lambda text: round(float(text), 6))
    return found


async def is_told(scene: Scene) -> bool:
    """Whether the services hear of the workspace's settings."""
    space = scene.tenant.workspace_id
    history = await scene.log.history(space, "workspace", space)
    return any(isinstance(event.data, workspace.WorkspaceSettingsChanged) for event in history)


async def test_expired_predictions_are_shown_nowhere_purged_ones_are_nowhere_and_their_scores_stay(
    scene: Scene, stack: Stack
) -> None:
    """What still counts stays: the last of a pattern, and the last that alerted."""
    word = f"quagga{uuid4().hex[:8]}"
    # Nothing that is forecast meanwhile alerts.
    assert scene.owner.patch("/v1/workspace", json={"alert_probability": 1}).status_code == 200
    await eventually(lambda: is_told(scene), deadline=30)
    hit, miss, alert = (
        prediction.PredictionResolved(
            prediction_id="",
            pattern_id=scene.pattern_id,
            outcome=outcome,
            brier=0.01,
            window_days=7,
            probability=0.9,
        )
        for outcome in (prediction.Outcome.HIT, prediction.Outcome.MISS, prediction.Outcome.MISS)
    )
    fired = prediction.AlertFired(
        prediction_id="", pattern_id=scene.pattern_id, window_days=7, probability=0.9, threshold=0.5
    )
    prevented = prediction.PredictionFeedbackGiven(
        prediction_id="", outcome=prediction.Outcome.PREVENTED, note=f"{word} did it"
    )
    dismissed = prediction.PredictionDismissed(prediction_id="", reason=f"{word} knew")
    gone = [
        foretold(scene, "hit", fired, hit, days=0, says=word),
        foretold(scene, "miss", dismissed, miss, days=1, says=word),
        foretold(scene, "prevented", prevented, days=2, says=word),
    ]
    kept = foretold(scene, "alert", fired, alert, days=3, says="")
    for appends in (*gone, kept):
        await scene.log.append(*appends)
    ids = [appends[0].event.aggregate_id for appends in gone]

    def is_renewed() -> bool:
        """Forecasts of long ago are old, so there are new ones, which are the last."""
        now = scene.owner.get("/v1/predictions", params={"pattern_id": scene.pattern_id, "window_days": 7})
        found = now.json()["data"]
        return bool(found) and not any(one["id"].startswith(f"prd_{scene.word}") for one in found)

    await eventually(is_renewed, deadline=60)
    assert scene.owner.patch("/v1/workspace", json={"alert_probability": 0.9}).status_code == 200
    before = accuracy(scene)
    assert (before["n"], before["hits"], before["lead_time_days"]) == (3, 1, 2)
    assert {trace.store for trace in await rows_with(stack, [word])} == {"gateway.predictions"}

    [*_, last] = await scene.log.history(scene.tenant.workspace_id, "prediction", ids[-1])
    assert set(ids) <= await known_then(scene, stack, sequence=last.seq)

    await scene.retain()

    def is_gone() -> bool:
        return [scene.owner.get(f"/v1/predictions/{id_}").status_code for id_ in ids] == [404, 404, 404]

    def listed() -> set[str]:
        statuses = {"status": "active,dismissed,resolved,superseded", "limit": 100}
        found = scene.owner.get("/v1/predictions", params=statuses).json()
        assert found["page"]["total"] == len(found["data"])
        return {one["id"] for one in found["data"] if one["id"].startswith(f"prd_{scene.word}")}

    async def is_purged() -> bool:
        return not any(await scene.log.histories(scene.tenant.workspace_id, "prediction", ids))

    last_alert = kept[0].event.aggregate_id
    await eventually(is_gone)
    assert listed() == {last_alert}
    for path, body in (("feedback", {"outcome": "hit"}), ("dismiss", {})):
        refused = scene.owner.post(f"/v1/predictions/{ids[0]}/{path}", json=body)
        assert refused.status_code == 404, refused.text
    assert set(ids) & await known_then(scene, stack, sequence=last.seq) == set()
    assert word not in await exported(scene)
    assert accuracy(scene) == before
    assert {trace.store for trace in await rows_with(stack, [word])} == {"gateway.predictions"}
    assert set((await verified(stack)).values()) == {True}
    # Nothing brings it back, and its grace is not over.
    await scene.retain(days_later=29)
    assert not await is_purged()

    await scene.retain(days_later=31)
    await eventually(is_purged)
    await eventually(lambda: nothing_with(stack, [word]))
    assert listed() == {last_alert}
    assert accuracy(scene) == before
    kept_for = {"predictions_days": 20, "grace_days": 10}
    assert scene.owner.patch("/v1/settings/data-retention", json=kept_for).status_code == 200
    tried = scene.owner.post("/v1/predictions/dry-run", json={"probability": 0.5, "days": 90}).json()
    reach = datetime.now(UTC) - datetime.fromisoformat(tried["since"])
    assert timedelta(days=19) < reach < timedelta(days=21)
    assert set((await verified(stack)).values()) == {True}


def polled(scene: Scene, number: int, outcome: connector.SyncOutcome, *, n_created: int = 0) -> list[Append]:
    """A scheduled run of long ago that ended at once; the later, the higher its number."""
    ids = {"run_id": f"syn_{scene.word}_{number}", "connector_id": f"con_{scene.word}"}
    counts = connector.SyncCounts(
        n_records=n_created, n_created=n_created, n_updated=0, n_unchanged=0, n_ignored=0, n_rejected=0
    )
    said = (
        connector.SyncRequested(**ids, kind=connector.SyncKind.SCHEDULED),
        connector.SyncEnded(**ids, outcome=outcome, counts=counts, reason="", detail=""),
    )
    at = LONG_AGO + timedelta(hours=number)
    return [
        Append(
            record(
                data,
                workspace_id=scene.tenant.workspace_id,
                aggregate_id=ids["run_id"],
                occurred_at=at,
                recorded_at=at,
                source="ingest",
                event_id=f"evt_{place}{ids['run_id']}",
            ),
            0,
        )
        for place, data in enumerate(said)
    ]


async def test_runs_of_long_ago_are_gone_but_for_those_that_a_connector_rests_on(
    scene: Scene, stack: Stack
) -> None:
    """The last that succeeded and the last twenty stay; a failure in a row of many counts as before.
    Of a deleted one all go, in the round after ingest's own rows have the deletion."""
    space, connector_id = scene.tenant.workspace_id, f"con_{scene.word}"
    settings = connector.ConnectorSettings(type="custom_api", display_name="Old", auth=0)
    made = connector.ConnectorCreated(
        connector_id=connector_id, settings=settings, status=connector.ConnectorStatus.PAUSED
    )
    at = {"occurred_at": LONG_AGO, "recorded_at": LONG_AGO}
    asked = record(made, workspace_id=space, aggregate_id=connector_id, source="ingest", **at)
    await scene.log.append(Append(asked, 0))
    done, failed = connector.SyncOutcome.SUCCEEDED, connector.SyncOutcome.FAILED
    failures = [polled(scene, number, failed) for number in range(2, 24)]
    runs = [polled(scene, 0, done), polled(scene, 1, done, n_created=1), *failures]
    for appends in runs:
        await scene.log.append(*appends)
    names = [appends[0].event.aggregate_id for appends in runs]

    def listed() -> list[str]:
        answer = scene.owner.get(f"/v1/connectors/{connector_id}/sync-runs", params={"limit": 100})
        return sorted(run["sync_run_id"] for run in answer.json().get("data", ()))

    await eventually(lambda: listed() == sorted(names))
    await scene.retain()
    await eventually(lambda: listed() == sorted([names[1], *names[4:]]))
    assert [len(each) for each in await scene.log.histories(space, "sync_run", names[:5])] == [0, 2, 0, 0, 2]
    assert scene.owner.get(f"/v1/connectors/{connector_id}").json()["last_synced_at"] is not None
    assert scene.owner.delete(f"/v1/connectors/{connector_id}").status_code == 204
    await eventually(lambda: listed() == [])
    await scene.retain(days_later=29)
    assert any(await scene.log.histories(space, "sync_run", names))
    while any(await scene.log.histories(space, "sync_run", names)):
        await scene.retain(days_later=31)
    assert set((await verified(stack)).values()) == {True}


def asked(scene: Scene, issue: str, word: str, *, days_ago: float) -> list[Append]:
    """An analysis, and what a model was asked for it."""
    space, at = scene.tenant.workspace_id, NOW - timedelta(days=days_ago)
    id_ = f"ana_{scene.word}_{issue}"
    claim = ingest.AnalysisClaim(text="It was full.", evidence_ids=("e1",))
    analysis = ingest.Analysis(
        root_cause=claim,
        contributing_factors=(claim,),
        why_recurring=claim,
        confidence=0.5,
        model="m",
        model_version="v",
        evidence=(ingest.AnalysisEvidence(id="e1", kind="terms", text="They say full.", issue_ids=(issue,)),),
    )
    told: list[tuple[Event, str]] = [
        (ingest.AnalysisStarted(issue_id=issue, analysis_id=id_, tier=ingest.AnalysisTier.FAST), issue),
        (
            ingest.AnalysisRecorded(
                issue_id=issue,
                analysis_id=id_,
                tier=ingest.AnalysisTier.FAST,
                status=ingest.IssueStatus.ANALYZED,
                analysis=analysis,
            ),
            issue,
        ),
        (
            ingest.ModelAsked(
                analysis_id=id_,
                issue_id=issue,
                exchange=ingest.ModelExchange(
                    model="m",
                    host="h",
                    prompt_version="p",
                    messages=(ingest.ModelMessage(role="user", text=f"Why did {word} fail?"),),
                    attempts=(),
                ),
            ),
            id_,
        ),
    ]
    return [
        Append(
            record(
                data,
                workspace_id=space,
                aggregate_id=aggregate_id,
                occurred_at=at,
                recorded_at=at,
                source="ingest",
                event_id=f"evt_{number}{id_}",
            ),
            None,
        )
        for number, (data, aggregate_id) in enumerate(told)
    ]


async def test_expired_prompts_are_shown_to_nobody_and_deleted_after_their_grace(
    scene: Scene, stack: Stack
) -> None:
    """Those of an issue that is expired itself are shown to nobody at once."""
    word = f"okapi{uuid4().hex[:8]}"
    for issue, days_ago in ((scene.new[0], 95), (scene.old[0], 100)):
        for append in asked(scene, issue, word, days_ago=days_ago):
            await scene.log.append(append)
    issues = scene.new[0], scene.old[0]
    paths = [f"/v1/issues/{issue}/analyses/ana_{scene.word}_{issue}" for issue in issues]

    def found() -> list[int]:
        return [scene.owner.get(f"{path}/prompt").status_code for path in paths]

    await eventually(lambda: found() == [200, 200])
    assert word in await exported(scene)
    # The issue of long ago expires, its prompt would not yet.
    await scene.retain(window=replace(WINDOWS, prompt_logs_days=101, issues_days=99))
    await eventually(lambda: found() == [200, 404])
    await scene.retain()
    await eventually(lambda: found() == [404, 404])
    assert word not in await exported(scene)
    shown = scene.owner.get(f"/v1/issues/{scene.new[0]}")
    assert shown.status_code == 200, shown.text
    await scene.retain(days_later=29)
    assert await messages_with(stack, [word]) != []
    assert set((await verified(stack)).values()) == {True}
    await scene.retain(days_later=31)
    await eventually(lambda: nothing_with(stack, [word]))
    assert found() == [404, 404]
    assert set((await verified(stack)).values()) == {True}
