"""One event into the memory: what changed, and what it makes due. No I/O."""

from typing import assert_never

from contracts import Event, Recorded, pattern, prediction, workspace
from contracts.generated.pattern import PatternStatus

from services.prediction.commands import Outlook, model_of
from services.prediction.engine.gamma_poisson import WINDOWS_DAYS
from services.prediction.reactions.memory import Due, Hit, Key, Learned, Memory, Tracked
from services.prediction.state import evolve

GROWN_UP = frozenset({PatternStatus.EMERGING, PatternStatus.ACTIVE})
"""A change from or to one of these makes a forecast due."""


def observe(memory: Memory, event: Recorded[Event], *, is_fresh: bool, growth: float) -> None:
    """Take one event in log order.

    is_fresh: the rows that the memory was loaded from do not hold it yet; otherwise it is seen again and may
    only bring back what nobody decided.
    """
    data = event.data
    if isinstance(data, pattern.Event):
        _observe_pattern(memory, event, data, is_fresh=is_fresh, growth=growth)
    elif isinstance(data, prediction.Event):
        _observe_prediction(memory, event, data, is_fresh=is_fresh)
    elif isinstance(data, workspace.Event) and is_fresh:
        _observe_workspace(memory, data)


def _observe_pattern(
    memory: Memory, event: Recorded[Event], data: pattern.Event, *, is_fresh: bool, growth: float
) -> None:
    match data:
        case pattern.IssuesLinked():
            _linked(memory, event, data, is_fresh=is_fresh, growth=growth)
        case pattern.PatternDetected():
            _detected(memory, event, data, is_fresh=is_fresh)
        case pattern.PatternStatusChanged():
            _status_changed(memory, event, data, is_fresh=is_fresh)
        case pattern.PatternsMerged():
            _merged(memory, event, data, is_fresh=is_fresh, growth=growth)
        case pattern.IssueUnlinked() | pattern.PatternSplit() | pattern.PatternDescribed():
            tracked = memory.patterns.get((event.workspace_id, data.pattern_id))
            if tracked is not None and is_fresh:
                tracked.n_issues = data.assessment.issue_count
        case (
            pattern.LinkConstrained()
            | pattern.LinkSuggested()
            | pattern.DecisionsContradicted()
            | pattern.ContradictionAnswered()
            | pattern.ClustersComputed()
            | pattern.GroupingVersionFitted()
            | pattern.GroupingVersionCompared()
            | pattern.GroupingVersionActivated()
        ):
            pass
        case _:
            assert_never(data)


def _linked(
    memory: Memory, event: Recorded[Event], data: pattern.IssuesLinked, *, is_fresh: bool, growth: float
) -> None:
    tracked = memory.patterns.get((event.workspace_id, data.pattern_id))
    if tracked is None:
        return
    if is_fresh:
        tracked.n_issues = data.assessment.issue_count
    if tracked.open:
        _find_hits(memory, event, data, tracked)
    _ask_if_grown(memory, event, tracked, growth)


def _find_hits(memory: Memory, event: Recorded[Event], data: pattern.IssuesLinked, tracked: Tracked) -> None:
    latest = max((link.occurred_at for link in data.links), default=None)
    if latest is None:
        return
    for state in tracked.open.values():
        key = (event.workspace_id, state.prediction_id)
        # Seen again after a restart, an issue may be older in the log than the prediction.
        if state.made_seq > event.seq or state.made_at >= latest or key in memory.hits:
            continue
        for link in data.links:
            if state.made_at < link.occurred_at <= state.expires_at:
                memory.hits[key] = Hit(link.issue_id, link.occurred_at, event)
                break


def _ask_if_grown(memory: Memory, event: Recorded[Event], tracked: Tracked, growth: float) -> None:
    if tracked.key not in memory.due and tracked.is_forecast and tracked.has_grown(growth):
        memory.due[tracked.key] = Due(event.id, event, is_growth=True)


def _detected(
    memory: Memory, event: Recorded[Event], data: pattern.PatternDetected, *, is_fresh: bool
) -> None:
    key = (event.workspace_id, data.pattern_id)
    tracked = memory.patterns.get(key)
    if tracked is None:
        tracked = Tracked(
            workspace_id=event.workspace_id, pattern_id=data.pattern_id, status=PatternStatus.EMERGING
        )
        memory.add(tracked)
    if is_fresh:
        tracked.status, tracked.n_issues = PatternStatus.EMERGING, data.assessment.issue_count
    _ask(memory, event, tracked, is_fresh=is_fresh)


def _status_changed(
    memory: Memory, event: Recorded[Event], data: pattern.PatternStatusChanged, *, is_fresh: bool
) -> None:
    tracked = memory.patterns.get((event.workspace_id, data.pattern_id))
    if tracked is None:
        return
    if is_fresh:
        tracked.status = data.to_status
        if not tracked.is_forecast:
            memory.due.pop(tracked.key, None)
        if data.to_status in (PatternStatus.RESOLVED, PatternStatus.MERGED):
            tracked.outlooks.clear()
        memory.renew_later(tracked)
    if data.from_status in GROWN_UP or data.to_status in GROWN_UP:
        _ask(memory, event, tracked, is_fresh=is_fresh)


def _ask(memory: Memory, event: Recorded[Event], tracked: Tracked, *, is_fresh: bool) -> None:
    """A forecast is due, unless it was seen before and has been forecast since."""
    was_answered = (
        not is_fresh and tracked.forecast_at is not None and tracked.forecast_at > event.recorded_at
    )
    if tracked.is_forecast and not was_answered:
        memory.due[tracked.key] = Due(event.id, event)


def _merged(
    memory: Memory, event: Recorded[Event], data: pattern.PatternsMerged, *, is_fresh: bool, growth: float
) -> None:
    """Predictions of the source are decided by the issues of the target from now on."""
    target = memory.patterns.get((event.workspace_id, data.target_pattern_id))
    source = memory.patterns.get((event.workspace_id, data.source_pattern_id))
    if is_fresh and source is not None:
        source.merged_into, source.n_issues = data.target_pattern_id, 0
        memory.due.pop(source.key, None)
    if target is None:
        return
    if is_fresh:
        target.n_issues = data.assessment.issue_count
        if source is not None:
            memory.hand_over(source, target)
    _ask_if_grown(memory, event, target, growth)


def _observe_prediction(
    memory: Memory, event: Recorded[Event], data: prediction.Event, *, is_fresh: bool
) -> None:
    match data:
        case prediction.PredictionMade():
            _made(memory, event, data, is_fresh=is_fresh)
        case prediction.PredictionResolved():
            memory.drop_open(event.workspace_id, data.prediction_id, outcome=data.outcome)
        case prediction.PredictionExpired():
            memory.drop_open(event.workspace_id, data.prediction_id)
        case prediction.PredictionsPurged():
            for purged in data.predictions:
                memory.drop_open(event.workspace_id, purged.prediction_id)
        case prediction.AlertFired():
            _move_on(memory, event, data)
            tracked = memory.patterns.get((event.workspace_id, data.pattern_id))
            if tracked is not None and is_fresh:
                tracked.outlooks[data.window_days] = Outlook(data.probability, data.threshold)
        case prediction.PredictionFeedbackGiven() | prediction.PredictionDismissed():
            _move_on(memory, event, data)
        case prediction.ModelFitted():
            if is_fresh:
                memory.learn(event.workspace_id, Learned(data.model_id, event.time, model_of(data)))
        case _:
            assert_never(data)


def _made(memory: Memory, event: Recorded[Event], data: prediction.PredictionMade, *, is_fresh: bool) -> None:
    key: Key = (event.workspace_id, data.pattern_id)
    due = memory.due.get(key)
    if due is not None and (due.event is None or due.cause_id == event.causation_id):
        del memory.due[key]
    state = evolve(None, event)
    tracked = memory.patterns.get(key)
    if not is_fresh or tracked is None or state is None:
        return
    memory.add_open(event.workspace_id, state)
    before = tracked.outlooks.get(data.window_days)
    tracked.outlooks[data.window_days] = Outlook(
        data.probability, None if before is None else before.threshold
    )
    if data.window_days == WINDOWS_DAYS[0]:
        memory.set_forecast(tracked, at=event.time, forecast_id=data.prediction_id, n_issues=tracked.n_issues)


def _move_on(
    memory: Memory,
    event: Recorded[Event],
    data: prediction.AlertFired | prediction.PredictionFeedbackGiven | prediction.PredictionDismissed,
) -> None:
    """An open prediction has one more event; the next append must expect it."""
    state = memory.find_open(event.workspace_id, data.prediction_id)
    if state is None or state.seq >= event.seq:
        return
    changed = evolve(state, event)
    if changed is not None:
        memory.replace_open(event.workspace_id, changed)


def _observe_workspace(memory: Memory, data: workspace.Event) -> None:
    match data:
        case workspace.WorkspaceCreated():
            memory.zones[data.workspace_id] = data.timezone
        case workspace.WorkspaceSettingsChanged():
            if data.alert_probability is not None:
                memory.thresholds[data.workspace_id] = data.alert_probability
            if data.timezone is not None:
                memory.zones[data.workspace_id] = data.timezone
        case workspace.WorkspaceErased():
            memory.forget(data.workspace_id)
        case workspace.WorkspaceSuspended() | workspace.WorkspaceReinstated():
            pass
        case _:
            assert_never(data)
