"""How far a run is in each stream of its source, and what it tells of that at its end."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from contracts import connector
from contracts.types import Timestamp
from msgspec import Struct

from services.ingest.commands.connectors import DETAIL_LENGTH_MAX
from services.ingest.state import NOTHING_YET
from services.ingest.vendors.polling import Window
from services.ingest.vendors.windows import READINGS_MAX

CHUNK: Final = timedelta(days=7)
"""A backfill is read in stretches of so much, each of which is done for good when it is read; so is what is new where a
vendor does not give all of it at once."""
REFUSED_MAX: Final = 20
"""Of how many lists of one stream that were refused a run says so."""
WORDS_LENGTH: Final = 150
"""How much of what a run says is kept for the vendors' words."""


class Progress(Struct, frozen=True, kw_only=True):
    """How far a run is in one stream, as it is kept beside the stream.

    is_bounded: requests say where their window ends; all others would give what follows a stretch as well, each time.
    is_whole: the window is one stretch. chunk: which of its stretches is being read. page: where to go on in it; None: at its beginning.
    newest: the latest moment of the records read in this stretch. cut_chunk: the last stretch of which the vendor
    withholds records; None: none. is_unsettled: in some stretch a record may have been missed, for its pages are counted
    and changed each time they were read. left_out: why all of it was; empty: it was not. refused: of several lists
    those that were, the first with the vendor's words. is_withheld: one of them is there, and what is new of it is wanted
    when the vendor gives it again. asked: what the stream asks, or of a remap how it maps; where somebody
    changes that, the run begins anew in it.
    """

    start: Timestamp | None
    end: Timestamp
    is_bounded: bool = True
    is_whole: bool = False
    chunk: int = 0
    page: dict[str, object] | None = None
    newest: Timestamp | None = None
    cut_chunk: int | None = None
    is_unsettled: bool = False
    left_out: str = ""
    refused: tuple[str, ...] = ()
    is_withheld: bool = False
    asked: str = ""
    counts: connector.SyncCounts = NOTHING_YET

    @property
    def stretches(self) -> list[Window]:
        """The parts of the window, the oldest first."""
        if self.start is None or self.is_whole or not self.is_bounded:
            return [Window(self.start, self.end)]
        starts = [self.start]
        while starts[-1] + CHUNK < self.end:
            starts.append(starts[-1] + CHUNK)
        return [Window(start, end) for start, end in zip(starts, [*starts[1:], self.end], strict=True)]

    def in_weeks(self) -> "Progress":
        """The same window from its beginning, in stretches of a week; what was counted stays."""
        return Progress(
            start=self.start, end=self.end, is_bounded=self.is_bounded, asked=self.asked, counts=self.counts
        )


def also(before: tuple[str, ...], refused: str) -> tuple[str, ...]:
    """The lists that were refused before and one more, each once, with the vendor's words of the first alone.

    refused: a list and, behind a colon, the words, which may differ each time; empty: none.
    """
    name = _name_of(refused)
    if not refused or name in map(_name_of, before) or len(before) == REFUSED_MAX:
        return before
    return (*before, name) if before else (refused,)


def withheld(progress: Mapping[str, Progress]) -> str:
    """What people are told of a run that read all that the vendor gives, and that is not all, or may not be.

    The vendor's words stand at the end, since whoever keeps it cuts it there.
    """
    cut = [name for name, each in progress.items() if each.cut_chunk is not None]
    said = []
    if cut:
        said.append(
            f"Not all was read: the vendor gives only a part of what there is. Streams: {', '.join(cut)}."
        )
    unsettled = [name for name, each in progress.items() if each.is_unsettled]
    if unsettled:
        said.append(
            "A record may have been missed: pages are counted, and what was in them changed each of the"
            f" {READINGS_MAX} times they were read. Streams: {', '.join(unsettled)}."
        )
    left_out = {name: each.left_out for name, each in progress.items() if each.left_out}
    if left_out:
        said.append(f"Left out, for the vendor does not give them: {', '.join(left_out)}.")
    refused = {name: each.refused for name, each in progress.items() if each.refused}
    words = " ".join(dict.fromkeys((*(f"{first}." for first, *_ in refused.values()), *left_out.values())))
    n_said = len(" ".join((*said, words[:WORDS_LENGTH]))) + 1
    for name, lists in refused.items():
        said.append(_refused(name, lists, (DETAIL_LENGTH_MAX - n_said) // len(refused) - 1))
    return " ".join([*said, words] if words else said)


def _refused(stream: str, refused: tuple[str, ...], n_characters: int) -> str:
    """As many of a stream's refused lists as there is room for, and how many there are beside them."""
    names = [_name_of(each) for each in refused]
    least = "" if len(names) < REFUSED_MAX else "at least "
    beginning = f"Not read of {stream}, for the vendor refuses it: "
    for n_named in range(len(names), 0, -1):
        n_others = len(names) - n_named
        others = f" and {least}{n_others} more" if n_others else " and perhaps more" if least else ""
        sentence = f"{beginning}{', '.join(names[:n_named])}{others}."
        if len(sentence) <= n_characters:
            return sentence
    return f"{beginning}{least}{len(names)} of its lists."


def _name_of(refused: str) -> str:
    """The list, without the vendor's words."""
    return refused.partition(": ")[0]
