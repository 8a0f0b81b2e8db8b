"""Small pictures of images, drawn once: the whole image, or a box of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable
from typing import Final

import numpy as np
from PIL import Image

from searchanything.core.byte_cache import ByteCache
from searchanything.core.types import BoxXYXY, RGBImage

SIDES: Final = (96, 160, 320, 640, 1280, 2048)
THUMBNAIL_TYPE: Final = "image/webp"
_QUALITY: Final = 82
_LEAST_BOX_PX: Final = 8


class Thumbnails:
    """Thumbnails by image, content, side and box, kept in memory up to a limit. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self.cache = ByteCache[bytes](max_bytes, len)

    def get(
        self, content: Hashable, pixels: Callable[[], RGBImage], *, side_px: int, box_xyxy: BoxXYXY | None = None
    ) -> bytes:
        """A WebP file whose longest side is at most the next of `SIDES`. Raises: what `pixels` raises."""
        side = next((one for one in SIDES if one >= side_px), SIDES[-1])
        box = None if box_xyxy is None else tuple(round(number) for number in box_xyxy)
        return self.cache.get((content, side, box), lambda: _drawn(pixels(), side, box_xyxy))


def _drawn(pixels: RGBImage, side_px: int, box_xyxy: BoxXYXY | None) -> bytes:
    shown = pixels if box_xyxy is None else _cut(pixels, box_xyxy)
    image = Image.fromarray(shown)
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY, method=2)
    return buffer.getvalue()


def _cut(pixels: RGBImage, box_xyxy: BoxXYXY) -> RGBImage:
    """The part of an image in a box, at least a few pixels of it."""
    height, width = pixels.shape[:2]
    (x1, x2), (y1, y2) = _side(box_xyxy[0], box_xyxy[2], width), _side(box_xyxy[1], box_xyxy[3], height)
    return np.ascontiguousarray(pixels[y1:y2, x1:x2])


def _side(low: float, high: float, length: int) -> tuple[int, int]:
    first = int(min(max(low, 0), max(length - _LEAST_BOX_PX, 0)))
    return first, int(max(min(max(high, low), length), min(first + _LEAST_BOX_PX, length)))
