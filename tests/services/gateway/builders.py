"""Events of every kind, overridable field by field."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
from contracts import Event, Recorded, connector, derived_id, pattern, prediction, recommendation, workspace
from contracts.generated import ingest
from msgspec.structs import replace
from testkit.builders import NOW, WORKSPACE, recorded

from services.pattern.engine.weights import shipped

PATTERN = "pat_00000000000000000000000001"


def link(
    issue_id: str, *, at: datetime = NOW, method: pattern.LinkMethod = pattern.LinkMethod.EXACT_KEY
) -> pattern.Link:
    """A link of an issue."""
    return pattern.Link(
        issue_id=issue_id,
        score=0.9,
        method=method,
        method_version="exact-key@2026-11-22",
        matched_dimensions=("service",),
        grouping_key="KEY",
        occurred_at=at,
        severity=ingest.Severity.P2,
    )


def assessment(count: int, *, risk: float = 50.0) -> pattern.Assessment:
    """A pattern with so many issues."""
    return pattern.Assessment(
        issue_count=count,
        risk_score=risk,
        confidence=0.8,
        first_seen_at=NOW,
        last_seen_at=NOW + timedelta(hours=count),
    )


def linked(
    *issue_ids: str, count: int, pattern_id: str = PATTERN, workspace_id: str = WORKSPACE, seq: int = 0
) -> Recorded[Event]:
    """Issues joined a pattern."""
    data = pattern.IssuesLinked(
        pattern_id=pattern_id, links=tuple(link(i) for i in issue_ids), assessment=assessment(count)
    )
    return recorded(data, pattern_id, source="pattern", workspace_id=workspace_id, seq=seq)


def detected(
    *,
    count: int,
    pattern_id: str = PATTERN,
    name: str = "Checkout times out",
    workspace_id: str = WORKSPACE,
    seq: int = 0,
) -> Recorded[Event]:
    """A pattern is shown from now on."""
    data = pattern.PatternDetected(
        pattern_id=pattern_id,
        name=name,
        fingerprint=(pattern.FingerprintDimension(name="service", value="checkout", share=1.0),),
        assessment=assessment(count),
    )
    return recorded(data, pattern_id, source="pattern", workspace_id=workspace_id, seq=seq)


def restated(
    to: pattern.PatternStatus,
    *,
    before: pattern.PatternStatus = pattern.PatternStatus.EMERGING,
    pattern_id: str = PATTERN,
    note: str | None = None,
) -> Recorded[Event]:
    """A pattern moved to another status."""
    data = pattern.PatternStatusChanged(
        pattern_id=pattern_id,
        from_status=before,
        to_status=to,
        reason="A rule.",
        closure_note=note,
    )
    return recorded(data, pattern_id, source="pattern")


def suggested(suggestion_id: str, issue_id: str, *, to: str, begun: str) -> Recorded[Event]:
    """An issue that began a pattern may belong to another one."""
    suggestion = pattern.Suggestion(
        suggestion_id=suggestion_id,
        pattern_id=to,
        score=0.5,
        method=pattern.LinkMethod.TEXT_SIMILARITY,
        method_version="char-tfidf@2026-11-22",
    )
    data = pattern.LinkSuggested(pattern_id=begun, issue_id=issue_id, suggestions=(suggestion,))
    return recorded(data, begun, source="pattern")


def constrained(
    pattern_id: str,
    issue_id: str,
    kind: pattern.ConstraintKind,
    *,
    key: str = "KEY",
    actor: str | None = None,
) -> Recorded[Event]:
    """A person's decision."""
    data = pattern.LinkConstrained(pattern_id=pattern_id, issue_id=issue_id, kind=kind, grouping_key=key)
    return replace(recorded(data, pattern_id, source="pattern"), actor=actor)


def contradicted(
    contradiction_id: str, pattern_id: str, issue_id: str, *, earlier: tuple[str, str]
) -> Recorded[Event]:
    """A "must" about an issue overrules a "never" about a pattern and another issue."""
    data = pattern.DecisionsContradicted(
        contradiction_id=contradiction_id,
        pattern_id=pattern_id,
        grouping_key="KEY",
        earlier=pattern.Ruling(
            pattern_id=earlier[0],
            kind=pattern.ConstraintKind.CANNOT_LINK,
            issue_id=earlier[1],
            decided_by="usr_ann",
            decided_at=NOW,
        ),
        later=pattern.Ruling(pattern_id=pattern_id, kind=pattern.ConstraintKind.MUST_LINK, issue_id=issue_id),
    )
    return recorded(data, pattern_id, source="pattern")


def clustered(
    *pattern_ids: str, run_id: str = "run_1", cluster_id: str = "clu_1", seq: int = 0
) -> Recorded[Event]:
    """These patterns form one cluster, the first two of them by their service."""
    service = pattern.RelationReason(kind="service", value="checkout", n=2, weight=1.0)
    hours = pattern.RelationReason(kind="co_occurrence", value="", n=3, weight=1.5)
    data = pattern.ClustersComputed(
        workspace_id=WORKSPACE,
        run_id=run_id,
        clusters=(
            pattern.PatternCluster(
                cluster_id=cluster_id,
                name="Service checkout",
                pattern_ids=pattern_ids,
                reasons=(hours, service),
            ),
        ),
        relations=(
            pattern.PatternRelation(
                pattern_id=pattern_ids[0],
                other_pattern_id=pattern_ids[1],
                weight=2.5,
                reasons=(hours, service),
            ),
        ),
        n_patterns=len(pattern_ids),
        n_left_out=0,
        method_version="louvain@2026-11-22",
    )
    return recorded(data, WORKSPACE, source="pattern", seq=seq)


def versioned(
    workspace_id: str, name: str, *, issue_id: str, pattern_id: str, is_better: bool = True
) -> list[pattern.Event]:
    """A linker of the workspace's own, what it would move, and, when it is better, that somebody has switched it on."""
    fields = msgspec.structs.asdict(shipped()) | {"version": f"linker@{name}.w1"}
    del fields["trained_on"]
    linker = pattern.Linker(**fields)
    version_id = derived_id("gvr_", workspace_id, linker.version)
    fitted = pattern.GroupingVersionFitted(
        workspace_id=workspace_id,
        version_id=version_id,
        number=1,
        linker=linker,
        shipped=replace(linker, version=shipped().version),
        n_decisions=30,
        n_joining=15,
        shipped_loss=0.7,
        loss=0.5 if is_better else 0.9,
        is_better=is_better,
    )
    if not is_better:
        return [fitted]
    move = pattern.GroupingMove(issue_id=issue_id, to_pattern_id=pattern_id, to_score=0.8)
    compared = pattern.GroupingVersionCompared(
        workspace_id=workspace_id,
        run_id=derived_id("run_", workspace_id, linker.version),
        version_id=version_id,
        version=linker.version,
        base_version_id="shipped",
        base_version=shipped().version,
        n_texts=1,
        n_asked=1,
        n_decided=0,
        n_moved=1,
        n_joining=1,
        n_leaving=0,
        moves=(move,),
    )
    activated = pattern.GroupingVersionActivated(
        workspace_id=workspace_id,
        version_id=version_id,
        version=linker.version,
        previous_version_id="shipped",
        linker=linker,
    )
    return [fitted, compared, activated]


def predicted(
    prediction_id: str, *, probability: float = 0.4, window_days: int = 30, pattern_id: str = PATTERN
) -> Recorded[Event]:
    """A forecast was made."""
    data = prediction.PredictionMade(
        prediction_id=prediction_id,
        pattern_id=pattern_id,
        window_days=window_days,
        probability=probability,
        lower=probability / 2,
        upper=min(1.0, probability * 1.5),
        impact=prediction.Impact.HIGH,
        likely_trigger="A deployment on a Friday.",
        evidence=(prediction.Evidence(kind="history", text="Three recurrences.", issue_ids=("iss_1",)),),
        model="gamma_poisson",
        model_version="gamma-poisson@2026-11-22",
        inputs=prediction.ForecastInputs(
            n_recurrences=3,
            exposure_days=40.0,
            quiet_days=2.0,
            prior_shape=0.5,
            prior_rate_days=30.0,
            base_rate=0.3,
            n_resolved=0,
        ),
        expires_at=NOW + timedelta(days=window_days),
        low_confidence=False,
    )
    return recorded(data, prediction_id, source="prediction")


def arithmetic(score: float) -> recommendation.Arithmetic:
    """A score and how it came about."""
    return recommendation.Arithmetic(
        fix_holds_probability=0.5,
        expected_recurrences=score,
        horizon_days=90,
        severity_weight=4.0,
        effort_days=2.0,
        expected_loops_prevented=score / 2,
        score=score,
        explanation="0.5 of them, weighted.",
        fit=0.8,
        holds_probability=0.625,
        n_verified=0,
        n_broken=0,
        alive_probability=1.0,
        calibration_ratio=1.0,
    )


def recommended(recommendation_id: str, *, score: float = 1.0, pattern_id: str = PATTERN) -> Recorded[Event]:
    """A remediation was drawn."""
    data = recommendation.RecommendationMade(
        recommendation_id=recommendation_id,
        pattern_id=pattern_id,
        play_id="timeouts",
        playbook_version="playbook@2026-11-22",
        title="Bound every call",
        description="Give each call a limit.",
        type=recommendation.RecommendationType.CONFIG_CHANGE,
        effort=recommendation.Effort.LOW,
        impact=recommendation.RecommendationImpact.QUICK_WIN,
        steps=(
            recommendation.Step(title="Find them", description="Search."),
            recommendation.Step(title="Bound them", description="Set a limit."),
        ),
        verification="No timeouts for 14 days.",
        evidence=("error_type is Timeout",),
        arithmetic=arithmetic(score),
    )
    return recorded(data, recommendation_id, source="recommendation")


def created(workspace_id: str = WORKSPACE) -> Recorded[Event]:
    """A workspace exists."""
    data = workspace.WorkspaceCreated(workspace_id=workspace_id, slug="test", name="Test", timezone="UTC")
    return recorded(data, workspace_id, source="gateway", workspace_id=workspace_id)


def connecting_story() -> list[Recorded[Event]]:
    """Two connectors of which one goes again, their runs, and a ticket."""

    def counts(n: int) -> connector.SyncCounts:
        return connector.SyncCounts(
            n_records=n, n_created=n, n_updated=0, n_unchanged=0, n_ignored=0, n_rejected=0
        )

    def settings(name: str, **more: Any) -> connector.ConnectorSettings:
        return connector.ConnectorSettings(type="pagerduty", display_name=name, auth=0, **more)

    def run(run_id: str, connector_id: str, *told: connector.Event) -> list[Recorded[Event]]:
        asked = connector.SyncRequested(
            run_id=run_id, connector_id=connector_id, kind=connector.SyncKind.MANUAL
        )
        return [recorded(each, run_id, source="ingest") for each in (asked, *told)]

    def connected(data: connector.Event, connector_id: str) -> Recorded[Event]:
        return recorded(data, connector_id, source="ingest")

    def made(connector_id: str) -> list[Recorded[Event]]:
        every = connector.ConnectorSchedule(interval_seconds=1800, timezone="UTC")
        return [
            connected(each, connector_id)
            for each in (
                connector.ConnectorCreated(
                    connector_id=connector_id,
                    settings=settings("Ops", schedule=every),
                    status=connector.ConnectorStatus.PENDING,
                ),
                connector.ConnectorCredentialsChanged(connector_id=connector_id, secrets=("api_key",)),
                connector.ConnectorStatusChanged(
                    connector_id=connector_id,
                    status=connector.ConnectorStatus.CONNECTED,
                    reason="",
                    detail="",
                ),
            )
        ]

    ended = connector.SyncEnded(
        run_id="syn_1",
        connector_id="con_1",
        outcome=connector.SyncOutcome.SUCCEEDED,
        counts=counts(3),
        reason="",
        detail="",
    )
    goes_on = connector.SyncProgressed(
        run_id="syn_1", connector_id="con_1", n_chunks_done=1, n_chunks=2, counts=counts(2)
    )
    ticket = connector.TicketCreated(
        ticket_id="tkt_1",
        recommendation_id="rec_1",
        connector_id="con_1",
        tracker="jira",
        external_id="OPS-1",
        is_found=False,
    )
    done = connector.TicketStateChanged(
        ticket_id="tkt_1",
        recommendation_id="rec_1",
        state=connector.TicketState.DONE,
        external_status="Closed",
    )
    # Without its schedule, to be polled by hand alone.
    by_hand = connector.ConnectorConfigured(connector_id="con_1", settings=settings("Ops 2"))
    return [
        *made("con_1"),
        *made("con_2"),
        *run("syn_1", "con_1", goes_on, ended),
        connected(by_hand, "con_1"),
        *run("syn_2", "con_2"),
        connected(connector.ConnectorDeleted(connector_id="con_2"), "con_2"),
        # The scheduler was as fast.
        *run("syn_3", "con_2"),
        recorded(ticket, "tkt_1", source="ingest"),
        recorded(done, "tkt_1", source="ingest"),
    ]
