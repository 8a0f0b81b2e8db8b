"""Large images in overlapping tiles: small things are seen as large as they are.

    image ── the whole, once ─────────────────────────────────────► large regions ──┐
      └─ scaled so that `tile_px` fill the network's input, cut ──► small regions ──┴─ suppression ─► Segmentation

A tile's grid is a part of the whole's finer grid, cell by cell, so nothing is resampled and no seam is drawn. What a
tile's inner edge cuts is left to the neighbour that holds all of it, or to the whole image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from searchanything.core.geometry import GRID_STRIDE, INPUT_MULTIPLE, Letterbox
from searchanything.core.protocols import FeatureMap, Segmentation, Segmenter
from searchanything.core.types import BoolMasks, FloatArray, RGBImage
from searchanything.encode.wrapped_segmenter import WrappedSegmenter
from searchanything.models.options import tiled_description
from searchanything.models.quiet import import_torchvision

OVERLAP: Final = 4  # of a tile's side, the part that it shares with its neighbour is one in so many
MOST_CELLS: Final = 1 << 20  # of the finer grid, about: a mask takes a byte for each
MOST_REGIONS: Final = 3  # times the segmenter's own limit
TILES_AT_ONCE: Final = 8
EDGE_PX: Final = 8  # input pixels: a box that ends so near an inner edge was cut by it


@dataclass(frozen=True, slots=True)
class ImageTile:
    """A part of the scaled image, (y1, x1, y2, x2) in its pixels, and the part of that which is this tile's alone."""

    place: tuple[int, int, int, int]
    own: tuple[int, int, int, int]

    def cut(self, box_xyxy: FloatArray, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Which of (N, 4) boxes in the scaled image's pixels one of its inner edges cuts: (N,)."""
        y1, x1, y2, x2 = self.place
        height, width = size
        near = np.zeros(len(box_xyxy), dtype=np.bool_)
        for edge, column, inner in ((x1, 0, x1 > 0), (y1, 1, y1 > 0), (x2, 2, x2 < width), (y2, 3, y2 < height)):
            if inner:
                near |= np.abs(box_xyxy[:, column] - edge) < EDGE_PX
        return near


class TiledMap:
    """A `FeatureMap` of many: each tile's P3 for the cells that are its own."""

    __slots__ = ("_channels", "_parts")

    def __init__(self, parts: Sequence[tuple[ImageTile, FeatureMap]], channels: int) -> None:
        self._parts = parts
        self._channels = channels

    def pool(self, masks: BoolMasks) -> FloatArray:
        """Average over each mask: (N, gh, gw) bool on the finer grid -> (N, C) float32, as of one map."""
        total = np.zeros((len(masks), self._channels), dtype=np.float32)
        cells = np.zeros(len(masks), dtype=np.float32)
        for tile, features in self._parts:
            y1, x1, y2, x2 = (edge // GRID_STRIDE for edge in tile.own)
            rows = np.flatnonzero(masks[:, y1:y2, x1:x2].any(axis=(1, 2)))
            if not len(rows):
                continue
            top, left, bottom, right = (edge // GRID_STRIDE for edge in tile.place)
            there = np.zeros((len(rows), bottom - top, right - left), dtype=np.bool_)
            there[:, y1 - top : y2 - top, x1 - left : x2 - left] = masks[rows, y1:y2, x1:x2]
            held = there.sum(axis=(1, 2), dtype=np.float32)
            total[rows] += features.pool(there) * held[:, None]
            cells[rows] += held
        return np.asarray(total / np.maximum(cells, 1)[:, None], dtype=np.float32)


class TiledSegmenter(WrappedSegmenter):
    """A `Segmenter` that looks at images of more than `tile_px` as a whole and in tiles; smaller ones are as before.

    Regions of up to a quarter of a tile are found whole in some tile; of those that tile and whole image both find, the
    tile's stays: its mask is finer. At most three times the segmenter's own limit of regions is kept, the best by
    score. `tile_px` is a side in image pixels; the tiles of very large images are larger (`MOST_CELLS`).
    """

    def __init__(self, segmenter: Segmenter, tile_px: int) -> None:
        super().__init__(segmenter)
        self._tile_px = tile_px

    @property
    def description(self) -> Mapping[str, str | int | float]:
        """The segmenter's, and `tile_px`."""
        return tiled_description(super().description, self._tile_px)

    def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        """The whole images in one batch, then the tiles of each."""
        return [
            self._refined(image, whole) for image, whole in zip(images, self.segmenter.segment(images), strict=True)
        ]

    def _refined(self, image: RGBImage, whole: Segmentation) -> Segmentation:
        letterbox = self._letterbox(image)
        if letterbox is None:
            return whole
        scaled, tiles = letterbox.apply(image), tiles_of(letterbox.input_shape, self._side)
        found: list[Segmentation] = []
        for start in range(0, len(tiles), TILES_AT_ONCE):
            places = (tile.place for tile in tiles[start : start + TILES_AT_ONCE])
            found += self.segmenter.segment([scaled[y1:y2, x1:x2] for y1, x1, y2, x2 in places])
        return self._merged(letterbox, whole, list(zip(tiles, found, strict=True)))

    @property
    def _side(self) -> int:
        return int(self.segmenter.description["input_size_px"])

    def _letterbox(self, image: RGBImage) -> Letterbox | None:
        """How the image lies on the finer grid; None where one tile would hold all of it."""
        height, width = image.shape[:2]
        longest = max(height, width)
        steps = -(-longest * self._side // (self._tile_px * INPUT_MULTIPLE))
        most = GRID_STRIDE * math.sqrt(MOST_CELLS * longest / min(height, width))
        size = min(steps, int(most / INPUT_MULTIPLE)) * INPUT_MULTIPLE
        return Letterbox(height, width, size) if size > self._side else None

    def _merged(
        self, letterbox: Letterbox, whole: Segmentation, parts: Sequence[tuple[ImageTile, Segmentation]]
    ) -> Segmentation:
        """One segmentation on the finer grid: tiles' regions before those of the whole where both found one."""
        boxes, scores, owners, rows = [whole.boxes_xyxy], [whole.scores], [np.full(len(whole.scores), -1)], []
        rows.append(np.arange(len(whole.scores)))
        for number, (tile, found) in enumerate(parts):
            top, left = tile.place[:2]
            moved = found.boxes_xyxy + np.array([left, top, left, top], dtype=np.float32)
            kept = np.flatnonzero(~tile.cut(moved, letterbox.input_shape))
            boxes.append(letterbox.boxes_to_image(moved[kept]))
            scores.append(found.scores[kept])
            owners.append(np.full(len(kept), number))
            rows.append(kept)
        box, score, owner, row = (np.concatenate(part) for part in (boxes, scores, owners, rows))
        kept = self._suppressed(box, score, owner >= 0)
        masks = np.zeros((len(kept), *letterbox.grid_size), dtype=np.bool_)
        of_whole = owner[kept] < 0
        masks[of_whole] = letterbox.regrid(whole.masks[row[kept][of_whole]], whole.letterbox)
        for number, (tile, found) in enumerate(parts):
            mine = owner[kept] == number
            y1, x1, y2, x2 = (edge // GRID_STRIDE for edge in tile.place)
            masks[mine, y1:y2, x1:x2] = found.masks[row[kept][mine]]
        masks &= letterbox.coverage > 0
        filled = masks.any(axis=(1, 2))
        return Segmentation(
            letterbox=letterbox,
            boxes_xyxy=box[kept][filled],
            scores=score[kept][filled],
            masks=masks[filled],
            features=TiledMap([(tile, found.features) for tile, found in parts], self.feature_dimension),
        )

    def _suppressed(self, boxes: FloatArray, scores: FloatArray, tiled: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Rows to keep, by falling score: of boxes that overlap, the tile's, then the better."""
        description = self.segmenter.description
        ranks = torch.from_numpy(scores + tiled)  # scores are in [0, 1]
        kept = import_torchvision().ops.nms(torch.from_numpy(boxes), ranks, float(description["iou"])).numpy()
        by_score = kept[np.argsort(-scores[kept], kind="stable")]
        return np.asarray(by_score[: MOST_REGIONS * int(description["max_detections"])], dtype=np.intp)


def tiles_of(shape: tuple[int, int], side: int) -> list[ImageTile]:
    """The tiles of a scaled image of (height, width), both multiples of 32: all of one size, evenly spread."""
    rows, columns = (_spans(length, side) for length in shape)
    return [ImageTile(place=(y[0], x[0], y[1], x[1]), own=(y[2], x[2], y[3], x[3])) for y in rows for x in columns]


def _spans(length: int, side: int) -> list[tuple[int, int, int, int]]:
    """Along one axis: where each tile begins and ends, and where what is its own does."""
    if length <= side:
        return [(0, length, 0, length)]
    overlap = side // OVERLAP
    count = -(-(length - overlap) // (side - overlap))
    steps = np.linspace(0, (length - side) // INPUT_MULTIPLE, count).round().astype(int) * INPUT_MULTIPLE
    starts = steps.tolist()
    borders = [(before + side + after) // 2 // INPUT_MULTIPLE * INPUT_MULTIPLE for before, after in pairwise(starts)]
    return [
        (start, start + side, low, high)
        for start, low, high in zip(starts, [0, *borders], [*borders, length], strict=True)
    ]
