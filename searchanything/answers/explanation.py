"""Why an image is not among the hits, or where it is: the steps of the funnel with their figures, and a drawing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw

from searchanything.core.documents import region_document, rounded, selection_document
from searchanything.core.errors import SearchAnythingError
from searchanything.core.files import png_bytes, save_image
from searchanything.core.pickling import PickledAlone
from searchanything.core.types import BoxXYXY, Candidate, ImageRef, RGBImage, Selection
from searchanything.drawing.overlays import (
    BACKGROUND,
    DESK,
    FOREGROUND,
    HIT,
    INK,
    MUTED,
    SELECTED,
    BoxMark,
    Color,
    Mark,
    RegionMark,
    distinct_colors,
    draw_marks,
    prompt_marks,
)
from searchanything.drawing.sheets import Tile, contact_sheet
from searchanything.drawing.text import legible, shorten, text_width_px, write_text

logger = logging.getLogger(__name__)

_TILE_PX: Final = 560
CAPTION_PX: Final = 20
GREY: Final[RGBImage] = np.full((_TILE_PX, _TILE_PX, 3), 200, dtype=np.uint8)  # in place of what cannot be read


class Verdict(StrEnum):
    """What explains the image's place, in the order of the funnel."""

    NOTHING_SELECTED = "nothing_selected"
    NOT_INDEXED = "not_indexed"
    OTHER_FINGERPRINT = "other_fingerprint"
    FAILED = "failed"
    EMPTY = "empty"
    CHANGED = "changed"
    NO_WORDS = "no_words"
    NO_MASK = "no_mask"
    NOT_KEPT = "not_kept"
    DISSIMILAR = "dissimilar"
    HASHING = "hashing"
    FILTER = "filter"
    CHANCE = "chance"
    UNWANTED = "unwanted"
    BEYOND = "beyond"
    GROUPING = "grouping"
    PAGING = "paging"
    HIT = "hit"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the funnel: whether the expected image passed it, the figures (plain JSON), and a sentence."""

    name: str
    passed: bool
    figures: Mapping[str, Any]
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """The step as plain JSON."""
        return {"name": self.name, "passed": self.passed, "figures": dict(self.figures), "sentence": self.sentence}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Explanation(PickledAlone):
    """The funnel up to the step that explains, and what there is to see of it.

    `expected_box_xyxy` is what was asked for, in pixels of the expected image; `region` the region that was meant or
    the one that fits the box best, `kept` the regions that the policy keeps; all None or empty where the funnel ended
    before the image was looked at. Images are (H, W, 3) uint8 RGB, or what reads them when they are drawn. A question
    of several parts has neither a query image nor a selection; `parts` are the regions that stand for them, by name.
    """

    expected: ImageRef
    expected_box_xyxy: BoxXYXY | None
    verdict: Verdict
    steps: tuple[Step, ...]
    selection: Selection | None
    prompt_description: Mapping[str, Any]
    fingerprint: str
    query_image: RGBImage | Callable[[], RGBImage] | None
    expected_image: RGBImage | Callable[[], RGBImage] | None = None
    region: Candidate | None = None
    kept: tuple[Candidate, ...] = ()
    parts: tuple[tuple[str, Candidate], ...] = ()

    @property
    def sentence(self) -> str:
        """What the step that explains says."""
        return self.steps[-1].sentence

    def __repr__(self) -> str:
        return f"<Explanation: {self.expected}: {self.verdict}: {self.sentence}>"

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `searchanything explain --format json`: plain types only."""
        box = self.expected_box_xyxy
        return {
            "expected": {
                "bucket": self.expected.bucket,
                "key": self.expected.key,
                "box_xyxy": None if box is None else rounded(box),
            },
            "verdict": str(self.verdict),
            "sentence": self.sentence,
            "steps": [step.to_dict() for step in self.steps],
            "region": None if self.region is None else region_document(self.region),
            "prompt": dict(self.prompt_description),
            "selection": None if self.selection is None else selection_document(self.selection),
            "fingerprint": self.fingerprint,
        }

    def to_text(self) -> str:
        """The funnel for people, one line a step, the verdict last."""
        marked = " and marks" if self.prompt_description.get("marks") else ""
        asked = f"{self.prompt_description.get('kind', 'prompt')}{marked}"
        lines = [f"why {self._place}, for a query by {asked}:"]
        for number, step in enumerate(self.steps, start=1):
            lines.append(f"{number:>2}. {'yes' if step.passed else 'NO '} {step.name}: {step.sentence}")
        lines.append(f"verdict: {self.verdict}")
        return "\n".join(lines)

    @property
    def _place(self) -> str:
        """The image, and whether it has a place among the hits that can be spoken of."""
        if self.verdict in (Verdict.HIT, Verdict.GROUPING):  # grouped: the image is there by another region
            return f"{self.expected} is where it is"
        return f"{'' if self.expected_box_xyxy is None else 'that thing in '}{self.expected} is not among the hits"

    def plot(self) -> Image.Image:
        """Side by side: the query with its selection, the expected image with box, region and kept regions."""
        tiles = [self._expected_tile()]
        if self.selection is not None:
            tiles.insert(0, self._query_tile(self.selection))
        sheet = contact_sheet(tiles, columns=2, side_px=_TILE_PX)
        return _captioned(Image.fromarray(sheet), f"{self.verdict}: {self.sentence}")

    def save(self, path: str | Path) -> None:
        """Write `plot()`, all or nothing. Raises: UsageError for a foreign suffix or a place that cannot be written."""
        save_image(self.plot, path)

    def _repr_png_(self) -> bytes:
        return png_bytes(self.plot())

    def _query_tile(self, selection: Selection) -> Tile:
        marks: list[Mark] = [RegionMark(selection.mask, SELECTED)] if selection.kind == "region" else []
        marks += prompt_marks(self.prompt_description)
        pixels = _read(self.query_image)
        shown = GREY if pixels is None else draw_marks(pixels, marks, longest_side_px=_TILE_PX)
        return Tile(shown, "query", selection.reason, badge="query", accent=SELECTED)

    def _expected_tile(self) -> Tile:
        accent: Color = FOREGROUND if self.verdict is Verdict.HIT else BACKGROUND
        badge = str(self.verdict).replace("_", " ")
        pixels = _read(self.expected_image)
        if pixels is None:
            return Tile(GREY, self.expected.key, badge=badge, accent=accent)
        # Small regions are drawn last, or the fill of larger ones would hide them.
        marks: list[Mark] = [RegionMark(one.mask, MUTED) for one in sorted(self.kept, key=lambda one: -one.area_px)]
        if self.region is not None:
            marks.append(RegionMark(self.region.mask, HIT))
        colors = distinct_colors(len(self.parts))
        marks += [RegionMark(one.mask, color, name) for (name, one), color in zip(self.parts, colors, strict=True)]
        if self.expected_box_xyxy is not None:
            marks.append(BoxMark(self.expected_box_xyxy, FOREGROUND))
        shown = draw_marks(pixels, marks, longest_side_px=_TILE_PX)
        legend = (
            "the regions that stand for the parts"
            if self.parts
            else "green: expected; blue: compared; grey: other regions"
        )
        return Tile(shown, self.expected.key, legend, badge=badge, accent=accent)


def _read(image: RGBImage | Callable[[], RGBImage] | None) -> RGBImage | None:
    """The pixels, None where there are none to be had."""
    try:
        return image() if callable(image) else image
    except SearchAnythingError as error:
        logger.warning("an image of the explanation cannot be shown: %s", error)
        return None


def _captioned(sheet: Image.Image, text: str) -> Image.Image:
    """The sheet with a text below it, in as many lines as it takes."""
    room = sheet.width - 4 * CAPTION_PX
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width_px(legible(longer), CAPTION_PX) > room and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    step = round(CAPTION_PX * 1.4)
    canvas = Image.new("RGB", (sheet.width, sheet.height + step * len(lines) + CAPTION_PX), DESK)
    canvas.paste(sheet)
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        start = 2 * CAPTION_PX, sheet.height + number * step + CAPTION_PX
        write_text(draw, start, shorten(line, room, CAPTION_PX), size_px=CAPTION_PX, fill=INK)
    return canvas
