"""Records as a vendor gives them, mapped by ingest's manifest of that vendor, for the import."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
from contracts import ingest
from msgspec import Struct

from causeloop.importing import Prepared
from causeloop.service_runs import output_lines


class _MappedLine(Struct, frozen=True, kw_only=True):
    """What ingest says of one record."""

    line: int
    report: ingest.IssueReport | None = None
    problem: str = ""
    is_ignored: bool = False


def manifest_in(file: str) -> dict[str, object]:
    """The manifest in a YAML file, given by its full path, as the API takes it. Raises UsageError with its faults."""
    printed = b"".join(output_lines("services.ingest.connectors", ["show", file, "--json"]))
    return msgspec.json.decode(printed, type=dict[str, object])


def mapped_records(type_: str, file: Path) -> Iterator[Prepared]:
    """The records of a file, mapped; those that are no failures are left out.

    type_: a type of source, or the full path of a manifest. The order is the file's, so that an import can go on.
    Raises UsageError when there is no such type, or the file is not JSON.
    """
    decode = msgspec.json.Decoder(_MappedLine).decode
    for output in output_lines("services.ingest.connectors", ["map", type_, str(file.resolve())]):
        mapped = decode(output)
        if mapped.report is not None:
            report = mapped.report
            identity = f"{report.source or ''}\0{report.external_id}"
            yield Prepared(line=mapped.line, identity=identity, payload=msgspec.json.encode(report))
        elif not mapped.is_ignored:
            yield Prepared(line=mapped.line, identity="", problem=mapped.problem)
