"""`causeloop sources`: what Causeloop knows of the tools that failures come from, and trying it on a payload."""

from pathlib import Path
from typing import Annotated, Final

import typer

from causeloop.exits import ExitCode, UsageError
from causeloop.options import AsJson
from causeloop.service_runs import run_in_foreground

HELP: Final = """Types of sources: list them, read their manifests, try them on a payload, check a new one.

  causeloop sources list
  causeloop sources preview pagerduty webhook.json

Nothing needs to run. A file of records goes in with `causeloop import FILE --source TYPE`.
"""

LIST_HELP: Final = """List all types: what each polls, receives and pushes, and which facts nobody has checked.

  causeloop sources list
  causeloop sources list --json | jq -r '.[] | select(.category == "security") | .type'
"""

SHOW_HELP: Final = """Print the manifest of a type: its settings, ways to sign in, streams, mapping, webhook.

  causeloop sources show pagerduty
  causeloop sources show custom_weather.yaml --json

TYPE: a type, or a manifest of yours. As JSON it is what the API takes for a type of your own.
"""

CHECK_HELP: Final = """Check a manifest that you write: unknown keys, JMESPath, placeholders, what contradicts itself.

  causeloop sources check weather.yaml

Prints every problem with its place in the file; the exit code is then 1.
"""

PREVIEW_HELP: Final = """Show which issues come out of a payload, and why a record is rejected. Nothing is reported.

  causeloop sources preview pagerduty webhook.json
  causeloop sources preview github page-of-issues.json --json
  causeloop sources preview weather.yaml sample.json

FILE: JSON or JSON Lines, gzipped or not: a webhook's body, a page of a list as the API gives it, or bare records. \
TYPE: a type, or a manifest of yours. The exit code is 1 when a record is rejected.
"""

TypeArgument = Annotated[str, typer.Argument(metavar="TYPE", help="Such as pagerduty; or a .yaml file.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.callback()(_group)
    group.command("list", help=LIST_HELP)(list_types)
    group.command("show", help=SHOW_HELP)(show)
    group.command("check", help=CHECK_HELP)(check)
    group.command("preview", help=PREVIEW_HELP)(preview)
    app.add_typer(group, name="sources")


def _group() -> None:
    """Show and try the types of sources."""


def list_types(as_json: AsJson = False) -> None:
    """List all types."""
    _run("list", as_json=as_json)


def show(type_: TypeArgument, as_json: AsJson = False) -> None:
    """Print a manifest."""
    _run("show", type_or_file(type_), as_json=as_json)


def check(file: Annotated[Path, typer.Argument(help="Manifest, YAML.")]) -> None:
    """Check a manifest."""
    _run("check", _existing(file))


def preview(
    type_: TypeArgument,
    file: Annotated[Path, typer.Argument(help="JSON or JSON Lines, gzipped or not.")],
    as_json: AsJson = False,
) -> None:
    """Show what comes out of a payload."""
    _run("preview", type_or_file(type_), _existing(file), as_json=as_json)


def type_or_file(text: str) -> str:
    """A type as it stands; a manifest by its full path, since the service works in another folder."""
    return _existing(Path(text)) if text.endswith((".yaml", ".yml")) else text


def _existing(file: Path) -> str:
    if not file.is_file():
        raise UsageError(f"there is no file {file}")
    return str(file.resolve())


def _run(*words: str, as_json: bool = False) -> None:
    code = run_in_foreground("services.ingest.connectors", [*words, *(["--json"] if as_json else [])])
    if code:
        raise typer.Exit(code if code in tuple(ExitCode) else ExitCode.INTERNAL)
