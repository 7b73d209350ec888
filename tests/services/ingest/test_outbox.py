"""Deliveries on their way into the queue: what each is known by, and how many of a workspace wait there."""

from datetime import datetime, timedelta

import msgspec
import pytest
from msgspec.structs import replace
from nats.aio.client import Client

from services.ingest.connectors.registry import catalogue, manifest_of
from services.ingest.connectors.verification import Call
from services.ingest.jobs.directory import Addressee
from services.ingest.jobs.outbox import LOOK_SECONDS, Outbox, Shares, delivery_of
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
    assert await share.take("ws_big", 1)


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
