"""A device that sleeps in the place of networks and kernels: what the rest of `index` costs, where no GPU is at hand.

Real are listing, reading, decoding, the letterbox, which regions are kept, their masks' run-length encoding, hashing,
rows and commits. The device has a queue for each model and one for the cut, and does one thing at a time, urgent things
first: kernels of a network fill a GPU. Python, which waits for kernels and queues them, is spun for as long as that
takes, holding the interpreter's lock as PyTorch does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from searchanything.core.geometry import Letterbox
from searchanything.core.protocols import Segmentation
from searchanything.core.types import BoolMasks, FloatArray, RGBImage
from searchanything.encode.at_once import AtOnce
from searchanything.encode.cut_batch import CutBatch, KeptRegions
from searchanything.images.crop_policy import CropPolicy
from searchanything.images.resizing import Resizing
from searchanything.models import compute, presets
from searchanything.models.device_cut import encoded_masks
from searchanything.models.device_regions import DeviceSegmentation, packed_bits
from searchanything.models.device_sampling import image_masks
from searchanything.models.hashing import HashLayer
from searchanything.models.lazy import LazyEncoder, LazySegmenter

FOUND: Final = 300  # regions of an image, of which the policy keeps some
_CHANNELS, _DIMENSION, _SIDE_PX, _INPUT_PX = 320, 1024, 224, 1024  # the paper's


@dataclass(frozen=True, slots=True)
class Pace:
    """Milliseconds of the device for an image: segmenter, cut and encoder; and of Python in each of them."""

    segment_ms: float
    cut_ms: float
    embed_ms: float
    python_ms: float

    @property
    def networks_ms(self) -> float:
        """What no pipeline can beat."""
        return self.segment_ms + self.embed_ms

    @property
    def device_ms(self) -> float:
        """All that the device does."""
        return self.networks_ms + self.cut_ms


class SleepingDevice:
    """Does one thing at a time: what is urgent in its order, and the rest of the time the other queue. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._urgent_s = 0.0  # of urgent work so far, that to come among it
        self._urgent_until = 0.0
        self._queued_until = 0.0  # what is not urgent, by the time without urgent work
        self.worked_s = 0.0

    def work_urgently(self, seconds: float) -> None:
        """Return when the device has worked so long on this."""
        with self._lock:
            until = max(time.perf_counter(), self._urgent_until) + seconds
            self._urgent_until, self._urgent_s = until, self._urgent_s + seconds
            self.worked_s += seconds
        _sleep_until(until)

    def work(self, seconds: float) -> None:
        """The same for the queue of what is not urgent."""
        with self._lock:
            now, urgent_s = self._now_and_urgent_s()
            end = self._queued_until = max(self._queued_until, now - urgent_s) + seconds
        while now < end + urgent_s:
            _sleep_until(max(end + urgent_s, self._urgent_until))
            with self._lock:
                now, urgent_s = self._now_and_urgent_s()
        with self._lock:
            self.worked_s += seconds

    def _now_and_urgent_s(self) -> tuple[float, float]:
        """The time, and how much urgent work was done by then."""
        now = time.perf_counter()
        return now, self._urgent_s - max(0.0, self._urgent_until - now)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.perf_counter()))


class _Nothing:
    """A feature map that nobody pools."""

    def pool(self, masks: BoolMasks) -> FloatArray:
        return np.zeros((len(masks), _CHANNELS), np.float32)


@dataclass(slots=True)
class _Models:
    """The segmenter, the cutter and the encoder of a device that sleeps."""

    device: SleepingDevice
    pace: Pace
    policy_count: int
    _seen: dict[tuple[int, int], DeviceSegmentation] = field(default_factory=dict)
    _values: FloatArray = field(default_factory=lambda: _unit_rows(1024))

    feature_dimension = _CHANNELS
    dimension = _DIMENSION
    crop_size_px = _SIDE_PX
    crops_at_once = 64
    precision = "fp16"

    @property
    def description(self) -> dict[str, str | int | float]:
        return {"weights": "none", "input_size": _INPUT_PX}

    def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        letterboxes = [Letterbox(image.shape[0], image.shape[1], _INPUT_PX) for image in images]
        for letterbox, image in zip(letterboxes, images, strict=True):
            letterbox.apply(image)
        self._spin(len(images))
        self.device.work_urgently(self.pace.segment_ms * len(images) / 1000)
        return [self._found(one) for one in letterboxes]

    def takes(self, _images: Sequence[RGBImage], _found: Sequence[Segmentation], _resizing: Resizing) -> bool:
        return True

    def cut(
        self,
        images: Sequence[RGBImage],
        segmentations: Sequence[Segmentation],
        rows: Sequence[NDArray[np.intp]],
        *,
        size_px: int,
        policy: CropPolicy,  # noqa: ARG002
    ) -> CutBatch:
        self._spin(len(images))
        self.device.work_urgently(self.pace.cut_ms * len(images) / 1000)
        regions = []
        for one, kept in zip(segmentations, rows, strict=True):
            masks = one.masks_of(torch.from_numpy(kept))  # type: ignore[attr-defined]
            stored = packed_bits(image_masks(masks, one.letterbox, one.letterbox.stored_size()).transpose(1, 2))
            encoded = encoded_masks(stored.numpy().ravel(), masks, one.letterbox)
            regions.append(KeptRegions.of_rows(one, kept, areas_px=one.areas_px[kept], masks=encoded))
        total = sum(len(one.masks) + 1 for one in regions)
        crops = np.broadcast_to(np.zeros(1, np.uint8), (total, size_px, size_px, 3))
        return CutBatch(regions, np.zeros((total, _CHANNELS), np.float32), crops)

    def embed_many(self, crops: RGBImage) -> FloatArray:
        images = len(crops) / (self.policy_count + 1)
        self._spin(images)
        self.device.work(self.pace.embed_ms * images / 1000)
        return self.embed_crops(crops)

    def embed_crops(self, crops: RGBImage) -> FloatArray:
        return np.resize(self._values, (len(crops), _DIMENSION))

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        return np.zeros((len(texts), _DIMENSION), np.float32)

    def _spin(self, images: float) -> None:
        """Python's time for so many images."""
        until = time.thread_time() + self.pace.python_ms * images / 1000
        while time.thread_time() < until:
            pass

    def _found(self, letterbox: Letterbox) -> DeviceSegmentation:
        """The same regions for all images of a size."""
        size = (letterbox.height, letterbox.width)
        if size not in self._seen:
            self._seen[size] = _ellipses(letterbox)
        return self._seen[size]


def _unit_rows(count: int) -> FloatArray:
    values = np.random.default_rng(0).standard_normal((count, _DIMENSION), dtype=np.float32)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), dtype=np.float32)


def _ellipses(letterbox: Letterbox) -> DeviceSegmentation:
    """FOUND random ellipses with rough edges."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[: letterbox.grid_size[0], : letterbox.grid_size[1]].astype(np.float32)
    masks = np.empty((FOUND, *letterbox.grid_size), np.bool_)
    for one in masks:
        y, x = generator.random(2) * letterbox.grid_size
        tall, wide = 2 + generator.random(2) * np.array(letterbox.grid_size) / 3
        rough = generator.normal(0, 0.05, letterbox.grid_size)
        one[:] = ((rows - y) / tall) ** 2 + ((columns - x) / wide) ** 2 + rough < 1
    masks &= letterbox.coverage > 0
    masks = masks[masks.any(axis=(1, 2))]
    high, wide = np.asarray(masks.any(axis=2)), np.asarray(masks.any(axis=1))
    edges = [
        high.argmax(1),
        high.shape[1] - high[:, ::-1].argmax(1),
        wide.argmax(1),
        wide.shape[1] - wide[:, ::-1].argmax(1),
    ]
    top, bottom, left, right = (4 * one.astype(np.float32) for one in edges)
    boxes = letterbox.boxes_to_image(np.column_stack([left, top, right, bottom]))
    scores = np.linspace(1, 0.4, len(masks), dtype=np.float32)
    return DeviceSegmentation(
        letterbox, boxes, scores, packed_bits(torch.from_numpy(masks)), letterbox.areas_px(masks), _Nothing()
    )


@contextmanager
def sleeping_models(pace: Pace, *, count: int) -> Iterator[SleepingDevice]:
    """Encoders that are made meanwhile have a device that sleeps, in the place of any preset's."""
    device = SleepingDevice()
    models = _Models(device, pace, count)
    layer = HashLayer.random_rotation(_CHANNELS, _DIMENSION, bits=256, seed=1)
    lazy = (
        LazySegmenter("segmenter", lambda: models, dimension=_CHANNELS, description=models.description),
        LazyEncoder("encoder", lambda: models, dimension=_DIMENSION, description=models.description),
    )
    with ExitStack() as patches:
        for owner, name, new in (
            (presets, "lazy_models", lambda *_: lazy),
            (presets, "load_hash", lambda _: layer),
            (presets, "open_cutter", lambda _: models),
            (compute, "at_once", lambda _: AtOnce(models=2, embedding=2)),
        ):
            patches.enter_context(mock.patch.object(owner, name, new))
        yield device
