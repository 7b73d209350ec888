"""Fits the shipped linker: `python -m services.pattern.training NAME=FILE… --out WEIGHTS.json [--without NAME]`.

Every FILE holds issues in the order of their arrival with the group that each belongs to (`group`). The very engine
that groups them live reads them; each is put into its true group, and what the linker would have been asked about it
becomes examples. Every set counts the same, however many pairs it has.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from .backtest import Line, issue_of, read
from .engine.fitting import fit_logistic
from .engine.grouping import MAX_EXEMPLARS, Grouper
from .engine.issues import compared_text, features_of
from .engine.linking import FEATURES
from .engine.memory import Member
from .engine.weights import LinkerArtefact

_PULL: Final = 1.0


class Examples(Struct, frozen=True):
    """Pairs of an issue and an earlier text. x: FEATURES of each, y: 1 for the same failure."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    n_issues: int


def examples_of(lines: Iterator[Line]) -> Examples:
    """What the linker would have been asked about every issue, had every earlier one been grouped rightly."""
    grouper = Grouper("training", linker=unlearned())
    rows: list[NDArray[np.float64]] = []
    labels: list[NDArray[np.float64]] = []
    n_issues = 0
    for line in lines:
        issue, group = issue_of(line), f"pat_{line.group}"
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
        least_shift=-2.5,
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
