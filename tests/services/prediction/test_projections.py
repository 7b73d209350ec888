"""The rows: a pure fold of the log, however it is cut, and what they hold."""

from datetime import date, timedelta
from typing import Any

import psycopg
from contracts import Event, Recorded, pattern, prediction, workspace
from contracts.generated.ingest import Severity
from contracts.generated.pattern import ConstraintKind, PatternStatus
from contracts.generated.prediction import Outcome
from eventlog import EventLog
from msgspec.structs import replace
from psycopg.rows import dict_row
from runtime import database as databases
from testkit.laws import assert_projection_laws, assert_rebuild_equals_live, in_order, rows_after
from testkit.servers import Database

from services.prediction.commands import expire_prediction, purge_prediction
from services.prediction.engine.gamma_poisson import MIXED
from services.prediction.engine.scoring import Score, brier_nano
from services.prediction.projections import PROJECTION
from services.prediction.reactions.reading import load_tallies

from .conftest import WORKSPACE, assessment, at, detected, envelope, linked, moved


def made(
    name: str, pattern_id: str, window: int, probability: float = 0.4, *, n_resolved: int = 2
) -> prediction.PredictionMade:
    return prediction.PredictionMade(
        prediction_id=name,
        pattern_id=pattern_id,
        window_days=window,
        probability=probability,
        lower=0.1,
        upper=0.7,
        impact=prediction.Impact.HIGH,
        likely_trigger="",
        model="gamma_poisson",
        model_version=MIXED.version,
        inputs=prediction.ForecastInputs(
            n_recurrences=3,
            exposure_days=30.0,
            quiet_days=2.0,
            prior_shape=MIXED.shape,
            prior_rate_days=MIXED.rate_days,
            base_rate=0.5,
            n_resolved=n_resolved,
            basis=prediction.ForecastBasis(
                n_events=5,
                episode_quiet_days=2.0,
                gap_weight=1.0,
                gap_sum=1.0,
                gap_square=1.0,
                last_gap_days=3.0,
                model_probability=0.3,
                gamma_poisson=0.3,
                model_id="",
                bucket_n=0,
                bucket_hits=0,
            ),
        ),
        expires_at=at(window),
        low_confidence=False,
    )


def fitted(name: str, n_active: int) -> prediction.ModelFitted:
    window = prediction.FittedWindow(
        window_days=7, n_outcomes=40, n_hits=8, mix=(0.1,) * 8, regression=(0.0,) * 23
    )
    return prediction.ModelFitted(
        model_id=name, version="test@2026-11-22", n_active=n_active, rates=(1.0,) * 5, windows=(window,)
    )


def resolved(name: str, pattern_id: str, outcome: Outcome) -> prediction.PredictionResolved:
    return prediction.PredictionResolved(
        prediction_id=name,
        pattern_id=pattern_id,
        outcome=outcome,
        brier=0.36,
        window_days=7,
        probability=0.4,
    )


def story() -> list[Recorded[Event]]:
    """Two workspaces, all kinds of events, corrections between links."""
    happened: list[tuple[str, Event]] = [
        ("ws_one", workspace.WorkspaceCreated(workspace_id="ws_one", slug="one", name="One", timezone="UTC")),
        ("pat_a", linked("pat_a", at(-3), at(-2.99), n_issues=2)),
        ("pat_a", linked("pat_a", at(-2), at(-1), at(-1), n_issues=5, severity=Severity.P1)),
        ("pat_a", detected("pat_a", 5)),
        ("prd_1", made("prd_1", "pat_a", 7)),
        ("prd_2", made("prd_2", "pat_a", 30)),
        (
            "prd_2",
            prediction.AlertFired(
                prediction_id="prd_2", pattern_id="pat_a", window_days=30, probability=0.4, threshold=0.3
            ),
        ),
        ("pat_b", linked("pat_b", at(-1.5), at(-0.5), n_issues=2)),
        (
            "pat_a",
            pattern.IssueUnlinked(
                pattern_id="pat_a", issue_id="iss_pat_a_0227T120000", assessment=assessment(4)
            ),
        ),
        ("pat_a", linked("pat_a", at(-0.1), n_issues=5)),
        (
            "pat_a",
            pattern.LinkConstrained(
                pattern_id="pat_a", issue_id="iss_x", kind=ConstraintKind.CANNOT_LINK, grouping_key="key"
            ),
        ),
        ("pat_b", detected("pat_b", 2)),
        ("prd_1", resolved("prd_1", "pat_a", Outcome.HIT)),
        ("prd_3", made("prd_3", "pat_b", 7, 0.8)),
        ("prd_3", resolved("prd_3", "pat_b", Outcome.MISS)),
        (
            "prd_3",
            prediction.PredictionFeedbackGiven(
                prediction_id="prd_3", outcome=Outcome.PREVENTED, note="patched"
            ),
        ),
        ("prd_1", prediction.PredictionDismissed(prediction_id="prd_1", reason="")),
        (
            "pat_a",
            pattern.PatternSplit(
                pattern_id="pat_a",
                new_pattern_id="pat_c",
                issue_ids=("iss_pat_a_0228T120000",),
                assessment=assessment(4),
            ),
        ),
        ("pat_c", linked("pat_c", at(-2), n_issues=1, issue="pat_a")),
        ("pat_c", detected("pat_c", 1)),
        (
            "pat_a",
            pattern.PatternsMerged(
                target_pattern_id="pat_a", source_pattern_id="pat_b", assessment=assessment(6)
            ),
        ),
        ("pat_b", moved("pat_b", PatternStatus.EMERGING, PatternStatus.MERGED)),
        ("pat_a", linked("pat_a", at(-0.05), n_issues=7)),
        ("pat_a", moved("pat_a", PatternStatus.EMERGING, PatternStatus.ACTIVE)),
        ("ws_one", workspace.WorkspaceSettingsChanged(workspace_id="ws_one", alert_probability=0.5)),
        ("mdl_1", fitted("mdl_1", 3)),
        ("mdl_2", fitted("mdl_2", 4)),
        ("pat_c", pattern.PatternDescribed(pattern_id="pat_c", name="Renamed", assessment=assessment(1))),
    ]
    return [envelope(data, aggregate_id) for aggregate_id, data in happened]


async def test_rows_do_not_depend_on_how_the_log_is_cut(database: Database) -> None:
    """One batch, one by one, or anything between: the same rows."""
    await assert_projection_laws(PROJECTION, story(), database=database)


async def test_a_rebuild_equals_the_live_rows(database: Database, event_log: EventLog) -> None:
    """Thrown away and replayed: byte for byte."""
    await assert_rebuild_equals_live(PROJECTION, story(), database=database, event_log=event_log)


async def test_rows_hold_what_the_events_say(database: Database, event_log: EventLog) -> None:
    """Counts after corrections, scores without what was prevented, settings, and no row for another workspace."""
    await assert_rebuild_equals_live(PROJECTION, story(), database=database, event_log=event_log)
    patterns = {row["pattern_id"]: row for row in await _table(database, "patterns")}
    assert (patterns["pat_a"]["status"], patterns["pat_a"]["n_issues"]) == ("active", 7)
    assert (patterns["pat_b"]["status"], patterns["pat_b"]["merged_into"]) == ("merged", "pat_a")
    assert patterns["pat_c"]["name"] == "Renamed"
    assert patterns["pat_a"]["forecast_n_issues"] == 5
    hours = await _table(database, "occurrences")
    assert sum(row["n_issues"] for row in hours if row["pattern_id"] == "pat_a") == 7
    assert {row["pattern_id"] for row in hours} == {"pat_a", "pat_c"}
    (score,) = [row for row in await _table(database, "scores") if row["n_resolved"]]
    assert (score["bin"], score["n_resolved"], score["n_hits"]) == (4, 1, 1)
    assert score["ended_on"] == date(2026, 3, 9)
    assert score["brier_nano"] == brier_nano(0.3, is_hit=True)
    assert score["base_nano"] == brier_nano(0.5, is_hit=True)
    (fitted,) = await _table(database, "models")
    assert (fitted["model_id"], fitted["model"]["n_active"]) == ("mdl_2", 4)
    (setting,) = await _table(database, "workspaces")
    assert (setting["timezone"], setting["alert_probability"]) == ("UTC", 0.5)
    assert [row["window_days"] for row in await _table(database, "outlooks")] == [7, 30]


async def test_a_hit_counts_no_sooner_than_a_miss_of_the_same_age(
    database: Database, event_log: EventLog
) -> None:
    """Both from the end of their window and the grace on; the first, when nobody knew a base rate, not in the skill."""
    log: list[tuple[str, Event]] = [
        ("prd_1", made("prd_1", "pat_a", 7, 0.4, n_resolved=0)),
        ("prd_2", made("prd_2", "pat_a", 7, 0.4)),
        ("prd_3", replace(made("prd_3", "pat_a", 7, 0.4), expires_at=at(12))),
        ("prd_1", resolved("prd_1", "pat_a", Outcome.HIT)),
        ("prd_2", resolved("prd_2", "pat_a", Outcome.MISS)),
        ("prd_3", resolved("prd_3", "pat_a", Outcome.HIT)),
    ]
    events = [envelope(data, aggregate_id) for aggregate_id, data in log]
    await assert_rebuild_equals_live(PROJECTION, events, database=database, event_log=event_log)
    pool = databases.pool(database.projector_url, schema="prediction", max_size=1)
    async with pool, pool.connection() as conn:

        async def record(days: float) -> Score | None:
            found = await load_tallies(conn, [WORKSPACE], now=at(days), grace=timedelta(days=1))
            return found[WORKSPACE][7].score if found else None

        assert await record(0) is None
        assert await record(8) is None
        ended = await record(9)
        assert ended is not None
        assert (ended.n_resolved, ended.n_hits, ended.span_days) == (2, 1, 0)
        assert ended.base_nano == brier_nano(0.5, is_hit=False)
        # Of the days on which windows ended, however long ago that was.
        both = await record(40)
        assert both is not None
        assert (both.n_resolved, both.n_hits, both.span_days) == (3, 2, 5)


PURGED = {"prd_1", "prd_3", "prd_4"}


def purged_story() -> list[Recorded[Event]]:
    """The story, and the end of a hit, of a miss that was called prevented afterwards, and of what was prevented: each
    expires first."""
    happened: list[tuple[str, Event]] = [
        ("prd_4", made("prd_4", "pat_a", 7)),
        (
            "prd_4",
            prediction.PredictionFeedbackGiven(prediction_id="prd_4", outcome=Outcome.PREVENTED, note=""),
        ),
        ("prd_5", made("prd_5", "pat_a", 7)),
        ("prd_6", made("prd_6", "pat_b", 7)),
    ]
    expired = [prediction.PredictionExpired(prediction_id=name) for name in sorted(PURGED)]
    events = in_order(
        *story(),
        *(envelope(data, aggregate_id) for aggregate_id, data in happened),
        *(envelope(data, data.prediction_id, time=at(8)) for data in expired),
    )
    kept = []
    for name in sorted(PURGED):
        history = [event for event in events if event.aggregate_id == name]
        remains = purge_prediction(history, expired_before=at(9))
        assert remains is not None
        kept.append(remains)
    fact = prediction.PredictionsPurged(workspace_id=WORKSPACE, predictions=tuple(kept))
    return in_order(*events, envelope(fact, WORKSPACE))


async def test_a_replay_without_what_is_purged_gives_the_same_rows(database: Database) -> None:
    """Also one that still finds some of it: only its beginning, or only its end. Scores go on counting it."""
    events = purged_story()
    rows = await assert_projection_laws(PROJECTION, events, database=database)
    assert not any(name in row for name in PURGED for row in rows["predictions"])
    assert len(rows["prevented"]) == 2
    [score] = [row for row in rows["scores"] if ",4,1,1," in row]
    assert f",{brier_nano(0.3, is_hit=True)}," in score
    first = {name: min(e.seq for e in events if e.aggregate_id == name) for name in PURGED}
    for number, is_left in enumerate(
        (
            lambda event: event.aggregate_id not in PURGED,
            lambda event: event.seq == first.get(event.aggregate_id, event.seq),
            lambda event: event.seq != first.get(event.aggregate_id),
        )
    ):
        left = [event for event in events if is_left(event)]
        assert len(left) < len(events)
        assert await rows_after(PROJECTION, [left], database=database, schema=f"left_{number}") == rows


async def test_scores_count_what_has_expired(database: Database) -> None:
    """And whoever leads next does not take it for open."""
    events = purged_story()[:-1]
    rows = await assert_projection_laws(PROJECTION, events, database=database)
    before = await rows_after(PROJECTION, [events[:-3]], database=database, schema="before")
    assert rows["scores"] == before["scores"]
    assert rows["predictions"] != before["predictions"]
    assert sum(f"{at(8):%Y-%m-%d}" in row for row in rows["predictions"]) == len(PURGED)


def test_only_what_is_over_expires_and_only_what_expired_is_purged() -> None:
    """Neither what is open, nor what ended or was written to since."""
    events = purged_story()

    def history(name: str, count: int = 9) -> list[Recorded[Event]]:
        found = [event for event in events if event.aggregate_id == name]
        return found if count == 9 else found[:count]

    def expires(name: str, days: float, count: int = -1) -> bool:
        # As it was before it expired.
        return expire_prediction(history(name, count), ended_before=at(days)) is not None

    assert not expires("prd_1", 7)
    assert expires("prd_1", 7.1)
    assert not expires("prd_1", 100, 1), "open"
    assert not expires("prd_1", 100, 9), "expired already"
    assert not expires("prd_5", 100)
    assert not expires("prd_9", 100)

    assert purge_prediction(history("prd_1"), expired_before=at(8)) is None
    assert purge_prediction(history("prd_1"), expired_before=at(8.1)) is not None
    assert purge_prediction(history("prd_1", -1), expired_before=at(100)) is None
    assert purge_prediction(history("prd_9"), expired_before=at(100)) is None


async def test_another_workspace_sees_nothing(database: Database, event_log: EventLog) -> None:
    """Row-level security, not the query, keeps the rows apart."""
    await assert_rebuild_equals_live(PROJECTION, story(), database=database, event_log=event_log)
    async with await psycopg.AsyncConnection.connect(database.app_url) as conn:
        for workspace_id, expected in ((WORKSPACE, 3), ("ws_two", 0)):
            await conn.execute("SELECT set_config('app.current_workspace', %s, true)", (workspace_id,))
            cursor = await conn.execute("SELECT count(*) FROM prediction.patterns")
            assert await cursor.fetchone() == (expected,)


async def _table(database: Database, table: str) -> list[dict[str, Any]]:
    async with await psycopg.AsyncConnection.connect(database.projector_url, row_factory=dict_row) as conn:
        cursor = await conn.execute(f"SELECT * FROM prediction.{table} ORDER BY 1, 2, 3".encode())
        return await cursor.fetchall()
