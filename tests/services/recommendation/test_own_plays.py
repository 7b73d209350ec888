"""A workspace's own plays: what is taken, what they do to recommendations, and what is said when nothing fits."""

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from contracts import Event, Recorded, pattern, recommendation
from eventlog import EventLog, Projector
from runtime import database as databases
from runtime.broker import CommandContext
from runtime.service import utc_now
from testkit.builders import WORKSPACE, recorded
from testkit.servers import Database
from testkit.waiting import eventually

from services.recommendation.app import read_playbook
from services.recommendation.commands import (
    Situation,
    define_play,
    play_of,
    recommend,
    sent_play,
    withdraw_play,
    withhold,
)
from services.recommendation.commands.playbooks import PLAY_BYTES_MAX, PLAYS_MAX
from services.recommendation.endpoints import PlaybookDesk
from services.recommendation.engine.matching import FIT_FLOOR, Matcher
from services.recommendation.engine.playbook import mistakes_of
from services.recommendation.errors import (
    PlaybookFullError,
    PlayNotFoundError,
    PlayRefusedError,
    PlayShippedError,
)
from services.recommendation.reactions import recommending
from services.recommendation.state import Abstention, OwnPlays, evolve_pattern
from tests.services.recommendation.builders import append, assessment, linked, on_pattern, own, threshold
from tests.services.recommendation.test_recommender import all_events, running, schema, settled

__all__ = ["schema"]
PLAYBOOK = read_playbook()
Made = recommendation.RecommendationMade
Withheld = recommendation.RecommendationWithheld
CONTEXT = CommandContext(workspace_id=WORKSPACE, correlation_id="req_1", actor="usr_1")
NAME = "Frobnicator gave up"


def unknown_failure(pattern_id: str = "pat_1", name: str = NAME) -> Recorded[Event]:
    """A pattern that only its name tells anything of."""
    return on_pattern(
        pattern.PatternDetected(pattern_id=pattern_id, name=name, assessment=assessment()), pattern_id
    )


def of_nothing(pattern_id: str = "pat_1") -> Recorded[Event]:
    """Links whose exemplar speaks for no play."""
    event = linked(pattern_id=pattern_id)
    assert isinstance(event.data, pattern.IssuesLinked)
    return msgspec.structs.replace(event, data=msgspec.structs.replace(event.data, exemplar="gave up"))


def situation(**changed: Any) -> Situation:
    state = evolve_pattern(None, of_nothing())
    state = evolve_pattern(state, unknown_failure())
    assert state is not None
    return Situation(pattern=state, **changed)


def test_every_shipped_play_survives_the_way_over_the_bus() -> None:
    """It is told to others, and comes back as it was."""
    for play in PLAYBOOK.plays:
        assert play_of(sent_play(play)) == play
        assert mistakes_of(play) == []


@pytest.mark.parametrize(
    ("changed", "path", "fault"),
    [
        ({"holds": 1.0}, "holds", "< 1.0"),
        ({"play_id": "Not An Id"}, "id", "matching regex"),
        ({"steps": ()}, "steps", "has 0 steps; 3 to 6 are wanted"),
        ({"matches": {"terms": {"a b c d e": 0.5}}}, "matches.terms", "has 5 words"),
        ({"matches": {"terms": {"retry": 0.5, "retries": 0.4}}}, "matches.terms", "different forms"),
        (
            {"matches": {"terms": {"x": 0.5}, "lacks": {"galaxy": 0.1}}},
            "matches.lacks",
            "'galaxy' is unknown",
        ),
        ({"matches": {"excludes": ("x",)}}, "matches", "matches nothing"),
        ({"matches": {"terms": {f"x{n}": 0.5 for n in range(41)}}}, "matches", "has 41 terms and values"),
        ({"matches": {"terms": {"x": 1.5}}}, "matches.terms[]", "< 1.0"),
        (
            {
                "matches": {
                    "dimensions": [
                        {"dimension": "team", "value": value, "weight": 0.5} for value in ("Ops", "ops")
                    ]
                }
            },
            "matches.dimensions",
            "given twice",
        ),
        ({"verification": "Look\x00here."}, "verification", "U+0000"),
        ({"title": ""}, "title", "length >= 1"),
        ({"matches": {"terms": {f"{n} {'x' * 400}": 0.5 for n in range(90)}}}, "play", str(PLAY_BYTES_MAX)),
    ],
)
def test_a_play_that_breaks_a_rule_is_refused_with_its_place(
    changed: dict[str, Any], path: str, fault: str
) -> None:
    """By the rules of the files, and what a row cannot hold."""
    command = recommendation.DefinePlay(play=own(**changed))
    with pytest.raises(PlayRefusedError) as refused:
        define_play(command, OwnPlays(), workspace_id=WORKSPACE)
    assert fault in refused.value.details[path]


def test_plays_are_defined_changed_and_withdrawn_within_bounds() -> None:
    """The same again is no event; the shipped ones are not the workspace's to withdraw."""
    first = recommendation.DefinePlay(play=own("play-7"))
    [event] = define_play(first, OwnPlays(n_plays=PLAYS_MAX - 1), workspace_id=WORKSPACE)
    full = OwnPlays(known=event.play, n_plays=PLAYS_MAX, seq=9)
    other = recommendation.DefinePlay(play=own("play-7", holds=0.3))
    assert define_play(first, full, workspace_id=WORKSPACE) == []
    assert define_play(other, full, workspace_id=WORKSPACE)[0].play.holds == 0.3
    with pytest.raises(PlaybookFullError):
        define_play(first, OwnPlays(n_plays=PLAYS_MAX), workspace_id=WORKSPACE)
    shipped = {play.id for play in PLAYBOOK.plays}

    def withdraw(play_id: str, state: OwnPlays) -> list[recommendation.PlayWithdrawn]:
        wanted = recommendation.WithdrawPlay(play_id=play_id)
        return withdraw_play(wanted, state, workspace_id=WORKSPACE, shipped=shipped)

    assert [event.play_id for event in withdraw("play-7", full)] == ["play-7"]
    with pytest.raises(PlayShippedError):
        withdraw("size-connection-pool", OwnPlays())
    with pytest.raises(PlayNotFoundError):
        withdraw("nobody-has-it", OwnPlays())


def test_own_plays_stand_beside_the_shipped_ones_and_in_their_place() -> None:
    """The version tells apart what was in force."""
    extended = PLAYBOOK.extended([play_of(own()), play_of(own("add-missing-index"))])
    assert len(extended.plays) == len(PLAYBOOK.plays) + 1
    assert {play.title for play in extended.plays if play.id == "add-missing-index"} == {own().title}
    assert extended.version != PLAYBOOK.version
    assert extended.version[:10] == PLAYBOOK.version[:10]
    assert extended == PLAYBOOK.extended([play_of(own("add-missing-index")), play_of(own())])


def test_nothing_is_recommended_in_silence() -> None:
    """What comes closest is said once, and again when that changes; not below the threshold, not beside another one."""
    shipped = Matcher(PLAYBOOK)
    assert recommend(situation(), shipped) == []
    first = withhold(situation(), shipped)
    assert first is not None
    assert first.best_fit < FIT_FLOOR == first.floor
    known = Abstention(
        workspace_id=WORKSPACE,
        pattern_id="pat_1",
        best_play_id=first.best_play_id,
        best_fit=first.best_fit,
        seq=9,
    )
    assert withhold(situation(abstention=known), shipped) is None
    assert withhold(situation(threshold=0.99), shipped) is None
    weak = Matcher(PLAYBOOK.extended([play_of(own(matches={"terms": {"frobnicator": 0.45}}))]))
    second = withhold(situation(abstention=known), weak)
    assert second is not None
    assert (second.best_play_id, second.best_fit, second.best_play_title) == (
        "oil-frobnicator",
        0.45,
        own().title,
    )
    strong = Matcher(PLAYBOOK.extended([play_of(own())]))
    assert withhold(situation(abstention=known), strong) is None
    [made] = recommend(situation(abstention=known), strong)
    assert (made.play_id, made.title, made.playbook_version) == (
        "oil-frobnicator",
        own().title,
        strong.playbook.version,
    )


def desk_of(event_log: EventLog, pool: databases.Pool, projector: Projector) -> PlaybookDesk:
    """The desk of a workspace whose rows a projector writes."""
    return PlaybookDesk(
        event_log, pool, PLAYBOOK, clock=utc_now, reached=lambda _, seq: projector.reached(seq, timeout=30)
    )


async def test_a_change_of_plays_reads_no_history_and_one_that_cannot_be_used_stops_nobody(
    schema: Database, event_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes side by side are all made; a play that a former build took is left out of what is recommended."""
    monkeypatch.setattr(recommending, "PLAYBOOK_SETTLES_AFTER", timedelta(seconds=0.2))
    old = recommendation.PlayDefined(workspace_id=WORKSPACE, play=own("of-old", holds=1.0))
    async with (
        running(event_log, schema) as projector,
        databases.pool(schema.projector_url, schema="recommendation", max_size=2) as pool,
    ):
        await append(event_log, recorded(old, WORKSPACE))
        desk = desk_of(event_log, pool, projector)
        monkeypatch.setattr(event_log, "history", None)
        plays = [own(), own("play-1"), own("play-2")]
        wanted = [desk.define_play(recommendation.DefinePlay(play=play), CONTEXT) for play in plays]
        assert all(reply.is_changed for reply in await asyncio.gather(*wanted))
        await append(event_log, of_nothing(), unknown_failure())

        async def all_are_made() -> bool:
            return {each.play_id for each in await of(event_log, Made)} == {play.play_id for play in plays}

        await eventually(all_are_made)


async def of(event_log: EventLog, kind: type[Event]) -> list[Any]:
    return [event.data for event in await all_events(event_log) if isinstance(event.data, kind)]


async def test_a_play_that_is_put_up_is_recommended_and_one_withdrawn_is_not(
    schema: Database, event_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a pattern of which it was said before that nothing fits, once the plays have settled; in no other workspace."""
    monkeypatch.setattr(recommending, "PLAYBOOK_SETTLES_AFTER", timedelta(seconds=0.2))
    async with (
        running(event_log, schema) as projector,
        databases.pool(schema.projector_url, schema="recommendation", max_size=2) as pool,
    ):
        desk = desk_of(event_log, pool, projector)
        await append(event_log, of_nothing(), unknown_failure())
        await settled(projector, event_log)
        [withheld] = await of(event_log, Withheld)
        assert (withheld.pattern_id, withheld.floor) == ("pat_1", FIT_FLOOR)
        defined = await desk.define_play(recommendation.DefinePlay(play=own()), CONTEXT)
        assert defined.is_changed
        again = await desk.define_play(recommendation.DefinePlay(play=own()), CONTEXT)
        assert (again.is_changed, again.sequence) == (False, defined.sequence)
        [made] = await eventually(lambda: of(event_log, Made))
        assert (made.pattern_id, made.play_id, made.title) == ("pat_1", "oil-frobnicator", own().title)
        await settled(projector, event_log)
        assert len(await of(event_log, Withheld)) == 1, "what was said is said once"
        await desk.withdraw_play(recommendation.WithdrawPlay(play_id="oil-frobnicator"), CONTEXT)
        await append(event_log, of_nothing("pat_2"), unknown_failure("pat_2"))
        await settled(projector, event_log)
        assert [event.pattern_id for event in await of(event_log, Withheld)] == ["pat_1", "pat_2"]
    # A process of later knows it all from the rows, and says nothing twice.
    before = [event.id for event in await all_events(event_log)]
    async with running(event_log, schema) as projector:
        await append(event_log, threshold(0.6))
        await settled(projector, event_log)
    assert [event.id for event in await all_events(event_log)][:-1] == before
