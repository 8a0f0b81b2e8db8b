"""What a segmenter says of an image, with other regions than its own: those that are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from searchanything.core.geometry import Letterbox, decode_rle, mask_of_size
from searchanything.core.libraries import LazyModule
from searchanything.core.protocols import Segmentation
from searchanything.core.types import BoolMask, BoolMasks, FloatArray, MaskRLE
from searchanything.images.given_regions import GivenRegions

if TYPE_CHECKING:
    import cv2
else:
    cv2 = LazyModule("cv2")


class GivenSegmentation(Segmentation):
    """A `Segmentation` of given regions: letterbox and feature map are the segmenter's.

    Areas are those of the regions in image pixels. Masks come onto the grid when they are asked for: of a thousand that
    are given, 25 are kept.
    """

    __slots__ = ("_given", "_masks")
    _given: GivenRegions
    _masks: BoolMasks | None

    def __init__(self, found: Segmentation, given: GivenRegions) -> None:
        values = {
            "letterbox": found.letterbox, "boxes_xyxy": given.boxes_xyxy, "scores": given.scores,
            "features": found.features, "_given": given, "_masks": None,
        }  # fmt: skip
        for name, value in values.items():
            object.__setattr__(self, name, value)  # the base is frozen

    @property
    def masks(self) -> BoolMasks:
        """(N, gh, gw) bool of all regions."""
        found = self._masks
        if found is None:
            found = self.masks_at(np.arange(len(self.scores)))
            object.__setattr__(self, "_masks", found)
        return found

    @property
    def areas_px(self) -> FloatArray:
        return self._given.areas_px

    def masks_at(self, rows: NDArray[np.intp]) -> BoolMasks:
        masks = [_on_grid(self.letterbox, self._given, row) for row in rows.tolist()]
        return np.array(masks, dtype=np.bool_).reshape(-1, *self.letterbox.grid_size)

    def areas_at(self, rows: NDArray[np.intp], masks: BoolMasks) -> FloatArray:  # noqa: ARG002 - as the base has it
        return self._given.areas_px[rows]


def _on_grid(letterbox: Letterbox, given: GivenRegions, row: int) -> BoolMask:
    """One region's mask on the grid, at least one cell."""
    mask = given.masks[row]
    if mask is not None:
        return letterbox.grid_mask(_pixels(mask, letterbox.height, letterbox.width))
    x1, y1, x2, y2 = given.boxes_xyxy[row].tolist()
    return letterbox.box_mask((x1, y1, x2, y2))


def _pixels(mask: MaskRLE, height: int, width: int) -> BoolMask:
    if mask.size != (height, width):  # as an index keeps masks
        return mask_of_size(mask, height, width)
    by_column = decode_rle(mask).T.view(np.uint8)  # as runs go; resizing goes along the rows
    return np.asarray(cv2.transpose(by_column)).view(np.bool_)  # a fifth of NumPy's time for 100 megapixels
