"""What stays the same when a failure repeats: text without its volatile parts, and the grouping key of an issue."""

import re
from functools import lru_cache
from hashlib import blake2b

_MACHINE_SOURCES = frozenset(
    [
        "log",
        "logs",
        "datadog",
        "newrelic",
        "dynatrace",
        "grafana",
        "grafana_oncall",
        "alertmanager",
        "prometheus",
        "aws_cloudwatch",
        "aws_health",
        "azure_monitor",
        "google_cloud_monitoring",
        "splunk_observability",
        "honeycomb",
        "elastic",
        "sumologic",
        "coralogix",
        "logz_io",
        "graylog",
        "zabbix",
        "checkmk",
        "librenms",
        "thousandeyes",
        "pingdom",
        "statuscake",
        "uptimerobot",
        "better_stack",
        "site24x7",
        "checkly",
        "rollbar",
        "sentry",
        "bugsnag",
        "honeybadger",
        "appdynamics",
        "logicmonitor",
        "instana",
        "cloudflare",
        "argocd",
        "circleci",
        "buildkite",
        "jenkins",
        "mongodb_atlas",
        "airflow",
        "prefect",
        "dagster",
        "fivetran",
        "airbyte",
        "dbt_cloud",
        "databricks",
        "monte_carlo",
        "splunk",
        "crowdstrike",
        "wazuh",
    ]
)
_HUMAN_SOURCES = frozenset(
    [
        "jira",
        "jira_dc",
        "jsm_ops",
        "github",
        "gitlab",
        "bitbucket",
        "azure_devops",
        "linear",
        "asana",
        "clickup",
        "monday",
        "trello",
        "shortcut",
        "notion",
        "youtrack",
        "bugzilla",
        "slack",
        "microsoft_teams",
        "incident_io",
        "rootly",
        "firehydrant",
        "statuspage",
        "servicenow",
        "freshservice",
        "halo",
        "itsm",
        "zendesk",
        "salesforce",
        "hubspot",
        "intercom",
        "freshdesk",
        "front",
        "helpscout",
        "gorgias",
        "kustomer",
        "zoho_desk",
        "dynamics365",
        "pylon",
        "dixa",
        "crisp",
        "pipedrive",
    ]
)
# Every digit as "1".
_ANY_DIGIT = str.maketrans("023456789", "1" * 9)
# Share of digits and symbols from which text without a telling source counts as written by a machine.
_MACHINE_SHARE = 0.09
_MAX_TITLE = 300

_SPACES = re.compile(r"\s+")
_DIGITS_AND_SYMBOLS = re.compile(r"[^A-Za-z\s.,'\u0080-\uffff]")
_A_WORD = re.compile(r"(?<![<\w])[^\W\d_]{3,}")
_PLACEHOLDER = re.compile(r"<[a-z]{2,5}>")

# A run between separators that holds a digit, a slash, an at sign or several dots; most words hold none.
_RUN = r"[^\s=,;()\[\]{}|<>\"'`]"
# It starts only where a run starts: from the middle of a word it would be tried in vain at every letter.
_VOLATILE = re.compile(rf"(?<!{_RUN}){_RUN}*?(?:[\d/@\\]|\.{_RUN}+\.){_RUN}*")
# A quoted phrase of several words is text; a quoted word is a value.
_QUOTED = re.compile(r"\"[^\"\s]{1,200}\"|(?<!\w)'[^'\s]{1,200}'(?!\w)|`[^`\s]{1,200}`")
# Brackets that this time hold nothing, as in "connection from 10.0.0.1 () at"; those of a call follow its name.
_EMPTY = re.compile(r"(?<=\s)\(\s*\)")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATE = re.compile(
    r"\b(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s+)?(?:\d{1,2}[\s\-/])?"
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}[\s\-/]+\d{1,4}\b"
    r"(?:[\s,]+\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?(?:\s+(?:[a-z]{3,4}\s+)?(?:19|20)\d{2}\b)?"
)
_USER = re.compile(r"\b((?:invalid|for) user |user(?:name)?=)(?!<)[\w.\-]+")
_REPEATED = re.compile(r"(<[a-z]{2,5}>)(?:[\s:,.\-]+\1)+")
_DIGITS = re.compile(r"\d+")
_JOINTS = re.compile(r"([\-_.])")
_INTERLEAVED = re.compile(r"\d[a-z]+\d|[a-z]\d+[a-z]")
_URL = re.compile(r"\b[a-z][a-z0-9+.\-]*://\S*[^\s.,;:!?)\]}\"']")

_MAIL = re.compile(r"[\w.+\-]+@[\w\-]+(?:\.[\w\-]+)+")

# Tried in this order on a whole run; the first that fits names its placeholder.
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("<uuid>", re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")),
    ("<url>", re.compile(r"[a-z][a-z0-9+.\-]*://.+")),
    ("<mail>", _MAIL),
    ("<host>", re.compile(r"[\w.\-]*/?(?:\d{1,3}\.){3}\d{1,3}(?:[:/]\d+)?")),
    ("<mac>", re.compile(r"(?:[0-9a-f]{2}[:\-]){5,}[0-9a-f]{2}")),
    (
        "<time>",
        re.compile(
            r"\d{4}-\d{2}-\d{2}(?:[t_]\d{2}:?\d{2}.*)?|\d{1,2}/\d{1,2}/\d{2,4}|\d{1,2}\.\d{1,2}\.\d{4}"
        ),
    ),
    ("<time>", re.compile(r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:z|am|pm|[+\-]\d{2}:?\d{2})?")),
    ("<host>", re.compile(r"(?=.*:.*:)(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}")),
    ("<num>", re.compile(r"0x[0-9a-f]+|(?=.*\d)[0-9a-f]{8,}")),
    (
        "<host>",
        re.compile(
            r"(?:[\w\-]+\.)+(?:com|net|org|info|biz|io|dev|internal|local|lan|cloud|edu|gov)(?::\d+)?"
        ),
    ),
    ("<host>", re.compile(r"(?:[\w\-]+\.){2,}(?!py|js|go|rs|cc|sh|so|md|ts|rb|db)[a-z]{2}(?::\d+)?")),
    ("<path>", re.compile(r"(?:~|\.{1,2}|[a-z]:|)[/\\].+|[\w.\-]+(?:/[\w.\-]+){2,}")),
    ("<num>", re.compile(r"[+\-#]?\d+(?:[.,]\d+)*(?:%|[a-zµ]{1,3}(?:/s)?)?")),
    ("<num>", re.compile(r"v\d+(?:\.\d+)*(?:[\-+.]\w+)*|\d+(?:\.\d+)+(?:[\-+.]\w+)*")),
    ("<id>", re.compile(r"(?=.*\d)(?=.*[a-z])[a-z0-9]{16,}")),
)
# In what a person wrote, small numbers, versions, paths and quotes carry meaning.
_KEPT_FOR_PEOPLE = frozenset({"<num>", "<path>", "<host>"})
_N_DIGITS_MEANT = 5


_MEASURE = re.compile(
    r"(?<![\w.,])\d+(?:[.,]\d+)?(?=\s?(?:%|(?:ms|s|secs?|seconds?|mins?|minutes?|h|hours?|[kmgt]i?b|bytes?|percent)\b))"
)
"""A quantity: how long or how much it was this time is not what failed."""


def is_machine_text(source: str, title: str) -> bool:
    """Whether a title was written by a program: by its source, else by its share of digits and symbols."""
    if source in _MACHINE_SOURCES:
        return True
    if source in _HUMAN_SOURCES:
        return False
    return len(_DIGITS_AND_SYMBOLS.findall(title)) >= _MACHINE_SHARE * len(title)


def mask(text: str, *, is_machine: bool) -> str:
    """The text in lower case with a placeholder such as "<ip>" for every volatile part.

    In text of machines that is every id, uuid, hash, number, address, path, time, version, host, e-mail and
    quoted value; in text of people only what cannot be a word and what is measured ("12 ms", "93 %"), for their
    other numbers and names mean something.
    """
    lowered = text.lower()
    if not is_machine:
        if "://" in lowered:
            lowered = _URL.sub("<url>", lowered)
        lowered = _MEASURE.sub("<num>", lowered)
        return " ".join(_VOLATILE.sub(_mask_human_run, lowered).split())
    if '"' in lowered or "'" in lowered or "`" in lowered:
        lowered = _QUOTED.sub("<str>", lowered)
    if "://" in lowered:
        lowered = _URL.sub("<url>", lowered)
    if "(" in lowered:
        lowered = _EMPTY.sub("(<host>)", lowered)
    if "user" in lowered:
        lowered = _USER.sub(r"\1<str>", lowered)
    if _names_a_month(lowered):
        lowered = _DATE.sub("<time>", lowered)
    masked = " ".join(_VOLATILE.sub(_mask_machine_run, lowered).split())
    return _REPEATED.sub(r"\1", masked) if masked.count("<") > 1 else masked


def comparable(masked: str) -> str:
    """Masked text with a sign in place of each placeholder, so that only its words make texts alike."""
    return _PLACEHOLDER.sub("~", masked)


def has_usable_text(masked: str) -> bool:
    """Whether a word of three letters is left in masked text, so that it can be compared."""
    return _A_WORD.search(masked) is not None


def masked_title(source: str, title: str) -> tuple[str, bool]:
    """The first 300 characters of a title as `mask` leaves them, and whether a program wrote it.

    The latest are remembered by their shape: failures repeat themselves but for their numbers.
    """
    shape = title.translate(_ANY_DIGIT)
    is_machine = _is_machine_shape(source, shape)
    masked = _masked_shape(shape) if is_machine else None
    return _masked(title, is_machine) if masked is None else masked, is_machine


@lru_cache(maxsize=16_384)
def _is_machine_shape(source: str, shape: str) -> bool:
    """As `is_machine_text`, which takes every digit for the same."""
    return is_machine_text(source, shape)


@lru_cache(maxsize=16_384)
def _masked_shape(shape: str) -> str | None:
    """What every title of a machine with this shape is masked to; None where the digits make a difference."""
    lowered = shape.lower()
    # The only digits that a pattern names are those of "0x" and of the centuries of a date.
    if "1x" in lowered or (_names_a_month(lowered) and _DATE.search(lowered)):
        return None
    return mask(shape[:_MAX_TITLE], is_machine=True)


@lru_cache(maxsize=16_384)
def _masked(title: str, is_machine: bool) -> str:
    return mask(title[:_MAX_TITLE], is_machine=is_machine)


def key_of(kind: str, *parts: str | None) -> str:
    """The grouping key of these parts: 128 bits of BLAKE2b in hex. An absent part and an empty one are the same."""
    content = "\x1f".join([kind, *((part or "").strip().lower() for part in parts)])
    return blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def readable(title: str) -> str:
    """A title as a pattern's name: list brackets off, volatile parts as "…", one line, at most 200 characters.

    Whoever's address it is, it is no part of a name: names outlive the issues that they come from.
    """
    text = _MAIL.sub("…", _SPACES.sub(" ", title)).strip()
    if text.startswith("['") and text.endswith("']"):
        text = text[2:-2].strip()
    if is_machine_text("", text):
        text = re.sub(r"(?:…[\s:,.\-]*)+…", "…", _VOLATILE.sub(_readable_run, text))
    if len(text) > 200:
        text = text[:199].rstrip() + "…"
    return text or "Unnamed failure"


def _names_a_month(lowered: str) -> bool:
    return any(month in lowered for month in _MONTHS)


def _mask_machine_run(match: re.Match[str]) -> str:
    return _classify(match.group())


def _mask_human_run(match: re.Match[str]) -> str:
    return _classify_for_people(match.group())


def _readable_run(match: re.Match[str]) -> str:
    run = match.group()
    masked = _classify(run.lower())
    if "<" not in masked:
        return run
    return "…" + (run[-1] if run[-1] in ":!?" else "")


@lru_cache(maxsize=65_536)
def _classify(run: str) -> str:
    """The placeholder of a run, or the run with its digits masked; punctuation around it stays."""
    core = run.strip(".:!?*-")
    if not core or core.isalpha():
        return run
    start = run.index(core)
    before, after = run[:start].replace("-", ""), run[start + len(core) :]
    for placeholder, pattern in _KINDS:
        if pattern.fullmatch(core):
            return before + placeholder + after
    for separator in ":/":
        if separator in core:
            return before + separator.join(_classify(part) for part in core.split(separator)) + after
    masked = "".join(_mask_part(part) for part in _JOINTS.split(core))
    # The sign of a number in a name is as volatile as the number.
    return before + masked.replace("_-<", "_<") + after


def _mask_part(part: str) -> str:
    """A part of a compound name; one in which letters and digits take turns is drawn by lot."""
    if len(part) >= 4 and _INTERLEAVED.search(part) is not None:
        return "<id>"
    return _DIGITS.sub("<num>", part)


@lru_cache(maxsize=65_536)
def _classify_for_people(run: str) -> str:
    core = run.strip(".:!?*")
    if not core:
        return run
    for placeholder, pattern in _KINDS:
        if pattern.fullmatch(core):
            if placeholder in _KEPT_FOR_PEOPLE and not (core.isdigit() and len(core) >= _N_DIGITS_MEANT):
                return core
            return placeholder
    return core
