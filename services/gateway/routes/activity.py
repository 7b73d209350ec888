"""What happened to an issue, and what people say about it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from contracts import Event, Recorded, ingest, pattern
from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway import _queries
from services.gateway.listing import Condition, Listing, SortKey
from services.gateway.routes.issues import LISTING
from services.gateway.routes.operation import (
    Accepted,
    AnyOperation,
    Call,
    Deed,
    Gateway,
    NoQuery,
    Operation,
)
from services.gateway.routes.pages import (
    ListQuery,
    PageInfo,
    carry_out,
    list_page,
    page_info,
    read_one,
    shown,
)
from services.gateway.routes.timeline import Timeline, summary_of, timeline_page
from services.gateway.vocabulary import VISIBLE

Text = Annotated[str, Meta(min_length=1, max_length=10_000, pattern=VISIBLE, description="Text or Markdown.")]


class CommentRow(Struct, frozen=True):
    """One row of comments."""

    comment_id: str
    issue_id: str
    seq: int
    author_id: str
    text: str
    created_at: datetime


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


class CommentQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Order of the comments."""

    sort: Literal["created_at", "-created_at"] = "-created_at"


COMMENTS = Listing(
    name="comments",
    view="comments",
    row=CommentRow,
    key="comment_id",
    sorts={"created_at": SortKey("created_at", "timestamptz")},
    default_sort="-created_at",
)


async def get_activity(gateway: Gateway, call: Call[ListQuery, None]) -> Timeline:
    """What happened to an issue, newest first, with the link to the pattern that it is in."""
    issue_id = call.path["issue_id"]
    await read_one(gateway, call.workspace_id, LISTING, issue_id)
    history = await gateway.resources.event_log.history(call.workspace_id, "issue", issue_id)
    linked = await _link(gateway, call.workspace_id, issue_id)
    events = sorted([*history, *linked], key=lambda event: event.seq)
    return timeline_page(
        events,
        call.query,
        secret=gateway.secret,
        scope=f"{call.workspace_id}/{issue_id}/activity",
        tell=lambda data: _told_of(issue_id, data),
    )


async def list_comments(gateway: Gateway, call: Call[CommentQuery, None]) -> CommentPage:
    """A page of what people say about an issue."""
    issue_id = call.path["issue_id"]
    await read_one(gateway, call.workspace_id, LISTING, issue_id)
    mine = [Condition("issue_id = {value}", issue_id)]
    found = await list_page(gateway, call, COMMENTS, conditions=mine, of=issue_id)
    return CommentPage(data=shown(found, _present), page=page_info(found))


async def add_comment(gateway: Gateway, call: Call[NoQuery, NewComment]) -> Comment:
    """Say something about an issue."""
    issue_id = call.path["issue_id"]
    request = ingest.CommentIssue(issue_id=issue_id, text=call.body.text)
    location = f"/v1/issues/{issue_id}/comments"
    _, added = await carry_out(
        gateway, call, LISTING, request, reply=ingest.IssueCommentAdded, location=location
    )
    return _present(await read_one(gateway, call.workspace_id, COMMENTS, added.comment.comment_id))


def _present(row: CommentRow) -> Comment:
    return Comment(
        id=row.comment_id,
        issue_id=row.issue_id,
        author_id=row.author_id,
        text=row.text,
        created_at=row.created_at,
    )


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
        query=CommentQuery,
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
        replies={201: Comment, 202: Accepted},
        refusals=(409, 422),
        deed=Deed("issue.commented", "create", "issue", "issue_id"),
        handle=add_comment,
    ),
)
