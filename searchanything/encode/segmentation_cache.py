"""The last images that were asked about, already segmented: several prompts on one image cost one segmentation."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import numpy as np

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
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, Future[Segmentation]] = OrderedDict()  # the last used one last
        self._sizes: dict[bytes, int] = {}

    @property
    def held_bytes(self) -> int:
        """What is remembered now."""
        with self._lock:
            return sum(self._sizes.values())

    def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        return [self._one(images[0])] if len(images) == 1 else self._several(images)

    def _several(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        with ThreadPoolExecutor(DIGEST_THREADS) as pool:
            keys = list(pool.map(_digest_of, images))
        found: dict[bytes, Segmentation] = {}
        with self._lock:
            for key in dict.fromkeys(keys).keys() & self._sizes.keys():
                self._known.move_to_end(key)
                found[key] = self._known[key].result()
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in found}
        if new:
            found.update(zip(new, self.segmenter.segment(list(new.values())), strict=True))
        for key in new:
            done = Future[Segmentation]()
            done.set_result(found[key])
            with self._lock:
                is_mine = self._known.setdefault(key, done) is done
            if is_mine:
                self._keep(key, _bytes_of(found[key], self.feature_dimension))
        return [found[key] for key in keys]

    def _one(self, image: RGBImage) -> Segmentation:
        key = _digest_of(image)
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
            else:
                mine = self._known[key] = Future[Segmentation]()
        if known is not None:
            return known.result()
        try:
            (segmentation,) = self.segmenter.segment([image])
        except BaseException as error:
            with self._lock:
                self._known.pop(key, None)
            mine.set_exception(error)
            raise
        mine.set_result(segmentation)
        self._keep(key, _bytes_of(segmentation, self.feature_dimension))
        return segmentation

    def _keep(self, key: bytes, size: int) -> None:
        """Count a segmentation, and forget those that were not used for longest until all fit."""
        with self._lock:
            self._sizes[key] = size
            for old in list(self._known):
                if sum(self._sizes.values()) <= self._max_bytes:
                    break
                if old in self._sizes:  # others are being made
                    del self._known[old], self._sizes[old]


def _digest_of(image: RGBImage) -> bytes:
    digest = hashlib.blake2b(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def _bytes_of(segmentation: Segmentation, channels: int) -> int:
    """What a segmentation holds; its feature map, wherever that lies, has a float32 cell for four of the mask grid."""
    grid_height, grid_width = segmentation.letterbox.grid_size
    return segmentation.masks.nbytes + segmentation.boxes_xyxy.nbytes + channels * grid_height * grid_width
