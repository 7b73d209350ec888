"""Manifests: every one can be read, a mistake is told with its place, and what a mapping says is so."""

import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from contracts import connector, ingest

from services.ingest.connectors.__main__ import main
from services.ingest.connectors.connecting import Source
from services.ingest.connectors.expressions import Expression
from services.ingest.connectors.manifest import Manifest, Mapping, RecordPath, SeverityRule, StatusRule
from services.ingest.connectors.mapping import Ignored, Mapped, Rejected, map_record
from services.ingest.connectors.normalization import moment, severity, status
from services.ingest.connectors.payloads import read_delivery, records_in
from services.ingest.connectors.registry import (
    ManifestError,
    UnknownTypeError,
    catalogue,
    manifest_of,
    read,
    types,
)
from services.ingest.connectors.reserved import GIVEN_FOR, RESERVED
from services.ingest.errors import VendorError
from services.ingest.records import Raw
from services.ingest.vendors.pagination import compiled

NOW = datetime(2026, 12, 31, tzinfo=UTC)
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "sources.md"
SMALL = """
type: custom_api
name: Mine
category: data
docs_url: https://example.com/docs
auth: [{kind: none}]
mappings: [{external_id: id, title: title}]
"""


def github_issue() -> dict[str, object]:
    return {"id": 1, "number": 7, "title": "Fails", "state": "open", "html_url": "https://example.com/7"}


def test_the_catalogue_has_what_was_promised() -> None:
    """At least 80 types in all five categories, those of the contract among them; each can be read."""
    manifests = catalogue()
    assert len(manifests) >= 80
    (promised,) = (
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("Promised:")
    )
    named = set(re.findall(r"`(\w+)`", promised))
    assert len(named) == 22
    assert set(types()) >= named
    assert {name for name in named if not manifest_of(name).streams} == {"custom_api"}
    assert len({manifest.category for manifest in manifests}) == 5


@pytest.mark.parametrize(
    ("change", "path", "problem"),
    [
        ("name: Mine", ["nmae", "name"], "Object contains unknown field `nmae`; is it `name`?"),
        ("external_id: id", "mappings[0].external_id", "is not JMESPath"),
        ("category: data", "category", "; there are cloud_monitoring, productivity_incident, "),
        ("kind: none", "auth[0].kind", "Invalid value 'oauth'; there are api_key, basic, oauth2_code, "),
        ("type: custom_api", ["type", "unchecked"], "is not in KNOWN_SOURCES"),
        ("auth: [{kind: none}]", "auth[0].headers.Authorization", "{config.user} is not a field of config"),
        ("mappings: [{", "mappings[0].when", "is needed, since mappings follow"),
        ("docs_url: https", "docs_url", "Expected `str` matching regex"),
        (
            "name: Mine",
            "config.api",
            "'a.example/v1' cannot stand in base_url: config.api is no part of a host's",
        ),
    ],
)
def test_a_faulty_manifest_is_refused_by_file_and_place(
    change: str, path: str | list[str], problem: str
) -> None:
    """Whoever writes one is told where to look."""
    api = "config: [{key: api, title: API, default: a.example/v1}]\nbase_url: 'https://{config.api}'"
    faulty = {
        "name: Mine": f"name: Mine\n{api}" if path == "config.api" else "nmae: Mine",
        "external_id: id": "external_id: 'id['",
        "category: data": "category: dta",
        "kind: none": "kind: oauth",
        "type: custom_api": "type: weather",
        "auth: [{kind: none}]": 'auth: [{kind: api_key, headers: {Authorization: "{config.user}"}}]',
        "mappings: [{": "mappings: [{external_id: a, title: b}, {",
        "docs_url: https": "docs_url: ftp",
    }[change]
    file = "weather.yaml" if "weather" in faulty else "custom_api.yaml"
    assert isinstance(read(SMALL.encode(), file="custom_api.yaml"), Manifest)
    with pytest.raises(ManifestError) as caught:
        read(SMALL.replace(change, faulty).encode(), file=file)
    paths = [path] if isinstance(path, str) else path
    assert [(file, each) for each in paths] == [(found.file, found.path) for found in caught.value.problems]
    assert problem in caught.value.problems[0].problem


@pytest.mark.parametrize(
    ("paging", "place"),
    [
        ("{type: cursor, cursor_path: meta.next page, cursor_param: after}", "paginator.cursor_path"),
        ("{type: json_link, next_url_path: 'links.next['}", "paginator.next_url_path"),
        ("{type: json_link, next_url_path: $..*..next}", "paginator.next_url_path"),
        ("{type: page_number, total_path: a b}", "paginator.total_path"),
        ("{type: page_number, base_page: -1}", "paginator.base_page"),
        ("{type: offset, limit: -5}", "paginator.limit"),
        ("{type: offset, limit: 0}", "paginator.limit"),
        ("{type: offset, limit: 5, has_more_path: where}", "paginator.has_more_path"),
        ("{type: offset, limit: 5, offset_body_path: 'a['}", "paginator.offset_body_path"),
        ("{type: header_cursor, cursor_key: x, cursor_param: ''}", "paginator.cursor_param"),
        ("{type: single_page}, incremental: {cursor_path: updated at}", "incremental.cursor_path"),
    ],
)
def test_a_path_or_a_limit_that_a_run_would_stumble_over_is_refused(paging: str, place: str) -> None:
    """When it is saved; of what was kept before, the run says what is wrong instead of trying again for an hour."""
    stream = f"base_url: https://example.com\nstreams: [{{name: lists, endpoint: {{path: /, paginator: {paging}}}}}]\n"
    content = (SMALL + stream).encode()
    assert read(content, file="custom_api.yaml", is_kept=True).streams
    with pytest.raises(ManifestError) as caught:
        read(content, file="custom_api.yaml")
    assert [f"streams[0].endpoint.{place}"] == [problem.path for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("more", "place"),
    [
        (
            "config: [{key: host, title: Host, default: a.example/v1}]\nbase_url: 'https://{config.host}'",
            "config.host",
        ),
        ("verified: true\nevidence: seen\nunchecked: [mapping]", "unchecked"),
        (
            "webhook: {records: [{path: a}], verify: [{scheme: hmac, header: x, signed: '{timestamp}.{body}'}]}",
            "webhook.verify[0]",
        ),
    ],
)
def test_what_was_kept_before_a_rule_is_read_on(more: str, place: str) -> None:
    """Else its connector is neither polled nor posted to after an upgrade."""
    content = (SMALL + more).encode()
    assert read(content, file="custom_api.yaml", is_kept=True)
    with pytest.raises(ManifestError) as caught:
        read(content, file="custom_api.yaml")
    assert [place] == [problem.path for problem in caught.value.problems]


@pytest.mark.parametrize("name", sorted(RESERVED - {GIVEN_FOR}))
def test_the_name_of_a_secret_of_ours_is_none_that_a_manifest_may_ask_for(name: str) -> None:
    """Whoever gave it would write what only we may, such as until when a first call may bring a webhook's secret."""
    asking = f'auth: [{{kind: none}}, {{kind: basic, password: "{{secret.{name}}}"}}]'
    content = SMALL.replace("auth: [{kind: none}]", asking).encode()
    assert read(content, file="custom_api.yaml", is_kept=True).auth
    with pytest.raises(ManifestError) as caught:
        read(content, file="custom_api.yaml")
    [problem] = caught.value.problems
    assert problem.path == "auth[1].password"
    assert problem.problem.startswith(f"{{secret.{name}}} is the name of a secret of ours; choose another")


def test_a_path_that_was_kept_and_is_none_fails_the_run_with_its_reason() -> None:
    with pytest.raises(VendorError, match="not_configured: links"):
        compiled("links.next[")


@pytest.mark.parametrize(
    ("cursor", "more", "is_refused"),
    [
        ("created_at", "", True),
        ("run.start_time", "", True),
        ("last_seen", "", True),
        ("sent_at", "", True),
        ("created_at", "reread_days: 2, ", False),
        ("created_at", "cursor_is_change: true, ", False),
        ("fields.lastUpdated", "", False),
        ("end_time", "", False),
    ],
)
def test_a_list_by_when_something_began_says_what_becomes_of_what_ends_later(
    cursor: str, more: str, is_refused: bool
) -> None:
    """Else a failure that ends behind one that began later is never read; what is kept since before runs on."""
    stream = f"""
base_url: https://example.com
streams: [{{name: failures, {more}endpoint: {{path: /, paginator: {{type: single_page}},
  incremental: {{cursor_path: {cursor}, start_param: since}}}}}}]
"""
    content = (SMALL + stream).encode()
    assert read(content, file="custom_api.yaml", is_kept=True).streams
    if is_refused:
        with pytest.raises(ManifestError, match=r"streams\[0\].reread_days: is needed"):
            read(content, file="custom_api.yaml")
    else:
        assert read(content, file="custom_api.yaml").streams


@pytest.mark.parametrize(
    "lines",
    [
        "webhook: {records: [{path: a}], verify: []}",
        "webhook: {records: [{path: a}], verify: [{scheme: hmac, header: x, signed: '{timestamp}.{body}'}]}",
        "verified: true",
        "verified: true\nevidence: a list\nwebhook: {records: [{path: a}], verify: [{scheme: basic}]}",
    ],
)
def test_a_manifest_claims_nothing_unproved(lines: str) -> None:
    """A webhook without a scheme would be believed unseen, a time that is nowhere is never signed; `verified` says what was run."""
    with pytest.raises(ManifestError):
        read(f"{SMALL}{lines}\n".encode(), file="custom_api.yaml")


def test_a_type_is_found_by_any_usual_spelling_but_an_unknown_one_is_none() -> None:
    """A stranger must not be read as `custom_api`."""
    assert manifest_of("New Relic").type == "newrelic"
    assert manifest_of("splunk_oncall").type == "victorops"
    with pytest.raises(UnknownTypeError):
        manifest_of("weather")


@pytest.mark.parametrize(
    ("record", "path"),
    [
        ("text", ""),
        ({"title": "no id"}, "external_id"),
        ({**github_issue(), "id": "a\x00b"}, "external_id"),
        ({**github_issue(), "created_at": "yesterday"}, "source_created_at"),
        ({**github_issue(), "created_at": "2999-01-01T00:00:00Z"}, "source_created_at"),
        ({**github_issue(), "title": {"text": "x"}}, "title"),
    ],
)
def test_a_record_that_is_no_issue_is_rejected_with_the_field_and_kept(record: object, path: str) -> None:
    """The reason names the field of the issue; the record goes along for another try."""
    outcome = map_record(manifest_of("github"), record, now=NOW)
    assert isinstance(outcome, Rejected)
    assert path.removeprefix("source_") in (
        "",
        outcome.path.removeprefix("source_").replace("occurred", "created"),
    )
    assert (path == "") == (outcome.path == "")
    assert outcome.raw is record
    assert outcome.reason


def test_an_id_made_of_nothing_is_rejected() -> None:
    """Otherwise all records without one would be one issue."""
    outcome = map_record(manifest_of("pingdom"), {"description": "down"}, now=NOW)
    assert isinstance(outcome, Rejected)
    assert outcome.path == "external_id"


def test_what_is_no_failure_is_left_out() -> None:
    """Pull requests are listed among GitHub's issues; runs that succeeded are no news."""
    github = manifest_of("github")
    pull = {**github_issue(), "pull_request": {"url": "x"}}
    run = {"id": 2, "workflow_id": 3, "conclusion": "success"}
    assert map_record(github, pull, now=NOW) == Ignored(pull)
    assert map_record(github, run, now=NOW) == Ignored(run)


def test_long_texts_are_cut_and_nothing_of_a_title_is_lost() -> None:
    """Limits are ingest's own."""
    outcome = map_record(manifest_of("github"), {**github_issue(), "title": "x" * 400, "body": "b"}, now=NOW)
    assert isinstance(outcome, Mapped)
    assert outcome.issue.title == "x" * 299 + "…"
    assert outcome.issue.body == "x" * 400 + "\n\nb"


@pytest.mark.parametrize(
    ("type_", "config", "record", "link"),
    [
        ("zendesk", {"subdomain": "acme"}, {"id": 7, "url": "https://acme.zendesk.com/api/v2/tickets/7.json"},
         "https://acme.zendesk.com/agent/tickets/7"),
        ("jira", {"site": "acme"}, {"key": "SHOP-7", "self": "https://acme.atlassian.net/rest/api/3/issue/10509"},
         "https://acme.atlassian.net/browse/SHOP-7"),
        ("jira", {"site": "acme"}, {"key": "../x?y"}, "https://acme.atlassian.net/browse/..%2Fx%3Fy"),
        ("jira", {"site": "evil.example/"}, {"key": "SHOP-7"}, None),
        ("pylon", {}, {"id": "p7", "link": "https://app.usepylon.com/issues/p7"}, "https://app.usepylon.com/issues/p7"),
    ],
)  # fmt: skip
def test_the_link_is_for_people(
    type_: str, config: dict[str, str], record: dict[str, object], link: str | None
) -> None:
    """Where the vendor's own leads into its API, it is made of what the connector knows and of the id."""
    settings = connector.ConnectorSettings(type=type_, display_name="Ours", auth=0, config=config)
    manifest = manifest_of(type_)
    outcome = map_record(manifest, record, now=NOW)
    assert isinstance(outcome, Mapped)
    assert Source("con_1", settings, manifest).qualified(outcome.issue).external_url == link


@pytest.mark.parametrize(
    ("type_", "id_scope", "expected"),
    [
        ("custom_api", "", "7"),
        ("custom_shop", "", "custom_shop/7"),
        ("custom_shop", "id_scope: '{config.host}'", "custom_shop/a.example/7"),
    ],
)
def test_the_ids_of_two_types_of_a_workspaces_own_are_never_the_same(
    type_: str, id_scope: str, expected: str
) -> None:
    """All of them are of the source custom_api, so one account would be mistaken for the other."""
    content = SMALL.replace("custom_api", type_) + f"config: [{{key: host, title: Host}}]\n{id_scope}\n"
    manifest = read(content.encode(), file=f"{type_}.yaml")
    settings = connector.ConnectorSettings(
        type=type_, display_name="Ours", auth=0, config={"host": "a.example"}
    )
    outcome = map_record(manifest, {"id": 7, "title": "Fails"}, now=NOW)
    assert isinstance(outcome, Mapped)
    assert Source("con_1", settings, manifest).qualified(outcome.issue).external_id == expected


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("<p>Checkout &amp; cart<br/>are&nbsp;down</p><ul><li>EU</li></ul>", "Checkout & cart\nare down\nEU"),
        ("<module> line 7: a < b", "<module> line 7: a < b"),
        ("a <b>bold</b> word", "a <b>bold</b> word"),
        ("<p>It says</p><pre>Traceback:\n  File &lt;x&gt;\n</pre>", "It says\nTraceback:\n  File <x>"),
    ],
)
def test_what_is_written_in_html_is_taken_for_what_it_shows(written: str, shown: str) -> None:
    """Some conversations have no other title; a text that does not begin so is left alone."""
    record = {"id": 1, "title": None, "source": {"subject": "", "body": written}, "state": "open"}
    outcome = map_record(manifest_of("intercom"), record, now=NOW)
    assert isinstance(outcome, Mapped)
    assert (outcome.issue.title, outcome.issue.body) == (" ".join(shown.split()), shown)


@pytest.mark.parametrize("title", ["<table> not found in schema", "<a> tag is missing", "<br>"])
def test_what_is_no_html_loses_no_word(title: str) -> None:
    """Titles are plain, also those beside a body in HTML, and so are the texts of most sources."""
    texts = {
        "github": {**github_issue(), "title": title, "body": f"{title}\n  <p>List<String>"},
        "pylon": {"number": 7, "title": title, "body_html": "<p>Hangs</p>"},
        "teams": {"id": "7", "subject": title, "body": {"contentType": "text", "content": title}},
    }
    found = {name: map_record(manifest_of(name), record, now=NOW) for name, record in texts.items()}
    issues = {name: each.issue for name, each in found.items() if isinstance(each, Mapped)}
    assert {name: issue.title for name, issue in issues.items()} == dict.fromkeys(texts, title)
    assert {name: issue.body for name, issue in issues.items()} == {
        "github": f"{title}\n  <p>List<String>",
        "pylon": "Hangs",
        "teams": title,
    }


def test_an_address_that_is_none_costs_no_issue() -> None:
    """It is left out."""
    outcome = map_record(manifest_of("github"), {**github_issue(), "html_url": "see above"}, now=NOW)
    assert isinstance(outcome, Mapped)
    assert outcome.issue.external_url is None


@pytest.mark.parametrize(
    ("found", "level"),
    [
        ("CRITICAL", "p1"), ("SEV-1", "p1"), ("1 - critical", "p1"), ("priority::high", "p2"), ("P3 - minor", "p3"),
        (["wontfix", "team/low"], "p4"), (5, "p1"), (5.0, "p1"), ("odd", "p4"), (None, "p4"), ({"a": 1}, "p4"),
    ],
)  # fmt: skip
def test_a_severity_is_read_from_words_numbers_and_labels(found: object, level: str) -> None:
    """The manifest's own words win over the usual ones; the default is for what nobody knows."""
    rule = SeverityRule(path=Expression("x"), map={"5": "p1", "minor": "p2"}, default="p4")
    assert level == severity(rule, found)


@pytest.mark.parametrize(
    ("found", "level"), [(80, "p1"), ("79.9", "p2"), (0, "p3"), (-1, "p4"), (True, "p4")]
)
def test_a_number_falls_into_its_band(found: object, level: str) -> None:
    """At least, highest first."""
    rule = SeverityRule(path=Expression("x"), bands=((80, "p1"), (40, "p2"), (0, "p3")), default="p4")
    assert level == severity(rule, found)


def test_a_status_is_read_whatever_joins_its_words() -> None:
    """In Progress, in-progress and IN_PROGRESS are the same."""
    rule = StatusRule(path=Expression("x"), default="open")
    assert {"mitigating"} == {status(rule, each) for each in ("In Progress", "in-progress", "IN_PROGRESS")}
    assert status(rule, "whatever") == "open"


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-02T10:00:00Z", "2026-11-02 10:00:00", "2026-11-02T11:00:00.000+0100", "2026-11-02 10:00:00 UTC",
        "2026-11-02 12:00:00 +0200", "2026-11-02T10:00:00.0000000Z", "Mon, 02 Nov 2026 10:00:00 GMT",
        1793613600, 1793613600.0, 1793613600000, "1793613600000", 1793613600000000, 1793613600000000000,
    ],
)  # fmt: skip
def test_a_moment_is_read_however_it_is_written(written: object) -> None:
    """Without a zone it is UTC."""
    assert datetime(2026, 11, 2, 10, tzinfo=UTC) == moment(written)


@pytest.mark.parametrize(
    "written", [None, True, "", "soon", -5, 0, 1e30, 10**400, [], "99999-01-01", "Mon, 02 Nov 99999999999 10:00:00 GMT"],
)  # fmt: skip
def test_what_is_no_moment_is_none(written: object) -> None:
    """Nothing is guessed."""
    assert moment(written) is None


def test_a_delivery_gives_the_records_of_its_event_with_what_stands_beside_them() -> None:
    """GitHub names the event in a header and puts the repository outside the issue."""
    webhook = manifest_of("github").webhook
    assert webhook is not None
    payload = {"issue": github_issue(), "repository": {"full_name": "a/b"}, "alert": {"number": 1}}
    headers = {"X-GitHub-Event": "issues", "X-GitHub-Delivery": "d1"}
    delivery = read_delivery(webhook, payload, headers)
    assert (delivery.event_id, delivery.event_type) == ("d1", "issues")
    assert ({"repository": {"full_name": "a/b"}, **github_issue()},) == delivery.records
    assert read_delivery(webhook, payload, {**headers, "X-GitHub-Event": "ping"}).records == ()
    assert read_delivery(webhook, payload, {}).records == ()


def test_a_record_written_as_text_is_read_and_a_broken_one_is_kept() -> None:
    """SNS puts JSON into a string."""
    webhook = manifest_of("aws_cloudwatch").webhook
    assert webhook is not None
    good = read_delivery(webhook, {"Type": "Notification", "Message": '{"AlarmName": "a"}'}, {})
    broken = read_delivery(webhook, {"Type": "Notification", "Message": "{"}, {})
    assert good.records == ({"AlarmName": "a"},)
    assert broken.records == ("{",)


def test_a_page_of_many_records_gives_them_all() -> None:
    """A list, and a page as the stream's selector finds it."""
    pagerduty = manifest_of("pagerduty")
    assert _form(pagerduty, {"incidents": [{"id": 1}, {"id": 2}]}) == ("page", 2)
    assert _form(pagerduty, [{"id": 1}, {"id": 2}]) == ("records", 2)
    assert _form(pagerduty, {"id": 1}) == ("records", 1)
    assert _form(pagerduty, "text") == ("records", 1)


def test_an_expression_that_does_not_suit_a_record_rejects_the_record_alone() -> None:
    """A function given the wrong type is the record's fault, not a crash."""
    mapping = Mapping(external_id=Expression("id"), title=Expression("join('-', title)"))
    manifest = msgspec.structs.replace(manifest_of("custom_api"), mappings=(mapping,))
    bad = map_record(manifest, {"id": "1", "title": 5}, now=NOW)
    good = map_record(manifest, {"id": "1", "title": ["a", "b"]}, now=NOW)
    assert isinstance(bad, Rejected)
    assert bad.path == "title"
    assert isinstance(good, Mapped)
    assert isinstance(good.issue, ingest.IssueReport)


def test_no_record_stops_the_others_whatever_is_in_it() -> None:
    """A number without an end is as good as none, half a sign is a ?, and what nobody can walk is rejected."""
    deep: list[object] = []
    for _ in range(2_000):
        deep = [deep]
    manifest = manifest_of("custom_api")
    base: dict[str, object] = {"id": "1", "title": "Down"}
    for name in ("severity", "status", "created_at", "updated_at", "timestamp", "url", "body", "labels"):
        for value in (10**400, float("nan"), float("-inf"), "\ud83d", {"text": "\ud83d"}, deep):
            outcome = map_record(manifest, {**base, name: value}, now=NOW)
            assert isinstance(outcome, Mapped | Rejected)
            Raw("", outcome.raw)
    cut = map_record(manifest, {**base, "id": "7\ud83d", "body": "Off \ud83d"}, now=NOW)
    assert isinstance(cut, Mapped)
    assert (cut.issue.external_id, cut.issue.body) == ("7?", "Off ?")
    assert isinstance(map_record(manifest, {**base, "id": 10**5_000}, now=NOW), Rejected)


def test_fields_of_one_record_share_a_budget() -> None:
    """Fifty fields that cost little each are still much."""
    mapping = Mapping(
        external_id=Expression("id"),
        title=Expression("id"),
        metadata={str(number): Expression("length(items[*].[@])") for number in range(50)},
    )
    manifest = msgspec.structs.replace(manifest_of("custom_api"), mappings=(mapping,))
    assert isinstance(map_record(manifest, {"id": "1", "items": [1]}, now=NOW), Mapped)
    outcome = map_record(manifest, {"id": "1", "items": list(range(1_000))}, now=NOW)
    assert isinstance(outcome, Rejected)
    assert "steps" in outcome.reason


def _form(manifest: Manifest, payload: object) -> tuple[str, int]:
    sample = records_in(manifest, payload)
    return sample.form, len(sample.records)


def test_a_record_keeps_what_it_says_itself_over_what_stands_beside_it() -> None:
    """An addition never overwrites the record."""
    webhook = msgspec.structs.replace(
        manifest_of("github").webhook,
        event_type=None,
        records=(RecordPath(path=Expression("issue"), add={"title": Expression("title")}),),
    )
    delivery = read_delivery(webhook, {"issue": {"title": "inner"}, "title": "outer"}, {})
    assert delivery.records == ({"title": "inner"},)


def test_a_manifest_of_ones_own_is_checked_tried_and_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before it is in the catalogue; a mistake is told with its place."""
    manifest, sample = tmp_path / "custom_api.yaml", tmp_path / "sample.json"
    rule = "severity: {path: how_bad, map: {storm: p1}}, ignore: is_sunny"
    manifest.write_text(SMALL.replace("title: title", f"title: what, {rule}"))
    sample.write_text(
        '[{"id": 7, "what": "Roof is off", "how_bad": "Storm"}, {"id": 8, "is_sunny": true}, {"data": {}}]'
    )

    def said(*words: object) -> tuple[int, str]:
        code = main([str(word) for word in words])
        return code, capsys.readouterr().out

    assert said("check", manifest) == (0, "✓ custom_api.yaml: Mine, records from a file\n")
    code, tried = said("preview", manifest, sample, "--json")
    mapped, ignored, rejected = msgspec.json.decode(tried)
    assert (code, ignored, rejected["rejected"]["path"]) == (1, {"ignored": True}, "external_id")
    assert (mapped["issue"]["title"], mapped["issue"]["severity"]) == ("Roof is off", "p1")
    told = said("preview", manifest, sample)[1]
    assert "  the record holds   data\n" in told
    assert "1 to report, 1 left out, 1 rejected" in told
    shown = msgspec.json.decode(said("show", manifest, "--json")[1])
    assert shown == msgspec.yaml.decode(said("show", manifest)[1])
    assert shown["mappings"][0]["severity"] == {"path": "how_bad", "map": {"storm": "p1"}}
    code, lines = said("map", manifest, sample)
    assert [sorted(msgspec.json.decode(line)) for line in lines.splitlines()] == [
        ["line", "report"], ["is_ignored", "line"], ["line", "problem"],
    ]  # fmt: skip
    manifest.write_text(SMALL.replace("external_id: id", "external_id: 'id['"))
    code, refused = said("check", manifest)
    assert (code, refused[:46]) == (1, "✗ custom_api.yaml: mappings[0].external_id: is")


def test_the_list_in_the_documentation_is_the_catalogue(tmp_path: Path) -> None:
    """`.venv/bin/python -m services.ingest.connectors table docs/reference/sources.md` writes it anew."""
    page = PAGE.read_text(encoding="utf-8")
    anew = tmp_path / "sources.md"
    anew.write_text("\n".join(line for line in page.split("\n") if not line.startswith("| `okta`")))
    assert main(["table", str(anew)]) == 0
    assert page.splitlines() == anew.read_text(encoding="utf-8").splitlines()
    anew.write_text("# Sources\n")
    assert (main(["table", str(anew)]), anew.read_text()) == (2, "# Sources\n")


def test_a_window_is_read_in_stretches_only_where_requests_say_its_end() -> None:
    """Others would give everything behind a stretch once more, each time."""
    streams = {each.name: each.endpoint for each in manifest_of("github").streams}
    bounded = {name for name, endpoint in streams.items() if endpoint is not None and endpoint.says("end")}
    assert bounded == {"failed_runs"}
    (incidents,) = manifest_of("pagerduty").streams
    assert incidents.endpoint is not None and incidents.endpoint.says("end")


@pytest.mark.parametrize("type_", types())
def test_a_manifest_says_of_itself_what_is_so(type_: str) -> None:
    """What was run is not unchecked, what is not there is neither, and something is polled or pushed."""
    manifest = manifest_of(type_)
    there = {"list": manifest.streams, "webhook": manifest.webhook, "push": manifest.push}
    assert [facet for facet in manifest.unchecked if not there.get(facet, True)] == []
    assert manifest.verified != ("mapping" in manifest.unchecked) or type_ == "custom_api"
    assert manifest.streams or manifest.webhook
