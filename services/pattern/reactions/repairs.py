"""Which patterns' time to repair has to be measured anew, and the lives of their issues, from the rows."""

import asyncio
from datetime import datetime, timedelta

from contracts import Event, Recorded, ingest, pattern, workspace
from contracts.generated.pattern import PatternStatus
from eventlog import Connection
from msgspec import Struct
from runtime.database import Pool

from ..engine.repairing import Failure
from ..state import has_ended
from . import loading

MAX_PATTERNS_AT_ONCE = 10
MAX_FAILURES = 2000
# Ends come in bursts; one measurement is enough for each.
_EVERY = timedelta(seconds=10)


class Lives(Struct, frozen=True):
    """The latest 2,000 failures of a pattern, in order of occurrence."""

    workspace_id: str
    pattern_id: str
    failures: list[Failure]


class Repairs:
    """The ends of issues that no mean time to repair takes account of yet, by workspace.

    They are read beside grouping, a few of all workspaces at once and these in turn. What is noted here and lost in a
    crash is found again on the next start: every pattern with an ended issue is measured then.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._issues: dict[str, set[str]] = {}
        self._patterns: dict[str, set[str]] = {}
        self._reading: asyncio.Task[list[Lives]] | None = None
        self._begun_at: datetime | None = None

    def clear(self) -> None:
        """Forget everything, before a start."""
        self._issues.clear()
        self._patterns.clear()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    async def load(self, conn: Connection, workspace_id: str) -> None:
        """Have all patterns of a workspace measured that have an issue which ended."""
        found = await loading.with_ends(conn, workspace_id)
        if found:
            self._patterns.setdefault(workspace_id, set()).update(found)

    def note(self, event: Recorded[Event]) -> None:
        """Take in what ends issues, opens them again or moves them."""
        match event.data:
            case ingest.IssueUpdated() | ingest.IssueClosed() as data if data.status is not None:
                self._issues.setdefault(event.workspace_id, set()).add(data.issue_id)
            case ingest.IssueReported() as data if has_ended(data.status):
                self._issues.setdefault(event.workspace_id, set()).add(data.issue_id)
            case pattern.PatternStatusChanged() as data if data.to_status is PatternStatus.WATCHING:
                self._patterns.setdefault(event.workspace_id, set()).add(data.pattern_id)
            case pattern.PatternsMerged() as data:
                self._patterns.setdefault(event.workspace_id, set()).add(data.target_pattern_id)
            case pattern.IssueUnlinked() as data:
                self._patterns.setdefault(event.workspace_id, set()).add(data.pattern_id)
            case pattern.PatternSplit() as data:
                self._patterns.setdefault(event.workspace_id, set()).update(
                    (data.pattern_id, data.new_pattern_id)
                )
            case workspace.WorkspaceErased():
                self._issues.pop(event.workspace_id, None)
                self._patterns.pop(event.workspace_id, None)
            case _:
                return

    def read(self, *, now: datetime) -> list[Lives]:
        """What has been read since the last time, of at most ten patterns; the next are begun to be read, without waiting.

        Raises what the reading raised.
        """
        found: list[Lives] = []
        if self._reading is not None:
            if not self._reading.done():
                return []
            reading, self._reading = self._reading, None
            found = reading.result()
        is_due = self._begun_at is None or not timedelta(0) <= now - self._begun_at < _EVERY
        if self._patterns or (self._issues and is_due):
            self._begun_at = now
            self._reading = asyncio.create_task(self._read())
        return found

    async def _read(self) -> list[Lives]:
        async with self._pool.connection() as conn:
            while self._issues:
                workspace_id, issues = self._issues.popitem()
                patterns = await loading.patterns_of(conn, workspace_id, sorted(issues))
                if patterns:
                    self._patterns.setdefault(workspace_id, set()).update(patterns)
            return [
                Lives(each, pattern_id, await loading.failures(conn, each, pattern_id, n=MAX_FAILURES))
                for each, pattern_id in self._in_turn()
            ]

    def _in_turn(self) -> list[tuple[str, str]]:
        """At most ten patterns, one of each workspace in turn; they are due no more."""
        taken: list[tuple[str, str]] = []
        while self._patterns and len(taken) < MAX_PATTERNS_AT_ONCE:
            workspace_id = next(iter(self._patterns))
            left = self._patterns.pop(workspace_id)
            pattern_id = min(left)
            left.remove(pattern_id)
            taken.append((workspace_id, pattern_id))
            if left:
                self._patterns[workspace_id] = left
        return taken
