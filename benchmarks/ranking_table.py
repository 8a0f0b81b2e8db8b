"""One line for everything that `benchmarks/ranking.py` compares: means before and after, and the paired difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """`count` questions, asked in two ways; `low` and `high` bound the mean difference (95 %, paired bootstrap)."""

    what: str
    data: str
    figure: str
    ways: tuple[str, str]
    count: int
    before: float
    after: float
    gain: float
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """Plain types, to four digits."""
        return {name: round(one, 4) if isinstance(one, float) else one for name, one in asdict(self).items()}


def compared(what: str, data: str, figure: str, before: tuple[str, Values], after: tuple[str, Values]) -> Line:
    """A line of two ways' figures, (Q,) each, question by question; NaN in either leaves a question out."""
    asked = ~(np.isnan(before[1]) | np.isnan(after[1]))
    one, other = before[1][asked], after[1][asked]
    low, high = interval(other - one)
    means = float(one.mean()), float(other.mean())
    return Line(what, data, figure, (before[0], after[0]), len(one), *means, float((other - one).mean()), low, high)


def interval(differences: Values) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean."""
    drawn = np.random.default_rng(0).choice(differences, (RESAMPLES, len(differences))).mean(axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def markdown(lines: Sequence[Line]) -> str:
    """The table."""
    head = ["| what | data | figure | questions | from | to | difference (95 %) |", "|---|---|---|---|---|---|---|"]
    rows = [
        f"| {one.what} | {one.data} | {one.figure} | {one.count} | {one.ways[0]} {one.before:.3f}"
        f" | {one.ways[1]} {one.after:.3f} | {one.gain:+.3f} [{one.low:+.3f}, {one.high:+.3f}] |"
        for one in lines
    ]
    return "\n".join(head + rows)
