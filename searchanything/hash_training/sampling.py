"""What training keeps of a stream of features: exact moments of all rows, and a uniform sample of fixed size.

Memory does not depend on the number of rows: the moments are one number a column, the sample is at most `rows` rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from searchanything.core.codes import joined_features
from searchanything.core.errors import UsageError
from searchanything.core.types import FloatArray
from searchanything.features.parquet import NO_CLASS, FeatureBatch

RowsSeen = Callable[[int], None]


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSample:
    """Rows drawn from a stream of `seen` rows, and the stream's moments.

    `rows` (n, C + D) float32: f_M and f_I, each at unit length, side by side. `mean`, `variance` (C + D,) float64 are
    those of all rows that were seen. `classes` (n,) int64 as in `FeatureBatch`, none where no batch has any.
    """

    rows: FloatArray
    mask_dimension: int
    seen: int
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    classes: NDArray[np.int64] | None

    @property
    def known_classes(self) -> NDArray[np.int64]:
        """Each class once, rising."""
        return np.unique(self.classes[self.classes != NO_CLASS]) if self.classes is not None else np.zeros(0, np.int64)

    def split(self, *, choosing: int, judging: int, seed: int) -> tuple[FeatureSample, FloatArray, FloatArray]:
        """What to fit to, so many rows to choose by, and so many others to judge by, drawn by the seed.

        No row is in two of them. Moments stay those of all rows that were seen.
        """
        order = np.random.default_rng([seed, 1]).permutation(len(self.rows))
        judged, chosen, fitted = map(np.sort, np.split(order, [judging, judging + choosing]))
        classes = None if self.classes is None else self.classes[fitted]
        return replace(self, rows=self.rows[fitted], classes=classes), self.rows[chosen], self.rows[judged]


class _Moments:
    """Mean and variance of columns over batches (Chan, Golub and LeVeque, 1979: pairwise updates)."""

    def __init__(self, columns: int) -> None:
        self.count = 0
        self.mean = np.zeros(columns)
        self._squares = np.zeros(columns)

    def add(self, rows: FloatArray) -> None:
        mean = rows.mean(axis=0, dtype=np.float64)
        difference, total = mean - self.mean, self.count + len(rows)
        centred = rows - mean.astype(np.float32)
        self._squares += np.einsum("nd,nd->d", centred, centred, dtype=np.float64)
        self._squares += difference**2 * (self.count * len(rows) / total)
        self.mean += difference * (len(rows) / total)
        self.count = total

    @property
    def variance(self) -> NDArray[np.float64]:
        return self._squares / max(1, self.count)


def draw_sample(
    batches: Iterable[FeatureBatch], *, rows: int, seed: int, seen: RowsSeen = lambda _: None
) -> FeatureSample:
    """One pass over all batches. `seen` is told how many rows have gone by.

    Reservoir sampling (Vitter 1985, algorithm R): row t replaces a random one of the sample with probability rows / t,
    so that every row of a stream of unknown length is as likely to stay.

    Raises: UsageError for no rows, widths that change, or values that are not finite.
    """
    generator = np.random.default_rng([seed, 0])
    reservoir = moments = None
    mask_dimension, classes, classified = 0, np.full(rows, NO_CLASS, dtype=np.int64), False
    for batch, joined in _joined(batches):
        if reservoir is None or moments is None:
            mask_dimension = batch.mask.shape[1]
            reservoir, moments = np.empty((rows, joined.shape[1]), np.float32), _Moments(joined.shape[1])
        first = moments.count
        places = np.arange(first, first + len(joined))
        drawn = np.where(places < rows, places, generator.integers(places + 1))
        kept = drawn < rows
        reservoir[drawn[kept]] = joined[kept]  # of several rows for one place the last stays, as in the algorithm
        if batch.classes is not None:
            classes[drawn[kept]], classified = batch.classes[kept], True
        elif classified:
            classes[drawn[kept]] = NO_CLASS
        moments.add(joined)
        seen(moments.count)
    if reservoir is None or moments is None:
        raise UsageError("there are no features to train on")
    return FeatureSample(
        reservoir[: moments.count],
        mask_dimension,
        moments.count,
        moments.mean.copy(),
        moments.variance,
        classes[: moments.count] if classified else None,
    )


def _joined(batches: Iterable[FeatureBatch]) -> Iterator[tuple[FeatureBatch, FloatArray]]:
    """Batches that hold rows, with their blocks at unit length side by side."""
    widths = None
    for batch in batches:
        if not len(batch.mask):
            continue
        found = batch.mask.shape[1], batch.image.shape[1]
        if found != (widths or found):
            raise UsageError(f"expected {widths} mask and image features in every batch, got {found}")
        widths = found
        joined = joined_features(batch.mask, batch.image)
        if not np.isfinite(joined).all():
            raise UsageError("the features hold values that are not finite; write them again")
        yield batch, joined
