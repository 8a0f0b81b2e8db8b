"""How a piece of an image comes to the size that an encoder takes. It belongs to the preset, and to the fingerprint."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from PIL import Image

from searchanything.core.libraries import LazyModule
from searchanything.core.types import RGBImage

if TYPE_CHECKING:
    import cv2
    import numpy as np
    from numpy.typing import NDArray
else:
    cv2, np = LazyModule("cv2"), LazyModule("numpy")


class ResizeMode(StrEnum):
    """`LONGEST`: the longest side fits, the other follows, on black. `SQUASH`: both sides fit, whatever the shape."""

    LONGEST = "longest"
    SQUASH = "squash"


class Interpolation(StrEnum):
    """`AREA_CUBIC`: OpenCV's, areas where it shrinks, cubic where it grows. The others: Pillow's, as in open_clip."""

    AREA_CUBIC = "area-cubic"
    BICUBIC = "bicubic"
    BILINEAR = "bilinear"


@dataclass(frozen=True, slots=True)
class Resizing:
    """The default is what `pico`, `small` and `paper` were measured with."""

    mode: ResizeMode = ResizeMode.LONGEST
    interpolation: Interpolation = Interpolation.AREA_CUBIC

    def __str__(self) -> str:
        """As fingerprints have it."""
        return f"{self.mode} {self.interpolation}"

    def sizes(self, sides: NDArray[np.int64], size_px: int) -> NDArray[np.int64]:
        """The new (height, width) of pieces that have these, (..., 2)."""
        if self.mode is ResizeMode.SQUASH:
            return np.full_like(sides, size_px)
        ratio = size_px / sides.max(axis=-1, keepdims=True)
        made: NDArray[np.int64] = np.maximum(np.rint(sides * ratio), 1).astype(np.int64)
        return made

    def apply(self, part: RGBImage, size_px: int) -> RGBImage:
        """A piece (H, W, 3) uint8 RGB at its new size: (size_px, size_px, 3), or one side shorter, at least 1."""
        height, width = self.sizes(np.array(part.shape[:2]), size_px).tolist()
        if self.interpolation is Interpolation.AREA_CUBIC:
            shrinks = size_px < max(part.shape[:2])
            way = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
            return cv2.resize(part, (width, height), interpolation=way).astype(np.uint8, copy=False)
        way = Image.Resampling[self.interpolation.name]
        return np.asarray(Image.fromarray(part).resize((width, height), way))
