"""What float features with other weights, and layers of other methods and lengths, find of the same annotated regions.

python -m benchmarks.levers --images DIR --annotations FILE [--category KEY] --only nothing --evidence EVIDENCE
python -m benchmarks.hash_layers --evidence EVIDENCE --features FEATURES.parquet [--mask-share 0.02] [--seeds 3]
                                 [--class-column class] [--json FILE]

EVIDENCE is what the preset saw of the annotated images. Layers are trained here on FEATURES.parquet, of
`training.region_features`. mAP@10 is that of `eval coco`, by bits and with the first 100 rescored as search does, with
95 % intervals over the queries; recall10@10 is that of the float neighbours (cosine of the standardised features) among
all indexed regions. Figures of layers are means over the seeds. Prefixes of prefix-ordered bits, and of others, are
compared with layers of that length, and with a column of classes layers that know them with those that do not, query
by query.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import measuring
from searchanything import wiring
from searchanything.core.digests import Numbers
from searchanything.core.settings import Settings
from searchanything.core.types import FloatArray
from searchanything.evaluation.evidence import Evidence, RowsOf
from searchanything.evaluation.measures import DEPTH, Values, average_precision, interval, mean, resampled_means
from searchanything.evaluation.ranking import NOBODY, nearest, rescored, signs, units
from searchanything.evaluation.relevance import Relevance
from searchanything.features.parquet import FeatureBatch
from searchanything.hash_training.judging import judge_codes
from searchanything.hash_training.standardising import Standardisation
from searchanything.hash_training.training import BITS, HashMethod, TrainingOptions, train_hash
from searchanything.models.hashing import HashLayer

SHARES: Final = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.0)  # of f_M in the squared length of float features
FORMER_SHARE: Final = 0.1
PREFIXES: Final = (64, 128)
SHOWN: Final[tuple[HashMethod, ...]] = ("pca-rotation", "itq", "deep")
Found = Mapping[str, Values]  # by figure, (Q,) per query or (1,) for the index as a whole


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """The queries of an evaluation and what they ask among. `split` is C, where f_I begins."""

    evidence: Evidence
    queries: Numbers
    index: Numbers
    relevance: Relevance
    split: int

    @classmethod
    def of(cls, evidence: Evidence, split: int) -> Task:
        """Every instance that is no crowd asks, in `eval`'s own order of rows for seed 0."""
        queries = np.flatnonzero(~evidence.instances.crowd)
        index = np.random.default_rng(0).permutation(np.flatnonzero(evidence.rows.kept[:, 0]))
        return cls(evidence, queries, index, Relevance.of(evidence, queries), split)

    @property
    def joined(self) -> FloatArray:
        """All rows, [f_M / |f_M|, f_I / |f_I|]."""
        return np.asarray(self.evidence.rows.joined, dtype=np.float32)

    def average_precisions(self, rows_of: RowsOf, again: Callable[[Numbers, Numbers], Numbers] | None = None) -> Values:
        """AP@10 of each query."""
        rows = self.evidence.instances.row[self.queries]
        ranked = nearest(rows_of, rows, self.index, barred=self.relevance.barred, depth=DEPTH)
        ranked = ranked if again is None else again(rows, ranked)
        right = self.relevance.found(ranked) != NOBODY
        return average_precision(right, self.relevance.possible, depth=10)


def weighted_float(task: Task, share: float) -> Found:
    """Cosine of both blocks, f_M with a share of the squared length."""
    columns = task.joined.shape[1]
    weights = np.repeat(np.sqrt([share, 1 - share]), [task.split, columns - task.split]).astype(np.float32)
    rows = task.joined * weights
    return {"map_10": task.average_precisions(units(lambda numbers: rows[numbers]))}


def layer_figures(task: Task, layer: HashLayer) -> Found:
    """By bits, rescored, and how many float neighbours the codes keep."""
    rows = task.joined
    mask, image = rows[:, : task.split], rows[:, task.split :]
    codes, projections = layer.encode(mask, image), layer.project(mask, image)
    standardised = Standardisation.of_layer(layer).apply(rows[task.index])
    judged = judge_codes(codes[task.index], standardised)
    return {
        "map_10": task.average_precisions(signs(codes)),
        "map_10_rescored": task.average_precisions(
            signs(codes), lambda asked, ranked: rescored(ranked, projections[asked], codes)
        ),
        "recall_10_at_10": np.array([judged.recall_10_at_10]),
    }


def layers_of(features: FeatureBatch, *, mask_share: float, seed: int) -> dict[str, HashLayer]:
    """By name, every layer that is compared."""

    plain = replace(features, classes=None)

    def trained(
        bits: int, share: float, *, ordered: bool = False, rows: FeatureBatch = plain
    ) -> Mapping[str, HashLayer]:
        options = TrainingOptions("pca-rotation", bits, seed, share, prefix_ordered=ordered)
        return train_hash([rows], options=options).layers

    found: dict[str, HashLayer] = {}
    for bits in BITS:
        layers = trained(bits, mask_share)
        found |= {f"{bits} bits, {method}": layers[method] for method in SHOWN}
        if features.classes is not None:
            layers = trained(bits, mask_share, rows=features)
            found |= {f"{bits} bits with classes, {method}": layers[method] for method in SHOWN}
    found["256 bits, mask share 0.1, deep"] = trained(256, FORMER_SHARE)["deep"]
    ordered = trained(256, mask_share, ordered=True)
    for method in ("pca-rotation", "itq"):
        whole = found[f"256 bits, {method}"]
        found[f"256 ordered bits, {method}"] = ordered[method]
        for bits in PREFIXES:
            found[f"first {bits} of 256 bits, {method}"] = whole.prefix(bits)
            found[f"first {bits} of 256 ordered bits, {method}"] = ordered[method].prefix(bits)
    return found


def figures(task: Task, features: FeatureBatch, *, mask_share: float, seeds: int) -> dict[str, Found]:
    """By name: per query, the mean over the seeds."""
    runs: dict[str, list[Found]] = {}
    for seed in range(seeds):
        for name, layer in layers_of(features, mask_share=mask_share, seed=seed).items():
            runs.setdefault(name, []).append(layer_figures(task, layer))
    floats = {f"float, f_M with {share:g} of the squared length": weighted_float(task, share) for share in SHARES}
    return floats | {
        name: {figure: np.mean([run[figure] for run in found], axis=0) for figure in found[0]}
        for name, found in runs.items()
    }


def with_ends(values: Values) -> list[float]:
    """Mean, and over queries the 95 % interval."""
    ends = interval(resampled_means({"": values}, seed=0)[""]) if len(values) > 1 else None
    return [round(float(one), 4) for one in (mean(values) or 0.0, *(ends or ()))]


def differences(found: Mapping[str, Found]) -> dict[str, dict[str, list[float]]]:
    """Each cut code, the whole ordered one, and those with classes, less the plain layer of that length."""
    less: dict[str, dict[str, list[float]]] = {}
    for name, ours in found.items():
        head, _, method = name.rpartition(", ")
        words = head.split()
        if words[0] == "first" or {"ordered", "classes"} & set(words):
            length = words[1] if words[0] == "first" else words[0]
            theirs = found[f"{length} bits, {method}"]
            less[name] = {figure: with_ends(ours[figure] - theirs[figure]) for figure in ours}
    return less


def shown(values: list[float], *, signed: bool = False) -> str:
    """`0.571 (0.536 to 0.606)`."""
    number, *ends = (f"{one:+.3f}" if signed else f"{one:.3f}" for one in values)
    return f"{number} ({' to '.join(ends)})" if ends else number


def main() -> None:
    """Print a table; write JSON where asked."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--evidence", type=Path, required=True, help="of benchmarks.levers; a file of your own alone")
    parser.add_argument("--features", type=Path, required=True, help="what layers are trained on")
    parser.add_argument("--mask-share", type=float, default=0.02)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--class-column", help="of --features; layers that know classes are compared as well")
    options = parser.parse_args()
    evidence: Evidence = pickle.loads(options.evidence.read_bytes())  # noqa: S301 - written by benchmarks.levers
    source = wiring.open_features(
        str(options.features), mask_dimension=None, settings=Settings(), class_column=options.class_column
    )
    parts = list(source.batches())
    blocks = ["mask", "image", *(["classes"] if options.class_column else [])]
    features = FeatureBatch(*(np.concatenate([getattr(one, name) for one in parts]) for name in blocks))
    task = Task.of(evidence, features.mask.shape[1])
    found = figures(task, features, mask_share=options.mask_share, seeds=options.seeds)
    result: dict[str, Any] = {"rows": len(features.mask), "mask_share": options.mask_share, "seeds": options.seeds}
    result["figures"] = {name: {figure: with_ends(one) for figure, one in own.items()} for name, own in found.items()}
    result["less_trained_at_that_length"] = differences(found)
    for part in ("figures", "less_trained_at_that_length"):
        print(part.replace("_", " "))
        for name, own in result[part].items():
            cells = (f"{figure} {shown(one, signed=part != 'figures')}" for figure, one in own.items())
            print(f"  {name:48}", *cells, sep="  ", flush=True)
    measuring.write(result, options.json)


if __name__ == "__main__":
    main()
