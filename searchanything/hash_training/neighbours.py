"""Nearest neighbours of float features by cosine, and what varies between neighbours, or within a class."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from searchanything.core.codes import unit_rows
from searchanything.core.types import FloatArray
from searchanything.features.parquet import NO_CLASS
from searchanything.hash_training.rotations import covariance

ANCHORS: Final = 4096  # rows whose neighbours are looked for: the scatter of a few thousand is stable
_NEIGHBOURS: Final = 3
_RIDGE: Final = 1.0  # of the mean eigenvalue: directions without any scatter are not blown up
_CHUNK_ROWS = 512


def largest_columns(scores: FloatArray, count: int) -> NDArray[np.intp]:
    """The columns (Q, count) of the largest scores (Q, N), largest first; equal scores by column."""
    return np.asarray(np.argsort(-scores, axis=1, kind="stable")[:, :count], dtype=np.intp)


def neighbour_whitening(rows: FloatArray, *, strength: float, generator: np.random.Generator) -> FloatArray:
    """A symmetric map (d, d) that shrinks the directions in which near neighbours differ: S^(-strength / 2).

    S is the mean outer product of a row's differences to its three nearest others, with a ridge. With `strength` 1 and
    true classes in place of neighbours this is Relevant Component Analysis (Bar-Hillel et al., Learning a Mahalanobis
    metric from equivalence constraints, JMLR 2005); neighbours in place of classes need no labels. Where neighbours
    differ in all directions alike (isotropic features) it is a multiple of the identity. The mean squared length of
    the mapped rows is 1.
    """
    anchors = generator.choice(len(rows), min(ANCHORS, len(rows)), replace=False)
    return whitened(_scatter(rows, anchors), rows[anchors], strength=strength)


def whitened(scatter: NDArray[np.float64], rows: FloatArray, *, strength: float) -> FloatArray:
    """S^(-strength / 2) of a scatter (d, d) with a ridge, scaled so that the mapped rows' mean squared length is 1."""
    values, vectors = np.linalg.eigh(scatter)
    scales = (np.maximum(values, 0) + _RIDGE * max(float(values.mean()), 1e-12)) ** (-strength / 2)
    whitening = (vectors * scales) @ vectors.T
    second = float(np.einsum("ij,ij->", whitening @ covariance(rows), whitening))  # of whitened rows: tr(A C A)
    length = np.sqrt(max(second, 1e-12))
    return np.asarray(whitening / length, dtype=np.float32)


def class_whitening(rows: FloatArray, classes: NDArray[np.int64], *, strength: float) -> FloatArray | None:
    """A symmetric map (d, d) that shrinks the directions in which rows of one class differ: S^(-strength / 2).

    S is the mean outer product of a row's difference to its class' mean, over all rows whose class has others; None
    where fewer than two classes have. With `strength` 1 it is Relevant Component Analysis (source above), with a ridge.
    """
    kinds, counts = np.unique(classes[classes != NO_CLASS], return_counts=True)
    known = np.flatnonzero(np.isin(classes, kinds[counts > 1]))
    if (counts > 1).sum() < 2:
        return None
    _, places, counts = np.unique(classes[known], return_inverse=True, return_counts=True)
    sums, moments = np.zeros((len(counts), rows.shape[1])), np.zeros((rows.shape[1], rows.shape[1]))
    for first in range(0, len(known), _CHUNK_ROWS):
        chunk = rows[known[first : first + _CHUNK_ROWS]].astype(np.float64)
        np.add.at(sums, places[first : first + _CHUNK_ROWS], chunk)
        moments += chunk.T @ chunk
    within = (moments - (sums / counts[:, None]).T @ sums) / len(known)
    return whitened(within, rows, strength=strength)


def _scatter(rows: FloatArray, anchors: NDArray[np.intp]) -> NDArray[np.float64]:
    unit, count = unit_rows(rows), min(_NEIGHBOURS, len(rows) - 1)
    scatter = np.zeros((rows.shape[1], rows.shape[1]))
    for first in range(0, len(anchors), _CHUNK_ROWS):
        chunk = anchors[first : first + _CHUNK_ROWS]
        scores = unit[chunk] @ unit.T
        scores[np.arange(len(chunk)), chunk] = -np.inf  # a row is not its own neighbour
        near = np.argpartition(scores, -count, axis=1)[:, -count:] if count else np.empty((len(chunk), 0), np.intp)
        differences = (rows[chunk][:, None] - rows[near]).reshape(-1, rows.shape[1])
        scatter += differences.T @ differences
    return scatter / max(1, len(anchors) * count)
