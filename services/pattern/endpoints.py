"""The door on the bus: what people decide about patterns. Served by the leader only, for it has the memory."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from contracts import pattern
from runtime.broker import CommandContext, Endpoint

from . import commands
from .commands import Decided, Gathered
from .engine.grouping import Grouper
from .engine.memory import Pattern

MAX_SIMILAR = 20

Decide = Callable[[Grouper, Gathered], list[Decided]]


class Leader(Protocol):
    """Who carries a command out: the reaction of the workspace's partition."""

    async def carry_out(
        self,
        context: CommandContext,
        decide: Decide,
        *,
        pattern_id: str | None,
        issue_ids: Sequence[str] = (),
        other_ids: Sequence[str] = (),
    ) -> tuple[Pattern, int]:
        """The pattern that the command was about, and the last sequence."""
        ...

    async def find_similar(self, workspace_id: str, issue_id: str, *, limit: int) -> pattern.SimilarFound:
        """The issues nearest to one."""
        ...

    def recompute_clusters(self, context: CommandContext, *, now: datetime) -> str:
        """The id of the clustering to come."""
        ...

    async def compare_version(self, context: CommandContext, version_id: str, *, now: datetime) -> str:
        """The id of the comparison to come."""
        ...

    async def activate_version(self, context: CommandContext, version_id: str, *, now: datetime) -> int:
        """The sequence that says so."""
        ...


class PatternEndpoints:
    """Answers the commands on patterns.

    leader_of: the leader of a workspace.
    """

    def __init__(self, leader_of: Callable[[str], Leader], *, clock: Callable[[], datetime]) -> None:
        self._leader_of = leader_of
        self._clock = clock

    def all(self) -> list[Endpoint]:
        """Every endpoint, by its name in the contract."""
        names = pattern.ENDPOINTS
        return [
            Endpoint(names[pattern.LinkIssue], pattern.LinkIssue, self.link_issue),
            Endpoint(names[pattern.UnlinkIssue], pattern.UnlinkIssue, self.unlink_issue),
            Endpoint(names[pattern.MergePatterns], pattern.MergePatterns, self.merge_patterns),
            Endpoint(names[pattern.SplitPattern], pattern.SplitPattern, self.split_pattern),
            Endpoint(names[pattern.UpdatePattern], pattern.UpdatePattern, self.update_pattern),
            Endpoint(names[pattern.ClosePattern], pattern.ClosePattern, self.close_pattern),
            Endpoint(names[pattern.AnswerSuggestion], pattern.AnswerSuggestion, self.answer_suggestion),
            Endpoint(
                names[pattern.AnswerContradiction], pattern.AnswerContradiction, self.answer_contradiction
            ),
            Endpoint(names[pattern.FindSimilar], pattern.FindSimilar, self.find_similar),
            Endpoint(names[pattern.RecomputeClusters], pattern.RecomputeClusters, self.recompute_clusters),
            Endpoint(
                names[pattern.CompareGroupingVersion],
                pattern.CompareGroupingVersion,
                self.compare_grouping_version,
            ),
            Endpoint(
                names[pattern.ActivateGroupingVersion],
                pattern.ActivateGroupingVersion,
                self.activate_grouping_version,
            ),
        ]

    async def link_issue(self, command: pattern.LinkIssue, context: CommandContext) -> pattern.PatternChanged:
        """Put an issue into a pattern."""
        return await self._carry_out(
            context,
            lambda grouper, gathered: commands.link_issue(grouper, command, gathered),
            pattern_id=command.pattern_id,
            issue_ids=[command.issue_id],
        )

    async def unlink_issue(
        self, command: pattern.UnlinkIssue, context: CommandContext
    ) -> pattern.PatternChanged:
        """Take an issue out of its pattern."""
        return await self._carry_out(
            context,
            lambda grouper, gathered: commands.unlink_issue(grouper, command, gathered),
            pattern_id=command.pattern_id,
            issue_ids=[command.issue_id],
        )

    async def merge_patterns(
        self, command: pattern.MergePatterns, context: CommandContext
    ) -> pattern.PatternChanged:
        """Move all members of one pattern into another."""
        return await self._carry_out(
            context,
            lambda grouper, gathered: commands.merge_patterns(grouper, command, gathered),
            pattern_id=command.target_pattern_id,
            other_ids=[command.source_pattern_id],
        )

    async def split_pattern(
        self, command: pattern.SplitPattern, context: CommandContext
    ) -> pattern.PatternChanged:
        """Move some members into a new pattern."""
        return await self._carry_out(
            context,
            lambda grouper, gathered: commands.split_pattern(grouper, command, gathered),
            pattern_id=command.pattern_id,
            issue_ids=command.issue_ids[: commands.MAX_SPLIT],
        )

    async def update_pattern(
        self, command: pattern.UpdatePattern, context: CommandContext
    ) -> pattern.PatternChanged:
        """Rename a pattern or move it to another status."""
        return await self._carry_out(
            context,
            lambda grouper, gathered: commands.update_pattern(grouper, command, gathered),
            pattern_id=command.pattern_id,
        )

    async def close_pattern(
        self, command: pattern.ClosePattern, context: CommandContext
    ) -> pattern.PatternChanged:
        """Record what was done; the proof window starts."""
        now = self._clock()
        return await self._carry_out(
            context,
            lambda grouper, gathered: commands.close_pattern(grouper, command, gathered, now=now),
            pattern_id=command.pattern_id,
        )

    async def answer_suggestion(
        self, command: pattern.AnswerSuggestion, context: CommandContext
    ) -> pattern.PatternChanged:
        """Link the issue of a suggestion, or rule that out."""
        return await self._carry_out(
            context,
            lambda grouper, gathered: commands.answer_suggestion(grouper, command, gathered),
            pattern_id=command.pattern_id,
            issue_ids=[command.issue_id],
            other_ids=[command.begun_pattern_id],
        )

    async def answer_contradiction(
        self, command: pattern.AnswerContradiction, context: CommandContext
    ) -> pattern.PatternChanged:
        """Choose between two decisions."""
        return await self._carry_out(
            context,
            lambda grouper, gathered: commands.answer_contradiction(grouper, command, gathered),
            pattern_id=command.pattern_id,
        )

    async def find_similar(
        self, command: pattern.FindSimilar, context: CommandContext
    ) -> pattern.SimilarFound:
        """The issues nearest to one."""
        leader = self._leader_of(context.workspace_id)
        limit = min(max(1, command.limit), MAX_SIMILAR)
        return await leader.find_similar(context.workspace_id, command.issue_id, limit=limit)

    async def recompute_clusters(
        self, _command: pattern.RecomputeClusters, context: CommandContext
    ) -> pattern.ClusteringRequested:
        """Cluster the workspace's patterns anew, soon."""
        leader = self._leader_of(context.workspace_id)
        return pattern.ClusteringRequested(run_id=leader.recompute_clusters(context, now=self._clock()))

    async def compare_grouping_version(
        self, command: pattern.CompareGroupingVersion, context: CommandContext
    ) -> pattern.ComparisonRequested:
        """Find out what a version would move, soon."""
        leader = self._leader_of(context.workspace_id)
        run_id = await leader.compare_version(context, command.version_id, now=self._clock())
        return pattern.ComparisonRequested(run_id=run_id)

    async def activate_grouping_version(
        self, command: pattern.ActivateGroupingVersion, context: CommandContext
    ) -> pattern.GroupingVersionChanged:
        """Group new issues by a version from now on."""
        leader = self._leader_of(context.workspace_id)
        seq = await leader.activate_version(context, command.version_id, now=self._clock())
        return pattern.GroupingVersionChanged(version_id=command.version_id, sequence=seq)

    async def _carry_out(
        self,
        context: CommandContext,
        decide: Decide,
        *,
        pattern_id: str | None,
        issue_ids: Sequence[str] = (),
        other_ids: Sequence[str] = (),
    ) -> pattern.PatternChanged:
        leader = self._leader_of(context.workspace_id)
        found, seq = await leader.carry_out(
            context, decide, pattern_id=pattern_id, issue_ids=issue_ids, other_ids=other_ids
        )
        return pattern.PatternChanged(pattern_id=found.pattern_id, status=found.status, sequence=seq)
