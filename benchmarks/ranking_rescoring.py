"""How well answers are ordered by bits, rescored (docs/adr/0057) and by float features, for `benchmarks/ranking.py`.

Labelled regions are asked for each other, those of the query's own image left out: mean average precision and
precision@1 by label, and which of the ten neighbours by float features are among the ten. Synthetic rows: clustered
features through the same hash layer, and neighbours drawn near each query.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.ranking_data import Regions
from benchmarks.ranking_table import Line, Values, compared
from searchanything.core.codes import hamming, joined_features
from searchanything.core.protocols import Hasher
from searchanything.core.types import FloatArray
from searchanything.search.rescoring import similarities

DEPTHS = (100, 200, 400)
FIRST = 10
QUERIES = 300  # of the synthetic rows
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Q queries against candidates: what `orders` needs of one query, and which candidates are relevant."""

    projection: FloatArray
    distances: NDArray[np.int32]
    codes: NDArray[np.uint8]
    cosines: FloatArray
    relevant: NDArray[np.bool_] | None


def orders(task: Task) -> Iterator[tuple[str, Places]]:
    """The first places by each method, best first."""
    yield "float", np.argsort(-task.cosines, kind="stable")[: max(DEPTHS)]
    by_bits = np.argsort(task.distances, kind="stable")
    yield "bits", by_bits[: max(DEPTHS)]
    for depth in DEPTHS:
        window = by_bits[:depth]
        scores = similarities(task.projection, task.codes[window])
        yield f"rescored {depth}", window[np.argsort(-scores, kind="stable")]


def figures(tasks: Iterable[Task]) -> dict[str, dict[str, Values]]:
    """By method and figure, the values of all queries."""
    found: dict[str, dict[str, list[float]]] = {}
    for task in tasks:
        ranked = dict(orders(task))
        wanted = set(ranked["float"][:FIRST].tolist())
        for name, places in ranked.items():
            own = found.setdefault(name, {})
            own.setdefault("recall10@10", []).append(len(wanted & set(places[:FIRST].tolist())) / FIRST)
            if task.relevant is not None:
                hits = task.relevant[places[:FIRST]]
                own.setdefault("mAP@10", []).append(average_precision(hits, int(task.relevant.sum())))
                own.setdefault("precision@1", []).append(float(hits[0]))
    return {name: {what: np.array(one) for what, one in own.items()} for name, own in found.items()}


def rescoring_lines(data: str, found: Mapping[str, Mapping[str, Values]]) -> list[Line]:
    """Bits against each depth of rescoring, and against float."""
    others = [name for name in found if name != "bits"]
    return [
        compared("rescoring", data, figure, ("bits", values), (name, found[name][figure]))
        for figure, values in found["bits"].items()
        for name in others
        if not (name == "float" and figure == "recall10@10")  # which is 1
    ]


def average_precision(hits: NDArray[np.bool_], relevant: int) -> float:
    """Of the first places, over as many of the relevant as fit."""
    precisions = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precisions * hits).sum() / min(len(hits), relevant))


def labelled_tasks(regions: Regions, hasher: Hasher) -> list[Task]:
    """Each labelled region whose thing is in another image, against the regions of all other images."""
    codes, projections = hasher.encode(regions.mask, regions.image), hasher.project(regions.mask, regions.image)
    joined = joined_features(regions.mask, regions.image)
    tasks = []
    for row in np.flatnonzero(regions.labels >= 0):
        others = np.flatnonzero(regions.images != regions.images[row])
        relevant = regions.labels[others] == regions.labels[row]
        if relevant.any():
            distances = hamming(codes[[row]], codes[others])[0]
            tasks.append(Task(projections[row], distances, codes[others], joined[others] @ joined[row], relevant))
    return tasks


def mixtures(
    mask: FloatArray, image: FloatArray, count: int, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """So many rows of f_M and f_I, mixed of two real rows each, with noise, so that they lie as real ones."""
    pairs = generator.integers(0, len(mask), (2, count))
    shares = generator.beta(0.6, 0.6, (count, 1)).astype(np.float32)
    mixed = []
    for part in (mask, image):
        noise = generator.normal(size=(count, part.shape[1])).astype(np.float32) * part.std(axis=0) * 0.35
        mixed.append((shares * part[pairs[0]] + (1 - shares) * part[pairs[1]] + noise).astype(np.float32))
    return mixed[0], mixed[1]


def synthetic_tasks(regions: Regions, hasher: Hasher, rows: int) -> Iterator[Task]:
    """Queries among so many rows, all of them mixtures of real regions."""
    generator = np.random.default_rng(17)
    mask, image = mixtures(regions.mask, regions.image, rows, generator)
    codes, joined = hasher.encode(mask, image), joined_features(mask, image)
    asked = mixtures(regions.mask, regions.image, QUERIES, generator)
    own, projections, questions = hasher.encode(*asked), hasher.project(*asked), joined_features(*asked)
    for number in range(QUERIES):
        distances = hamming(own[[number]], codes)[0]
        yield Task(projections[number], distances, codes, joined @ questions[number], None)
