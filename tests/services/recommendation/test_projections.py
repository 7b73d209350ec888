"""The read model is a fold of the log: replayed, cut differently or rebuilt, it is the same."""

from datetime import timedelta

import psycopg
from contracts import Recorded, pattern, prediction, recommendation
from eventlog import EventLog
from msgspec.structs import replace
from testkit.builders import NOW, WORKSPACE, recorded
from testkit.laws import assert_projection_laws, assert_rebuild_equals_live, in_order, rows_after
from testkit.servers import Database

from services.recommendation.app import projection
from tests.services.recommendation.builders import (
    assessment,
    checked,
    described,
    detected,
    failed,
    fix_broken,
    fix_verified,
    fixed,
    forecast,
    linked,
    made,
    moved,
    on_fix,
    on_pattern,
    pattern_moved,
    playbook_story,
    proof_inputs,
    proof_started,
    reassessed,
    resolved,
    threshold,
)

STORY = [
    linked(),
    detected(),
    made(),
    made("alert-on-pool-saturation", recommendation_id="rec_2"),
    forecast(3, 12.0),
    forecast(3, 12.0, window_days=7),
    reassessed(14.0),
    linked(pattern_id="pat_2", severities=("p1", "p4")),
    linked(workspace_id="ws_other"),
    detected(workspace_id="ws_other"),
    threshold(0.4),
    threshold(0.55),
    described(known=assessment(count=9, days=40.0)),
    checked(0, True),
    checked(1, True),
    checked(0, False),
    moved("pending", "in_progress"),
    moved("in_progress", "implemented", at=NOW + timedelta(days=1)),
    on_pattern(
        pattern.PatternsMerged(
            target_pattern_id="pat_1", source_pattern_id="pat_2", assessment=assessment(count=11)
        )
    ),
    pattern_moved("active", "merged", pattern_id="pat_2"),
    on_pattern(pattern.IssueUnlinked(pattern_id="pat_1", issue_id="iss_1", assessment=assessment(count=10))),
    on_pattern(
        pattern.PatternSplit(
            pattern_id="pat_1", new_pattern_id="pat_3", issue_ids=("iss_2",), assessment=assessment(count=9)
        )
    ),
    on_pattern(
        pattern.LinkConstrained(
            pattern_id="pat_1", issue_id="iss_1", kind=pattern.ConstraintKind.CANNOT_LINK, grouping_key="k"
        )
    ),
    forecast(5, 33.25),
    pattern_moved("emerging", "active"),
    failed(1, 2, 3, version="2.3.0"),
    fixed(4, note="Sized it.", version="2.4.0"),
    fixed(4, before="watching", note="Sized it twice."),
    proof_started(),
    on_fix(recommendation.ProofNoted(fix_id="fix_1", pattern_id="pat_1", note="Sized it twice.")),
    on_fix(
        recommendation.ProofReassessed(
            fix_id="fix_1", pattern_id="pat_1", inputs=proof_inputs(n_residual=1, window_days=40.0)
        )
    ),
    fix_verified(50),
    fix_broken(60),
    resolved(probability=0.7, is_hit=True),
    resolved(probability=0.2, is_hit=False, number=1),
    *playbook_story(),
]


async def test_rows_do_not_depend_on_how_the_log_is_cut(database: Database) -> None:
    numbered = [replace(event, seq=seq) for seq, event in enumerate(STORY, start=1)]
    rows = await assert_projection_laws(projection(), numbered, database=database)
    assert [len(rows[table]) for table in ("patterns", "recommendations", "workspaces")] == [3, 2, 1]
    [merged] = [row for row in rows["patterns"] if ",pat_1,watching," in row and row.startswith("(ws_test,")]
    assert ",1,7,0,1," in merged  # links by severity, those of the merged pattern included
    assert "33.25" in merged
    assert "Sized it twice." in merged
    [proved] = rows["fixes"]
    assert ",broken," in proved and "Sized it twice." in proved
    moved_here = [row for row in rows["failures"] if ",pat_1," in row]
    assert any("2.3.0" in row for row in moved_here) and any("iss_pat_2_0" in row for row in moved_here)
    assert any(
        row.startswith("(ws_test,rec_1,") and ",implemented,14," in row and "[1]" in row
        for row in rows["recommendations"]
    )
    [settings] = rows["workspaces"]
    assert settings.startswith("(ws_test,0.55,,,,")
    assert len(rows["foretold"]) == 2
    [oil] = rows["plays"]
    assert '""holds"":0.5' in oil.replace("\\", "")
    assert ["0.2" in row for row in rows["abstentions"]] == [True]


async def test_rows_stay_the_same_once_forecasts_are_purged(database: Database) -> None:
    """The log without what the facts purged gives what was there: also of one that was prevented and never resolved."""
    prevented = recorded(
        prediction.PredictionFeedbackGiven(
            prediction_id="prd_2", outcome=prediction.Outcome.PREVENTED, note=""
        ),
        "prd_2",
        source="prediction",
    )
    first = in_order(
        resolved(probability=0.5, is_hit=True, number=1),
        prevented,
        resolved(probability=0.5, is_hit=False, number=3),
        resolved(probability=0.5, is_hit=True, number=4),
    )
    seqs = {event.aggregate_id: event.seq for event in first}
    events = in_order(
        *first,
        _purge("prd_2", seqs["prd_2"], None),
        _purge("prd_4", seqs["prd_4"], prediction.Outcome.HIT),
        _purge("prd_1", seqs["prd_1"], prediction.Outcome.HIT),
    )
    purged = {"prd_1", "prd_2", "prd_4"}
    live = await rows_after(projection(), [[event] for event in events], database=database, schema="live")
    left = [event for event in events if event.aggregate_id not in purged]
    assert await rows_after(projection(), [left], database=database, schema="replayed") == live
    assert len(live["foretold"]) == 4


def _purge(
    prediction_id: str, seq: int, outcome: prediction.Outcome | None
) -> Recorded[prediction.PredictionsPurged]:
    """The fact that a forecast that ended is gone."""
    purged = prediction.PurgedPrediction(
        prediction_id=prediction_id,
        pattern_id="pat_1",
        window_days=30,
        probability=0.5,
        model_probability=0.5,
        base_rate=0.3,
        is_base_rate_known=True,
        model="m",
        model_version="v",
        made_at=NOW,
        expires_at=NOW + timedelta(days=30),
        outcome=outcome,
        resolved_at=NOW,
        resolved_sequence=seq,
        is_prevented=outcome is None,
    )
    fact = prediction.PredictionsPurged(workspace_id=WORKSPACE, predictions=(purged,))
    return recorded(fact, WORKSPACE, source="prediction")


async def test_live_rows_equal_a_rebuild(database: Database, event_log: EventLog) -> None:
    await assert_rebuild_equals_live(projection(), STORY, database=database, event_log=event_log)
    with psycopg.connect(database.app_url, options="-c search_path=recommendation") as conn:
        assert conn.execute("SELECT count(*) FROM patterns").fetchone() == (0,), (
            "row-level security hides all"
        )
        conn.execute("SELECT set_config('app.current_workspace', 'ws_other', true)")
        assert conn.execute("SELECT count(*) FROM patterns").fetchone() == (1,)
