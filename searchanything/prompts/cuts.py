"""What is left of masks that hold a foreground point and a background point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from searchanything.core.geometry import boxes_of
from searchanything.core.protocols import Segmentation
from searchanything.core.types import BoolMask, BoolMasks, FloatArray
from searchanything.prompts.containers import RowNumbers
from searchanything.prompts.points_on_grid import Cells, Flags, PointsOnGrid

CUT: Final = "cut half way to the background points, which lie on all masks there"


@dataclass(frozen=True, slots=True, eq=False)
class CutMasks:
    """The masks of foreground points for which background points leave no mask, cut half way between both.

    A segmenter that made one mask of two things knows no border between them. Half way between the clicks is nearer to
    it than nothing (docs/adr/0090). Only clicks that lie on a mask cut it: of the others its own border says enough.

    `rows` (K,) of the segmentation, `masks` (K, gh, gw) bool, none empty, `boxes_xyxy` (K, 4) float32 in image pixels,
    and the number of foreground `points` that they answer.
    """

    rows: list[int]
    masks: BoolMasks
    boxes_xyxy: FloatArray
    points: int

    @classmethod
    def of(cls, picked: Mapping[int, int], points: PointsOnGrid, segmentation: Segmentation) -> Self:
        """`picked`: the row that each of these foreground points, by its number, would pick without a background.

        A point in the cell of a background point has no answer.
        """
        cut = {row: _cut(segmentation.masks[row], row, points) for row in sorted(set(picked.values()))}
        answered = [row for number, row in picked.items() if cut[row][tuple(points.foreground[number])]]
        left = {row: mask for row, mask in cut.items() if row in answered}
        masks = np.array(list(left.values()), dtype=np.bool_).reshape(-1, *segmentation.letterbox.grid_size)
        return cls(list(left), masks, boxes_of(masks, segmentation.letterbox), len(answered))


def _cut(mask: BoolMask, row: int, points: PointsOnGrid) -> BoolMask:
    """What of a mask (gh, gw), of this row, is nearer to a foreground point on it than to a background point on it."""
    return cut_half_way(mask, points.foreground[points.under[row]], points.background[points.held[row]])


def cut_half_way(mask: BoolMask, ours: Cells, theirs: Cells) -> BoolMask:
    """What of a mask (gh, gw) is nearer to one of our cells than to each of theirs; P ≥ 1 of both."""
    return np.asarray(mask & (_squares(ours, mask.shape) < _squares(theirs, mask.shape)), dtype=np.bool_)


def overlapping(cut: BoolMasks, segmentation: Segmentation, usable: Flags) -> RowNumbers:
    """The usable masks that share a cell with what is left of cut ones (K, gh, gw), the highest IoU with it first."""
    if not len(cut):
        return np.empty(0, dtype=np.intp)
    coverage = segmentation.letterbox.coverage.ravel()
    left = np.any(cut, axis=0).ravel() * coverage
    flat = segmentation.masks.reshape(len(segmentation.masks), coverage.size).astype(np.float32)
    both = flat @ left
    ious = both / np.maximum(flat @ coverage + left.sum() - both, np.finfo(np.float32).tiny)
    order = np.argsort(-ious, kind="stable")
    return np.asarray(order[usable[order] & (both[order] > 0)], dtype=np.intp)


def _squares(cells: Cells, grid: tuple[int, int]) -> NDArray[np.int64]:
    """(gh, gw) squared distances of all cells to the nearest of these (P, 2), P ≥ 1."""
    rows, columns = np.ogrid[: grid[0], : grid[1]]
    squares = ((rows - row) ** 2 + (columns - column) ** 2 for row, column in np.unique(cells, axis=0))
    return np.asarray(reduce(np.minimum, squares), dtype=np.int64)  # one by one: a stroke is thousands of points
