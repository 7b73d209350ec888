"""The command `causeloop-codegen`: writes every generated file of the repository."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from codegen import contracts, image, model, sql

GENERATED = Path("libs/contracts/contracts/generated")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one generator; exit code 0 when its files are written."""
    parser = argparse.ArgumentParser(prog="causeloop-codegen", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="root of the repository")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("contracts", help="proto/ to libs/contracts")
    sql_command = commands.add_parser("sql", help="queries.sql to _queries.py")
    sql_command.add_argument("service", nargs="*", help="default: every service with queries")
    chosen = parser.parse_args(arguments)
    try:
        _run(chosen)
    except (image.BufError, model.ContractError, sql.SqlcError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _run(chosen: argparse.Namespace) -> None:
    match chosen.command:
        case "contracts":
            write_contracts(chosen.root)
        case "sql":
            for path in sql.generate(chosen.root, chosen.service):
                sys.stdout.write(f"{path}\n")


def write_contracts(root: Path) -> None:
    """Write the Python modules of the contract."""
    found = model.contexts(image.load(root / "proto"))
    _write(root / GENERATED, contracts.modules(found))


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
