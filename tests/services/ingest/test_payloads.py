"""What vendors tell in lists and webhooks, and which issues it makes: the same from both, none of what is no failure."""

from datetime import UTC, datetime

import pytest

from services.ingest.connectors.mapping import Ignored, Mapped, Outcome, Rejected, map_record
from services.ingest.connectors.payloads import read_delivery
from services.ingest.connectors.registry import manifest_of

NOW = datetime(2026, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("type_", "payload", "ids"),
    [
        ("zendesk", {"detail": {"id": "9", "subject": "Fire", "type": "PROBLEM"}}, ["9"]),
        ("zendesk", {"type": "zen:event-type:user.created", "detail": {"id": "9", "role": "end-user"}}, []),
        ("zendesk", {"type": "zen:event-type:article.published", "detail": {"id": "9"}}, []),
        ("zendesk", {"id": "9", "title": "Written by a trigger", "ticket_type": "Problem"}, ["9"]),
        ("pagerduty", {"event_type": "incident.triggered", "data": {"id": "9", "type": "incident"}}, ["9"]),
        ("pagerduty", {"event_type": "incident.annotated", "data": {"id": "9", "type": "incident_note"}}, []),
        ("pagerduty", {"event_type": "incident.responder.added", "data": {"type": "incident_responder"}}, []),
    ],
)
def test_what_a_vendor_tells_beside_failures_becomes_none(
    type_: str, payload: dict[str, object], ids: list[str]
) -> None:
    """Zendesk's events of people and articles, PagerDuty's of notes and responders.

    Source: developer.zendesk.com/api-reference/webhooks/event-types, developer.pagerduty.com/docs/webhooks-overview.
    """
    if type_ == "zendesk" and "detail" in payload:
        payload = {"type": "zen:event-type:ticket.created", "zendesk_event_version": "2022-11-06", **payload}
    manifest = manifest_of(type_)
    assert manifest.webhook is not None
    records = read_delivery(
        manifest.webhook, {"event": payload} if type_ == "pagerduty" else payload, {}
    ).records
    found = [map_record(manifest, record, now=NOW) for record in records]
    issues = [outcome.issue for outcome in found if isinstance(outcome, Mapped)]
    assert [issue.external_id for issue in issues] == ids
    assert not any(isinstance(outcome, Rejected) for outcome in found)
    assert {issue.error_type for issue in issues} <= {"problem", None}


@pytest.mark.parametrize(
    ("type_", "payload", "header"),
    [
        ("jira", {"webhookEvent": "jira:issue_deleted", "issue": {"key": "A-1", "fields": {"summary": "x", "status": {"name": "To Do"}}}}, ""),
        ("jira_dc", {"webhookEvent": "jira:issue_deleted", "issue": {"key": "A-1", "fields": {"summary": "x", "status": {"name": "To Do"}}}}, ""),
        ("linear", {"type": "Issue", "action": "remove", "data": {"id": "1", "title": "x", "state": {"type": "started"}}}, ""),
        ("github", {"action": "deleted", "issue": {"id": 1, "title": "x", "state": "open"}}, "issues"),
        ("zendesk", {"id": 1, "subject": "x", "status": "deleted"}, ""),
    ],
)  # fmt: skip
def test_what_is_deleted_at_the_vendor_is_closed(type_: str, payload: object, header: str) -> None:
    manifest = manifest_of(type_)
    assert manifest.webhook is not None
    (record,) = read_delivery(manifest.webhook, payload, {"x-github-event": header}).records
    outcome = map_record(manifest, record, now=NOW)
    assert isinstance(outcome, Mapped), outcome
    assert outcome.issue.status == "closed"


@pytest.mark.parametrize(
    ("type_", "polled", "service"),
    [
        ("github", {"id": 1, "title": "x", "html_url": "https://github.com/acme/shop/issues/1"}, "acme/shop"),
        ("github", {"rule": {"id": "r"}, "html_url": "https://ghe.example/a/b/code-scanning/4"}, "a/b"),
        ("github", {"id": 1, "title": "x"}, None),
        ("gitlab", {"iid": 1, "title": "x", "references": {"full": "acme/web/shop#1"}}, "acme/web/shop"),
    ],
)
def test_a_list_names_the_service_as_webhooks_do(
    type_: str, polled: dict[str, object], service: str | None
) -> None:
    """So that an issue does not go from one to the other with each of them."""
    outcome = map_record(manifest_of(type_), polled, now=NOW)
    assert isinstance(outcome, Mapped), outcome
    assert outcome.issue.service == service


def of_azure(event: str, **fields: str) -> Outcome:
    """https://learn.microsoft.com/en-us/azure/devops/service-hooks/events, of a work item."""
    item = {
        "id": 5,
        "rev": 1,
        "url": "https://dev.azure.com/acme/_apis/wit/workItems/5/revisions/1",
        "fields": {
            "System.WorkItemType": "Bug",
            "System.State": "New",
            "System.Title": "Saving twice fails",
            "System.CreatedDate": "2026-11-22T17:42:44.663Z",
        }
        | {f"System.{name}": value for name, value in fields.items()},
    }
    resource = {"id": 2, "workItemId": 5, "revision": item} if event == "workitem.updated" else item
    manifest = manifest_of("azure_devops")
    assert manifest.webhook is not None
    (record,) = read_delivery(
        manifest.webhook, {"id": "e", "eventType": event, "resource": resource}, {}
    ).records
    return map_record(manifest, record, now=NOW)


@pytest.mark.parametrize(
    ("event", "fields", "status"),
    [
        ("workitem.created", {}, "open"),
        ("workitem.updated", {"State": "Resolved"}, "resolved"),
        ("workitem.deleted", {}, "closed"),
        ("workitem.restored", {}, "open"),
        ("workitem.created", {"WorkItemType": "User Story"}, None),
        ("workitem.updated", {"WorkItemType": "Task"}, None),
        ("workitem.created", {"Tags": f"causeloop; causeloop-{'0' * 26}"}, None),
    ],
)
def test_azure_devops_tells_of_bugs_with_an_address_for_people(
    event: str, fields: dict[str, str], status: str | None
) -> None:
    """Plans are no failures, nor is what was pushed; status None: ignored."""
    outcome = of_azure(event, **fields)
    if status is None:
        assert isinstance(outcome, Ignored), outcome
    else:
        assert isinstance(outcome, Mapped), outcome
        assert (outcome.issue.status, outcome.issue.external_url) == (
            status,
            "https://dev.azure.com/acme/_workitems/edit/5",
        )


@pytest.mark.parametrize("record", [{"issue_type": "issue"}, {"type": "Issue"}])
def test_gitlab_s_list_and_webhook_name_one_type(record: dict[str, str]) -> None:
    outcome = map_record(manifest_of("gitlab"), {"iid": 1, "title": "x", **record}, now=NOW)
    assert isinstance(outcome, Mapped), outcome
    assert outcome.issue.error_type == "issue"


@pytest.mark.parametrize(
    ("type_", "payload"),
    [
        ("asana", {"events": [{"action": "changed", "resource": {"gid": "1", "resource_type": "task"}}]}),
        ("hubspot", [{"eventId": 1, "subscriptionType": "ticket.propertyChange", "objectId": 7}]),
        ("notion", {"id": "e", "type": "page.properties_updated", "entity": {"id": "p", "type": "page"}}),
        (
            "shortcut",
            {"id": "e", "actions": [{"id": 1, "entity_type": "story", "action": "update", "name": "Down"}]},
        ),
        (
            "trello",
            {"action": {"id": "a", "type": "updateCard", "data": {"card": {"id": "c", "name": "Down"}}}},
        ),
    ],
)
def test_a_webhook_that_names_only_what_changed_resets_nothing(type_: str, payload: object) -> None:
    """It says neither severity nor status, so the defaults would open again what somebody closed."""
    manifest = manifest_of(type_)
    assert manifest.webhook is not None
    delivery = read_delivery(manifest.webhook, payload, {})
    assert all(isinstance(map_record(manifest, record, now=NOW), Ignored) for record in delivery.records)
