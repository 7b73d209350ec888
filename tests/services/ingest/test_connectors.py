"""What is decided about connectors, and when they are due: pure."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from unittest.mock import AsyncMock, MagicMock

import msgspec
import pytest
from contracts import connector
from msgspec.structs import replace
from runtime.broker import CommandContext
from runtime.outbound import EVERYWHERE, Outbound
from testkit.builders import recorded

from services.ingest.commands.connectors import (
    cancel_run,
    configure_connector,
    create_connector,
    delete_connector,
    end_run,
    judge,
    request_run,
)
from services.ingest.connectors import connecting, schedules
from services.ingest.connectors.catalogue import describe
from services.ingest.connectors.registry import ManifestError, catalogue, manifest_of, read
from services.ingest.connectors.reserved import GIVEN_FOR
from services.ingest.connectors.templates import Values
from services.ingest.endpoints.connectors import Connectors
from services.ingest.errors import ConnectorPausedError, InvalidConnectorError, RunEndedError, VendorError
from services.ingest.state import NOTHING_YET, Connector, Standing, SyncRun, evolve_connector
from services.ingest.vendors.tickets import Tracker
from tests.services.ingest.builders import NOW
from tests.services.ingest.failing_shop import MANIFEST
from tests.services.ingest.test_sources import SMALL

Status = connector.ConnectorStatus
SETTINGS = connector.ConnectorSettings(
    type="jira", display_name="Ours", auth=1, config={"site": "acme"}, schedule=schedules.DEFAULT
)


def after(state: Connector | None, events: list[connector.Event]) -> Connector:
    for event in events:
        state = evolve_connector(state, recorded(event, "con_1"))
    assert state is not None
    return state


def made(*, is_proved: bool = False) -> Connector:
    events = create_connector(
        "con_1", SETTINGS, secrets=["email", "api_token"], is_proved=is_proved, created_by="usr_1"
    )
    return after(None, events)


def configured(state: Connector, **fields: object) -> Connector:
    arguments: dict[str, object] = {"secrets": None, "is_paused": None, "is_proved": False, **fields}
    settings = arguments.pop("settings", state.settings)
    return after(state, configure_connector(state, settings, **arguments))  # type: ignore[arg-type]  # by name


# Standing


def test_connector_is_pending_until_the_vendor_has_answered() -> None:
    state = made()
    assert state.status is Status.PENDING
    assert after(state, judge(state, "", "", n_failed_before=None)).status is Status.CONNECTED


def test_source_that_is_only_pushed_is_connected_at_once() -> None:
    assert made(is_proved=True).status is Status.CONNECTED


@pytest.mark.parametrize(
    ("reason", "n_failed_before", "status"),
    [
        ("credentials_rejected", 0, Status.ERROR),
        ("oauth_expired", 0, Status.OAUTH_EXPIRED),
        ("unreachable", 1, Status.CONNECTED),
        ("unreachable", 2, Status.ERROR),
        ("vendor_failed", None, Status.CONNECTED),
        ("rate_limited", 9, Status.CONNECTED),
        ("credentials_rejected", None, Status.ERROR),
    ],
)
def test_trouble_counts_at_once_or_at_the_third_run(
    reason: str, n_failed_before: int | None, status: Status
) -> None:
    state = made(is_proved=True)
    now = after(state, judge(state, reason, "words", n_failed_before=n_failed_before))
    assert now.status is status
    assert not judge(now, reason, "words", n_failed_before=n_failed_before)


def test_paused_connector_comes_back_where_it_stood() -> None:
    state = configured(made(is_proved=True), is_paused=True)
    assert state.status is Status.PAUSED
    # What a run that was under way finds out meanwhile counts once it is resumed.
    state = after(state, judge(state, "credentials_rejected", "no", n_failed_before=0))
    assert state.status is Status.PAUSED
    state = configured(state, is_paused=False)
    assert state.standing == Standing(Status.ERROR, "credentials_rejected", "no")
    assert state.status is Status.ERROR


def test_new_credentials_have_to_be_proved() -> None:
    assert configured(made(is_proved=True), secrets=["email"]).status is Status.PENDING
    assert configured(made(is_proved=True), is_paused=None).status is Status.CONNECTED


def test_connector_is_deleted_once() -> None:
    state = after(made(), delete_connector(made()))
    assert state.is_deleted
    assert delete_connector(state) == []


# Runs


def test_backfill_needs_a_stretch_that_is_past_and_not_too_long() -> None:
    def asked(start: datetime | None, end: datetime | None) -> connector.SyncRequested:
        return request_run(
            made(),
            run_id="syn_1",
            kind=connector.SyncKind.BACKFILL,
            window=(start, end),
            requested_by=None,
            now=NOW,
        )

    assert asked(NOW - timedelta(days=9), None).window_end == NOW
    for start, end in (
        (None, None),
        (NOW, NOW),
        (NOW - timedelta(days=1), NOW + timedelta(seconds=1)),
        (NOW - timedelta(days=5000), None),
    ):
        with pytest.raises(InvalidConnectorError):
            asked(start, end)


def test_paused_connector_takes_no_run_but_a_remap() -> None:
    paused = configured(made(), is_paused=True)
    with pytest.raises(ConnectorPausedError):
        request_run(paused, run_id="syn_1", kind=connector.SyncKind.MANUAL, requested_by=None, now=NOW)
    request_run(paused, run_id="syn_1", kind=connector.SyncKind.REMAP, requested_by=None, now=NOW)


def test_run_is_cancelled_once_and_not_when_it_is_over() -> None:
    request = request_run(made(), run_id="syn_1", kind=connector.SyncKind.MANUAL, requested_by=None, now=NOW)
    run = SyncRun(request=request, requested_at=NOW)
    cancelled = replace(run, ended=cancel_run(run))
    assert cancel_run(cancelled) is None
    over = replace(run, ended=end_run(run, connector.SyncOutcome.SUCCEEDED, counts=NOTHING_YET))
    with pytest.raises(RunEndedError):
        cancel_run(over)


# Settings


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"type": "nope"}, "type"),
        ({"display_name": " "}, "display_name"),
        ({"config": {}}, "config.site"),
        ({"config": {"site": "acme", "colour": "red"}}, "config.colour"),
        ({"config": {"site": "acme.evil.example/#"}}, "config.site"),
        ({"auth": 2}, "auth"),
        ({"streams": ("nope",)}, "streams[0]"),
        ({"mapping": {"title": "fields.["}}, "mapping.title"),
        ({"mapping": {"colour": "x"}}, "mapping.colour"),
        ({"manifest": {}}, "manifest"),
        (
            {"schedule": connector.ConnectorSchedule(interval_seconds=59, timezone="UTC")},
            "schedule.interval_seconds",
        ),
        ({"schedule": connector.ConnectorSchedule(timezone="UTC")}, "schedule"),
        ({"schedule": connector.ConnectorSchedule(cron="61 * * * *", timezone="UTC")}, "schedule.cron"),
        ({"schedule": connector.ConnectorSchedule(cron="* * * * * *", timezone="UTC")}, "schedule.cron"),
        ({"schedule": connector.ConnectorSchedule(cron="0 9 * * *", timezone="Mars")}, "schedule.timezone"),
        ({"schedule": connector.ConnectorSchedule(cron="0 9 * * *", timezone="../etc")}, "schedule.timezone"),
        ({"type": "pagerduty", "auth": 0, "config": {"region": "mars"}}, "config.region"),
        (
            {"type": "github", "auth": 0, "config": {"owner": "a", "repo": "b", "base_url": "ftp://x"}},
            "config.base_url",
        ),
        ({"type": "custom_api", "auth": 0, "config": {}}, "schedule"),
        ({"type": "custom_shop", "config": {}}, "manifest"),
        (
            {"type": "custom_shop", "manifest": {**MANIFEST, "streams": [{"name": "x"}], "colour": 1}},
            "manifest",
        ),
    ],
)
def test_wrong_setting_is_named_by_its_path(fields: dict[str, object], path: str) -> None:
    with pytest.raises(InvalidConnectorError) as refused:
        connecting.checked(replace(SETTINGS, **fields))
    assert path in refused.value.problems


def test_settings_are_kept_with_the_manifest_s_defaults() -> None:
    kept = connecting.checked(replace(SETTINGS, display_name=" Ours "))
    assert (kept.display_name, kept.config["jql"]) == ("Ours", "issuetype in (Bug, Incident)")
    shop = replace(SETTINGS, type="custom_shop", manifest=MANIFEST, config={"base_url": "http://10.0.0.1:80"})
    assert connecting.checked(shop).type == "custom_shop"


async def test_a_manifest_that_new_rules_would_refuse_keeps_nobody_from_changing_the_rest() -> None:
    """Who cannot pause it has no way to stop it; the manifest itself is changed for a good one alone."""
    manifest = msgspec.json.decode(msgspec.json.encode(MANIFEST))
    manifest["streams"][0]["endpoint"]["incremental"]["cursor_path"] = "created_at"
    settings = replace(
        SETTINGS, type="custom_shop", auth=0, manifest=manifest, config={"base_url": "https://shop.example"}
    )
    with pytest.raises(InvalidConnectorError):
        connecting.checked(settings)
    states = [replace(made(), settings=settings, secrets=("token",))]

    async def decide(
        _: str, __: CommandContext, decided: Callable[[Connector], list[connector.Event]]
    ) -> object:
        states.append(after(states[-1], decided(states[-1])))
        return states[-1], len(states)

    held, vault = AsyncMock(names=("token",), secrets={"token": "t"}), MagicMock()
    vault.held.return_value.__aenter__.return_value = held
    vault.received.return_value = '{"token": "new"}'
    sources = AsyncMock(decide=decide)
    unasked = dict.fromkeys(("records", "asking", "queue", "rows", "shown", "clock", "rng"))
    connectors = Connectors(sources, vault, **unasked)  # type: ignore[arg-type]  # not asked
    for changes in ({"is_paused": True}, {"display_name": "Shop"}, {"sealed_credentials": "sealed"}):
        sources.find.return_value = states[-1]
        command = connector.ConfigureConnector(connector_id="con_1", **changes)
        await connectors.configure(command, CommandContext(workspace_id="ws_1", correlation_id=""))
    assert (states[-1].is_paused, states[-1].settings.display_name) == (True, "Shop")
    assert held.keep.await_args.args[0]["token"] == "new"
    worse = connector.ConfigureConnector(connector_id="con_1", manifest={**manifest, "name": "Better"})
    with pytest.raises(InvalidConnectorError):
        await connectors.configure(worse, CommandContext(workspace_id="ws_1", correlation_id=""))


@pytest.mark.parametrize(
    ("changes", "config", "is_elsewhere"),
    [
        ({"mappings": [{"external_id": "id", "title": "what"}], "rate_per_minute": 7}, {}, False),
        ({"auth": [{"kind": "api_key", "params": {"key": "{secret.token}"}}]}, {}, False),
        ({"auth": [{"kind": "api_key", "headers": {"X": "{secret.key}"}}]}, {}, True),
        ({"auth": [{"kind": "basic", "password": "{secret.token}", "username": "x"}]}, {}, True),
        ({"base_url": "https://evil.example"}, {}, True),
        ({}, {"host": "evil.example"}, True),
        ({"adapter": "instance"}, {}, True),
    ],
)
def test_credentials_stay_with_another_manifest_that_they_fit(
    changes: dict[str, object], config: dict[str, str], is_elsewhere: bool
) -> None:
    """And never go to another address than they were given for, whichever of the two says it."""
    manifest = {
        **MANIFEST,
        "auth": [{"kind": "api_key", "headers": {"Authorization": "Bearer {secret.token}"}}],
        "config": [{"key": "host", "title": "Host"}],
        "base_url": "https://{config.host}",
    }
    before, after = (
        connecting.source_of(
            "con_1",
            connecting.checked(
                replace(
                    SETTINGS,
                    type="custom_shop",
                    auth=0,
                    manifest={**manifest, **changed},
                    config={"host": "acme.example", **given},
                )
            ),
        )
        for changed, given in (({}, {}), (changes, config))
    )
    assert connecting.sends_elsewhere(before, after) == is_elsewhere
    assert connecting.is_sent_to(after, connecting.address_of(before)) != is_elsewhere


async def test_credentials_that_stay_are_good_for_the_better_manifest() -> None:
    """Also those beside which all of a manifest was kept once; those that were for another address stay refused."""
    settings = connecting.checked(
        replace(
            SETTINGS,
            type="custom_shop",
            auth=0,
            manifest=MANIFEST,
            config={"base_url": "https://shop.example"},
        )
    )
    content = msgspec.json.encode(MANIFEST, order="sorted")
    legacy = {"manifest": sha256(content).hexdigest(), "config": settings.config}
    state = replace(made(), settings=settings, secrets=("token",))
    better = {**MANIFEST, "name": "Better"}
    source = connecting.source_of("con_1", replace(settings, manifest=better))
    for address, is_kept in (
        (legacy, True),
        ({**legacy, "config": {"base_url": "https://a.example"}}, False),
    ):
        held, vault, sources = AsyncMock(), MagicMock(), AsyncMock()
        held.secrets = {"token": "t", GIVEN_FOR: msgspec.json.encode(address).decode()}
        vault.held.return_value.__aenter__.return_value = held
        sources.find.return_value, sources.decide.return_value = state, (state, 1)
        unasked = dict.fromkeys(("records", "asking", "queue", "rows", "shown", "clock", "rng"))
        connectors = Connectors(sources, vault, **unasked)  # type: ignore[arg-type]  # not asked
        command = connector.ConfigureConnector(connector_id="con_1", manifest=better)
        await connectors.configure(command, CommandContext(workspace_id="ws_1", correlation_id=""))
        kept = [call.args[0][GIVEN_FOR] for call in held.keep.await_args_list]
        assert [connecting.is_sent_to(source, each) for each in kept] == [True] * is_kept


@pytest.mark.parametrize(("secret", "is_refused"), [("webhook_key", True), ("webhook_secret", False)])
async def test_credentials_are_given_again_for_another_address_whatever_they_are_called(
    secret: str, is_refused: bool
) -> None:
    """What proves webhooks is sent nowhere, so it stays."""
    manifest = {**MANIFEST, "auth": [{"kind": "api_key", "headers": {"X-Key": "{secret.webhook_key}"}}]}
    config = {"base_url": "https://shop.example"}
    settings = replace(SETTINGS, type="custom_shop", auth=0, manifest=manifest, config=config)
    state = replace(made(), settings=connecting.checked(settings), secrets=(secret,))
    sources = AsyncMock()
    sources.find.return_value, sources.decide.return_value = state, (state, 1)
    vault = MagicMock()
    vault.held.return_value.__aenter__.return_value = AsyncMock(secrets={secret: "s"})
    unasked = dict.fromkeys(("records", "asking", "queue", "rows", "shown", "clock", "rng"))
    connectors = Connectors(sources, vault, **unasked)  # type: ignore[arg-type]  # not asked
    command = connector.ConfigureConnector(
        connector_id="con_1", config={"base_url": "https://elsewhere.example"}
    )
    with pytest.raises(InvalidConnectorError) if is_refused else nullcontext():
        await connectors.configure(command, CommandContext(workspace_id="ws_1", correlation_id=""))


async def test_no_path_leads_elsewhere() -> None:
    """Neither one that is an address by itself, nor one that lengthens the host's name."""
    values = Values(manifest_of("github"), {"owner": "HTTPS://evil.example", "repo": "shop"})
    with pytest.raises(VendorError, match="base_url"):
        values.path("{config.owner}/{config.repo}")
    assert values.path("/repos/{config.owner}") == "/repos/HTTPS:%2F%2Fevil.example"
    source = connecting.source_of(
        "con_1", replace(SETTINGS, type="github", auth=0, config={"owner": "acme", "repo": "shop"})
    )
    assert source.manifest.push is not None
    assert source.manifest.push.find is not None
    find = replace(source.manifest.push.find, path=".evil.example/search")
    tracker = Tracker(source, replace(source.manifest.push, find=find), {"token": "t"}, Outbound(EVERYWHERE))
    with pytest.raises(VendorError, match="begins with /"):
        await tracker.find(
            {
                "config.base_url": "https://api.example",
                "config.owner": "acme",
                "config.repo": "shop",
                "marker": "m",
            }
        )


def test_every_type_can_be_described_and_asked_for_its_secrets() -> None:
    for manifest in catalogue():
        for number, auth in enumerate(manifest.auth):
            connecting.asked_secrets(auth)
            connecting.deciding_config(manifest, number)


def test_the_catalogue_tells_what_a_ticket_needs() -> None:
    project, kind = describe(manifest_of("jira")).target
    assert (project.key, project.default) == ("project", None)
    assert (kind.title, kind.default) == ("Type of the issue", "Task")


def test_no_header_says_which_host_is_meant() -> None:
    """Credentials that are kept with a better manifest would go to somebody else behind the same entrance."""
    endpoint = "{path: /x, paginator: {type: single_page}, headers: {'host ': a}}"
    status = "{path: /x, words: state, headers: {hOST: a}}"
    find = "{path: /x, id: id, headers: {X-Forwarded-Host: a}}"
    content = SMALL.replace(
        "auth: [{kind: none}]", "auth: [{kind: api_key, headers: {host: '{secret.a}', X-Key: a}}]"
    ) + (
        "headers: {Host: a, Accept: b}\nbase_url: https://a.example\n"
        f"streams: [{{name: things, endpoint: {endpoint}}}]\n"
        "push: {path: /x, body: {}, id: id, headers: {Transfer-Encoding: chunked}, "
        f"find: {find}, status: {status}}}\n"
    )
    with pytest.raises(ManifestError) as caught:
        read(content.encode(), file="custom_api.yaml")
    assert [problem.path for problem in caught.value.problems] == [
        "headers.Host",
        "auth[0].headers.host",
        "streams[0].endpoint.headers.host ",
        "push.headers.Transfer-Encoding",
        "push.find.headers.X-Forwarded-Host",
        "push.status.headers.hOST",
    ]


def test_all_mistakes_of_a_manifest_are_told_at_once() -> None:
    """Up to twenty, also inside lists and of whatever kind."""
    faulty = {
        "category: data": "category: dta\nrate_per_minute: 0\nheaders: {A: 1}",
        "external_id: id": "external_id: 'id[', tilte: a, severity: {bands: [[1, p9]]}, metadata: {a: '['}",
        "auth: [{kind: none}]": "auth: [{kind: nobody}, {kind: aws, servce: s3}]",
    }
    content = SMALL
    for change, lines in faulty.items():
        assert change in content
        content = content.replace(change, lines)
    with pytest.raises(ManifestError) as caught:
        read(content.encode(), file="custom_api.yaml")
    assert {problem.path for problem in caught.value.problems} == {
        "category",
        "rate_per_minute",
        "headers.A",
        "mappings[0].external_id",
        "mappings[0].tilte",
        "mappings[0].severity.path",
        "mappings[0].severity.bands[0][1]",
        "mappings[0].metadata.a",
        "auth[0].kind",
        "auth[1].servce",
        "auth[1].service",
    }
    unknown = "".join(f"{letter}: 1\n" for letter in "abcdefghijklmnopqrstuvwxyz")
    with pytest.raises(ManifestError) as caught:
        read(f"{SMALL}{unknown}".encode(), file="custom_api.yaml")
    assert [problem.path for problem in caught.value.problems] == [*"abcdefghijklmnopqrst"]


def test_credentials_are_checked_by_name_and_never_repeated() -> None:
    auth = connecting.source_of("con_1", SETTINGS).auth
    with pytest.raises(InvalidConnectorError) as refused:
        connecting.check_credentials(auth, {"email": "e", "token": "s3cret"}, held=())
    assert set(refused.value.problems) == {"credentials.token", "credentials.api_token"}
    assert "s3cret" not in str(refused.value)
    connecting.check_credentials(auth, {"email": "e"}, held={"api_token"})


# Schedules


def next_due(schedule: connector.ConnectorSchedule, since: datetime, last: datetime | None) -> datetime:
    """Without the connector's own share of the spread, where there is one."""
    due = schedules.next_due(schedule, connector_id="con_1", since=since, last_run_at=last)
    is_spread = schedule.cron is not None or last is None
    return due - timedelta(seconds=schedules.spread_seconds("con_1") if is_spread else 0)


def test_interval_counts_from_the_start_of_the_last_run() -> None:
    hourly = connector.ConnectorSchedule(interval_seconds=3600, timezone="UTC")
    assert next_due(hourly, NOW, None) == NOW
    assert next_due(hourly, NOW, NOW + timedelta(minutes=5)) == NOW + timedelta(minutes=65)


def test_cron_keeps_to_the_clock_of_its_zone() -> None:
    """Zurich goes to summer time on 29 March 2026 at 2:00, and back on 25 October at 3:00."""
    at_nine = connector.ConnectorSchedule(cron="0 9 * * *", timezone="Europe/Zurich")
    day = timedelta(days=1)
    winter = datetime(2026, 3, 28, 8, tzinfo=UTC)
    assert next_due(at_nine, winter - day, winter) == datetime(2026, 3, 29, 7, tzinfo=UTC)
    at_half_past_two = connector.ConnectorSchedule(cron="30 2 * * *", timezone="Europe/Zurich")
    runs = [datetime(2026, 3, 28, 1, 30, tzinfo=UTC)]
    runs += [next_due(at_half_past_two, runs[0], runs[-1]) for _ in range(1)]
    runs.append(next_due(at_half_past_two, runs[0], runs[-1]))
    assert [moment.date().day for moment in runs] == [28, 29, 30]
    autumn = datetime(2026, 10, 24, 0, 30, tzinfo=UTC)
    first = next_due(at_half_past_two, autumn, autumn)
    assert (first.day, next_due(at_half_past_two, autumn, first).day) == (25, 26)


def test_connectors_of_one_moment_begin_all_over_a_minute() -> None:
    shares = {schedules.spread_seconds(f"con_{number}") for number in range(1000)}
    assert shares == set(range(schedules.SPREAD_SECONDS))
