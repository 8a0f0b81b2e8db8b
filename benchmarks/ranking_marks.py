"""What five right and five wrong marks are worth: mAP@50 before and after, for `benchmarks/ranking.py`.

For each concept that is on many scenes, some regions ask; a person marks the first five right and the first five wrong
hits of the single query's answer, looking at 100 (right ones that are not there are added from beyond). The probe
searches the index as `SearchResults.refine` does. `all`: every region of other images counts, as a person sees the
answer; `unmarked`: what was marked is left out of both rankings, so that only what marks teach counts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ranking_table import Line, compared
from searchanything.core.codes import hamming
from searchanything.evaluation.measures import average_precision
from searchanything.search.probe import Probe

LEAST, DEPTH, MARKS, SEEN = 15, 50, 5, 100
Regions = dict[str, NDArray[Any]]


def marked_queries(regions: Regions, queries: int) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.intp]]]:
    """Queries with the right and the wrong hits that a person marks."""
    codes, concepts, images = regions["codes"], regions["concepts"], regions["images"]
    rng = np.random.default_rng(41)
    numbers, counts = np.unique(concepts[concepts >= 0], return_counts=True)
    for concept in numbers[counts >= LEAST]:
        for query in rng.permutation(np.flatnonzero(concepts == concept))[:queries]:
            order = np.argsort(hamming(codes[query][None], codes)[0], kind="stable")
            order = order[images[order] != images[query]]
            is_right = concepts[order] == concept
            is_wrong = ~is_right & (concepts[order] != -2)
            yield int(query), order[is_right][:MARKS], order[:SEEN][is_wrong[:SEEN]][:MARKS]


def precision_50(regions: Regions, scores: NDArray[np.float32], query: int, left_out: NDArray[np.intp]) -> float:
    """AP@50 of a ranking by falling scores, the query's own image and `left_out` not in it."""
    allowed = regions["images"] != regions["images"][query]
    allowed[left_out] = False
    right = (regions["concepts"] == regions["concepts"][query]) & allowed
    order = np.argsort(np.where(allowed, -scores, np.inf), kind="stable")[:DEPTH]
    return float(average_precision(right[order][None], np.array([right.sum()]), depth=DEPTH)[0])


def judged(regions: Regions, queries: int) -> tuple[dict[str, NDArray[np.float64]], float, float]:
    """AP@50 by figure, the mean cross-validated precision, and the mean milliseconds of a probe."""
    codes = regions["codes"]
    figures: dict[str, list[float]] = {}
    precisions, spent = [], 0.0
    for query, right, wrong in marked_queries(regions, queries):
        single = -hamming(codes[query][None], codes)[0].astype(np.float32)
        start = time.perf_counter()
        said_right = np.concatenate([codes[[query]], codes[right]])
        told_apart = hamming(said_right, codes[wrong]).min(axis=0, initial=len(codes[0]) * 8) > 0
        probe = Probe(said_right, codes[wrong[told_apart]], "benchmark")
        refined = probe.scores(codes)
        spent += time.perf_counter() - start
        precisions.append(probe.precision() or 0.0)
        for name, scores in (("single", single), ("refined", refined)):
            for kind, out in (("all", right[:0]), ("unmarked", np.concatenate([right, wrong]))):
                figures.setdefault(f"{name} {kind}", []).append(precision_50(regions, scores, query, out))
    values = {name: np.array(several) for name, several in figures.items()}
    return values, float(np.mean(precisions)), 1000 * spent / len(precisions)


def marks_lines(regions: Regions, queries: int) -> list[Line]:
    """The single query against the refined one; precision and milliseconds of the probes are printed."""
    values, precision, milliseconds = judged(regions, queries)
    print(f"\nmarks: cross-validated precision {precision:.3f}, {milliseconds:.1f} ms a probe")
    return [
        compared(
            "5 + 5 marks",
            f"scenes, {kind}",
            "mAP@50",
            *((way, values[f"{way} {kind}"]) for way in ("single", "refined")),
        )
        for kind in ("all", "unmarked")
    ]
