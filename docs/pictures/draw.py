"""Draw the pictures of docs/how-it-decides.md: `python docs/pictures/draw.py [name …]`, from the repository's root.

Every number in them comes from a run of the engines that decide live, on failures that are made up here with a fixed
seed. The same engines draw the same bytes.
"""

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import Final

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from contracts.generated.ingest import Severity  # noqa: E402  # the path comes first

from services.gateway.engine.evidence import Failure, explain  # noqa: E402
from services.gateway.engine.terms import Contrast, distinctive  # noqa: E402
from services.pattern.engine.grouping import Grouper, Join, New  # noqa: E402
from services.pattern.engine.issues import Issue  # noqa: E402
from services.prediction.engine.backtest import Events, forecasts, judge  # noqa: E402
from services.recommendation.engine.proof import Baseline  # noqa: E402

BEGIN: Final = datetime(2026, 1, 5, tzinfo=UTC)
INK, PALE, GRID = "#24292f", "#6e7781", "#d8dee4"
COLOURS: Final = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#4d2d00")


class Picture:
    """An SVG with lines, boxes and words."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._size = (width, height)
        self._parts = [
            f"<title>{escape(title)}</title>",
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        ]

    def words(
        self, x: float, y: float, text: str, *, fill: str = INK, size: int = 13, anchor: str = "start"
    ) -> None:
        """Write a line of text; (x, y) is where its baseline begins, ends or has its middle."""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def box(
        self, x: float, y: float, width: float, height: float, fill: str, *, opacity: float = 1.0
    ) -> None:
        """Fill a rectangle from its upper left corner."""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" fill="{fill}"'
            f' opacity="{opacity:g}" rx="2"/>'
        )

    def line(
        self, points: Sequence[tuple[float, float]], stroke: str, *, width: float = 1, dash: str = ""
    ) -> None:
        """Draw a line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="{width:g}"{dashed}/>'
        )

    def svg(self) -> str:
        """The picture as a file's text."""
        width, height = self._size
        inner = "\n".join(self._parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
            f' font-family="system-ui, sans-serif">\n{inner}\n</svg>\n'
        )


REPORTED: Final = (
    ("checkout", "Connection pool exhausted: 50 of 50 in use"),
    ("checkout", "Connection pool exhausted: 64 of 64 in use"),
    ("search", "Index replica 3 is 240 s behind"),
    ("checkout", "Connection pool was exhausted while paying"),
    ("search", "Index replica 12 is 19 s behind"),
    ("mail", "Certificate of smtp-2 expires in 3 days"),
    ("checkout", "Payment page shows a blank screen after coupon"),
    ("mail", "Certificate of smtp-7 expires in 1 day"),
    ("checkout", "Blank payment page when a coupon is used"),
    ("search", "Search results are empty on mobile"),
)


def grouping() -> str:
    """Ten failures as they arrive: where each goes, how surely, and why."""
    picture = Picture(900, 70 + 30 * len(REPORTED), "Ten failures and the patterns that they go to")
    for x, word in ((20, "as it arrives"), (440, "decision"), (650, "certainty"), (790, "found by")):
        picture.words(x, 30, word, fill=PALE)
    grouper = Grouper("ws_pictures")
    colour_of: dict[str, str] = {}
    for number, (service, title) in enumerate(REPORTED):
        issue = Issue(
            issue_id=f"iss_{number}",
            title=title,
            source="jira",
            severity=Severity.P3,
            occurred_at=BEGIN + timedelta(hours=7 * number),
            service=service,
        )
        decision = grouper.assign(issue)
        grouper.link(decision.member(issue), exemplar=decision.exemplar, title=title)
        colour = colour_of.setdefault(decision.pattern_id, COLOURS[len(colour_of) % len(COLOURS)])
        y = 62 + 30 * number
        picture.box(20, y - 13, 6, 18, colour)
        picture.words(36, y, f"{service}: {title}")
        name = f"pattern {list(colour_of).index(decision.pattern_id) + 1}"
        match decision:
            case Join():
                picture.words(440, y, f"joins {name}", fill=colour)
                _certainty(picture, y, decision.score, colour)
                picture.words(790, y, decision.method.value.replace("_", " "), fill=PALE)
            case New(suggestions=(best, *_)):
                asked = f"pattern {list(colour_of).index(best.pattern_id) + 1}?"
                picture.words(440, y, f"new {name}; ask: {asked}", fill=colour)
                _certainty(picture, y, best.score, GRID)
                picture.words(790, y, best.method.value.replace("_", " "), fill=PALE)
            case New():
                picture.words(440, y, f"new {name}", fill=colour)
    return picture.svg()


def _certainty(picture: Picture, y: float, score: float, colour: str) -> None:
    picture.box(650, y - 11, 100, 12, "#f0f2f4")
    picture.box(650, y - 11, 100 * score, 12, colour)
    picture.words(756, y, f"{score:.2f}", fill=PALE, size=12)


def happened() -> Events:
    """Three patterns to look at among eighty others: a steady one, one that ramps up, one that wakes up."""
    rng = random.Random(20261122)
    rows: list[tuple[float, str]] = []
    for number in range(80):
        pace, at = rng.gammavariate(0.8, 0.06) + 0.004, rng.random() * 60
        while at < 300:
            rows.append((at, f"other-{number}"))
            at += rng.expovariate(pace)
    at = 3.0
    while at < 300:
        rows.append((at, "steady"))
        at += rng.uniform(7, 13)
    at = 20.0
    while at < 300:
        rows.append((at, "slow ramp"))
        at += max(1.5, 48 * (1 - at / 320))
    rows += [(float(day), "wakes up") for day in (10, 13, 21, 30, 231, 236, 240, 247, 252, 262, 270, 281)]
    return Events(BEGIN, sorted(rows))


SHOWN: Final = ("steady", "slow ramp", "wakes up")


def forecast() -> str:
    """Above: what was said each week of three patterns, and when they failed. Below: how often it came true."""
    events = happened()
    said = [one for one in forecasts(events, {}, lambda _: None) if one.window_days == 7]
    picture = Picture(900, 640, "Weekly forecasts of three patterns, and their calibration")
    for row, key in enumerate(SHOWN):
        top, colour = 30 + 120 * row, COLOURS[row]
        picture.words(20, top + 12, key, fill=colour)
        picture.words(20, top + 30, "will it fail in 7 days?", fill=PALE, size=11)
        for share in (0.0, 0.5, 1.0):
            y = top + 90 - 90 * share
            picture.line([(170, y), (880, y)], GRID)
            picture.words(162, y + 4, f"{share:.0%}", fill=PALE, size=10, anchor="end")
        points = [
            (170 + 710 * one.at / 300, top + 90 - 90 * one.probability) for one in said if one.key == key
        ]
        picture.line(points, colour, width=2)
        for day, name in events.rows:
            if name == key:
                picture.box(170 + 710 * day / 300 - 1, top + 93, 2, 9, INK)
    picture.words(20, 412, "all 83 patterns together", fill=INK)
    result = judge(said, events, 7)
    picture.words(
        20, 432, f"{result.n} forecasts, {result.n_hits} came true; skill over the base rate {result.skill:.2f}",
        fill=PALE, size=12,
    )  # fmt: skip
    left, bottom, side = 420, 610, 190
    picture.line([(left, bottom), (left + side, bottom), (left + side, bottom - side)], GRID)
    picture.line([(left, bottom), (left + side, bottom - side)], PALE, dash="4 4")
    picture.words(left + side / 2, bottom + 20, "said", fill=PALE, size=11, anchor="middle")
    picture.words(left - 8, bottom - side / 2, "came true", fill=PALE, size=11, anchor="end")
    for found in result.bins:
        if found is not None:
            size = min(14.0, 3 + found.n**0.5 / 3)
            x, y = left + side * found.mean_probability, bottom - side * found.hit_rate
            picture.box(x - size / 2, y - size / 2, size, size, COLOURS[0], opacity=0.8)
    return picture.svg()


FIXED: Final = (
    ("weekly: 12 in 84 days", 12, 84.0),
    ("monthly: 4 in 120 days", 4, 120.0),
    ("rare: 2 in 300 days", 2, 300.0),
)


def proof() -> str:
    """How much quiet time says about a fix, by how often the pattern came back before it."""
    picture = Picture(900, 380, "Confidence that a fix holds, against quiet days")
    left, top, width, height, days = 70, 30, 780, 280, 365

    def place(day: float, share: float) -> tuple[float, float]:
        return left + width * day / days, top + height * (1 - share)

    for share in (0.0, 0.5, 0.95):
        picture.line([place(0, share), place(days, share)], GRID)
        picture.words(left - 8, place(0, share)[1] + 4, f"{share:.0%}", fill=PALE, size=11, anchor="end")
    for day in range(0, days + 1, 60):
        picture.words(place(day, 0)[0], top + height + 18, str(day), fill=PALE, size=11, anchor="middle")
    picture.words(left + width / 2, top + height + 38, "quiet days since the fix", fill=PALE, anchor="middle")
    picture.line([place(14, 0), place(14, 1)], PALE, dash="4 4")
    picture.words(place(14, 1)[0] + 6, top + 12, "a fixed window of 14 days", fill=PALE, size=11)
    for row, (name, n, exposure) in enumerate(FIXED):
        before = Baseline(n_recurrences=n, exposure_days=exposure, gap_days=14.0)
        picture.line([place(day, before.confidence(day)) for day in range(days + 1)], COLOURS[row], width=2)
        needed = before.days_to(0.95)
        after = (
            f"verified after {needed:.0f} days"
            if needed <= days
            else f"inconclusive: would need {needed:.0f}"
        )
        at_14 = f"{before.confidence(14):.0%} at day 14"
        picture.words(
            left + width - 450, top + 150 + 24 * row, f"{name}: {at_14}, {after}", fill=COLOURS[row]
        )
    return picture.svg()


def explained() -> tuple[list[Failure], list[Failure]]:
    """Twelve failures with something in common, and three hundred others."""
    rng = random.Random(7)
    words = (
        "timeout",
        "refused",
        "slow",
        "replica",
        "shard",
        "export",
        "login",
        "cache",
        "quota",
        "search",
        "upload",
    )
    others = [
        Failure(
            issue_id=f"iss_o{n}",
            title=" ".join(rng.sample(words, 4)),
            occurred_at=BEGIN + timedelta(days=60 * rng.random()),
            source="jira",
            service=rng.choice(("search", "mail", "reports", "checkout")),
            version=rng.choice(("4.1", "4.2")),
        )
        for n in range(300)
    ]
    members = [
        Failure(
            issue_id=f"iss_{n}",
            title=f"Connection pool exhausted on db-{n % 3} after {rng.choice(words)}",
            occurred_at=BEGIN + timedelta(days=5 * n, hours=2 + 2 * rng.random()),
            source="jira",
            service="checkout",
            error_type="PoolTimeout",
            version="4.2" if n < 10 else "4.1",
            pattern_id="pat_1",
        )
        for n in range(12)
    ]
    return members, others


def explanation() -> str:
    """What is said of a pattern: the share here beside the share elsewhere, and the sentence."""
    members, others = explained()
    found = explain(members, others)
    term, contrast = distinctive([m.title for m in members], [o.title for o in others], n_most=1)[0]
    bars: list[tuple[str, Contrast]] = [(f"title says “{term}”", contrast)]
    for name in ("error_type", "service", "version"):
        value = getattr(members[0], name)
        counted = [sum(getattr(each, name) == value for each in side) for side in (members, others)]
        label = f"{name.replace('_', ' ')} is {value}"
        bars.append((label, Contrast(counted[0], len(members), counted[1], len(others))))
    picture = Picture(
        900, 90 + 46 * len(bars) + 24 * len(found.statements), "What sets twelve failures apart"
    )
    for row, (label, each) in enumerate(bars):
        y = 46 + 46 * row
        colour = COLOURS[0] if each.is_telling and each.lift >= 1.5 else PALE
        picture.words(20, y, label, fill=colour)
        picture.box(270, y - 14, 360 * each.share, 10, colour)
        picture.box(270, y - 2, 360 * each.n_others_having / each.n_others, 10, GRID)
        verdict = "said" if colour != PALE else "too little to say"
        picture.words(
            650,
            y,
            f"{each.share:.0%} here, {each.n_others_having / each.n_others:.0%} elsewhere: {verdict}",
            size=11,
        )
    top = 60 + 46 * len(bars)
    picture.words(20, top, f"What the pattern's root cause says (confidence {found.confidence}):", fill=PALE)
    for row, statement in enumerate(found.statements):
        picture.words(36, top + 24 * (row + 1), f"{statement.text}  [{len(statement.issue_ids)} issues]")
    return picture.svg()


PICTURES: Final[Mapping[str, Callable[[], str]]] = {
    "grouping": grouping,
    "forecast": forecast,
    "proof": proof,
    "explanation": explanation,
}


def main(names: Sequence[str]) -> int:
    """Write the pictures with these names, all where there are none."""
    for name in names or PICTURES:
        target = HERE / f"{name}.svg"
        target.write_text(PICTURES[name](), encoding="utf-8")
        sys.stdout.write(f"{target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
