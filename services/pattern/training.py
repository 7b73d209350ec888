"""Fits the shipped linker: `python -m services.pattern.training NAME=FILE… --out WEIGHTS.json [--without NAME]`.

Every FILE holds issues in the order of their arrival with the group that each belongs to (`group`). The very engine
that groups them live reads them; each is put into its true group, and what the linker would have been asked about it
becomes examples. Every set counts the same, however many pairs it has.
"""

import argparse
import gzip
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from contracts.generated.ingest import Severity
from msgspec import Struct
from numpy.typing import NDArray

from .engine.fitting import fit_logistic
from .engine.grouping import MAX_EXEMPLARS, Grouper
from .engine.issues import Issue, compared_text, features_of
from .engine.linking import FEATURES
from .engine.memory import Member
from .engine.weights import LinkerArtefact

_PULL: Final = 1.0
_SEVERITIES: Final[Mapping[str, Severity]] = {
    **dict.fromkeys(("1", "p1", "critical", "blocker", "fatal"), Severity.P1),
    **dict.fromkeys(("2", "p2", "high", "major", "error"), Severity.P2),
    **dict.fromkeys(
        ("4", "5", "p4", "low", "minor", "trivial", "info", "notice", "enhancement"), Severity.P4
    ),
}
_NO_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)


class Line(Struct, kw_only=True):
    """A line of a file of issues. group: what belongs together, if it is known. Everything else may be absent."""

    id: str | int
    ts: datetime | None = None
    title: str | None = ""
    description: str | None = ""
    service: str | None = None
    component: str | None = None
    error_type: str | None = None
    category: str | None = None
    team: str | None = None
    environment: str | None = None
    severity: str | int | None = None
    source: str | None = None
    group: str | int | None = None


class Examples(Struct, frozen=True):
    """Pairs of an issue and an earlier text. x: FEATURES of each, y: 1 for the same failure."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    n_issues: int


def read(path: Path) -> Iterator[Line]:
    """The lines of a file, JSON Lines, gzipped if its name ends so."""
    decoder = msgspec.json.Decoder(Line)
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for line in file:
            if not line.isspace():
                yield decoder.decode(line)


def issue_of_line(line: Line) -> Issue:
    """The issue that a line tells of. A category stands in for an error type."""
    at = line.ts or _NO_TIME
    return Issue(
        issue_id=str(line.id),
        title=(line.title or "").strip() or str(line.id),
        body=line.description or "",
        source=line.source or "custom_api",
        severity=_SEVERITIES.get(str(line.severity).lower(), Severity.P3),
        occurred_at=at if at.tzinfo else at.replace(tzinfo=UTC),
        service=line.service or None,
        component=line.component or None,
        error_type=line.error_type or line.category or None,
        team=line.team or None,
        environment=line.environment or None,
    )


def examples_of(lines: Iterator[Line]) -> Examples:
    """What the linker would have been asked about every issue, had every earlier one been grouped rightly."""
    grouper = Grouper("training", linker=unlearned())
    rows: list[NDArray[np.float64]] = []
    labels: list[NDArray[np.float64]] = []
    n_issues = 0
    for line in lines:
        issue, group = issue_of_line(line), f"pat_{line.group}"
        n_issues += 1
        asked = grouper.pairs(issue)
        if asked is not None:
            rows.append(asked[0])
            labels.append(np.array([owner is not None and owner.pattern_id == group for owner in asked[1]]))
        features = features_of(issue)
        found = grouper.patterns.get(group)
        is_to_keep = asked is not None or found is None or features.key not in found.keys
        has_room = found is None or len(found.exemplars) < MAX_EXEMPLARS
        member = Member(
            issue_id=issue.issue_id,
            pattern_id=group,
            grouping_key=features.key,
            score=1.0,
            severity=issue.severity,
            occurred_at=issue.occurred_at,
            dimensions=issue.dimensions,
        )
        text = compared_text(issue, features)
        grouper.link(member, exemplar=text or None if is_to_keep and has_room else None, title=issue.title)
    return Examples(np.concatenate(rows), np.concatenate(labels).astype(np.float64), n_issues)


def unlearned() -> LinkerArtefact:
    """A linker that knows nothing: every pair is even."""
    return LinkerArtefact(
        version="linker@none",
        features=FEATURES,
        weights=(0.0,) * len(FEATURES),
        intercept=0.0,
        prior_share=0.06,
        prior_texts=100,
        prior_gain=2.0,
        least_shift=-6.0,
        most_shift=1.5,
    )


def fit(sets: Mapping[str, Examples], *, version: str) -> LinkerArtefact:
    """The linker of these examples."""
    x = np.concatenate([each.x for each in sets.values()])
    y = np.concatenate([each.y for each in sets.values()])
    smallest = min(len(each.y) for each in sets.values())
    importance = np.concatenate([np.full(len(each.y), smallest / len(each.y)) for each in sets.values()])
    found = fit_logistic(x, y, importance, pull=_PULL)
    return msgspec.structs.replace(
        unlearned(),
        version=version,
        weights=tuple(round(float(weight), 6) for weight in found.weights),
        intercept=round(found.intercept, 6),
        trained_on=tuple(
            f"{name}: {each.n_issues} issues, {len(each.y)} pairs" for name, each in sets.items()
        ),
    )


def main(arguments: Sequence[str]) -> int:
    """Fit and write."""
    parser = argparse.ArgumentParser(prog="python -m services.pattern.training", description=__doc__)
    parser.add_argument("sets", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--version", required=True, help='such as "linker@2026-11-22"')
    chosen = parser.parse_args(arguments)
    sets = {}
    for each in chosen.sets:
        name, _, file = each.partition("=")
        sets[name] = examples_of(read(Path(file)))
        print(f"{name}: {sets[name].n_issues:,} issues, {len(sets[name].y):,} pairs", file=sys.stderr)
    artefact = fit(sets, version=chosen.version)
    chosen.out.write_bytes(msgspec.json.format(msgspec.json.encode(artefact), indent=2) + b"\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
