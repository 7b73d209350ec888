"""What one new report of a person costs the grouping engine with 10^3 to 10^5 patterns: `python -m tests.load grouping`.

It needs no servers and is a process of its own, so that its memory is the engine's. Every report is made up and
different, so each begins a pattern: the dearest way through the engine. CPU time, not time on the clock.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from contracts.generated.ingest import Severity
from threadpoolctl import threadpool_limits

from services.pattern.engine.grouping import Grouper
from services.pattern.engine.issues import Issue

SIZES = (1_000, 4_000, 10_000, 50_000, 100_000)
WINDOW = 500
P50_MS, MEMORY_MB, MEMORY_AT = 2.0, 400, 50_000
_N_WORDS = 20_000
_FROM = datetime(2025, 6, 15, tzinfo=UTC)


def reports(seed: int) -> Iterator[Issue]:
    """Reports without end: titles of 8 and bodies of 30 words, which are as unequally frequent as those of a language."""
    rng = random.Random(seed)
    words = [
        "".join(rng.choice("bcdfghklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(2, 4)))
        for _ in range(_N_WORDS)
    ]
    weights = [1 / (rank + 5) for rank in range(_N_WORDS)]
    number = 0
    while True:
        title, body = rng.choices(words, weights, k=8), rng.choices(words, weights, k=30)
        yield Issue(
            issue_id=f"h-{number}",
            title=" ".join(title).capitalize(),
            body=" ".join(body) + ".",
            source="jira",
            severity=Severity.P3,
            occurred_at=_FROM + timedelta(minutes=5 * number),
            service=f"s{number % 40}",
            component=f"c{number % 400}",
        )
        number += 1


def take(grouper: Grouper, issue: Issue) -> float:
    """Group an issue; milliseconds of CPU."""
    began = time.process_time()
    decision = grouper.assign(issue)
    grouper.link(decision.member(issue), exemplar=decision.exemplar, title=issue.title)
    return (time.process_time() - began) * 1e3


def main() -> None:
    """Print a line a size: p50 and p99 of the latest 500 reports before it, and the memory then."""
    threadpool_limits(1, user_api="blas")
    grouper, stream = Grouper("load"), reports(7)
    p50s: list[float] = []
    memory = 0.0
    for size, before in zip(SIZES, (0, *SIZES), strict=False):
        took = sorted([take(grouper, next(stream)) for _ in range(size - before)][-WINDOW:])
        p50s.append(took[WINDOW // 2])
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
        memory = resident if size == MEMORY_AT else memory
        print(
            f"grouping  {len(grouper.patterns):,} patterns: p50 {p50s[-1]:.2f} ms, p99 {took[WINDOW * 99 // 100]:.2f} ms"
            f" of CPU a report; {resident:.0f} MB",
            flush=True,
        )
    print(
        f"grouping  p50 {max(p50s):.2f} ms at most, {p50s[-1] / p50s[0]:.2f} times as much with {SIZES[-1]:,} patterns as"
        f" with {SIZES[0]:,}; {memory:.0f} MB with {MEMORY_AT:,}   [target p50 ≤ {P50_MS:g} ms, flat, ≤ {MEMORY_MB} MB]",
        flush=True,
    )


if __name__ == "__main__":
    main()
