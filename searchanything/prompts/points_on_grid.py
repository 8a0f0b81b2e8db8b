"""Where a prompt's points lie among the masks of a segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchanything.core.errors import PromptError
from searchanything.core.geometry import Letterbox
from searchanything.core.protocols import Segmentation
from searchanything.core.types import BoolMasks
from searchanything.prompts.prompt import Point

Cells: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.int64]]
Flags: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class PointsOnGrid:
    """A prompt's points as they lie on the mask grid, converted once.

    `foreground` (P, 2) and `background` (B, 2) are cells (row, column); `under` (N, P) and `held` (N, B) say which of N
    masks hold them, and `beside` (N, P) which touch a foreground point that none holds: the eight cells around its own.
    A mask's edge is known to a cell, so a click on the rim of a thing, or on a thin one, may miss it by one.
    """

    foreground: Cells
    background: Cells
    under: Flags
    held: Flags
    beside: Flags

    @classmethod
    def of(cls, foreground: Sequence[Point], background: Sequence[Point], segmentation: Segmentation) -> Self:
        """Raises: PromptError for a point outside the image."""
        inside, outside = (_cells_of(points, segmentation.letterbox) for points in (foreground, background))
        under, held = (segmentation.masks[:, cells[:, 0], cells[:, 1]] for cells in (inside, outside))
        beside = np.zeros_like(under)
        for number in np.flatnonzero(~np.any(under, axis=0)):
            beside[:, number] = _touched(segmentation.masks, inside[number])
        return cls(inside, outside, under, held, beside)

    @property
    def within_reach(self) -> Flags:
        """(N, P) the masks that a foreground point may mean: those that hold it, or else those beside it."""
        return self.under | self.beside

    def near(self, masks: BoolMasks, number: int, away: int) -> Flags:
        """(N,) which of the masks (N, gh, gw) lie at most so many cells away from the foreground point `number`."""
        return _touched(masks, self.foreground[number], away)

    @property
    def excluded(self) -> Flags:
        """(N,) the masks that hold a background point."""
        return np.asarray(np.any(self.held, axis=1), dtype=np.bool_)


def _cells_of(points: Sequence[Point], letterbox: Letterbox) -> Cells:
    for x, y in points:
        if not (0 <= x < letterbox.width and 0 <= y < letterbox.height):
            raise PromptError(
                f"point ({x:g}, {y:g}) lies outside the image of {letterbox.width} x {letterbox.height} pixels"
            )
    return letterbox.cells_of(np.array(points, dtype=np.float32).reshape(-1, 2))


def _touched(masks: BoolMasks, cell: Cells, away: int = 1) -> Flags:
    """(N,) which of the masks (N, gh, gw) have a cell at most so many cells away from a cell (row, column)."""
    (top, left), (bottom, right) = np.maximum(cell - away, 0), cell + away + 1
    return np.asarray(np.any(masks[:, top:bottom, left:right], axis=(1, 2)), dtype=np.bool_)
