"""Which rows are nearest to each query: exact, in blocks, with equal distances in an order that is fixed in advance.

Similarities are inner products. Codes take part as vectors of ±1, whose product is L - 2 x Hamming distance, exactly:
their ranking is that of the exact index.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchanything.core.codes import code_signs, unit_rows
from searchanything.core.digests import Numbers
from searchanything.core.types import Codes, FloatArray
from searchanything.evaluation.evidence import RowsOf
from searchanything.search.rescoring import similarities

Barred: TypeAlias = Callable[[Numbers, Numbers], NDArray[np.bool_]]  # queries (q,), rows (b,) -> (q, b)

NOBODY: Final = -1
_QUERIES_AT_ONCE: Final = 1024
_ROWS_AT_ONCE: Final = 16384  # with the queries: 64 MB of similarities


def nearest(rows_of: RowsOf, queries: Numbers, index: Numbers, *, barred: Barred, depth: int) -> Numbers:
    """For each of Q queries, given as rows, the `depth` nearest rows of the index, (Q, depth), nearest first.

    Equally near rows come in the index's order. `barred` gets places in `queries` and rows: what it bars for a query
    takes no place in that query's ranking. `NOBODY` (-1) fills up where the index is too small.
    """
    ranked = np.full((len(queries), depth), NOBODY, dtype=np.int64)
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        places = np.arange(start, min(start + _QUERIES_AT_ONCE, len(queries)))
        asked = rows_of(queries[places])
        best = np.full((len(places), depth), -np.inf, dtype=np.float32)
        rows = np.full((len(places), depth), NOBODY, dtype=np.int64)
        for first in range(0, len(index), _ROWS_AT_ONCE):
            block = index[first : first + _ROWS_AT_ONCE]
            similar = asked @ rows_of(block).T
            similar[barred(places, block)] = -np.inf
            columns = largest(similar, depth)
            best = np.concatenate([best, np.take_along_axis(similar, columns, axis=1)], axis=1)
            rows = np.concatenate([rows, block[columns]], axis=1)
            order = np.argsort(-best, axis=1, kind="stable")[:, :depth]
            best, rows = np.take_along_axis(best, order, axis=1), np.take_along_axis(rows, order, axis=1)
        ranked[places] = np.where(np.isfinite(best), rows, NOBODY)
    return ranked


def rescored(ranked: Numbers, projections: FloatArray, codes: Codes) -> Numbers:
    """Rankings (Q, K) of rows in the order of search's rescoring: Q projections against the rows' codes (R, B).

    Where these tie, the order stays; `NOBODY` stays behind.
    """
    again = ranked.copy()
    for rows, projection, place in zip(ranked, projections, again, strict=True):
        there = rows[rows != NOBODY]
        order = np.argsort(-similarities(projection, codes[there]), kind="stable")
        place[: len(there)] = there[order]
    return again


def largest(similar: FloatArray, count: int) -> NDArray[np.intp]:
    """Columns of the `count` largest of each row, in rising order; of equal ones the first: (Q, min(count, N))."""
    queries, columns = similar.shape
    if columns <= count:
        return np.broadcast_to(np.arange(columns), (queries, columns))
    bound = np.partition(similar, columns - count, axis=1)[:, columns - count, None]
    above = similar > bound
    equal = similar == bound
    places_left = count - above.sum(axis=1, keepdims=True)
    taken = above | (equal & (np.cumsum(equal, axis=1) <= places_left))
    return np.nonzero(taken)[1].reshape(queries, count)


def signs(codes: Codes) -> RowsOf:
    """Packed codes (R, B) as rows of ±1 float32."""
    return lambda numbers: code_signs(codes[numbers])


def units(rows_of: RowsOf) -> RowsOf:
    """Rows at unit length, so that products are cosines; zero rows stay zero."""
    return lambda numbers: unit_rows(rows_of(numbers))
