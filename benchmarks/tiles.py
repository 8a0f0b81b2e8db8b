"""Recall of small things in large images, segmented whole and in tiles.

python -m benchmarks.tiles [--images 3] [--objects 60] [--tiles 1280 640] [--json FILE]

Pictogram scenes of 5000 x 3000 and 12000 x 400 pixels with things of 30 to 60 px. A thing is found if a region's box
overlaps its box by half (IoU); `kept` looks at the regions that an index would keep by the settings' defaults.
"""

from __future__ import annotations

import time
from typing import Final

import numpy as np

from benchmarks import measuring
from searchanything import wiring
from searchanything.core.geometry import box_iou
from searchanything.core.settings import load_settings
from searchanything.core.types import FloatArray
from searchanything.demo.scenes import Scene, SceneRecipe, compose_scene, load_demo_assets

SIZES: Final = {"5000 x 3000": (5000, 5 / 3), "12000 x 400": (12000, 30.0)}
OBJECT_PX: Final = (30.0, 60.0)


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--objects", type=int, default=60)
    parser.add_argument("--tiles", type=int, nargs="+", default=[1280, 640])
    options = parser.parse_args()
    rows = []
    for name, (longest, aspect) in SIZES.items():
        recipe = SceneRecipe(longest_side_px=(longest, longest), aspect=(aspect, aspect), object_px=OBJECT_PX)
        scenes = made_scenes(options.images, options.objects, recipe)
        for tile_px in (None, *options.tiles):
            rows.append({"image": name, "tiles": tile_px, **measured(scenes, tile_px)})
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    measuring.write(rows, options.json)


def made_scenes(images: int, objects: int, recipe: SceneRecipe) -> list[Scene]:
    """Scenes of many small things."""
    assets, rng = load_demo_assets(), np.random.default_rng(17)
    scenes = []
    for _ in range(images):
        chosen = [assets.cutouts[number] for number in rng.integers(len(assets.cutouts), size=objects)]
        backdrop = assets.backdrops[int(rng.integers(len(assets.backdrops)))]
        scenes.append(compose_scene(chosen, backdrop, seed=int(rng.integers(2**32)), recipe=recipe))
    return scenes


def measured(scenes: list[Scene], tile_px: int | None) -> dict[str, float | int]:
    """Recall of candidates and of what is kept, regions and seconds per image, over all scenes."""
    settings = load_settings()
    settings.ingest.tiles = tile_px
    layer = wiring.hash_layer_of("pico", None, settings)
    encoder = wiring.load_encoder("pico", layer, settings, tile_px=tile_px)
    encoder.segmenter.segment([np.zeros((64, 64, 3), dtype=np.uint8)])  # loads it
    found, kept, total, regions, start = 0, 0, 0, 0, time.perf_counter()
    for scene in scenes:
        [segmentation] = encoder.segmenter.segment([scene.image])
        truth = np.array([one.box_xyxy for one in scene.objects], dtype=np.float32)
        rows = encoder.policy.keep(segmentation)
        found += hits(segmentation.boxes_xyxy, truth)
        kept += hits(segmentation.boxes_xyxy[rows], truth)
        total, regions = total + len(truth), regions + len(segmentation.scores)
    spent = (time.perf_counter() - start) / len(scenes)
    return {
        "things": total,
        "recall": round(found / total, 3),
        "kept": round(kept / total, 3),
        "regions": round(regions / len(scenes), 1),
        "seconds": round(spent, 2),
    }


def hits(boxes: FloatArray, truth: FloatArray) -> int:
    """How many of the true boxes some box overlaps by half."""
    if not len(boxes):
        return 0
    return int((box_iou(boxes, truth).max(axis=0) >= 0.5).sum())


if __name__ == "__main__":
    main()
