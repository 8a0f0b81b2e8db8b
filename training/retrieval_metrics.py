"""How well embeddings find the same concept in another image, and match regions with names."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from searchanything.evaluation.measures import average_precision


def mean_average_precision(
    scores: NDArray[np.float32],
    relevant: NDArray[np.bool_],
    *,
    admissible: NDArray[np.bool_],
    depth: int = 10,
) -> float:
    """mAP@depth over the queries that have anything relevant to find; 0.0 when none has.

    `scores` (Q, N), the higher the closer; `relevant`, `admissible` (Q, N) bool: a query's own image is not admissible.
    Average precision is `searchanything.evaluation.measures.average_precision`, as in `searchanything eval`.
    """
    wanted = relevant & admissible
    answerable = wanted.any(1)
    if not answerable.any():
        return 0.0
    order = np.argsort(np.where(admissible, -scores, np.inf), axis=1, kind="stable")[answerable, :depth]
    hits = np.take_along_axis(wanted[answerable], order, axis=1)
    return float(average_precision(hits, wanted[answerable].sum(1), depth=depth).mean())


def right_of_choices(
    anchors: NDArray[np.float32],
    candidates: NDArray[np.float32],
    *,
    choices: int,
    rounds: int,
    rng: np.random.Generator,
) -> float:
    """How often row i of `anchors` is closest to row i of `candidates` among it and others drawn at random.

    Both (n, d) float32, unit rows, with distinct meanings; chance is 1 / `choices`.
    """
    count = len(anchors)
    scores = anchors @ candidates.T
    right = 0
    for _ in range(rounds):
        for row in range(count):
            others = rng.choice(count - 1, choices - 1, replace=False)
            others = others + (others >= row)
            right += bool(scores[row, row] > scores[row, others].max())
    return right / (rounds * count)
