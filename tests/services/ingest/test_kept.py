"""What there is of sources: the catalogue, a mapping tried on samples and on what is kept, rejected records tried again."""

import random
from datetime import timedelta

import msgspec
import pytest
from contracts import connector, ingest, issue_id
from eventlog import EventLog
from msgspec.structs import replace
from runtime.broker import CommandContext
from runtime.database import Pool

from services.ingest.connectors.connecting import source_of
from services.ingest.endpoints import kept as room
from services.ingest.endpoints.kept import Keeping
from services.ingest.errors import ConnectorNotFoundError, InvalidConnectorError
from services.ingest.jobs.intake import Intake
from services.ingest.records import Raw, Records, Rejection
from services.ingest.reporting.sources import Sources
from tests.services.ingest.builders import NOW
from tests.services.ingest.conftest import Plan

SPACE = "ws_01HZ0000000000000000000000"
CONTEXT = CommandContext(workspace_id=SPACE, actor="usr_1", correlation_id="r")
CON = "con_1"
SETTINGS = connector.ConnectorSettings(
    type="zendesk", display_name="Help", auth=1, config={"subdomain": "acme"}
)
TICKET: dict[str, object] = {"id": 7, "subject": "Down", "status": "open", "priority": "urgent"}


class Bench:
    """The endpoints over real servers, with what they stand on."""

    def __init__(self, event_log: EventLog, pool: Pool, plan: Plan) -> None:
        self.sources = Sources(event_log, clock=lambda: NOW)
        self.records = Records(pool, clock=lambda: NOW, rng=random.Random(1))
        self.intake = intake = Intake(event_log, self.records, allow=plan.allow, clock=lambda: NOW)
        self.keeping = Keeping(self.sources, self.records, intake, clock=lambda: NOW)

    async def connect(self, **mapping: str) -> None:
        settings = replace(SETTINGS, mapping=mapping)
        made = connector.ConnectorCreated(
            connector_id=CON, settings=settings, status=connector.ConnectorStatus.CONNECTED
        )
        await self.sources.create(CON, [made], CONTEXT)


@pytest.fixture
async def bench(event_log: EventLog, sources_pool: Pool, plan: Plan) -> Bench:
    made = Bench(event_log, sources_pool, plan)
    await made.connect()
    return made


async def test_the_catalogue_says_what_is_asked_and_what_a_source_can_do(bench: Bench) -> None:
    """Of every type there is; and no secret has a place in it, only its name."""
    described = await bench.keeping.describe_sources(connector.DescribeSources(), CONTEXT)
    by_type = {each.type: each for each in described.types}
    assert list(by_type) == sorted(by_type)
    assert all(each.auth and each.name for each in described.types)
    jira = by_type["jira"]
    assert [field.key for field in jira.target] == ["project", "issue_type"]
    assert jira.is_tracker
    ways = {way.kind: [field.key for field in way.secrets] for way in by_type["zendesk"].auth}
    assert ways["oauth2_code"] == ["client_id", "client_secret"]
    one = await bench.keeping.describe_sources(connector.DescribeSources(type="pagerduty"), CONTEXT)
    assert one.types == (by_type["pagerduty"],)
    assert one.types[0].streams
    assert one.types[0].webhook_schemes == ("hmac",)
    with pytest.raises(InvalidConnectorError, match="no type"):
        await bench.keeping.describe_sources(connector.DescribeSources(type="nothing"), CONTEXT)


async def test_a_mapping_is_tried_on_a_sample(bench: Bench) -> None:
    """With the manifest's fields or others, and nothing is stored."""
    records = [TICKET, {"subject": "no id"}, 5]
    asked = connector.PreviewMapping(type="zendesk", sample=msgspec.json.encode(records).decode())
    previewed = await bench.keeping.preview_mapping(asked, CONTEXT)
    assert (previewed.n_records, previewed.n_mapped, previewed.n_changed) == (3, 1, 0)
    good, bad, worse = previewed.records
    assert good.issue is not None
    assert (good.issue["title"], good.issue["external_id"], good.issue["severity"]) == ("Down", "7", "p1")
    assert (bad.path, worse.index, worse.issue) == ("external_id", 2, None)
    other = replace(asked, mapping={"title": "status"})
    changed = await bench.keeping.preview_mapping(other, CONTEXT)
    assert changed.records[0].issue is not None
    assert changed.records[0].issue["title"] == "open"
    assert await bench.records.n_kept(SPACE, CON) == 0


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"sample": "{"}, "sample"),
        ({"sample": "[" * 5000}, "sample"),
        ({"sample": '"' + "x" * room.SAMPLE_BYTES_MAX + '"'}, "sample"),
        ({"sample": msgspec.json.encode([{}] * (room.SAMPLE_RECORDS_MAX + 1)).decode()}, "sample"),
        ({"sample": "{}", "type": "nothing"}, "type"),
        ({"sample": "{}", "mapping": {"title": "[["}}, "mapping.title"),
        ({"sample": "{}", "mapping": {"nonsense": "a"}}, "mapping.nonsense"),
        ({"sample": "{}", "type": "custom_mine"}, "manifest"),
    ],
)
async def test_a_preview_says_what_is_wrong_with_what_it_was_given(
    bench: Bench, fields: dict[str, object], path: str
) -> None:
    """By path; and before anything takes long."""
    asked = msgspec.convert({"type": "zendesk", "sample": "", **fields}, connector.PreviewMapping)
    with pytest.raises(InvalidConnectorError) as refused:
        await bench.keeping.preview_mapping(asked, CONTEXT)
    assert list(refused.value.problems) == [path]


async def test_a_mapping_is_tried_on_what_is_kept_and_says_what_would_change(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changes stands first; an answer is never too long for the broker."""
    kept = [Raw(str(n), {**TICKET, "id": n, "subject": "x" * 400}) for n in range(5)]
    kept.append(Raw("9", {**TICKET, "id": 9, "assignee": "Ada"}))
    await bench.records.keep(SPACE, CON, "tickets", kept)
    asked = connector.PreviewMapping(
        type="zendesk", mapping={"team": "assignee"}, sample="", connector_id=CON
    )
    previewed = await bench.keeping.preview_mapping(asked, CONTEXT)
    assert (previewed.n_records, previewed.n_mapped, previewed.n_changed) == (6, 6, 1)
    assert [(each.index, each.changed) for each in previewed.records[:2]] == [(5, ("team",)), (0, ())]
    assert previewed.records[0].issue is not None
    # As it would be known by: Zendesk counts tickets in each account.
    assert previewed.records[0].issue["external_id"] == "acme/9"
    gone = replace(asked, mapping={"external_id": "assignee"})
    assert (await bench.keeping.preview_mapping(gone, CONTEXT)).records[0].changed == ("outcome",)
    # Another id is another issue, so people are told.
    other = replace(asked, mapping={"external_id": "status"})
    assert "external_id" in (await bench.keeping.preview_mapping(other, CONTEXT)).records[0].changed
    monkeypatch.setattr(room, "ANSWER_BYTES_MAX", 1500)
    cut = await bench.keeping.preview_mapping(asked, CONTEXT)
    assert (len(cut.records), cut.n_records) == (2, 6)
    with pytest.raises(ConnectorNotFoundError):
        await bench.keeping.preview_mapping(replace(asked, connector_id="con_none"), CONTEXT)


async def test_dead_letters_are_listed_in_pages_and_tried_again_with_the_present_mapping(
    bench: Bench, event_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that become issues are gone, the others stay with their tries counted; trying again changes nothing."""
    records: list[object] = [{**TICKET, "id": None, "key": n} for n in range(3)]
    await bench.records.reject(
        SPACE, CON, "tickets", [Rejection(record, "external_id", "nothing") for record in [*records, 5]]
    )
    listed = await bench.keeping.list_dead_letters(
        connector.ListDeadLetters(connector_id=CON, limit=3), CONTEXT
    )
    assert (len(listed.letters), listed.has_more, listed.total) == (3, True, 4)
    rest = await bench.keeping.list_dead_letters(
        connector.ListDeadLetters(connector_id=CON, limit=3, before=listed.letters[-1].letter_id), CONTEXT
    )
    assert (len(rest.letters), rest.has_more, rest.total) == (1, False, 4)
    monkeypatch.setattr(room, "ANSWER_BYTES_MAX", 300)
    cut = await bench.keeping.list_dead_letters(connector.ListDeadLetters(connector_id=CON, limit=3), CONTEXT)
    assert (len(cut.letters), cut.has_more) == (1, True)

    again = connector.RetryDeadLetters(connector_id=CON)
    tried = await bench.keeping.retry_dead_letters(again, CONTEXT)
    assert (tried.n_mapped, tried.n_rejected, tried.sequence) == (0, 4, 0)
    await bench.sources.decide(
        CON,
        CONTEXT,
        lambda _: [
            connector.ConnectorConfigured(
                connector_id=CON, settings=replace(SETTINGS, mapping={"external_id": "key"})
            )
        ],
    )
    tried = await bench.keeping.retry_dead_letters(again, CONTEXT)
    assert (tried.n_mapped, tried.n_rejected) == (3, 1)
    assert tried.sequence > 0
    assert await bench.records.n_kept(SPACE, CON) == 3
    (left,), total = await bench.records.letters(SPACE, CON, limit=9)
    assert (left.record, left.n_attempts, total) == ("5", 3, 1)
    with pytest.raises(ConnectorNotFoundError):
        await bench.keeping.retry_dead_letters(connector.RetryDeadLetters(connector_id="con_none"), CONTEXT)


async def test_a_dead_letter_counts_as_of_when_it_came_last(bench: Bench, event_log: EventLog) -> None:
    """Its content went, came back and is what the source has now; trying it again is no coming."""
    once = {"id": 7, "subject": "Down"}
    source = source_of(CON, replace(SETTINGS, mapping={"external_id": "key"}))
    for hours, record in ((3, once), (2, {**once, "subject": "Solved", "key": 7}), (1, once)):
        came_at = [NOW - timedelta(hours=hours)]
        await bench.intake.take_in(source, "tickets", [record], CONTEXT, came_at=came_at)
    (letter,) = await bench.records.to_retry(SPACE, CON, [], limit=9)
    await bench.records.reject(SPACE, CON, "tickets", [Rejection(once, "", "", letter.came_at)])
    (again,) = await bench.records.to_retry(SPACE, CON, [], limit=9)
    assert (again.came_at, again.n_attempts) == (NOW - timedelta(hours=1), 3)
    tried = await bench.keeping.retry_dead_letters(connector.RetryDeadLetters(connector_id=CON), CONTEXT)
    assert tried.n_mapped == 1
    ((kept,),) = [page async for page in bench.records.pages(SPACE, CON)]
    assert kept.record == once
    last = await event_log.latest(SPACE, "issue", issue_id(SPACE, "zendesk", "acme/7"))
    assert last is not None
    assert isinstance(last.data, ingest.IssueUpdated)
    assert last.data.title == "Down"


async def test_what_has_reached_its_age_is_purged(bench: Bench) -> None:
    """Records and letters alike, when the workspace's retention says so."""
    await bench.records.keep(SPACE, CON, "tickets", [Raw("1", TICKET)])
    await bench.records.reject(SPACE, CON, "tickets", [Rejection(5, "", "why")])
    purge = connector.PurgeRecords(received_before=NOW)
    assert (await bench.keeping.purge_records(purge, CONTEXT)).n_records == 0
    purge = connector.PurgeRecords(received_before=NOW.replace(year=NOW.year + 1))
    assert (await bench.keeping.purge_records(purge, CONTEXT)).n_records == 2
