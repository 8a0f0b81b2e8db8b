"""Milliseconds per stage of the models, for one 640 x 480 image, and images per second in batches.

python benchmarks/models.py [--preset pico] [--repeat 10] [--json FILE]
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from benchmarks import measuring
from searchanything.core.protocols import Hasher, RegionEncoder, Segmenter
from searchanything.core.settings import ModelSettings
from searchanything.core.types import Codes, RGBImage
from searchanything.demo import __file__ as demo_file
from searchanything.images.crops import region_crops
from searchanything.models.presets import find_preset, load_hash, load_region_encoder, load_segmenter

T = TypeVar("T")
ASSETS = Path(demo_file).parent / "assets"
WIDTH, HEIGHT = 640, 480
CUTOUTS = 8
LARGEST = 25  # regions of an image that are indexed [S]
BATCH = 16


class Models:
    """A preset's models, and the way of images through them, timed by stage."""

    def __init__(self, preset: str) -> None:
        settings = ModelSettings()
        self.crops = find_preset(preset).crops
        self.segmenter: Segmenter = load_segmenter(preset, settings)
        self.encoder: RegionEncoder = load_region_encoder(preset, settings)
        self.hasher: Hasher = load_hash(preset)
        self.timings_ms: dict[str, float] = {}

    def encode(self, images: list[RGBImage]) -> Codes:
        """The codes of the largest regions of all images; leaves `timings_ms` behind."""
        self.timings_ms = {}
        found = self._timed("segment", lambda: self.segmenter.segment(images))
        chosen = [np.argsort(-one.letterbox.areas_px(one.masks))[:LARGEST] for one in found]
        pairs = list(zip(images, found, chosen, strict=True))
        pooled = self._timed("pool", lambda: [one.features.pool(one.masks[rows]) for _, one, rows in pairs])
        size_px = self.encoder.crop_size_px
        crops = self._timed(
            "crops",
            lambda: [
                region_crops(
                    image, one.letterbox, one.masks[rows], one.boxes_xyxy[rows], size_px=size_px, policy=self.crops
                )
                for image, one, rows in pairs
            ],
        )
        embedded = self._timed("embed", lambda: self.encoder.embed_crops(np.concatenate(crops)))
        return self._timed("hash", lambda: self.hasher.encode(np.concatenate(pooled), embedded))

    def _timed(self, stage: str, work: Callable[[], T]) -> T:
        started = time.perf_counter()
        result = work()
        self.timings_ms[stage] = (time.perf_counter() - started) * 1000
        return result


def scene(seed: int) -> RGBImage:
    """Pictograms on a photograph, both out of the demo's assets."""
    generator = np.random.default_rng(seed)
    backdrops, cutouts = (sorted((ASSETS / name).iterdir()) for name in ("backdrops", "cutouts"))
    image = Image.open(backdrops[seed % len(backdrops)]).convert("RGB").resize((WIDTH, HEIGHT))
    for number in generator.choice(len(cutouts), CUTOUTS, replace=False):
        side = int(generator.integers(40, 200))
        cutout = Image.open(cutouts[number]).convert("RGBA").resize((side, side))
        place = int(generator.integers(0, WIDTH - side)), int(generator.integers(0, HEIGHT - side))
        image.paste(cutout, place, cutout)
    return np.asarray(image)


def measure(preset: str, repeat: int) -> dict[str, Any]:
    """Medians and the best over `repeat` images one by one, and the rate of one batch; a first pass warms up."""
    models = Models(preset)
    images = [scene(seed) for seed in range(max(repeat, BATCH))]
    models.encode(images[:1])
    runs, regions = [], []
    for image in images[:repeat]:
        regions.append(len(models.encode([image])))
        runs.append(models.timings_ms)
    started = time.perf_counter()
    models.encode(images[:BATCH])
    seconds = time.perf_counter() - started
    return {
        "preset": preset,
        "threads": torch.get_num_threads(),
        "image_px": [WIDTH, HEIGHT],
        "regions_per_image": round(statistics.mean(regions), 1),
        "median_ms": {stage: round(statistics.median(run[stage] for run in runs), 2) for stage in runs[0]},
        "best_ms": {stage: round(min(run[stage] for run in runs), 2) for stage in runs[0]},
        "batch_images": BATCH,
        "images_per_second": round(BATCH / seconds, 2),
    }


def main() -> None:
    """Print the table; write the JSON document where asked."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--preset", default="pico")
    parser.add_argument("--repeat", type=int, default=10)
    arguments = parser.parse_args()
    report = measure(arguments.preset, arguments.repeat)
    medians, best = report["median_ms"], report["best_ms"]
    print(f"{'':<10}{'median':>10}{'best':>10}")
    for stage in medians:
        print(f"{stage:<10}{medians[stage]:>10}{best[stage]:>10} ms")
    print(f"{'all':<10}{sum(medians.values()):>10.2f}{sum(best.values()):>10.2f} ms")
    print(
        f"{report['regions_per_image']} regions per image; {report['images_per_second']} images/s in batches of {BATCH}"
    )
    print(json.dumps(report))
    measuring.write(report, arguments.json)


if __name__ == "__main__":
    main()
