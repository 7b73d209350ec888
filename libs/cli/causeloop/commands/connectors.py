"""`causeloop connectors`: connect sources, run them, and look after what they bring, over the API."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec
import typer
from msgspec import Struct
from rich.markup import escape

from causeloop.api import Api, connected
from causeloop.commands.sources import type_or_file
from causeloop.console import answers, messages, print_json, run_async, table
from causeloop.exits import ExitCode, UsageError
from causeloop.options import DEFAULT_FOLDER, AccessToken, AsJson, Folder, Url
from causeloop.vendor_records import manifest_in

R = TypeVar("R")

HELP: Final = """Connectors: connect sources, run them, look after what they bring.

  causeloop connectors add pagerduty --config region=eu
  causeloop connectors test con_01…
  causeloop connectors sync con_01… --wait
  causeloop connectors dead-letters con_01…

`causeloop sources list` shows which types there are.
"""
ADD_HELP: Final = """Connect a source.

  causeloop connectors add pagerduty
  causeloop connectors add github --config owner=acme --config repo=shop --credentials secrets.json
  causeloop connectors add custom_weather.yaml --credentials secrets.json

TYPE: a type, or a manifest of yours, of a type that begins with custom_ and is your workspace's alone. What it signs in with is read from a file, from standard input (`-`), or asked for on a terminal; never from an \
argument, which others could see.
"""
CHANGE_HELP: Final = """Change a connector; what is not named stays.

  causeloop connectors change con_01… --credentials secrets.json
  causeloop connectors change con_01… --manifest custom_weather.yaml
  causeloop connectors change con_01… --mapping mapping.json

A mapping is JSON, JMESPath by field: {"title": "summary"}. `remap --preview` shows before what would become of the \
records that are kept, `remap` makes it so.
"""
_ALL: Final = "/v1/connectors"
_PAGE: Final = {"limit": "100"}
_FOLLOW_SECONDS: Final = 1.0

Manifest = Annotated[
    str | None, typer.Option("--manifest", help="A better manifest of its type, a .yaml file.")
]
Fields = Annotated[
    str | None, typer.Option("--mapping", help="A JSON file, JMESPath by field; {} is the type's own.")
]
Id = Annotated[str, typer.Argument(metavar="CONNECTOR", help="Its id, con_….")]


class Run(Struct, frozen=True, kw_only=True):
    """A run as the commands show it."""

    sync_run_id: str
    kind: str
    status: str
    requested_at: datetime
    ended_at: datetime | None
    details: str | None
    counts: dict[str, int] = {}


class Connector(Struct, frozen=True, kw_only=True):
    """A connector as the commands show it."""

    id: str
    type: str
    display_name: str
    status: str
    status_detail: str | None
    last_synced_at: datetime | None
    inbound_url: str


class _Connectors(Struct, frozen=True):
    data: list[Connector]


class _Runs(Struct, frozen=True):
    data: list[Run]


class _Field(Struct, frozen=True):
    key: str
    title: str
    is_required: bool
    default: str | None


class _Auth(Struct, frozen=True):
    kind: str
    title: str
    credentials: list[_Field]


class _Type(Struct, frozen=True):
    auth: list[_Auth]


class _Begun(Struct, frozen=True):
    sync_run_id: str


class _Check(Struct, frozen=True):
    name: str
    success: bool
    detail: str


class _Tested(Struct, frozen=True):
    success: bool
    checks: list[_Check]


class _Letter(Struct, frozen=True):
    id: str
    stream: str
    field: str | None
    reason: str
    received_at: datetime


class _Page(Struct, frozen=True):
    total: int


class _Letters(Struct, frozen=True):
    data: list[_Letter]
    page: _Page


class _Retried(Struct, frozen=True):
    mapped: int
    rejected: int


class _Secret(Struct, frozen=True):
    secret: str
    inbound_url: str
    previous_until: datetime | None


class _Previewed(Struct, frozen=True):
    index: int
    issue: dict[str, object] | None
    is_ignored: bool
    field: str | None
    reason: str | None
    changed: list[str]


class _Preview(Struct, frozen=True):
    data: list[_Previewed]
    records: int
    mapped: int
    changed: int


class Place(Struct, frozen=True):
    """Which Causeloop is meant."""

    url: str | None
    token: str | None
    data: Path

    def ask(self, work: Callable[[Api], Awaitable[R]]) -> R:
        """What `work` gives, with a client of it."""

        async def inside() -> R:
            async with connected(url=self.url, token=self.token, folder=self.data) as api:
                return await work(api)

        return run_async(inside())

    def change(self, path: str, body: object, reply: type[R], *, method: str = "POST") -> R:
        """The answer to a change that happens once."""

        async def work(api: Api) -> R:
            return await api.change(method, path, msgspec.json.encode(body), reply)

        return self.ask(work)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.callback()(_group)
    group.command("list", help="List the connectors of the workspace.")(show_all)
    group.command("add", help=ADD_HELP)(add)
    group.command("change", help=CHANGE_HELP)(change)
    group.command("test", help="Try its credentials with the vendor.")(test)
    group.command("sync", help="Ask the source for what is new.")(sync)
    group.command("runs", help="List its latest runs.")(runs)
    group.command("backfill", help="Ask the source for a stretch of its history.")(backfill)
    group.command("remap", help="Map the records that are kept again, with the present mapping.")(remap)
    group.command("pause", help="Stop it for now.")(pause)
    group.command("resume", help="Let it go on.")(resume)
    group.command("delete", help="Delete it with its secrets; its issues stay.")(delete)
    group.command("dead-letters", help="List the records that could not become an issue.")(dead_letters)
    group.command("secret", help="Make a new secret for its webhooks; it is shown once.")(secret)
    app.add_typer(group, name="connectors")


def _group() -> None:
    """Look after connectors."""


def show_all(
    url: Url = None, token: AccessToken = None, data: Folder = DEFAULT_FOLDER, as_json: AsJson = False
) -> None:
    """List connectors, newest first, at most 100."""
    found = Place(url, token, data).ask(lambda api: api.get(_ALL, _Connectors, params=_PAGE))
    if as_json:
        print_json(found.data)
        return
    grid = table("id", "type", "name", "status", "last synced", "")
    for each in found.data:
        synced = "never" if each.last_synced_at is None else f"{each.last_synced_at:%Y-%m-%d %H:%M}"
        told = escape(each.status_detail or "")
        grid.add_row(each.id, each.type, escape(each.display_name), _coloured(each.status), synced, told)
    answers().print(grid)


def _coloured(status: str) -> str:
    match status:
        case "connected" | "succeeded":
            return f"[green]{status}[/green]"
        case "error" | "oauth_expired":
            return f"[bold red]{status}[/bold red]"
        case _:
            return status


def add(
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="Such as pagerduty; or a .yaml file.")],
    name: Annotated[str | None, typer.Option("--name", help="What people call it.")] = None,
    config: Annotated[
        list[str] | None, typer.Option("--config", help="A setting, key=value; may be repeated.")
    ] = None,
    credentials: Annotated[
        str | None, typer.Option("--credentials", help="A JSON file with what it signs in with; - is stdin.")
    ] = None,
    auth: Annotated[int, typer.Option("--auth", help="Which way to sign in, from 0.")] = 0,
    url: Url = None,
    token: AccessToken = None,
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Connect a source."""
    place = Place(url, token, data)
    body: dict[str, object] = {"type": kind, "auth": auth, "config": _settings(config or ())}
    if (file := type_or_file(kind)) != kind:
        manifest = manifest_in(file)
        body |= {"type": manifest["type"], "manifest": manifest}
    if name is not None:
        body["display_name"] = name
    if credentials is not None:
        body["credentials"] = _read_texts(credentials, "credentials", {"api_key": "…"})
    elif "manifest" not in body:
        body["credentials"] = _asked(place, kind, auth)
    made = place.change(_ALL, body, Connector)
    if as_json:
        print_json(made)
        return
    answers().print(f"{made.id}  {escape(made.display_name)}: {_coloured(made.status)}")
    answers().print(f"  webhooks go to {made.inbound_url}", soft_wrap=True)


def _settings(pairs: Sequence[str]) -> Mapping[str, str]:
    settings: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"{pair!r} is no setting", advice="Write it like region=eu.")
        settings[key] = value
    return settings


def _read_texts(source: str, what: str, example: Mapping[str, str]) -> Mapping[str, str]:
    """A JSON object of texts from a file or from standard input."""
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
        return msgspec.json.decode(text, type=dict[str, str])
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise UsageError(
            f"the {what} cannot be read from {source}: {error}",
            advice=f"It must be a JSON object of texts, such as {msgspec.json.encode(example).decode()}.",
        ) from error


def _proposed(manifest: str | None, mapping: str | None) -> dict[str, object]:
    """What decides how records are mapped, of what was given."""
    proposed: dict[str, object] = {}
    if manifest is not None:
        proposed["manifest"] = manifest_in(type_or_file(manifest))
    if mapping is not None:
        proposed["mapping"] = _read_texts(mapping, "mapping", {"title": "summary"})
    return proposed


def change(
    connector: Id,
    name: Annotated[str | None, typer.Option("--name", help="What people call it.")] = None,
    config: Annotated[
        list[str] | None, typer.Option("--config", help="A setting, key=value; may be repeated.")
    ] = None,
    credentials: Annotated[
        str | None, typer.Option("--credentials", help="A JSON file with what it signs in with; - is stdin.")
    ] = None,
    manifest: Manifest = None,
    mapping: Fields = None,
    url: Url = None,
    token: AccessToken = None,
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Change what is named."""
    body = _proposed(manifest, mapping)
    if name is not None:
        body["display_name"] = name
    if config:
        body["config"] = _settings(config)
    if credentials is not None:
        body["credentials"] = _read_texts(credentials, "credentials", {"api_key": "…"})
    if not body:
        raise UsageError("nothing is to change", advice="Name what is; see --help.")
    changed = Place(url, token, data).change(f"{_ALL}/{connector}", body, Connector, method="PATCH")
    if as_json:
        print_json(changed)
    else:
        answers().print(f"{escape(changed.display_name)}: {_coloured(changed.status)}")


def _asked(place: Place, kind: str, auth: int) -> Mapping[str, str]:
    """What a person types, unseen; nothing where there is no terminal to type it on."""
    if not sys.stdin.isatty():
        return {}
    described = place.ask(lambda api: api.get(f"/v1/connector-catalog/{kind}", _Type))
    if auth >= len(described.auth):
        return {}
    given: dict[str, str] = {}
    for field in described.auth[auth].credentials:
        value = typer.prompt(field.title, default="", hide_input=True, show_default=False)
        if value:
            given[field.key] = value
    return given


def test(
    connector: Id,
    url: Url = None,
    token: AccessToken = None,
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Try its credentials."""
    tested = Place(url, token, data).change(f"{_ALL}/{connector}/test", {}, _Tested)
    if as_json:
        print_json(tested)
    else:
        for check in tested.checks:
            mark = "[green]✓[/green]" if check.success else "[bold red]✗[/bold red]"
            answers().print(f"{mark} {check.name}  {escape(check.detail)}", soft_wrap=True)
    if not tested.success:
        raise typer.Exit(ExitCode.PROBLEM)


Wait = Annotated[bool, typer.Option("--wait", help="Until it is over; the exit code is 1 when it failed.")]


def sync(
    connector: Id,
    wait: Wait = False,
    url: Url = None,
    token: AccessToken = None,
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Ask for what is new."""
    _begin(Place(url, token, data), connector, "sync", {}, wait=wait, as_json=as_json)


def backfill(
    connector: Id,
    since: Annotated[datetime, typer.Option("--from", help="Its start, in UTC.")],
    until: Annotated[datetime | None, typer.Option("--to", help="Its end, in UTC; default: now.")] = None,
    wait: Wait = False,
    url: Url = None,
    token: AccessToken = None,
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Ask for a stretch of history."""
    body = {"from": f"{since.isoformat()}Z"}
    if until is not None:
        body["to"] = f"{until.isoformat()}Z"
    _begin(Place(url, token, data), connector, "backfill", body, wait=wait, as_json=as_json)


def remap(
    connector: Id,
    preview: Annotated[
        bool, typer.Option("--preview", help="Only show what would change under --mapping or --manifest.")
    ] = False,
    manifest: Manifest = None,
    mapping: Fields = None,
    wait: Wait = False,
    url: Url = None,
    token: AccessToken = None,
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Map what is kept again."""
    place = Place(url, token, data)
    proposed = _proposed(manifest, mapping)
    if preview != bool(proposed):
        raise UsageError(
            "--preview and a --mapping or --manifest to try belong together",
            advice="`causeloop connectors change` saves them; `remap` alone uses what is saved.",
        )
    if not preview:
        _begin(place, connector, "remap", {}, wait=wait, as_json=as_json)
        return
    previewed = place.change(f"{_ALL}/{connector}/remap/preview", proposed, _Preview)
    if as_json:
        print_json(previewed)
        return
    for record in previewed.data:
        if record.changed:
            title = str((record.issue or {}).get("title", ""))
            answers().print(f"{escape(title)}: {', '.join(record.changed)} would change", soft_wrap=True)
    answers().print(
        f"Of {previewed.records} kept records that were tried, {previewed.mapped} become an issue, "
        f"{previewed.changed} would change."
    )


def _begin(
    place: Place, connector: str, what: str, body: Mapping[str, str], *, wait: bool, as_json: bool
) -> None:
    begun = place.change(f"{_ALL}/{connector}/{what}", body, _Begun)
    path = f"{_ALL}/{connector}/sync-runs/{begun.sync_run_id}"
    if not wait:
        if as_json:
            print_json(begun)
        else:
            answers().print(begun.sync_run_id)
        return
    run = place.ask(lambda api: _followed(api, path))
    if as_json:
        print_json(run)
    else:
        answers().print(_told(run), soft_wrap=True)
    if run.status != "succeeded":
        raise typer.Exit(ExitCode.PROBLEM)


async def _followed(api: Api, path: str) -> Run:
    """The run once it is over."""
    told = 0
    while True:
        run = await api.get(path, Run)
        if run.ended_at is not None:
            return run
        if run.counts.get("records", 0) > told:
            told = run.counts["records"]
            messages().print(f"{told} records")
        await asyncio.sleep(_FOLLOW_SECONDS)


def _told(run: Run) -> str:
    counted = ", ".join(f"{n} {name}" for name, n in run.counts.items() if n)
    return f"{run.sync_run_id}  {_coloured(run.status)}  {counted or 'nothing new'}  {escape(run.details or '')}".rstrip()


def runs(
    connector: Id,
    url: Url = None,
    token: AccessToken = None,
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """List its latest runs, newest first."""
    path = f"{_ALL}/{connector}/sync-runs"
    found = Place(url, token, data).ask(lambda api: api.get(path, _Runs))
    if as_json:
        print_json(found.data)
        return
    grid = table(
        "id", "kind", "status", "asked for", "records", "new", "dead", "", right=("records", "new", "dead")
    )
    for run in found.data:
        numbers = (str(run.counts.get(name, 0)) for name in ("records", "created", "rejected"))
        asked = f"{run.requested_at:%Y-%m-%d %H:%M}"
        grid.add_row(
            run.sync_run_id, run.kind, _coloured(run.status), asked, *numbers, escape(run.details or "")
        )
    answers().print(grid)


def pause(connector: Id, url: Url = None, token: AccessToken = None, data: Folder = DEFAULT_FOLDER) -> None:
    """Stop it for now."""
    _show_change(Place(url, token, data), connector, "pause")


def resume(connector: Id, url: Url = None, token: AccessToken = None, data: Folder = DEFAULT_FOLDER) -> None:
    """Let it go on."""
    _show_change(Place(url, token, data), connector, "resume")


def _show_change(place: Place, connector: str, what: str) -> None:
    changed = place.change(f"{_ALL}/{connector}/{what}", {}, Connector)
    answers().print(f"{escape(changed.display_name)}: {_coloured(changed.status)}")


def delete(
    connector: Id,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = None,
    token: AccessToken = None,
    data: Folder = DEFAULT_FOLDER,
) -> None:
    """Delete it."""
    if not yes:
        typer.confirm(f"Delete {connector} with its secrets and records?", abort=True)
    Place(url, token, data).ask(lambda api: api.send("DELETE", f"{_ALL}/{connector}"))
    answers().print(f"{connector} is gone; its issues stay.")


def dead_letters(
    connector: Id,
    retry: Annotated[bool, typer.Option("--retry", help="Try the oldest 500 again.")] = False,
    url: Url = None,
    token: AccessToken = None,
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """List what could not become an issue, newest first, or try it again."""
    place, path = Place(url, token, data), f"{_ALL}/{connector}/dead-letters"
    if retry:
        tried = place.change(f"{path}/retry", {}, _Retried)
        if as_json:
            print_json(tried)
        else:
            answers().print(f"{tried.mapped} are issues now, {tried.rejected} are still rejected.")
        return
    found = place.ask(lambda api: api.get(path, _Letters, params=_PAGE))
    if as_json:
        print_json(found.data)
        return
    grid = table("id", "from", "came", "field", "why")
    for letter in found.data:
        came = f"{letter.received_at:%Y-%m-%d %H:%M}"
        grid.add_row(letter.id, letter.stream, came, escape(letter.field or ""), escape(letter.reason))
    answers().print(grid)
    if found.page.total > len(found.data):
        messages().print(f"{found.page.total} in all; the API shows the others.")


def secret(
    connector: Id,
    url: Url = None,
    token: AccessToken = None,
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Another secret for its webhooks."""
    made = Place(url, token, data).change(f"{_ALL}/{connector}/webhook-secret", {}, _Secret)
    if as_json:
        print_json(made)
        return
    answers().print(f"secret   {escape(made.secret)}", soft_wrap=True)
    answers().print(f"address  {made.inbound_url}", soft_wrap=True)
    if made.previous_until is not None:
        messages().print(f"The secret before it is taken until {made.previous_until:%Y-%m-%d %H:%M} UTC.")
