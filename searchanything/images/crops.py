"""Crops: what the encoder is shown of a region.

By the published configuration [D]: a large region is its box with everything outside the mask black; a medium region
is its box as it is; a small region is three times its box, clipped to the image, because a few pixels alone say little
[A].
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from searchanything.core.geometry import Letterbox
from searchanything.core.libraries import LazyModule
from searchanything.core.types import BoolMask, BoolMasks, BoxXYXY, FloatArray, RGBImage, SizeClass, size_class_of

if TYPE_CHECKING:
    import cv2
else:
    cv2 = LazyModule("cv2")

SMALL_CONTEXT = 3.0  # the crop's side over the box's, for small regions [D]


class CropPolicy(StrEnum):
    """Which regions are masked and which see their surroundings."""

    PAPER = "paper"  # by size, as above
    MASKED = "masked"  # every region masked, 1 x its box
    CONTEXT = "context"  # none masked; small regions 3 x, others 1 x their box
    BOX = "box"  # none masked, 1 x their box


def region_crops(
    image: RGBImage,
    letterbox: Letterbox,
    masks: BoolMasks,
    boxes_xyxy: FloatArray,
    *,
    size_px: int,
    policy: CropPolicy = CropPolicy.PAPER,
) -> RGBImage:
    """One square crop per region: (N, size_px, size_px, 3) uint8 RGB, N may be 0.

    `masks` (N, gh, gw) bool on the letterbox's grid, `boxes_xyxy` (N, 4) in image pixels. The crop's longest side
    becomes `size_px`, the other is centred on black.
    """
    crops = np.zeros((len(masks), size_px, size_px, 3), dtype=np.uint8)
    for crop, mask, row in zip(crops, masks, boxes_xyxy, strict=True):
        box: BoxXYXY = tuple(row.tolist())
        size_class = size_class_of(box)
        tripled = size_class is SizeClass.SMALL and policy in (CropPolicy.PAPER, CropPolicy.CONTEXT)
        masked = policy is CropPolicy.MASKED or (policy is CropPolicy.PAPER and size_class is SizeClass.LARGE)
        window = _window(box, image.shape[:2], SMALL_CONTEXT if tripled else 1.0)
        part = _resized(image, window, size_px)
        if masked:
            part = _masked(part, letterbox.mask_in_box(mask, window, part.shape[:2]))
        _centre(crop, part)
    return crops


def image_crop(image: RGBImage, *, size_px: int) -> RGBImage:
    """The whole image as one square crop, (size_px, size_px, 3) uint8 RGB."""
    height, width = image.shape[:2]
    crop = np.zeros((size_px, size_px, 3), dtype=np.uint8)
    _centre(crop, _resized(image, (0, 0, width, height), size_px))
    return crop


def _window(box: BoxXYXY, image_size: tuple[int, int], factor: float) -> tuple[int, int, int, int]:
    """The whole pixels that a box touches, `factor` times as wide and high around its centre, inside the image.

    At least one pixel each way, wherever the box lies.
    """
    edges = []
    for low, high, side in ((box[0], box[2], image_size[1]), (box[1], box[3], image_size[0])):
        centre, half = (low + high) / 2, (high - low) / 2 * factor
        start = min(max(math.floor(centre - half), 0), side - 1)
        edges.append((start, min(max(math.ceil(centre + half), start + 1), side)))
    (x1, x2), (y1, y2) = edges
    return x1, y1, x2, y2


def _resized(image: RGBImage, window: tuple[int, int, int, int], size_px: int) -> RGBImage:
    """A window of the image with its longest side at `size_px`, the other in proportion, at least 1."""
    x1, y1, x2, y2 = window
    part = image[y1:y2, x1:x2]
    ratio = size_px / max(part.shape[:2])
    width, height = (max(1, round(side * ratio)) for side in (x2 - x1, y2 - y1))
    shrinks = ratio < 1
    resized = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return resized.astype(np.uint8, copy=False)


def _masked(part: RGBImage, mask: BoolMask) -> RGBImage:
    """The crop with pixels outside the mask black; as it is where the mask is too thin for any pixel."""
    return np.where(mask[:, :, None], part, np.uint8(0)) if mask.any() else part


def _centre(crop: RGBImage, part: RGBImage) -> None:
    """Write a part into the middle of a crop that this module has made."""
    height, width = part.shape[:2]
    top, left = (crop.shape[0] - height) // 2, (crop.shape[1] - width) // 2
    crop[top : top + height, left : left + width] = part
