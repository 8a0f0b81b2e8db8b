"""The hash methods without a loss: random, principal and iteratively fitted rotations. All end in orthonormal rows.

Where the bits are more than the directions they project, the rows are several rotations of the same directions, one
below the other: an over-complete frame.

A prefix-ordered code is rotated in nested blocks: the first 64 directions among themselves give the first 64 bits, the
next 64 the bits up to 128, and so on, so that the first bits are a code of the strongest directions by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from searchanything.core.types import FloatArray
from searchanything.models.hashing import uniform_rotation

ITQ_ROUNDS: Final = 50  # Gong and Lazebnik's own number
PREFIXES: Final = (64, 128, 256)  # bits at which a prefix-ordered code may end before its whole length
_CHUNK_ROWS = 8192


def rotation_generator(seed: int) -> np.random.Generator:
    """All methods draw from here, so that those of one seed begin with the same rotation and can be compared."""
    return np.random.default_rng([seed, 5])


def random_projection(dimension: int, *, bits: int, generator: np.random.Generator) -> FloatArray:
    """Rows of random rotations (bits, dimension): orthogonal LSH.

    Source: Charikar, Similarity estimation techniques from rounding algorithms, STOC 2002; orthogonal as in Ji et al.,
    Super-bit locality-sensitive hashing, NeurIPS 2012.
    """
    blocks = [uniform_rotation(generator, dimension).T for _ in range(-(-bits // dimension))]
    return np.concatenate(blocks)[:bits].astype(np.float32)


def principal_components(rows: FloatArray, *, count: int) -> FloatArray:
    """The directions (at most `count`, d) of largest variance of centred rows (n, d), largest first."""
    values, vectors = np.linalg.eigh(covariance(rows))
    order = np.argsort(values)[::-1][: min(count, len(rows), rows.shape[1])]
    return np.ascontiguousarray(vectors[:, order].T, dtype=np.float32)


def covariance(rows: FloatArray) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Second moments (d, d) of centred rows."""
    return np.asarray(rows.T @ rows, dtype=np.float64) / len(rows)


def pca_rotation(
    rows: FloatArray, *, bits: int, generator: np.random.Generator, prefixes: Sequence[int] = ()
) -> FloatArray:
    """Principal components under random rotations, which even out their variances: (bits, d).

    `prefixes` are the lengths, rising, at which the code may be cut.

    Source: Jégou et al., Aggregating local descriptors into a compact image representation, CVPR 2010, section 3.
    """
    components = principal_components(rows, count=bits)
    blocks = [
        random_projection(part.stop - part.start, bits=count, generator=generator) @ components[part]
        for part, count in _blocks(bits, len(components), prefixes)
    ]
    return np.concatenate(blocks)


def itq(rows: FloatArray, *, bits: int, generator: np.random.Generator, prefixes: Sequence[int] = ()) -> FloatArray:
    """Iterative quantisation: rotations of the principal components that move them least to their signs: (bits, d).

    Each rotation of an over-complete frame is fitted from its own random start. `prefixes` as in `pca_rotation`.

    Source: Gong and Lazebnik, Iterative quantization, CVPR 2011, section 2.2.
    """
    components = principal_components(rows, count=bits)
    projected = rows @ components.T
    blocks = []
    for part, count in _blocks(bits, len(components), prefixes):
        width = part.stop - part.start
        fitted = [
            _fitted_rotation(projected[:, part], random_projection(width, bits=width, generator=generator))
            for _ in range(-(-count // width))
        ]
        blocks.append((np.concatenate(fitted)[:count] @ components[part]).astype(np.float32))
    return np.concatenate(blocks)


def _blocks(bits: int, directions: int, prefixes: Sequence[int]) -> Iterator[tuple[slice, int]]:
    """Which directions are rotated among themselves, and how many bits they give, in the order of the bits.

    Bits beyond the directions project all of them once more.
    """
    if not prefixes:
        yield slice(0, directions), bits
        return
    for first, end in pairwise((0, *(one for one in prefixes if one < bits), bits)):
        last = min(end, directions)
        if first < last:
            yield slice(first, last), last - first
        if last < end:
            yield slice(0, directions), end - max(first, last)


def _fitted_rotation(projected: FloatArray, rotation: FloatArray) -> FloatArray:
    """Alternate between the signs of the rotated rows and the rotation that fits them best (Procrustes)."""
    for _ in range(ITQ_ROUNDS):
        moments = np.zeros((len(rotation), projected.shape[1]))
        for first in range(0, len(projected), _CHUNK_ROWS):
            chunk = projected[first : first + _CHUNK_ROWS]
            moments += np.sign(chunk @ rotation.T).T @ chunk
        left, _, right = np.linalg.svd(moments)
        rotation = (left @ right).astype(np.float32)
    return rotation
