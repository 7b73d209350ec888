"""What was tried against a pattern, read from its moves."""

from datetime import timedelta

import pytest
from contracts import pattern
from testkit.builders import NOW

from services.gateway._queries import PatternMove
from services.gateway.routes.fixes import fixes_in
from tests.services.gateway import builders as b

Status = pattern.PatternStatus


def moved(to: Status, *, days: int, note: str | None = None, by: str | None = None) -> PatternMove:
    return PatternMove(
        pattern_id=b.PATTERN,
        seq=days,
        to_status=to.value,
        reason="A rule.",
        closure_note=note,
        moved_by=by,
        moved_at=NOW + timedelta(days=days),
    )


def test_each_fix_says_what_was_done_by_whom_and_how_it_ended() -> None:
    """One that was broken, one that was replaced, one that still is watched; what is between them is no fix."""
    fixes = fixes_in(
        [
            moved(Status.ACTIVE, days=0),
            moved(Status.WATCHING, days=1, note="Raised the limit.", by="usr_ann"),
            moved(Status.ACTIVE, days=4),
            moved(Status.WATCHING, days=5),
            moved(Status.WATCHING, days=6, by="usr_ben"),
            moved(Status.WATCHING, days=6, note="Sharded it.", by="usr_cem"),
        ]
    )
    assert [(fix.note, fix.started_by.id, fix.outcome, fix.quiet_days) for fix in fixes] == [
        ("Raised the limit.", "usr_ann", "recurred", 3.0),
        (None, None, "replaced", 1.0),
        ("Sharded it.", "usr_ben", "watching", None),
    ]


@pytest.mark.parametrize(
    ("later", "outcome", "quiet_days"),
    [
        ([], "held", 14.0),
        ([moved(Status.ACTIVE, days=30)], "recurred", 30.0),
        ([moved(Status.ACTIVE, days=30, by="usr_ann")], "reopened", 30.0),
        ([moved(Status.MERGED, days=30, by="usr_ann")], "held", 14.0),
    ],
)
def test_what_held_has_held_only_until_it_comes_back(
    later: list[PatternMove], outcome: str, quiet_days: float
) -> None:
    """A recurrence long after the proof breaks it all the same; a merge does not."""
    resolved = [moved(Status.WATCHING, days=0, note="Fixed."), moved(Status.RESOLVED, days=14)]
    (fix,) = fixes_in([*resolved, *later])
    assert (fix.outcome, fix.quiet_days) == (outcome, quiet_days)
