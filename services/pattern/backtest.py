"""Groups a file of issues as they would have been grouped on arrival: `causeloop backtest grouping` runs this.

The engine is the one that groups live. Every issue is decided before the next one is read, from what came before it
alone; what it was assigned then is what is scored and written, whatever follows. `group`, where a line has it, is
compared with afterwards and never shown to the engine.
"""

import argparse
import gzip
import resource
import sys
import time
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from contracts.generated.ingest import Severity
from msgspec import Struct
from threadpoolctl import threadpool_limits

from .engine.grouping import Grouper, New
from .engine.issues import Issue
from .engine.memory import Settings

_SEVERITIES: Final[Mapping[str, Severity]] = {
    **dict.fromkeys(("1", "p1", "critical", "blocker", "fatal"), Severity.P1),
    **dict.fromkeys(("2", "p2", "high", "major", "error"), Severity.P2),
    **dict.fromkeys(
        ("4", "5", "p4", "low", "minor", "trivial", "info", "notice", "enhancement"), Severity.P4
    ),
}
_NO_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)
_EVERY: Final = 50


class UnreadableError(Exception):
    """A line of the file is no issue."""


class Line(Struct, kw_only=True):
    """A line of a file of issues. group: what belongs together, if it is known. All but the id may be absent."""

    id: str | int
    ts: str | float | None = None
    title: str | None = None
    description: str | None = None
    service: str | None = None
    component: str | None = None
    error_type: str | None = None
    category: str | None = None
    team: str | None = None
    environment: str | None = None
    severity: str | float | None = None
    source: str | None = None
    group: str | int | None = None


class Scores(Struct, frozen=True, kw_only=True):
    """How well a grouping agrees with the true one, each in [0, 1].

    precision, recall, f1: over pairs of issues. b3_…: B-cubed, over issues. grouping_accuracy: share of issues whose
    pattern holds exactly its group.
    """

    precision: float
    recall: float
    f1: float
    b3_precision: float
    b3_recall: float
    b3: float
    grouping_accuracy: float
    n_patterns: int
    n_groups: int


class Report(Struct, frozen=True, kw_only=True):
    """What a backtest found. scores, all_singletons: None when the file knows no groups. Milliseconds are of CPU."""

    file: str
    linker_version: str
    confidence_threshold: float
    n_issues: int
    n_patterns: int
    n_suggested: int
    scores: Scores | None
    all_singletons: Scores | None
    ms_per_issue_p50: float
    ms_per_issue_p99: float
    seconds: float
    peak_mb: float


def read(path: Path) -> Iterator[Line]:
    """The lines of a file, JSON Lines, gzipped if its name ends so. Raises UnreadableError."""
    decoder = msgspec.json.Decoder(Line)
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for number, text in enumerate(file, 1):
            if text.isspace():
                continue
            try:
                yield decoder.decode(text)
            except msgspec.MsgspecError as error:
                raise UnreadableError(f"line {number}: {error}") from error


def issue_of(line: Line) -> Issue:
    """The issue that a line tells of. A category stands in for an error type. Raises UnreadableError."""
    severity = line.severity
    if isinstance(severity, float):
        severity = str(int(severity))
    return Issue(
        issue_id=str(line.id),
        title=(line.title or "").strip() or str(line.id),
        body=line.description or "",
        source=line.source or "custom_api",
        severity=_SEVERITIES.get((severity or "").lower(), Severity.P3),
        occurred_at=_moment(line),
        service=line.service or None,
        component=line.component or None,
        error_type=line.error_type or line.category or None,
        team=line.team or None,
        environment=line.environment or None,
    )


def score(assigned: Sequence[Hashable], true: Sequence[Hashable]) -> Scores:
    """Pairwise, B-cubed and exact agreement of two groupings of the same issues. Raises ValueError when there are none."""
    n = len(true)
    if not n:
        raise ValueError("nothing to score")
    both = Counter(zip(assigned, true, strict=True))
    ours, theirs = Counter(assigned), Counter(true)
    hits, said, wanted = _pairs(both), _pairs(ours), _pairs(theirs)
    precision, recall = hits / said if said else 1.0, hits / wanted if wanted else 1.0
    b3_precision = sum(k * k / ours[a] for (a, _), k in both.items()) / n
    b3_recall = sum(k * k / theirs[b] for (_, b), k in both.items()) / n
    return Scores(
        precision=precision,
        recall=recall,
        f1=_harmonic(precision, recall),
        b3_precision=b3_precision,
        b3_recall=b3_recall,
        b3=_harmonic(b3_precision, b3_recall),
        grouping_accuracy=sum(k for (a, b), k in both.items() if k == ours[a] == theirs[b]) / n,
        n_patterns=len(ours),
        n_groups=len(theirs),
    )


class Backtest:
    """Issues go in one by one; what they were assigned stays as it was."""

    def __init__(self, grouper: Grouper) -> None:
        self.grouper = grouper
        self.assigned: dict[str, str] = {}
        self.milliseconds: list[float] = []
        self.n_suggested = 0
        self._ids: list[str] = []
        self._true: list[str | None] = []

    def take(self, line: Line) -> str:
        """The pattern of an issue, decided now; a line whose id was seen before is that issue again."""
        issue = issue_of(line)
        self._ids.append(issue.issue_id)
        self._true.append(None if line.group is None else str(line.group))
        if issue.issue_id not in self.assigned:
            began = time.process_time()
            decision = self.grouper.assign(issue)
            self.grouper.link(decision.member(issue), exemplar=decision.exemplar, title=issue.title)
            self.milliseconds.append((time.process_time() - began) * 1e3)
            self.assigned[issue.issue_id] = decision.pattern_id
            self.n_suggested += isinstance(decision, New) and bool(decision.suggestions)
        return self.assigned[issue.issue_id]

    def report(self, file: str, seconds: float) -> Report:
        """What was found until now."""
        known = [(self.assigned[i], group) for i, group in zip(self._ids, self._true, strict=True) if group]
        true = [group for _, group in known]
        ordered = sorted(self.milliseconds) or [0.0]
        return Report(
            file=file,
            linker_version=self.grouper.linker_version,
            confidence_threshold=self.grouper.settings.confidence_threshold,
            n_issues=len(self.assigned),
            n_patterns=len(set(self.assigned.values())),
            n_suggested=self.n_suggested,
            scores=score([ours for ours, _ in known], true) if known else None,
            all_singletons=score(range(len(true)), true) if known else None,
            ms_per_issue_p50=ordered[len(ordered) // 2],
            ms_per_issue_p99=ordered[len(ordered) * 99 // 100],
            seconds=seconds,
            peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        )


def main(arguments: Sequence[str]) -> int:
    """Run a backtest; 2 for a file that cannot be read."""
    parser = argparse.ArgumentParser(prog="causeloop backtest grouping", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threshold", type=float, default=Settings().confidence_threshold)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    threadpool_limits(1, user_api="blas")
    grouper = Grouper("backtest")
    grouper.settings = Settings(confidence_threshold=asked.threshold)
    backtest, began = Backtest(grouper), time.process_time()
    try:
        n_lines = sum(1 for _ in read(asked.file))
        for number, line in enumerate(read(asked.file), 1):
            backtest.take(line)
            if sys.stderr.isatty() and (number % _EVERY == 0 or number == n_lines):
                _bar(number, n_lines)
    except (OSError, EOFError, UnreadableError) as error:
        print(f"✗ {asked.file}: {error}", file=sys.stderr)
        return 2
    report = backtest.report(str(asked.file), time.process_time() - began)
    if asked.out is not None:
        lines = ({"id": each, "pattern_id": found} for each, found in backtest.assigned.items())
        asked.out.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    if asked.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n")
    else:
        _print(report)
    return 0


def _print(report: Report) -> None:
    print(
        f"{report.n_issues:,} issues → {report.n_patterns:,} patterns; {report.n_suggested:,} issues with a suggestion"
        f"\nlinker {report.linker_version}, joined at {report.confidence_threshold:g} and above"
        f"\n{report.ms_per_issue_p50:.2f} ms an issue (p50), {report.ms_per_issue_p99:.2f} ms (p99), "
        f"{report.seconds:.1f} s in all, {report.peak_mb:.0f} MB at most\n"
    )
    if report.scores is None or report.all_singletons is None:
        print("No line has a `group`, so there is nothing to score against.")
        return
    print(
        f"{'':16}{'pairs P':>9}{'R':>7}{'F1':>7}{'B³ P':>8}{'R':>7}{'F1':>7}{'exact':>8}{'patterns':>10}{'groups':>8}"
    )
    for name, one in (("this engine", report.scores), ("all singletons", report.all_singletons)):
        print(
            f"{name:16}{one.precision:9.3f}{one.recall:7.3f}{one.f1:7.3f}{one.b3_precision:8.3f}{one.b3_recall:7.3f}"
            f"{one.b3:7.3f}{one.grouping_accuracy:8.3f}{one.n_patterns:10,}{one.n_groups:8,}"
        )


def _bar(done: int, of: int) -> None:
    filled = 30 * done // max(of, 1)
    end = "\n" if done == of else ""
    sys.stderr.write(f"\r{'█' * filled}{'░' * (30 - filled)} {done:,} of {of:,}{end}")
    sys.stderr.flush()


def _moment(line: Line) -> datetime:
    if line.ts is None or line.ts == "":
        return _NO_TIME
    try:
        if isinstance(line.ts, str):
            at = datetime.fromisoformat(line.ts)
            return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        return datetime.fromtimestamp(line.ts, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise UnreadableError(f"issue {line.id}: {line.ts!r} is no time") from error


def _pairs(counts: Mapping[tuple[Hashable, Hashable], int] | Mapping[Hashable, int]) -> int:
    return sum(n * (n - 1) // 2 for n in counts.values())


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
