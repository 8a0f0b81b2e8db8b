"""The nearest of many packed codes: by faiss' scan where faiss is installed, else by NumPy's, with the same result."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchanything.core.codes import hamming
from searchanything.core.types import Codes

Nearest: TypeAlias = tuple[
    NDArray[np.int64], NDArray[np.int32]
]  # numbers of codes and their distances in bits, (M,) each
_SPARE = 64  # rows beyond the limit in the first scan: most often they hold all that are as far as the last one


def nearest_codes(queries: Codes, codes: Codes, limit: int) -> list[Nearest]:
    """For each of (Q, B) queries `limit` nearest of (N, B) contiguous codes and the last one's ties, unordered.

    The ties are for the caller to settle, so that none is chosen by chance.
    """
    library = faiss()
    if len(codes) <= limit:
        everything = np.arange(len(codes))
        return [(everything, distances) for distances in hamming(queries, codes)]
    if library is None:
        return [_by_numpy(query, codes, limit) for query in queries]
    return _by_faiss(library, queries, codes, limit)


@cache
def faiss() -> ModuleType | None:
    """The library, None where it is not installed: it is an extra, because two OpenMP libraries in one process can fail
    to agree on a Mac (docs/adr/0073).
    """
    try:
        return importlib.import_module("faiss")  # by name: it has no types
    except ImportError:
        return None


@contextlib.contextmanager
def one_thread(library: ModuleType) -> Iterator[None]:
    """faiss on this thread alone: a second one has nothing to do for a single query, and is waited for."""
    before = library.omp_get_max_threads()
    library.omp_set_num_threads(1)  # of regions that this thread begins; others keep theirs
    try:
        yield
    finally:
        library.omp_set_num_threads(before)


def _by_numpy(query: Codes, codes: Codes, limit: int) -> Nearest:
    distances = hamming(query[None], codes)[0]
    farthest = np.partition(distances, limit - 1)[limit - 1]
    numbers = np.flatnonzero(distances <= farthest)
    return numbers, distances[numbers]


def _by_faiss(library: ModuleType, queries: Codes, codes: Codes, limit: int) -> list[Nearest]:
    count = min(len(codes), limit + max(limit, _SPARE))
    queries = np.ascontiguousarray(queries)
    with one_thread(library) if len(queries) == 1 else contextlib.nullcontext():
        distances, numbers = library.knn_hamming(queries, codes, count)
    found: list[Nearest] = []
    for query, near, which in zip(queries, distances, numbers, strict=True):
        farthest = int(near[limit - 1])
        if count == len(codes) or near[-1] > farthest:
            wanted = near <= farthest
            found.append((which[wanted], near[wanted]))
        else:  # more ties than were fetched
            found.append(_within(library, query, codes, farthest))
    return found


def _within(library: ModuleType, query: Codes, codes: Codes, radius: int) -> Nearest:
    """All codes that differ in at most `radius` bits."""
    result = library.RangeSearchResult(1)
    pointers = library.swig_ptr(np.ascontiguousarray(query)), library.swig_ptr(codes)
    library.hamming_range_search(*pointers, 1, len(codes), radius + 1, codes.shape[1], result)  # strictly below
    size = int(library.rev_swig_ptr(result.lims, 2)[1])
    numbers = library.rev_swig_ptr(result.labels, size).astype(np.int64)
    return numbers, library.rev_swig_ptr(result.distances, size).astype(np.int32)
