"""A workspace's own linker: drawn by decisions, gently, and compared before it is switched on."""

from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from contracts import ingest, pattern
from contracts.generated.pattern import ConstraintKind
from hypothesis import given, settings
from hypothesis import strategies as st
from testkit.builders import NOW

from services.pattern.engine.grouping import Decision, Grouper, New
from services.pattern.engine.issues import Issue, compared_text, features_of
from services.pattern.engine.linking import FEATURES
from services.pattern.engine.memory import ConstraintRow, Member
from services.pattern.engine.refitting import (
    MIN_DECISIONS,
    PULL,
    Arrival,
    Comparison,
    Examples,
    Material,
    compare,
    examples_of,
    find,
    fit,
)
from services.pattern.engine.weights import LinkerArtefact, shipped
from services.pattern.reactions.loading import usable

ROOT = Path(__file__).parents[3]
EAGER = msgspec.structs.replace(shipped(), version="linker@eager", intercept=40.0)
SHY = msgspec.structs.replace(shipped(), version="linker@shy", intercept=-40.0)
THINGS = (
    "invoice", "calendar", "printer", "mailbox", "warehouse", "passport", "telephone", "library", "elevator", "garden",
    "projector", "scanner", "keyboard", "thermostat", "turbine", "vending", "wardrobe", "aquarium", "balcony", "compass",
    "diary", "escalator", "fountain", "gallery", "harbour", "island", "jukebox", "kitchen", "lantern", "museum",
    "notebook", "orchard", "parking", "quarry", "railway", "stadium",
)  # fmt: skip


def issue(number: int, title: str) -> Issue:
    return Issue(
        issue_id=f"iss_{number}",
        title=title,
        source="jira",
        severity=ingest.Severity.P3,
        occurred_at=NOW + timedelta(minutes=number),
        service="editor",
    )


def arrival(number: int, title: str, pattern_id: str | None) -> Arrival:
    one = issue(number, title)
    features = features_of(one)
    member = Member(
        issue_id=one.issue_id,
        pattern_id=pattern_id,
        grouping_key=features.key,
        score=1.0,
        severity=one.severity,
        occurred_at=one.occurred_at,
        dimensions=one.dimensions,
    )
    return Arrival(member, compared_text(one, features))


def material(
    arrivals: list[Arrival],
    constraints: list[ConstraintRow],
    *,
    active: LinkerArtefact | None = None,
    merged: dict[str, str] | None = None,
) -> Material:
    return Material(
        workspace_id="ws",
        confidence_threshold=0.7,
        merged=merged or {},
        constraints=tuple(constraints),
        arrivals=tuple(arrivals),
        active=active or shipped(),
        candidate=None,
        version="linker@test",
    )


def team_that_joins_screens(n: int) -> Material:
    """Of n things, "… screen stays blank" is the failure "… page shows nothing", and never "… screen flickers"."""
    arrivals, constraints = [], []
    for place, thing in enumerate(THINGS[:n]):
        blank, flickers = f"pat_blank_{thing}", f"pat_flickers_{thing}"
        first = arrival(4 * place, f"The {thing} page shows nothing", blank)
        other = arrival(4 * place + 1, f"The {thing} screen flickers", flickers)
        asked = arrival(4 * place + 2, f"The {thing} screen stays blank", blank)
        arrivals += [first, other, asked]
        key = asked.member.grouping_key
        constraints.append(ConstraintRow(key, blank, ConstraintKind.MUST_LINK))
        constraints.append(ConstraintRow(key, flickers, ConstraintKind.CANNOT_LINK))
    return material(arrivals, constraints)


def test_a_team_that_decides_alike_is_learned_from_and_foretold() -> None:
    """Better on decisions held out; the same decisions give the same bytes; a new pair of their kind is surer."""
    past = team_that_joins_screens(20)
    found = find(past)
    fitted = found.fitted
    assert fitted is not None and found.comparison is not None
    assert (fitted.n_decisions, fitted.n_joining) == (40, 20)
    assert fitted.is_better and fitted.loss < 0.8 * fitted.shipped_loss
    assert msgspec.json.encode(find(past)) == msgspec.json.encode(found)
    assert fitted.linker.version == "linker@test" and fitted.linker.features == FEATURES
    margins = []
    for linker in (shipped(), fitted.linker):
        grouper = Grouper("ws", linker=linker)
        for each in past.arrivals:
            grouper.link(each.member, exemplar=each.text)
        for number, title in (
            (900, "The zeppelin page shows nothing"),
            (901, "The zeppelin screen flickers"),
        ):
            later = arrival(number, title, f"pat_{number}")
            grouper.link(later.member, exemplar=later.text)
        scores = scores_of(grouper.assign(issue(902, "The zeppelin screen stays blank")))
        margins.append(scores.get("pat_900", 0.0) - scores.get("pat_901", 0.0))
    assert margins[1] > margins[0]


def scores_of(decision: Decision) -> dict[str, float]:
    """How sure a decision is of every pattern that it names."""
    if isinstance(decision, New):
        return {each.pattern_id: each.score for each in decision.suggestions}
    return {decision.pattern_id: decision.score}


def test_too_few_decisions_or_all_of_one_kind_fit_nothing() -> None:
    """Below 30, and where people only ever said no, the shipped linker is all there is."""
    assert find(team_that_joins_screens(14)).fitted is None
    whole = team_that_joins_screens(36)
    only_never = [row for row in whole.constraints if row.kind is ConstraintKind.CANNOT_LINK]
    assert len(only_never) >= MIN_DECISIONS == 30
    assert find(msgspec.structs.replace(whole, constraints=tuple(only_never))).fitted is None


def test_the_pull_is_the_documented_one() -> None:
    """How much a few decisions move was chosen by measurement, and users are told."""
    assert f"with a pull of {PULL:g} on every weight" in (ROOT / "docs/reference/grouping.md").read_text()


def test_few_decisions_move_little() -> None:
    """What is thought of the pairs stays near to what the shipped linker thinks; more of the same moves it farther."""
    few = examples_of(team_that_joins_screens(16))
    n_times, n = 20, int(few.decision.max()) + 1
    many = Examples(
        x=np.tile(few.x, (n_times, 1)),
        y=np.tile(few.y, n_times),
        shift=np.tile(few.shift, n_times),
        decision=np.concatenate([few.decision + n * number for number in range(n_times)]),
        about=np.tile(few.about, n_times),
    )
    moved = []
    for examples in (few, many):
        fitted = fit(examples, version="v")
        assert fitted is not None
        difference = np.array(fitted.linker.weights) - np.array(shipped().weights)
        change = few.x @ difference + fitted.linker.intercept - shipped().intercept
        moved.append(float(np.abs(change).mean()))
    assert 0 < moved[0] < 0.7 * moved[1]


def test_decisions_about_one_pattern_are_held_out_together() -> None:
    """They are about texts that are alike: learned from each other even chance would look like a rule."""
    once = examples_of(team_that_joins_screens(20))
    n_times, n = 8, int(once.decision.max()) + 1
    chance = np.array([float(number * 7 // 3 % 2) for number in range(n)])
    alike = Examples(
        x=np.tile(once.x + 0.3 * np.sin(np.outer(once.decision, np.arange(1, 31))), (n_times, 1)),
        y=np.tile(chance[once.decision], n_times),
        shift=np.tile(once.shift, n_times),
        decision=np.concatenate([once.decision * n_times + number for number in range(n_times)]),
        about=np.tile(once.decision, n_times),
    )
    leaking = fit(msgspec.structs.replace(alike, about=alike.decision), version="v")
    fitted = fit(alike, version="v")
    assert leaking is not None and fitted is not None
    assert leaking.loss < 0.7 * fitted.loss
    assert fit(msgspec.structs.replace(alike, about=alike.about % 4), version="v") is None


def test_decisions_that_follow_no_rule_give_no_better_linker() -> None:
    """What held-out decisions do not bear out is not better, so it is never offered."""
    past = team_that_joins_screens(36)
    kinds = [ConstraintKind.MUST_LINK, ConstraintKind.CANNOT_LINK]
    shuffled = tuple(
        ConstraintRow(row.grouping_key, row.pattern_id, kinds[place * 7 // 3 % 2])
        for place, row in enumerate(sorted(past.constraints))
    )
    fitted = fit(examples_of(msgspec.structs.replace(past, constraints=shuffled)), version="v")
    assert fitted is None or fitted.loss > 0.6


titles = st.lists(st.sampled_from(THINGS[:4]), min_size=2, max_size=10)
rulings = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 3), st.sampled_from(list(ConstraintKind))), max_size=8
)


@settings(max_examples=12, deadline=None)
@given(titles, rulings)
@pytest.mark.parametrize("candidate", [EAGER, SHY], ids=["eager", "shy"])
def test_no_comparison_shows_a_move_against_a_person(
    candidate: LinkerArtefact, things: list[str], decided: list[tuple[int, int, ConstraintKind]]
) -> None:
    """Issues that must be where they are do not move, and none moves to where it must not be."""
    arrivals = [
        arrival(
            number,
            f"The {thing} page shows nothing but part {'abcdefghij'[number]} {thing}",
            f"pat_{number % 4}",
        )
        for number, thing in enumerate(things)
    ]
    latest: dict[tuple[str, str], ConstraintKind] = {}
    musts: dict[str, str] = {}
    for which, into, kind in decided:
        key, pattern_id = arrivals[which % len(arrivals)].member.grouping_key, f"pat_{into}"
        if kind is ConstraintKind.MUST_LINK:
            latest.pop((key, musts.get(key, "")), None)
            musts[key] = pattern_id
        latest[key, pattern_id] = kind
    rows = [ConstraintRow(key, pattern_id, kind) for (key, pattern_id), kind in sorted(latest.items())]
    found = compare(material(arrivals, rows), candidate)
    keys = {each.member.issue_id: each.member.grouping_key for each in arrivals}
    for move in found.moves:
        kinds = {row.pattern_id: row.kind for row in rows if row.grouping_key == keys[move.issue_id]}
        assert ConstraintKind.MUST_LINK not in kinds.values()
        assert kinds.get(move.to_pattern_id or "") is not ConstraintKind.CANNOT_LINK
        assert move.from_pattern_id != move.to_pattern_id


def test_a_comparison_says_what_moves_from_where_to_where_and_how_sure_both_were() -> None:
    """What would join, what would leave; the issues themselves stay; merged by a person, they are not asked about."""
    first = arrival(1, "Export wizard hangs on invoices", "pat_a")
    second = arrival(2, "Export wizard hangs on large invoices", "pat_b")
    joining = compare(material([first, second], [], active=SHY), EAGER)
    assert (joining.n_texts, joining.n_asked, joining.n_moved, joining.n_joining) == (2, 2, 1, 1)
    move = joining.moves[0]
    assert (move.issue_id, move.pattern_id, move.from_pattern_id, move.to_pattern_id) == (
        "iss_2",
        "pat_b",
        None,
        "pat_a",
    )
    assert move.from_score is None and move.to_score is not None and move.to_score > 0.7
    leaving = compare(material([first, second], [], active=EAGER), SHY)
    assert (leaving.n_moved, leaving.n_leaving) == (1, 1)
    assert (leaving.moves[0].from_pattern_id, leaving.moves[0].to_pattern_id) == ("pat_a", None)
    assert compare(material([first, second], []), shipped()).moves == ()
    begun = Grouper("ws").assign(issue(2, "x")).pattern_id
    settled: Comparison = compare(material([first, second], [], active=SHY, merged={begun: "pat_b"}), EAGER)
    assert (settled.n_moved, settled.n_decided) == (0, 1)


def test_a_linker_that_knows_other_features_is_not_used() -> None:
    """A build that knows more takes its shipped one; one of the same features comes back as it was said."""
    fields = msgspec.structs.asdict(EAGER)
    del fields["trained_on"]
    said = pattern.Linker(**fields)
    assert usable(said) == msgspec.structs.replace(EAGER, trained_on=())
    assert (
        usable(msgspec.structs.replace(said, features=("grams",), weights=(1.0,)))
        == usable(None)
        == shipped()
    )


def test_a_linker_of_features_that_meant_something_else_is_not_used() -> None:
    """Titles were compared by 3- to 5-grams once: weights of that time have the same number, under other names."""
    fields = msgspec.structs.asdict(msgspec.structs.replace(EAGER, version="linker@2026-11-22.w1"))
    del fields["trained_on"]
    before = tuple(name.replace("grams4", "grams") for name in FEATURES)
    assert len(before) == len(EAGER.weights) and before != FEATURES
    assert usable(pattern.Linker(**{**fields, "features": before})) == shipped()


def test_features_mean_what_their_names_have_meant() -> None:
    """Whoever changes what one of them says of the same texts gives it another name, and the artefact another date."""
    grouper = Grouper("ws")
    for number, title in enumerate(("Printer jams on thick paper", "Printer jams", "Scanner shows stripes")):
        one = issue(number, title)
        decision = grouper.assign(one)
        grouper.link(decision.member(one), exemplar=decision.exemplar, title=one.title)
    asked = grouper.pairs(issue(9, "Paper jams in printer 4711"))
    assert asked is not None
    assert dict(zip(FEATURES, asked[0].tolist()[0], strict=True)) == pytest.approx(
        {
            "grams4": 0.386,
            "words": 0.49,
            "titles": 0.863,
            "whole": 0.863,
            "grams4_times_words": 0.189,
            "margin_grams4": -0.027,
            "margin_words": 0.056,
            "margin_whole": 0.007,
            "rank": 0.0,
            "crowd_grams4": 0.193,
            "crowd_words": 0.217,
            "crowd_whole": 0.507,
            "best_words": 0.49,
            "token_set": 0.511,
            "contained": 0.716,
            "rarest": 1.693,
            "n_shared": 1.386,
            "unshared": 1.625,
            "length": 1.609,
            "length_ratio": 0.0,
            "length_whole": 1.609,
            "gap": 1.099,
            "same_service": 1.0,
            "other_service": 0.0,
            "same_component": 0.0,
            "other_component": 0.0,
            "shared_name": 0.0,
            "other_name": 0.0,
            "shared_number": 0.0,
            "other_number": 0.0,
        },
        abs=0.001,
    )
