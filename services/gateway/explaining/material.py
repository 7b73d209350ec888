"""What explanations are made of, read from the rows: a bounded number of failures on each side."""

from datetime import datetime
from typing import Final

import msgspec
from runtime.database import Pool, tenant

from services.gateway import _queries
from services.gateway.engine.evidence import Explanation, Failure, explain, explain_one
from services.gateway.engine.redacting import Redaction, redact

MEMBERS_MAX: Final = 100
OTHERS_MAX: Final = 600


async def explain_pattern(
    rows: Pool, workspace_id: str, pattern_id: str, *, known_at: datetime, redaction: Redaction | None = None
) -> Explanation | None:
    """What is known of a pattern's cause; None when no member is shown.

    known_at: when the pattern changed last. What was reported later takes no part, so that new failures elsewhere do not
        change it. Fields, and which pattern others are in, are as they are now.
    redaction: of every title before a word is taken from it, for evidence that leaves; None: of nothing.
    """
    async with tenant(rows, workspace_id) as conn:
        members = await _queries.list_member_failures(
            conn, workspace_id=workspace_id, pattern_id=pattern_id, at_most=MEMBERS_MAX
        )
        latest = await _queries.list_latest_failures(
            conn, workspace_id=workspace_id, known_at=known_at, at_most=OTHERS_MAX
        )
    if not members:
        return None
    return explain(
        [_failure(row, redaction) for row in members],
        [_failure(row, redaction) for row in latest if row.pattern_id != pattern_id],
    )


async def explain_issue(
    rows: Pool, workspace_id: str, issue: Failure, *, redaction: Redaction | None = None
) -> Explanation:
    """What is known of the cause of an issue that is in no shown pattern. redaction: as for a pattern's."""
    async with tenant(rows, workspace_id) as conn:
        around = await _queries.list_failures_around(
            conn, workspace_id=workspace_id, occurred_at=issue.occurred_at, at_most=OTHERS_MAX
        )
    return explain_one(issue, [_failure(row, redaction) for row in around if row.issue_id != issue.issue_id])


def _failure(row: _queries.FailureRow, redaction: Redaction | None) -> Failure:
    failure = Failure(**msgspec.structs.asdict(row))
    if redaction is None:
        return failure
    name = failure.pattern_name
    return msgspec.structs.replace(
        failure,
        title=redact(failure.title, redaction),
        pattern_name=None if name is None else redact(name, redaction),
    )
