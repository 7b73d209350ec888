"""The two spellings of severity, the two grains of status, and what each filter word stands for."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta

Severity: TypeAlias = Literal["p1", "p2", "p3", "p4"]
SeverityLabel: TypeAlias = Literal["critical", "high", "medium", "low"]
AnySeverity: TypeAlias = Literal["p1", "p2", "p3", "p4", "critical", "high", "medium", "low"]
SeverityInput: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^([pP][1-4]|[cC][rR][iI][tT][iI][cC][aA][lL]|[hH][iI][gG][hH]|[mM][eE][dD][iI][uU][mM]|[lL][oO][wW])$(?!\n)",
        description="p1 … p4 or critical, high, medium, low, in any case.",
    ),
]
SeverityFormat: TypeAlias = Literal["code", "label"]

IssueStatus: TypeAlias = Literal[
    "new", "analyzing", "analyzed", "in_loop", "pattern_found", "mitigating", "resolved", "closed", "wont_fix"
]
StatusGroup: TypeAlias = Literal["open", "in_progress", "resolved", "closed"]
AnyIssueStatus: TypeAlias = Literal[
    "new", "analyzing", "analyzed", "in_loop", "pattern_found", "mitigating", "resolved", "closed", "wont_fix",
    "open", "in_progress",
]  # fmt: skip
PatternStatus: TypeAlias = Literal["emerging", "active", "mitigating", "watching", "resolved", "merged"]

PatternGroup: TypeAlias = Literal["emerging", "active", "resolved", "merged"]

LABELS: Final[Mapping[str, SeverityLabel]] = {"p1": "critical", "p2": "high", "p3": "medium", "p4": "low"}
CODES: Final[Mapping[str, Severity]] = {"critical": "p1", "high": "p2", "medium": "p3", "low": "p4"}

GROUPS: Final[Mapping[str, StatusGroup]] = {
    "new": "open",
    "analyzing": "open",
    "analyzed": "open",
    "in_loop": "in_progress",
    "pattern_found": "in_progress",
    "mitigating": "in_progress",
    "resolved": "resolved",
    "closed": "closed",
    "wont_fix": "closed",
}
"""Issue status → its group."""

PATTERN_GROUPS: Final[Mapping[str, PatternGroup]] = {
    "emerging": "emerging",
    "active": "active",
    "mitigating": "active",
    "watching": "active",
    "resolved": "resolved",
    "merged": "merged",
}
"""Pattern status → its group."""

FOLLOWED: Final[Mapping[str, IssueStatus]] = {
    "emerging": "pattern_found",
    "active": "pattern_found",
    "mitigating": "mitigating",
    "watching": "mitigating",
    "resolved": "resolved",
}
"""Pattern status → what an issue shows for which nobody has chosen a status; the view issue_rows says the same."""


def followed(pattern_status: str, *, has_recurred: bool) -> IssueStatus | None:
    """The status of an issue that follows a pattern; None: the pattern has no say."""
    status = FOLLOWED.get(pattern_status)
    return "in_loop" if status == "pattern_found" and has_recurred else status


Line: TypeAlias = Annotated[str, Meta(max_length=300, pattern=r"^[^\x00]*$")]
VisibleLine: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=300, pattern=r"[^\s\x00-\x1f\x7f-\x9f]")
]
Search: TypeAlias = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00]*$")]
Url: TypeAlias = Annotated[
    str,
    Meta(
        max_length=2048,
        pattern=r"^([hH][tT][tT][pP][sS]?://[^\s/?#@\x00-\x1f\x7f-\x9f]+([/?#][^\s\x00-\x1f\x7f-\x9f]*)?)?$(?!\n)",
        description="An http or https address without a user name or password.",
    ),
]
EmailAddress: TypeAlias = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=254,
        # What HTML takes for valid: nothing that could end a header or an SMTP command.
        pattern=r"^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
        r"(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$(?!\n)",
    ),
]
Note: TypeAlias = Annotated[str, Meta(max_length=2000, pattern=r"^[^\x00]*$")]
VISIBLE: Final = r"^[\s\x01-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00]*$"
"""Something to see in it and no U+0000, in a form that is matched in one pass."""


def severity_codes(words: Sequence[str]) -> list[str]:
    """Severities in either spelling as codes."""
    return [CODES.get(word, word) for word in words]


def statuses_of(words: Sequence[str], groups: Mapping[str, str] = GROUPS) -> list[str]:
    """Statuses and status groups as statuses; a word that is both, such as `closed`, is the group."""
    found = [status for word in words for status, group in groups.items() if word in (status, group)]
    return sorted(set(found))


def search_terms(text: str) -> list[str]:
    """Each word of a search as a LIKE pattern; all must occur."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return [f"%{word}%" for word in escaped.split()]
