"""Contact sheets: small images in rows, each on a card with what there is to say of it.

Pure functions: arguments are never changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from searchanything.core.types import RGBImage
from searchanything.drawing.overlays import (
    DESK,
    INK,
    MIN_FONT_PX,
    MUTED,
    WHITE,
    Color,
    PlateXYXY,
    draw_plate,
    resized,
    shown_size,
)
from searchanything.drawing.text import in_lines, shorten, shorten_sentence, text_width_px, write_text

MAT: Final[Color] = (226, 229, 234)
TITLE_LINES: Final = 2
SUBTITLE_LINES: Final = 3
LINE_HEIGHT: Final = 1.3  # of the font's size


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One cell of a contact sheet: an image, a badge in its corner, a title and a subtitle; `accent` frames the cell.

    Both go on in further lines where one has no room. What has no room even then is cut: a title in its middle, as a
    name; a subtitle after a whole word.
    """

    image: RGBImage
    title: str
    subtitle: str = ""
    badge: str = ""
    accent: Color | None = None


def contact_sheet(
    tiles: Sequence[Tile], *, columns: int = 5, side_px: int = 320, font_px: int | None = None
) -> RGBImage:
    """Lay tiles out in rows, each in a cell of the same size with its two lines below, of a size that fits it.

    Returns: (H, W, 3) uint8 RGB. Raises: ValueError without a tile or a column.
    """
    if not tiles or columns < 1:
        raise ValueError(f"expected at least one tile and one column, got {len(tiles)} and {columns}")
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    gap = max(6, side_px // 20)
    cards = [_Card.of(tile, side_px, font_px or max(MIN_FONT_PX, round(side_px / 20))) for tile in tiles]
    caption_px = max(card.caption_px for card in cards)
    cell_width, cell_height = side_px + gap, side_px + gap + caption_px
    canvas = Image.new("RGB", (gap + columns * (cell_width + gap), gap + rows * (cell_height + gap)), DESK)
    for number, card in enumerate(cards):
        row, column = divmod(number, columns)
        left, top = gap + column * (cell_width + gap), gap + row * (cell_height + gap)
        _draw_card(canvas, card, (left, top, left + cell_width - 1, top + cell_height - 1))
    return np.array(canvas)


def full_rows(count: int) -> int:
    """How many columns, three to five, leave the fewest cells of a sheet empty; the more, the better."""
    return min(range(5, 2, -1), key=lambda columns: -count % columns)


@dataclass(frozen=True, slots=True)
class _Card:
    """A tile with its two texts in lines of the cell's width."""

    tile: Tile
    title: tuple[str, ...]
    subtitle: tuple[str, ...]
    side_px: int
    font_px: int

    @classmethod
    def of(cls, tile: Tile, side_px: int, font_px: int) -> _Card:
        *first, rest = in_lines(tile.title, side_px, font_px, most=TITLE_LINES)
        title = (*first, shorten(rest, side_px, font_px))
        small_px = _small(font_px)
        *first, rest = in_lines(tile.subtitle, side_px, small_px, most=SUBTITLE_LINES)
        return cls(tile, title, (*first, shorten_sentence(rest, side_px, small_px)), side_px, font_px)

    @property
    def caption_px(self) -> int:
        return round(self.font_px * (0.7 + LINE_HEIGHT * (len(self.title) + len(self.subtitle))))


def _small(font_px: int) -> int:
    return max(MIN_FONT_PX - 1, font_px - 2)


def _draw_card(canvas: Image.Image, card: _Card, cell_xyxy: PlateXYXY) -> None:
    """A white card: the image centred on a mat, then title and subtitle."""
    draw, side_px, font_px = ImageDraw.Draw(canvas), card.side_px, card.font_px
    pad = max(6, side_px // 20) // 2
    draw.rounded_rectangle(cell_xyxy, radius=pad, fill=WHITE, outline=card.tile.accent, width=max(2, pad // 3))
    left, top = cell_xyxy[0] + pad, cell_xyxy[1] + pad
    draw.rectangle((left, top, left + side_px - 1, top + side_px - 1), fill=MAT)
    height, width = card.tile.image.shape[:2]
    shown = card.tile.image
    if max(height, width) != side_px:
        shown = resized(shown, shown_size(height, width, side_px))
        height, width = shown.shape[:2]
    canvas.paste(Image.fromarray(shown), (left + (side_px - width) // 2, top + (side_px - height) // 2))
    if badge := card.tile.badge:
        half_width = round(text_width_px(shorten(badge, side_px, font_px), font_px) / 2)
        draw_plate(canvas, badge, (left + pad + half_width, top + pad + font_px // 2), size_px=font_px)
    _write_caption(draw, card, (left, top + side_px))


def _write_caption(draw: ImageDraw.ImageDraw, card: _Card, corner: tuple[int, int]) -> None:
    left, top = corner
    line_px = card.font_px * LINE_HEIGHT
    for number, line in enumerate(card.title):
        baseline = round(top + card.font_px * 1.45 + number * line_px)
        write_text(draw, (left, baseline), line, size_px=card.font_px, fill=INK)
    for number, line in enumerate(card.subtitle, start=len(card.title) - 1):
        baseline = round(top + card.font_px * 2.8 + number * line_px)
        write_text(draw, (left, baseline), line, size_px=_small(card.font_px), fill=MUTED)
