"""What is pushed: as much as a tracker takes, and marked, so that it does not come back as a failure."""

from datetime import UTC, datetime
from unittest.mock import Mock

import pytest
from contracts import connector
from runtime.outbound import EVERYWHERE, Outbound

from services.ingest.connectors import tickets
from services.ingest.connectors.connecting import Source
from services.ingest.connectors.expressions import Expression
from services.ingest.connectors.manifest import TicketStatus
from services.ingest.connectors.mapping import Ignored, Mapped, map_record
from services.ingest.connectors.registry import manifest_of, types
from services.ingest.connectors.templates import TemplateError, Values, fill_address, fill_path, folders_of
from services.ingest.errors import VendorError
from services.ingest.vendors.tickets import Tracker

NOW = datetime(2026, 11, 23, tzinfo=UTC)
TICKET = tickets.ticket_id("ws_1", "rec_1", "con_1")
TRACKERS = [each for each in types() if manifest_of(each).push is not None]


@pytest.mark.parametrize("tracker", TRACKERS)
def test_every_ticket_is_marked(tracker: str) -> None:
    """Where its own list and webhook show it, as the manifest's author saw to."""
    manifest = manifest_of(tracker)
    push = manifest.push
    assert push is not None
    config = {f"config.{field.key}": "1" for field in manifest.config}
    target = {field.key: field.default or "1" for field in push.target}
    given = tickets.values(config, TICKET, target=target, begun_at=NOW)
    request = tickets.request(push, given | tickets.text_values(push, "Raise the pool", "It is too small."))
    assert tickets.is_pushed(request.json)


@pytest.mark.parametrize(
    ("text", "is_ours"),
    [
        (f"Raise the pool\n\n<!-- {tickets.marker(TICKET)} -->", True),
        ("About causeloop-gateway, which is slow", False),
        (f"{tickets.marker(TICKET)}0", False),
        (f"Raise the pool\n\n{tickets.marker(TICKET)}\n\nAs agreed on.", True),
        (f"<div>Raise the pool</div><div>{tickets.marker(TICKET)}</div>", True),
        (f"api; causeloop; {tickets.marker(TICKET)}; urgent", True),
        (f"It is down since {tickets.marker(TICKET)}", False),
        (f"> {tickets.marker(TICKET)}\nwas done, and it is down", False),
        (None, False),
    ],
)
def test_what_was_pushed_comes_back_as_no_issue(text: str | None, is_ours: bool) -> None:
    """https://docs.gitlab.com/api/issues/, as a list has it; also where a record only nests the marker."""
    record = {
        "id": 76,
        "iid": 6,
        "project_id": 42,
        "title": "Raise the pool",
        "description": text,
        "state": "opened",
        "labels": ["causeloop"],
        "references": {"full": "acme/shop#6"},
        "created_at": "2026-11-22T13:00:00.000Z",
    }
    kind = Ignored if is_ours else Mapped
    assert isinstance(map_record(manifest_of("gitlab"), record, now=NOW), kind)
    nested = {**record, "description": None, "milestone": {"notes": [{"text": text}]}}
    assert isinstance(map_record(manifest_of("gitlab"), nested, now=NOW), kind)


def test_a_text_without_our_name_is_not_searched_for_a_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search stops at each sign that one may stand behind, and all else waits: three seconds for 15 MB of them."""
    search = Mock(return_value=None)
    monkeypatch.setattr(tickets, "_MARKER", Mock(search=search))
    assert not tickets.is_pushed({"title": "Down", "notes": ["; " * 1_000]})
    assert search.call_count == 0
    assert not tickets.is_pushed({"title": "Down", "notes": ["; causeloop-"]})
    assert search.call_count == 1


@pytest.mark.parametrize(
    ("tracker", "title_max", "text_max"),
    [("opsgenie", 130, 15_000), ("jsm_ops", 130, 15_000), ("notion", 250, 2_000), ("jira", 250, 32_768)],
)
def test_a_ticket_is_no_longer_than_its_tracker_takes(tracker: str, title_max: int, text_max: int) -> None:
    """https://support.atlassian.com/opsgenie/docs/update-an-alerts-message/,
    https://developers.notion.com/reference/request-limits."""
    push = manifest_of(tracker).push
    assert push is not None
    cut = tickets.text_values(push, "t" * 300, "m" * 40_000)
    assert (cut["title"], len(str(cut["markdown"]))) == ("t" * (title_max - 1) + "…", text_max)
    whole = tickets.text_values(push, "t" * title_max, "m" * text_max)
    assert (whole["title"], whole["markdown"]) == ("t" * title_max, "m" * text_max)


@pytest.mark.parametrize(
    ("project", "path"),
    [
        ("42", "/projects/42/issues"),
        ("acme/shop", "/projects/acme%2Fshop/issues"),
        ("acme%2Fshop", "/projects/acme%2Fshop/issues"),
        ("50%off?x", "/projects/50%25off%3Fx/issues"),
        ("%2e%2E", None),
    ],
)
def test_a_slash_may_be_encoded_already_as_a_path_that_is_polled_needs_it(
    project: str, path: str | None
) -> None:
    """Or not; what is in the target and in an id never counts as encoded."""
    given: dict[str, object] = {"config.project": project, "id": "a%2Fb"}
    if path is None:
        with pytest.raises(TemplateError):
            fill_path("/projects/{config.project}/issues", given)
        with pytest.raises(VendorError):
            Values(manifest_of("gitlab"), {"project": project}).path("/projects/{config.project}/issues")
    else:
        assert fill_path("/projects/{config.project}/issues", given) == path
        assert (
            Values(manifest_of("gitlab"), {"project": project}).path("/projects/{config.project}/issues")
            == path
        )
    assert fill_path("/{id}", given) == "/a%252Fb"


async def test_a_tracker_is_where_its_source_is_polled() -> None:
    """By one rule, so that what may be no address of the one is none of the other."""
    manifest = manifest_of("gitlab")
    assert manifest.push is not None
    for host, base in (("git_1.example:8443", "https://git_1.example:8443/api/v4"), ("evil.example/x", None)):
        settings = connector.ConnectorSettings(type="gitlab", display_name="", auth=0, config={"host": host})
        tracker = Tracker(Source("con_1", settings, manifest), manifest.push, {}, Outbound(EVERYWHERE))
        if base is None:
            with pytest.raises(VendorError, match="no part of a host"):
                await tracker._base()
        else:
            assert await tracker._base() == base


@pytest.mark.parametrize("job", ["shop", "folder/job/shop", "folder/job/a%2Fb"])
def test_slashes_part_folders_where_the_manifest_says_so(job: str) -> None:
    values = Values(manifest_of("jenkins"), {"host": "ci_1.example", "job": job})
    assert values.path("/job/{config.job}/api/json") == f"/job/{job}/api/json"
    status = TicketStatus(path="/job/{config.job}/{id}", words=Expression("state"))
    asked = tickets.request(
        status, {"config.job": job, "id": "a/b"}, folders=folders_of(manifest_of("jenkins"))
    )
    assert asked.path == f"/job/{job}/a%2Fb"
    assert (
        fill_address("https://{config.host}/x", {"config.host": "ci_1.example"}) == "https://ci_1.example/x"
    )
    with pytest.raises(VendorError):
        Values(manifest_of("jenkins"), {"job": "folder/%2E./x"}).path("/job/{config.job}")


@pytest.mark.parametrize(
    ("table", "value", "word", "state", "said"),
    [
        ("incident", "3", "On Hold", "open", "On Hold"),
        ("incident", "6", "Resolved", "done", "Resolved"),
        ("incident", "6", "Gelöst", "done", "incident:6"),
        ("problem", "103", "Analyse", "open", "Analyse"),
        ("problem", "107", "Geschlossen", "done", "problem:107"),
        ("change_request", "3", "Geschlossen", "done", "change_request:3"),
        ("change_request", "4", "Abgebrochen", "dropped", "change_request:4"),
        ("change_request", "-5", "Neu", "open", "Neu"),
        ("u_own", "9", "Closed Complete", "done", "Closed Complete"),
    ],
)
def test_servicenow_says_where_a_ticket_stands_in_any_language(
    table: str, value: str, word: str, state: str, said: str
) -> None:
    """Its words are in the language of who asks, its values are the same for all:
    https://www.servicenow.com/docs/r/washingtondc/it-service-management/change-management/c_ChangeStateModel.html.
    """
    push = manifest_of("servicenow").push
    assert push is not None
    assert push.status is not None
    given: dict[str, object] = {"marker": tickets.marker(TICKET)}
    record = {
        "state": {"display_value": word, "value": value},
        "sys_class_name": {"display_value": "…", "value": table},
    }
    assert tickets.standing(push.status, {"result": [record]}, given) == (state, said)
    assert tickets.standing(push.status, {"result": []}, given) is None
