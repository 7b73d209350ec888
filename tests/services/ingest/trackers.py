"""Eight trackers over HTTP: what each requires of a request is written from its vendor's documentation, not from ours."""

import re
import threading
from time import sleep
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import flask
from werkzeug.serving import make_server

SECRET = "planted-secret-of-the-tracker"


class RefusedError(Exception):
    """A request that the vendor would not take."""


def need(fact: object, what: str, status: int = 400) -> None:
    if not fact:
        raise RefusedError(status, what)


class Trackers:
    """Runs until closed; every tracker under its own name.

    made: tickets of each, as they were sent. status: the tracker's word for all of them.
    delay: seconds between making one and answering. answers: whether it does, or its gateway with 502.
    failure: what it answers instead of making one. tokens: what GitHub takes instead of the secret.
    """

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.status: dict[str, Any] = {}
        self.delay = 0.0
        self.answers = True
        self.tokens: set[str] | None = None
        self.failure: tuple[int, str] | None = None
        self._lock = threading.Lock()
        app = flask.Flask(__name__)
        app.url_map.merge_slashes = False
        app.register_error_handler(RefusedError, lambda error: ({"message": error.args[1]}, error.args[0]))
        app.add_url_rule("/<name>/<path:path>", view_func=self._serve, methods=["GET", "POST"])
        self._http = make_server("127.0.0.1", 0, app, threaded=True)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _serve(self, name: str, path: str) -> Any:
        return getattr(self, f"_{name}")(
            flask.request.method, path, flask.request.get_json(force=True, silent=True)
        )

    def _keep(self, fields: dict[str, Any]) -> int:
        """Make a ticket; its number."""
        if self.failure is not None:
            status, words = self.failure
            raise RefusedError(status, words)
        with self._lock:
            self.made.append(fields)
            number = len(self.made)
        sleep(self.delay)
        if not self.answers:
            raise RefusedError(502, "Bad Gateway")
        return number

    def _oauth(self, method: str, path: str, body: Any) -> Any:
        """developer.atlassian.com/cloud/oauth, 3: the sites that a grant reaches."""
        need((method, path) == ("GET", "token/accessible-resources"), "no such path", 404)
        need(flask.request.headers.get("Authorization") == f"Bearer {SECRET}", "Unauthorized", 401)
        return [
            {"id": "cloud-2", "url": "https://other.atlassian.net"},
            {"id": "cloud-1", "url": "https://acme.atlassian.net"},
        ]

    def _ex(self, method: str, path: str, body: Any) -> Any:
        """The same interface behind api.atlassian.com, for grants."""
        need((method, path) == ("POST", "jira/cloud-1/rest/api/3/issue"), "no such path", 404)
        need(flask.request.headers.get("Authorization") == f"Bearer {SECRET}", "Unauthorized", 401)
        return {"key": f"OPS-{self._keep(body['fields'])}"}, 201

    def _jira(self, method: str, path: str, body: Any) -> Any:
        """developer.atlassian.com/cloud/jira/platform/rest/v3: Create issue, Search by JQL, Get issue."""
        need(
            flask.request.authorization and flask.request.authorization.password == SECRET,
            "Unauthorized",
            401,
        )
        if (method, path) == ("POST", "rest/api/3/issue"):
            fields = body["fields"]
            need(set(fields) == {"project", "issuetype", "summary", "labels", "description"}, "unknown field")
            need(
                fields["project"] == {"key": "OPS"} and fields["issuetype"] == {"name": "Task"},
                "project is required",
            )
            need(0 < len(fields["summary"]) < 255 and "\n" not in fields["summary"], "summary")
            need(all(" " not in label for label in fields["labels"]), "The label contains spaces")
            need(
                fields["description"]["type"] == "doc" and fields["description"]["version"] == 1,
                "not an ADF document",
            )
            number = self._keep(fields)
            return {"id": str(10_000 + number), "key": f"OPS-{number}", "self": "…"}, 201
        if (method, path) == ("POST", "rest/api/3/search/jql"):
            label = re.fullmatch(r'labels = "([^"]+)"', body["jql"])
            need(label, "JQL")
            found = [n for n, fields in enumerate(self.made, 1) if label and label[1] in fields["labels"]]
            return {
                "issues": [{"key": f"OPS-{number}"} for number in found][: body["maxResults"]],
                "isLast": True,
            }
        need(method == "GET" and path.startswith("rest/api/3/issue/OPS-"), "no such resource", 404)
        category, resolution = self.status.get("jira", ("new", None))
        return {"fields": {"status": {"statusCategory": {"key": category}}, "resolution": resolution}}

    def _github(self, method: str, path: str, body: Any) -> Any:
        """docs.github.com/rest/issues/issues, and its requirement of a User-Agent."""
        token = flask.request.headers.get("Authorization", "").removeprefix("Bearer ")
        need(token == SECRET if self.tokens is None else token in self.tokens, "Bad credentials", 401)
        need(flask.request.headers.get("User-Agent"), "Request forbidden by administrative rules", 403)
        need(flask.request.headers.get("X-GitHub-Api-Version"), "version")
        if method == "POST":
            need(
                path == "repos/acme/shop/issues" and set(body) <= {"title", "body", "labels"},
                "Not Found",
                404,
            )
            need(body.get("title") and isinstance(body["labels"], list), "Validation Failed", 422)
            number = self._keep(body)
            return {
                "id": 1,
                "number": number,
                "html_url": f"https://github.com/acme/shop/issues/{number}",
            }, 201
        if path == "repos/acme/shop/issues":
            asked = flask.request.args
            need(
                asked["state"] == "all" and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", asked["since"]),
                "since",
            )
            return [
                {"number": n, "body": each["body"], "html_url": f"https://github.com/acme/shop/issues/{n}"}
                for n, each in enumerate(self.made, 1)
                if asked["labels"] in each["labels"]
            ][::-1]
        state, reason = self.status.get("github", ("open", None))
        return {"state": state, "state_reason": reason}

    def _gitlab(self, method: str, path: str, body: Any) -> Any:
        """docs.gitlab.com/api/issues; a project is its number, or its path with %2F."""
        need(flask.request.headers.get("PRIVATE-TOKEN") == SECRET, "401 Unauthorized", 401)
        need(
            flask.request.full_path and "projects/acme%2Fshop/issues" in flask.request.environ["RAW_URI"],
            "404",
            404,
        )
        if method == "POST":
            need(body.get("title") and isinstance(body["labels"], str), "title is missing")
            number = self._keep(body)
            return {
                "id": 900 + number,
                "iid": number,
                "web_url": f"https://gitlab.com/acme/shop/-/issues/{number}",
            }, 201
        if path.endswith("/issues"):
            need(flask.request.args["in"] == "description", "in")
            text = flask.request.args["search"]
            return [
                {"iid": n, "web_url": f"https://gitlab.com/acme/shop/-/issues/{n}"}
                for n, each in enumerate(self.made, 1)
                if text in each["description"]
            ]
        return {"state": self.status.get("gitlab", "opened")}

    def _linear(self, method: str, path: str, body: Any) -> Any:
        """linear.app/developers/graphql: errors come with data null; an id is a UUID v4."""
        need(flask.request.headers.get("Authorization") == SECRET, "Authentication required", 401)
        need((method, path) == ("POST", "graphql"), "no such path", 404)
        variables = body["variables"]
        if "issueCreate" in body["query"]:
            given = variables["input"]
            if set(given) != {"id", "teamId", "title", "description"} or UUID(given["id"]).version != 4:
                return {"data": None, "errors": [{"message": "Argument Validation Error"}]}
            number = self._keep(given)
            issue = {"identifier": f"OPS-{number}", "url": f"https://linear.app/acme/issue/OPS-{number}"}
            return {"data": {"issueCreate": {"issue": issue}}}
        if "issues(" in body["query"]:
            nodes = [
                {"identifier": f"OPS-{n}", "url": f"https://linear.app/acme/issue/OPS-{n}"}
                for n, each in enumerate(self.made, 1)
                if each["id"] == variables["id"]
            ]
            return {"data": {"issues": {"nodes": nodes}}}
        need(variables["id"].startswith("OPS-"), "Entity not found")
        return {"data": {"issue": {"state": {"name": "…", "type": self.status.get("linear", "backlog")}}}}

    def _servicenow(self, method: str, path: str, body: Any) -> Any:
        """servicenow.com/docs: Table API."""
        need(
            flask.request.authorization and flask.request.authorization.password == SECRET,
            "User Not Authenticated",
            401,
        )
        need(path == "api/now/table/incident", "Invalid table")
        if method == "POST":
            number = self._keep(body)
            return {"result": {"number": f"INC{number:07d}", "sys_id": "a" * 32}}, 201
        field, _, value = flask.request.args["sysparm_query"].partition("=")
        numbers = {f"INC{n:07d}": {**each, "number": f"INC{n:07d}"} for n, each in enumerate(self.made, 1)}
        found = [each for each in numbers.values() if each[field] == value]
        if flask.request.args.get("sysparm_display_value") != "all":
            return {"result": [{"number": each["number"]} for each in found]}
        # Its words are in the language of who asks.
        word, value = self.status.get("servicenow", ("Neu", "1"))
        state = {"display_value": word, "value": value}
        return {"result": [{"state": state, "sys_class_name": {"value": "incident"}} for _ in found]}

    def _asana(self, method: str, path: str, body: Any) -> Any:
        """developers.asana.com/reference: Create a task, Get multiple tasks, Get a task."""
        need(flask.request.headers.get("Authorization") == f"Bearer {SECRET}", "Not Authorized", 401)
        if method == "POST":
            need(path == "tasks" and set(body["data"]) == {"name", "notes", "projects"}, "data")
            need(body["data"]["projects"] == ["1203"], "project: Not a recognized ID")
            number = self._keep(body["data"])
            return {
                "data": {"gid": str(5_000 + number), "permalink_url": f"https://app.asana.com/0/0/{number}"}
            }, 201
        if path == "tasks":
            need(
                flask.request.args["project"] == "1203" and "notes" in flask.request.args["opt_fields"],
                "project",
            )
            need(flask.request.args["modified_since"].endswith("Z"), "modified_since")
            return {
                "data": [
                    {
                        "gid": str(5_000 + n),
                        "notes": each["notes"],
                        "permalink_url": f"https://app.asana.com/0/0/{n}",
                    }
                    for n, each in enumerate(self.made, 1)
                ]
            }
        return {"data": {"gid": path.rpartition("/")[2], "completed": self.status.get("asana", False)}}

    def _pagerduty(self, method: str, path: str, body: Any) -> Any:
        """developer.pagerduty.com/api-reference: Create an incident, List incidents, Get an incident."""
        need(flask.request.headers.get("Authorization") == f"Token token={SECRET}", "Unauthorized", 401)
        if method == "POST":
            need(re.fullmatch(r"\S+@\S+", flask.request.headers.get("From", "")), "Requester User Not Found")
            incident = body["incident"]
            need(
                incident["type"] == "incident" and incident["service"]["type"] == "service_reference",
                "Invalid Input",
            )
            need(
                incident["service"]["id"] == "PSVC1" and incident["body"]["type"] == "incident_body",
                "Invalid Input",
            )
            taken = [each for each in self.made if each["incident_key"] == incident["incident_key"]]
            need(not taken, "Open incident with matching dedup key already exists on this service")
            number = self._keep(incident)
            url = f"https://acme.pagerduty.com/incidents/P{number}"
            return {"incident": {"id": f"P{number}", "html_url": url, "status": "triggered"}}, 201
        if path == "incidents":
            key = flask.request.args["incident_key"]
            need(flask.request.args["date_range"] == "all", "since")
            return {
                "incidents": [
                    {"id": f"P{n}", "html_url": f"https://acme.pagerduty.com/incidents/P{n}"}
                    for n, each in enumerate(self.made, 1)
                    if each["incident_key"] == key
                ]
            }
        return {"incident": {"id": path, "status": self.status.get("pagerduty", "triggered")}}

    def _azure_devops(self, method: str, path: str, body: Any) -> Any:
        """learn.microsoft.com/rest/api/azure/devops/wit: Work Items - Create, Wiql - Query, Work Items - Get."""
        need(
            flask.request.authorization and flask.request.authorization.password == SECRET,
            "Unauthorized",
            401,
        )
        need(
            parse_qs(flask.request.query_string.decode())["api-version"] == ["7.1"], "api-version is required"
        )
        if path == "shop/_apis/wit/workitems/$Bug":
            need(flask.request.content_type == "application/json-patch+json", "Unsupported Media Type", 415)
            need(
                all(set(op) == {"op", "path", "value"} and op["op"] == "add" for op in body), "patch document"
            )
            fields = {op["path"].removeprefix("/fields/"): op["value"] for op in body}
            need(
                fields.get("System.Title") and "<" in fields["System.Description"],
                "TF401320: Title is required",
            )
            number = self._keep(fields)
            return {
                "id": number,
                "_links": {"html": {"href": f"https://dev.azure.com/acme/shop/_workitems/edit/{number}"}},
            }
        if path == "shop/_apis/wit/wiql":
            tag = re.search(r"\[System\.Tags\] CONTAINS '([^']+)'", body["query"])
            need(tag, "WIQL")
            found = [
                n for n, each in enumerate(self.made, 1) if tag and tag[1] in each["System.Tags"].split("; ")
            ]
            return {"workItems": [{"id": number, "url": "…"} for number in found]}
        return {
            "id": 1,
            "fields": {"System.State": self.status.get("azure_devops", "New"), "System.Reason": "…"},
        }
