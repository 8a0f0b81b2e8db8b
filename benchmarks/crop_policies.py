"""How pico (or another preset) does under each crop policy on COCO instances, and with the mean of two kinds of crops.

python benchmarks/crop_policies.py --images DIR --annotations FILE [--category KEY] [--limit-images N] [--json FILE]

Every image is segmented once and every distinct crop embedded once. Codes are those of an untrained hash layer, which
favours no policy; `float` is the cosine of what a hash layer is given.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from searchanything import wiring
from searchanything.core.codes import unit_rows
from searchanything.core.protocols import RegionEncoder, Segmentation, Segmenter
from searchanything.core.settings import ModelSettings, Settings
from searchanything.core.types import FloatArray, RGBImage
from searchanything.encode.encoder import Encoder, RegionJob, Stopwatch
from searchanything.evaluation.coco import read_coco
from searchanything.evaluation.running import EvaluationOptions, evaluate
from searchanything.images.crop_policy import CropPolicy

FIGURES = {
    "box": ("prompts", "box"),
    "text": ("prompts", "text"),
    "one of 10 words": ("prompts", "naming"),
    "mAP@10 float": ("retrieval", "float", "map_10"),
    "mAP@10 256 bits": ("retrieval", "bits_256", "map_10"),
}


def _key(pixels: RGBImage) -> bytes:
    return blake2b(np.ascontiguousarray(pixels), digest_size=16).digest()


@dataclass
class SeenOnce:
    """A segmenter and an embedder that remember every image and every crop."""

    segmenter: Segmenter
    embedder: RegionEncoder
    images: dict[bytes, Segmentation] = field(default_factory=dict)
    crops: dict[bytes, FloatArray] = field(default_factory=dict)

    @property
    def feature_dimension(self) -> int:
        return self.segmenter.feature_dimension

    @property
    def dimension(self) -> int:
        return self.embedder.dimension

    @property
    def crop_size_px(self) -> int:
        return self.embedder.crop_size_px

    @property
    def description(self) -> Mapping[str, str | int | float]:
        return {}

    def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        keys = [_key(image) for image in images]
        for key, image in zip(keys, images, strict=True):
            if key not in self.images:
                (self.images[key],) = self.segmenter.segment([image])
        return [self.images[key] for key in keys]

    def embed_crops(self, crops: RGBImage) -> FloatArray:
        keys = [_key(crop) for crop in crops]
        new = {key: place for place, key in enumerate(keys) if key not in self.crops}
        if new:
            embedded = self.embedder.embed_crops(crops[list(new.values())])
            self.crops |= dict(zip(new, embedded, strict=True))
        rows = [self.crops[key] for key in keys]
        return np.stack(rows) if rows else np.zeros((0, self.dimension), dtype=np.float32)

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        return self.embedder.embed_texts(texts)


class MeanOfTwo(Encoder):
    """Embeds each region as the mean of its box and its masked crop."""

    def embed_regions(
        self, jobs: Sequence[RegionJob], *, crops: CropPolicy | None = None, watch: Stopwatch | None = None
    ) -> FloatArray:
        """(R, D) float32 of unit length. Raises: ValueError for crops of one kind."""
        if crops is not None:
            raise ValueError(f"expected no policy beside the mean of two, got {crops}")
        kinds = (CropPolicy.BOX, CropPolicy.MASKED)
        return unit_rows(
            np.mean([Encoder.embed_regions(self, jobs, crops=kind, watch=watch) for kind in kinds], axis=0)
        )


def encoders(preset: str, settings: Settings) -> dict[str, Encoder]:
    """One encoder for each policy, all with the same memory."""
    base = wiring.load_encoder(preset, wiring.hash_layer_of(preset, "untrained", settings), settings)
    memory = SeenOnce(base.segmenter, base.embedder)
    base = replace(base, segmenter=memory, embedder=memory)
    found = {policy.value: replace(base, crops=policy) for policy in CropPolicy}
    mean = MeanOfTwo(memory, memory, base.hasher, base.policy, base.box_min_iou)
    return {**found, "mean of box and masked": mean}


def figures_of(report: Mapping[str, Any]) -> dict[str, float]:
    """The figures that a policy may change."""
    found: dict[str, dict[str, float]] = {}
    for name, path in FIGURES.items():
        value: Any = report
        for part in path:
            value = value[part]
        found[name] = round(value, 4)
    return found


def main() -> None:
    """Print a table; write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="pico")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--category")
    parser.add_argument("--limit-images", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    truth = read_coco(options.annotations, category=options.category).sample(options.limit_images, seed=0)
    settings = Settings(models=ModelSettings(threads=options.threads))
    found: dict[str, dict[str, float]] = {}
    for name, encoder in encoders(options.preset, settings).items():
        found[name] = figures_of(evaluate(truth, options.images, encoder, EvaluationOptions(ablations=False)))
        print(f"{name:24}", *(f"{figure} {value:.3f}  " for figure, value in found[name].items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
