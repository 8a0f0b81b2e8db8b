"""The nearest by code in a better order: the query's real-valued projection against the stored bits (docs/adr/0057).

A query's code keeps the signs of its projection and loses by how much; the stored bits lose both, but nothing is stored
for this. The score is the cosine of the projection with the code's bits as ±1: Jégou et al. 2011 and Dong et al. 2008
call such a distance asymmetric. It orders a window of fixed depth, the first committed rows by distance; what lies
behind the window stays in its order. So the whole ranking is one, whatever page of it is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from searchanything.core.codes import stacked
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import WordsMatch, row_id
from searchanything.core.types import CodeKind, Codes, FloatArray, Hit

Match = TypeVar("Match", Hit, WordsMatch)
DIGITS: Final = 9  # of a score: sums that are equal but for the order of their terms tie
_BYTES_AS_SIGNS: Final = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) * 2.0 - 1.0  # (256, 8)


@dataclass(frozen=True, slots=True, eq=False)
class QueryValues:
    """A query's code (B,) uint8, and the projection (8 · B,) float32 that the code holds the signs of."""

    code: Codes
    projection: FloatArray


def mean_of(codes: Codes) -> QueryValues:
    """Several codes (N, B) as one question: the mean of their bits as ±1, whose signs are their majority.

    Where half say one and half the other, the first code's bit is taken; it then counts nothing in the score.
    """
    mean = (np.unpackbits(codes, axis=1) * 2.0 - 1.0).mean(axis=0).astype(np.float32)
    bits = np.where(mean == 0, np.unpackbits(codes[0]), mean > 0)
    return QueryValues(np.packbits(bits.astype(np.bool_)), mean)


@dataclass(frozen=True, slots=True)
class Ranked(Generic[Match]):
    """A match in its place, and its score where it was rescored."""

    match: Match
    score: float | None = None


def scored(hit: Hit, similarity: float | None) -> Hit:
    """A hit with the similarity that it was ranked by. Hundreds are made per search: `replace` takes thrice as long."""
    return hit if similarity is None else Hit.of(hit, hit.distance_bits, similarity=similarity)


def similarities(projection: FloatArray, codes: Codes) -> NDArray[np.float64]:
    """Cosines (N,) of a projection (8 · B,) with the bits of (N, B) codes as ±1. Equal codes have equal scores.

    Each byte of a code is looked up in a table of its 256 sums, so that a row's score depends on no other row.
    """
    values = projection.astype(np.float64)
    length = float(np.linalg.norm(values))
    if length == 0:
        return np.zeros(len(codes))
    tables = (values / (length * np.sqrt(len(values)))).reshape(-1, 8) @ _BYTES_AS_SIGNS.T
    found: NDArray[np.float64] = tables[np.arange(len(tables)), codes].sum(axis=1)
    return found.round(DIGITS)


@dataclass(slots=True, eq=False)
class Window(Generic[Match]):
    """Rescores the first `depth` rows of a ranking by distance. Codes are fetched once; `spent_ms` adds up the time."""

    index: RegionIndex
    projection: FloatArray
    depth: int
    of: CodeKind = "regions"
    spent_ms: float = 0.0
    rescored: int = 0
    lost_rows: bool = False
    _codes: dict[str, bytes] = field(default_factory=dict)

    def arrange(self, matches: Sequence[Match]) -> list[Ranked[Match]]:
        """Matches (by distance, ties settled) in their final order, without those that are gone by now."""
        start = time.perf_counter()
        head, tail = matches[: self.depth], matches[self.depth :]
        there, codes = self._with_codes(head)
        scores = similarities(self.projection, codes)
        self.rescored, self.lost_rows = len(there), len(there) < len(head)
        # A stable sort: where scores tie, the order by distance, bucket, key and region stays.
        places = np.argsort(-scores, kind="stable").tolist()
        arranged: list[Ranked[Match]] = [Ranked(there[place], float(scores[place])) for place in places]
        self.spent_ms += (time.perf_counter() - start) * 1000
        return arranged + [Ranked(one) for one in tail]

    def _with_codes(self, head: Sequence[Match]) -> tuple[list[Match], Codes]:
        """The rows that have codes, and those (N, B)."""
        ids = [row_id(one.image, one.generation, one.region) for one in head]
        unknown = [name for name in ids if name not in self._codes]
        if unknown:
            self._codes |= self.index.codes_of(unknown, of=self.of)
        there = [one for one, name in zip(head, ids, strict=True) if name in self._codes]
        return there, stacked((self._codes[name] for name in ids if name in self._codes), len(self.projection))
