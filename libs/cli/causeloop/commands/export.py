"""`causeloop export`: take issues, patterns, predictions or recommendations out into a file."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from msgspec import Struct

from causeloop.api import connected
from causeloop.console import messages, print_json, run_async
from causeloop.exits import UsageError
from causeloop.exporting import pages, sink
from causeloop.options import DEFAULT_FOLDER, AccessToken, AsJson, Folder, Url

HELP: Final = """Take a whole list out of the public API into a file: JSON Lines, CSV or Parquet, by its name.

  causeloop export patterns                          to standard output, one JSON object a line
  causeloop export issues issues.parquet
  causeloop export issues open.csv --where status=open --where severity=p1
  causeloop export predictions | jq .probability

--where takes the filters of the API's list.
"""


class Resource(StrEnum):
    """What can be exported."""

    ISSUES = "issues"
    PATTERNS = "patterns"
    PREDICTIONS = "predictions"
    RECOMMENDATIONS = "recommendations"


class Exported(Struct, frozen=True):
    """What `--json` prints at the end."""

    resource: str
    file: str
    rows: int


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export", help=HELP)(export)


def export(
    resource: Annotated[Resource, typer.Argument(help="Which list.")],
    file: Annotated[
        Path | None,
        typer.Argument(help=".jsonl, .csv or .parquet; default: standard output.", dir_okay=False),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="FILTER=VALUE", help="A filter or sort of the list."),
    ] = None,
    url: Url = None,
    token: AccessToken = None,
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Take a whole list out into a file."""
    filters = dict(_pair(text) for text in where or ())
    rows = run_async(_export(resource, file, filters, source=(url, token, data)))
    if file is None:
        return
    if as_json:
        print_json(Exported(resource=resource, file=str(file), rows=rows))
    else:
        messages().print(f"{rows:,} {resource} written to {file}", soft_wrap=True)


async def _export(
    resource: Resource,
    file: Path | None,
    filters: dict[str, str],
    *,
    source: tuple[str | None, str | None, Path],
) -> int:
    url, token, folder = source
    rows = 0
    async with connected(url=url, token=token, folder=folder) as api:
        target = sink(file)
        with messages().status(f"Reading {resource} …") as progress:
            async for listing in pages(api, resource, filters):
                target.write(listing.data)
                rows += len(listing.data)
                progress.update(f"Reading {resource}: {rows:,} of {listing.page.total:,}")
        target.close()
    return rows


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(
            f"--where {text!r} is not of the form FILTER=VALUE", advice="For instance --where status=open"
        )
    return name, value
