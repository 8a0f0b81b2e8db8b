"""How well answers are ordered: by bits, rescored (docs/adr/0057), and by float features; words over an index.

    python benchmarks/ranking.py [--scenes 120] [--street FOLDER --photographs 160] [--rows 100000] [--json FILE]

Labelled regions (`benchmarks/ranking_data.py`) are asked for each other, those of the query's own image left out: mean
average precision and precision@1 by label, and which of the ten neighbours by float features are among the ten.
Synthetic rows: clustered features through the same hash layer, and neighbours drawn near each query. Differences are
paired by query, with 95 % bootstrap intervals. `--features` keeps what the models computed, so that a second run needs
none.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ranking_data import Regions, load_preset, scene_regions, street_regions
from benchmarks.ranking_words import words_table
from searchanything.core.codes import hamming, joined_features
from searchanything.core.protocols import Hasher
from searchanything.core.types import FloatArray
from searchanything.search.rescoring import similarities

DEPTHS = (100, 200, 400)
FIRST = 10
RESAMPLES = 2000
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


def figures(tasks: Iterable[Task]) -> dict[str, Any]:
    """Each method's means, and the paired difference of rescoring to bits with its interval."""
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
    table = {name: {what: round(float(np.mean(one)), 4) for what, one in own.items()} for name, own in found.items()}
    gains = {
        name: {what: interval(np.subtract(one, found["bits"][what])) for what, one in own.items()}
        for name, own in found.items()
        if name.startswith("rescored")
    }
    queries = len(found["bits"]["recall10@10"])
    return {"queries": queries, "means": table, "gain over bits (95 %)": gains}


def average_precision(hits: NDArray[np.bool_], relevant: int) -> float:
    """Of the first places, over as many of the relevant as fit."""
    precisions = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precisions * hits).sum() / min(len(hits), relevant))


def interval(differences: NDArray[np.float64]) -> list[float]:
    """Mean and 95 % bootstrap interval of paired differences."""
    drawn = np.random.default_rng(0).choice(differences, (RESAMPLES, len(differences))).mean(axis=1)
    return [round(float(value), 4) for value in (differences.mean(), *np.percentile(drawn, (2.5, 97.5)))]


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


def synthetic_tasks(regions: Regions, hasher: Hasher, rows: int) -> Iterator[Task]:
    """Queries among so many rows: mixtures of two real regions' features with noise, so that they lie as real ones."""
    generator = np.random.default_rng(17)

    def drawn(count: int) -> tuple[FloatArray, FloatArray]:
        pairs = generator.integers(0, len(regions.labels), (2, count))
        shares = generator.beta(0.6, 0.6, (count, 1)).astype(np.float32)
        mixed = []
        for part in (regions.mask, regions.image):
            noise = generator.normal(size=(count, part.shape[1])).astype(np.float32) * part.std(axis=0) * 0.35
            mixed.append((shares * part[pairs[0]] + (1 - shares) * part[pairs[1]] + noise).astype(np.float32))
        return mixed[0], mixed[1]

    mask, image = drawn(rows)
    codes, joined = hasher.encode(mask, image), joined_features(mask, image)
    asked = drawn(QUERIES)
    own, projections, questions = hasher.encode(*asked), hasher.project(*asked), joined_features(*asked)
    for number in range(QUERIES):
        distances = hamming(own[[number]], codes)[0]
        yield Task(projections[number], distances, codes, joined @ questions[number], None)


def shown(name: str, found: Mapping[str, Any]) -> None:
    """One table."""
    print(f"\n{name}: {found['queries']} queries")
    for method, means in found["means"].items():
        gain = found["gain over bits (95 %)"].get(method, {})
        cells = []
        for what, mean in means.items():
            low_high = f" ({gain[what][0]:+.4f} [{gain[what][1]:+.4f}, {gain[what][2]:+.4f}])" if what in gain else ""
            cells.append(f"{what} {mean:.4f}{low_high}")
        print(f"  {method:13s} {'   '.join(cells)}")


def kept(path: Path | None, make: Any) -> Regions:  # noqa: ANN401  a function without arguments
    """Regions from a file where there is one, else made and kept there."""
    if path is not None and path.exists():
        return Regions.load(path)
    regions: Regions = make()
    if path is not None:
        regions.save(path)
    return regions


def main() -> None:
    """Print tables; write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="pico")
    parser.add_argument("--scenes", type=int, default=120)
    parser.add_argument("--seed", type=int, default=4242)
    parser.add_argument("--street", type=Path, help="folder of annotated photographs (training/street_annotations.py)")
    parser.add_argument("--photographs", type=int, default=160)
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000], help="synthetic rows; none: leave out")
    parser.add_argument("--features", type=Path, help="folder in which the regions' features are kept")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    encoder = load_preset(options.preset)
    places = {name: options.features / f"{name}.npz" if options.features else None for name in ("scenes", "street")}
    data = {"scenes": kept(places["scenes"], lambda: scene_regions(encoder, options.scenes, seed=options.seed))}
    if options.street:
        data["street"] = kept(places["street"], lambda: street_regions(encoder, options.street, options.photographs))
    document: dict[str, Any] = {"preset": options.preset, "rescoring": {}, "words": {}}
    for name, regions in data.items():
        document["rescoring"][name] = figures(labelled_tasks(regions, encoder.hasher))
        shown(name, document["rescoring"][name])
        document["words"][name] = words_table(encoder, regions)
    for rows in options.rows:
        name = f"{rows:,} synthetic rows"
        document["rescoring"][name] = figures(synthetic_tasks(data["scenes"], encoder.hasher, rows))
        shown(name, document["rescoring"][name])
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
