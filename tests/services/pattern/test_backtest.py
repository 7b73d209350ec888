"""A backtest says what would have been said on arrival, and scores it as the book does."""

import gzip
import json
import random
from pathlib import Path

import msgspec
import numpy as np
import pytest

from services.pattern import backtest, training
from services.pattern.backtest import Backtest, Line, Report, score
from services.pattern.engine.fitting import Fit, fit_logistic
from services.pattern.engine.grouping import Grouper
from services.pattern.engine.linking import FEATURES
from services.pattern.engine.weights import LinkerArtefact, WrongFeaturesError, shipped

THINGS = ("export wizard", "login form", "print dialog", "search index", "mail folder", "ruler widget")
WRONGS = ("crashes with a null pointer", "hangs for minutes", "loses my settings", "shows a blank page")


def lines(n: int = 90) -> list[Line]:
    """Reports of people, a third of which say again what an earlier one said."""
    rng = random.Random(3)
    made: list[Line] = []
    for number in range(n):
        thing, wrong = rng.choice(THINGS), rng.choice(WRONGS)
        said = rng.choice(("The {} {}", "{} {} again", "When opened, {} {}")).format(thing, wrong)
        made.append(
            Line(
                id=number,
                title=said,
                description=f"Since the update the {thing} {wrong} on build {rng.choice('abcd')}.",
                source="jira",
                service="editor",
                group=f"{thing}/{wrong}",
            )
        )
    return made


def written(folder: Path, content: list[Line]) -> Path:
    path = folder / "issues.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(msgspec.json.encode(line) + b"\n" for line in content)))
    return path


def test_scores_are_those_of_the_book() -> None:
    """Six issues by hand: pairs 2 of 4 said and of 4 true; B-cubed and exact patterns."""
    found = score(["a", "a", "a", "b", "b", "c"], ["x", "x", "y", "y", "y", "z"])
    assert (found.precision, found.recall, found.f1) == (2 / 4, 2 / 4, 0.5)
    assert found.b3_precision == pytest.approx((4 / 3 + 1 / 3 + 4 / 2 + 1) / 6)
    assert found.b3_recall == pytest.approx((4 / 2 + 1 / 3 + 4 / 3 + 1) / 6)
    assert found.grouping_accuracy == 1 / 6
    alone = score(range(4), ["x", "x", "y", "z"])
    assert (alone.precision, alone.recall, alone.f1, alone.b3_precision) == (1, 0, 0, 1)


def test_nothing_that_comes_later_changes_what_was_assigned_and_groups_are_never_looked_at() -> None:
    """A prefix alone, and the same issues with other groups, give the same patterns."""
    everything = Backtest(Grouper("backtest"))
    for line in lines():
        everything.take(line)
    part = Backtest(Grouper("backtest"))
    for line in lines()[:50]:
        part.take(msgspec.structs.replace(line, group="all the same"))
    assert list(everything.assigned.items())[:50] == list(part.assigned.items())
    assert len(set(everything.assigned.values())) < 90


def test_the_command_writes_what_was_assigned_and_prints_its_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An id that comes again is the same issue; doing nothing is scored beside."""
    file, out = written(tmp_path, [*lines(60), lines(60)[0]]), tmp_path / "assigned.jsonl"
    assert backtest.main([str(file), "--out", str(out), "--json"]) == 0
    report = msgspec.json.decode(capsys.readouterr().out, type=Report)
    assigned = [json.loads(line) for line in out.read_text().splitlines()]
    assert [each["id"] for each in assigned] == [str(number) for number in range(60)]
    assert (report.n_issues, report.linker_version) == (60, shipped().version)
    assert report.scores is not None
    assert report.all_singletons is not None
    assert report.scores.n_patterns == len({each["pattern_id"] for each in assigned}) == report.n_patterns
    assert report.all_singletons.f1 == 0
    assert backtest.main([str(file)]) == 0
    assert "all singletons" in capsys.readouterr().out


@pytest.mark.parametrize("text", ['{"title": "no id"}\n', '{"id": 1, "ts": "tomorrow"}\n', "no json\n"])
def test_a_line_that_is_no_issue_is_said_and_nothing_is_written(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, with the line."""
    file, out = tmp_path / "bad.jsonl", tmp_path / "out.jsonl"
    file.write_text(text)
    assert backtest.main([str(file), "--out", str(out)]) == 2
    assert "bad.jsonl" in capsys.readouterr().err
    assert not out.exists()


def test_training_learns_from_true_groups_and_writes_an_artefact_that_loads(tmp_path: Path) -> None:
    """The likest features weigh the right way, and the same file gives the same bytes."""
    first, second = tmp_path / "one.json", tmp_path / "two.json"
    for out in (first, second):
        words = [f"made={written(tmp_path, lines())}", "--out", str(out), "--version", "linker@test"]
        assert training.main(words) == 0
    assert first.read_bytes() == second.read_bytes()
    artefact = msgspec.json.decode(first.read_bytes(), type=LinkerArtefact)
    assert artefact.features == FEATURES
    assert artefact.weights[FEATURES.index("words")] > 0
    assert Grouper("ws", linker=artefact).linker_version == "linker@test"
    with pytest.raises(WrongFeaturesError):
        Grouper("ws", linker=msgspec.structs.replace(artefact, features=("other",)))


def test_a_fit_finds_known_weights_and_a_strong_pull_keeps_the_given_ones() -> None:
    """The optimum has no gradient; with a pull without end nothing moves."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4_000, 3)) * [1.0, 10.0, 0.1]
    truth = np.array([1.0, -0.2, 5.0])
    y = (rng.random(4_000) < 1 / (1 + np.exp(-(x @ truth - 1)))).astype(float)
    found = fit_logistic(x, y, np.ones(4_000), pull=1e-9)
    assert np.allclose(found.weights, truth, rtol=0.25)
    residual = y - 1 / (1 + np.exp(-(x @ found.weights + found.intercept)))
    assert np.abs(x.T @ residual).max() < 1e-3
    kept = fit_logistic(x, y, np.ones(4_000), towards=Fit(np.array([3.0, 3.0, 3.0]), 2.0), pull=1e12)
    assert np.allclose([*kept.weights, kept.intercept], [3, 3, 3, 2], atol=1e-3)
