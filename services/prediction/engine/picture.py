"""A reliability diagram as a PNG file, drawn by hand so that no plotting library has to be installed."""

import struct
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, TypeAlias

from services.prediction.engine.scoring import Bin

Colour: TypeAlias = tuple[int, int, int]
Spot: TypeAlias = tuple[int, int]

_SIDE: Final = 360
_MARGIN: Final = 50
_WHITE: Final = (255, 255, 255)
_GREY: Final = (225, 228, 232)
_DARK: Final = (60, 64, 70)
_BLUE: Final = (31, 102, 204)
_PALE: Final = (190, 212, 244)

_FONT: Final = {
    "0": ("###", "# #", "# #", "# #", "###"),
    "1": (" # ", "## ", " # ", " # ", "###"),
    "2": ("###", "  #", "###", "#  ", "###"),
    "3": ("###", "  #", "###", "  #", "###"),
    "4": ("# #", "# #", "###", "  #", "  #"),
    "5": ("###", "#  ", "###", "  #", "###"),
    "6": ("###", "#  ", "###", "# #", "###"),
    "7": ("###", "  #", "  #", "  #", "  #"),
    "8": ("###", "# #", "###", "# #", "###"),
    "9": ("###", "# #", "###", "  #", "###"),
    "%": ("# #", "  #", " # ", "#  ", "# #"),
    "D": ("## ", "# #", "# #", "# #", "## "),
}


class _Canvas:
    """Pixels, three bytes each, from the top left."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._rows = [bytearray(_WHITE * width) for _ in range(height)]

    def box(self, corner: Spot, opposite: Spot, colour: Colour) -> None:
        (left, top), (right, bottom) = corner, opposite
        left, right = max(0, left), min(self.width, right)
        for row in self._rows[max(0, top) : min(self.height, bottom)]:
            row[3 * left : 3 * right] = bytes(colour) * max(0, right - left)

    def line(self, start: Spot, end: Spot, colour: Colour, width: int = 1) -> None:
        (x0, y0), (x1, y1) = start, end
        n = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(n + 1):
            x, y = round(x0 + (x1 - x0) * step / n), round(y0 + (y1 - y0) * step / n)
            self.box((x, y), (x + width, y + width), colour)

    def text(self, left: int, top: int, words: str, size: int = 2) -> None:
        for letter in words:
            for down, cells in enumerate(_FONT.get(letter, ())):
                for right, cell in enumerate(cells):
                    if cell == "#":
                        x, y = left + right * size, top + down * size
                        self.box((x, y), (x + size, y + size), _DARK)
            left += 4 * size

    def png(self) -> bytes:
        pixels = zlib.compress(b"".join(b"\x00" + bytes(row) for row in self._rows), 9)
        head = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", head), (b"IDAT", pixels), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks
        )


def reliability_picture(panels: Sequence[tuple[str, Sequence[Bin | None]]]) -> bytes:
    """A PNG with one diagram per panel: across what was said, up how often it came true, in percent.

    On the dashed diagonal both agree. Pale bars: share of the forecasts in each tenth. Titles: digits and "D" only.
    """
    canvas = _Canvas(len(panels) * (_SIDE + 2 * _MARGIN), _SIDE + 2 * _MARGIN)
    for number, (title, bins) in enumerate(panels):
        _panel(canvas, number * (_SIDE + 2 * _MARGIN) + _MARGIN, title, bins)
    return canvas.png()


def _panel(canvas: _Canvas, left: int, title: str, bins: Sequence[Bin | None]) -> None:
    bottom = _MARGIN + _SIDE
    canvas.text(left + _SIDE // 2 - 20, 16, title, size=4)
    total = sum(one.n for one in bins if one is not None)
    for place, one in enumerate(bins):
        if one is not None:
            x = left + place * _SIDE // 10
            canvas.box((x + 2, bottom - round(_SIDE * one.n / total)), (x + _SIDE // 10 - 2, bottom), _PALE)
    for tick in range(0, 101, 25):
        offset = _SIDE * tick // 100
        canvas.line((left, bottom - offset), (left + _SIDE, bottom - offset), _GREY)
        canvas.line((left + offset, _MARGIN), (left + offset, bottom), _GREY)
        canvas.text(left - 38, bottom - offset - 5, f"{tick}%")
        canvas.text(left + offset - 12, bottom + 10, f"{tick}%")
    for dash in range(0, _SIDE, 12):
        canvas.line((left + dash, bottom - dash), (left + dash + 6, bottom - dash - 6), _DARK)
    points = [
        (left + round(_SIDE * one.mean_probability), bottom - round(_SIDE * one.hit_rate))
        for one in bins
        if one is not None
    ]
    for start, end in pairwise(points):
        canvas.line(start, end, _BLUE, width=2)
    for x, y in points:
        canvas.box((x - 4, y - 4), (x + 5, y + 5), _BLUE)
