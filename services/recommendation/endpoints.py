"""The door on the bus: a request is decided on the recommendation's own history and appended, guarded."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec
from contracts import recommendation
from contracts import record as in_envelope
from eventlog import Append, ConflictError, EventLog, LogUnavailableError
from msgspec.structs import replace
from runtime.broker import CommandContext, Endpoint
from runtime.database import Pool

from services.recommendation import _queries
from services.recommendation.commands import change_status, check_step, define_play, sent_play, withdraw_play
from services.recommendation.engine.playbook import Playbook
from services.recommendation.errors import (
    LogUnreachableError,
    PlaybookContendedError,
    RecommendationContendedError,
    RecommendationNotFoundError,
    ScopeError,
)
from services.recommendation.state import OwnPlays, Recommendation, evolve, fold

MAX_ATTEMPTS = 5

C = TypeVar("C", recommendation.ChangeStatus, recommendation.CheckStep)
Decision = Callable[
    [C, Recommendation],
    Sequence[recommendation.RecommendationStatusChanged | recommendation.RecommendationStepChecked],
]


class Desk:
    """Answers commands about recommendations."""

    def __init__(self, event_log: EventLog, *, clock: Callable[[], datetime]) -> None:
        self._log = event_log
        self._clock = clock

    def endpoints(self) -> list[Endpoint]:
        """What this service answers on the bus."""
        names = recommendation.ENDPOINTS
        return [
            Endpoint(names[recommendation.ChangeStatus], recommendation.ChangeStatus, self.change_status),
            Endpoint(names[recommendation.CheckStep], recommendation.CheckStep, self.check_step),
        ]

    async def change_status(
        self, command: recommendation.ChangeStatus, context: CommandContext
    ) -> recommendation.RecommendationChanged:
        """Take up, finish, reopen or dismiss a recommendation."""
        at = command.implemented_at
        if at is not None and at > self._clock():
            raise ScopeError("implemented_at", "must not be in the future")
        return await self._decide(command, context, change_status, at=at)

    async def check_step(
        self, command: recommendation.CheckStep, context: CommandContext
    ) -> recommendation.RecommendationChanged:
        """Tick a step of a recommendation, or take the tick back."""
        return await self._decide(command, context, check_step)

    async def _decide(
        self, command: C, context: CommandContext, decision: Decision[C], *, at: datetime | None = None
    ) -> recommendation.RecommendationChanged:
        """Decide on the history and append; when somebody was faster, again, at most 5 times. at: event time; None: now."""
        try:
            for _ in range(MAX_ATTEMPTS):
                state = await self._load(command.recommendation_id, context)
                try:
                    return await self._append(decision(command, state), state, context, at=at)
                except ConflictError:
                    continue
        except LogUnavailableError as error:
            raise LogUnreachableError from error
        raise RecommendationContendedError(command.recommendation_id)

    async def _load(self, recommendation_id: str, context: CommandContext) -> Recommendation:
        state = fold(await self._log.history(context.workspace_id, "recommendation", recommendation_id))
        if state is None:
            raise RecommendationNotFoundError(recommendation_id)
        return state

    async def _append(
        self,
        events: Sequence[
            recommendation.RecommendationStatusChanged | recommendation.RecommendationStepChecked
        ],
        state: Recommendation,
        context: CommandContext,
        *,
        at: datetime | None,
    ) -> recommendation.RecommendationChanged:
        for event in events:
            now = self._clock()
            recorded = in_envelope(
                event,
                workspace_id=context.workspace_id,
                aggregate_id=state.recommendation_id,
                occurred_at=at or now,
                recorded_at=now,
                source="recommendation",
                actor=context.actor,
                correlation_id=context.correlation_id or None,
                traceparent=context.traceparent,
            )
            seq = await self._log.append(Append(recorded, expected=state.seq))
            state = replace(evolve(state, recorded) or state, seq=seq)
        return recommendation.RecommendationChanged(
            recommendation_id=state.recommendation_id, status=state.status, sequence=state.seq
        )


class PlaybookDesk:
    """Answers commands about a workspace's own plays, and what plays every workspace has."""

    def __init__(
        self,
        event_log: EventLog,
        pool: Pool,
        playbook: Playbook,
        *,
        clock: Callable[[], datetime],
        reached: Callable[[str, int], Awaitable[bool]],
    ) -> None:
        """reached: whether the rows hold all of a workspace up to a sequence, after a little wait if need be."""
        self._log = event_log
        self._pool = pool
        self._clock = clock
        self._reached = reached
        self._shipped = frozenset(play.id for play in playbook.plays)
        self._catalogue = recommendation.Catalogue(
            version=playbook.version, plays=tuple(sent_play(play) for play in playbook.plays)
        )

    def endpoints(self) -> list[Endpoint]:
        """What this service answers on the bus about plays."""
        names = recommendation.ENDPOINTS
        return [
            Endpoint(names[recommendation.DefinePlay], recommendation.DefinePlay, self.define_play),
            Endpoint(names[recommendation.WithdrawPlay], recommendation.WithdrawPlay, self.withdraw_play),
            Endpoint(names[recommendation.ReadCatalogue], recommendation.ReadCatalogue, self.read_catalogue),
        ]

    async def define_play(
        self, command: recommendation.DefinePlay, context: CommandContext
    ) -> recommendation.PlaybookChanged:
        """Add a play to the workspace's own, or change it."""

        def decide(state: OwnPlays) -> Sequence[recommendation.PlayDefined]:
            return define_play(command, state, workspace_id=context.workspace_id)

        return await self._decide(decide, context, play_id=command.play.play_id)

    async def withdraw_play(
        self, command: recommendation.WithdrawPlay, context: CommandContext
    ) -> recommendation.PlaybookChanged:
        """Take a play of the workspace's own back."""

        def decide(state: OwnPlays) -> Sequence[recommendation.PlayWithdrawn]:
            return withdraw_play(command, state, workspace_id=context.workspace_id, shipped=self._shipped)

        return await self._decide(decide, context, play_id=command.play_id)

    async def read_catalogue(
        self, command: recommendation.ReadCatalogue, context: CommandContext
    ) -> recommendation.Catalogue:
        """The plays that every workspace has, or one of them."""
        if command.play_id is None:
            return self._catalogue
        plays = tuple(play for play in self._catalogue.plays if play.play_id == command.play_id)
        return replace(self._catalogue, plays=plays)

    async def _decide(
        self,
        decide: Callable[[OwnPlays], Sequence[recommendation.PlayDefined | recommendation.PlayWithdrawn]],
        context: CommandContext,
        *,
        play_id: str,
    ) -> recommendation.PlaybookChanged:
        """Decide on the workspace's plays and append; when somebody was faster, again, at most 5 times."""
        workspace_id = context.workspace_id
        try:
            for _ in range(MAX_ATTEMPTS):
                state = await self._load(workspace_id, play_id)
                decided = decide(state)
                try:
                    seq = state.seq
                    for each in decided:
                        seq = await self._append(each, context, expected=seq)
                except ConflictError:
                    continue
                return recommendation.PlaybookChanged(play_id=play_id, is_changed=bool(decided), sequence=seq)
        except LogUnavailableError as error:
            raise LogUnreachableError from error
        raise PlaybookContendedError

    async def _load(self, workspace_id: str, play_id: str) -> OwnPlays:
        """What the rows say once they hold the last event; the log itself would be read from its beginning each time."""
        last = await self._log.latest(workspace_id, "playbook", workspace_id)
        if last is None:
            return OwnPlays()
        if not await self._reached(workspace_id, last.seq):
            raise PlaybookContendedError
        async with self._pool.connection() as conn:
            rows = await _queries.find_own_play(conn, workspace_id=workspace_id, play_id=play_id)
        if not rows:
            return OwnPlays()
        [row] = rows
        known = None if row.play is None else msgspec.json.decode(row.play, type=recommendation.Play)
        return OwnPlays(known=known, n_plays=row.n_plays, seq=row.plays_seq or 0)

    async def _append(
        self,
        event: recommendation.PlayDefined | recommendation.PlayWithdrawn,
        context: CommandContext,
        *,
        expected: int,
    ) -> int:
        now = self._clock()
        recorded = in_envelope(
            event,
            workspace_id=context.workspace_id,
            aggregate_id=context.workspace_id,
            occurred_at=now,
            recorded_at=now,
            source="recommendation",
            actor=context.actor,
            correlation_id=context.correlation_id or None,
            traceparent=context.traceparent,
        )
        return await self._log.append(Append(recorded, expected=expected))
