"""How good codes are, without labels: against the float neighbours of held-out rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from searchanything.core.codes import hamming, unit_rows
from searchanything.core.types import Codes, FloatArray
from searchanything.hash_training.neighbours import largest_columns

QUERIES: Final = 1000
NEIGHBOURS: Final = 10
DEPTHS: Final = (10, 100)
LEAST_JUDGED: Final = 20  # figures of fewer rows are chance
SHOWN_PAIRS: Final = 400  # of a scatter plot: enough to see its shape
FIGURE_NAMES: Final[Mapping[str, tuple[str, str]]] = {
    "recall_10_at_10": ("recall@10", "share of the 10 float neighbours among the 10 nearest codes"),
    "recall_10_at_100": ("recall@100", "share of the 10 float neighbours among the 100 nearest codes"),
    "rank_correlation": ("rank correlation", "Spearman's, of cosine and Hamming similarity, mean over queries"),
    "bit_entropy": ("bit entropy", "mean over bits; 1: as many ones as zeros"),
    "bit_correlation": ("bit correlation", "mean absolute correlation of two bits; 0: independent"),
    "collision_rate": ("collisions", "share of rows that share their code with another row"),
}
RECALLS: Final = ("recall_10_at_10", "recall_10_at_100")  # at each of `DEPTHS`


def shown_figure(value: float | None) -> str:
    """A figure as tables show it."""
    return "–" if value is None else f"{value:.4f}"


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """Figures of one set of codes over `rows` held-out rows, of which `queries` ask.

    `recall_10_at_10`, `recall_10_at_100`: share of a query's 10 float neighbours among its 10 or 100 nearest codes; a
    query is not its own neighbour, and equal distances go by row. `rank_correlation`: Spearman's, of cosine and
    Hamming similarity to all rows, mean over queries. `bit_entropy`: mean over bits, 1 at best. `bit_correlation`: mean
    absolute correlation of two bits, 0 at best. `collision_rate`: share of the rows that share their code with another
    row. `cosines`, `distances_bits` (pairs,) and `bit_means` (bits,) are for plots.
    """

    rows: int
    queries: int
    recall_10_at_10: float
    recall_10_at_100: float
    rank_correlation: float
    bit_entropy: float
    bit_correlation: float
    collision_rate: float
    cosines: FloatArray
    distances_bits: NDArray[np.int32]
    bit_means: FloatArray

    @property
    def says_something(self) -> bool:
        """Whether there are rows enough for figures."""
        return self.rows >= LEAST_JUDGED

    def figures(self) -> dict[str, float | None]:
        """The figures by name, rounded for people and JSON.

        None for a recall that could only be 1, as it looks at all other rows, and for all where there are too few rows.
        """
        known = {name: round(float(getattr(self, name)), 5) for name in FIGURE_NAMES if self.says_something}
        depths = zip(RECALLS, DEPTHS, strict=True)
        return dict.fromkeys(FIGURE_NAMES) | known | {name: None for name, depth in depths if self.rows - 1 <= depth}

    def to_dict(self) -> dict[str, Any]:
        """The figures, and over how many rows."""
        return {"rows": self.rows, "queries": self.queries, **self.figures()}


def judge_codes(codes: Codes, standardised: FloatArray, *, seed: int = 0) -> Judgement:
    """Judge `codes` (n, bits / 8) of `standardised` rows (n, d), whose cosines define the float neighbours.

    Raises: ValueError for fewer than three rows.
    """
    if len(codes) < 3 or len(codes) != len(standardised):
        raise ValueError(f"expected codes of at least 3 rows, got {len(codes)} for {len(standardised)} rows")
    count = len(codes)
    generator = np.random.default_rng([seed, 4])
    asking = np.sort(generator.choice(count, min(QUERIES, count), replace=False))
    unit = unit_rows(standardised)
    cosines, distances = unit[asking] @ unit.T, hamming(codes[asking], codes)
    others = np.ones(cosines.shape, dtype=bool)
    others[np.arange(len(asking)), asking] = False
    cosines, distances = cosines[others].reshape(len(asking), -1), distances[others].reshape(len(asking), -1)
    bits = np.unpackbits(codes, axis=1)
    shown = generator.integers(cosines.size, size=SHOWN_PAIRS)
    recalls = _recalls(cosines, distances)
    return Judgement(
        rows=count,
        queries=len(asking),
        recall_10_at_10=recalls[0],
        recall_10_at_100=recalls[1],
        rank_correlation=_rank_correlation(cosines, distances),
        bit_entropy=_entropy(bits),
        bit_correlation=_correlation(bits),
        collision_rate=_collision_rate(codes),
        cosines=cosines.ravel()[shown],
        distances_bits=distances.ravel()[shown],
        bit_means=bits.mean(axis=0, dtype=np.float32),
    )


def _recalls(cosines: FloatArray, distances: NDArray[np.int32]) -> list[float]:
    """At each of `DEPTHS`."""
    count = min(NEIGHBOURS, cosines.shape[1])
    wanted = np.zeros(cosines.shape, dtype=bool)
    np.put_along_axis(wanted, largest_columns(cosines, count), True, axis=1)  # noqa: FBT003 (numpy's own signature)
    found = np.take_along_axis(wanted, largest_columns(-distances.astype(np.float32), max(DEPTHS)), axis=1)
    return [float(found[:, :depth].sum(axis=1).mean() / count) for depth in DEPTHS]


def _rank_correlation(cosines: FloatArray, distances: NDArray[np.int32]) -> float:
    """Pearson's correlation of ranks; equal distances share their mean rank."""
    ours = np.stack([_mean_ranks(-row) for row in distances])
    theirs = np.empty(cosines.shape)
    np.put_along_axis(theirs, np.argsort(cosines, axis=1), np.arange(cosines.shape[1], dtype=np.float64), axis=1)
    ours, theirs = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (ours, theirs))
    scales = np.sqrt((ours**2).sum(axis=1) * (theirs**2).sum(axis=1))
    products = (ours * theirs).sum(axis=1)
    return float(np.divide(products, scales, out=np.zeros_like(products), where=scales > 0).mean())


def _mean_ranks(values: NDArray[np.int32]) -> NDArray[np.float64]:
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    ranks: NDArray[np.float64] = ((ends - sizes + ends - 1) / 2)[group]
    return ranks


def _entropy(bits: NDArray[np.uint8]) -> float:
    ones = np.clip(bits.mean(axis=0), 1e-12, 1 - 1e-12)
    return float(-(ones * np.log2(ones) + (1 - ones) * np.log2(1 - ones)).mean())


def _correlation(bits: NDArray[np.uint8]) -> float:
    """A bit that never changes correlates with nothing; its entropy tells of it."""
    centred = bits - bits.mean(axis=0, dtype=np.float32)
    spread = np.sqrt((centred**2).mean(axis=0))
    centred = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)
    correlations = np.abs(centred.T @ centred / len(bits))
    pairs = len(correlations) * (len(correlations) - 1)
    return float((correlations.sum() - np.trace(correlations)) / max(1, pairs))


def _collision_rate(codes: Codes) -> float:
    _, group, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    return float((counts[group.ravel()] > 1).mean())
