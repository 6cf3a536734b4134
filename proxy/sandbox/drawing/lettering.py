"""Setting text in type: a font that has the characters, lines that break well, the largest size that fits."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]

# Pillow carries a font for plain Latin. For all else we try, in this order, what the usual systems have installed;
# where none has the characters the reader sees boxes, which is honest and does not break anything.
_WIDER = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "msyh.ttc",
    "PingFang.ttc",
    "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "arial.ttf",
)
_LEADING = 1.3
# Widths are measured once, at this size, and scaled: measuring anew at each size tried makes long prompts slow. The
# slack is for hinting, which makes widths not quite proportional.
_MEASURE = 96
_SLACK = 0.98
# A word longer than this is a URL or a language without spaces: it may be broken rather than make the type small.
_LONGEST_WHOLE_WORD = 22
_NO_CHARACTER = "\uffff"
# Small type is drawn this many times larger and scaled down: fitted to whole pixels, its words run into each other.
_SMALL = 40
_FINER = 4
# Up to this many lines stand in the middle, as on a sign; more start at the left, as on a page.
_SIGN = 7


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of text in the size that they are to be drawn in."""

    name: str | None
    size: int
    lines: tuple[str, ...]
    lacking: bool  # some characters are boxes

    @property
    def leading(self) -> int:
        """From one line to the next."""
        return _leading(self.size)


def fit(text: str, width: int, height: int, *, smallest: int, largest: int) -> Block:
    """The text in the largest size at which it fits, or its beginning in the smallest."""
    text = _printable(text)
    name = _choose(text)
    text = _spell(text, name)
    ruler = _Ruler(_font(name, _MEASURE))
    paragraphs = [line.split() for line in text.split("\n")]
    low, high, best = smallest, max(smallest, largest), None
    while low <= high:
        size = (low + high) // 2
        limit = width * _MEASURE * _SLACK / size
        lines = _wrap(paragraphs, ruler, limit)
        if len(lines) * _leading(size) <= height and ruler.widest(paragraphs) <= limit:
            best, low = (size, lines), size + 1
        else:
            high = size - 1
    size, lines = best or (smallest, _wrap(paragraphs, ruler, width * _MEASURE * _SLACK / smallest))
    lines = _cut(lines, max(1, height // _leading(size)))
    return Block(name, size, tuple(lines), bool(_lacks(name, frozenset(text))))


def write(image: Image.Image, block: Block, area: Box, colour: Colour) -> None:
    """Sets the lines into an area: left, top, right, bottom."""
    left, top, right, bottom = area
    scale = _FINER if block.size < _SMALL else 1
    width, height = (right - left) * scale, block.leading * scale
    x, anchor = (width // 2, "mm") if len(block.lines) <= _SIGN else (0, "lm")
    y = top + (bottom - top - len(block.lines) * block.leading) // 2
    font = _font(block.name, block.size * scale)
    for line in block.lines:
        # One line at a time: a mask of the whole area would be large at 3840x2160.
        mask = Image.new("L", (max(1, width), height), 0)
        ImageDraw.Draw(mask).text((x, height // 2), line, font=font, fill=255, anchor=anchor)
        image.paste(colour, (left, y), mask.reduce(scale))
        y += block.leading


class _Ruler:
    """Remembers how wide words are."""

    def __init__(self, font: ImageFont.FreeTypeFont) -> None:
        self._font = font
        self._widths: dict[str, float] = {}
        self.space = self.width(" ")

    def width(self, word: str) -> float:
        if word not in self._widths:
            self._widths[word] = self._font.getlength(word)
        return self._widths[word]

    def widest(self, paragraphs: Iterable[list[str]]) -> float:
        """The width of the widest word that should stay whole."""
        words = {word for words in paragraphs for word in words if len(word) <= _LONGEST_WHOLE_WORD}
        return max(map(self.width, words), default=0)


def _wrap(paragraphs: list[list[str]], ruler: _Ruler, limit: float) -> list[str]:
    lines: list[str] = []
    for words in paragraphs:
        line: list[str] = []
        used = 0.0
        for word in words:
            for piece in _pieces(word, ruler, limit):
                wide = ruler.width(piece)
                if line and used + ruler.space + wide > limit:
                    lines.append(" ".join(line))
                    line, used = [], 0.0
                used += wide + (ruler.space if line else 0)
                line.append(piece)
        lines.append(" ".join(line))
    return lines


def _pieces(word: str, ruler: _Ruler, limit: float) -> list[str]:
    """The word, or the parts of one that is wider than a line."""
    if ruler.width(word) <= limit:
        return [word]
    pieces, start, used = [], 0, 0.0
    for at, char in enumerate(word):
        wide = ruler.width(char)
        if at > start and used + wide > limit:
            pieces.append(word[start:at])
            start, used = at, 0.0
        used += wide
    return [*pieces, word[start:]]


def _cut(lines: list[str], room: int) -> list[str]:
    if len(lines) <= room:
        return lines
    left = sum(len(line) + 1 for line in lines[room - 1 :]) - 1
    return [*lines[: room - 1], f"… and {left:,} more characters"]


def _leading(size: int) -> int:
    return max(1, round(size * _LEADING))


def _printable(text: str) -> str:
    """Without what has no shape: control characters, joiners, direction marks; and without runs of empty lines."""
    kept = []
    for char in text.replace("\r\n", "\n"):
        kind = unicodedata.category(char)
        if char == "\n" or kind[0] != "C":
            kept.append(char)
        elif kind == "Cc":
            kept.append(" ")
    lines = [" ".join(line.split()) for line in "".join(kept).strip().split("\n")]
    return "\n".join(line for at, line in enumerate(lines) if line or lines[at - 1])


def _choose(text: str) -> str | None:
    """The name of the font that lacks the fewest of the text's characters; None is Pillow's own."""
    characters = frozenset(text)
    best, fewest = None, len(_lacks(None, characters))
    for name in _WIDER:
        if fewest == 0:
            break
        if _path(name) is not None and (lacking := len(_lacks(name, characters))) < fewest:
            best, fewest = name, lacking
    return best


def _spell(text: str, name: str | None) -> str:
    """Writes a letter whose accent the font lacks without its accent."""
    bare = {}
    for char in _lacks(name, frozenset(text)):
        plain = "".join(part for part in unicodedata.normalize("NFKD", char) if not unicodedata.combining(part))
        if plain and not _lacks(name, frozenset(plain)):
            bare[ord(char)] = plain
    return text.translate(bare)


def _lacks(name: str | None, characters: frozenset[str]) -> set[str]:
    font = _font(name, 24)
    box = bytes(font.getmask(_NO_CHARACTER))
    return {char for char in characters if not char.isspace() and bytes(font.getmask(char)) == box}


def _font(name: str | None, size: int) -> ImageFont.FreeTypeFont:
    # A new object each time: pictures are drawn in several threads, and a font is not a thing to share between them.
    if name is None:
        font = ImageFont.load_default(size)
        assert isinstance(font, ImageFont.FreeTypeFont)
        return font
    return ImageFont.truetype(_path(name) or name, size)


@cache
def _path(name: str) -> str | None:
    """Where this machine keeps the font, if it has it; Pillow walks the system's font folders to find out."""
    try:
        path = ImageFont.truetype(name, 16).path
    except OSError:
        return None
    return path if isinstance(path, str) else None
