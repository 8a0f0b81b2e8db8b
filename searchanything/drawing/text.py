"""Text in pictures: which font has a text's characters, and what is written for those that no font has.

Keys and names come in any script, and a character that a font lacks would be drawn as an empty box. So a text is set in
the first font that has all of it, or else piece by piece; a character that no font on this machine has is written out:
a symbol by its Unicode name (`:red apple:`), any other as its escape (`\\u65e5`). Why: docs/adr/0008-labels.md.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from PIL import ImageDraw, ImageFont

ELLIPSIS = "…"
CAP_HEIGHT = 0.72  # of the font's size, in the fonts below

# Fonts inside installed packages: (package, file in it). matplotlib comes with `local`: Latin, Greek, Cyrillic,
# Arabic, Hebrew and many symbols. The second is the extra `fonts`: Chinese, Japanese and Korean.
_PACKAGED = (
    ("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf"),
    ("noto_cjk_sans_jp_regular", "NotoSansCJKjp-Regular.otf"),
)
# Fonts with Chinese, Japanese and Korean that systems bring, by file name: Linux, macOS, Windows.
_OF_SYSTEMS = (
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKjp-Regular.otf", "SourceHanSans-Regular.ttc", "DroidSansFallbackFull.ttf"),
    *("wqy-zenhei.ttc", "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc"),
    *("msyh.ttc", "YuGothR.ttc", "malgun.ttf"),
)
_NO_CHARACTER = "\U0010ffff"  # every font draws it as the box that stands for what it lacks
_LEADING_ON = " ,;:·–—([{"
_BREAKS_AFTER = " /_-.,;:"  # where a line may end
_JOINERS = "\u200d\ufe0e\ufe0f"  # tie emoji together, or choose their colour: nothing to draw


def legible(text: str) -> str:
    """The text on one line, as it can be drawn on this machine: what no font has, and what is invisible, spelt out."""
    composed = unicodedata.normalize("NFC", text)  # macOS stores é as e and an accent
    return "".join(_spelt(letter) for letter in composed if letter not in _JOINERS)


def text_width_px(text: str, size_px: int) -> float:
    """Width of a legible text at a font size."""
    return sum(font.getlength(piece) for font, piece in _pieces(text, size_px))


def shorten(text: str, width_px: float, size_px: int) -> str:
    """Make a name legible and fit by an ellipsis in its middle; the end, where names differ, keeps most letters."""
    whole = legible(text)
    if text_width_px(whole, size_px) <= width_px:
        return whole
    fitting, too_long = 0, len(whole)
    while too_long - fitting > 1:
        kept = (fitting + too_long) // 2
        if text_width_px(_without_middle(whole, kept), size_px) <= width_px:
            fitting = kept
        else:
            too_long = kept
    return _without_middle(whole, fitting)


def shorten_sentence(text: str, width_px: float, size_px: int) -> str:
    """Make a sentence legible and fit by an ellipsis after a whole word; the beginning says most.

    Where that would drop more than half of what has room, as of a script without spaces, it is cut like a name.
    """
    whole = " ".join(legible(text).split())
    if text_width_px(whole, size_px) <= width_px:
        return whole
    cut = shorten(whole, width_px, size_px)
    ends = [place for place, letter in enumerate(whole) if letter == " "]
    fitting = bisect_right(ends, width_px, key=lambda end: text_width_px(_until(whole, end), size_px))
    kept = _until(whole, ends[fitting - 1]) if fitting else ""
    return kept if 2 * len(kept) >= len(cut) else cut


def in_lines(text: str, width_px: float, size_px: int, *, most: int) -> list[str]:
    """Make a text legible and break it into at most `most` lines, at least one; the last has all the rest.

    A line ends after a blank or one of `/ _ - . , ; :`, but for a number's comma; within a word only where that would
    leave it half empty.
    """
    rest = " ".join(legible(text).split(" "))
    lines: list[str] = []
    while len(lines) < most - 1 and text_width_px(rest, size_px) > width_px:
        end = bisect_right(range(len(rest)), width_px, lo=1, key=lambda end: text_width_px(rest[: end + 1], size_px))
        breaks = [place + 1 for place in range(end // 2, end) if _may_end(rest, place)]
        if rest[end : end + 1] == " ":
            breaks.append(end)
        end = breaks[-1] if breaks else end
        lines.append(rest[:end].strip())
        rest = rest[end:].strip()
    return [*lines, rest]


def write_text(
    draw: ImageDraw.ImageDraw, start: tuple[float, float], text: str, *, size_px: int, fill: tuple[int, int, int]
) -> None:
    """Write a legible text from `start`, (x, y) of its baseline's left end, in pixels of the canvas."""
    x, baseline = start
    for font, piece in _pieces(text, size_px):
        draw.text((x, baseline), piece, font=font, fill=fill, anchor="ls")
        x += font.getlength(piece)


def _may_end(text: str, place: int) -> bool:
    """Whether a line may end after this letter."""
    number = text[place] == "," and text[place - 1 : place].isdigit() and text[place + 1 : place + 2].isdigit()
    return text[place] in _BREAKS_AFTER and not number


def _without_middle(text: str, kept: int) -> str:
    head = kept // 3
    tail = kept - head
    return text[:head] + ELLIPSIS + text[len(text) - tail :]


def _until(text: str, end: int) -> str:
    """The text before `end` and an ellipsis, without marks that lead on to what is missing."""
    return text[:end].rstrip(_LEADING_ON) + ELLIPSIS


def _spelt(letter: str) -> str:
    """The letter itself, or words for it."""
    if letter == " " or (letter.isprintable() and _font_with(letter) is not None):
        return letter
    if unicodedata.category(letter) == "Zs":
        return " "
    if unicodedata.category(letter) in ("So", "Sk") and (name := unicodedata.name(letter, "")):
        return f":{name.lower()}:"
    return letter.encode("unicode_escape").decode("ascii")


def _pieces(text: str, size_px: int) -> Iterator[tuple[ImageFont.FreeTypeFont, str]]:
    """The text in pieces of one font each: one piece where a font has all of it."""
    letters = set(text)
    for number in range(len(_sources())):
        if all(_has(number, letter) for letter in letters):
            yield _font_at(number, size_px), text
            return
    for number, piece in groupby(text, key=lambda letter: _font_with(letter) or 0):
        yield _font_at(number, size_px), "".join(piece)


@lru_cache(maxsize=1)
def _sources() -> tuple[str, ...]:
    """The fonts of this machine, in the order in which they are asked; "" is the one inside Pillow, which has ASCII."""
    packaged = [_path_in(package, file) for package, file in _PACKAGED]
    return (*filter(None, packaged), *filter(_can_be_read, _OF_SYSTEMS), "")


def _path_in(package: str, file: str) -> str | None:
    """Where a package's file lies, without importing the package; None if it is not there."""
    found = find_spec(package)
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / file
    return str(path) if path.exists() else None


def _can_be_read(name: str) -> bool:
    try:
        ImageFont.truetype(name, 16)
    except OSError:
        return False
    return True


@lru_cache(maxsize=64)
def _font_at(number: int, size_px: int) -> ImageFont.FreeTypeFont:
    """The font of that number in the order of `_sources`. Raises: OSError in a Pillow without FreeType."""
    source = _sources()[number]
    font = ImageFont.truetype(source, size_px) if source else ImageFont.load_default(size=size_px)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise OSError("this Pillow cannot draw scalable text: install a Pillow wheel with FreeType")
    return font


@lru_cache(maxsize=16)
def _plain_font(number: int) -> ImageFont.FreeTypeFont:
    """The font without the shaping that would move an accent which it lacks; the one inside Pillow is not shaped."""
    source = _sources()[number]  # not a `font_variant`: Pillow 12 ignores its layout BASIC
    return ImageFont.truetype(source, 16, layout_engine=ImageFont.Layout.BASIC) if source else _font_at(number, 16)


def _font_with(letter: str) -> int | None:
    return next((number for number in range(len(_sources())) if _has(number, letter)), None)


@lru_cache(maxsize=8192)
def _has(number: int, letter: str) -> bool:
    """Whether a font draws the letter as anything but the box that stands for what it lacks."""
    font = _plain_font(number)
    drawn, box = (font.getmask(one, mode="L") for one in (letter, _NO_CHARACTER))
    return drawn.size != box.size or bytes(drawn) != bytes(box)
