"""Rows of images, on disk, and images ranked by their nearest row: exact, in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from searchanything.core.codes import joined_features
from searchanything.core.digests import Numbers
from searchanything.core.types import Codes, FloatArray
from searchanything.encode.encoder import Encoder, RegionJob
from searchanything.evaluation.evidence import RowsOf, Spool
from searchanything.evaluation.measures import DEPTH
from searchanything.evaluation.ranking import NOBODY, signs, units
from searchanything.evaluation.spaces import space_name

_IMAGES_AT_ONCE: Final = 256
_QUERIES_AT_ONCE: Final = 1024


@dataclass(frozen=True, slots=True, eq=False)
class ImageRows:
    """R rows: their images (R,), rising; `joined` (R, C + D) float16 on disk; `codes` (R, B); `projections` (R, bits).

    `pairs` (n, 2): row and instance, where the row lies on it. `shown`, `area_px` (n,): of each pair, the instance and
    its area; of queries there is one pair for each row.
    """

    image: Numbers
    joined: NDArray[np.float16]
    codes: Codes
    projections: FloatArray
    pairs: Numbers
    area_px: NDArray[np.float64]

    @property
    def shown(self) -> Numbers:
        """(n,) the instance of each pair."""
        return self.pairs[:, 1]


class RowsKept:
    """Gathers the rows of images, one image after the other; features lie on disk until `close`."""

    def __init__(self, encoder: Encoder) -> None:
        self.count = 0
        self._encoder = encoder
        self._spool = Spool(encoder.segmenter.feature_dimension + encoder.embedder.dimension)
        self._images: list[Numbers] = []
        self._codes: list[Codes] = [np.zeros((0, encoder.hasher.bits // 8), dtype=np.uint8)]
        self._projections: list[FloatArray] = [np.zeros((0, encoder.hasher.bits), dtype=np.float32)]
        self._pairs: list[tuple[int, int, float]] = []

    def add(self, image: int, job: RegionJob, lying_on: list[tuple[int, int, float]]) -> None:
        """Rows of one image; `lying_on` are (row of the job, instance, its area)."""
        rows = len(job.masks)
        if rows:
            pooled, embedded = self._encoder.pool_masks([job]), self._encoder.embed_regions([job])
            self._spool.append(joined_features(pooled, embedded))
            self._codes.append(self._encoder.hasher.encode(pooled, embedded))
            self._projections.append(self._encoder.hasher.project(pooled, embedded))
        self._images.append(np.full(rows, image, dtype=np.int64))
        self._pairs += [(row + self.count, instance, area) for row, instance, area in lying_on]
        self.count += rows

    def close(self) -> None:
        """Give the disk space back; rows that were handed out stay readable."""
        self._spool.close()

    def all_rows(self) -> ImageRows:
        """All rows so far."""
        return ImageRows(
            image=np.concatenate([np.zeros(0, dtype=np.int64), *self._images]),
            joined=self._spool.rows(),
            codes=np.concatenate(self._codes),
            projections=np.concatenate(self._projections),
            pairs=np.array([pair[:2] for pair in self._pairs], dtype=np.int64).reshape(-1, 2),
            area_px=np.array([pair[2] for pair in self._pairs], dtype=np.float64),
        )


@dataclass(frozen=True, slots=True, eq=False)
class RankedImages:
    """For Q queries the nearest images, (Q, K), nearest first, and the row of each that was nearest; -1 where none."""

    images: Numbers
    rows: Numbers


def rank_images(queries: ImageRows, rows: ImageRows, *, images: int, seed: int) -> Iterator[tuple[str, RankedImages]]:
    """The images by their nearest row, by float cosine, by codes, and by the query's real values against codes.

    A query's own image is left out; of equally near images the order is drawn by the seed.
    """
    bits = space_name(8 * rows.codes.shape[1])
    stored = signs(rows.codes)
    spaces: dict[str, tuple[RowsOf, RowsOf]] = {
        "float": (units(_floats(queries)), units(_floats(rows))),
        bits: (signs(queries.codes), stored),
        f"{bits}_rescored": (lambda numbers: queries.projections[numbers], stored),
    }
    order = np.random.default_rng(seed).permutation(images)
    for name, (asked, rows_of) in spaces.items():
        yield name, _ranked(queries.image, asked, rows, rows_of, order=order)


def _floats(rows: ImageRows) -> RowsOf:
    return lambda numbers: rows.joined[numbers].astype(np.float32)


def _ranked(own: Numbers, asked: RowsOf, rows: ImageRows, rows_of: RowsOf, *, order: Numbers) -> RankedImages:
    depth = min(DEPTH, len(order))
    found = RankedImages(*(np.full((len(own), depth), NOBODY, dtype=np.int64) for _ in range(2)))
    starts = np.searchsorted(rows.image, np.arange(len(order) + 1))
    for first in range(0, len(own), _QUERIES_AT_ONCE):
        places = np.arange(first, min(first + _QUERIES_AT_ONCE, len(own)))
        scores, nearest = _nearest_rows(asked(places), rows_of, starts)
        scores[np.arange(len(places)), own[places]] = -np.inf
        best = order[np.argsort(-scores[:, order], axis=1, kind="stable")[:, :depth]]
        there = np.isfinite(np.take_along_axis(scores, best, axis=1))
        found.images[places] = np.where(there, best, NOBODY)
        found.rows[places] = np.where(there, np.take_along_axis(nearest, best, axis=1), NOBODY)
    return found


def _nearest_rows(asked: FloatArray, rows_of: RowsOf, starts: Numbers) -> tuple[FloatArray, Numbers]:
    """(q, images): the similarity of each image's nearest row, -inf without any, and which row it is."""
    images = len(starts) - 1
    scores = np.full((len(asked), images), -np.inf, dtype=np.float32)
    nearest = np.full((len(asked), images), NOBODY, dtype=np.int64)
    for first in range(0, images, _IMAGES_AT_ONCE):
        last = min(first + _IMAGES_AT_ONCE, images)
        similar = asked @ rows_of(np.arange(starts[first], starts[last])).T
        for image in range(first, last):
            own = similar[:, starts[image] - starts[first] : starts[image + 1] - starts[first]]
            if own.shape[1]:
                nearest[:, image] = own.argmax(axis=1) + starts[image]
                scores[:, image] = own.max(axis=1)
    return scores, nearest
