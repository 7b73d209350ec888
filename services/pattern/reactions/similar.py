"""Which issues are nearest to one, and why none is."""

from typing import Final

from contracts import pattern
from contracts.generated.pattern import LinkMethod, NothingSimilar
from eventlog import Connection

from .. import _queries
from ..engine.grouping import DIMENSION_KEY_VERSION, EXACT_KEY_VERSION, Grouper
from ..engine.issues import Features, Issue, agreement_of, features_of
from ..engine.memory import Member
from . import loading

SIMILARITY_VERSION: Final = "tfidf-cosine@2026-11-22"
LEAST_SIMILARITY: Final = 0.3
"""Texts that are less alike have no more in common than any two reports of one system."""


async def nearest(conn: Connection, grouper: Grouper, issue: Issue, *, limit: int) -> pattern.SimilarFound:
    """Issues of its pattern with the same grouping key, newest first, then those with the most similar text.

    Texts are compared with those that stand for patterns, a few of each, so the cost does not grow with the issues.
    """
    workspace_id, features = grouper.workspace_id, features_of(issue)
    mates = await _mates(conn, workspace_id, issue, features, limit=limit)
    texts = {
        exemplar.issue_id: round(cosine, 4)
        for exemplar, cosine in grouper.alike(issue)
        if exemplar.issue_id not in mates and exemplar.issue_id != issue.issue_id
    }
    alike = {issue_id: cosine for issue_id, cosine in texts.items() if cosine >= LEAST_SIMILARITY}
    similarities = {**dict.fromkeys(mates, 1.0), **alike}
    chosen = dict(list(similarities.items())[:limit])
    rows = {
        row.issue_id: (row, member) for row, member in await loading.issues(conn, workspace_id, [*chosen])
    }
    found = tuple(
        _similar(issue, features, rows[issue_id], similarity=similarity, is_mate=issue_id in mates)
        for issue_id, similarity in chosen.items()
        if issue_id in rows
    )
    reason = None
    if not found:
        has_others = await _queries.has_others(conn, workspace_id=workspace_id, issue_id=issue.issue_id)
        reason = _reason(features, has_others=bool(has_others))
    return pattern.SimilarFound(
        issues=found,
        reason=reason,
        least_similarity=LEAST_SIMILARITY,
        nearest_similarity=max(texts.values(), default=0.0) if features.text else None,
        compared_count=len(grouper.exemplars),
    )


async def _mates(
    conn: Connection, workspace_id: str, issue: Issue, features: Features, *, limit: int
) -> list[str]:
    known = await loading.issues(conn, workspace_id, [issue.issue_id])
    member = known[0][1] if known else None
    if member is None or member.pattern_id is None:
        return []
    rows = await _queries.list_mates(
        conn,
        workspace_id=workspace_id,
        pattern_id=member.pattern_id,
        grouping_key=features.key,
        issue_id=issue.issue_id,
        n=limit,
    )
    return [row.issue_id for row in rows]


def _similar(
    issue: Issue,
    features: Features,
    row: tuple[Issue, Member | None],
    *,
    similarity: float,
    is_mate: bool,
) -> pattern.SimilarIssue:
    other, member = row
    pairs = zip(issue.dimensions, other.dimensions, strict=True)
    agreement = sum(1 << bit for bit, (mine, theirs) in enumerate(pairs) if mine and mine == theirs)
    method, version = LinkMethod.TEXT_SIMILARITY, SIMILARITY_VERSION
    if is_mate:
        method = LinkMethod.EXACT_KEY if features.text else LinkMethod.DIMENSION_KEY
        version = EXACT_KEY_VERSION if features.text else DIMENSION_KEY_VERSION
    return pattern.SimilarIssue(
        issue_id=other.issue_id,
        pattern_id=None if member is None else member.pattern_id,
        similarity=similarity,
        method=method,
        method_version=version,
        matched_dimensions=agreement_of(agreement),
    )


def _reason(features: Features, *, has_others: bool) -> NothingSimilar:
    if not has_others:
        return NothingSimilar.ALONE
    return NothingSimilar.BELOW_THRESHOLD if features.text else NothingSimilar.NO_TEXT
