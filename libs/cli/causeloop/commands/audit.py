"""`causeloop audit`: prove that nobody changed the audit logs, as the platform's operator."""

from typing import Annotated, Final

import typer
from msgspec import Struct
from psycopg.rows import args_row

from causeloop.clients import as_operator
from causeloop.console import answers, print_json, run_async, table
from causeloop.exits import ExitCode, UsageError
from causeloop.options import DEFAULT_FOLDER, AsJson, Folder

HELP: Final = "Look after the audit logs, in the database that DATABASE_OWNER_URL or the data folder names."

VERIFY_HELP: Final = """Recompute the chain of hashes of every audit log, or of one workspace's.

  causeloop audit verify
  causeloop audit verify --workspace ws_01… --json

Says which entry was changed, removed, inserted or moved first; the exit code is then 1. Keep the head's hash \
elsewhere: it proves later that nothing before it changed.
"""

_VERIFY: Final = """
SELECT w.workspace_id, w.slug, v.n_entries, v.last_number, encode(v.head_hash, 'hex'), v.problem, v.problem_number
FROM workspaces AS w CROSS JOIN LATERAL verify_audit(w.workspace_id) AS v
WHERE $1::text IS NULL OR w.workspace_id = $1::text
ORDER BY w.slug, w.workspace_id
"""
_HASH_SHOWN: Final = 12


class Verdict(Struct, frozen=True):
    """What was found of one workspace's log. problem: None: it is as it was written."""

    workspace_id: str
    slug: str
    entries: int
    last_number: int
    head_hash: str
    problem: str | None
    problem_number: int | None


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.callback()(_group)
    group.command("verify", help=VERIFY_HELP)(verify)
    app.add_typer(group, name="audit")


def _group() -> None:
    """Look after the audit logs."""


def verify(
    workspace: Annotated[str | None, typer.Option("--workspace", help="Only this one, by id.")] = None,
    data: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Recompute the chains of hashes."""

    async def work() -> list[Verdict]:
        async with as_operator(data) as conn, conn.cursor(row_factory=args_row(Verdict)) as cursor:
            await cursor.execute(_VERIFY.encode(), (workspace,))
            return await cursor.fetchall()

    verdicts = run_async(work())
    if workspace is not None and not verdicts:
        raise UsageError(
            f"there is no workspace {workspace}", advice="`causeloop clients list` shows clients."
        )
    if as_json:
        print_json(verdicts)
    else:
        grid = table("client", "workspace", "entries", "head", "", right=("entries",))
        for each in verdicts:
            said = (
                "[green]intact[/green]"
                if each.problem is None
                else f"[bold red]entry {each.problem_number} was {each.problem}[/bold red]"
            )
            grid.add_row(each.slug, each.workspace_id, str(each.entries), each.head_hash[:_HASH_SHOWN], said)
        answers().print(grid)
    if any(each.problem is not None for each in verdicts):
        raise typer.Exit(ExitCode.PROBLEM)
