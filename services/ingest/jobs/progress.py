"""How far a run is in each stream of its source, and what it tells of that at its end."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from contracts import connector
from contracts.types import Timestamp
from msgspec import Struct

from services.ingest.state import NOTHING_YET
from services.ingest.vendors.polling import Window
from services.ingest.vendors.windows import READINGS_MAX

CHUNK: Final = timedelta(days=7)
"""A backfill is read in stretches of so much, each of which is done for good when it is read; so is what is new where a
vendor does not give all of it at once."""
REFUSED_MAX: Final = 20
"""Of how many lists of one stream that were refused a run says so."""


class Progress(Struct, frozen=True, kw_only=True):
    """How far a run is in one stream, as it is kept beside the stream.

    is_bounded: requests say where their window ends; all others would give what follows a stretch as well, each time.
    is_whole: the window is one stretch. chunk: which of its stretches is being read. page: where to go on in it; None: at its beginning.
    newest: the latest moment of the records read in this stretch. cut_chunk: the last stretch of which the vendor
    withholds records; None: none. is_unsettled: in some stretch a record may have been missed, for its pages are counted
    and changed each time they were read. left_out: why all of it was; empty: it was not. refused: of several lists
    those that were, with the vendor's words. asked: what the stream asks, or of a remap how it maps; where somebody
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
    """The lists that were refused before and one more; empty: none."""
    return before if not refused or refused in before else (*before, refused)[:REFUSED_MAX]


def withheld(progress: Mapping[str, Progress]) -> str:
    """What people are told of a run that read all that the vendor gives, and that is not all, or may not be."""
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
    for name, each in progress.items():
        if each.refused:
            said.append(f"Not read of {name}, for the vendor refuses it: {'; '.join(each.refused)}.")
    left_out = {name: each.left_out for name, each in progress.items() if each.left_out}
    if left_out:
        said.append(f"Left out, for the vendor does not give them: {', '.join(left_out)}.")
        said += list(dict.fromkeys(left_out.values()))
    return " ".join(said)
