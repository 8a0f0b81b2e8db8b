"""Binary codes: what they are made of, packing, distance, and the total order of generations."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable

import numpy as np

from searchanything.core.types import Codes, FloatArray

_RANDOM_BITS = 10
_SPREAD_NS = 1 << 20  # above a generation from a clock that runs ahead, which other workers may take at this moment
_CODES_AT_ONCE = 8192
_lock = threading.Lock()
_last = 0


def joined_features(mask_features: FloatArray, image_features: FloatArray) -> FloatArray:
    """What the hash layer sees, [f_M / |f_M|, f_I / |f_I|]: (N, C), (N, D) -> (N, C + D) float32; zeros stay zero."""
    return np.concatenate([unit_rows(mask_features), unit_rows(image_features)], axis=1)


def pack_signs(activations: FloatArray) -> Codes:
    """(N, L) activations -> (N, L // 8) uint8: bit is 1 where the activation is > 0, first bit highest.

    Raises: ValueError if L is not a multiple of 8.
    """
    if activations.ndim != 2 or activations.shape[1] % 8:
        raise ValueError(f"expected (N, a multiple of 8) activations, got {activations.shape}")
    return np.packbits(activations > 0, axis=1)


def code_signs(codes: Codes) -> FloatArray:
    """(N, B) packed codes -> (N, 8 · B) float32, ±1 by bit."""
    return np.unpackbits(codes, axis=1).astype(np.float32) * 2 - 1


def stacked(codes: Iterable[bytes], bits: int) -> Codes:
    """Packed codes, as rows hold them, one below the other: N times bits // 8 bytes -> (N, bits // 8) uint8.

    Raises: ValueError if they are not of that length.
    """
    rows = list(codes)
    joined = np.frombuffer(b"".join(rows), dtype=np.uint8)
    if len(joined) * 8 != len(rows) * bits:
        raise ValueError(f"expected {len(rows)} codes of {bits} bits, got {len(joined)} bytes")
    return joined.reshape(len(rows), bits // 8)


def hamming(queries: Codes, codes: Codes) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    """Hamming distances between (Q, B) and (N, B) packed codes -> (Q, N) int32, in bits."""
    if queries.ndim != 2 or codes.ndim != 2 or queries.shape[1] != codes.shape[1]:
        raise ValueError(f"expected (Q, B) and (N, B) codes of one length, got {queries.shape} and {codes.shape}")
    words = np.uint64 if queries.shape[1] % 8 == 0 else np.uint8
    wide, narrow = (np.ascontiguousarray(one).view(words) for one in (queries, codes))
    distances = np.empty((len(queries), len(codes)), dtype=np.int32)
    for row, query in zip(distances, wide, strict=True):
        for start in range(0, len(codes), _CODES_AT_ONCE):  # what is between lies in the processor's cache
            counts = np.bitwise_count(narrow[start : start + _CODES_AT_ONCE] ^ query)
            part = row[start : start + _CODES_AT_ONCE]
            part[:] = counts[:, 0]
            for column in counts.T[1:]:
                part += column
    return distances


def next_generation(*, after: int = 0) -> int:
    """A time-ordered number that is unique among workers: nanoseconds since 1970, the lowest 10 bits random.

    Above `after` even where that came from a clock that runs ahead. Fits a signed 64-bit integer until the year 2262;
    strictly rising within a process.
    """
    global _last
    with _lock:
        number = time.time_ns() >> _RANDOM_BITS << _RANDOM_BITS | secrets.randbelow(1 << _RANDOM_BITS)
        if number <= after:  # for other workers, too, which then differ by more than the lowest bits
            number = after + 1 + secrets.randbelow(_SPREAD_NS)
        _last = max(number, _last + 1)
        return _last


def generation_at(*, age_s: float) -> int:
    """Below it lie all generations that were taken more than `age_s` ago, by this machine's clock."""
    return max(0, time.time_ns() - round(age_s * 1e9))


def unit_rows(rows: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: FloatArray = np.divide(rows, lengths, out=np.zeros_like(rows, dtype=np.float32), where=lengths != 0)
    return scaled
