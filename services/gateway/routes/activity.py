"""What happened to an issue, and what people say about it; both from the log itself."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from contracts import Event, Recorded, ingest, pattern
from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway import _queries
from services.gateway.routes.issues import LISTING
from services.gateway.routes.operation import (
    AnyOperation,
    Call,
    Gateway,
    NoQuery,
    Operation,
    command,
)
from services.gateway.routes.pages import ListQuery, PageInfo, read_one
from services.gateway.routes.timeline import Timeline, log_page, summary_of, timeline_page
from services.gateway.vocabulary import VISIBLE

Text = Annotated[str, Meta(min_length=1, max_length=10_000, pattern=VISIBLE, description="Text or Markdown.")]


class NewComment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to say."""

    text: Text


class Comment(Struct, frozen=True, kw_only=True):
    """What somebody said about an issue."""

    id: str
    issue_id: str
    author_id: Annotated[str, Meta(description="A person's or a service account's id.")]
    text: str
    created_at: datetime


class CommentPage(Struct, frozen=True, kw_only=True):
    """A page of comments."""

    data: tuple[Comment, ...]
    page: PageInfo


async def get_activity(gateway: Gateway, call: Call[ListQuery, None]) -> Timeline:
    """What happened to an issue, newest first, with the link to the pattern that it is in."""
    issue_id = call.path["issue_id"]
    history = await _history(gateway, call)
    linked = await _link(gateway, call.workspace_id, issue_id)
    events = sorted([*history, *linked], key=lambda event: event.seq)
    return timeline_page(
        events,
        call.query,
        secret=gateway.secret,
        scope=f"{call.workspace_id}/{issue_id}/activity",
        tell=lambda data: _told_of(issue_id, data),
    )


async def list_comments(gateway: Gateway, call: Call[ListQuery, None]) -> CommentPage:
    """What people say about an issue, newest first."""
    history = [
        event for event in await _history(gateway, call) if isinstance(event.data, ingest.IssueCommented)
    ]
    scope = f"{call.workspace_id}/{call.path['issue_id']}/comments"
    events, page = log_page(history, call.query, secret=gateway.secret, scope=scope)
    return CommentPage(
        data=tuple(
            _present(event.data, event.recorded_at)
            for event in events
            if isinstance(event.data, ingest.IssueCommented)
        ),
        page=page,
    )


async def add_comment(gateway: Gateway, call: Call[NoQuery, NewComment]) -> Comment:
    """Say something about an issue."""
    issue_id = call.path["issue_id"]
    await read_one(gateway, call.workspace_id, LISTING, issue_id)
    request = ingest.CommentIssue(issue_id=issue_id, text=call.body.text)
    added = await command(gateway, call.principal, request, reply=ingest.IssueCommentAdded)
    return _present(added.comment, added.commented_at)


def _present(comment: ingest.IssueCommented, at: datetime) -> Comment:
    return Comment(
        id=comment.comment_id,
        issue_id=comment.issue_id,
        author_id=comment.author_id,
        text=comment.text,
        created_at=at,
    )


async def _history(gateway: Gateway, call: Call[ListQuery, None]) -> Sequence[Recorded[Event]]:
    """An issue's events, oldest first. Raises NotFoundError."""
    issue_id = call.path["issue_id"]
    await read_one(gateway, call.workspace_id, LISTING, issue_id)
    return await gateway.resources.event_log.history(call.workspace_id, "issue", issue_id)


async def _link(gateway: Gateway, workspace_id: str, issue_id: str) -> Sequence[Recorded[Event]]:
    """The event that put an issue into the pattern that it is shown in; it is of the pattern, not of the issue."""
    async with tenant(gateway.pool, workspace_id) as conn:
        sequence = await _queries.get_link(conn, workspace_id=workspace_id, issue_id=issue_id)
    if sequence is None:
        return ()
    event_log = gateway.resources.event_log
    event = await event_log.event_at(event_log.partition_of(workspace_id), sequence)
    return () if event is None else (event,)


def _told_of(issue_id: str, data: Event) -> str:
    """An event in a sentence, from the issue's side."""
    if isinstance(data, pattern.IssuesLinked):
        for link in data.links:
            if link.issue_id == issue_id:
                return f"Linked to {data.pattern_id} ({link.method.value}, certainty {link.score:.2f})."
    return summary_of(data)


_ONE = "/v1/issues/{issue_id}"

OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="getIssueActivity",
        method="GET",
        path=f"{_ONE}/activity",
        tag="Issues",
        summary="See who changed what of an issue, newest first, from the log itself.",
        description="With the link to the pattern that it is in now; earlier links are in the histories of patterns.",
        scope="issues:read",
        query=ListQuery,
        replies={200: Timeline},
        handle=get_activity,
    ),
    Operation(
        id="listIssueComments",
        method="GET",
        path=f"{_ONE}/comments",
        tag="Issues",
        summary="List what people say about an issue, newest first.",
        scope="issues:read",
        query=ListQuery,
        replies={200: CommentPage},
        handle=list_comments,
    ),
    Operation(
        id="addIssueComment",
        method="POST",
        path=f"{_ONE}/comments",
        tag="Issues",
        summary="Say something about an issue.",
        description="Whoever holds the token is the author.",
        scope="issues:write",
        body=NewComment,
        replies={201: Comment},
        refusals=(409, 422),
        handle=add_comment,
    ),
)
