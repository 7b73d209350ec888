"""Changes that a person or a program asks for by the issue's id."""

from datetime import datetime

from contracts import ingest

from services.ingest.commands.canonical import (
    COMMENT_LENGTH_MAX,
    REASON_LENGTH_MAX,
    SEVERITIES,
    STATUSES,
    Cleaner,
    slug,
)
from services.ingest.commands.report import Change, delta, is_in_group
from services.ingest.errors import InvalidIssueError, IssueNotFoundError
from services.ingest.state import OPTIONAL_FIELDS, Issue

FINAL_STATUSES = (ingest.IssueStatus.RESOLVED, ingest.IssueStatus.CLOSED, ingest.IssueStatus.WONT_FIX)
"""The statuses that work on an issue can end with."""


def update_issue(cmd: ingest.UpdateIssue, state: Issue | None, *, now: datetime) -> Change | None:
    """The fields that the command changes; None when the issue is already so.

    Raises IssueNotFoundError, and InvalidIssueError with every field that is wrong.
    """
    if state is None:
        raise IssueNotFoundError(cmd.issue_id)
    event = delta(state, _wanted(cmd, state, Cleaner(now=now)))
    return None if event is None else Change(event, now)


def close_issue(cmd: ingest.CloseIssue, state: Issue | None, *, now: datetime) -> Change | None:
    """The end of work on an issue; None when it already ended so.

    Raises IssueNotFoundError, and InvalidIssueError for a status that ends nothing.
    """
    if state is None:
        raise IssueNotFoundError(cmd.issue_id)
    clean = Cleaner(now=now)
    reason = clean.text("reason", cmd.reason, length_max=REASON_LENGTH_MAX)
    if cmd.status not in FINAL_STATUSES:
        clean.problems["status"] = f"{cmd.status.value} ends nothing; use one of {', '.join(FINAL_STATUSES)}"
    if clean.problems:
        raise InvalidIssueError(clean.problems)
    if state.content.status == cmd.status:
        return None
    return Change(ingest.IssueClosed(issue_id=cmd.issue_id, status=cmd.status, reason=reason), now)


def comment_issue(
    cmd: ingest.CommentIssue, *, author_id: str | None, comment_id: str, now: datetime
) -> ingest.IssueCommented:
    """What somebody says about an issue, whatever its state.

    Raises InvalidIssueError for an empty or a too long text, and where nobody is the author.
    """
    clean = Cleaner(now=now)
    text = clean.text("text", cmd.text, length_max=COMMENT_LENGTH_MAX)
    if not text:
        clean.problems["text"] = "is empty; write something"
    if not author_id:
        clean.problems["author"] = "is missing; send the command in somebody's name"
    if clean.problems or not author_id:
        raise InvalidIssueError(clean.problems)
    return ingest.IssueCommented(issue_id=cmd.issue_id, comment_id=comment_id, author_id=author_id, text=text)


def _wanted(cmd: ingest.UpdateIssue, state: Issue, clean: Cleaner) -> dict[str, object]:
    """The new values by name, "" for a field to empty."""
    wanted: dict[str, object] = dict.fromkeys(_cleared(cmd, clean), "")
    for field in OPTIONAL_FIELDS:
        value = getattr(cmd, field)
        if value is not None:
            wanted[field] = clean.url(field, value) if field == "external_url" else clean.line(field, value)
    for field in ("title", "severity", "status"):
        value = getattr(cmd, field)
        if value is not None and not value.strip():
            clean.problems[field] = "is empty; leave it out to keep what there is"
    if cmd.title is not None:
        wanted["title"] = clean.line("title", cmd.title)
    if cmd.severity and "severity" not in clean.problems:
        wanted["severity"] = clean.one_of("severity", cmd.severity, SEVERITIES)
    if (
        cmd.status
        and "status" not in clean.problems
        and not is_in_group(state.content.status, slug(cmd.status))
    ):
        wanted["status"] = clean.one_of("status", cmd.status, STATUSES)
    if cmd.body is not None:
        wanted["body"] = clean.text("body", cmd.body)
    if cmd.metadata is not None:
        wanted["metadata"] = clean.metadata(cmd.metadata)
    if clean.problems:
        raise InvalidIssueError(clean.problems)
    return wanted


def _cleared(cmd: ingest.UpdateIssue, clean: Cleaner) -> list[str]:
    """The names in `cleared`, once each."""
    names = list(dict.fromkeys(cmd.cleared))
    for name in names:
        if name not in OPTIONAL_FIELDS:
            clean.problems["cleared"] = (
                f"{name[:40]!r} cannot be emptied; only {', '.join(OPTIONAL_FIELDS)} can"
            )
        elif getattr(cmd, name) is not None:
            clean.problems["cleared"] = f"{name!r} is also given a value; send one or the other"
    return names
