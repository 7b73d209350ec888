"""What people are asked and what they decided about memberships, from events to rows."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, assert_never

import msgspec
from contracts import Event, Recorded, pattern
from psycopg import AsyncConnection

from services.gateway import _queries

Row: TypeAlias = dict[str, object]
Question: TypeAlias = pattern.LinkSuggested | pattern.DecisionsContradicted | pattern.ContradictionAnswered
_Write: TypeAlias = Callable[..., Awaitable[None]]
_RANKS = 4
"""More than the suggestions of one event, so that each has a place of its own in a list."""


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


class Curation:
    """The rows of one batch; each row appears once, with the last word on each of its columns."""

    def __init__(self) -> None:
        self._suggestions: dict[tuple[str, str], Row] = {}
        self._answers: dict[tuple[str, str, str], Row] = {}
        self._overruled: dict[tuple[str, str, str], Row] = {}
        self._musts: dict[tuple[str, str], Row] = {}
        self._constraints: dict[tuple[str, str, str], Row] = {}
        self._contradictions: dict[tuple[str, str], Row] = {}
        self._choices: dict[tuple[str, str], Row] = {}

    def constrain(self, event: Recorded[Event], data: pattern.LinkConstrained) -> None:
        """A person's decision, which may be the answer to a suggestion."""
        space, key, must = event.workspace_id, data.grouping_key, pattern.ConstraintKind.MUST_LINK
        if data.kind is must:
            self._musts[space, key] = {"workspace_id": space, "grouping_key": key}
            for place, row in list(self._constraints.items()):
                if place[:2] == (space, key) and row["kind"] is must:
                    del self._constraints[place]
        self._constraints[space, key, data.pattern_id] = {
            "workspace_id": space,
            "grouping_key": key,
            "pattern_id": data.pattern_id,
            "seq": event.seq,
            "kind": data.kind,
            "issue_id": data.issue_id,
            "decided_by": event.actor,
            "decided_at": event.time,
        }
        answer: Row = {
            "workspace_id": space,
            "issue_id": data.issue_id,
            "pattern_id": data.pattern_id,
            "answer": "accepted" if data.kind is must else "rejected",
            "answered_by": event.actor,
            "answered_at": event.recorded_at,
        }
        self._answers.setdefault((space, data.issue_id, data.pattern_id), answer)

    def ask(self, event: Recorded[Event], data: Question) -> None:
        """A question to people, or the choice that they made."""
        match data:
            case pattern.LinkSuggested():
                self._suggest(event, data)
            case pattern.DecisionsContradicted():
                self._contradict(event, data)
            case pattern.ContradictionAnswered():
                self._choices[event.workspace_id, data.contradiction_id] = {
                    "workspace_id": event.workspace_id,
                    "contradiction_id": data.contradiction_id,
                    "kept": data.keep,
                    "answered_by": event.actor,
                    "answered_at": event.recorded_at,
                }
            case never:
                assert_never(never)

    async def write(self, conn: AsyncConnection[Any]) -> None:
        """Write all rows; what is answered after what is asked, what overrules after what it overrules."""
        statements: tuple[tuple[_Write, Mapping[Any, Row]], ...] = (
            (_queries.insert_suggestions, self._suggestions),
            (_queries.answer_suggestions, self._answers),
            (_queries.drop_constraints, self._overruled),
            (_queries.drop_musts, self._musts),
            (_queries.upsert_constraints, self._constraints),
            (_queries.insert_contradictions, self._contradictions),
            (_queries.answer_contradictions, self._choices),
        )
        for statement, rows in statements:
            if rows:
                await statement(conn, rows=_json(list(rows.values())))

    def _suggest(self, event: Recorded[Event], data: pattern.LinkSuggested) -> None:
        for rank, each in enumerate(data.suggestions[:_RANKS]):
            self._suggestions[event.workspace_id, each.suggestion_id] = {
                "workspace_id": event.workspace_id,
                "suggestion_id": each.suggestion_id,
                "seq": event.seq * _RANKS - rank,
                "issue_id": data.issue_id,
                "begun_pattern_id": data.pattern_id,
                "pattern_id": each.pattern_id,
                "score": each.score,
                "method": each.method,
                "method_version": each.method_version,
                "matched_dimensions": _json(each.matched_dimensions),
                "suggested_at": event.recorded_at,
            }

    def _contradict(self, event: Recorded[Event], data: pattern.DecisionsContradicted) -> None:
        space, key, earlier = event.workspace_id, data.grouping_key, data.earlier
        overruled = (space, key, earlier.pattern_id)
        self._constraints.pop(overruled, None)
        self._overruled[overruled] = {
            "workspace_id": space,
            "grouping_key": key,
            "pattern_id": earlier.pattern_id,
        }
        later = msgspec.structs.replace(data.later, decided_by=event.actor, decided_at=event.time)
        self._contradictions[space, data.contradiction_id] = {
            "workspace_id": space,
            "contradiction_id": data.contradiction_id,
            "seq": event.seq,
            "grouping_key": key,
            "pattern_id": data.pattern_id,
            "found_at": event.recorded_at,
            "earlier": _json(earlier),
            "later": _json(later),
            "earlier_kind": earlier.kind,
            "standing_pattern_id": earlier.pattern_id,
            "later_kind": later.kind if later.merged_pattern_id is None else None,
            "later_standing_pattern_id": later.pattern_id,
        }


async def follow_merge(
    conn: AsyncConnection[Any], workspace_id: str, *, target_pattern_id: str, source_pattern_id: str
) -> None:
    """Let decisions and contradictions about the source be about the target."""
    for move in (_queries.drop_shadowed_constraints, _queries.move_constraints, _queries.move_contradictions):
        await move(
            conn,
            workspace_id=workspace_id,
            target_pattern_id=target_pattern_id,
            source_pattern_id=source_pattern_id,
        )
