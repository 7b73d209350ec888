"""A pattern as it was: the fold of its own events."""

from collections.abc import Iterable
from datetime import datetime
from typing import assert_never

import msgspec
from contracts import Event, Recorded, pattern
from msgspec import Struct


class PatternState(Struct, frozen=True, kw_only=True):
    """What is known of a pattern after some of its events."""

    pattern_id: str
    name: str = ""
    status: pattern.PatternStatus = pattern.PatternStatus.CANDIDATE
    fingerprint: tuple[pattern.FingerprintDimension, ...] = ()
    assessment: pattern.Assessment
    detected_at: datetime | None = None
    updated_at: datetime
    status_reason: str | None = None
    closure_note: str | None = None
    closed_at: datetime | None = None
    merged_into: str | None = None
    sequence: int


def fold_pattern(events: Iterable[Recorded[Event]]) -> PatternState | None:
    """The pattern after these events of its own, oldest first; None before its first."""
    state: PatternState | None = None
    for event in events:
        state = evolve_pattern(state, event)
    return state


def evolve_pattern(state: PatternState | None, event: Recorded[Event]) -> PatternState | None:
    """The pattern after one more event; events of other aggregates change nothing."""
    match event.data:
        case pattern.IssuesLinked() as data if state is None:
            return PatternState(
                pattern_id=data.pattern_id,
                assessment=data.assessment,
                updated_at=event.recorded_at,
                sequence=event.seq,
            )
        case (
            pattern.IssuesLinked()
            | pattern.PatternDetected()
            | pattern.PatternDescribed()
            | pattern.PatternStatusChanged()
            | pattern.IssueUnlinked()
            | pattern.LinkConstrained()
            | pattern.PatternsMerged()
            | pattern.PatternSplit() as data
        ) if state is not None:
            moved = _moved(state, data, event.recorded_at)
            return msgspec.structs.replace(moved, updated_at=event.recorded_at, sequence=event.seq)
        case _:
            return state


def _moved(state: PatternState, data: pattern.Event, at: datetime) -> PatternState:
    match data:
        case pattern.PatternDetected():
            return msgspec.structs.replace(
                state,
                name=data.name,
                status=pattern.PatternStatus.EMERGING,
                fingerprint=data.fingerprint,
                assessment=data.assessment,
                detected_at=at,
            )
        case pattern.PatternDescribed():
            return msgspec.structs.replace(
                state, name=data.name, fingerprint=data.fingerprint, assessment=data.assessment
            )
        case pattern.PatternStatusChanged():
            return _restated(state, data, at)
        case (
            pattern.IssuesLinked()
            | pattern.IssueUnlinked()
            | pattern.PatternsMerged()
            | pattern.PatternSplit()
        ):
            return msgspec.structs.replace(state, assessment=data.assessment)
        case pattern.LinkConstrained():
            return state
        case never:
            assert_never(never)


def _restated(state: PatternState, data: pattern.PatternStatusChanged, at: datetime) -> PatternState:
    state = msgspec.structs.replace(state, status=data.to_status, status_reason=data.reason)
    if data.closure_note is None:
        return state
    return msgspec.structs.replace(state, closure_note=data.closure_note, closed_at=at)
