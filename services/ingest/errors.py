"""What ingest refuses, and why; what can go wrong with a vendor."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Literal

from contracts import connector
from runtime.errors import (
    AppError,
    NotFoundError,
    PlanLimitError,
    StateConflictError,
    UnavailableError,
    ValidationFailedError,
)

RETRY_AFTER_SECONDS = 1
VENDOR_RETRY_AFTER_SECONDS = 30.0
DETAIL_CHARACTERS_MAX: Final = 500

VendorErrorCode = Literal[
    "credentials_rejected",
    "oauth_expired",
    "rate_limited",
    "unreachable",
    "vendor_failed",
    "bad_answer",
    "address_refused",
    "not_configured",
]
_PASSING = frozenset({"rate_limited", "unreachable", "vendor_failed", "bad_answer"})


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


class PlanFullError(PlanLimitError):
    """Not all that is new fits into what the plan allows in a month.

    refused: the records that were not taken, in order, each with when it came, where that is known. counts: what became
    of the others.
    """

    def __init__(
        self, reason: str, refused: Sequence[tuple[object, datetime | None]], counts: connector.SyncCounts
    ) -> None:
        super().__init__(reason, details={"limit": "events_per_month"})
        self.refused = tuple(refused)
        self.counts = counts


class InvalidConnectorError(AppError):
    """What was decided about a connector or a run is wrong; `details` says for each field what to do about it."""

    code = "connector_refused"
    status = 422

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        text = "; ".join(f"{field}: {problem}" for field, problem in self.problems.items())
        super().__init__(text, details=self.problems)


class ConnectorNotFoundError(NotFoundError):
    """The workspace has no such connector."""

    def __init__(self, connector_id: str) -> None:
        super().__init__(f"there is no connector {connector_id}", details={"id": connector_id})


class ConnectorUnreadableError(UnavailableError):
    """Another release has written the connector, and this one cannot read it; what is for it waits for one that can."""

    def __init__(self, connector_id: str) -> None:
        super().__init__(f"connector {connector_id} cannot be read", details={"id": connector_id})


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


class ConnectorNotConnectedError(StateConflictError):
    """What was asked for needs credentials that work."""

    def __init__(self, connector_id: str, status: str) -> None:
        super().__init__(
            f"connector {connector_id} is {status}; connect it first",
            details={"id": connector_id, "status": status},
        )


class AuthorizationGoneError(StateConflictError):
    """A sign-in with this state was never begun, was ended already, or took longer than ten minutes."""

    def __init__(self) -> None:
        super().__init__("This sign-in has ended: it is good once, and for ten minutes. Begin a new one.")


class AuthorizationRefusedError(StateConflictError):
    """The person or the vendor did not agree; with the vendor's words."""

    def __init__(self, words: str) -> None:
        super().__init__(f"The vendor did not agree: {words}.", details={"vendor": words})


class VendorError(Exception):
    """A vendor was not asked, did not answer, or answered what cannot be used.

    detail: for people, at most 500 characters, without secrets. retry_after: seconds, where the vendor said them.
    status: by which HTTP status it refused what was asked; None: otherwise.
    """

    def __init__(
        self,
        code: VendorErrorCode,
        detail: str,
        *,
        retry_after: float | None = None,
        status: int | None = None,
    ) -> None:
        self.code: VendorErrorCode = code
        self.status = status
        self.detail = detail[:DETAIL_CHARACTERS_MAX]
        self.retry_after = retry_after
        super().__init__(f"{code}: {self.detail}")


class AccountBusyError(VendorError):
    """A vendor was not asked, since by our own pace its account is not to be asked so soon. seconds: until it may be."""

    def __init__(self, seconds: float) -> None:
        super().__init__("rate_limited", "others ask this account as well", retry_after=seconds)
        self.seconds = seconds


class VendorRefusedError(StateConflictError):
    """A vendor refuses what was asked, or cannot be asked as the connector is set; with a code and its words."""

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(words, details={"reason": reason})


class VendorUnavailableError(UnavailableError):
    """A vendor does not answer now; trying again later may work."""

    def __init__(self, reason: str, words: str, *, retry_after: float | None) -> None:
        super().__init__(
            words, details={"reason": reason}, retry_after=retry_after or VENDOR_RETRY_AFTER_SECONDS
        )


def refusal(error: VendorError) -> AppError:
    """The refusal that a vendor's failure becomes: of the request, or of the moment."""
    if error.code in _PASSING:
        return VendorUnavailableError(error.code, error.detail, retry_after=error.retry_after)
    return VendorRefusedError(error.code, error.detail)


class InvalidTicketError(ValidationFailedError):
    """A ticket cannot be made of this; `problems` says for each field what to do about it."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        text = "; ".join(f"{field}: {problem}" for field, problem in problems.items())
        super().__init__(text, details=problems)


class TicketUnsettledError(UnavailableError):
    """Whether an earlier try has made the ticket is not known yet."""

    def __init__(self, *, retry_after: float) -> None:
        super().__init__(
            "a ticket is being made, or may have been made by a try whose answer was lost; ask again, it is looked up",
            retry_after=retry_after,
        )


class TicketUncertainError(StateConflictError):
    """An earlier try may have made the ticket, and this tracker cannot be asked for it."""

    def __init__(self, marker: str) -> None:
        super().__init__(
            f"an earlier try may have made the ticket and the tracker cannot be asked; look for {marker} in it."
            " A day after the try it can be pushed again",
            details={"marker": marker},
        )


class TooManyConnectorsError(StateConflictError):
    """The workspace has as many connectors as it may."""

    def __init__(self, most: int) -> None:
        super().__init__(f"there are {most} connectors already; delete one first")
