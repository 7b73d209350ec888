"""Given, when, then: tests of pure decisions that read as sentences."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Generic, TypeVar

from msgspec import Struct

StateT = TypeVar("StateT")
EventT = TypeVar("EventT")


class Outcome(Generic[EventT]):
    """What a decision gave: events, or the refusal that it raised."""

    def __init__(self, events: Sequence[EventT], refusal: Exception | None) -> None:
        self.events = tuple(events)
        self.refusal = refusal

    def then(self, *expected: EventT) -> None:
        """Exactly these events were decided; none at all for "nothing happens"."""
        assert self.refusal is None, f"refused: {self.refusal!r}"
        assert tuple(expected) == self.events

    def then_refused(self, kind: type[Exception]) -> None:
        """The decision was refused with this error."""
        assert self.refusal is not None, f"not refused, but decided {self.events}"
        assert type(self.refusal) is kind, f"refused with {self.refusal!r}"


class Given(Struct, Generic[StateT, EventT], frozen=True):
    """A state, reached by folding events."""

    state: StateT

    def when(self, decide: Callable[[StateT], Sequence[EventT]]) -> Outcome[EventT]:
        """Decide on the state: `.when(lambda state: close_pattern(command, state, now=NOW))`."""
        try:
            return Outcome(decide(self.state), None)
        except Exception as refusal:  # noqa: BLE001  # a test asks for the refusal, whatever it is
            return Outcome((), refusal)


def given(
    initial: StateT, evolve: Callable[[StateT, EventT], StateT], *events: EventT
) -> Given[StateT, EventT]:
    """The state after `events`: `given(Pattern(), evolve, detected, linked)`."""
    return Given(reduce(evolve, events, initial))
