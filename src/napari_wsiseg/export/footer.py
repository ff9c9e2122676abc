"""Draws lines of text, a legend and a scale bar below a picture; knows no map.

The font is the one that Pillow carries, so that pictures are the same everywhere. It
has the letters of ASCII only.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from PIL import Image, ImageDraw, ImageFont

from napari_wsiseg.geometry import Size

_INK, _PALE = "#222222", "#555555"
# A narrow slide still leaves room to read.
_LEAST_WIDTH = 640
_TEXTS = {"µ": "u", "μ": "u", "²": "2", "×": "x", "–": "-", "—": "-", "≥": ">=", "ß": "ss"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a legend: its text, and its colour "#RRGGBB" or None."""

    text: str
    color: str | None


class Footer:
    """Lines from top to bottom, as wide as the picture above them, or wider.

    Parameters
    ----------
    width
        In pixels.
    text
        Height of the letters in pixels.
    """

    def __init__(self, width: int, text: int) -> None:
        self._width, self._text = width, text
        self._pad = text
        self._fonts = {small: _font(text * (0.8 if small else 1.0)) for small in (False, True)}
        self._image = Image.new("RGB", (width, 1), "white")
        self._y = self._pad

    @classmethod
    def below(cls, picture: Size) -> Self:
        """A footer that suits a picture of this size."""
        longer = max(picture.height, picture.width)
        return cls(max(picture.width, _LEAST_WIDTH), max(13, round(longer / 64)))

    def line(self, *sentences: str, small: bool = False) -> None:
        """Sentences in a row, wrapped at the margin."""
        font = self._fonts[small]
        words = _plain(" ".join(sentences)).split(" ")
        room = self._width - 2 * self._pad
        row = ""
        for word in words:
            longer = f"{row} {word}" if row else word
            if row and font.getlength(longer) > room:
                self._row(row, font)
                row = word
            else:
                row = longer
        self._row(row, font)
        self._y += round(0.4 * self._text)

    def legend(self, entries: Sequence[Entry]) -> None:
        """Entries side by side, as many a row as fit."""
        font = self._fonts[False]
        swatch, gap = round(1.1 * self._text), self._text // 2
        right = self._width - self._pad
        x: float = self._pad
        draw = self._room_for(self._line_height)
        for entry in entries:
            text = self._fitted(_plain(entry.text), right - self._pad - swatch - gap, font)
            width = swatch + gap + font.getlength(text)
            if x > self._pad and x + width > right:
                x = self._pad
                self._y += self._line_height
                draw = self._room_for(self._line_height)
            top = self._y + round(0.1 * self._text)
            box = (x, top, x + swatch, top + swatch)
            draw.rectangle(box, entry.color or "white", "#888888")
            draw.text((x + swatch + gap, self._y), text, _INK, font)
            x += width + 4 * gap
        self._y += self._line_height + round(0.4 * self._text)

    def scale(self, bar: tuple[float, str] | None, words: str) -> None:
        """A bar of a length in pixels with its name; None: the words alone."""
        font = self._fonts[False]
        x: float = self._pad
        draw = self._room_for(self._line_height)
        if bar is not None:
            length, name = bar
            middle = self._y + round(0.6 * self._text)
            thick = max(3, self._text // 5)
            box = (x, middle - thick // 2, x + length, middle + thick - thick // 2)
            draw.rectangle(box, fill=_INK)
            for end in (x, x + length):
                draw.line((end, middle - 2 * thick, end, middle + 2 * thick), _INK, 2)
            x += length + self._text / 2
            draw.text((x, self._y), name, _INK, font)
            x += font.getlength(f"{name} ")
        draw.text((x, self._y), _plain(words), _PALE, font)
        self._y += round(1.9 * self._text)

    def image(self) -> Image.Image:
        """What was drawn."""
        return self._image.crop((0, 0, self._width, self._y + self._pad // 2))

    @property
    def _line_height(self) -> int:
        return round(1.5 * self._text)

    def _room_for(self, height: int) -> ImageDraw.ImageDraw:
        """Make the picture long enough for another line."""
        needed = self._y + height + self._pad
        if needed > self._image.height:
            longer = Image.new("RGB", (self._width, needed), "white")
            longer.paste(self._image)
            self._image = longer
        return ImageDraw.Draw(self._image)

    def _row(self, text: str, font: ImageFont.FreeTypeFont) -> None:
        height = round(1.35 * font.size)
        fitted = self._fitted(text, self._width - 2 * self._pad, font)
        self._room_for(height).text((self._pad, self._y), fitted, _INK, font)
        self._y += height

    @staticmethod
    def _fitted(text: str, room: float, font: ImageFont.FreeTypeFont) -> str:
        """The text, cut where there is no room for all of it."""
        if font.getlength(text) <= room:
            return text
        while text and font.getlength(f"{text}...") > room:
            text = text[:-1]
        return f"{text}..."


def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # noqa: S101 - Pillow gives one for a size
    return font


def _plain(text: str) -> str:
    """The text in letters that the font has: accents go, what is left over becomes "?"."""
    replaced = "".join(_TEXTS.get(letter, letter) for letter in text)
    letters = unicodedata.normalize("NFKD", replaced)
    bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return bare.encode("ascii", "replace").decode()
