"""What ingest refuses, and why."""

from collections.abc import Mapping

from runtime.errors import NotFoundError, StateConflictError, UnavailableError, ValidationFailedError

RETRY_AFTER_SECONDS = 1


class InvalidIssueError(ValidationFailedError):
    """Fields of a command are wrong; `problems` says for each what to do about it."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        super().__init__(self.reason, details=self.problems)

    @property
    def reason(self) -> str:
        """All problems on one line, each behind the name of its field."""
        return "; ".join(f"{field}: {problem}" for field, problem in self.problems.items())


class IssueNotFoundError(NotFoundError):
    """The workspace has no such issue."""

    def __init__(self, issue_id: str) -> None:
        super().__init__(f"there is no issue {issue_id}", details={"id": issue_id})


class IssueContendedError(StateConflictError):
    """Others kept changing the issue while the command was being decided."""

    def __init__(self, issue_id: str) -> None:
        super().__init__(f"issue {issue_id} keeps changing; send the command again", details={"id": issue_id})


class LogUnreachableError(UnavailableError):
    """The event log did not confirm; sending the same command again is safe."""

    def __init__(self) -> None:
        super().__init__(
            "the event log did not confirm the write; send the same request again, nothing is stored twice",
            retry_after=RETRY_AFTER_SECONDS,
        )


class InvalidConnectorError(ValidationFailedError):
    """What was decided about a connector or a run is wrong; `problems` says for each field what to do about it."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        text = "; ".join(f"{field}: {problem}" for field, problem in self.problems.items())
        super().__init__(text, details=self.problems)


class ConnectorNotFoundError(NotFoundError):
    """The workspace has no such connector."""

    def __init__(self, connector_id: str) -> None:
        super().__init__(f"there is no connector {connector_id}", details={"id": connector_id})


class RunNotFoundError(NotFoundError):
    """The connector has no such run."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"there is no run {run_id}", details={"id": run_id})


class ConnectorContendedError(StateConflictError):
    """Others kept changing the connector or the run while the command was being decided."""

    def __init__(self, aggregate_id: str) -> None:
        super().__init__(
            f"{aggregate_id} keeps changing; send the command again", details={"id": aggregate_id}
        )


class ConnectorPausedError(StateConflictError):
    """The connector is paused, and what was asked for needs it to run."""

    def __init__(self, connector_id: str) -> None:
        super().__init__(f"connector {connector_id} is paused; resume it first", details={"id": connector_id})


class RunEndedError(StateConflictError):
    """The run is over, so it cannot be ended."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id} is over", details={"id": run_id})
