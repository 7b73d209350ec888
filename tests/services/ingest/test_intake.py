"""The way of a source's records, on real servers: what is kept, what changes, and what a person did that stays."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import cast
from unittest.mock import AsyncMock

import pytest
from contracts import connector, ingest, issue_id
from eventlog import EventLog, LogUnavailableError
from msgspec.structs import replace
from runtime.broker import CommandContext
from runtime.database import Pool

from services.ingest.connectors.connecting import Source, source_of
from services.ingest.connectors.tickets import marker, ticket_id
from services.ingest.endpoints import Desk
from services.ingest.errors import LogUnreachableError, PlanFullError
from services.ingest.jobs.intake import Intake
from services.ingest.records import RAW_BYTES_MAX, Kept, Records
from services.ingest.state import Issue, fold
from tests.services.ingest.builders import NOW
from tests.services.ingest.conftest import Plan
from tests.services.ingest.failing_shop import MANIFEST

WORKSPACE = "ws_01HZ0000000000000000000000"
CONTEXT = CommandContext(workspace_id=WORKSPACE, correlation_id="syn_1")
SETTINGS = connector.ConnectorSettings(
    type="zendesk", display_name="Help", auth=1, config={"subdomain": "acme"}
)
ZENDESK = source_of("con_1", SETTINGS)
SENTRY = source_of(
    "con_2",
    replace(SETTINGS, type="custom_api", config={}, auth=0),
)


class Clock:
    """A clock that moves a second with every look at it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def records(sources_pool: Pool, clock: Clock) -> Records:
    return Records(sources_pool, clock=clock, rng=random.Random(1))


@pytest.fixture
def intake(event_log: EventLog, records: Records, clock: Clock, plan: Plan) -> Intake:
    return Intake(event_log, records, allow=plan.allow, clock=clock)


async def issue_of(event_log: EventLog, source: str, external_id: str) -> Issue:
    found = fold(await event_log.history(WORKSPACE, "issue", issue_id(WORKSPACE, source, external_id)))
    assert found is not None
    return found


async def edit(event_log: EventLog, clock: Clock, issue: Issue, **fields: str) -> None:
    desk = Desk(event_log, clock=clock, rng=random.Random(1))
    await desk.update_issue(ingest.UpdateIssue(issue_id=issue.content.issue_id, **fields), CONTEXT)


def remapped(source: Source, **mapping: str) -> Source:
    return source_of(source.connector_id, replace(source.settings, mapping=mapping))


async def kept_of(records: Records, source: Source) -> list[Kept]:
    pages = records.pages(WORKSPACE, source.connector_id)
    return [kept async for page in pages for kept in page]


async def map_anew(intake: Intake, source: Source, page: Sequence[Kept]) -> connector.SyncCounts:
    """What a remap does with a page that it has read."""
    taken = await intake.take_in(
        source,
        page[0].stream,
        [kept.record for kept in page],
        CONTEXT,
        came_at=[kept.received_at for kept in page],
        kept_as=[kept.external_id for kept in page],
    )
    return taken.counts


async def test_records_become_issues_ignored_or_dead_letters(
    intake: Intake, event_log: EventLog, records: Records
) -> None:
    tickets: list[object] = [
        {"id": 7, "subject": "Down", "status": "open", "priority": "urgent"},
        {"subject": "no id"},
        "no object",
    ]
    taken = await intake.take_in(ZENDESK, "tickets", tickets, CONTEXT)
    assert taken.counts == connector.SyncCounts(
        n_records=3, n_created=1, n_updated=0, n_unchanged=0, n_ignored=0, n_rejected=2
    )
    issue = await issue_of(event_log, "zendesk", "acme/7")
    assert (issue.content.title, issue.content.connector_id) == ("Down", "con_1")
    letters, total = await records.letters(WORKSPACE, "con_1", limit=10)
    assert (total, {letter.path for letter in letters}) == (2, {"external_id", ""})
    again = await intake.take_in(ZENDESK, "tickets", tickets, CONTEXT)
    assert (again.counts.n_unchanged, again.counts.n_rejected, again.sequence) == (1, 2, 0)


async def test_an_issue_that_a_ticket_is_named_in_is_followed_on(intake: Intake, event_log: EventLog) -> None:
    """Also where it stands as in a ticket; one that is none yet is a ticket that came back."""
    quoted = {"comments": [{"body": marker(ticket_id(WORKSPACE, "rec_1", "con_1"))}]}
    ours = {"id": 8, "subject": "Raise the pool", "status": "open", **quoted}
    down = {"id": 7, "subject": "Down", "status": "open"}
    assert (await intake.take_in(ZENDESK, "tickets", [down, ours], CONTEXT)).counts.n_ignored == 1
    taken = await intake.take_in(ZENDESK, "tickets", [{**down, "status": "solved", **quoted}, ours], CONTEXT)
    assert (taken.counts.n_updated, taken.counts.n_ignored) == (1, 1)
    assert (await issue_of(event_log, "zendesk", "acme/7")).content.status.value == "resolved"
    assert await event_log.history(WORKSPACE, "issue", issue_id(WORKSPACE, "zendesk", "acme/8")) == []


async def test_what_is_new_is_counted_before_it_is_taken_and_never_beyond_the_plan(
    intake: Intake, event_log: EventLog, records: Records, plan: Plan
) -> None:
    plan.left = 2
    tickets: list[object] = [{"id": id_, "subject": "Down", "status": "open"} for id_ in (1, 2, 3)]
    with pytest.raises(PlanFullError, match="allows 2 more") as caught:
        await intake.take_in(ZENDESK, "tickets", tickets, CONTEXT)
    assert [record for record, _ in caught.value.refused] == tickets[2:]
    assert (caught.value.counts.n_created, plan.left) == (2, 0)
    assert (await issue_of(event_log, "zendesk", "acme/2")).content.title == "Down"
    assert await event_log.history(WORKSPACE, "issue", issue_id(WORKSPACE, "zendesk", "acme/3")) == []
    # What says nothing new costs nothing, nor does another mapping of what was counted.
    assert (await intake.take_in(ZENDESK, "tickets", tickets[:2], CONTEXT)).counts.n_unchanged == 2
    anew = remapped(ZENDESK, title="status")
    assert (await map_anew(intake, anew, await kept_of(records, ZENDESK))).n_updated == 2
    assert (plan.left, plan.n_counted) == (0, 2)


async def test_what_is_tried_again_is_counted_once(
    intake: Intake, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickets: list[object] = [{"id": id_, "subject": "Down", "status": "open"} for id_ in (1, 2, 3)]
    with monkeypatch.context() as away:
        away.setattr(EventLog, "append_each", AsyncMock(side_effect=LogUnavailableError))
        for _ in range(3):
            with pytest.raises(LogUnreachableError):
                await intake.take_in(ZENDESK, "tickets", tickets, CONTEXT)
    assert (await intake.take_in(ZENDESK, "tickets", tickets, CONTEXT)).counts.n_created == 3
    assert plan.n_counted == 3
    # The same content after another is news again.
    for status in ("solved", "open"):
        await intake.take_in(ZENDESK, "tickets", [{"id": 1, "subject": "Down", "status": status}], CONTEXT)
    assert plan.n_counted == 5


@pytest.mark.parametrize("revision", [{}, {"updated_at": "2026-04-01T10:00:00Z"}])
async def test_what_changes_nothing_of_an_issue_is_counted_no_more(
    intake: Intake, plan: Plan, records: Records, revision: dict[str, str]
) -> None:
    """A poll's copy of what a webhook told, with other words for what is not of the issue; also where no more fits."""
    told = {"id": "A", "title": "Down", "severity": "high", **revision}
    await intake.take_in(SENTRY, "webhook", [told], CONTEXT)
    assert plan.n_counted == 1
    plan.left = 0
    copy = {**told, "url_of_the_list": "https://acme.example"}
    # What is only said twice is one issue's twice.
    for came in ([copy], [{**copy, "page": 2}, {**copy, "page": 3}]):
        taken = await intake.take_in(SENTRY, "incidents", came, CONTEXT)
        assert taken.counts.n_records == len(came)
    (kept,) = await kept_of(records, SENTRY)
    assert kept.record == {**copy, "page": 3}
    with pytest.raises(PlanFullError):
        await intake.take_in(SENTRY, "incidents", [{**copy, "title": "Down again"}], CONTEXT)
    plan.left = 9
    changes: list[object] = [
        {**told, "title": title} for title in ("Down again", "Down", "Down again", "Down")
    ]
    await intake.take_in(SENTRY, "incidents", changes, CONTEXT)
    assert plan.n_counted == 5


@pytest.mark.parametrize("revision", [{}, {"updated_at": "2026-04-01T10:00:00Z"}])
async def test_edit_survives_the_same_record_and_another_mapping(
    intake: Intake, event_log: EventLog, records: Records, clock: Clock, revision: dict[str, str]
) -> None:
    """Also where the source does not say when it changed the record."""
    record = {"id": "A", "title": "Down", "severity": "high", "owner_group": "payments", **revision}
    await intake.take_in(SENTRY, "webhook", [record], CONTEXT)
    await edit(event_log, clock, await issue_of(event_log, "custom_api", "A"), severity="p1")

    await intake.take_in(SENTRY, "webhook", [record], CONTEXT)
    assert (await issue_of(event_log, "custom_api", "A")).content.severity == "p1"

    other = remapped(SENTRY, team="owner_group", severity="'low'")
    assert (await map_anew(intake, other, await kept_of(records, SENTRY))).n_updated == 1
    content = (await issue_of(event_log, "custom_api", "A")).content
    assert (content.severity, content.team) == ("p1", "payments")


@pytest.mark.parametrize("is_newest_first", [True, False])
async def test_what_a_list_says_of_one_issue_more_than_once_is_news_once(
    intake: Intake, event_log: EventLog, plan: Plan, is_newest_first: bool
) -> None:
    """The latest counts, in whichever order they are listed; at the next poll the same list says nothing new."""
    states = ("DOWN", "UP", "DOWN", "UP")
    rows: list[object] = [
        {"id": "A", "title": "Check", "status": state, "occurred_at": f"2026-03-01T10:0{minute}:00Z"}
        for minute, state in enumerate(states)
    ]
    source = remapped(SENTRY, status="(status == 'UP' && 'resolved') || 'open'")
    for n_rows in (2, 2, 3, 4, 4):
        listed = rows[:n_rows][::-1] if is_newest_first else rows[:n_rows]
        await intake.take_in(source, "alerts", listed, CONTEXT)
        issue = await issue_of(event_log, "custom_api", "A")
        assert issue.content.status.value == ("new" if n_rows == 3 else "resolved")
        assert plan.n_counted == n_rows


async def test_retention_lets_nothing_go_that_still_comes(
    intake: Intake, event_log: EventLog, records: Records, clock: Clock
) -> None:
    """A monitor that is listed as it was for weeks: the edit stays, also with a mapping that is newer than it."""
    record = {"id": "A", "title": "Down", "severity": "high"}
    gone = {"id": "B", "title": "Gone"}
    await intake.take_in(SENTRY, "monitors", [record, gone], CONTEXT)
    await edit(event_log, clock, await issue_of(event_log, "custom_api", "A"), severity="p1", title="Ours")
    for _ in range(10):
        clock.now += timedelta(hours=12)
        await records.purge(WORKSPACE, received_before=clock.now - timedelta(days=1))
        await intake.take_in(SENTRY, "monitors", [record], CONTEXT)
    assert [kept.external_id for kept in await kept_of(records, SENTRY)] == ["A"]
    await map_anew(intake, remapped(SENTRY, severity="'low'"), await kept_of(records, SENTRY))
    content = (await issue_of(event_log, "custom_api", "A")).content
    assert (content.severity, content.title) == ("p1", "Ours")


@pytest.mark.parametrize(("hours_ago", "is_anew", "n_left"), [(0, True, 0), (60, False, 0), (1, False, 1)])
async def test_a_record_is_as_young_as_what_last_came_from_its_source(
    intake: Intake, records: Records, clock: Clock, hours_ago: int, is_anew: bool, n_left: int
) -> None:
    """Neither a remap nor a dead letter that is tried again makes it younger; a delivery that waited an hour does."""
    record = {"id": "A", "title": "Down"}
    await intake.take_in(SENTRY, "monitors", [record], CONTEXT)
    for _ in range(10):
        clock.now += timedelta(hours=12)
        await records.purge(WORKSPACE, received_before=clock.now - timedelta(days=1))
        came_at = [clock.now - timedelta(hours=hours_ago)]
        for kept in await kept_of(records, SENTRY):
            if is_anew:
                await map_anew(intake, SENTRY, [kept])
            else:
                await intake.take_in(SENTRY, kept.stream, [kept.record], CONTEXT, came_at=came_at)
    assert len(await kept_of(records, SENTRY)) == n_left


async def test_what_has_waited_is_not_newer_than_what_came_meanwhile(
    intake: Intake, event_log: EventLog, clock: Clock
) -> None:
    """A delivery that went back, or a dead letter: the issue and the record that is kept stay as they are."""
    first, then = clock(), clock() + timedelta(minutes=1)
    clock.now = then + timedelta(minutes=1)
    for title, came_at in (("Solved", then), ("Down", first), ("Down", first)):
        await intake.take_in(SENTRY, "webhook", [{"id": "A", "title": title}], CONTEXT, came_at=[came_at])
        assert (await issue_of(event_log, "custom_api", "A")).content.title == "Solved"
    again = await intake.take_in(SENTRY, "webhook", [{"id": "A", "title": "Solved"}], CONTEXT)
    assert again.counts.n_unchanged == 1


async def test_record_that_differs_counts_as_newer_than_an_edit(
    intake: Intake, event_log: EventLog, clock: Clock
) -> None:
    await intake.take_in(SENTRY, "webhook", [{"id": "A", "title": "Down"}], CONTEXT)
    await edit(event_log, clock, await issue_of(event_log, "custom_api", "A"), title="Ours")
    await intake.take_in(SENTRY, "webhook", [{"id": "A", "title": "Down again"}], CONTEXT)
    assert (await issue_of(event_log, "custom_api", "A")).content.title == "Down again"


@pytest.mark.parametrize("revision", [{}, {"updated_at": "2026-04-01T10:00:00Z"}])
@pytest.mark.parametrize("mapping", [{}, {"external_id": "key"}])
async def test_a_remap_reports_nothing_that_is_no_longer_what_is_kept(
    intake: Intake,
    event_log: EventLog,
    records: Records,
    revision: dict[str, str],
    mapping: dict[str, str],
) -> None:
    """A webhook brings news while its page is in hand: no later poll would bring them again."""
    told = {"id": "A", "key": "B", **revision}
    await intake.take_in(SENTRY, "webhook", [{**told, "title": "Down"}], CONTEXT)
    page = await kept_of(records, SENTRY)
    other = remapped(SENTRY, team="'ops'", **mapping)
    await intake.take_in(SENTRY, "webhook", [{**told, "title": "Solved"}], CONTEXT)
    if mapping:
        await intake.take_in(other, "webhook", [{**told, "title": "Solved"}], CONTEXT)
    await map_anew(intake, other, page)
    id_ = "B" if mapping else "A"
    assert (await issue_of(event_log, "custom_api", id_)).content.title == "Solved"
    await map_anew(intake, other, await kept_of(records, SENTRY))
    content = (await issue_of(event_log, "custom_api", id_)).content
    assert (content.title, content.team) == ("Solved", "ops")


@pytest.mark.parametrize("stream", ["tickets", "webhook"])
@pytest.mark.parametrize("is_together", [False, True])
async def test_an_older_record_does_not_replace_what_is_kept(
    intake: Intake, event_log: EventLog, records: Records, stream: str, is_together: bool
) -> None:
    """A list that begins with the latest, over two pages, or a webhook that is late: a remap has the latest."""
    new = {"id": 7, "subject": "Down", "status": "solved", "updated_at": "2026-01-02T00:00:00Z"}
    old = {**new, "status": "open", "updated_at": "2026-01-01T00:00:00Z"}
    for came in [[new, old]] if is_together else [[new], [old]]:
        await intake.take_in(ZENDESK, stream, came, CONTEXT)
    (kept,) = await kept_of(records, ZENDESK)
    assert kept.record == new
    assert (await map_anew(intake, remapped(ZENDESK, title="status"), [kept])).n_updated == 1
    assert (await issue_of(event_log, "zendesk", "acme/7")).content.title == "solved"
    # What says the same at the same time, in other words, is kept as it is now.
    await intake.take_in(ZENDESK, stream, [{**new, "url": "https://acme.example"}], CONTEXT)
    assert [kept.record for kept in await kept_of(records, ZENDESK)] == [
        {**new, "url": "https://acme.example"}
    ]


async def test_a_list_behind_what_a_webhook_told_says_nothing_new(
    intake: Intake, event_log: EventLog, records: Records, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its times may be coarser, at each poll: the log is not asked for it again, and what is kept still comes."""
    told = {"id": 7, "subject": "Down", "status": "open", "updated_at": "2026-01-02T00:00:00.781Z"}
    listed = {**told, "updated_at": "2026-01-02T00:00:00Z"}
    await intake.take_in(ZENDESK, "webhook", [told], CONTEXT)
    assert (await intake.take_in(ZENDESK, "tickets", [listed], CONTEXT)).counts.n_unchanged == 1
    asked = AsyncMock(wraps=event_log.histories)
    monkeypatch.setattr(event_log, "histories", asked)
    for _ in range(6):
        clock.now += timedelta(hours=12)
        assert (await intake.take_in(ZENDESK, "tickets", [listed], CONTEXT)).counts.n_unchanged == 1
        await records.purge(WORKSPACE, received_before=clock.now - timedelta(days=1))
    assert asked.await_count == 0
    assert [kept.record for kept in await kept_of(records, ZENDESK)] == [told]
    solved = {**listed, "status": "solved", "updated_at": "2026-01-02T00:00:01Z"}
    assert (await intake.take_in(ZENDESK, "tickets", [solved], CONTEXT)).counts.n_updated == 1
    assert [kept.record for kept in await kept_of(records, ZENDESK)] == [solved]


@pytest.mark.parametrize("came_at", [(), (NOW, NOW + timedelta(hours=1))])
async def test_a_list_that_begins_with_the_latest_is_turned_and_what_was_kept_of_it_is_not(
    intake: Intake, event_log: EventLog, came_at: Sequence[datetime]
) -> None:
    """Dead letters that are tried again come in the order of their times."""
    (stream,) = (each for each in ZENDESK.manifest.streams if each.name == "tickets")
    manifest = replace(ZENDESK.manifest, streams=(replace(stream, order="descending"),))
    one, other = ({"id": 7, "subject": name, "updated_at": "2026-01-02T00:00:00Z"} for name in ("1", "2"))
    source = replace(ZENDESK, manifest=manifest)
    await intake.take_in(source, "tickets", [one, other], CONTEXT, came_at=came_at)
    assert (await issue_of(event_log, "zendesk", "acme/7")).content.title == ("2" if came_at else "1")


async def test_of_an_issue_of_which_nothing_is_kept_an_older_record_is(
    intake: Intake, records: Records, clock: Clock
) -> None:
    """Else it would be asked for in the log at each poll, and no mapping reach it."""
    new = {"id": 7, "subject": "Down", "status": "solved", "updated_at": "2026-01-02T00:00:00Z"}
    old = {**new, "status": "open", "updated_at": "2026-01-01T00:00:00Z"}
    await intake.take_in(ZENDESK, "tickets", [new], CONTEXT)
    await records.forget(WORKSPACE, "con_1")
    await intake.take_in(ZENDESK, "tickets", [old], CONTEXT)
    assert [kept.record for kept in await kept_of(records, ZENDESK)] == [old]


async def test_with_a_full_plan_only_what_costs_is_refused(
    intake: Intake, event_log: EventLog, plan: Plan
) -> None:
    """Of an issue of which something is refused, all that follows is, for it would bring that in."""
    known = {"id": 1, "subject": "Down", "status": "open", "updated_at": "2026-01-01T00:00:00Z"}
    await intake.take_in(ZENDESK, "tickets", [known], CONTEXT)
    plan.left = 1
    later = {**known, "updated_at": "2026-01-02T00:00:00Z"}
    changed = {**known, "subject": "Up", "updated_at": "2026-01-03T00:00:00Z"}
    once_more = {**changed, "updated_at": "2026-01-04T00:00:00Z"}
    fits, new = ({"id": id_, "subject": "x", "status": "open"} for id_ in (2, 3))
    with pytest.raises(PlanFullError) as caught:
        await intake.take_in(ZENDESK, "webhook", [fits, new, later, changed, once_more], CONTEXT)
    assert [record for record, _ in caught.value.refused] == [new, changed, once_more]
    counts = caught.value.counts
    assert (counts.n_records, counts.n_created, counts.n_updated, plan.left) == (2, 1, 1, 0)
    content = (await issue_of(event_log, "zendesk", "acme/1")).content
    assert (content.title, content.source_updated_at) == ("Down", datetime(2026, 1, 2, tzinfo=UTC))
    assert await event_log.history(WORKSPACE, "issue", issue_id(WORKSPACE, "zendesk", "acme/3")) == []


async def test_a_marker_hides_nothing_of_an_issue_whose_record_is_not_kept(
    intake: Intake, event_log: EventLog, records: Records, clock: Clock
) -> None:
    """It is past retention, or too large to be kept; the log has the issue."""
    quoted = {"comments": [{"body": marker(ticket_id(WORKSPACE, "rec_1", "con_1"))}]}
    down = {"id": 7, "subject": "Down", "status": "open"}
    large = {"id": 9, "subject": "Down", "status": "open", "x": "y" * RAW_BYTES_MAX}
    await intake.take_in(ZENDESK, "tickets", [down, large], CONTEXT)
    clock.now += timedelta(days=3)
    await records.purge(WORKSPACE, received_before=clock.now - timedelta(days=1))
    ours = {"id": 8, "subject": "Raise the pool", "status": "open"}
    solved = [{**each, "status": "solved", **quoted} for each in (down, large, ours)]
    counts = (await intake.take_in(ZENDESK, "tickets", solved, CONTEXT)).counts
    assert (counts.n_updated, counts.n_ignored) == (2, 1)
    for number in (7, 9):
        issue = await issue_of(event_log, "zendesk", f"acme/{number}")
        assert issue.content.status.value == "resolved"
    assert await event_log.history(WORKSPACE, "issue", issue_id(WORKSPACE, "zendesk", "acme/8")) == []


@pytest.mark.parametrize("revision", [{}, {"updated_at": "2026-04-01T10:00:00Z"}])
async def test_a_list_that_begins_with_the_latest_is_read_from_its_end(
    intake: Intake, event_log: EventLog, revision: dict[str, str]
) -> None:
    """Also where it gives no times, or the same for several records of one issue."""
    a, b, c = ({"id": "A", "title": title, **revision} for title in ("Down", "Worse", "Solved"))
    (stream,) = cast(list[dict[str, object]], MANIFEST["streams"])
    settings = replace(SETTINGS, type="custom_shop", config={"base_url": "https://shop.example"}, auth=0)
    source = source_of(
        "con_3", replace(settings, manifest={**MANIFEST, "streams": [{**stream, "order": "descending"}]})
    )
    for listed in ([b, a], [c, b, a], [c, b, a]):
        await intake.take_in(source, "failures", listed, CONTEXT)
        issue = await issue_of(event_log, "custom_api", "custom_shop/A")
        assert issue.content.title == listed[0]["title"]
