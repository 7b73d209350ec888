"""Decisions about a workspace's own plays. Pure."""

from collections.abc import Collection, Mapping
from typing import Final

import msgspec
from contracts import recommendation
from runtime.errors import details_of

from services.recommendation.engine.playbook import Match, Play, mistakes_of
from services.recommendation.errors import (
    PlaybookFullError,
    PlayNotFoundError,
    PlayRefusedError,
    PlayShippedError,
)
from services.recommendation.state import OwnPlays

PLAYS_MAX: Final = 200
PLAY_BYTES_MAX: Final = 32_768


def define_play(
    command: recommendation.DefinePlay, state: OwnPlays, *, workspace_id: str
) -> list[recommendation.PlayDefined]:
    """Have this play; the very same one needs no event. state: about its id. Raises PlayRefusedError, PlaybookFullError."""
    checked_play(command.play)
    if state.known == command.play:
        return []
    if state.known is None and state.n_plays >= PLAYS_MAX:
        raise PlaybookFullError(PLAYS_MAX)
    return [recommendation.PlayDefined(workspace_id=workspace_id, play=command.play)]


def withdraw_play(
    command: recommendation.WithdrawPlay, state: OwnPlays, *, workspace_id: str, shipped: Collection[str]
) -> list[recommendation.PlayWithdrawn]:
    """Have it no more. shipped: ids of the plays of every workspace. Raises PlayNotFoundError, PlayShippedError."""
    if state.known is None:
        if command.play_id in shipped:
            raise PlayShippedError(command.play_id)
        raise PlayNotFoundError(command.play_id)
    return [recommendation.PlayWithdrawn(workspace_id=workspace_id, play_id=command.play_id)]


def checked_play(sent: recommendation.Play) -> Play:
    """A play as matching takes it, by the rules of the files. Raises PlayRefusedError with every mistake."""
    n_bytes = len(msgspec.json.encode(sent))
    if n_bytes > PLAY_BYTES_MAX:
        fault = f"has {n_bytes} bytes as JSON; at most {PLAY_BYTES_MAX} are taken"
        raise PlayRefusedError([("play", fault)])
    repeated = [
        ("matches.dimensions", f"{mark.dimension} {mark.value!r} is given twice")
        for index, mark in enumerate(sent.matches.dimensions)
        if any(_is_same(mark, earlier) for earlier in sent.matches.dimensions[:index])
    ]
    try:
        play = play_of(sent)
    except msgspec.ValidationError as error:
        raise PlayRefusedError([*repeated, *details_of(error).items()]) from error
    mistakes = [*repeated, *((each.path, each.fault) for each in mistakes_of(play))]
    if mistakes:
        raise PlayRefusedError(mistakes)
    return play


def play_of(sent: recommendation.Play) -> Play:
    """A play as matching takes it, through the decoder of the files. Raises msgspec.ValidationError."""
    dimensions: dict[str, dict[str, float]] = {}
    for mark in sent.matches.dimensions:
        dimensions.setdefault(mark.dimension, {})[mark.value] = mark.weight
    fields: dict[str, object] = msgspec.to_builtins(sent)
    fields["id"] = fields.pop("play_id")
    fields["steps"] = msgspec.to_builtins(sent.steps)
    fields["matches"] = {
        "terms": sent.matches.terms,
        "dimensions": dimensions,
        "lacks": sent.matches.lacks,
        "recurs": sent.matches.recurs,
        "excludes": sent.matches.excludes,
    }
    return msgspec.convert(fields, Play)


def sent_play(play: Play) -> recommendation.Play:
    """A play as others are told of it."""
    fields: dict[str, object] = msgspec.to_builtins(play)
    fields["play_id"] = fields.pop("id")
    fields["matches"] = _sent_matches(play.matches)
    return msgspec.convert(fields, recommendation.Play)


def _sent_matches(matches: Match) -> Mapping[str, object]:
    return {
        "terms": matches.terms,
        "dimensions": [
            {"dimension": name, "value": value, "weight": weight}
            for name, weights in matches.dimensions.items()
            for value, weight in weights.items()
        ],
        "lacks": matches.lacks,
        "recurs": matches.recurs,
        "excludes": matches.excludes,
    }


def _is_same(one: recommendation.PlayMark, other: recommendation.PlayMark) -> bool:
    return one.dimension == other.dimension and one.value.lower() == other.value.lower()
