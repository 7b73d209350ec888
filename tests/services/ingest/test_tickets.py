"""Tickets: made once by eight trackers whatever happens on the way, refused with words, and followed to their end."""

import asyncio
import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from contracts import connector
from eventlog import EventLog
from msgspec.structs import replace
from runtime.broker import CommandContext
from runtime.database import Pool
from runtime.outbound import EVERYWHERE, Outbound
from runtime.sealing import read_master_keys

from services.ingest._queries import OpenTicket
from services.ingest.connectors import markup, tickets
from services.ingest.connectors.connecting import Source
from services.ingest.connectors.manifest import ApiKey, Basic, encode_hook
from services.ingest.connectors.registry import manifest_of
from services.ingest.errors import (
    ConnectorNotConnectedError,
    InvalidTicketError,
    TicketUncertainError,
    TicketUnsettledError,
    VendorError,
    VendorRefusedError,
)
from services.ingest.jobs import ticketing
from services.ingest.jobs.ticketing import Ticketing
from services.ingest.reporting import Sources
from services.ingest.vault import Vault
from services.ingest.vendors import atlassian, pushes, transport
from services.ingest.vendors import tickets as vendor_tickets
from services.ingest.vendors.oauth import Grants, values_of
from services.ingest.vendors.pushes import Pushes
from tests.libs.runtime.test_names import tenants_asked_for
from tests.services.ingest import oauth_server as oauth
from tests.services.ingest.oauth_server import OAuthServer
from tests.services.ingest.trackers import SECRET, Trackers

WORKSPACE, CONNECTOR = "ws_01JD0000000000000000000000", "con_01JD0000000000000000000000"
CONTEXT = CommandContext(workspace_id=WORKSPACE, correlation_id="req_1", actor="usr_1")
TEXT = "# Why\n\nThe **pool** is too small; see [it](https://example.com).\n\n- [ ] `size` up\n- [x] *watch*\n\n```\ncode\n```"

CONFIG = {
    "jira": {"site": "acme"},
    "github": {"owner": "acme", "repo": "shop"},
    "gitlab": {"project": "acme/shop"},
    "linear": {},
    "servicenow": {"instance": "acme"},
    "asana": {"project": "1203"},
    "pagerduty": {"from_email": "ops@acme.example"},
    "azure_devops": {"organization": "acme", "project": "shop"},
    "slack": {"channel": "C1"},
}
TARGET = {"jira": {"project": "OPS"}, "linear": {"team_id": "T1"}, "pagerduty": {"service_id": "PSVC1"}}
ENDS = {
    "jira": (("done", {"name": "Won't Do"}), "dropped", "Won't Do"),
    "github": (("closed", "completed"), "done", "closed"),
    "gitlab": ("closed", "done", "closed"),
    "linear": ("canceled", "dropped", "canceled"),
    "servicenow": (("Resolved", "6"), "done", "Resolved"),
    "asana": (True, "done", "completed"),
    "pagerduty": ("resolved", "done", "resolved"),
    "azure_devops": ("Removed", "dropped", "Removed"),
}


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


class Office:
    """Several processes that make tickets through one connector: one log, one database, a clock."""

    def __init__(self, event_log: EventLog, pool: Pool, clock: Clock, url: str) -> None:
        self.log, self.clock, self._pool, self._url = event_log, clock, pool, url
        self.vault = Vault(read_master_keys(base64.b64encode(b"m" * 32).decode(), ()), pool, clock=clock)

    async def connect(
        self, tracker: str, *, auth: list[dict[str, str]] | None = None, sso: str = "", **changed: Any
    ) -> None:
        """A connector to a tracker, described by its own manifest but for the address."""
        manifest = manifest_of(tracker)
        way = (
            next(i for i, each in enumerate(manifest.auth) if isinstance(each, ApiKey | Basic))
            if tracker != "slack"
            else 0
        )
        described = msgspec.to_builtins(manifest, enc_hook=encode_hook)
        described |= {"type": f"custom_{tracker}", "base_url": "{config.api}", "streams": [], "webhook": None}
        described |= {"verified": False, "evidence": "", "adapter": None}
        described["config"] = [*described.get("config", []), {"key": "api", "title": "Address"}]
        if tracker == "slack":
            described["auth"] = [{"kind": "none"}]
        if auth is not None:
            described["auth"], way = auth, 0
            described["config"].append({"key": "sso", "title": "Sign-in", "default": sso})
        settings = connector.ConnectorSettings(
            type=f"custom_{tracker}",
            display_name=tracker,
            config={**CONFIG[tracker], "api": f"{self._url}/{tracker}"},
            auth=way,
            streams=(),
            mapping={},
            manifest=described,
        )
        created = connector.ConnectorCreated(
            connector_id=CONNECTOR, settings=settings, status=connector.ConnectorStatus.CONNECTED
        )
        await Sources(self.log, clock=self.clock).create(CONNECTOR, [replace(created, **changed)], CONTEXT)
        names = ("token", "api_key", "username", "password", "email", "api_token")
        await self.vault.keep(
            WORKSPACE, CONNECTOR, {**dict.fromkeys(names, SECRET), "email": "a@b.example", "username": "u"}
        )

    def process(self, event_log: EventLog | None = None) -> Ticketing:
        """A process of its own."""
        outbound = Outbound(EVERYWHERE)
        grants = Grants(self.vault, self._pool, outbound, clients={}, clock=self.clock)
        begun = Pushes(self._pool, clock=self.clock)
        sources = Sources(self.log, clock=self.clock)
        return Ticketing(event_log or self.log, sources, grants, begun, outbound, clock=self.clock)

    async def killed_before_append(self, cmd: connector.PushTicket, trackers: Trackers) -> None:
        """A process that dies when the tracker has made the ticket and the log does not know it."""
        dying = asyncio.create_task(self.process(_Hanging(self.log)).push(cmd, CONTEXT))
        assert isinstance(self.log, EventLog)
        while not _Hanging.reached:
            done, _ = await asyncio.wait({dying}, timeout=0.02)
            assert not done, dying.exception()
        _Hanging.reached = False
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        assert len(trackers.made) == 1


class _Hanging:
    """A log whose appends never come back; reads are the real ones."""

    reached = False

    def __init__(self, event_log: EventLog) -> None:
        self._real = event_log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def append(self, *_: Any) -> int:
        _Hanging.reached = True
        await asyncio.Event().wait()
        return 0


@pytest.fixture
def trackers() -> Iterator[Trackers]:
    running = Trackers()
    yield running
    running.close()


@pytest.fixture
def oauth_server() -> Iterator[OAuthServer]:
    vendor = OAuthServer()
    yield vendor
    vendor.close()


@pytest.fixture
def office(event_log: EventLog, sources_pool: Pool, trackers: Trackers) -> Office:
    return Office(event_log, sources_pool, Clock(), trackers.url)


def order(tracker: str, **changed: Any) -> connector.PushTicket:
    cmd = connector.PushTicket(
        recommendation_id="rec_1",
        connector_id=CONNECTOR,
        title="Raise the pool",
        markdown=TEXT,
        target=TARGET.get(tracker, {}),
    )
    return replace(cmd, **changed)


def open_ticket(made: connector.TicketCreated, at: datetime) -> OpenTicket:
    return OpenTicket(
        workspace_id=WORKSPACE,
        ticket_id=made.ticket_id,
        connector_id=CONNECTOR,
        external_id=made.external_id,
        target=msgspec.json.encode(made.target).decode(),
        created_at=at,
    )


@pytest.mark.parametrize("tracker", sorted(ENDS))
async def test_ticket_lost_by_a_crash_is_found_and_followed(
    tracker: str, office: Office, trackers: Trackers
) -> None:
    """What the vendor documents is sent; after a crash the marker finds the ticket; its end is told once."""
    await office.connect(tracker)
    await office.killed_before_append(order(tracker), trackers)
    office.clock.now += timedelta(seconds=60)
    pushed = await office.process().push(order(tracker), CONTEXT)
    again = await office.process().push(order(tracker), CONTEXT)
    assert len(trackers.made) == 1
    assert (pushed.is_new, pushed.ticket.is_found, pushed.ticket.created_by) == (False, True, "usr_1")
    assert again.ticket == pushed.ticket
    assert pushed.ticket.external_id
    assert (pushed.ticket.external_url or "").startswith("https://")

    follower, row = office.process(), open_ticket(pushed.ticket, office.clock())
    word, state, said = ENDS[tracker]
    assert await follower.follow([row]) == 0
    office.clock.now += timedelta(minutes=15)
    assert [await follower.follow([row]) for _ in range(2)] == [1, 0]
    trackers.status[tracker] = word
    office.clock.now += timedelta(minutes=15)
    assert [await follower.follow([row]) for _ in range(2)] == [1, 0]
    last = await office.log.latest(WORKSPACE, "ticket", pushed.ticket.ticket_id)
    assert last is not None
    assert isinstance(last.data, connector.TicketStateChanged)
    assert (last.data.state.value, last.data.external_status) == (state, said)


async def test_tracker_that_fails_as_nobody_expected_ends_nothing(
    office: Office, trackers: Trackers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever follows tickets does it for everybody; what it cannot read may be of one's own manifest."""
    await office.connect("github")
    tenants = tenants_asked_for(monkeypatch)
    pushed = await office.process().push(order("github"), CONTEXT)
    row, follower = open_ticket(pushed.ticket, office.clock()), office.process()
    office.clock.now += timedelta(minutes=15)
    with monkeypatch.context() as changed:
        changed.setattr(vendor_tickets.Tracker, "standing", lambda *_: 1 / 0)
        assert await follower.follow([row]) == 0
    office.clock.now += timedelta(minutes=15)
    assert await follower.follow([row]) == 1
    assert set(tenants) == {WORKSPACE}


async def test_slow_tracker_holds_up_its_own_tickets_only(
    office: Office, trackers: Trackers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many tickets are due there; those of others are asked for beside them."""
    monkeypatch.setattr(ticketing, "FOLLOW_SECONDS", 0.5)
    await office.connect("github")
    pushed = await office.process().push(order("github"), CONTEXT)
    row = open_ticket(pushed.ticket, office.clock() - timedelta(minutes=15))
    slow = [replace(row, connector_id="con_slow", ticket_id=f"tkt_{n}") for n in range(60)]
    follower = office.process()
    desk = follower._desk

    async def hanging(workspace_id: str, connector_id: str) -> Any:
        if connector_id == "con_slow":
            # Its time runs by now; the other tracker has as much as a busy machine needs.
            monkeypatch.setattr(ticketing, "FOLLOW_SECONDS", 20.0)
            await asyncio.Event().wait()
        return await desk(workspace_id, connector_id)

    monkeypatch.setattr(follower, "_desk", hanging)
    trackers.status["github"] = ENDS["github"][0]
    async with asyncio.timeout(30):
        assert await follower.follow([*slow, row]) == 1


async def test_slow_trackers_of_one_workspace_leave_hands_to_others(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No round waits for all of them, and in the next it is the turn of those that were in none."""
    monkeypatch.setattr(ticketing, "FOLLOW_SECONDS", 0.02)
    row = OpenTicket(
        workspace_id=WORKSPACE,
        connector_id="",
        ticket_id="",
        external_id="1",
        target="{}",
        created_at=office.clock() - timedelta(minutes=15),
    )
    slow = [
        replace(row, connector_id=f"con_{n}", ticket_id=f"tkt_{n}_{ticket}")
        for n in range(2 * ticketing.TRACKERS_PER_ROUND)
        for ticket in range(2)
    ]
    follower, asked, running, most = office.process(), list[str](), 0, 0

    async def hanging(_: str, connector_id: str) -> Any:
        nonlocal running, most
        asked.append(connector_id)
        running += 1
        most = max(most, running)
        try:
            await asyncio.Event().wait()
        finally:
            running -= 1

    monkeypatch.setattr(follower, "_desk", hanging)
    for n_rounds in (1, 2):
        assert await follower.follow(slow) == 0
        assert len(set(asked)) == len(asked) == n_rounds * ticketing.TRACKERS_PER_ROUND
        office.clock.now += timedelta(seconds=30)
    assert most == ticketing.TRACKERS_PER_WORKSPACE


async def test_twins_make_one_ticket(office: Office, trackers: Trackers) -> None:
    await office.connect("github")
    trackers.delay = 0.3
    processes = [office.process() for _ in range(2)]
    pushed = await asyncio.gather(*(process.push(order("github"), CONTEXT) for process in processes * 4))
    assert len(trackers.made) == 1
    assert sorted(each.is_new for each in pushed) == [False] * 7 + [True]
    assert {each.ticket.external_url for each in pushed} == {"https://github.com/acme/shop/issues/1"}
    assert "<!-- causeloop-" in trackers.made[0]["body"]


async def test_try_ends_before_another_may_begin(
    office: Office, trackers: Trackers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow the tracker is, within the lease nothing is sent any more."""
    assert pushes.LEASE.total_seconds() > ticketing.TRY_SECONDS
    monkeypatch.setattr(ticketing, "TRY_SECONDS", 2.0)
    await office.connect("github")
    trackers.delay = 5.0
    while not trackers.made:
        # More than once only where the machine stood still before the tracker was asked.
        with pytest.raises(TicketUnsettledError):
            await office.process().push(order("github"), CONTEXT)
        office.clock.now += timedelta(seconds=30)
    monkeypatch.undo()
    assert (await office.process().push(order("github"), CONTEXT)).ticket.is_found


async def test_try_that_wakes_behind_its_lease_makes_nothing(
    office: Office, trackers: Trackers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it touch what another try has in hand by then."""
    monkeypatch.setattr(ticketing, "LOOK_AGAIN_SECONDS", ())
    await office.connect("github")
    held_up, keep = office.process(), Pushes.keep

    async def late(self: Pushes, push: pushes.Push) -> bool:
        if push.n_attempts > 1:
            return await keep(self, push)
        office.clock.now += pushes.LEASE
        assert (await office.process().push(order("github"), CONTEXT)).is_new
        other = await self.begin(
            WORKSPACE,
            push.ticket_id,
            recommendation_id="rec_1",
            connector_id=CONNECTOR,
            target={},
            requested_by=None,
        )
        assert other is not None
        others.append(other)
        return await keep(self, push)

    others: list[pushes.Push] = []
    monkeypatch.setattr(Pushes, "keep", late)
    with pytest.raises(TicketUnsettledError):
        await held_up.push(order("github"), CONTEXT)
    assert len(trackers.made) == 1
    office.clock.now += timedelta(seconds=31)
    theirs = Pushes(office._pool, clock=office.clock)
    assert await theirs.take_up(WORKSPACE, others[0].ticket_id) is None


@pytest.mark.parametrize("lost", ["late", "failed"])
async def test_ticket_whose_answer_is_lost_is_found_at_once(
    office: Office, trackers: Trackers, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """The tracker made it, and answered too late or with an error of its gateway."""
    # The later looks are for a machine that stands still before the tracker has made it, or at the first look.
    monkeypatch.setattr(ticketing, "LOOK_AGAIN_SECONDS", (0.0, 1.0, 3.0))
    await office.connect("github")
    if lost == "late":
        monkeypatch.setattr(transport, "SECONDS", 2.0)
        trackers.delay = 4.0
    else:
        trackers.answers = False
    pushed = await office.process().push(order("github"), CONTEXT)
    assert (pushed.is_new, pushed.ticket.external_id, len(trackers.made)) == (True, "1", 1)


async def test_unknown_outcome_is_looked_up_before_another_try(
    office: Office, trackers: Trackers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticketing, "LOOK_AGAIN_SECONDS", (0.0,))
    monkeypatch.setattr(ticketing, "WAIT_SECONDS", 0.5)
    await office.connect("github")
    trackers.failure = (502, "Bad Gateway")
    for _ in range(2):
        with pytest.raises(TicketUnsettledError) as unknown:
            await office.process().push(order("github"), CONTEXT)
        assert unknown.value.retry_after == 30
    trackers.failure = None
    office.clock.now += timedelta(seconds=30)
    assert (await office.process().push(order("github"), CONTEXT)).is_new
    assert len(trackers.made) == 1


async def test_ticket_that_nobody_asks_for_again_is_settled_in_the_background(
    office: Office, trackers: Trackers
) -> None:
    """Found where it was made; let go where it was not."""
    await office.connect("github")
    await office.killed_before_append(order("github"), trackers)
    assert await office.process().settle() == 0
    office.clock.now += timedelta(seconds=60)
    assert sorted(await asyncio.gather(*(office.process().settle() for _ in range(3)))) == [0, 0, 1]
    there = await office.process().push(order("github"), CONTEXT)
    assert (there.ticket.is_found, there.ticket.created_by, len(trackers.made)) == (True, "usr_1", 1)


async def test_tickets_of_slow_trackers_are_settled_beside_those_of_others(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of a workspace at once, ten of it in a round, each for so long; others' are found meanwhile."""
    begun, quick = Pushes(office._pool, clock=office.clock), f"tkt_{99:026}"
    slow = [f"tkt_{number:026}" for number in range(ticketing.SETTLED_MAX + 2)]
    for workspace_id, ids in ((f"ws_{0:026}", slow), (WORKSPACE, [quick])):
        for ticket_id in ids:
            await begun.begin(
                workspace_id,
                ticket_id,
                recommendation_id="rec_1",
                connector_id=CONNECTOR,
                target={},
                requested_by=None,
            )
    office.clock.now += timedelta(seconds=60)
    settler, asked, running, most = office.process(), list[str](), 0, 0
    are_busy, is_found = asyncio.Event(), asyncio.Event()

    async def settled(ours: pushes.Push, _: CommandContext) -> bool:
        nonlocal running, most
        if ours.ticket_id == quick:
            await are_busy.wait()
            monkeypatch.setattr(ticketing, "FOLLOW_SECONDS", 0.01)
            is_found.set()
            return True
        asked.append(ours.ticket_id)
        running += 1
        most = max(most, running)
        if running == ticketing.TRACKERS_PER_WORKSPACE:
            are_busy.set()
        try:
            # The first ones until the other is found, all others until their time is over.
            await (asyncio.Event() if is_found.is_set() else is_found).wait()
        finally:
            running -= 1
        return False

    monkeypatch.setattr(settler, "_settled", settled)
    async with asyncio.timeout(20):
        assert await settler.settle() == 1
    assert (len(asked), most) == (ticketing.SETTLED_MAX, ticketing.TRACKERS_PER_WORKSPACE)


async def test_tracker_that_cannot_be_asked_is_not_asked_twice(
    office: Office, trackers: Trackers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slack cannot be searched for a marker, so a person has to look, for a day."""
    await office.connect("slack")
    with pytest.raises(TicketUnsettledError):
        await office.process().push(order("slack", target={"channel": "C1"}), CONTEXT)
    office.clock.now += timedelta(seconds=30)
    with pytest.raises(TicketUncertainError, match="causeloop-"):
        await office.process().push(order("slack", target={"channel": "C1"}), CONTEXT)
    office.clock.now += timedelta(days=1)
    await office.process().settle()
    with pytest.raises(TicketUnsettledError):
        await office.process().push(order("slack", target={"channel": "C1"}), CONTEXT)


async def test_refusal_is_told_with_the_trackers_words_and_without_secrets(
    office: Office, trackers: Trackers
) -> None:
    await office.connect("github")
    trackers.failure = (422, f"Validation Failed: label, said {SECRET}")
    with pytest.raises(VendorRefusedError) as refused:
        await office.process().push(order("github"), CONTEXT)
    assert "Validation Failed" in refused.value.message
    assert SECRET not in repr(refused.value) + str(refused.value.details)
    trackers.failure = None
    assert (await office.process().push(order("github"), CONTEXT)).is_new


async def test_token_that_the_tracker_refuses_is_renewed_once(
    office: Office, trackers: Trackers, oauth_server: OAuthServer
) -> None:
    """A 401 made nothing, so the ticket is asked for again with the next token."""
    way = {"kind": "client_credentials", "token_url": "{config.sso}/token"}
    await office.connect("github", auth=[way], sso=oauth_server.url)
    await office.vault.keep(
        WORKSPACE, CONNECTOR, {"client_id": oauth.CLIENT_ID, "client_secret": oauth.CLIENT_SECRET}
    )
    trackers.tokens = set()
    with pytest.raises(VendorRefusedError, match="Bad credentials"):
        await office.process().push(order("github"), CONTEXT)
    assert len(oauth_server.issued) == 2
    trackers.tokens = oauth_server.issued
    assert (await office.process().push(order("github"), CONTEXT)).is_new


async def test_grant_of_jira_reaches_the_site_that_was_named(
    trackers: Trackers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a grant a site has an id; one that the grant does not reach gets no ticket."""
    monkeypatch.setattr(atlassian, "ADDRESS", trackers.url)
    manifest = manifest_of("jira")
    assert manifest.push is not None
    for site in ("acme", "elsewhere"):
        settings = connector.ConnectorSettings(
            type="jira", display_name="Jira", config={"site": site}, auth=0, streams=(), mapping={}
        )
        source = Source(CONNECTOR, settings, manifest)
        tracker = vendor_tickets.Tracker(
            source, manifest.push, {"access_token": SECRET}, Outbound(EVERYWHERE)
        )
        given = tickets.values(
            values_of(source),
            "tkt_1",
            target=tickets.settled_target(manifest.push, TARGET["jira"]),
            begun_at=datetime.now(UTC),
        )
        given |= tickets.text_values(manifest.push, "Raise the pool", TEXT)
        if site == "acme":
            made = await tracker.create(given)
            assert (made.external_id, made.external_url) == (
                "OPS-1",
                "https://acme.atlassian.net/browse/OPS-1",
            )
        else:
            with pytest.raises(VendorError, match="does not reach elsewhere"):
                await tracker.create(given)


async def test_what_a_ticket_lacks_is_named(office: Office, trackers: Trackers) -> None:
    await office.connect("jira")
    with pytest.raises(InvalidTicketError) as lacks:
        await office.process().push(order("jira", target={"queue": "x"}, title=" "), CONTEXT)
    assert set(lacks.value.details) == {"target.project", "target.queue", "title"}
    assert trackers.made == []


async def test_connector_that_is_not_connected_makes_no_ticket(office: Office, trackers: Trackers) -> None:
    await office.connect("github", status=connector.ConnectorStatus.PENDING)
    with pytest.raises(ConnectorNotConnectedError):
        await office.process().push(order("github"), CONTEXT)
    assert trackers.made == []


def test_markdown_becomes_a_document_and_tags_stay_text() -> None:
    document = markup.adf(TEXT + "\n\n<script>x</script> [bad](javascript:x)\n\n> # quoted\n> ---")
    blocks = document["content"]
    assert isinstance(blocks, list)
    assert [block["type"] for block in blocks] == [
        "heading",
        "paragraph",
        "bulletList",
        "codeBlock",
        "paragraph",
        "blockquote",
    ]
    assert blocks[1]["content"][1] == {"type": "text", "text": "pool", "marks": [{"type": "strong"}]}
    link = {"type": "link", "attrs": {"href": "https://example.com"}}
    assert {"type": "text", "text": "it", "marks": [link]} in blocks[1]["content"]
    assert blocks[4]["content"][0]["text"].startswith("<script>x</script>")
    assert [block["type"] for block in blocks[5]["content"]] == ["paragraph"]
    assert "<script>" not in markup.html("<script>x</script>")
