"""What a hash layer finds of annotated regions among 10^5 and 10^6 others.

python -m benchmarks.levers --images DIR --annotations FILE [--category KEY] --only nothing --evidence EVIDENCE
python -m benchmarks.hash_crowd --evidence EVIDENCE --features FEATURES.parquet [--rows 0 100000 1000000]
                                [--hash FILE] [--json FILE]

EVIDENCE is what the preset saw of the annotated images, FEATURES.parquet is of `training.region_features`: the others
are mixtures of two of its rows with noise, as in `benchmarks.ranking`, and relevant to nobody. mAP@10 as `eval coco`
has it, by float features as the layer weighs and maps them, by bits, and with the first 100 rescored; recall10@10 of
the neighbours by these features. 95 % intervals over the queries.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import measuring
from benchmarks.hash_layers import Task, shown, with_ends
from benchmarks.ranking_rescoring import mixtures
from searchanything import wiring
from searchanything.core.codes import joined_features
from searchanything.core.digests import Numbers
from searchanything.core.settings import Settings
from searchanything.core.types import Codes, FloatArray
from searchanything.evaluation.evidence import Evidence, RowsOf
from searchanything.evaluation.measures import DEPTH, Values, average_precision
from searchanything.evaluation.ranking import NOBODY, nearest, rescored, signs, units
from searchanything.features.parquet import FeatureBatch
from searchanything.hash_training.standardising import Standardisation
from searchanything.models.hashing import HashLayer

FIRST = 10


@dataclass(frozen=True, slots=True, eq=False)
class Crowd:
    """The task's rows, R of them, and behind them others: `codes` (R + N, B), `mapped` (R + N, d) float32."""

    task: Task
    codes: Codes
    mapped: FloatArray
    projections: FloatArray  # (R, bits), of the task's rows alone

    @classmethod
    def of(cls, task: Task, layer: HashLayer, others: FloatArray) -> Crowd:
        """`others` (N, C + D): both blocks at unit length."""
        rows, split = np.concatenate([task.joined, others]), task.split
        own = task.joined
        return cls(
            task,
            layer.encode(rows[:, :split], rows[:, split:]),
            Standardisation.of_layer(layer).apply(rows),
            layer.project(own[:, :split], own[:, split:]),
        )

    def ranked(self, rows_of: RowsOf) -> Numbers:
        """The first rows of each query among all, (Q, DEPTH)."""
        own = len(self.task.joined)
        index = np.concatenate([self.task.index, np.arange(own, len(self.codes))])

        def barred(places: Numbers, block: Numbers) -> NDArray[np.bool_]:
            out = np.zeros((len(places), len(block)), dtype=np.bool_)
            out[:, block < own] = self.task.relevance.barred(places, block[block < own])
            return out

        return nearest(rows_of, self._queries, index, barred=barred, depth=DEPTH)

    @property
    def _queries(self) -> Numbers:
        return self.task.evidence.instances.row[self.task.queries]

    def average_precisions(self, ranked: Numbers) -> Values:
        """AP@10 of each query."""
        known = np.where(ranked < len(self.task.joined), ranked, NOBODY)
        right = self.task.relevance.found(known) != NOBODY
        return average_precision(right, self.task.relevance.possible, depth=FIRST)

    def figures(self) -> dict[str, list[float]]:
        """By name, mean and 95 % interval."""
        by_float, by_bits = self.ranked(units(lambda rows: self.mapped[rows])), self.ranked(signs(self.codes))
        again = by_bits.copy()
        for place, row in enumerate(self._queries.tolist()):
            again[[place]] = rescored(by_bits[[place]], self.projections[[row]], self.codes)
        near = by_float[:, None, :FIRST]

        def kept(ranked: Numbers) -> Values:
            return np.asarray((ranked[:, :FIRST, None] == near).any(axis=2).mean(axis=1))

        return {
            "mAP@10 float": with_ends(self.average_precisions(by_float)),
            "mAP@10 bits": with_ends(self.average_precisions(by_bits)),
            "mAP@10 rescored": with_ends(self.average_precisions(again)),
            "recall10@10 bits": with_ends(kept(by_bits)),
            "recall10@10 rescored": with_ends(kept(again)),
        }


def main() -> None:
    """Print a table; write JSON where asked."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--evidence", type=Path, required=True, help="of benchmarks.levers; a file of your own alone")
    parser.add_argument("--features", type=Path, required=True, help="what the others are drawn from")
    parser.add_argument("--rows", type=int, nargs="+", default=[0, 100_000, 1_000_000])
    parser.add_argument("--hash", type=Path, help="a layer in place of pico's")
    options = parser.parse_args()
    evidence: Evidence = pickle.loads(options.evidence.read_bytes())  # noqa: S301 - written by benchmarks.levers
    settings = Settings()
    layer = HashLayer.from_bytes(wiring.hash_layer_of("pico", options.hash, settings))
    source = wiring.open_features(str(options.features), mask_dimension=None, settings=settings)
    parts = list(source.batches())
    features = FeatureBatch(*(np.concatenate([getattr(one, name) for one in parts]) for name in ("mask", "image")))
    task = Task.of(evidence, layer.mask_dimension)
    found: dict[str, Any] = {}
    for count in options.rows:
        others = joined_features(*mixtures(features.mask, features.image, count, np.random.default_rng(17)))
        found[f"{count:,}"] = Crowd.of(task, layer, others).figures()
        print(f"{count:>10,} others", *(f"{name} {shown(one)}" for name, one in found[f"{count:,}"].items()), sep="  ")
    measuring.write(found, options.json)


if __name__ == "__main__":
    main()
