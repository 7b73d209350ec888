"""`causeloop import`: read a file of failures and report them through the public API."""

import random
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from msgspec import Struct
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from causeloop.api import connected, find_url
from causeloop.commands.sources import type_or_file
from causeloop.console import answers, messages, print_json, run_async, table
from causeloop.exits import ExitCode, StorageError, UsageError
from causeloop.importing import (
    Counts,
    Failure,
    Importer,
    ImportState,
    Prepared,
    StateFile,
    prepare,
    state_key,
)
from causeloop.mapping import FieldMapping, combined, read_mapping_file
from causeloop.options import DEFAULT_FOLDER, AccessToken, AsJson, Folder, Url
from causeloop.reading import count_rows, digest, read_rows
from causeloop.severity import vocabulary
from causeloop.vendor_records import mapped_records

HELP: Final = """Report the failures in a file through the public API.

Reads JSON Lines (.jsonl, .jsonl.gz), CSV (.csv, .tsv) and Parquet. Columns with usual names (id, ts, title, \
description, service, severity, …) are found by themselves. See first what becomes of them:

  causeloop import incidents.csv --dry-run
  causeloop import incidents.csv --map title=Headline --map service=App
  causeloop import bugs.jsonl.gz --set source=bugzilla --ignore group
  causeloop import alerts.parquet --severity-map "sev-a=p1,sev-b=p3"
  causeloop import export.csv --mapping export.yaml

Records as a tool's own API or webhook gives them (JSON, JSON Lines) are mapped by its type; `causeloop sources list` \
shows the types:

  causeloop import incidents.json --source pagerduty
  causeloop import tickets.jsonl.gz --source zendesk --dry-run

The same file again changes nothing: an issue is known by its source and external id. An interrupted import \
goes on where it stopped. Refused rows are written to FILE.errors.jsonl with line and reason; the exit code is then 1.
"""

DRY_RUN_ROWS: Final = 5


class ImportOptions(Struct, frozen=True, kw_only=True):
    """The command line of one import."""

    file: Path
    mapping: FieldMapping
    source: str | None
    url: str | None
    token: str | None
    folder: Path
    errors_file: Path
    restart: bool
    as_json: bool


class Summary(Struct, frozen=True, kw_only=True):
    """What `--json` prints at the end."""

    file: str
    created: int
    updated: int
    unchanged: int
    rejected: int
    seconds: float
    rows_per_second: float
    errors_file: str | None


Source = Annotated[
    Path,
    typer.Argument(
        help="JSON Lines, CSV or Parquet file; with --source also JSON.", exists=True, dir_okay=False
    ),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="FIELD=COLUMN",
        help="Take a field from this column; a dot looks into nested objects.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Give a field the same value in every row."),
]
IgnoreOption = Annotated[
    list[str] | None,
    typer.Option("--ignore", metavar="COLUMN", help="Leave a column out, also of the metadata."),
]
SeverityOption = Annotated[
    str | None,
    typer.Option(
        "--severity-map",
        metavar="NAME|WORD=pN,…",
        help="generic, jira, bugzilla, statuspage, pagerduty, syslog, servicenow, or words of your own; "
        "default: by the row's source.",
    ),
]
MappingOption = Annotated[
    Path | None,
    typer.Option(
        "--mapping",
        exists=True,
        dir_okay=False,
        help="YAML file with map, set, severity and ignore; flags win over it.",
    ),
]
SourceOption = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="TYPE",
        help="Type of the tool whose records these are, or a manifest of yours (.yaml); "
        "takes the place of --map, --set, --ignore, --severity-map and --mapping.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the first rows as they would be reported, and report nothing.")
]
Restart = Annotated[
    bool,
    typer.Option("--restart", help="Begin with the first row even when an earlier import was interrupted."),
]
ErrorsOption = Annotated[
    Path | None, typer.Option("--errors", help="Where refused rows are written; default: FILE.errors.jsonl.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import", help=HELP)(import_file)


def import_file(
    file: Source,
    map_: MapOption = None,
    set_: SetOption = None,
    ignore: IgnoreOption = None,
    severity_map: SeverityOption = None,
    mapping: MappingOption = None,
    source: SourceOption = None,
    dry_run: DryRun = False,
    restart: Restart = False,
    errors: ErrorsOption = None,
    url: Url = None,
    token: AccessToken = None,
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Report the failures in a file."""
    if source and (map_ or set_ or ignore or severity_map or mapping):
        advice = "To map differently, write a manifest of your own: docs/how-to/add-a-source.md."
        raise UsageError("--source brings its own mapping; no other may be given", advice=advice)
    base = read_mapping_file(mapping.read_bytes(), name=mapping.name) if mapping else FieldMapping()
    flags = FieldMapping(
        columns=_pairs(map_, "--map"),
        constants=_pairs(set_, "--set"),
        severity=dict(vocabulary(severity_map)) if severity_map else None,
        ignore=tuple(ignore or ()),
    )
    options = ImportOptions(
        file=file,
        mapping=combined(base, flags),
        source=type_or_file(source) if source else None,
        url=url,
        token=token,
        folder=data,
        errors_file=errors or _errors_file(file),
        restart=restart,
        as_json=as_json,
    )
    if dry_run:
        _show_first_rows(options)
        return
    summary = run_async(_import(options))
    if as_json:
        print_json(summary)
    else:
        _print_summary(summary)
    if summary.rejected:
        raise typer.Exit(ExitCode.PROBLEM)


async def _import(options: ImportOptions) -> Summary:
    url = find_url(options.url, options.folder)
    key = state_key(digest=digest(options.file), mapping=options.mapping, url=url, source=options.source)
    state_file = StateFile(options.folder, key=key)
    state = _starting_state(options, state_file)
    n_rows = count_rows(options.file) if options.source is None else None
    async with connected(url=options.url, token=options.token, folder=options.folder) as api:
        with _Report(options, n_rows=n_rows, state=state, state_file=state_file) as report:
            importer = Importer(api, state=state, on_progress=report.advance)
            rows = islice(_prepared(options), state.rows_done, None)
            started = time.monotonic()
            final = await importer.run(rows)
            seconds = time.monotonic() - started
    done = final.rows_done - state.rows_done
    return Summary(
        file=str(options.file),
        created=final.counts.created,
        updated=final.counts.updated,
        unchanged=final.counts.unchanged,
        rejected=final.counts.rejected,
        seconds=round(seconds, 3),
        rows_per_second=round(done / seconds, 1) if seconds else 0.0,
        errors_file=str(options.errors_file) if final.counts.rejected else None,
    )


def _prepared(options: ImportOptions) -> Iterator[Prepared]:
    if options.source is not None:
        return mapped_records(options.source, options.file)
    return prepare(read_rows(options.file), options.mapping)


def _starting_state(options: ImportOptions, state_file: StateFile) -> ImportState:
    """Where to begin: an interrupted import's state, or the first row with an empty errors file."""
    earlier = None if options.restart else state_file.read()
    if earlier is not None and not earlier.is_finished and earlier.rows_done:
        messages().print(
            f"Going on after row {earlier.rows_done:,}, where an earlier import stopped (--restart begins anew)."
        )
        return earlier
    options.errors_file.unlink(missing_ok=True)
    return ImportState(file=str(options.file))


class _Report:
    """Shows the progress, saves the state and writes refused rows, batch by batch."""

    def __init__(
        self, options: ImportOptions, *, n_rows: int | None, state: ImportState, state_file: StateFile
    ) -> None:
        self._errors_path = options.errors_file
        self._state_file = state_file
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[outcome]}"),
            TimeRemainingColumn(),
            console=messages(),
            transient=True,
            disable=options.as_json,
        )
        self._task: TaskID = self._progress.add_task(
            options.file.name, total=n_rows, completed=state.rows_done, outcome=_brief(state.counts)
        )

    def __enter__(self) -> "_Report":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, state: ImportState, failures: tuple[Failure, ...]) -> None:
        """One more batch is dealt with."""
        if failures:
            self._write(failures)
        self._state_file.write(state)
        self._progress.update(self._task, completed=state.rows_done, outcome=_brief(state.counts))

    def _write(self, failures: tuple[Failure, ...]) -> None:
        try:
            with self._errors_path.open("ab") as file:
                file.writelines(msgspec.json.encode(failure) + b"\n" for failure in failures)
        except OSError as error:
            raise StorageError(
                f"{self._errors_path} cannot be written: {error.strerror}",
                advice="Give another place with --errors.",
            ) from error


def _brief(counts: Counts) -> str:
    rejected = f", [red]{counts.rejected:,} rejected[/red]" if counts.rejected else ""
    return f"{counts.created:,} new{rejected}"


def _pairs(values: list[str] | None, flag: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for value in values or ():
        field, equals, content = value.partition("=")
        if not equals or not field or not content:
            raise UsageError(
                f"{flag} {value!r} is not of the form FIELD=…", advice=f"For instance {flag} title=Headline"
            )
        pairs[field] = content
    return pairs


def _errors_file(file: Path) -> Path:
    """Beside the file; in the working folder when the file's own cannot be written."""
    name = f"{file.name}.errors.jsonl"
    probe = file.parent / f".causeloop-{random.randrange(10**9)}"
    try:
        probe.touch()
        probe.unlink()
    except OSError:
        return Path(name)
    return file.parent / name


def _show_first_rows(options: ImportOptions) -> None:
    rows = list(islice(_prepared(options), DRY_RUN_ROWS))
    if options.as_json:
        print_json(
            [
                {"line": r.line, "problem": r.problem or None, "report": msgspec.Raw(r.payload or b"null")}
                for r in rows
            ]
        )
        return
    console = answers()
    for row in rows:
        console.print(
            f"[bold]line {row.line}[/bold]" + (f"  [red]{row.problem}[/red]" if row.problem else "")
        )
        if row.payload:
            shown = table("", "")
            shown.show_header = False
            for field, value in msgspec.json.decode(row.payload, type=dict[str, object]).items():
                text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
                shown.add_row(f"  {field}", text if len(text) <= 160 else f"{text[:160]}…")
            console.print(shown)
    has = f" The file has {count_rows(options.file):,} rows." if options.source is None else ""
    console.print(f"Nothing was reported.{has}")


def _print_summary(summary: Summary) -> None:
    counts = table(
        "created",
        "updated",
        "unchanged",
        "rejected",
        "time",
        "rows/s",
        right=("created", "updated", "unchanged", "rejected", "time", "rows/s"),
    )
    counts.add_row(
        f"{summary.created:,}",
        f"{summary.updated:,}",
        f"{summary.unchanged:,}",
        f"[red]{summary.rejected:,}[/red]" if summary.rejected else "0",
        f"{summary.seconds:.1f} s",
        f"{summary.rows_per_second:,.0f}",
    )
    answers().print(counts)
    if summary.errors_file:
        answers().print(f"Refused rows, with line and reason: {summary.errors_file}", soft_wrap=True)
