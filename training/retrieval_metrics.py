"""How well embeddings find the same concept in another image, and match regions with names."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mean_average_precision(
    scores: NDArray[np.float32],
    relevant: NDArray[np.bool_],
    *,
    admissible: NDArray[np.bool_],
    depth: int = 10,
) -> float:
    """mAP@depth over the queries that have anything relevant to find; 0.0 when none has.

    `scores` (Q, N), the higher the closer; `relevant`, `admissible` (Q, N) bool: a query's own image is not admissible.
    Average precision at a depth: mean precision at the ranks of the hits, over min(depth, number of relevant).
    """
    wanted = relevant & admissible
    answerable = np.flatnonzero(wanted.any(1))
    precisions = []
    for query in answerable:
        ranked = np.argsort(np.where(admissible[query], -scores[query], np.inf), kind="stable")[:depth]
        hits = wanted[query, ranked]
        at_rank = np.cumsum(hits) / np.arange(1, len(ranked) + 1)
        precisions.append(float((at_rank * hits).sum()) / min(depth, int(wanted[query].sum())))
    return float(np.mean(precisions)) if precisions else 0.0


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
