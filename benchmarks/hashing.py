"""Every hash method beside the others, paired over seeds: on pictogram scenes with labels, and on synthetic features.

python -m benchmarks.hashing --features FEATURES.npz [--bits 256] [--mask-share 0.1] [--strength 0.4] [--scenes-only]
                            [--json FILE]

FEATURES.npz is of `training.region_features`. Layers are fitted to the .parquet beside it, within which one part
chooses deep's step, and judged on the .npz, which chose nothing: mAP@10 region to region by concept, hits in the
query's own image left out, also with all rescored by the query's real values, and recall10@100 of the float neighbours
(cosine of the standardised features). Synthetic: Gaussian features whose variances fall evenly from 1.3 to 0.7, nearly
isotropic, once with fewer and once with more dimensions than bits. Differences are deep less the baseline of the same
seed; the interval is Student's over the seeds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import measuring
from searchanything import wiring
from searchanything.core.codes import joined_features, unit_rows
from searchanything.core.settings import Settings
from searchanything.core.types import Codes, FloatArray
from searchanything.features.parquet import FeatureBatch
from searchanything.hash_training.judging import judge_codes
from searchanything.hash_training.standardising import Standardisation
from searchanything.hash_training.training import BITS, MASK_SHARE, METHODS, STRENGTH, TrainingOptions, train_hash
from searchanything.models.hashing import HashLayer
from training.retrieval_metrics import mean_average_precision

_T_95 = {
    1: 12.706,
    2: 4.303,
    3: 3.182,
    4: 2.776,
    5: 2.571,
    6: 2.447,
    7: 2.365,
    8: 2.306,
    9: 2.262,
}  # by degrees of freedom
_SYNTHETIC = ((192, 6000), (384, 6000))  # dimensions, rows
_JUDGED_ROWS = 3000


def scenes(path: Path, options: TrainingOptions) -> dict[str, dict[str, float]]:
    """Figures of each method on regions that were neither fitted to nor chosen by."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in ("mask", "image", "concepts", "images")}
    source = wiring.open_features(str(path.with_suffix(".parquet")), mask_dimension=None, settings=Settings())
    trained = train_hash(source.batches(), options=options)
    judged = FeatureBatch(arrays["mask"], arrays["image"])
    concepts, images = arrays["concepts"], arrays["images"]
    relevant, admissible = concepts[:, None] == concepts, images[:, None] != images
    figures = {}
    for method, layer in trained.layers.items():
        codes = layer.encode(judged.mask, judged.image)
        found = mean_average_precision(_code_scores(codes), relevant, admissible=admissible)
        rescored = _rescored_scores(layer, codes, judged)
        again = mean_average_precision(rescored, relevant, admissible=admissible)
        figures[method] = {"map_10": found, "map_10_rescored": again, **_neighbours(layer, codes, judged)}
    unit = unit_rows(_standardised(trained.layer, judged))
    figures["float"] = {"map_10": mean_average_precision(unit @ unit.T, relevant, admissible=admissible)}
    return figures


def synthetic(dimension: int, rows: int, options: TrainingOptions) -> dict[str, dict[str, float]]:
    """Figures of each method on nearly isotropic features, others than those that were fitted to."""
    generator = np.random.default_rng([options.seed, dimension])
    spread = np.sqrt(np.linspace(1.3, 0.7, dimension))
    drawn = (generator.standard_normal((rows + _JUDGED_ROWS, dimension)) * spread).astype(np.float32)
    trained = train_hash([FeatureBatch(drawn[:rows, :0], drawn[:rows])], options=options)
    judged = FeatureBatch(drawn[rows:, :0], drawn[rows:])
    return {
        method: _neighbours(layer, layer.encode(judged.mask, judged.image), judged)
        for method, layer in trained.layers.items()
    }


def _standardised(layer: HashLayer, features: FeatureBatch) -> FloatArray:
    return Standardisation.of_layer(layer).apply(joined_features(features.mask, features.image))


def _neighbours(layer: HashLayer, codes: Codes, features: FeatureBatch) -> dict[str, float]:
    """Figures by name: those that so many rows have."""
    figures = judge_codes(codes, _standardised(layer, features)).figures()
    return {name: value for name, value in figures.items() if value is not None}


def _code_scores(codes: Codes) -> NDArray[np.float32]:
    signs = np.unpackbits(codes, axis=1).astype(np.float32) * 2 - 1
    return signs @ signs.T


def _rescored_scores(layer: HashLayer, codes: Codes, features: FeatureBatch) -> NDArray[np.float32]:
    """Each row's real values against all codes as ±1."""
    projections = unit_rows(layer.project(features.mask, features.image))
    return np.asarray(projections @ (np.unpackbits(codes, axis=1).astype(np.float32) * 2 - 1).T, dtype=np.float32)


def paired(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Mean difference over seeds and half the width of its 95 % interval."""
    differences = np.subtract(ours, theirs)
    spread = float(differences.std(ddof=1)) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
    return float(differences.mean()), _T_95.get(len(differences) - 1, 1.96) * spread


def summary(runs: Sequence[dict[str, dict[str, float]]], names: Sequence[str]) -> dict[str, Any]:
    """Means over seeds, and deep less each baseline with its interval."""
    means = {
        method: {name: round(float(np.mean([run[method][name] for run in runs])), 4) for name in names if name in one}
        for method, one in runs[0].items()
    }
    differences = {
        method: {
            name: [round(value, 4) for value in paired(*([run[one][name] for run in runs] for one in ("deep", method)))]
            for name in names
            if name in runs[0][method]
        }
        for method in METHODS
        if method != "deep"
    }
    return {"means": means, "deep_less": differences}


def main() -> None:
    """Print a table; write JSON where asked."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--bits", type=int, choices=BITS, default=256)
    parser.add_argument("--mask-share", type=float, default=MASK_SHARE)
    parser.add_argument("--strength", type=float, default=STRENGTH, help="of the neighbour whitening of deep")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--scenes-only", action="store_true", help="leave the synthetic features out")
    arguments = parser.parse_args()
    started = time.perf_counter()
    bits, share = arguments.bits, arguments.mask_share
    plans = [
        TrainingOptions(bits=bits, mask_share=share, seed=seed, strength=arguments.strength)
        for seed in range(arguments.seeds)
    ]
    names = ("map_10", "map_10_rescored", "recall_10_at_10", "recall_10_at_100")
    result: dict[str, Any] = {
        "bits": bits,
        "mask_share": share,
        "strength": arguments.strength,
        "seeds": arguments.seeds,
    }
    result["scenes"] = summary([scenes(arguments.features, plan) for plan in plans], names)
    for dimension, rows in () if arguments.scenes_only else _SYNTHETIC:
        runs = [synthetic(dimension, rows, plan) for plan in plans]
        result[f"synthetic_{dimension}"] = summary(runs, names[2:])
    result["seconds"] = round(time.perf_counter() - started, 1)
    for part, found in ((name, value) for name, value in result.items() if isinstance(value, dict)):
        print(f"\n{part}")
        for method, figures in found["means"].items():
            print(f"  {method:14}" + "".join(f" {name} {value:.4f}" for name, value in figures.items()))
        for method, figures in found["deep_less"].items():
            shown = "".join(f" {name} {mean:+.4f} ± {half:.4f}" for name, (mean, half) in figures.items())
            print(f"  deep less {method:12}{shown}")
    measuring.write(result, arguments.json)


if __name__ == "__main__":
    main()
