"""The command `causeloop-codegen`: writes every generated file of the repository."""

import argparse
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from codegen import asyncapi, contracts, docs, errorlist, eventlist, image, model, release, sql

GENERATED = Path("libs/contracts/contracts/generated")
ASYNCAPI = Path("docs/reference/asyncapi.yaml")
EVENTS = Path("docs/reference/events.md")
ERRORS = Path("docs/reference/errors.md")

_REFUSALS = (
    image.BufError,
    model.ContractError,
    sql.SqlcError,
    release.ReleaseExistsError,
    docs.SnippetError,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one generator; 0 when its files are written, 1 with a message on standard error otherwise."""
    parser = argparse.ArgumentParser(prog="causeloop-codegen", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="root of the repository")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("contracts", help="proto/ to libs/contracts")
    commands.add_parser("asyncapi", help="proto/ to docs/reference/asyncapi.yaml")
    commands.add_parser("events", help="proto/ to docs/reference/events.md")
    sql_command = commands.add_parser("sql", help="queries.sql to _queries.py")
    sql_command.add_argument("service", nargs="*", help="default: every service with queries")
    commands.add_parser("errors", help="classes of errors to docs/reference/errors.md")
    commands.add_parser("docs", help="sources to the pages that show them")
    commands.add_parser("all", help="everything above")
    commands.add_parser("check", help="name the generated files that differ from their source")
    commands.add_parser(
        "breaking", help="refuse changes of proto/ that readers of the last release cannot take"
    )
    release_command = commands.add_parser("release", help="keep the contract of a release for ever")
    release_command.add_argument("version")
    chosen = parser.parse_args(arguments)
    try:
        return _run(chosen)
    except _REFUSALS as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _run(chosen: argparse.Namespace) -> int:
    root: Path = chosen.root
    match chosen.command:
        case "sql":
            _print(sql.generate(root, chosen.service))
        case "docs":
            _print(docs.fill(root))
        case "errors":
            _write(root, _errors(root))
        case "release":
            _print(release.keep(root, chosen.version))
        case "check":
            drifted = drift(root)
            _print(drifted)
            return 1 if drifted else 0
        case "breaking":
            release.check(root)
        case "all":
            _write(root, from_proto(root) | _errors(root))
            _print([*sql.generate(root), *docs.fill(root)])
        case generator:
            _write(root, _GENERATORS[generator](root, _contexts(root)))
    return 0


def from_proto(root: Path) -> dict[Path, str]:
    """The text of every file that is generated from proto/, by path relative to the root."""
    found = _contexts(root)
    files: dict[Path, str] = {}
    for generator in _GENERATORS.values():
        files |= generator(root, found)
    return files


def drift(root: Path) -> list[Path]:
    """The generated files that differ from what their source gives now, and those without a source."""
    expected = from_proto(root) | sql.preview(root) | _errors(root)
    stale = [path for path, text in expected.items() if not _equals(root / path, text)]
    orphans = [path.relative_to(root) for path in (root / GENERATED).glob("*.py")]
    return sorted([*stale, *(path for path in orphans if path not in expected)])


def _contexts(root: Path) -> tuple[model.Context, ...]:
    return model.contexts(image.load(root / "proto"))


def _contracts(_root: Path, contexts: Sequence[model.Context]) -> dict[Path, str]:
    return {GENERATED / name: text for name, text in contracts.modules(contexts).items()}


def _asyncapi(root: Path, contexts: Sequence[model.Context]) -> dict[Path, str]:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {ASYNCAPI: asyncapi.document(contexts, version=str(project["version"]))}


def _events(_root: Path, contexts: Sequence[model.Context]) -> dict[Path, str]:
    return {EVENTS: eventlist.page(contexts)}


def _errors(root: Path) -> dict[Path, str]:
    # Only a repository with services has any.
    return {ERRORS: errorlist.page(root)} if (root / errorlist.SHARED).exists() else {}


_GENERATORS: Mapping[str, Callable[[Path, Sequence[model.Context]], dict[Path, str]]] = {
    "contracts": _contracts,
    "asyncapi": _asyncapi,
    "events": _events,
}


def _equals(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def _write(root: Path, files: Mapping[Path, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def _print(paths: Sequence[Path]) -> None:
    sys.stdout.writelines(f"{path}\n" for path in paths)


if __name__ == "__main__":
    sys.exit(main())
