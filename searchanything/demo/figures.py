"""Draws an example of the demo: the question over its image, and each hit's region over the hit's image."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from searchanything.core.types import ImageRef, RGBImage
from searchanything.demo.bucket import BUCKET
from searchanything.demo.files import save_bytes
from searchanything.demo.trials import Trial
from searchanything.drawing.overlays import (
    BACKGROUND,
    FOREGROUND,
    SELECTED,
    BoxMark,
    Mark,
    PointMark,
    RegionMark,
    TextMark,
    draw_marks,
)
from searchanything.prompts.prompt import Box, Points, Prompt, Text

_SIDE_PX: Final = 400
_COLORS: Final = 256  # of a PNG: a third of the bytes


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """A trial and the names of its drawings in the images' folder, the hits' in order."""

    trial: Trial
    query_file: str
    hit_files: tuple[str, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """All its drawings."""
        return (self.query_file, *self.hit_files)


def draw_figure(trial: Trial, name: str, folder: Path, *, open_image: Callable[[ImageRef], RGBImage]) -> Figure:
    """Draw a trial into `folder` as `NAME-query.png` and `NAME-hit-1.png` and so on."""
    figure = Figure(
        trial, f"{name}-query.png", tuple(f"{name}-hit-{place + 1}.png" for place in range(len(trial.hits)))
    )
    asked = open_image(ImageRef(BUCKET, trial.question.scene.key))
    _write_png(folder / figure.query_file, draw_marks(asked, _query_marks(trial), longest_side_px=_SIDE_PX))
    for hit, right, file in zip(trial.hits, trial.right, figure.hit_files, strict=True):
        marks = [] if hit.mask is None else [RegionMark(hit.mask, FOREGROUND if right else BACKGROUND)]
        _write_png(folder / file, draw_marks(open_image(hit.image), marks, longest_side_px=_SIDE_PX))
    return figure


def _query_marks(trial: Trial) -> list[Mark]:
    """The selected region, and above it what was given."""
    selected = [RegionMark(trial.selection.mask, SELECTED)] if trial.selection.kind == "region" else []
    return [*selected, *_prompt_marks(trial.question.prompt)]


def _prompt_marks(prompt: Prompt) -> Sequence[Mark]:
    match prompt:
        case Points():
            given = [PointMark(x, y) for x, y in prompt.foreground]
            return [*given, *(PointMark(x, y, foreground=False) for x, y in prompt.background)]
        case Box():
            return [BoxMark(prompt.xyxy)]
        case Text():
            return [TextMark(f"“{prompt.text}”")]
    return []


def _write_png(path: Path, pixels: RGBImage) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).quantize(_COLORS, method=Image.Quantize.FASTOCTREE).save(buffer, format="PNG")
    save_bytes(path, buffer.getvalue())
