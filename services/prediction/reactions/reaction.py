"""The leader's reaction: hits at once, forecasts when due, misses and old forecasts by the clock."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from contracts import Event, Recorded, derived_id, prediction, record
from contracts.generated.prediction import Outcome
from eventlog import Append, Conflict, ConflictError, EventLog
from msgspec import Struct
from runtime.database import Pool

from services.prediction.commands import (
    ForecastPattern,
    Outlook,
    forecast_pattern,
    is_held_out,
    model_fitted,
    resolve_hit,
    resolve_miss,
)
from services.prediction.engine.recurrence import Model
from services.prediction.engine.scoring import Tally
from services.prediction.reactions.learning import learn_apart, load_past
from services.prediction.reactions.memory import Due, Hit, Memory, Tracked
from services.prediction.reactions.observing import observe
from services.prediction.reactions.reading import (
    Material,
    load_material,
    load_memory,
    load_tallies,
    zone_of,
)
from services.prediction.settings import PredictionSettings
from services.prediction.state import Prediction, fold

log = structlog.get_logger("prediction.reactions")

SERVICE = "prediction"
MAX_FORECASTS_PER_ROUND = 100
MAX_MISSES_PER_ROUND = 500
MAX_ATTEMPTS = 5


class Rules(Struct, frozen=True, kw_only=True):
    """When something is due.

    growth: members now : members at the last forecast. growth_spacing: least time between forecasts for growth.
    renewal_spacing: longest wait for the next forecast after the last came true. max_age: of a forecast. grace: for late reports after a window's end.
    min_resolved: resolved forecasts of a window before the model's skill is judged.
    refit: a workspace's model older than this is learned anew.
    """

    growth: float = 1.5
    growth_spacing: timedelta = timedelta(seconds=60)
    renewal_spacing: timedelta = timedelta(hours=6)
    max_age: timedelta = timedelta(hours=24)
    grace: timedelta = timedelta(hours=24)
    min_resolved: int = 300
    refit: timedelta = timedelta(hours=24)

    @classmethod
    def of(cls, settings: PredictionSettings) -> "Rules":
        """The rules as configured."""
        return cls(
            growth=settings.prediction_growth,
            growth_spacing=timedelta(seconds=settings.prediction_growth_spacing_seconds),
            renewal_spacing=timedelta(hours=settings.prediction_renewal_spacing_hours),
            max_age=timedelta(hours=settings.prediction_max_age_hours),
            grace=timedelta(hours=settings.prediction_grace_hours),
            min_resolved=settings.prediction_min_resolved,
            refit=timedelta(hours=settings.prediction_refit_hours),
        )


class _Fit(Struct, frozen=True):
    """A model on its way: of the workspace's past up to begun_at, to be said under model_id."""

    workspace_id: str
    model_id: str
    begun_at: datetime
    task: asyncio.Task[Model | None]


class Forecaster:
    """Turns what happens to patterns into predictions, and resolves them; one per partition.

    Every id follows from the causing event and every append is guarded, so that seeing an event again repeats
    nothing. pool: the projector's role on this service's schema.
    """

    def __init__(
        self, event_log: EventLog, pool: Pool, *, rules: Rules, clock: Callable[[], datetime]
    ) -> None:
        self._log = event_log
        self._pool = pool
        self._rules = rules
        self._clock = clock
        self._memory = Memory()
        self._position = 0
        self._fit: _Fit | None = None

    async def start(self, *, partition: int, position: int, caught_up_at: int) -> None:
        """Load the memory from the rows."""
        if self._fit is not None:
            self._fit.task.cancel()
            self._fit = None
        self._position = position
        async with self._pool.connection() as conn:
            self._memory = await load_memory(
                conn,
                is_ours=lambda workspace_id: self._log.partition_of(workspace_id) == partition,
                renewal_spacing=self._rules.renewal_spacing,
                max_age=self._rules.max_age,
            )
        self._memory.ask_for_the_neglected(growth=self._rules.growth)
        log.info(
            "forecaster.started",
            partition=partition,
            n_patterns=len(self._memory.patterns),
            position=position,
            log_end=caught_up_at,
        )

    async def observe(self, batch: Sequence[Recorded[Event]], *, live: bool) -> None:
        """Take a batch; when live, decide what it makes due: O(patterns touched), no query when nothing is."""
        for event in batch:
            observe(self._memory, event, is_fresh=event.seq > self._position, growth=self._rules.growth)
        if live:
            await self._decide(self._clock())

    async def tick(self, *, now: datetime) -> None:
        """Resolve windows that ended, renew forecasts that grew old or came true, and go on with what is still due."""
        ended = self._memory.ended(before=now - self._rules.grace, limit=MAX_MISSES_PER_ROUND)
        await self._resolve([(workspace_id, state, None) for workspace_id, state in ended], now)
        limit = MAX_FORECASTS_PER_ROUND
        old = self._memory.grown_old(before=now - self._rules.max_age, limit=limit)
        without = self._memory.without_forecast(now=now, limit=limit)
        for tracked in (*old, *without):
            self._memory.due.setdefault(tracked.key, Due(tracked.forecast_id, None))
        await self._decide(now)
        if self._fit is None:
            workspace_id = self._memory.due_to_learn(now, refit=self._rules.refit)
            if workspace_id is not None:
                self._fit = self._begin_fit(workspace_id, now)
        elif self._fit.task.done():
            fit, self._fit = self._fit, None
            await self._say_fitted(fit, now)

    def _begin_fit(self, workspace_id: str, now: datetime) -> _Fit:
        """Learn a workspace's model beside the ticks, which are everybody's turn.

        One at a time, so that a night costs one core at most.
        """
        last = self._memory.models.get(workspace_id)
        # From the one before: a second leader that decides the same conflicts.
        model_id = derived_id("mdl_", workspace_id, "" if last is None else last.model_id)
        return _Fit(workspace_id, model_id, now, asyncio.create_task(self._learn(workspace_id, now)))

    async def _learn(self, workspace_id: str, now: datetime) -> Model | None:
        async with self._pool.connection() as conn:
            past = await load_past(conn, workspace_id, now=now)
        return None if past is None else await learn_apart(past)

    async def _say_fitted(self, fit: _Fit, now: datetime) -> None:
        """Append what was learned, unless the workspace is gone; what the fit raised is raised here."""
        model, model_id, workspace_id = fit.task.result(), fit.model_id, fit.workspace_id
        if model is None or workspace_id not in self._memory.n_shown:
            return
        event = record(
            model_fitted(model_id, model),
            workspace_id=workspace_id,
            aggregate_id=model_id,
            occurred_at=fit.begun_at,
            recorded_at=now,
            source=SERVICE,
            correlation_id=model_id,
            event_id=derived_id("evt_", model_id),
        )
        try:
            await self._log.append(Append(event, expected=0))
        except ConflictError:
            log.info("model.already_fitted", model_id=model_id)
            return
        log.info("model.fitted", workspace_id=workspace_id, model_id=model_id)

    async def _decide(self, now: datetime) -> None:
        if self._memory.hits:
            found = [
                (key[0], state, hit)
                for key, hit in self._memory.hits.items()
                if (state := self._memory.find_open(*key)) is not None
            ]
            await self._resolve(found, now)
            self._memory.hits.clear()
        # All of it: the position moves on afterwards, and a restart does not bring the causes back.
        while chosen := self._due_now(now):
            await self._forecast(chosen, now)

    def _due_now(self, now: datetime) -> list[tuple[Tracked, Due]]:
        """What to forecast in this round; growth alone waits until the last forecast is a little older."""
        chosen: list[tuple[Tracked, Due]] = []
        for key, due in self._memory.due.items():
            tracked = self._memory.patterns[key]
            last = tracked.forecast_at
            if due.is_growth and last is not None and now - last < self._rules.growth_spacing:
                continue
            chosen.append((tracked, due))
            if len(chosen) == MAX_FORECASTS_PER_ROUND:
                break
        return chosen

    async def _resolve(self, found: Sequence[tuple[str, Prediction, Hit | None]], now: datetime) -> None:
        """Append hits and misses, each guarded by itself; whoever was faster is heard and the rest decided again."""
        pending = list(found)
        for _ in range(MAX_ATTEMPTS):
            decided = [
                (item, append) for item in pending if (append := self._resolution(*item, now=now)) is not None
            ]
            if not decided:
                return
            results = await self._log.append_each([append for _, append in decided])
            pending = []
            for ((workspace_id, state, hit), _), result in zip(decided, results, strict=True):
                if isinstance(result, Conflict):
                    fresh = await self._reload(workspace_id, state)
                    if fresh is not None:
                        pending.append((workspace_id, fresh, hit))
                else:
                    outcome = Outcome.MISS if hit is None else Outcome.HIT
                    self._memory.drop_open(workspace_id, state.prediction_id, outcome=outcome)
            log.info("predictions.resolved", n_resolved=len(decided) - len(pending), n_again=len(pending))
        if pending:
            # The projector starts us again from the rows, and then everything is decided anew.
            raise ConflictError(f"prediction/{pending[0][1].prediction_id}", pending[0][1].seq)

    def _resolution(
        self, workspace_id: str, state: Prediction, hit: Hit | None, *, now: datetime
    ) -> Append | None:
        """The guarded outcome; None when a prevented prediction has run out, which says nothing until taken back."""
        if hit is None and state.is_censored:
            return None
        event = record(
            resolve_miss(state) if hit is None else resolve_hit(state, hit.issue_id),
            workspace_id=workspace_id,
            aggregate_id=state.prediction_id,
            occurred_at=state.expires_at if hit is None else hit.at,
            recorded_at=now,
            source=SERVICE,
            cause=None if hit is None else hit.event,
            correlation_id=None if hit is not None else state.prediction_id,
            event_id=derived_id("evt_", state.prediction_id, "resolved"),
        )
        return Append(event, expected=state.seq)

    async def _reload(self, workspace_id: str, state: Prediction) -> Prediction | None:
        """The prediction as the log has it now; None when somebody has resolved it already."""
        fresh = fold(await self._log.history(workspace_id, "prediction", state.prediction_id))
        if fresh is None or fresh.outcome is not None:
            outcome = None if fresh is None else fresh.outcome
            self._memory.drop_open(workspace_id, state.prediction_id, outcome=outcome)
            return None
        self._memory.replace_open(workspace_id, fresh)
        return fresh

    async def _forecast(self, chosen: Sequence[tuple[Tracked, Due]], now: datetime) -> None:
        async with self._pool.connection() as conn:
            material = await load_material(conn, [tracked.key for tracked, _ in chosen])
            workspaces = sorted({tracked.workspace_id for tracked, _ in chosen})
            tallies = await load_tallies(conn, workspaces, now=now, grace=self._rules.grace)
        by_workspace: dict[str, list[tuple[Tracked, Due, list[Append]]]] = {}
        for tracked, due in chosen:
            rows = material.get(tracked.key)
            if rows is None:
                # Every issue was taken out of it: nothing to forecast from until the next one.
                self._memory.due.pop(tracked.key, None)
                continue
            command = self._command(tracked, due, rows, tallies.get(tracked.workspace_id, {}))
            appends = _made(command, due, now=now)
            by_workspace.setdefault(tracked.workspace_id, []).append((tracked, due, appends))
        for decided in by_workspace.values():
            await self._append(decided, now)

    def _command(
        self, tracked: Tracked, due: Due, rows: Material, tallies: Mapping[int, Tally]
    ) -> ForecastPattern:
        learned = self._memory.models.get(tracked.workspace_id)
        n_shown = self._memory.n_shown[tracked.workspace_id]
        return ForecastPattern(
            workspace_id=tracked.workspace_id,
            pattern_id=tracked.pattern_id,
            cause_id=due.cause_id,
            occurrences=rows.occurrences,
            severities=rows.severities,
            zone=zone_of(self._memory.zones.get(tracked.workspace_id, "UTC")),
            neighbours=rows.neighbours,
            tallies=tallies,
            outlooks=tracked.outlooks,
            alert_probability=self._memory.threshold(tracked.workspace_id),
            min_resolved=self._rules.min_resolved,
            model=None if learned is None or learned.model is None else (learned.model_id, learned.model),
            is_held_out=is_held_out(tracked.workspace_id, tracked.pattern_id, n_shown=n_shown),
        )

    async def _append(self, decided: Sequence[tuple[Tracked, Due, list[Append]]], now: datetime) -> None:
        """All forecasts of a workspace at once; after a conflict one pattern at a time, to find whose it is."""
        try:
            await self._log.append(*(append for _, _, appends in decided for append in appends))
        except ConflictError:
            if len(decided) > 1:
                for one in decided:
                    await self._append([one], now)
                return
            log.info("forecast.already_made", pattern_id=decided[0][0].pattern_id)
        for tracked, due, appends in decided:
            self._settle(tracked, due, appends, now)
        log.info("forecasts.made", workspace_id=decided[0][0].workspace_id, n_patterns=len(decided))

    def _settle(self, tracked: Tracked, due: Due, appends: Sequence[Append], now: datetime) -> None:
        """Remember what was said before the log says it back, so that the next batch does not ask again."""
        if self._memory.due.get(tracked.key) is due:
            del self._memory.due[tracked.key]
        first = appends[0].event.aggregate_id
        self._memory.set_forecast(tracked, at=now, forecast_id=first, n_issues=tracked.n_issues)
        for append in appends:
            data = append.event.data
            if isinstance(data, prediction.PredictionMade):
                before = tracked.outlooks.get(data.window_days)
                threshold = None if before is None else before.threshold
                tracked.outlooks[data.window_days] = Outlook(data.probability, threshold)
            elif isinstance(data, prediction.AlertFired):
                tracked.outlooks[data.window_days] = Outlook(data.probability, data.threshold)


def _made(command: ForecastPattern, due: Due, *, now: datetime) -> list[Append]:
    """The events of a forecast, each subject new to the log: a second decision for the same cause conflicts."""
    return [
        Append(
            record(
                data,
                workspace_id=command.workspace_id,
                aggregate_id=data.prediction_id,
                occurred_at=now,
                recorded_at=now,
                source=SERVICE,
                cause=due.event,
                correlation_id=due.cause_id if due.event is None else None,
                event_id=derived_id("evt_", data.prediction_id, type(data).__name__),
            ),
            expected=0,
        )
        for data in forecast_pattern(command, now=now)
    ]
