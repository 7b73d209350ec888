"""An issue as the engine sees it: its text, its dimensions and its grouping key."""

from datetime import datetime
from functools import lru_cache
from typing import Final

from contracts.generated.ingest import Severity
from msgspec import Struct

from .masking import comparable, has_usable_text, is_machine_text, key_of, mask, masked_title
from .wording import written

DIMENSIONS: Final = ("service", "component", "error_type", "team", "environment", "source", "hour_of_day")
_HOURS = tuple(f"{hour:02d}" for hour in range(24))
# What each set of agreeing dimensions is called, by bit mask; made once, for every link names one of them.
_AGREEMENTS = tuple(
    tuple(name for bit, name in enumerate(DIMENSIONS) if agreement >> bit & 1)
    for agreement in range(1 << len(DIMENSIONS))
)
_N_BODY_CHARACTERS = 300

Dimensions = tuple[str | None, ...]
"""The value of each dimension of DIMENSIONS, in that order; None where the issue has none."""


class Issue(Struct, frozen=True, kw_only=True):
    """One reported failure.

    occurred_at: when it happened at its source.
    """

    issue_id: str
    title: str
    body: str = ""
    source: str
    severity: Severity
    occurred_at: datetime
    service: str | None = None
    component: str | None = None
    error_type: str | None = None
    team: str | None = None
    environment: str | None = None
    version: str | None = None

    @property
    def dimensions(self) -> Dimensions:
        """Its value of every dimension; the hour is of UTC."""
        return (
            self.service,
            self.component,
            self.error_type,
            self.team,
            self.environment,
            self.source,
            _HOURS[self.occurred_at.hour],
        )


class Features(Struct, frozen=True):
    """What grouping needs of an issue.

    key: equal keys are the same failure. text: what similarity compares; empty = nothing to compare.
    is_machine: a program wrote the text.
    """

    key: str
    text: str
    is_machine: bool


def features_of(issue: Issue) -> Features:
    """The features of an issue: from its title, else from the start of its body, else from its dimensions."""
    masked, is_machine = masked_title(issue.source, issue.title)
    features = _of_text(issue.service, masked, is_machine)
    if features is None:
        is_machine = is_machine_text(issue.source, issue.body[:_N_BODY_CHARACTERS])
        masked = mask(issue.body[:_N_BODY_CHARACTERS], is_machine=is_machine)
        features = _of_text(issue.service, masked, is_machine)
    return features or Features(_dimension_key(issue), "", is_machine)


def compared_text(issue: Issue, features: Features) -> str:
    """What later issues are compared with: the masked text of a machine, the wording of a person; empty = nothing."""
    if features.is_machine or not features.text:
        return features.text
    return written(issue.title, features.text, issue.body)


@lru_cache(maxsize=16_384)
def _of_text(service: str | None, masked: str, is_machine: bool) -> Features | None:
    """The features of a usable text; remembered, for most issues repeat a known failure."""
    if not has_usable_text(masked):
        return None
    return Features(key_of("text", service, masked), comparable(masked), is_machine)


def agreement_of(bits: int) -> tuple[str, ...]:
    """The names of the dimensions whose bits are set."""
    return _AGREEMENTS[bits]


def _dimension_key(issue: Issue) -> str:
    """Without text, issues with the same dimensions and severity are one failure; without those, each is its own."""
    telling = (issue.service, issue.component, issue.error_type)
    if not any(telling):
        return key_of("issue", issue.issue_id)
    return key_of("dimensions", *telling, issue.environment, issue.team, issue.severity.value)
