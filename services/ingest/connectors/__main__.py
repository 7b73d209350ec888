"""`python -m services.ingest.connectors`: shows, checks and tries manifests; `causeloop sources` runs this."""

import argparse
import gzip
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, get_args

import msgspec
from msgspec import Struct

from services.ingest.connectors.manifest import Category, Manifest, encode_hook
from services.ingest.connectors.mapping import Ignored, Mapped, Outcome, Rejected, map_record
from services.ingest.connectors.payloads import Sample, records_in
from services.ingest.connectors.registry import (
    ManifestError,
    UnknownTypeError,
    catalogue,
    manifest_of,
    read,
    types,
)

OK: Final = 0
PROBLEM: Final = 1
USAGE: Final = 2


class _UsageError(Exception):
    """What was asked cannot be done; the message says why."""


class MappedLine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record of a file, as `map` writes it for the import. line: of the file, or the record's place in it."""

    line: int
    report: msgspec.Raw | None = None
    problem: str = ""
    is_ignored: bool = False


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code is 0, 1 for problems found and 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="causeloop sources")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("list", "table", "show", "check", "preview", "map"):
        command = commands.add_parser(name)
        command.add_argument("--json", action="store_true")
        if name in ("show", "preview", "map"):
            command.add_argument("type")
        if name in ("check", "preview", "map"):
            command.add_argument("file", type=Path)
        if name == "table":
            command.add_argument("page", type=Path, nargs="?")
    chosen = parser.parse_args(arguments)
    try:
        match chosen.command:
            case "list":
                return _list(as_json=chosen.json)
            case "table":
                return _table(chosen.page)
            case "show":
                return _show(chosen.type, as_json=chosen.json)
            case "check":
                return _check(chosen.file)
            case "preview":
                return _preview(chosen.type, chosen.file, as_json=chosen.json)
            case _:
                return _map(chosen.type, chosen.file)
    except (_UsageError, ManifestError) as error:
        print(f"✗ {error}", file=sys.stderr)
        return USAGE


def _list(*, as_json: bool) -> int:
    manifests = catalogue()
    if as_json:
        _print_json([_summary(each) for each in manifests])
        return OK
    width = max(len(each.type) for each in manifests)
    for each in manifests:
        parts = ", ".join(_abilities(each))
        checked = "verified" if each.verified else f"unchecked: {', '.join(each.unchecked) or 'nothing'}"
        print(f"{each.type:{width}}  {each.name} ({parts}; {checked})")
    n_verified = sum(each.verified for each in manifests)
    print(f"\n{len(manifests)} types, {n_verified} of them run with real payloads.")
    return OK


def _table(page: Path | None) -> int:
    """The catalogue as the documentation shows it, one table per category: printed, or put into the page."""
    told = "".join(_section(category) for category in get_args(Category))
    if page is None:
        print(told, end="")
        return OK
    text = _bytes(page).decode()
    begins, last = (text.find(_heading(get_args(Category)[index])) for index in (0, -1))
    ends = text.find("\n## ", last) + 1
    if not 0 <= begins < last < ends:
        raise _UsageError(f"{page} has no such tables with a heading behind them")
    page.write_text(text[:begins] + told + text[ends:], encoding="utf-8")
    return OK


def _section(category: str) -> str:
    rows = [f"| {' | '.join(_row(each))} |" for each in catalogue() if each.category == category]
    columns = "| Type | Name | Sign in | Polls | Webhook proved by | Push | Not checked |"
    return "\n".join([_heading(category), columns, "|---|---|---|---|---|---|---|", *rows, "", ""])


def _heading(category: str) -> str:
    return f"## {category.replace('_', ' ').capitalize()}\n"


def _row(manifest: Manifest) -> list[str]:
    schemes = () if manifest.webhook is None else manifest.webhook.verify
    return [
        f"`{manifest.type}`",
        f"[{manifest.name}]({manifest.docs_url})",
        ", ".join(_kinds(manifest.auth)),
        ", ".join(stream.name for stream in manifest.streams) or "–",
        " or ".join(_kinds(schemes)) or "–",
        "yes" if manifest.push else "–",
        ", ".join(manifest.unchecked) or "–",
    ]


def _kinds(parts: Sequence[Struct]) -> list[str]:
    """The tags of auth kinds or schemes, each once."""
    return list(dict.fromkeys(str(part.__struct_config__.tag) for part in parts))


def _show(type_: str, *, as_json: bool) -> int:
    plain = msgspec.to_builtins(_manifest(type_), enc_hook=encode_hook)
    if as_json:
        _print_json(plain)
    else:
        print(msgspec.yaml.encode(plain).decode(), end="")
    return OK


def _check(file: Path) -> int:
    try:
        manifest = read(_bytes(file), file=file.name)
    except ManifestError as error:
        for problem in error.problems:
            print(f"✗ {problem}")
        return PROBLEM
    parts = ", ".join(_abilities(manifest))
    print(f"✓ {file.name}: {manifest.name}, {parts}")
    return OK


def _preview(type_: str, file: Path, *, as_json: bool) -> int:
    manifest = _manifest(type_)
    outcomes: list[Outcome] = []
    forms: list[str] = []
    now = datetime.now(UTC)
    for _, payload in _payloads(file):
        sample = payload if isinstance(payload, Sample) else records_in(manifest, payload)
        forms.append(sample.form)
        outcomes.extend(map_record(manifest, record, now=now) for record in sample.records)
    if as_json:
        _print_json([_told(outcome) for outcome in outcomes])
    else:
        for number, outcome in enumerate(outcomes, 1):
            _print_outcome(number, outcome)
        counts = {
            kind: sum(isinstance(each, kind) for each in outcomes) for kind in (Mapped, Ignored, Rejected)
        }
        print(
            f"Read as {' and '.join(sorted(set(forms))) or 'nothing'}: {counts[Mapped]} to report, "
            f"{counts[Ignored]} left out, {counts[Rejected]} rejected."
        )
    return PROBLEM if not outcomes or any(isinstance(each, Rejected) for each in outcomes) else OK


def _map(type_: str, file: Path) -> int:
    """Every record of a file as one JSON line, for the import, which sends them on."""
    manifest = _manifest(type_)
    now = datetime.now(UTC)
    number = 0
    for line, payload in _payloads(file):
        sample = payload if isinstance(payload, Sample) else records_in(manifest, payload)
        for record in sample.records:
            number += 1
            match map_record(manifest, record, now=now):
                case Mapped(issue):
                    told = MappedLine(line=line or number, report=msgspec.Raw(msgspec.json.encode(issue)))
                case Ignored():
                    told = MappedLine(line=line or number, is_ignored=True)
                case rejected:
                    told = MappedLine(line=line or number, problem=rejected.problem)
            sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    return OK


def _manifest(type_: str) -> Manifest:
    """The manifest of a type, or of a file that ends in .yaml."""
    if type_.endswith((".yaml", ".yml")):
        path = Path(type_)
        return read(_bytes(path), file=path.name)
    try:
        return manifest_of(type_)
    except UnknownTypeError:
        near = [each for each in types() if type_[:3].lower() in each]
        known = f"; is it {' or '.join(near)}?" if near else "; `causeloop sources list` shows all types"
        raise _UsageError(f"there is no type {type_!r}{known}") from None


def _payloads(file: Path) -> Iterator[tuple[int, object]]:
    """What a file holds, with its line: one JSON document of any form (line 0), or one per line."""
    content = _bytes(file)
    if file.name.lower().endswith(".gz"):
        content = gzip.decompress(content)
    try:
        yield 0, msgspec.json.decode(content)
        return
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if b"\n" not in content.strip():
            raise _UsageError(f"{file.name} is not JSON: {error}") from error
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            try:
                yield number, msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                # A text is no record: the mapper rejects it, and the other lines go on.
                yield number, Sample("records", (f"not JSON: {error}",))


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _UsageError(f"{file} cannot be read: {error.strerror}") from error


def _abilities(manifest: Manifest) -> list[str]:
    found = [f"polls {', '.join(stream.name for stream in manifest.streams)}"] if manifest.streams else []
    if manifest.webhook is not None:
        found.append("webhook")
    if manifest.push is not None:
        found.append("push")
    return found or ["records from a file"]


def _summary(manifest: Manifest) -> dict[str, object]:
    """The facts that a person chooses by."""
    kinds = _kinds(manifest.auth)
    return {
        "type": manifest.type,
        "name": manifest.name,
        "category": manifest.category,
        "auth": kinds,
        "oauth": "oauth2_code" in kinds,
        "config": msgspec.to_builtins(manifest.config),
        "streams": [stream.name for stream in manifest.streams],
        "webhook": manifest.webhook is not None,
        "push": manifest.push is not None,
        "verified": manifest.verified,
        "unchecked": manifest.unchecked,
        "docs_url": manifest.docs_url,
        "notes": manifest.notes,
    }


def _told(outcome: Outcome) -> dict[str, object]:
    match outcome:
        case Mapped(issue):
            return {"issue": issue}
        case Ignored():
            return {"ignored": True}
        case Rejected():
            return {"rejected": {"path": outcome.path, "reason": outcome.reason}}


def _print_outcome(number: int, outcome: Outcome) -> None:
    match outcome:
        case Mapped(issue):
            print(f"record {number}")
            for name, value in msgspec.to_builtins(issue).items():
                if value is not None:
                    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
                    shown = " ".join(text.split())
                    print(f"  {name:18} {shown if len(shown) <= 160 else shown[:160] + '…'}")
        case Ignored():
            print(f"record {number}  left out: the manifest knows it to be no failure")
        case Rejected():
            print(f"record {number}  ✗ {outcome.problem}")
            if isinstance(outcome.raw, dict):
                # Most often the record is elsewhere: one level deeper, or in a list.
                print(f"  the record holds   {', '.join(map(str, outcome.raw)) or 'nothing'}")


def _print_json(value: object) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


if __name__ == "__main__":
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # `| head` has seen enough; nothing more is written when Python ends, either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = OK
    sys.exit(code)
