"""What a run tells of what it could not read."""

import pytest

from services.ingest.commands.connectors import DETAIL_LENGTH_MAX
from services.ingest.jobs.progress import Progress, also, withheld
from tests.services.ingest.builders import NOW

WORDS = "api.github.com answered 404: Not Found, see https://docs.github.com/rest/issues/issues#list "


def refused(*names: str) -> tuple[str, ...]:
    """As a run keeps them; the words differ each time, and are long."""
    kept: tuple[str, ...] = ()
    for number, name in enumerate(names):
        kept = also(kept, f"{name}: {WORDS}{number} {'x' * 400}")
    return kept


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (("C1",) * 4, "C1"),
        (("C1", "C2", "C1"), "C1, C2"),
        ([f"acme/repo-{n}" for n in range(19)], "acme/repo-0, acme/repo-1, {}acme/repo-16 and 2 more"),
        (
            [f"acme/repo-{n}" for n in range(30)],
            "acme/repo-0, acme/repo-1, {}acme/repo-16 and at least 3 more",
        ),
        ([f"C{n}" for n in range(30)], "C0, C1, {}C19 and perhaps more"),
        (["acme/" + "r" * 500], "1 of its lists"),
    ],
)
def test_a_run_names_each_refused_list_once_and_says_how_many_there_are_beside_them(
    names: list[str], named: str
) -> None:
    """As many as there is room for, before any words of the vendor's; also what was left out has its place."""
    progress = {
        "issues": Progress(start=None, end=NOW, refused=refused(*names)),
        "alerts": Progress(start=None, end=NOW, left_out="answered 403: no such feature"),
    }
    said = withheld(progress)[:DETAIL_LENGTH_MAX]
    assert "Left out, for the vendor does not give them: alerts." in said
    beginning, _, end = named.partition("{}")
    assert f"Not read of issues, for the vendor refuses it: {beginning}" in said
    assert f"{end}. {names[0]}"[:80] in said


def test_words_of_the_vendor_are_said_as_far_as_there_is_room() -> None:
    lists = [f"acme/repo-{n}" for n in range(9)]
    streams = ("issues", "alerts", "runs")
    said = withheld({each: Progress(start=None, end=NOW, refused=refused(*lists)) for each in streams})
    for each in streams:
        assert (
            f"Not read of {each}, for the vendor refuses it: acme/repo-0, acme/repo-1, acme/repo-2, acme/repo-3 and 5 more."
            in said
        )
    assert said[:DETAIL_LENGTH_MAX].count("answered 404") == 1
    assert not withheld({"issues": Progress(start=None, end=NOW)})
