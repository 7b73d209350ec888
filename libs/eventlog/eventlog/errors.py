"""What can go wrong between a service and its log."""

from __future__ import annotations


class EventLogError(Exception):
    """Root of this library's errors."""


class LogUnavailableError(EventLogError):
    """The log did not answer in time; whether the events were stored is unknown.

    Appending again is safe: the guards refuse what is already there.
    """


class ConflictError(EventLogError):
    """Somebody else appended to the aggregate first: load it, decide again."""

    def __init__(self, subject: str, expected: int) -> None:
        super().__init__(f"{subject} is no longer at sequence {expected}")
        self.subject = subject
        self.expected = expected


class AppendRefusedError(EventLogError):
    """The server refuses the events themselves, such as one larger than max_payload."""


class LogTruncatedError(EventLogError):
    """The log ends before a position that was read from it: it came back from a crash without its last events.

    Rows that hold more than the log can only be rebuilt: `causeloop replay`.
    """

    def __init__(self, *, position: int, log_end: int) -> None:
        super().__init__(
            f"the rows are at {position}, the log ends at {log_end}: it has lost events in a crash;"
            " rebuild the rows with `causeloop replay`, then restart the service"
        )


class LogReplacedError(EventLogError):
    """The log holds another event where the rows' last one came from: it was restored and has grown again since.

    The rows belong to a history that is gone and can only be rebuilt: `causeloop replay`.
    """

    def __init__(self, *, seq: int, expected: str, found: str) -> None:
        super().__init__(
            f"the rows hold event {expected} at {seq}, the log has {found} there: it was restored from an older state"
            " and has grown again; rebuild the rows with `causeloop replay`, then restart the service"
        )


class PoisonEventError(EventLogError):
    """A projection or reaction cannot take an event; it stops there and never skips it."""

    def __init__(self, *, seq: int, event_type: str, reason: str) -> None:
        super().__init__(f"event {seq} ({event_type}): {reason}")
        self.seq = seq
        self.event_type = event_type


class ReadModelError(EventLogError):
    """A read model cannot be built, switched or compared; the message says why."""
