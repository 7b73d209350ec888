"""The service as a process: it answers on the bus, counts, shows what came in, and stops cleanly."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from contracts import connector, ingest, prediction
from eventlog import Append, EventLog
from nats.aio.client import Client
from runtime.broker import CommandContext, ask
from runtime.embedded import free_port
from runtime.errors import UnavailableError
from testkit.builders import recorded
from testkit.servers import Database
from testkit.stack import ServiceProcess
from testkit.waiting import eventually

from services.ingest.state import NOTHING_YET

CONTEXT = CommandContext(workspace_id="ws_1", correlation_id="req_1")


@pytest.fixture
def service(database: Database, nats_url: str, tmp_path: Path) -> Iterator[ServiceProcess]:
    env = {
        "PORT": str(free_port()),
        "NATS_URL": nats_url,
        "DATABASE_URL": database.app_url,
        "DATABASE_PROJECTOR_URL": database.projector_url,
        "DATABASE_OWNER_URL": database.owner_url,
        "LOG_FORMAT": "json",
    }
    process = ServiceProcess("ingest", "services.ingest", env=env, log=tmp_path / "ingest.log")
    yield process
    process.kill()


async def test_service_takes_issues_counts_them_and_stops_cleanly(
    service: ServiceProcess, nc: Client, event_log: EventLog
) -> None:
    await service.start().ready()
    records = tuple(
        ingest.IssueReport(external_id=str(number), source="jira", severity="p9" if number == 7 else "p1")
        for number in range(100)
    )
    reply = await ask(
        nc,
        ingest.ReportIssues(records=records),
        endpoint="ingest.report_issues",
        reply=ingest.IssuesReported,
        context=CONTEXT,
        timeout=30,
    )
    assert [result.index for result in reply.results if result.outcome == "rejected"] == [7]
    assert reply.sequence == 99
    close = ingest.CloseIssue(
        issue_id=reply.results[0].issue_id or "", status=ingest.IssueStatus.CLOSED, reason=""
    )
    await ask(
        nc, close, endpoint="ingest.close_issue", reply=ingest.IssueChanged, context=CONTEXT, timeout=30
    )

    # It waits for its rows and looks there which runs are needed, whatever others tell meanwhile.
    run = {"run_id": "syn_1", "connector_id": "con_1"}
    done = {"outcome": connector.SyncOutcome.SUCCEEDED, "counts": NOTHING_YET, "reason": "", "detail": ""}
    for event, id_ in (
        (connector.SyncRequested(**run, kind=connector.SyncKind.REMAP), "syn_1"),
        (connector.SyncEnded(**run, **done), "syn_1"),
        (prediction.PredictionDismissed(prediction_id="prd_1", reason=""), "prd_1"),
    ):
        end = await event_log.append(Append(recorded(event, id_, workspace_id="ws_1"), None))
    purge = connector.PurgeRuns(run_ids=("syn_1", "syn_none"), ended_before=datetime.now(UTC))
    endpoint = connector.ENDPOINTS[connector.PurgeRuns]

    async def purged() -> connector.RunsPurged | None:
        # For two seconds, and refuses then: a machine that stands still shows no rows in that time.
        with suppress(UnavailableError):
            return await ask(
                nc, purge, endpoint=endpoint, reply=connector.RunsPurged, context=CONTEXT, timeout=30
            )
        return None

    assert await eventually(purged) == connector.RunsPurged(n_runs=1, sequence=end + 1)

    async with httpx.AsyncClient(base_url=service.url) as client:

        async def counted() -> bool:
            intake = (await client.get("/intake.json")).json()
            sources = [(row["workspace_id"], row["source"], row["n_issues"]) for row in intake["sources"]]
            changes = [(row["workspace_id"], row["outcome"], row["n_changes"]) for row in intake["changes"]]
            return (sources, changes) == ([("ws_1", "jira", 99)], [("ws_1", "closed", 1)])

        await eventually(counted)
        metrics = (await client.get("/metrics")).text
        assert 'causeloop_ingest_records_total{outcome="created"} 99.0' in metrics
        assert 'causeloop_ingest_records_total{outcome="rejected"} 1.0' in metrics
    code, output = await service.run("verify")
    assert code == 0, output
    assert service.stop() == 0
    assert "Traceback" not in service.output()
