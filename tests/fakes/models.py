"""Hand-written models for tests. They see rectangles of a few named colours on black, and need nothing but numpy.

Codes of things of one colour are close, codes of things of different colours are far apart, as trained models would
have it, and a text that names a colour matches the region of that colour.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from searchanything.core.geometry import GRID_STRIDE, Letterbox
from searchanything.core.protocols import Segmentation
from searchanything.core.types import BoolMasks, FloatArray, RGBImage
from searchanything.encode.encoder import Encoder
from searchanything.encode.region_policy import RegionPolicy
from searchanything.images.crop_policy import CropPolicy
from searchanything.models.hashing import HashLayer
from searchanything.models.lazy import LazyEncoder, LazySegmenter

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (250, 20, 20),
    "green": (20, 250, 20),
    "blue": (20, 20, 250),
    "yellow": (250, 250, 20),
    "cyan": (20, 250, 250),
    "magenta": (250, 20, 250),
    "white": (250, 250, 250),
}
POISON = (7, 7, 7)  # an image with this first pixel makes the segmenter fail
CHANNELS = 4
DEADLY = (9, 9, 9)  # as the first pixel: kills the worker process that segments the image
_COLOURS = np.array(list(PALETTE.values()), dtype=np.int32)


def save_noisy(folder: Path) -> None:
    """Four images of a red and a blue thing, with noise, or their codes would be equal."""
    rng = np.random.default_rng(4)
    for number in range(4):
        pixels = drawn(64, 96, red=(4, 4, 40, 60 - 8 * number), blue=(50, 8, 90, 40))
        noise = rng.integers(0, 60 + 30 * number, pixels.shape).astype(np.uint8)
        Image.fromarray(np.maximum(pixels, noise)).save(folder / f"{number}.png")


def drawn(height: int, width: int, **boxes_xyxy: tuple[int, int, int, int]) -> RGBImage:
    """A black image with one filled rectangle per named colour, later ones over earlier ones."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    for colour, (x1, y1, x2, y2) in boxes_xyxy.items():
        image[y1:y2, x1:x2] = PALETTE[colour]
    return image


def poisoned(image: RGBImage) -> RGBImage:
    """The image with the mark that makes `FakeSegmenter` fail."""
    marked = image.copy()
    marked[0, 0] = POISON
    return marked


@dataclass(frozen=True, eq=False)
class GridMap:
    """A feature map with one cell per grid cell, (gh, gw, C) float32."""

    cells: FloatArray
    coverage: FloatArray

    def pool(self, masks: BoolMasks) -> FloatArray:
        weights = (masks * self.coverage).reshape(len(masks), self.coverage.size)
        sums = weights.sum(axis=1, keepdims=True)
        means = (weights @ self.cells.reshape(self.coverage.size, -1)) / np.where(sums > 0, sums, 1)
        return np.asarray(means, dtype=np.float32)


class FakeSegmenter:
    """A `Segmenter`: the visible pixels of each named colour are one region, in the palette's order."""

    feature_dimension = CHANNELS

    def __init__(self, *, input_size: int = 64, weights: str = "fake-segmenter") -> None:
        self.input_size = input_size
        self.batch_sizes: list[int] = []
        self._weights = weights
        self._lock = threading.Lock()

    @property
    def description(self) -> Mapping[str, str | int | float]:
        return {"weights": self._weights, "input_size_px": self.input_size, "iou": 0.7, "max_detections": 100}

    def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        with self._lock:
            self.batch_sizes.append(len(images))
        if any(tuple(image[0, 0]) == POISON for image in images):
            raise RuntimeError("the segmenter choked on a poisoned image")
        return [self._one(image) for image in images]

    def _one(self, image: RGBImage) -> Segmentation:
        letterbox = Letterbox(image.shape[0], image.shape[1], self.input_size)
        boxes, scores, masks = [], [], []
        shades = _shades(image)
        for rank, colour in enumerate(_shades(_COLOURS)):
            mask = shades == colour
            if mask.any():
                rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
                boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
                scores.append(0.95 - rank / 10)
                masks.append(letterbox.grid_mask(mask))
        return Segmentation(
            letterbox=letterbox,
            boxes_xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
            scores=np.array(scores, dtype=np.float32),
            masks=np.array(masks, dtype=np.bool_).reshape(-1, *letterbox.grid_size),
            features=GridMap(_cells(letterbox.apply(image)), letterbox.coverage),
        )


class SickDevice(FakeSegmenter):
    """A `Segmenter` whose device turns sick after so many calls: from then on all fail, as after CUDA errors."""

    def __init__(self, *, healthy_calls: int) -> None:
        super().__init__()
        self.healthy_calls = healthy_calls

    def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        self.healthy_calls -= 1
        if self.healthy_calls < 0:
            raise RuntimeError("CUDA error: device-side assert triggered")
        return super().segment(images)


class SmallMemory(FakeSegmenter):
    """A `Segmenter` whose device has no room for more than `most` images at once."""

    def __init__(self, *, most: int) -> None:
        super().__init__()
        self._most = most

    def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        if len(images) > self._most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().segment(images)


class FakeEmbedder:
    """A `RegionEncoder`: how much of a crop has each named colour. `embed_texts` knows the colours' names."""

    dimension = len(PALETTE) + 1
    crop_size_px = 16

    def __init__(self, *, weights: str = "fake-embedder") -> None:
        self._weights = weights

    @property
    def description(self) -> Mapping[str, str | int | float]:
        return {"weights": self._weights}

    def embed_crops(self, crops: RGBImage) -> FloatArray:
        pixels = crops.reshape(len(crops), self.crop_size_px**2, 1, 3).astype(np.int32)
        near = np.abs(pixels - _COLOURS).max(axis=3) < 60
        return _unit(near.mean(axis=1))

    def embed_many(self, crops: RGBImage) -> FloatArray:
        return self.embed_crops(crops)

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        words = [set(text.lower().split()) for text in texts]
        return _unit(np.array([[name in present for name in PALETTE] for present in words], dtype=np.float64))


def lazy_fakes(segmenter: FakeSegmenter, embedder: FakeEmbedder) -> tuple[LazySegmenter, LazyEncoder]:
    """Two models as a preset's are held, with nothing left to decide."""
    return (
        LazySegmenter("segmenter", lambda: segmenter, dimension=CHANNELS, description=segmenter.description),
        LazyEncoder("encoder", lambda: embedder, dimension=embedder.dimension, description=embedder.description),
    )


def fake_encoder(*, bits: int = 64, regions: int = 25, crops: CropPolicy = CropPolicy.PAPER) -> Encoder:
    """An encoder of fake models and a real hash layer with random weights."""
    layer = HashLayer.random_rotation(CHANNELS, FakeEmbedder.dimension, bits=bits, seed=5)
    return Encoder(FakeSegmenter(), FakeEmbedder(), layer, policy=RegionPolicy("largest", regions), crops=crops)


def _shades(pixels: np.ndarray) -> np.ndarray:
    """(…, 3) of 0 to 255 -> a number for each colour: comparing three channels takes ten times as long."""
    wide = pixels.astype(np.int32)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2])


def _cells(network_input: RGBImage) -> FloatArray:
    """Mean colour and darkness of each grid cell, (gh, gw, C) float32."""
    height, width = network_input.shape[0] // GRID_STRIDE, network_input.shape[1] // GRID_STRIDE
    blocks = network_input.reshape(height, GRID_STRIDE, width, GRID_STRIDE, 3).astype(np.float32) / 255
    colours = blocks.mean(axis=(1, 3))
    return np.concatenate([colours, 1 - colours.max(axis=2, keepdims=True)], axis=2)


def _unit(shares: np.ndarray) -> FloatArray:
    """Rows at unit length; what has no colour at all points along an axis of its own."""
    nothing = (shares.sum(axis=1, keepdims=True) == 0).astype(np.float64)
    rows = np.concatenate([shares, nothing], axis=1)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)
