"""What five right and five wrong marks are worth: mAP@50 before and after, for `benchmarks/ranking.py`.

For each concept that is on many scenes, some regions ask; a person marks the first five right and the first five wrong
hits of the single query's answer, looking at 100 (right ones that are not there are added from beyond). The probe
scores as `SearchResults.refine` does in an index with words codes, `bits` as in one without. `all`: every region of
other images counts, as a person sees the answer; `unmarked`: what was marked is left out of both rankings, so that only
what marks teach counts; `part`: the query's region covers an object of the concept and at least as much besides.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ranking_table import Line, compared
from searchanything.core.codes import hamming
from searchanything.core.types import Codes
from searchanything.encode.encoder import Encoder
from searchanything.evaluation.measures import average_precision
from searchanything.hash_training.words_training import train_words
from searchanything.search.probe import MarkedWords, Probe

LEAST, DEPTH, MARKS, SEEN = 15, 50, 5, 100
COVERED, LARGEST, SMALLEST = 0.9, 0.5, 0.1  # share of an object within a region; of the region that the object takes
Places = NDArray[np.intp]
Regions = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Marking:
    """Regions with their codes and words codes, what each shows (`concepts`, as in REGIONS.npz), and their images."""

    codes: Codes
    words: Codes
    concepts: NDArray[np.int64]
    images: NDArray[np.int64]
    spent_s: list[float] = field(default_factory=list)
    precisions: list[float] = field(default_factory=list)

    def queries(self, queries: int) -> Iterator[int]:
        """Regions of each concept that is on many scenes."""
        rng = np.random.default_rng(41)
        for concept in self.frequent:
            yield from rng.permutation(np.flatnonzero(self.concepts == concept))[:queries].tolist()

    @property
    def frequent(self) -> NDArray[np.int64]:
        numbers, counts = np.unique(self.concepts[self.concepts >= 0], return_counts=True)
        return numbers[counts >= LEAST]

    def marks(self, query: int) -> tuple[Places, Places]:
        """The right and the wrong hits that a person marks."""
        order = np.argsort(hamming(self.codes[query][None], self.codes)[0], kind="stable")
        order = order[self.images[order] != self.images[query]]
        is_right = self.concepts[order] == self.concepts[query]
        is_wrong = ~is_right & (self.concepts[order] != -2)
        return order[is_right][:MARKS], order[:SEEN][is_wrong[:SEEN]][:MARKS]

    def scores(self, query: int, right: Places, wrong: Places) -> dict[str, NDArray[np.float32]]:
        """All regions' scores by way to answer."""
        start = time.perf_counter()
        said = np.concatenate([[query], right])
        told_apart = hamming(self.codes[said], self.codes[wrong]).min(axis=0, initial=len(self.codes[0]) * 8) > 0
        apart = wrong[told_apart]
        words = MarkedWords(self.words[said], self.words[apart], "benchmark")
        probe = Probe(self.codes[said], self.codes[apart], "benchmark", words)
        refined = probe.scores(self.codes, self.words)
        self.spent_s.append(time.perf_counter() - start)
        self.precisions.append(probe.precision() or 0.0)
        single = -hamming(self.codes[query][None], self.codes)[0].astype(np.float32)
        return {"single": single, "bits": probe.scores(self.codes), "refined": refined}

    def precision_50(self, scores: NDArray[np.float32], query: int, left_out: Places) -> float:
        """AP@50 of a ranking by falling scores, the query's own image and `left_out` not in it."""
        allowed = self.images != self.images[query]
        allowed[left_out] = False
        right = (self.concepts == self.concepts[query]) & allowed
        order = np.argsort(np.where(allowed, -scores, np.inf), kind="stable")[:DEPTH]
        return float(average_precision(right[order][None], np.array([right.sum()]), depth=DEPTH)[0])

    def judged(self, queries: Iterator[int]) -> dict[str, NDArray[np.float64]]:
        """AP@50 by way and kind."""
        figures: dict[str, list[float]] = {}
        for query in queries:
            right, wrong = self.marks(query)
            for name, scores in self.scores(query, right, wrong).items():
                for kind, out in (("all", right[:0]), ("unmarked", np.concatenate([right, wrong]))):
                    figures.setdefault(f"{name} {kind}", []).append(self.precision_50(scores, query, out))
        return {name: np.array(several) for name, several in figures.items()}


def covered(regions: Regions) -> NDArray[np.int64]:
    """Of each region without a concept that covers an object as a part, the concept of the largest such; else -1."""
    boxes, concepts, images = regions["boxes"].astype(np.float64), regions["concepts"], regions["images"]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    found = np.full(len(concepts), -1)
    for image in np.unique(images):
        rows = np.flatnonzero(images == image)
        objects, others = rows[concepts[rows] >= 0], rows[concepts[rows] < 0]
        if not len(objects):
            continue
        low = np.maximum(boxes[others, None, :2], boxes[None, objects, :2])
        high = np.minimum(boxes[others, None, 2:], boxes[None, objects, 2:])
        common = np.clip(high - low, 0, None).prod(axis=2)
        share = area[None, objects] / area[others, None]
        share = np.where((common / area[None, objects] >= COVERED) & (share <= LARGEST), share, 0)
        best = share.max(axis=1)
        found[others] = np.where(best > SMALLEST, concepts[objects[share.argmax(axis=1)]], -1)
    return found


def marks_lines(regions: Regions, encoder: Encoder, queries: int) -> list[Line]:
    """The single query against the refined one; precision and milliseconds of the probes are printed."""
    image_features = np.ascontiguousarray(regions["features"][:, -encoder.embedder.dimension :])
    words = train_words(image_features, encoder.everyday_words()).encode(image_features)
    marking = Marking(regions["codes"], words, regions["concepts"], regions["images"])
    values = marking.judged(marking.queries(queries))
    precision, milliseconds = np.mean(marking.precisions), 1000 * np.mean(marking.spent_s)
    print(f"\nmarks: cross-validated precision {precision:.3f}, {milliseconds:.1f} ms a probe")
    lines = [
        compared(
            "5 + 5 marks", f"scenes, {kind}", "mAP@50", *((way, values[f"{way} {kind}"]) for way in (before, "refined"))
        )
        for kind in ("all", "unmarked")
        for before in ("single", "bits")
    ]
    parts = covered(regions)
    with_parts = Marking(regions["codes"], words, np.where(parts >= 0, parts, regions["concepts"]), regions["images"])
    of_parts = with_parts.judged(iter(np.flatnonzero(np.isin(parts, marking.frequent)).tolist()))
    ways = [(way, of_parts[f"{way} unmarked"]) for way in ("single", "refined")]
    return [*lines, compared("5 + 5 marks", "scenes, part, unmarked", "mAP@50", ways[0], ways[1])]
