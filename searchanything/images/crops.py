"""Crops: what the encoder is shown of a region, and of a whole image."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from searchanything.core.geometry import Letterbox
from searchanything.core.types import BoolMask, BoolMasks, BoxXYXY, FloatArray, RGBImage, size_class_of
from searchanything.images.crop_policy import CropPolicy
from searchanything.images.resizing import Resizing

PLAIN: Final = Resizing()


def region_crops(
    image: RGBImage,
    letterbox: Letterbox,
    masks: BoolMasks,
    boxes_xyxy: FloatArray,
    *,
    size_px: int,
    policy: CropPolicy,
    resizing: Resizing = PLAIN,
) -> RGBImage:
    """One square crop per region: (N, size_px, size_px, 3) uint8 RGB, N may be 0.

    `masks` (N, gh, gw) bool on the letterbox's grid, `boxes_xyxy` (N, 4) in image pixels. By `resizing` the crop's
    longest side becomes `size_px` and the other is centred on black, or both become `size_px`.
    """
    crops = np.zeros((len(masks), size_px, size_px, 3), dtype=np.uint8)
    for crop, mask, row in zip(crops, masks, boxes_xyxy, strict=True):
        box: BoxXYXY = tuple(row.tolist())
        size_class = size_class_of(box)
        window = _window(box, image.shape[:2], policy.context(size_class))
        x1, y1, x2, y2 = window
        part = resizing.apply(image[y1:y2, x1:x2], size_px)
        if policy.masks(size_class):
            part = _masked(part, letterbox.mask_in_box(mask, window, part.shape[:2]))
        _centre(crop, part)
    return crops


def image_crop(image: RGBImage, *, size_px: int, resizing: Resizing = PLAIN) -> RGBImage:
    """The whole image as one square crop, (size_px, size_px, 3) uint8 RGB."""
    crop = np.zeros((size_px, size_px, 3), dtype=np.uint8)
    _centre(crop, resizing.apply(image, size_px))
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


def _masked(part: RGBImage, mask: BoolMask) -> RGBImage:
    """The crop with pixels outside the mask black; as it is where the mask is too thin for any pixel."""
    return np.where(mask[:, :, None], part, np.uint8(0)) if mask.any() else part


def _centre(crop: RGBImage, part: RGBImage) -> None:
    """Write a part into the middle of a crop that this module has made."""
    height, width = part.shape[:2]
    top, left = (crop.shape[0] - height) // 2, (crop.shape[1] - width) // 2
    crop[top : top + height, left : left + width] = part
