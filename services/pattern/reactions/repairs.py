"""Which patterns' time to repair has to be measured anew, and the measuring, from the rows."""

from contracts import Event, Recorded, ingest, pattern, workspace
from contracts.generated.pattern import PatternStatus
from eventlog import Connection
from runtime.database import Pool

from ..commands import Decided, measure
from ..engine.grouping import Grouper
from ..state import has_ended
from . import loading

MAX_PATTERNS_AT_ONCE = 20
MAX_FAILURES = 2000
_UNSHOWN = (PatternStatus.CANDIDATE, PatternStatus.MERGED)


class Repairs:
    """The ends of issues that no mean time to repair takes account of yet, by workspace.

    What is noted here and lost in a crash is found again on the next start: every pattern with an ended issue is
    measured then.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._issues: dict[str, set[str]] = {}
        self._patterns: dict[str, set[str]] = {}

    def clear(self) -> None:
        """Forget everything, before a start."""
        self._issues.clear()
        self._patterns.clear()

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
            case workspace.WorkspaceErased():
                self._issues.pop(event.workspace_id, None)
                self._patterns.pop(event.workspace_id, None)
            case _:
                return

    async def measured(self, grouper: Grouper) -> list[Decided]:
        """What to say of at most 20 patterns of a workspace, each over its latest 2,000 failures."""
        workspace_id = grouper.workspace_id
        issues = sorted(self._issues.pop(workspace_id, ()))
        patterns = self._patterns.pop(workspace_id, set())
        if not issues and not patterns:
            return []
        decided: list[Decided] = []
        async with self._pool.connection() as conn:
            if issues:
                patterns.update(await loading.patterns_of(conn, workspace_id, issues))
            in_order = sorted(patterns)
            if in_order[MAX_PATTERNS_AT_ONCE:]:
                self._patterns[workspace_id] = set(in_order[MAX_PATTERNS_AT_ONCE:])
            for pattern_id in in_order[:MAX_PATTERNS_AT_ONCE]:
                found = grouper.patterns.get(pattern_id)
                if found is not None and found.status not in _UNSHOWN:
                    failures = await loading.failures(conn, workspace_id, pattern_id, n=MAX_FAILURES)
                    decided += measure(grouper, found, failures)
        return decided
