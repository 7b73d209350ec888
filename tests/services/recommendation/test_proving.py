"""When a proof starts, changes and ends; and the same on a real log, whatever the order of arrival."""

import random
from datetime import timedelta

import pytest
from contracts import Event, Recorded, pattern, recommendation
from eventlog import EventLog
from msgspec.structs import replace
from testkit.builders import NOW, recorded
from testkit.servers import Database
from testkit.waiting import eventually, settled

from services.recommendation.commands import Case, is_new_fix, prove, terms_of
from services.recommendation.engine import proof
from services.recommendation.engine.reference import Reference
from services.recommendation.state import Fix, Pattern, Recommendation, evolve, evolve_fix, evolve_pattern
from tests.services.recommendation.builders import (
    append,
    assessment,
    detected,
    failed,
    fixed,
    linked,
    made,
    moved,
    on_pattern,
    pattern_moved,
)
from tests.services.recommendation.test_recommender import all_events, running, schema

__all__ = ["schema"]
Reason = recommendation.InconclusiveReason
REFERENCE = Reference(gap_days=14.0, ratio=0.8, ratio_variance=0.14, dispersion=1.2, n_patterns=20)
PAST = (-60, -50, -40, -30, -20, -10)


class World:
    """A pattern and its fixes, folded from events as the rows are."""

    def __init__(self) -> None:
        self.pattern: Pattern | None = None
        self.fixes: dict[str, Fix] = {}
        self.made: dict[str, Recommendation] = {}
        self.failures: dict[str, proof.Failure] = {}
        self.terms = proof.Terms()
        self.seq = 0

    def tell(self, *events: Recorded[Event]) -> None:
        for event in events:
            self.seq += 1
            numbered = replace(event, seq=self.seq, id=f"evt_{self.seq}")
            self.pattern = evolve_pattern(self.pattern, numbered)
            known = evolve(self.made.get(event.aggregate_id), numbered)
            if known is not None:
                self.made[event.aggregate_id] = known
            fix = evolve_fix(self.fixes.get(event.aggregate_id), numbered)
            if fix is not None:
                self.fixes[event.aggregate_id] = fix
            for link in getattr(event.data, "links", ()):
                self.failures[link.issue_id] = proof.Failure(
                    link.occurred_at, link.issue_id, link.environment, link.version
                )

    def look(self, day: float) -> list[recommendation.Event]:
        """What is decided so many days after NOW; it is told at once."""
        assert self.pattern is not None
        case = Case(
            pattern=self.pattern,
            fixes=sorted(self.fixes.values(), key=lambda fix: fix.fixed_at),
            made=list(self.made.values()),
            failures=list(self.failures.values()),
            terms=self.terms,
        )
        decided = prove(case, reference=REFERENCE, now=NOW + timedelta(days=day))
        for each in decided:
            known = self.fixes.get(each.fix_id)
            assert each.expected == (known.seq if known else 0)
            self.tell(recorded(each.event, each.fix_id, at=each.at or NOW + timedelta(days=day)))
        return [each.event for each in decided]


@pytest.fixture
def world() -> World:
    told = World()
    told.tell(failed(*PAST), detected(), made(), moved("pending", "implemented"))
    return told


def kinds(events: list[recommendation.Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_a_fix_is_proved_by_quiet_time_and_broken_by_a_recurrence_even_then(world: World) -> None:
    assert world.look(0) == [], "nothing was fixed yet"
    world.tell(fixed(0))
    [started] = world.look(0.1)
    assert isinstance(started, recommendation.ProofStarted)
    assert started.recommendation_ids == ("rec_1",)
    assert started.inputs.n_recurrences == 5
    assert started.ledger.is_credited and started.ledger.ratio == 0.8
    assert world.look(0.2) == [], "and once only"
    window = started.inputs.window_days
    assert world.look(window - 0.01) == []
    [verified] = world.look(window + 0.01)
    assert isinstance(verified, recommendation.FixVerified)
    assert verified.confidence >= 0.95 and verified.inputs == started.inputs
    assert world.look(300) == []
    world.tell(failed(200.5))
    [broken] = world.look(301)
    assert isinstance(broken, recommendation.FixBroken)
    assert (broken.quiet_days, broken.was_verified) == (200.5, True)
    assert world.look(302) == [], "beyond the ledger's horizon nothing more is counted"


def test_a_recurrence_is_counted_on_while_the_ledger_looks(world: World) -> None:
    world.tell(fixed(0), failed(3))
    world.look(4)
    [broken] = world.look(4)
    assert isinstance(broken, recommendation.FixBroken) and not broken.was_verified
    world.tell(failed(3.2, 10, 30), pattern_moved("watching", "active"))
    [again] = world.look(31)
    assert isinstance(again, recommendation.ProofReassessed)
    assert again.inputs.n_recurrences_after == 3
    assert again.rate_drop is not None and again.rate_drop.days_after == 31.0


def test_residual_exposure_is_told_and_breaks_nothing(world: World) -> None:
    """A failure of an older version than the fix's, seen in the scope that its closure names."""
    world.tell(fixed(0, version="2.4.0", environment="production"))
    assert kinds(world.look(0.1)) == ["ProofStarted"]
    world.tell(failed(5, version="2.3.9"))
    [told] = world.look(6)
    assert isinstance(told, recommendation.ProofReassessed)
    assert told.inputs.n_residual == 1
    world.tell(failed(7, version="2.4.1"))
    assert kinds(world.look(8)) == ["FixBroken"]


def test_a_late_arrival_from_before_the_fix_changes_the_numbers_not_the_verdict(world: World) -> None:
    world.tell(fixed(0))
    [started] = world.look(0.1)
    world.tell(failed(-5))
    [told] = world.look(1)
    assert isinstance(started, recommendation.ProofStarted)
    assert isinstance(told, recommendation.ProofReassessed)
    assert told.inputs.n_recurrences == started.inputs.n_recurrences + 1
    assert told.inputs.window_days < started.inputs.window_days


def test_a_note_on_the_running_proof_is_no_new_fix(world: World) -> None:
    world.tell(fixed(0))
    world.look(0.1)
    world.tell(fixed(0, before="watching", note="Sized the pool."))
    [noted] = world.look(3)
    assert isinstance(noted, recommendation.ProofNoted) and noted.note == "Sized the pool."
    assert len(world.fixes) == 1


def test_a_later_fix_takes_over_with_the_measures_of_both(world: World) -> None:
    world.tell(fixed(0))
    world.look(0.1)
    second = made("alert-on-pool-saturation", recommendation_id="rec_2")
    world.tell(second, moved("pending", "implemented", recommendation_id="rec_2", at=NOW + timedelta(days=5)))
    world.tell(fixed(5, before="watching"))
    started, ended = world.look(5.1)
    assert isinstance(started, recommendation.ProofStarted)
    assert started.recommendation_ids == ("rec_1", "rec_2")
    assert isinstance(ended, recommendation.FixInconclusive) and ended.reason is Reason.SUPERSEDED
    world.tell(failed(6))
    [broken] = world.look(7)
    assert isinstance(broken, recommendation.FixBroken) and broken.fix_id == started.fix_id


def implemented(number: int, day: float, **scope: str) -> Recorded[Event]:
    data = recommendation.RecommendationStatusChanged(
        recommendation_id=f"rec_{number}",
        pattern_id="pat_1",
        from_status=recommendation.RecommendationStatus.PENDING,
        to_status=recommendation.RecommendationStatus.IMPLEMENTED,
        reason="",
        environment=scope.get("environment"),
        version=scope.get("version"),
    )
    return recorded(data, f"rec_{number}", at=NOW + timedelta(days=day))


@pytest.mark.parametrize(("first", "second"), [("production", "staging"), ("staging", None)])
def test_a_further_fix_elsewhere_hides_no_failure(first: str, second: str | None) -> None:
    """A in production, then B in staging: both are proved in both. B everywhere is not narrowed to where A is."""
    world = World()
    world.tell(failed(*PAST), detected(), made(), implemented(1, 0, environment=first), fixed(0))
    [alone] = world.look(0.1)
    assert isinstance(alone, recommendation.ProofStarted) and alone.environment == first
    where = {} if second is None else {"environment": second}
    world.tell(made("alert-on-pool-saturation", recommendation_id="rec_2"), implemented(2, 1, **where))
    world.tell(fixed(1, before="watching"))
    started = world.look(1.1)[0]
    assert isinstance(started, recommendation.ProofStarted) and started.environment is None
    world.tell(failed(8))
    assert kinds(world.look(9)) == ["FixBroken"]


def test_a_further_closure_elsewhere_hides_no_failure_of_the_first(world: World) -> None:
    world.tell(moved("implemented", "pending"), fixed(0, note="Sized it.", environment="production"))
    world.look(0.1)
    world.tell(fixed(1, before="watching", note="Here as well.", environment="staging"))
    started = world.look(1.1)[0]
    assert isinstance(started, recommendation.ProofStarted) and started.environment is None


def test_two_measures_of_one_moment_are_both_proved(world: World) -> None:
    """One deploy, told one after the other: the second is no note on the first."""
    world.tell(fixed(0))
    world.look(0.1)
    world.tell(made("alert-on-pool-saturation", recommendation_id="rec_2"), implemented(2, 0))
    world.tell(fixed(0, before="watching"))
    started, ended = world.look(0.2)
    assert isinstance(started, recommendation.ProofStarted)
    assert started.recommendation_ids == ("rec_1", "rec_2")
    assert isinstance(ended, recommendation.FixInconclusive) and ended.reason is Reason.SUPERSEDED


def test_a_failure_after_the_next_fix_does_not_break_the_one_before(world: World) -> None:
    world.tell(fixed(0))
    world.look(0.1)
    world.tell(made("alert-on-pool-saturation", recommendation_id="rec_2"), implemented(2, 5))
    world.tell(fixed(5, before="watching"), failed(6))
    said = [*world.look(7), *world.look(7)]
    assert sorted(kinds(said)) == ["FixBroken", "FixInconclusive", "ProofStarted"]


def test_a_place_where_it_never_failed_gets_neither_verdict_nor_credit(world: World) -> None:
    where = {event.environment for event in world.failures.values()}
    assert where == {"production"}
    world.tell(moved("implemented", "pending"), fixed(0, note="Sized it.", environment="prod"))
    [started] = world.look(0.1)
    assert isinstance(started, recommendation.ProofStarted) and not started.ledger.is_credited
    [ended] = world.look(366)
    assert isinstance(ended, recommendation.FixInconclusive)
    assert (ended.reason, ended.confidence, ended.inputs.n_recurrences) == (Reason.BOUND_REACHED, 0.0, 0)


def test_what_was_broken_is_no_measure_of_the_next_fix(world: World) -> None:
    world.tell(fixed(0), failed(3))
    world.look(4)
    world.look(4)
    world.tell(pattern_moved("watching", "active"), fixed(3, note="Fixed it as of then, once more."))
    [started] = world.look(5)
    assert isinstance(started, recommendation.ProofStarted)
    assert started.recommendation_ids == ()
    assert started.note.startswith("Fixed it")


@pytest.mark.parametrize("how", ["status", "recommendation"])
def test_a_fix_that_is_taken_back_proves_nothing(world: World, how: str) -> None:
    world.tell(fixed(0))
    world.look(0.1)
    if how == "status":
        world.tell(pattern_moved("watching", "active"))
    else:
        world.tell(moved("implemented", "pending"))
    [ended] = world.look(400)
    assert isinstance(ended, recommendation.FixInconclusive) and ended.reason is Reason.WITHDRAWN


def test_the_workspaces_terms_bound_the_window_and_set_the_level(world: World) -> None:
    world.terms = terms_of(least_days=7, most_days=30, level=None)
    world.tell(fixed(0))
    world.look(0.1)
    [ended] = world.look(30.1)
    assert isinstance(ended, recommendation.FixInconclusive) and ended.reason is Reason.BOUND_REACHED
    assert world.look(200) == [], "never a silent yes later"
    world.tell(failed(201))
    assert kinds(world.look(202)) == ["FixBroken"], "but a recurrence is told"
    assert terms_of(least_days=60, most_days=30, level=0.9) == proof.Terms(
        level=0.9, least_days=60, most_days=60
    )


def test_where_a_recommendation_was_implemented_is_the_scope_of_its_fix(world: World) -> None:
    there = recommendation.RecommendationStatusChanged(
        recommendation_id="rec_1",
        pattern_id="pat_1",
        from_status=recommendation.RecommendationStatus.PENDING,
        to_status=recommendation.RecommendationStatus.IMPLEMENTED,
        reason="",
        environment="staging",
        version="1.0",
    )
    world.tell(recorded(there, "rec_1", at=NOW), fixed(0))
    [started] = world.look(0.1)
    assert isinstance(started, recommendation.ProofStarted)
    assert (started.environment, started.version) == ("staging", "1.0")


def test_a_pattern_without_a_fix_needs_no_decision(world: World) -> None:
    assert world.pattern is not None
    assert not is_new_fix(Case(pattern=world.pattern))


async def verdicts(event_log: EventLog) -> list[Recorded[Event]]:
    return [event for event in await all_events(event_log) if event.aggregate_type == "fix"]


@pytest.mark.parametrize("seed", [1, 2])
async def test_on_the_log_the_verdict_is_that_of_event_time_however_failures_arrive(
    schema: Database, event_log: EventLog, seed: int
) -> None:
    """Failures in any order around a fix of long ago; one process dies on the way, and the next one says nothing twice."""
    arriving = [linked(), *[failed(day) for day in (-500, -480, -460, -440, -100)], detected()]
    random.Random(seed).shuffle(arriving)
    before, after = arriving[:3], arriving[3:]
    first = [event for event in before if type(event.data).__name__ == "IssuesLinked"]
    async with running(event_log, schema) as projector:
        await append(event_log, *(first or [linked()]), *before, fixed(-420, before="emerging"))
        await eventually(lambda: verdicts(event_log))
        await settled(projector, event_log)
    await append(event_log, *after)
    async with running(event_log, schema) as projector:

        async def is_broken() -> list[Recorded[Event]]:
            return [e for e in await verdicts(event_log) if isinstance(e.data, recommendation.FixBroken)]

        [broken] = await eventually(is_broken)
        await settled(projector, event_log)
    said = await verdicts(event_log)
    assert isinstance(broken.data, recommendation.FixBroken)
    assert broken.time == NOW - timedelta(days=100)
    assert [type(e.data) for e in said].count(recommendation.ProofStarted) == 1
    assert [type(e.data) for e in said].count(recommendation.FixBroken) == 1


@pytest.mark.parametrize("how", ["merged", "linked"])
async def test_a_watched_pattern_is_broken_by_what_people_bring_into_it(
    schema: Database, event_log: EventLog, how: str
) -> None:
    """A failure after the fix counts from when it joins: its pattern is merged in, or a person links it."""
    merged = pattern.PatternsMerged(
        target_pattern_id="pat_1", source_pattern_id="pat_2", assessment=assessment()
    )
    joins = on_pattern(merged) if how == "merged" else failed(-2)
    async with running(event_log, schema) as projector:
        await append(event_log, failed(*PAST), detected(), fixed(-5, before="emerging"))
        await append(event_log, failed(-2, pattern_id="pat_2"))
        await eventually(lambda: verdicts(event_log))
        await settled(projector, event_log)

        async def is_broken() -> list[Recorded[Event]]:
            return [e for e in await verdicts(event_log) if isinstance(e.data, recommendation.FixBroken)]

        assert await is_broken() == []
        await append(event_log, joins)
        [broken] = await eventually(is_broken)
    assert isinstance(broken.data, recommendation.FixBroken)
    assert (broken.data.pattern_id, broken.data.quiet_days) == ("pat_1", 3.0)
    assert broken.time == NOW - timedelta(days=2)


async def test_time_alone_verifies(schema: Database, event_log: EventLog) -> None:
    """The window of a fix of long ago has passed when somebody comes to look."""
    async with running(event_log, schema) as projector:
        await append(event_log, failed(-500, -490, -480, -470), detected(), fixed(-460, before="emerging"))

        async def is_verified() -> list[Recorded[Event]]:
            return [e for e in await verdicts(event_log) if isinstance(e.data, recommendation.FixVerified)]

        [verified] = await eventually(is_verified)
        await settled(projector, event_log)
    assert isinstance(verified.data, recommendation.FixVerified)
    assert verified.data.fixed_at == NOW - timedelta(days=460)
    assert verified.data.quiet_days > verified.data.inputs.window_days
