"""The severity words of other systems, and what they mean here."""

from collections.abc import Mapping
from typing import Final

from causeloop.exits import UsageError

Vocabulary = Mapping[str, str]

GENERIC: Final[Vocabulary] = {
    **dict.fromkeys(
        ("p1", "p0", "s1", "s0", "sev1", "sev0", "1", "0", "critical", "crit", "blocker", "fatal"), "p1"
    ),
    **dict.fromkeys(
        ("emergency", "emerg", "alert", "panic", "disaster", "highest", "urgent", "outage"), "p1"
    ),
    **dict.fromkeys(("p2", "s2", "sev2", "2", "high", "major", "error", "err", "severe", "important"), "p2"),
    **dict.fromkeys(("p3", "s3", "sev3", "3", "medium", "moderate", "normal", "average", "default"), "p3"),
    **dict.fromkeys(("warning", "warn", "regular", "degraded"), "p3"),
    **dict.fromkeys(("p4", "p5", "s4", "s5", "sev4", "sev5", "4", "5", "low", "lowest", "minor"), "p4"),
    **dict.fromkeys(("trivial", "enhancement", "cosmetic", "notice", "info", "informational"), "p4"),
    **dict.fromkeys(("debug", "trace", "none", "maintenance", "ok", "information"), "p4"),
}
"""Read when nothing better is known; the words that two systems use differently follow the majority."""

JIRA: Final[Vocabulary] = {"major": "p3"}  # Jira's default priority, not a high one
STATUSPAGE: Final[Vocabulary] = {"critical": "p1", "major": "p2", "minor": "p3", "none": "p4"}
SYSLOG: Final[Vocabulary] = {
    "0": "p1", "1": "p1", "2": "p1", "3": "p2", "4": "p3", "5": "p4", "6": "p4", "7": "p4",
}  # fmt: skip
PAGERDUTY: Final[Vocabulary] = {"critical": "p1", "error": "p2", "warning": "p3", "info": "p4"}
SERVICENOW: Final[Vocabulary] = {
    "1 - critical": "p1", "2 - high": "p2", "3 - moderate": "p3", "4 - low": "p4", "5 - planning": "p4",
}  # fmt: skip

VOCABULARIES: Final[Mapping[str, Vocabulary]] = {
    "generic": GENERIC,
    "bugzilla": GENERIC,
    "jira": {**GENERIC, **JIRA},
    "statuspage": {**GENERIC, **STATUSPAGE},
    "pagerduty": {**GENERIC, **PAGERDUTY},
    "syslog": {**GENERIC, **SYSLOG},
    "servicenow": {**GENERIC, **SERVICENOW},
}
"""By the name that `--severity-map` takes; also chosen by a record's own source."""

LEVELS: Final = frozenset({"p1", "p2", "p3", "p4"})


def vocabulary(text: str) -> Vocabulary:
    """The vocabulary that a `--severity-map` value describes.

    text: a name of VOCABULARIES, or pairs such as "sev-a=p1,sev-b=p2", which extend the generic one.
    Raises UsageError for an unknown name or level.
    """
    if text in VOCABULARIES:
        return VOCABULARIES[text]
    if "=" not in text:
        raise UsageError(
            f"--severity-map {text!r} is not known",
            advice=f"Give one of {', '.join(VOCABULARIES)}, or pairs such as blocker=p1,minor=p4.",
        )
    pairs = dict(pair.partition("=")[::2] for pair in text.split(",") if pair)
    return extended(pairs)


def extended(pairs: Mapping[str, str]) -> Vocabulary:
    """The generic vocabulary with some words of its own; raises UsageError for a level other than p1 to p4."""
    for word, level in pairs.items():
        if level.strip().lower() not in LEVELS:
            raise UsageError(
                f"severity {word!r} cannot become {level!r}", advice="Levels are p1, p2, p3, p4."
            )
    return {**GENERIC, **{word.strip().lower(): level.strip().lower() for word, level in pairs.items()}}


def for_source(source: str | None) -> Vocabulary:
    """The vocabulary that a source is known to use; the generic one otherwise."""
    return VOCABULARIES.get((source or "").lower(), GENERIC)
