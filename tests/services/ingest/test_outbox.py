"""Deliveries on their way into the queue: what each is known by, and how many of a workspace wait there."""

import asyncio
from datetime import datetime, timedelta

import msgspec
import pytest
from msgspec.structs import replace
from nats.aio.client import Client
from nats.js.api import StreamInfo
from testkit.waiting import eventually

from services.ingest.connectors.registry import catalogue, manifest_of
from services.ingest.connectors.verification import Call
from services.ingest.jobs.directory import Addressee
from services.ingest.jobs.outbox import LOOK_FULL_SECONDS, LOOK_SECONDS, Outbox, Shares, delivery_of
from services.ingest.jobs.queue import DELIVERIES, STREAM, JobQueue
from tests.services.ingest.builders import NOW
from tests.services.ingest.test_deliveries import DELIVERY, ZENDESK
from tests.services.ingest.test_intake import WORKSPACE

NEW_ID_EACH_TIME = {"datadog", "graylog", "launchdarkly", "teams"}
"""Types whose failures are named by the message itself, so that no two messages are of one."""


def keys_of(type_: str, body: object, headers: dict[str, str], *, now: datetime = NOW) -> set[str]:
    webhook = manifest_of(type_).webhook
    assert webhook is not None
    known = Addressee(workspace_id=WORKSPACE, source=ZENDESK, webhook=webhook)
    call = Call(body=msgspec.json.encode(body), headers=headers)
    return set(delivery_of(known, webhook, call, body, now=now).keys)


@pytest.mark.parametrize(
    ("type_", "of_both", "beginning", "end"),
    [
        ("coralogix", {"uuid": "the secret", "alert_id": "1"}, {"alert_action": "trigger"}, {"alert_action": "resolve"}),
        ("gcp_monitoring", {}, {"incident": {"incident_id": "0.a", "state": "open"}},
         {"incident": {"incident_id": "0.a", "state": "closed"}}),
        ("logicmonitor", {"alertid": "LMD1"}, {"alertstatus": "active"}, {"alertstatus": "clear"}),
        ("mongodb_atlas", {"id": "5"}, {"status": "OPEN"}, {"status": "CLOSED"}),
        ("netlify", {"id": "6"}, {"state": "building"}, {"state": "error"}),
        ("zabbix", {"event_id": "7"}, {"event_value": "1"}, {"event_value": "0"}),
        ("zendesk", {"type": "zen:event-type:ticket.created"}, {"detail": {"id": "8"}}, {"detail": {"id": "9"}}),
    ],
)  # fmt: skip
def test_what_a_failure_becomes_is_no_repetition_of_its_beginning(
    type_: str, of_both: dict[str, object], beginning: dict[str, object], end: dict[str, object]
) -> None:
    """The vendor names the failure, or its webhook, in both calls alike."""
    calls = [
        keys_of(
            type_, {**of_both, **news}, {"X-Zendesk-Webhook-Id": "1", "X-Zendesk-Webhook-Invocation-Id": call}
        )
        for call, news in (("1", beginning), ("2", end))
    ]
    assert calls[0].isdisjoint(calls[1])


def test_two_events_of_one_id_are_two_where_the_vendor_promises_no_other() -> None:
    """HubSpot says that an eventId may not be unique, and sends a hundred events at once."""
    event = {"eventId": 100, "subscriptionType": "ticket.creation", "objectId": 1}
    one, two = (keys_of("hubspot", [{**event, "objectId": id_}], {}) for id_ in (1, 2))
    assert one.isdisjoint(two)


def test_what_fails_again_in_the_same_words_is_news_under_another_id() -> None:
    """Within the hour it is a repetition, since anybody could give it another id; later it is down, up and down again."""
    body = {"id": "db-1", "title": "db-1 is down", "status": "open"}
    first = keys_of("custom_api", body, {"webhook-id": "m1"})
    later = NOW + timedelta(hours=1)
    assert first & keys_of("custom_api", body, {"webhook-id": "m3"})
    assert not first & keys_of("custom_api", body, {"webhook-id": "m3"}, now=later)
    assert first & keys_of("custom_api", body, {"webhook-id": "m1"}, now=later)


def test_no_delivery_is_known_by_the_name_of_its_failure() -> None:
    """Its end would be taken for a repetition of its beginning, for seven days."""
    found = set[str]()
    for each in catalogue():
        place = each.webhook and each.webhook.event_id
        if not each.webhook or not place or place.path is None:
            continue
        for spot in each.webhook.records:
            within = "" if spot.path.text == "@" else f"{spot.path.text}."
            names = {
                f"{within}{name.strip()}" for m in each.mappings for name in m.external_id.text.split("||")
            }
            if place.path.text in names:
                found.add(each.type)
    assert found == NEW_ID_EACH_TIME


async def test_workspace_has_its_share_of_the_queue_and_others_have_theirs(nc: Client) -> None:
    await JobQueue(nc).ensure()
    now = 0.0
    share, another = (Shares(nc, units=8, monotonic=lambda: now) for _ in range(2))
    for number in range(8):
        assert await share.take("ws_big", 1)
        await nc.jetstream().publish(f"job.delivery.ws_big.{number}-1", b"")
    # Another process has put nothing yet, and looks.
    for one in (share, another):
        now += LOOK_SECONDS
        assert [await one.take(workspace_id, 3) for workspace_id in ("ws_big", "ws_small")] == [False, True]
    assert (await nc.jetstream().stream_info(STREAM)).state.messages == 0
    await nc.jetstream().purge_stream(DELIVERIES)
    now += LOOK_FULL_SECONDS
    assert await share.take("ws_big", 1)


class Looked(Shares):
    """Shares of eight units, how often they were looked at, and when they may be answered."""

    def __init__(self, nc: Client) -> None:
        self.now = 0.0
        self.n_looks = 0
        self.may_look = asyncio.Event()
        self.may_look.set()
        super().__init__(nc, units=8, monotonic=lambda: self.now)
        info = self._js.stream_info

        async def look(name: str, subjects_filter: str | None = None) -> StreamInfo:
            self.n_looks += 1
            await self.may_look.wait()
            return await info(name, subjects_filter)

        self._js.stream_info = look  # type: ignore[method-assign]  # the same, counted


async def test_a_share_that_is_used_up_is_looked_at_seldom(nc: Client) -> None:
    """The names of all that waits come with each look, while its vendor calls and others' calls travel along."""
    await JobQueue(nc).ensure()
    share = Looked(nc)
    await nc.jetstream().publish("job.delivery.ws_big.1-8", b"")
    refused: list[bool] = []
    while share.n_looks < 3:
        refused.append(not await share.take("ws_big", 3))
        share.now += LOOK_SECONDS
    assert refused == [True] * (2 * round(LOOK_FULL_SECONDS / LOOK_SECONDS) + 1)


async def test_a_look_without_an_answer_holds_up_and_refuses_nobody(nc: Client) -> None:
    """Calls of many workspaces travel together; until it is answered a process keeps to the share that it knows of."""
    share = Looked(nc)
    assert [await share.take(each, 3) for each in ("ws_1", "ws_2", "ws_1", "ws_1")] == [
        True,
        True,
        True,
        False,
    ]
    assert share.n_looks == 1
    await JobQueue(nc).ensure()
    share.now += LOOK_SECONDS
    assert [await share.take("ws_1", 3), share.n_looks] == [True, 2]


async def test_what_is_put_during_a_look_is_counted_beside_what_it_finds(nc: Client) -> None:
    await JobQueue(nc).ensure()
    share = Looked(nc)
    assert await share.take("ws_1", 2)
    await nc.jetstream().publish("job.delivery.ws_1.1-2", b"")
    share.may_look.clear()
    looking = asyncio.create_task(share.take("ws_1", 1))
    await eventually(lambda: share.n_looks == 1)
    assert await share.take("ws_1", 5)
    share.may_look.set()
    assert await looking
    assert [await share.take("ws_1", 1), share.n_looks] == [False, 1]


@pytest.mark.parametrize("limit", [{"max_msgs": 1}, {"max_bytes": 1_500}])
async def test_a_delivery_that_finds_the_queue_full_is_not_taken_for_kept(
    nc: Client, limit: dict[str, int]
) -> None:
    """Its vendor would be told that we have it; one that waits there already is kept."""
    await JobQueue(nc).ensure()
    js, outbox = nc.jetstream(), Outbox(nc)
    await outbox.start()
    config = (await js.stream_info(DELIVERIES)).config
    one, two = ((WORKSPACE, replace(DELIVERY, keys=(id_,), body=1_000 * b"a")) for id_ in ("id-1", "id-2"))
    assert await outbox.put([one]) == [True]
    await js.update_stream(config, **limit)
    assert await outbox.put([two, one]) == [False, True]
    await js.update_stream(config)
    assert await outbox.put([two, one]) == [True, True]
    assert (await js.stream_info(DELIVERIES)).state.messages == 2
