"""Others' events → our decisions; and the memory of the leader that people's commands change as well."""

from .reaction import PatternReaction

__all__ = ["PatternReaction"]
