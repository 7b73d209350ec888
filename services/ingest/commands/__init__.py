"""What ingest can be asked to do: pure decisions; time and ids are passed in.

The menu: `canonical_report` + `report_issue`, `update_issue`, `close_issue`,
`comment_issue`, `start_analysis`, `record_analysis`, `expire_issue`, `purge_issue`,
`expire_prompts`.
Of connectors, in `commands.connectors`: `create_connector`, `configure_connector`, `authorize_connector`,
`delete_connector`, `stand`, `judge`; of their runs `request_run`, `progress_run`, `end_run`, `cancel_run`.
"""

from services.ingest.commands.analysis import record_analysis, start_analysis
from services.ingest.commands.change import close_issue, comment_issue, update_issue
from services.ingest.commands.report import (
    Change,
    ReportIssue,
    canonical_report,
    is_issue_id,
    is_late,
    is_time_alone,
    report_issue,
)
from services.ingest.commands.retire import counted_from, expire_issue, expire_prompts, purge_issue

__all__ = [
    "Change",
    "ReportIssue",
    "canonical_report",
    "close_issue",
    "comment_issue",
    "counted_from",
    "expire_issue",
    "expire_prompts",
    "is_issue_id",
    "is_late",
    "is_time_alone",
    "purge_issue",
    "record_analysis",
    "report_issue",
    "start_analysis",
    "update_issue",
]
