"""Text in pictures: no character becomes an empty box, whatever fonts the machine has."""

from __future__ import annotations

import io

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from searchanything.drawing import text as drawing_text
from searchanything.drawing.text import (
    ELLIPSIS,
    in_lines,
    legible,
    shorten,
    shorten_sentence,
    text_width_px,
    write_text,
)


@pytest.fixture
def sources(monkeypatch):
    """Lets a test choose the machine's fonts: names among `dejavu` and `pillow`."""

    def choose(*names):
        places = {"dejavu": drawing_text._path_in(*drawing_text._PACKAGED[0]), "pillow": ""}
        monkeypatch.setattr(drawing_text, "_sources", lambda: tuple(places[name] for name in names))
        forget()

    def forget():
        drawing_text._font_at.cache_clear()
        drawing_text._plain_font.cache_clear()
        drawing_text._has.cache_clear()

    yield choose
    forget()


def drawn(text: str) -> np.ndarray:
    canvas = Image.new("RGB", (400, 40))
    write_text(ImageDraw.Draw(canvas), (5, 25), text, size_px=16, fill=(255, 255, 255))
    return np.asarray(canvas)[..., 0]


def test_the_font_of_this_machine_has_more_than_ascii() -> None:
    assert drawing_text._path_in(*drawing_text._PACKAGED[0]) is not None, (
        "matplotlib, which ultralytics needs, is not there"
    )
    assert legible("Ångström 240 × 240, Москва, Ελλάδα") == "Ångström 240 × 240, Москва, Ελλάδα"


@pytest.mark.parametrize("name", ["dejavu", "pillow"])
def test_what_a_font_lacks_is_known_as_its_own_table_says(sources, name) -> None:
    """fontTools reads the font's character table; here only drawn pixels are compared."""
    sources(name)
    path = drawing_text._sources()[0] or io.BytesIO(ImageFont.load_default(size=16).path.getvalue())
    table = TTFont(path).getBestCmap()
    sample = [*range(0x21, 0x7F), *range(0xA1, 0x530), *range(0x2190, 0x2300), *range(0x4E00, 0x4E40), 0x1F34E, 0xAC00]
    letters = [code for code in sample if chr(code).isprintable()]
    wrong = [hex(code) for code in letters if drawing_text._has(0, chr(code)) != (code in table)]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("日本.jpg", r"\u65e5\u672c.jpg"),
        ("한", r"\ud55c"),
        ("🍎 cart", ":red apple: cart"),
        ("👩\u200d🚀", ":woman::rocket:"),
        ("❤\ufe0f", "❤"),
        ("a\nb\0", r"a\nb\x00"),
        ("\u202eabc", r"\u202eabc"),
        ("\ud800", r"\ud800"),
        ("e\u0301te\u0301", "été"),
        ("a\u3000b\u00a0c", "a b c"),
        ("", ""),
    ],
)
def test_what_cannot_be_drawn_is_spelt_out(sources, text, expected) -> None:
    sources("dejavu")
    assert legible(text) == expected


def test_without_any_font_but_pillows_accents_are_spelt_out_too(sources) -> None:
    sources("pillow")
    assert legible("café") == r"caf\xe9"


def test_text_of_two_fonts_is_written_piece_by_piece_without_a_gap(sources) -> None:
    sources("pillow", "dejavu")
    whole = "Aé"  # the second font has both letters: one piece
    assert [piece for _, piece in drawing_text._pieces(whole, 16)] == [whole]
    mixed = "‹" + "Ж"
    sources("dejavu")
    assert len(list(drawing_text._pieces(mixed, 16))) == 1
    width = text_width_px(mixed, 16)
    columns = np.nonzero(drawn(mixed).any(axis=0))[0]
    assert 5 <= columns.min() <= 8
    assert columns.max() <= 5 + width + 1


@pytest.mark.parametrize("size_px", [8, 12, 27, 60])
def test_letters_stand_on_the_baseline_and_are_as_high_as_said(size_px) -> None:
    canvas = Image.new("L", (200, 200))
    write_text(ImageDraw.Draw(canvas), (5, 150), "HEM", size_px=size_px, fill=255)
    rows = np.nonzero((np.asarray(canvas) > 100).any(axis=1))[0]
    assert rows.max() == 149
    assert rows.max() - rows.min() + 1 == pytest.approx(drawing_text.CAP_HEIGHT * size_px, abs=1.5)


@given(st.text(max_size=30))
def test_every_text_becomes_one_line_that_this_machine_can_draw(text) -> None:
    shown = legible(text)
    assert all(letter.isprintable() for letter in shown)
    assert all(drawing_text._font_with(letter) is not None for letter in shown)


def test_shortened_text_fits_and_keeps_both_ends() -> None:
    text = "images/2023/" + "long/" * 40 + "IMG_0042.jpg"
    short = shorten(text, 200, 14)
    assert text_width_px(short, 14) <= 200
    head, tail = short.split(ELLIPSIS)
    assert text.startswith(head)
    assert text.endswith(tail)
    assert head
    assert len(tail) > len(head)
    assert shorten("short", 200, 14) == "short"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the largest of 3 masks", "the largest of 3 masks"),
        ("IoU 0.49 with the box is the largest of 15 masks", "IoU 0.49 with the box is the…"),
        ("the best of 3 in box 1, by IoU (0.66); and more", "the best of 3 in box 1, by IoU…"),
        ("the best of three things, somewhere; and more", "the best of three things…"),
    ],
)
def test_a_sentence_ends_after_a_whole_word(text: str, expected: str) -> None:
    room = text_width_px("IoU 0.49 with the box is the larg", 14)
    assert shorten_sentence(text, room, 14) == expected


@pytest.mark.parametrize("text", ["images/" + "long/" * 40 + "IMG_0042.jpg", "in " + "日本語" * 30, "of " + "x" * 200])
def test_one_long_word_is_cut_like_a_name(text: str) -> None:
    assert shorten_sentence(text, 200, 14) == shorten(text, 200, 14)
    assert len(shorten_sentence(text, 200, 14)) > 10


@given(text=st.text(max_size=60), room=st.integers(0, 300))
def test_a_sentence_fits_unless_there_is_no_room_at_all(text: str, room: int) -> None:
    shown = shorten_sentence(text, room, 14)
    assert text_width_px(shown, 14) <= room or shown == ELLIPSIS


@given(text=st.text(max_size=80), room=st.integers(0, 300), most=st.integers(1, 4))
def test_lines_hold_the_whole_text_and_all_but_the_last_fit(text: str, room: int, most: int) -> None:
    lines = in_lines(text, room, 14, most=most)
    assert 1 <= len(lines) <= most
    assert "".join("".join(lines).split()) == "".join(legible(text).split())
    assert all(text_width_px(line, 14) <= room or len(line) == 1 for line in lines[:-1])


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("the surest of 2 masks", ["the surest of", "2 masks"]),
        ("2024/holiday/IMG_0042.jpg", ["2024/holiday/", "IMG_0042.jpg"]),
        ("x" * 14, ["x" * 12, "xx"]),
        ("no one in 1,000,000", ["no one in", "1,000,000"]),
        ("", [""]),
    ],
)
def test_lines_end_after_a_word_or_a_folder(text: str, lines: list[str]) -> None:
    assert in_lines(text, 100, 14, most=3) == lines
