"""Issues like one: what happened before that looks the same, or the reason why there is nothing."""

from typing import Annotated, Final, Literal

from contracts import pattern
from contracts.generated.pattern import LinkMethod, NothingSimilar
from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway import _queries
from services.gateway.routes.issues import LISTING
from services.gateway.routes.membership import Score
from services.gateway.routes.operation import AnyOperation, Call, Gateway, Operation, command
from services.gateway.routes.pages import read_one
from services.gateway.vocabulary import LABELS, IssueStatus, Severity, SeverityLabel

LIMIT_MAX: Final = 20


class SimilarQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many."""

    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX, description="Issues at most.")] = 3


class Similar(Struct, frozen=True, kw_only=True):
    """An issue like the one that was asked about, and why it counts as such."""

    issue_id: str
    title: str
    severity: Severity
    severity_label: SeverityLabel
    status: IssueStatus
    pattern_id: Annotated[str | None, Meta(description="The pattern that it is in, once that is detected.")]
    similarity: Score
    method: LinkMethod
    method_version: str
    matched_dimensions: Annotated[tuple[str, ...], Meta(description="On which both issues agree.")]
    because: str


class NoneSimilar(Struct, frozen=True, kw_only=True):
    """Why there is nothing."""

    code: Literal["alone", "no_text", "below_threshold", "deleted"]
    message: str


class SimilarIssues(Struct, frozen=True, kw_only=True):
    """The issues nearest to one, most alike first; never an empty list without the reason."""

    data: tuple[Similar, ...]
    reason: Annotated[NoneSimilar | None, Meta(description="Why `data` is empty; null: it is not.")]
    least_similarity: Annotated[Score, Meta(description="What counts as similar.")]
    nearest_similarity: Annotated[
        Score | None, Meta(description="Of the nearest text; null: the issue has no text to compare.")
    ]
    compared: Annotated[
        int, Meta(ge=0, description="Texts that there are to compare with: a few of each pattern.")
    ]


async def list_similar(gateway: Gateway, call: Call[SimilarQuery, None]) -> SimilarIssues:
    """The issues nearest to one."""
    issue_id = call.path["issue_id"]
    await read_one(gateway, call.workspace_id, LISTING, issue_id)
    request = pattern.FindSimilar(issue_id=issue_id, limit=call.query.limit)
    found = await command(gateway, call.principal, request, reply=pattern.SimilarFound)
    async with tenant(gateway.pool, call.workspace_id) as conn:
        rows = await _queries.find_issues(
            conn, workspace_id=call.workspace_id, issue_ids=[each.issue_id for each in found.issues]
        )
    known = {row.issue_id: row for row in rows}
    data = tuple(_present(each, known[each.issue_id]) for each in found.issues if each.issue_id in known)
    return SimilarIssues(
        data=data,
        reason=None if data else _reason(found),
        least_similarity=found.least_similarity,
        nearest_similarity=found.nearest_similarity,
        compared=found.compared_count,
    )


def _present(found: pattern.SimilarIssue, row: _queries.IssueInBrief) -> Similar:
    dimensions = ", ".join(name.replace("_", " ") for name in found.matched_dimensions)
    what = {
        LinkMethod.EXACT_KEY: "The same masked title and service",
        LinkMethod.DIMENSION_KEY: "No text, and the same dimensions",
    }.get(found.method, f"Texts alike by {found.similarity:.2f}")
    return Similar(
        issue_id=found.issue_id,
        title=row.title,
        severity=row.severity,  # type: ignore[arg-type]  # p1 … p4
        severity_label=LABELS[row.severity],
        status=row.status,  # type: ignore[arg-type]  # one of the vocabulary
        pattern_id=row.pattern_id,
        similarity=found.similarity,
        method=found.method,
        method_version=found.method_version,
        matched_dimensions=found.matched_dimensions,
        because=f"{what}{'; the same ' + dimensions if dimensions else ''}.",
    )


def _reason(found: pattern.SimilarFound) -> NoneSimilar:
    match found.reason:
        case NothingSimilar.ALONE:
            return NoneSimilar(code="alone", message="The workspace has no other issue yet.")
        case NothingSimilar.NO_TEXT:
            return NoneSimilar(
                code="no_text",
                message="The issue has no text to compare, and no other issue of its pattern has the same dimensions.",
            )
        case NothingSimilar.BELOW_THRESHOLD:
            nearest = found.nearest_similarity or 0.0
            return NoneSimilar(
                code="below_threshold",
                message=f"Of {found.compared_count} texts the nearest is alike by {nearest:.2f};"
                f" {found.least_similarity:.2f} is the least that counts.",
            )
        case None:
            return NoneSimilar(code="deleted", message="What was similar has been deleted since.")


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="listSimilarIssues",
        method="GET",
        path="/v1/issues/{issue_id}/similar",
        tag="Issues",
        summary="See the issues nearest to one, with the reasons, or the reason why there is none.",
        description="First issues of its pattern that count as the same failure, newest first, then those with the"
        " nearest text. 503: nothing groups issues at the moment; ask again.",
        scope="issues:read",
        query=SimilarQuery,
        replies={200: SimilarIssues},
        handle=list_similar,
    ),
)
