"""How well whole photographs find photographs of the same class, by float features and by codes.

    python -m training.whole_images --images data/grocery --preset pico

`--images` holds photographs and `index.json`: `rows` of (file, fine class, coarse class), and `fine`, `coarse`: the
classes' names by the fine class (`marcusklasson/GroceryStoreDataset`, MIT). Every photograph of one fifth of them is a
query among the others of that fifth; two of the same subject may stand in it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from searchanything import wiring
from searchanything.core.codes import joined_features
from searchanything.core.settings import ModelSettings, Settings
from searchanything.core.types import RGBImage
from searchanything.encode.encoder import Encoder, RegionJob
from searchanything.evaluation.evidence import RowsOf
from searchanything.evaluation.measures import interval, mean, resampled_means, retrieval_values
from searchanything.evaluation.ranking import nearest, signs, units
from searchanything.features.parquet import FeatureBatch

FIFTHS: Final = 5
DEPTH: Final = 100
_BATCH: Final = 16
_FIGURES: Final = ("precision_1", "map_10")


@dataclass(frozen=True, slots=True, eq=False)
class Photographs:
    """Files of classified photographs, N of them; `classes` (N,) int64 by granularity."""

    files: tuple[Path, ...]
    classes: Mapping[str, NDArray[np.int64]]

    def images(self) -> Iterator[RGBImage]:
        """The pixels, one photograph after the other."""
        for path in self.files:
            with Image.open(path) as stored:
                yield np.asarray(stored.convert("RGB"))


def read_photographs(folder: Path, remainder: int | None) -> Photographs:
    """The photographs of a folder whose place in `index.json` leaves this remainder modulo 5; None for all."""
    index = json.loads((folder / "index.json").read_text("utf-8"))
    rows = [row for place, row in enumerate(index["rows"]) if remainder is None or place % FIFTHS == remainder]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(index["coarse"]))}
    fine = np.array([row[1] for row in rows], dtype=np.int64)
    coarse = np.array([numbers[index["coarse"][label]] for label in fine.tolist()], dtype=np.int64)
    return Photographs(tuple(folder / row[0] for row in rows), {"fine": fine, "coarse": coarse})


def whole_features(encoder: Encoder, images: Sequence[RGBImage]) -> FeatureBatch:
    """f_M and f_I of whole images, as an index has them."""
    nothing = np.zeros(0, dtype=np.intp)
    jobs = [
        RegionJob.of_rows(image, segmentation, nothing, whole_image=True)
        for image, segmentation in zip(images, encoder.segmenter.segment(images), strict=True)
    ]
    return FeatureBatch(encoder.pool_masks(jobs), encoder.embed_regions(jobs))


def features_of(encoder: Encoder, photographs: Photographs) -> FeatureBatch:
    """Those of all photographs, a few at a time."""
    images = list(photographs.images())
    parts = [whole_features(encoder, images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
    return FeatureBatch(np.concatenate([one.mask for one in parts]), np.concatenate([one.image for one in parts]))


def figures_of(rows_of: RowsOf, classes: NDArray[np.int64], *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """precision@1 and mAP@10 of every photograph among the others, with 95 % intervals over the queries."""
    everybody = np.arange(len(classes))
    order = np.random.default_rng(seed).permutation(everybody)  # of equal distances: drawn, not by class
    ranked = nearest(rows_of, everybody, order, barred=lambda places, rows: places[:, None] == rows, depth=DEPTH)
    right = (classes[ranked] == classes[:, None]) & (ranked >= 0)
    values = retrieval_values(right, np.bincount(classes)[classes] - 1)
    means = resampled_means({name: values[name] for name in _FIGURES}, seed=seed)
    return {name: {"mean": mean(values[name]), "ci95": interval(means[name])} for name in _FIGURES}


def judge(encoder: Encoder, photographs: Photographs) -> dict[str, Any]:
    """All figures, by space and granularity."""
    features = features_of(encoder, photographs)
    joined = joined_features(features.mask, features.image)
    codes = encoder.hasher.encode(features.mask, features.image)
    spaces = {"float": units(lambda rows: joined[rows]), f"bits_{encoder.hasher.bits}": signs(codes)}
    return {
        name: {kind: figures_of(rows_of, classes) for kind, classes in photographs.classes.items()}
        for name, rows_of in spaces.items()
    }


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--images", type=Path, default=Path("data/grocery"))
    parser.add_argument("--remainder", type=int, default=0, choices=range(FIFTHS), help="place modulo 5")
    parser.add_argument("--preset", default="pico")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    settings = Settings(models=ModelSettings(threads=arguments.threads))
    layer = wiring.hash_layer_of(arguments.preset, None, settings)
    encoder = wiring.load_encoder(arguments.preset, layer, settings)
    photographs = read_photographs(arguments.images, arguments.remainder)
    print(json.dumps({"images": len(photographs.files), **judge(encoder, photographs)}, indent=1))


if __name__ == "__main__":
    main()
