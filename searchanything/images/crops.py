"""Crops: what the encoder is shown of a region, and of a whole image."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from searchanything.core.geometry import Letterbox
from searchanything.core.types import BoolMask, BoolMasks, FloatArray, RGBImage, size_class_of
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
    windows, is_masked = crop_windows(boxes_xyxy, image.shape[:2], policy)
    for crop, mask, window, masked in zip(crops, masks, windows.tolist(), is_masked.tolist(), strict=True):
        x1, y1, x2, y2 = window
        part = resizing.apply(image[y1:y2, x1:x2], size_px)
        if masked:
            part = _masked(part, letterbox.mask_in_box(mask, (x1, y1, x2, y2), part.shape[:2]))
        _centre(crop, part)
    return crops


def image_crop(image: RGBImage, *, size_px: int, resizing: Resizing = PLAIN) -> RGBImage:
    """The whole image as one square crop, (size_px, size_px, 3) uint8 RGB."""
    crop = np.zeros((size_px, size_px, 3), dtype=np.uint8)
    _centre(crop, resizing.apply(image, size_px))
    return crop


def crop_windows(
    boxes_xyxy: FloatArray, image_size: tuple[int, int], policy: CropPolicy
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """What of an image (height, width) is shown of each region: (N, 4) whole pixels, and whether it is masked, (N,).

    A window has the pixels that a box touches, as many times as wide and high around its centre as the policy says,
    inside the image: at least one pixel each way, wherever the box lies.

    Raises: ValueError for boxes that are not finite: a kernel that looks outside of all fails a GPU's whole process.
    """
    boxes = boxes_xyxy.astype(np.float64).reshape(-1, 4)
    if not np.isfinite(boxes).all():
        raise ValueError("expected boxes of finite numbers, got others; the segmenter's precision may be too low")
    classes = [size_class_of((x1, y1, x2, y2)) for x1, y1, x2, y2 in boxes.tolist()]
    factor = np.array([policy.context(one) for one in classes]).reshape(-1, 1)
    low, high = boxes[:, :2], boxes[:, 2:]
    centre, half = (low + high) / 2, (high - low) / 2 * factor
    sides = np.array(image_size[::-1])
    start = np.clip(np.floor(centre - half), 0, sides - 1)
    end = np.minimum(np.maximum(np.ceil(centre + half), start + 1), sides)
    is_masked = np.array([policy.masks(one) for one in classes], dtype=np.bool_)
    return np.concatenate([start, end], axis=1).astype(np.int64), is_masked


def _masked(part: RGBImage, mask: BoolMask) -> RGBImage:
    """The crop with pixels outside the mask black; as it is where the mask is too thin for any pixel."""
    return np.where(mask[:, :, None], part, np.uint8(0)) if mask.any() else part


def _centre(crop: RGBImage, part: RGBImage) -> None:
    """Write a part into the middle of a crop that this module has made."""
    height, width = part.shape[:2]
    top, left = (crop.shape[0] - height) // 2, (crop.shape[1] - width) // 2
    crop[top : top + height, left : left + width] = part
