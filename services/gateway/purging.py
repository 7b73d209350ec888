"""What becomes of the read model's rows when issues are purged."""

from typing import Any

import msgspec
from contracts import ingest, remainder_id
from psycopg import AsyncConnection

from services.gateway import _queries


async def purge(workspace_id: str, purged: ingest.IssuesPurged, conn: AsyncConnection[Any]) -> None:
    """Delete the issues and what was said of them; their patterns go on counting them, under other ids."""
    gone = [
        {
            "issue_id": each.issue_id,
            "last_sequence": each.last_sequence,
            "remainder_id": remainder_id(each.issue_id, each.last_sequence),
        }
        for each in purged.issues
    ]
    for statement in (
        _queries.purge_issues,
        _queries.purge_comments,
        _queries.purge_analyses,
        _queries.purge_suggestions,
        _queries.rename_members,
    ):
        await statement(conn, workspace_id=workspace_id, issues=msgspec.json.encode(gone).decode())
