"""The last images that were asked about, already segmented: several prompts on one image cost one segmentation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from searchanything.core.byte_cache import ByteCache
from searchanything.core.protocols import Segmentation, Segmenter
from searchanything.core.types import RGBImage
from searchanything.encode.wrapped_segmenter import WrappedSegmenter

REMEMBERED_BYTES: Final = 2**27  # 30 to 150 images of pico, four of paper
DIGEST_THREADS: Final = 4  # hashlib releases the GIL


class RememberingSegmenter(WrappedSegmenter):
    """A `Segmenter` that keeps the segmentations of the last images, up to `max_bytes` of them. Thread-safe.

    An image is told by its pixels' digest. Whoever asks for one image that another thread is segmenting by itself waits
    for it; a batch waits for nothing, for its failure is not that of each of its images.
    """

    def __init__(self, segmenter: Segmenter, *, max_bytes: int = REMEMBERED_BYTES) -> None:
        super().__init__(segmenter)
        self._cache = ByteCache[Segmentation](max_bytes, lambda one: _bytes_of(one, self.feature_dimension))

    def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        if len(images) == 1:
            return [self._cache.get(_digest_of(images[0]), lambda: self.segmenter.segment(images)[0])]
        with ThreadPoolExecutor(DIGEST_THREADS) as pool:
            keys = list(pool.map(_digest_of, images))
        found = self._cache.kept(keys)
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in found}
        if new:
            found.update(zip(new, self.segmenter.segment(list(new.values())), strict=True))
        for key in new:
            self._cache.keep(key, found[key])
        return [found[key] for key in keys]


def _digest_of(image: RGBImage) -> bytes:
    digest = hashlib.blake2b(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def _bytes_of(segmentation: Segmentation, channels: int) -> int:
    """What a segmentation holds; its feature map, wherever that lies, has a float32 cell for four of the mask grid."""
    grid_height, grid_width = segmentation.letterbox.grid_size
    return segmentation.masks.nbytes + segmentation.boxes_xyxy.nbytes + channels * grid_height * grid_width
