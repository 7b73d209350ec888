"""What the leader keeps in memory, so that an event that makes nothing due costs no query."""

from collections import Counter
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from typing import TypeAlias

from contracts import Event, Recorded
from contracts.generated.pattern import PatternStatus
from contracts.generated.prediction import Outcome
from msgspec import Struct

from services.prediction.commands import Outlook, prediction_id
from services.prediction.engine.gamma_poisson import WINDOWS_DAYS
from services.prediction.engine.recurrence import Model
from services.prediction.state import Prediction

Key: TypeAlias = tuple[str, str]
"""Workspace and pattern, or workspace and prediction."""

FORECAST = frozenset(
    {PatternStatus.EMERGING, PatternStatus.ACTIVE, PatternStatus.MITIGATING, PatternStatus.WATCHING}
)
"""Patterns in these states are forecast."""

MAX_MERGES = 100
LEARN_SPACING = timedelta(minutes=1)
RENEWAL_FIRST = timedelta(minutes=1)
MAX_DOUBLINGS = 20


class Due(Struct, frozen=True):
    """Why a pattern is to be forecast: an event, or (event None) a forecast that grew old."""

    cause_id: str
    event: Recorded[Event] | None
    is_growth: bool = False


class Hit(Struct, frozen=True):
    """An issue inside the window of an open prediction."""

    issue_id: str
    at: datetime
    event: Recorded[Event]


class Tracked(Struct, kw_only=True):
    """A pattern that was shown: its size now and at its last forecast, and its open predictions by id.

    n_renewals: forecasts that followed from the one before, since it was last forecast a day after that; at most MAX_DOUBLINGS.
    has_come_true: one of its last forecast has. Both follow from its predictions, of which a restart reads the last
        MAX_DOUBLINGS + 1 forecasts: it changes nothing, unless more than those were made for other reasons within a day each.
    """

    workspace_id: str
    pattern_id: str
    status: PatternStatus
    n_issues: int = 0
    forecast_n_issues: int = 0
    forecast_at: datetime | None = None
    forecast_id: str = ""
    n_renewals: int = 0
    has_come_true: bool = False
    merged_into: str | None = None
    outlooks: dict[int, Outlook] = {}
    open: dict[str, Prediction] = {}

    @property
    def key(self) -> Key:
        """Workspace and pattern."""
        return self.workspace_id, self.pattern_id

    @property
    def is_forecast(self) -> bool:
        """Whether its status calls for forecasts."""
        return self.status in FORECAST

    def take_forecast(self, *, at: datetime, forecast_id: str, max_age: timedelta) -> None:
        """It was forecast, after those that were taken before; the same one again changes nothing."""
        if forecast_id == self.forecast_id:
            return
        if self.forecast_at is None or at - self.forecast_at >= max_age:
            self.n_renewals = 0
        elif forecast_id == prediction_id(
            self.workspace_id, self.pattern_id, self.forecast_id, WINDOWS_DAYS[0]
        ):
            self.n_renewals = min(self.n_renewals + 1, MAX_DOUBLINGS)
        self.forecast_at, self.forecast_id, self.has_come_true = at, forecast_id, False

    def has_grown(self, by: float) -> bool:
        """Whether it has at least `by` times the members of its last forecast."""
        return self.forecast_n_issues > 0 and self.n_issues >= by * self.forecast_n_issues


class Learned(Struct, frozen=True):
    """A workspace's last model; None when it was made by another method. model_id: of the event that says it."""

    model_id: str
    at: datetime
    model: Model | None


class Memory:
    """Shown patterns, what is undecided, and when something becomes due by time alone."""

    def __init__(
        self, *, renewal_spacing: timedelta = timedelta(hours=6), max_age: timedelta = timedelta(hours=24)
    ) -> None:
        self._renewal_spacing = renewal_spacing
        self._max_age = max_age
        self.patterns: dict[Key, Tracked] = {}
        self.due: dict[Key, Due] = {}
        self.hits: dict[Key, Hit] = {}
        self.zones: dict[str, str] = {}
        self.thresholds: dict[str, float] = {}
        self.models: dict[str, Learned] = {}
        self.n_shown: Counter[str] = Counter()
        self._asked_to_learn: dict[str, tuple[datetime, int]] = {}
        self._ages: list[tuple[datetime, Key]] = []
        self._came_true: list[tuple[datetime, datetime, Key]] = []
        self._ends: list[tuple[datetime, str, str]] = []
        self._owners: dict[Key, Tracked] = {}

    def add(self, tracked: Tracked) -> None:
        """A pattern is shown from now on."""
        self.patterns[tracked.key] = tracked
        self.n_shown[tracked.workspace_id] += 1

    def learn(self, workspace_id: str, learned: Learned) -> None:
        """A workspace has another model; patterns that were forecast without any are due again."""
        is_first = workspace_id not in self.models and learned.model is not None
        self.models[workspace_id] = learned
        if is_first:
            for key, tracked in self.patterns.items():
                if key[0] == workspace_id and tracked.is_forecast:
                    self.due.setdefault(key, Due(learned.model_id, None))

    def due_to_learn(self, now: datetime, *, refit: timedelta) -> str | None:
        """A workspace whose model is old, or that has grown by half while it has none; asked once each time."""
        for workspace_id, n_shown in self.n_shown.items():
            learned = self.models.get(workspace_id)
            last, n_then = self._asked_to_learn.get(workspace_id, (None, 0))
            if last is None and learned is not None and learned.model is not None:
                last = learned.at
            has_grown = learned is None and n_shown >= 1.5 * n_then
            if last is None or now - last >= refit or (has_grown and now - last >= LEARN_SPACING):
                self._asked_to_learn[workspace_id] = (now, n_shown)
                return workspace_id
        return None

    def holder(self, workspace_id: str, pattern_id: str) -> Tracked | None:
        """The pattern, or the one that it was merged into, however often."""
        tracked = self.patterns.get((workspace_id, pattern_id))
        for _ in range(MAX_MERGES):
            if tracked is None or tracked.merged_into is None:
                return tracked
            tracked = self.patterns.get((workspace_id, tracked.merged_into), tracked)
        return tracked

    def add_open(self, workspace_id: str, state: Prediction) -> None:
        """Remember an open prediction with the pattern whose issues decide about it."""
        tracked = self.holder(workspace_id, state.pattern_id)
        if tracked is not None:
            tracked.open[state.prediction_id] = state
            self._owners[workspace_id, state.prediction_id] = tracked
            heappush(self._ends, (state.expires_at, workspace_id, state.prediction_id))

    def find_open(self, workspace_id: str, prediction_id: str) -> Prediction | None:
        """The open prediction with this id, None when it was decided or never known."""
        tracked = self._owners.get((workspace_id, prediction_id))
        return None if tracked is None else tracked.open.get(prediction_id)

    def replace_open(self, workspace_id: str, state: Prediction) -> None:
        """An open prediction has changed; one that is no longer called prevented ends again."""
        tracked = self._owners.get((workspace_id, state.prediction_id))
        if tracked is not None and (before := tracked.open.get(state.prediction_id)) is not None:
            tracked.open[state.prediction_id] = state
            if before.is_censored and not state.is_censored:
                heappush(self._ends, (state.expires_at, workspace_id, state.prediction_id))

    def drop_open(self, workspace_id: str, prediction_id: str, *, outcome: Outcome | None = None) -> None:
        """Forget a prediction that was decided; outcome None: it is shown no longer, or gone."""
        self.hits.pop((workspace_id, prediction_id), None)
        tracked = self._owners.pop((workspace_id, prediction_id), None)
        if tracked is None:
            return
        state = tracked.open.pop(prediction_id, None)
        if outcome is Outcome.HIT and state is not None and state.made_at == tracked.forecast_at:
            tracked.has_come_true = True
        self.renew_later(tracked)

    def forget(self, workspace_id: str) -> None:
        """Drop everything of a workspace that is no more; what is due by time alone then finds nothing."""
        self.zones.pop(workspace_id, None)
        self.thresholds.pop(workspace_id, None)
        self.models.pop(workspace_id, None)
        self.n_shown.pop(workspace_id, None)
        self._asked_to_learn.pop(workspace_id, None)
        for memory in (self.patterns, self.due, self.hits, self._owners):
            for key in [key for key in memory if key[0] == workspace_id]:
                del memory[key]
        self._ages = [entry for entry in self._ages if entry[1][0] != workspace_id]
        self._ends = [entry for entry in self._ends if entry[1] != workspace_id]
        self._came_true = [entry for entry in self._came_true if entry[2][0] != workspace_id]
        heapify(self._ages)
        heapify(self._came_true)
        heapify(self._ends)

    def hand_over(self, source: Tracked, target: Tracked) -> None:
        """The issues of the target decide about the source's open predictions from now on."""
        for open_id in source.open:
            self._owners[source.workspace_id, open_id] = target
        target.open.update(source.open)
        source.open.clear()

    def set_forecast(self, tracked: Tracked, *, at: datetime, forecast_id: str, n_issues: int) -> None:
        """The pattern has been forecast; it grows old from now on."""
        tracked.take_forecast(at=at, forecast_id=forecast_id, max_age=self._max_age)
        tracked.forecast_n_issues = n_issues
        heappush(self._ages, (at, tracked.key))

    def renew_later(self, tracked: Tracked) -> None:
        """Where the last forecast came true and none is open, the pattern is forecast anew, soon or after a while."""
        at = tracked.forecast_at
        if tracked.is_forecast and tracked.has_come_true and not tracked.open and at is not None:
            # Twice as long each time, until it has been quiet for a day: bursts must not be most of the record.
            wait = min(RENEWAL_FIRST * 2**tracked.n_renewals, self._renewal_spacing)
            heappush(self._came_true, (at + wait, at, tracked.key))

    def without_forecast(self, *, now: datetime, limit: int) -> list[Tracked]:
        """Patterns whose forecasts have come true and whose time it is; each is given once."""
        found: dict[Key, Tracked] = {}
        while self._came_true and self._came_true[0][0] <= now and len(found) < limit:
            _, at, key = heappop(self._came_true)
            tracked = self.patterns.get(key)
            if (
                tracked is not None
                and key not in found
                and tracked.is_forecast
                and tracked.forecast_at == at
                and not tracked.open
            ):
                found[key] = tracked
        return list(found.values())

    def ask_for_the_neglected(self, *, growth: float) -> None:
        """Make due what another leader knew to be due and did not get to; seeing the cause again asks better."""
        for key, tracked in self.patterns.items():
            self.renew_later(tracked)
            if tracked.is_forecast and (tracked.forecast_at is None or tracked.has_grown(growth)):
                is_growth = tracked.forecast_at is not None
                # Not the forecast itself, from which only a renewal follows.
                cause_id = f"{tracked.forecast_id}:grown" if is_growth else tracked.pattern_id
                self.due[key] = Due(cause_id, None, is_growth=is_growth)

    def grown_old(self, *, before: datetime, limit: int) -> list[Tracked]:
        """Patterns whose last forecast was made before this, oldest first; each is given once."""
        found: list[Tracked] = []
        while self._ages and self._ages[0][0] <= before and len(found) < limit:
            at, key = heappop(self._ages)
            tracked = self.patterns.get(key)
            if tracked is not None and tracked.is_forecast and tracked.forecast_at == at:
                found.append(tracked)
        return found

    def ended(self, *, before: datetime, limit: int) -> list[tuple[str, Prediction]]:
        """Open predictions whose window ended before this, each with its workspace; each is given once."""
        found: list[tuple[str, Prediction]] = []
        while self._ends and self._ends[0][0] <= before and len(found) < limit:
            _, workspace_id, prediction_id = heappop(self._ends)
            state = self.find_open(workspace_id, prediction_id)
            if state is not None:
                found.append((workspace_id, state))
        return found

    def threshold(self, workspace_id: str) -> float:
        """The probability at which an alert fires in the workspace."""
        return self.thresholds.get(workspace_id, DEFAULT_THRESHOLD)


DEFAULT_THRESHOLD = 0.7
