"""A hit as a thumbnail: its region outlined and, where it is small, shown once more, enlarged, in a corner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from searchanything.core.geometry import decode_rle
from searchanything.core.libraries import LazyModule
from searchanything.core.types import BoxXYXY, MaskRLE, RGBImage
from searchanything.drawing.overlays import HIT, INK, RegionMark, draw_marks

if TYPE_CHECKING:
    import cv2
else:
    cv2 = LazyModule("cv2")

SMALL_SHARE = 1 / 6  # of the thumbnail's longest side: a region below it gets a loupe
LOUPE_SHARE = 0.42  # of the thumbnail's shortest side
LEAST_LOUPE_PX = 32
MARGIN = 1.5  # the loupe shows so many times the region's longest side
FRAME_PX = 2


def draw_hit(image: RGBImage, mask: MaskRLE | None, *, longest_side_px: int) -> RGBImage:
    """An image of (H, W, 3) uint8 RGB as a thumbnail with its region; without a mask the image alone."""
    if mask is None:
        return draw_marks(image, [], longest_side_px=longest_side_px)
    shown = draw_marks(image, [RegionMark(mask, HIT)], longest_side_px=longest_side_px)
    box = _box(mask, image)
    if box is None:
        return shown
    side = round(LOUPE_SHARE * min(shown.shape[:2]))
    longest = max(box[2] - box[0], box[3] - box[1]) * longest_side_px / max(image.shape[:2])
    if longest >= SMALL_SHARE * longest_side_px or side < LEAST_LOUPE_PX:
        return shown
    return _with_loupe(shown, _enlarged(image, box, side), _corner(shown, box, image))


def _box(mask: MaskRLE, image: RGBImage) -> BoxXYXY | None:
    """The mask's box in pixels of the image; None for an empty mask."""
    rows, columns = np.nonzero(decode_rle(mask))
    if not rows.size:
        return None
    down, across = image.shape[0] / mask.size[0], image.shape[1] / mask.size[1]
    return (
        float(columns.min() * across),
        float(rows.min() * down),
        float((columns.max() + 1) * across),
        float((rows.max() + 1) * down),
    )


def _enlarged(image: RGBImage, box: BoxXYXY, side: int) -> RGBImage:
    """(side, side, 3): a square around the box, moved into the image where it would reach over its edge."""
    height, width = image.shape[:2]
    wanted = min(max(round(MARGIN * max(box[2] - box[0], box[3] - box[1])), 8), height, width)
    left, top = (
        round(min(max((low + high - wanted) / 2, 0), limit - wanted))
        for low, high, limit in ((box[0], box[2], width), (box[1], box[3], height))
    )
    crop = np.ascontiguousarray(image[top : top + wanted, left : left + wanted])
    resized = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA if wanted > side else cv2.INTER_CUBIC)
    return np.asarray(resized, dtype=np.uint8)


def _corner(shown: RGBImage, box: BoxXYXY, image: RGBImage) -> tuple[bool, bool]:
    """(at the bottom, at the right): the corner farthest from the region, but the upper left one: badges lie there."""
    right = (box[0] + box[2]) / 2 < image.shape[1] / 2
    bottom = (box[1] + box[3]) / 2 < image.shape[0] / 2
    if right or bottom:
        return bottom, right
    across = shown.shape[1] >= shown.shape[0]
    return across, not across


def _with_loupe(shown: RGBImage, loupe: RGBImage, corner: tuple[bool, bool]) -> RGBImage:
    framed: NDArray[Any] = loupe
    for shade in (HIT, INK):
        framed = cv2.copyMakeBorder(framed, *(FRAME_PX,) * 4, cv2.BORDER_CONSTANT, value=shade)
    side = framed.shape[0]
    top = shown.shape[0] - side if corner[0] else 0
    left = shown.shape[1] - side if corner[1] else 0
    result = shown.copy()
    result[top : top + side, left : left + side] = framed
    return result
