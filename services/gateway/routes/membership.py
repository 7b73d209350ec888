"""Why an issue is in its pattern, in the words of every answer that shows it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from contracts.generated.pattern import LinkMethod
from msgspec import Meta, Struct

Score = Annotated[float, Meta(ge=0, le=1)]
_METHODS: Final = {
    LinkMethod.SEED: "It is the first issue of the pattern",
    LinkMethod.EXACT_KEY: "It has the same masked title and service as an earlier member",
    LinkMethod.TEXT_SIMILARITY: "Its text is like that of an earlier member",
    LinkMethod.DIMENSION_KEY: "It has no text to compare, and the same dimensions as an earlier member",
    LinkMethod.HUMAN: "A person put it there",
}


class Decider(Struct, frozen=True, kw_only=True):
    """Who decided something."""

    kind: Literal["engine", "person"]
    id: Annotated[str | None, Meta(description="The person's or service account's id; null: the engine.")]


class Merging(Struct, frozen=True, kw_only=True):
    """The merge by which a member came to the pattern that it is in now."""

    from_pattern_id: Annotated[str, Meta(description="Where the method put it.")]
    decided_by: Decider
    merged_at: datetime


class Reasons(Struct, frozen=True, kw_only=True):
    """What every explanation of a membership says."""

    similarity: Annotated[Score, Meta(description="Certainty of the membership.")]
    method: LinkMethod
    method_version: Annotated[str, Meta(description="Dated; the same version decides the same.")]
    matched_dimensions: Annotated[
        tuple[str, ...], Meta(description="On which the issue agreed with the pattern when it was linked.")
    ]
    decided_by: Decider
    linked_at: datetime
    merged: Annotated[Merging | None, Meta(description="Null: it is where the method put it.")]
    because: Annotated[str, Meta(description="All of this in a sentence.")]


class Membership(Reasons, frozen=True, kw_only=True):
    """The pattern that an issue is in, and why."""

    pattern_id: str


def decider(actor: str | None) -> Decider:
    """Who an event's actor is."""
    return Decider(kind="engine" if actor is None else "person", id=actor)


def matched(names: str) -> tuple[str, ...]:
    """The names of dimensions, from a row's JSON list."""
    return msgspec.json.decode(names, type=tuple[str, ...])


def because(
    *,
    method: LinkMethod,
    version: str,
    score: float,
    dimensions: Sequence[str],
    decided_by: Decider,
    merged: Merging | None = None,
) -> str:
    """A membership, or a suggestion of one, explained in a sentence or two."""
    parts = [_METHODS[method]]
    if method is LinkMethod.HUMAN and decided_by.id is not None:
        parts = [f"{decided_by.id} put it there"]
    if dimensions:
        parts.append("agreeing on " + ", ".join(name.replace("_", " ") for name in dimensions))
    said = f"{'; '.join(parts)} (certainty {score:.2f}, {version})."
    if merged is not None:
        said += f" {merged.decided_by.id or 'The engine'} merged {merged.from_pattern_id}, where it was, into this."
    return said


def reasons(
    *,
    score: float,
    method: str,
    method_version: str,
    matched_dimensions: str,
    linked_at: datetime,
    linked_by: str | None,
    merged_from: str | None,
    merged_by: str | None,
    merged_at: datetime | None,
) -> dict[str, object]:
    """The fields of `Reasons`, from the columns of a member."""
    merged = None
    if merged_from is not None and merged_at is not None:
        merged = Merging(from_pattern_id=merged_from, decided_by=decider(merged_by), merged_at=merged_at)
    how, who, dimensions = LinkMethod(method), decider(linked_by), matched(matched_dimensions)
    return {
        "similarity": score,
        "method": how,
        "method_version": method_version,
        "matched_dimensions": dimensions,
        "decided_by": who,
        "linked_at": linked_at,
        "merged": merged,
        "because": because(
            method=how,
            version=method_version,
            score=score,
            dimensions=dimensions,
            decided_by=who,
            merged=merged,
        ),
    }
