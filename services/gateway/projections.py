"""Events → rows: the whole read model, one statement per kind of row and batch."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, assert_never

import msgspec
from contracts import Event, Recorded, connector, ingest, pattern, prediction, recommendation, workspace
from eventlog import Projection
from psycopg import AsyncConnection

from services.gateway import _queries
from services.gateway.clustering import Clusterings
from services.gateway.connecting import Connectors
from services.gateway.curation import Curation, follow_merge
from services.gateway.fixing import FixEvent, RecommendationEvent, fix_change, fix_row
from services.gateway.playbooks import PlaybookEvent, Playbooks
from services.gateway.retiring import Expired, purge, purge_predictions
from services.gateway.versions import GroupingVersions

Row: TypeAlias = dict[str, object]
Key: TypeAlias = tuple[str, str]
_Write: TypeAlias = Callable[..., Awaitable[None]]

_ENDED = (pattern.PatternStatus.RESOLVED, pattern.PatternStatus.MERGED)
_FIXED = (pattern.PatternStatus.WATCHING, pattern.PatternStatus.RESOLVED)
_RECURRING = (pattern.PatternStatus.ACTIVE,)
_UNTOUCHED = (ingest.IssueStatus.NEW, ingest.IssueStatus.ANALYZING, ingest.IssueStatus.ANALYZED)
_ISSUE_FIELDS = (
    "title",
    "body",
    "severity",
    "status",
    "service",
    "component",
    "error_type",
    "environment",
    "version",
    "team",
    "assignee",
    "external_url",
    "source_updated_at",
)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


async def project(batch: Sequence[Recorded[Event]], conn: AsyncConnection[Any]) -> None:
    """Write what a batch of events says, in log order, inside the caller's transaction."""
    fold = _Fold()
    for event in batch:
        if isinstance(event.data, pattern.PatternsMerged):
            # Members move in the table, so the links before it have to be there.
            await fold.write(conn)
            await _merge(event, event.data, conn)
            fold = _Fold()
        if isinstance(event.data, ingest.IssuesPurged):
            await fold.write(conn)
            await purge(event.workspace_id, event.data, conn)
            fold = _Fold()
        if isinstance(event.data, prediction.PredictionsPurged):
            await fold.write(conn)
            await purge_predictions(event.workspace_id, event.data, conn)
            fold = _Fold()
        fold.add(event)
    await fold.write(conn)


async def _merge(event: Recorded[Event], merged: pattern.PatternsMerged, conn: AsyncConnection[Any]) -> None:
    await _queries.move_members(
        conn,
        workspace_id=event.workspace_id,
        target_pattern_id=merged.target_pattern_id,
        source_pattern_id=merged.source_pattern_id,
        merged_by=event.actor,
        merged_at=event.recorded_at,
    )
    await follow_merge(
        conn,
        event.workspace_id,
        target_pattern_id=merged.target_pattern_id,
        source_pattern_id=merged.source_pattern_id,
    )
    ended = {
        "workspace_id": event.workspace_id,
        "pattern_id": merged.source_pattern_id,
        "merged_into": merged.target_pattern_id,
        "updated_at": event.recorded_at,
    }
    await _queries.upsert_patterns(conn, rows=_json([ended]))


class _Fold:
    """The rows of one batch; each row appears once, with the last word on each of its columns."""

    def __init__(self) -> None:
        self.issues: dict[Key, Row] = {}
        self.issue_changes: dict[Key, Row] = {}
        self.expired = Expired()
        self.restored: dict[Key, Row] = {}
        self.comments: dict[Key, Row] = {}
        self.analyses: dict[Key, Row] = {}
        self.analyses_ended: dict[Key, Row] = {}
        self.analyses_dropped: dict[tuple[str, str, int], Row] = {}
        self.patterns: dict[Key, Row] = {}
        self.members: dict[Key, Row] = {}
        self.unlinked: dict[Key, Row] = {}
        self.shown: dict[Key, Row] = {}
        self.ended: dict[Key, Row] = {}
        self.predictions: dict[Key, Row] = {}
        self.prediction_changes: dict[Key, Row] = {}
        self.current: dict[tuple[str, str, int], Row] = {}
        self.recommendations: dict[Key, Row] = {}
        self.recommendation_changes: dict[Key, Row] = {}
        self.curation = Curation()
        self.clusterings = Clusterings()
        self.versions = GroupingVersions()
        self.playbooks = Playbooks()
        self.connectors = Connectors()
        self.fixes: dict[Key, Row] = {}
        self.fix_changes: dict[Key, Row] = {}
        self.moves: dict[tuple[str, str, int], Row] = {}

    async def write(self, conn: AsyncConnection[Any]) -> None:
        """Write all rows; members after their patterns, what ends predictions before new ones."""
        statements: tuple[tuple[_Write, Mapping[Any, Row]], ...] = (
            (_queries.replace_issues, self.restored),
            (_queries.insert_issues, self.issues),
            (_queries.update_issues, self.issue_changes),
            (_queries.insert_comments, self.comments),
            (_queries.insert_analyses, self.analyses),
            (_queries.end_analyses, self.analyses_ended),
            (_queries.end_analyses_of_issues, self.analyses_dropped),
            (_queries.upsert_patterns, self.patterns),
            (_queries.delete_members, self.unlinked),
            (_queries.upsert_members, self.members),
            (_queries.show_members, self.shown),
            (_queries.end_predictions, self.ended),
            (_queries.supersede_predictions, self.current),
            (_queries.insert_predictions, self.predictions),
            (_queries.update_predictions, self.prediction_changes),
            (_queries.insert_recommendations, self.recommendations),
            (_queries.update_recommendations, self.recommendation_changes),
            (_queries.insert_fixes, self.fixes),
            (_queries.update_fixes, self.fix_changes),
            (_queries.insert_pattern_moves, self.moves),
        )
        for statement, rows in statements:
            if rows:
                await statement(conn, rows=_json(list(rows.values())))
        await self.expired.write(conn)
        await self.curation.write(conn)
        await self.clusterings.write(conn)
        await self.versions.write(conn)
        await self.playbooks.write(conn)
        await self.connectors.write(conn)

    def add(self, event: Recorded[Event]) -> None:
        """Take one event in."""
        data = event.data
        if isinstance(data, ingest.Event):
            self._add_ingested(event, data)
        elif isinstance(data, pattern.Event):
            self._add_pattern(event, data)
        elif isinstance(data, prediction.Event):
            self._add_prediction(event, data)
        elif isinstance(data, connector.Event):
            self.connectors.add(event, data)
        elif isinstance(data, PlaybookEvent):
            self.playbooks.add(event, data)
        elif isinstance(data, FixEvent):
            self._add_fix(event, data)
        elif isinstance(data, recommendation.Event):
            self._add_recommendation(event, data)
        elif isinstance(data, workspace.Event):
            # The gateway reads workspaces from the rows of identity, which these events come from.
            return
        else:
            assert_never(data)

    def _add_ingested(self, event: Recorded[Event], data: ingest.Event) -> None:
        match data:
            case ingest.IssueReported() | ingest.IssueUpdated() | ingest.IssueClosed() as issue:
                self._add_issue(event, issue)
            case ingest.IssueExpired() | ingest.IssueRestored() | ingest.IssuesPurged() as retired:
                self._retire(event, retired)
            case ingest.IssueCommented() as comment:
                self.comments[event.workspace_id, comment.comment_id] = {
                    "workspace_id": event.workspace_id,
                    "seq": event.seq,
                    "created_at": event.recorded_at,
                    **msgspec.structs.asdict(comment),
                }
            case ingest.AnalysisStarted() | ingest.AnalysisRecorded() as analysed:
                self._add_analysis(event, analysed)
            case ingest.PromptsExpired() as expired:
                self.expired.add(event, expired)
            case ingest.ModelAsked():
                # It is read from the log alone: whatever is forgotten there is forgotten.
                pass
            case never:
                assert_never(never)

    def _add_issue(
        self,
        event: Recorded[Event],
        data: ingest.IssueReported | ingest.IssueUpdated | ingest.IssueClosed,
    ) -> None:
        key = (event.workspace_id, data.issue_id)
        match data:
            case ingest.IssueReported():
                self.issues.setdefault(key, _issue_row(event, data))
            case ingest.IssueUpdated():
                change: Row = {
                    name: value for name in _ISSUE_FIELDS if (value := getattr(data, name)) is not None
                }
                if data.metadata is not None:
                    change["metadata"] = _json(data.metadata)
                self._change_issue(event, key, change=change, cleared=data.cleared)
            case ingest.IssueClosed():
                closed: Row = {"status": data.status, "reason": data.reason}
                self._change_issue(event, key, change=closed, cleared=())
            case never:
                assert_never(never)

    def _retire(
        self, event: Recorded[Event], data: ingest.IssueExpired | ingest.IssueRestored | ingest.IssuesPurged
    ) -> None:
        if isinstance(data, ingest.IssuesPurged):
            # Done by itself, between what is before it and what is behind it.
            return
        key = (event.workspace_id, data.issue_id)
        row: Row = {"workspace_id": key[0], "issue_id": key[1]}
        if isinstance(data, ingest.IssueExpired):
            self.expired.add(event, data)
            dropped: Row = {**row, "seq": event.seq, "ended_at": event.recorded_at}
            self.analyses_dropped[*key, event.seq] = dropped
            return
        self.issues[key] = _issue_row(event, data.issue)
        self.restored[key] = row
        self.issue_changes.pop(key, None)
        self.expired.take_back(key)

    def _add_analysis(
        self, event: Recorded[Event], data: ingest.AnalysisStarted | ingest.AnalysisRecorded
    ) -> None:
        key = (event.workspace_id, data.analysis_id)
        change: Row = {"is_analyzing": isinstance(data, ingest.AnalysisStarted)}
        if isinstance(data, ingest.AnalysisStarted):
            self.analyses[key] = _analysis_row(event, data)
        else:
            ended = {"workspace_id": key[0], "analysis_id": key[1], "recorded_at": event.recorded_at}
            self.analyses_ended[key] = ended
            answer = {"analysis_id": data.analysis_id, "tier": data.tier, "analyzed_at": event.recorded_at}
            change["analysis"] = _json(answer | msgspec.structs.asdict(data.analysis))
            if data.status is ingest.IssueStatus.ANALYZED:
                change["status"] = data.status
        self._change_issue(event, (event.workspace_id, data.issue_id), change=change, cleared=())

    def _change_issue(self, event: Recorded[Event], key: Key, *, change: Row, cleared: Sequence[str]) -> None:
        change["updated_at"] = event.recorded_at
        if "status" in change:
            # An analysis that has ended leaves the status to the pattern again.
            change["is_status_chosen"] = change["status"] != ingest.IssueStatus.ANALYZED
        reported = self.issues.get(key)
        if reported is not None:
            reported.update(change)
            reported.update({name: "{}" if name == "metadata" else None for name in cleared})
            return
        row = self.issue_changes.setdefault(key, {"workspace_id": key[0], "issue_id": key[1], "cleared": []})
        still_cleared = [name for name in _as_names(row["cleared"]) if name not in change]
        row.update(change)
        row["cleared"] = [*still_cleared, *cleared]
        for name in cleared:
            row.pop(name, None)

    def _add_pattern(self, event: Recorded[Event], data: pattern.Event) -> None:
        match data:
            case pattern.IssuesLinked():
                self._touch_pattern(event, data.pattern_id, data.assessment)
                for link in data.links:
                    self.members[event.workspace_id, link.issue_id] = _member_row(event, data, link)
            case pattern.PatternDetected() | pattern.PatternDescribed():
                row = self._touch_pattern(event, data.pattern_id, data.assessment)
                row["name"] = data.name
                row["fingerprint"] = _json(data.fingerprint)
                if isinstance(data, pattern.PatternDetected):
                    row.setdefault("created_at", event.recorded_at)
                    row.update(is_shown=True, status=pattern.PatternStatus.EMERGING)
                    self.shown[event.workspace_id, data.pattern_id] = _pattern_key(event, data.pattern_id)
            case pattern.PatternStatusChanged():
                self._change_pattern_status(event, data)
            case pattern.IssueUnlinked():
                self._touch_pattern(event, data.pattern_id, data.assessment)
                self._unlink(event, data)
            case pattern.PatternsMerged():
                self._touch_pattern(event, data.target_pattern_id, data.assessment)
            case pattern.PatternSplit():
                # The issues move with the IssuesLinked of the new pattern, in the same batch.
                self._touch_pattern(event, data.pattern_id, data.assessment)
            case pattern.LinkConstrained():
                self.curation.constrain(event, data)
            case pattern.LinkSuggested() | pattern.DecisionsContradicted() | pattern.ContradictionAnswered():
                self.curation.ask(event, data)
            case pattern.ClustersComputed():
                self.clusterings.add(event, data)
            case (
                pattern.GroupingVersionFitted()
                | pattern.GroupingVersionCompared()
                | pattern.GroupingVersionActivated()
            ):
                self.versions.add(event, data)
            case never:
                assert_never(never)

    def _touch_pattern(
        self, event: Recorded[Event], pattern_id: str, assessment: pattern.Assessment | None
    ) -> Row:
        row = self.patterns.get((event.workspace_id, pattern_id))
        if row is None:
            row = _pattern_key(event, pattern_id)
            row["seq"] = event.seq
            self.patterns[event.workspace_id, pattern_id] = row
        row["updated_at"] = event.recorded_at
        if assessment is not None:
            row["issue_count"] = assessment.issue_count
            row["risk_score"] = assessment.risk_score
            row["confidence"] = assessment.confidence
            row["first_seen_at"] = assessment.first_seen_at
            row["last_seen_at"] = assessment.last_seen_at
            if assessment.mttr_seconds is not None:
                row["mttr_seconds"] = assessment.mttr_seconds
        return row

    def _change_pattern_status(self, event: Recorded[Event], data: pattern.PatternStatusChanged) -> None:
        row = self._touch_pattern(event, data.pattern_id, None)
        row["status"] = data.to_status
        row["status_reason"] = data.reason
        self.moves[event.workspace_id, data.pattern_id, event.seq] = {
            "workspace_id": event.workspace_id,
            "pattern_id": data.pattern_id,
            "seq": event.seq,
            "to_status": data.to_status,
            "reason": data.reason,
            "closure_note": data.closure_note,
            "moved_by": event.actor,
            "moved_at": event.time,
        }
        if event.actor is None and data.from_status in _FIXED and data.to_status in _RECURRING:
            row["has_recurred"] = True
        if data.closure_note is not None:
            row["closure_note"] = data.closure_note
            row["closed_at"] = event.recorded_at
        if data.to_status in _ENDED:
            self.ended[event.workspace_id, data.pattern_id] = _pattern_key(event, data.pattern_id)
            for (workspace_id, pattern_id, _), made in self.current.items():
                if (workspace_id, pattern_id) == (event.workspace_id, data.pattern_id):
                    made["is_current"] = False

    def _unlink(self, event: Recorded[Event], data: pattern.IssueUnlinked) -> None:
        key = (event.workspace_id, data.issue_id)
        linked = self.members.get(key)
        if linked is not None and linked["pattern_id"] == data.pattern_id:
            del self.members[key]
        self.unlinked[key] = {
            "workspace_id": event.workspace_id,
            "issue_id": data.issue_id,
            "pattern_id": data.pattern_id,
        }

    def _add_prediction(self, event: Recorded[Event], data: prediction.Event) -> None:
        match data:
            case prediction.PredictionMade():
                self._make_prediction(event, data)
            case prediction.PredictionResolved():
                self._change_prediction(
                    event,
                    data.prediction_id,
                    outcome=data.outcome,
                    brier=data.brier,
                    hit_issue_id=data.issue_id,
                    resolved_at=event.time,
                )
            case prediction.PredictionFeedbackGiven():
                self._change_prediction(
                    event, data.prediction_id, feedback=data.outcome, feedback_note=data.note
                )
            case prediction.PredictionDismissed():
                self._change_prediction(
                    event, data.prediction_id, is_dismissed=True, dismissed_reason=data.reason
                )
            case prediction.AlertFired():
                self._change_prediction(event, data.prediction_id, alerted_at=event.time)
            case prediction.PredictionExpired() as expired:
                self.expired.add(event, expired)
            case prediction.ModelFitted():
                # Of interest to the forecaster only; a prediction names the model that made it.
                pass
            case prediction.PredictionsPurged():
                # Done by itself, between what is before it and what is behind it.
                pass
            case never:
                assert_never(never)

    def _make_prediction(self, event: Recorded[Event], data: prediction.PredictionMade) -> None:
        row = _prediction_row(event, data)
        replaced = (event.workspace_id, data.pattern_id, data.window_days)
        if replaced in self.current:
            self.current[replaced]["is_current"] = False
        self.current[replaced] = row
        self.predictions[event.workspace_id, data.prediction_id] = row

    def _change_prediction(self, event: Recorded[Event], prediction_id: str, **change: object) -> None:
        key = (event.workspace_id, prediction_id)
        row = self.predictions.get(key) or self.prediction_changes.setdefault(
            key, {"workspace_id": key[0], "prediction_id": key[1]}
        )
        row.update(change)
        row["updated_at"] = event.recorded_at

    def _add_fix(self, event: Recorded[Event], data: FixEvent) -> None:
        key = (event.workspace_id, data.fix_id)
        if isinstance(data, recommendation.ProofStarted):
            self.fixes.setdefault(key, fix_row(event, data))
            return
        row = self.fixes.get(key) or self.fix_changes.setdefault(
            key, {"workspace_id": key[0], "fix_id": key[1]}
        )
        row.update(fix_change(event, data))

    def _add_recommendation(self, event: Recorded[Event], data: RecommendationEvent) -> None:
        key = (event.workspace_id, data.recommendation_id)
        if isinstance(data, recommendation.RecommendationMade):
            self.recommendations.setdefault(key, _recommendation_row(event, data))
            return
        row = self.recommendation_changes.setdefault(
            key,
            {
                "workspace_id": key[0],
                "recommendation_id": key[1],
                "steps_ticked": [],
                "steps_unticked": [],
            },
        )
        row["updated_at"] = event.recorded_at
        match data:
            case recommendation.RecommendationReassessed():
                row.update(impact=data.impact, **_arithmetic(data.arithmetic))
            case recommendation.RecommendationStatusChanged():
                row.update(status=data.to_status, status_reason=data.reason)
            case recommendation.RecommendationStepChecked():
                ticked, unticked = _as_steps(row["steps_ticked"]), _as_steps(row["steps_unticked"])
                (ticked if data.is_done else unticked).add(data.step_index)
                (unticked if data.is_done else ticked).discard(data.step_index)
                row.update(steps_ticked=sorted(ticked), steps_unticked=sorted(unticked))
            case never:
                assert_never(never)


def _as_names(value: object) -> list[str]:
    return msgspec.convert(value, list[str])


def _as_steps(value: object) -> set[int]:
    return msgspec.convert(value, set[int])


def _issue_row(event: Recorded[Event], data: ingest.IssueReported) -> Row:
    return {
        "workspace_id": event.workspace_id,
        "issue_id": data.issue_id,
        "seq": event.seq,
        "source": data.source,
        "external_id": data.external_id,
        "title": data.title,
        "body": data.body,
        "severity": data.severity,
        "status": data.status,
        "is_status_chosen": data.status not in _UNTOUCHED,
        "service": data.service,
        "component": data.component,
        "error_type": data.error_type,
        "environment": data.environment,
        "version": data.version,
        "team": data.team,
        "assignee": data.assignee,
        "external_url": data.external_url,
        "connector_id": data.connector_id,
        "metadata": _json(data.metadata) if data.metadata else "{}",
        "source_created_at": event.time,
        "source_updated_at": data.source_updated_at,
        "created_at": event.recorded_at,
        "updated_at": event.recorded_at,
    }


def _analysis_row(event: Recorded[Event], data: ingest.AnalysisStarted) -> Row:
    return {
        "workspace_id": event.workspace_id,
        "analysis_id": data.analysis_id,
        "issue_id": data.issue_id,
        "seq": event.seq,
        "tier": data.tier,
        "actor": event.actor,
        "requested_at": event.recorded_at,
    }


def _pattern_key(event: Recorded[Event], pattern_id: str) -> Row:
    return {"workspace_id": event.workspace_id, "pattern_id": pattern_id}


def _member_row(event: Recorded[Event], data: pattern.IssuesLinked, link: pattern.Link) -> Row:
    return {
        "workspace_id": event.workspace_id,
        "issue_id": link.issue_id,
        "pattern_id": data.pattern_id,
        "seq": event.seq,
        "score": link.score,
        "method": link.method,
        "method_version": link.method_version,
        "matched_dimensions": _json(link.matched_dimensions),
        "occurred_at": link.occurred_at,
        "linked_at": event.recorded_at,
        "linked_by": event.actor,
    }


def _prediction_row(event: Recorded[Event], data: prediction.PredictionMade) -> Row:
    return {
        "workspace_id": event.workspace_id,
        "prediction_id": data.prediction_id,
        "seq": event.seq,
        "pattern_id": data.pattern_id,
        "window_days": data.window_days,
        "probability": data.probability,
        "lower": data.lower,
        "upper": data.upper,
        "expected_next_at": data.expected_next_at,
        "impact": data.impact,
        "likely_trigger": data.likely_trigger,
        "evidence": _json(data.evidence),
        "model": data.model,
        "model_version": data.model_version,
        "inputs": _json(data.inputs),
        "low_confidence": data.low_confidence,
        "generated_at": event.time,
        "expires_at": data.expires_at,
        "is_current": not data.held_out,
        "is_held_out": bool(data.held_out),
        "updated_at": event.recorded_at,
    }


def _arithmetic(arithmetic: recommendation.Arithmetic) -> Row:
    return {
        "arithmetic": _json(arithmetic),
        "score": arithmetic.score,
        "expected_loops_prevented": arithmetic.expected_loops_prevented,
    }


def _recommendation_row(event: Recorded[Event], data: recommendation.RecommendationMade) -> Row:
    return {
        "workspace_id": event.workspace_id,
        "recommendation_id": data.recommendation_id,
        "seq": event.seq,
        "pattern_id": data.pattern_id,
        "play_id": data.play_id,
        "playbook_version": data.playbook_version,
        "title": data.title,
        "description": data.description,
        "type": data.type,
        "effort": data.effort,
        "impact": data.impact,
        "status": recommendation.RecommendationStatus.PENDING,
        "steps": _json(data.steps),
        "steps_done": [],
        "verification": data.verification,
        "evidence": _json(data.evidence),
        **_arithmetic(data.arithmetic),
        "created_at": event.recorded_at,
        "updated_at": event.recorded_at,
    }


def projection() -> Projection:
    """The gateway's projection: every aggregate, into the tables of schema.sql."""
    schema_sql = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
    return Projection(name="gateway", aggregates=(), project=project, schema_sql=schema_sql)
