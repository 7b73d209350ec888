"""Tickets in the words of a manifest: what is sent, what is found in an answer, where a ticket stands. Pure."""

import re
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final
from uuid import UUID

from contracts import connector, derived_id
from msgspec import Struct

from services.ingest.connectors import markup
from services.ingest.connectors.expressions import Expression, ExpressionError
from services.ingest.connectors.manifest import Find, Push, TicketStatus
from services.ingest.connectors.templates import TemplateError, fill, fill_path, fill_text

TARGET_LENGTH_MAX: Final = 200
TITLE_LENGTH_MAX: Final = 250
MARKDOWN_LENGTH_MAX: Final = 32_768
WORD_LENGTH_MAX: Final = 100
ID_LENGTH_MAX: Final = 200
ADDRESS_LENGTH_MAX: Final = 2_000
CLOCKS_DIFFER: Final = timedelta(minutes=5)

TicketState = connector.TicketState

STATE_WORDS: Final[Mapping[str, TicketState]] = {
    **dict.fromkeys(
        ("done", "closed", "resolved", "completed", "complete", "fixed", "solved"), TicketState.DONE
    ),
    **dict.fromkeys(("canceled", "cancelled", "removed", "rejected", "duplicate"), TicketState.DROPPED),
    **dict.fromkeys(("declined", "won't do", "won't fix", "wontfix", "not planned"), TicketState.DROPPED),
}
"""What a word means where a manifest says nothing else; any other word: open."""


class Request(Struct, frozen=True):
    """One request to a tracker, behind its base address. json: absent for GET."""

    method: str
    path: str
    headers: dict[str, str]
    json: object | None


class Made(Struct, frozen=True):
    """What a tracker calls a ticket, and where a person can read it."""

    external_id: str
    external_url: str | None


def ticket_id(workspace_id: str, recommendation_id: str, connector_id: str) -> str:
    """The id that this recommendation's ticket in this tracker always has."""
    return derived_id("tkt_", workspace_id, recommendation_id, connector_id)


def marker(ticket: str) -> str:
    """What a ticket is found again by; letters, digits and hyphens, so that it may be a label anywhere."""
    return f"{_MARK}{ticket.removeprefix('tkt_').lower()}"


_MARK: Final = "causeloop-"
_MARKER: Final = re.compile(
    r"(?:^|[\n;]|<!--|<[a-z/][^<>]*>)[^\S\n]*causeloop-[0-9a-hjkmnp-tv-z]{26}[^\S\n]*(?:$|[\n;]|-->|</?[a-z])"
)
"""As `marker` makes them, the 26 signs of an id in small letters, and as they are pushed: a value, a line, a tag among
others, or a comment; one in a sentence is only spoken of."""


def target_problems(push: Push, target: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with where a ticket is to go, by path; empty: nothing."""
    fields = {field.key: field for field in push.target}
    problems = {
        f"target.{key[:60]}": f"is not asked; there {'are ' + ', '.join(fields) if fields else 'is nothing to say'}"
        for key in target
        if key not in fields
    }
    for key, field in fields.items():
        value = target.get(key, field.default or "").strip()
        if field.required and not value:
            problems[f"target.{key}"] = f"is missing: {field.title}"
        elif len(value) > TARGET_LENGTH_MAX or not value.isprintable():
            problems[f"target.{key}"] = f"needs at most {TARGET_LENGTH_MAX} printable characters"
        elif value and field.choices and value not in field.choices:
            problems[f"target.{key}"] = f"is none of {', '.join(field.choices)}"
    return problems


def settled_target(push: Push, target: Mapping[str, str]) -> dict[str, str]:
    """The target with what counts where it says nothing."""
    return {field.key: target.get(field.key, "").strip() or field.default or "" for field in push.target}


def values(
    config: Mapping[str, str], ticket: str, *, target: Mapping[str, str], begun_at: datetime
) -> dict[str, object]:
    """What the templates may hold of a ticket, made or not; config: as "config.key"."""
    # Their clock may be behind ours.
    moment = begun_at.replace(microsecond=0) - CLOCKS_DIFFER
    return {
        **config,
        **{f"target.{key}": value for key, value in target.items()},
        "marker": marker(ticket),
        "uuid": str(UUID(bytes=sha256(ticket.encode()).digest()[:16], version=4)),
        "begun": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "begun_ms": int(moment.timestamp() * 1000),
    }


def is_pushed(record: object) -> bool:
    """Whether a record is marked as any ticket is: then it is one that was made of a recommendation, no failure.

    record: JSON, no deeper than Python's stack.
    """
    match record:
        case str():
            # Far cheaper, and all that most texts need.
            return _MARK in record and _MARKER.search(record) is not None
        case dict():
            return any(map(is_pushed, record.values()))
        case list():
            return any(map(is_pushed, record))
        case _:
            return False


def text_values(push: Push, title: str, markdown: str) -> dict[str, object]:
    """What the templates may hold of a ticket that is to be made, no longer than its tracker takes it."""
    line = _cut(" ".join(title.split()), push.title_max)
    text = _cut(markdown, push.text_max)
    return {"title": line, "markdown": text, "html": markup.html(text), "adf": markup.adf(text)}


def _cut(text: str, n_characters: int) -> str:
    return text if len(text) <= n_characters else f"{text[: n_characters - 1]}…"


def request(
    part: Push | Find | TicketStatus, given: Mapping[str, object], *, folders: Collection[str] = ()
) -> Request:
    """The request that a part of a manifest describes. folders: see `fill_path`. Raises TemplateError."""
    body = part.body if isinstance(part, Push) else part.json
    return Request(
        part.method,
        fill_path(part.path, given, folders=folders),
        {name: fill_text(text, given) for name, text in part.headers.items()},
        fill(body, given) if part.method == "POST" else None,
    )


def made(part: Push | Find, push: Push, answer: object, given: Mapping[str, object]) -> Made | None:
    """The ticket that an answer tells of; None where it tells of none. Raises ExpressionError and TemplateError."""
    found = _found(part.id, answer, given)
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        return None
    external_id = str(found)[:ID_LENGTH_MAX]
    url: object = None
    if part.url is not None:
        url = _found(part.url, answer, given)
    elif push.url_template is not None:
        url = fill_text(push.url_template, {**given, "id": external_id})
    is_address = (
        isinstance(url, str) and url.startswith(("https://", "http://")) and len(url) <= ADDRESS_LENGTH_MAX
    )
    return Made(external_id, str(url) if is_address else None)


def standing(
    status: TicketStatus, answer: object, given: Mapping[str, object]
) -> tuple[TicketState, str] | None:
    """Where a ticket stands, in our word and in the tracker's; None where the answer does not say.

    Of several words the one that ends it counts: dropped before done before open. Raises ExpressionError.
    """
    found = _found(status.words, answer, given)
    words = [
        str(word).strip()
        for word in (found if isinstance(found, list) else [found])
        if isinstance(word, str | int | float) and not isinstance(word, bool) and str(word).strip()
    ]
    if not words:
        return None
    states = [_state(word, status.map) for word in words]
    for state in (TicketState.DROPPED, TicketState.DONE):
        if state in states:
            return state, words[states.index(state)][:WORD_LENGTH_MAX]
    return TicketState.OPEN, words[0][:WORD_LENGTH_MAX]


def _state(word: str, own: Mapping[str, str]) -> TicketState:
    known = own.get(word.lower())
    return TicketState(known) if known else STATE_WORDS.get(word.lower(), TicketState.OPEN)


def _found(expression: Expression, answer: object, given: Mapping[str, object]) -> object:
    """What an expression finds; in it stands the marker of this very ticket."""
    if "{marker}" not in expression.text:
        return expression.find(answer)
    return Expression(expression.text.replace("{marker}", str(given["marker"]))).find(answer)


__all__ = [
    "ExpressionError",
    "Made",
    "Request",
    "TemplateError",
    "is_pushed",
    "made",
    "marker",
    "request",
    "settled_target",
    "standing",
    "target_problems",
    "text_values",
    "ticket_id",
    "values",
]
