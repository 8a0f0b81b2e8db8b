"""How well a segmenter finds the objects of the held-out scenes, measured with the package's own adapter.

    python -m training.segmenter_figures --weights data/segmenter.pt --scenes data/scenes/val --out data/segmenter.json

An object is found if some region has a mask IoU of at least 0.5 with its visible mask; regions and objects pair up one
to one, best IoU first. A region of which less than a fifth lies on objects is a background region: a false alarm.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from searchanything.core.geometry import decode_rle
from searchanything.core.protocols import Segmentation, Segmenter
from searchanything.core.types import MEDIUM_AREA_PX, SMALL_AREA_PX
from searchanything.evaluation.coco import read_coco
from searchanything.evaluation.overlaps import MIN_IOU, paired, region_ious
from searchanything.evaluation.truth import TrueImage
from searchanything.models.fastsam import FastSAMSegmenter
from searchanything.models.options import SegmenterOptions

logger = logging.getLogger(__name__)

BACKGROUND_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class ObjectOutcome:
    """One object of a scene and the IoU of the region that it was paired with, 0 where there is none."""

    box_area_px: int
    longest_side_px: int
    style: str
    zero_shot: bool
    iou: float


@dataclass(frozen=True, slots=True)
class SceneOutcome:
    """One scene: its objects, and what was found besides."""

    objects: tuple[ObjectOutcome, ...]
    regions: int
    background_regions: int
    milliseconds: float


def measure(segmenter: Segmenter, scenes: Path) -> list[SceneOutcome]:
    """Segment every scene that `training.scenes_dataset.write_coco` wrote into the folder."""
    truth = read_coco(scenes / "annotations.json", attributes=("style", "zero_shot"))
    outcomes = []
    for image in truth.images:
        with Image.open(scenes / "images" / image.file_name) as stored:
            pixels = np.asarray(stored.convert("RGB"))
        started = time.perf_counter()
        segmentation = segmenter.segment([pixels])[0]
        outcomes.append(_outcome(segmentation, image, 1000 * (time.perf_counter() - started)))
    return outcomes


def figures_of(outcomes: Sequence[SceneOutcome]) -> dict[str, Any]:
    """Recall in all and by size, style and novelty; mean IoU of what was found; false alarms and time per image."""
    objects = [item for outcome in outcomes for item in outcome.objects]
    groups = {
        "all": objects,
        "box up to 32x32 px": [item for item in objects if item.box_area_px <= SMALL_AREA_PX],
        "box up to 96x96 px": [item for item in objects if SMALL_AREA_PX < item.box_area_px <= MEDIUM_AREA_PX],
        "larger": [item for item in objects if item.box_area_px > MEDIUM_AREA_PX],
        "24 to 48 px long": [item for item in objects if 24 <= item.longest_side_px <= 48],
        "seen concepts": [item for item in objects if not item.zero_shot],
        "zero-shot concepts": [item for item in objects if item.zero_shot],
        **{f"style {style}": [o for o in objects if o.style == style] for style in sorted({o.style for o in objects})},
    }
    found = [item.iou for item in objects if item.iou >= MIN_IOU]
    return {
        "images": len(outcomes),
        "recall_at_iou_0.5": {name: _recall(group) for name, group in groups.items()},
        "objects": {name: len(group) for name, group in groups.items()},
        "mean_iou_of_found": round(float(np.mean(found)), 4) if found else 0.0,
        "regions_per_image": round(float(np.mean([outcome.regions for outcome in outcomes])), 2),
        "background_regions_per_image": round(float(np.mean([outcome.background_regions for outcome in outcomes])), 3),
        "median_ms_per_image": round(float(np.median([outcome.milliseconds for outcome in outcomes])), 1),
    }


def _outcome(segmentation: Segmentation, image: TrueImage, milliseconds: float) -> SceneOutcome:
    letterbox, masks = segmentation.letterbox, segmentation.masks
    ious = paired(region_ious(letterbox, masks, image))
    anything = np.zeros((image.height, image.width), dtype=np.bool_)
    for one in image.instances:
        anything |= decode_rle(one.mask)
    regions = letterbox.image_masks(masks)
    on_objects = (regions & anything).sum(axis=(1, 2)) / np.maximum(1, regions.sum(axis=(1, 2)))
    items = tuple(
        ObjectOutcome(
            box_area_px=int(np.prod(np.subtract(one.box_xyxy[2:], one.box_xyxy[:2]))),
            longest_side_px=int(one.longest_side_px),
            style=one.attributes["style"],
            zero_shot=one.attributes["zero_shot"] == "true",
            iou=float(iou),
        )
        for one, iou in zip(image.instances, ious, strict=True)
    )
    return SceneOutcome(items, len(masks), int((on_objects < BACKGROUND_SHARE).sum()), milliseconds)


def _recall(objects: Sequence[ObjectOutcome]) -> float | None:
    return round(float(np.mean([item.iou >= MIN_IOU for item in objects])), 4) if objects else None


def main() -> None:
    """Measure the weights that the command line names and print the figures as JSON."""
    parser = argparse.ArgumentParser(description="Measure a segmenter on the held-out scenes.")
    parser.add_argument("--weights", type=Path, default=Path("data/segmenter.pt"))
    parser.add_argument("--scenes", type=Path, default=Path("data/scenes/val"))
    parser.add_argument("--input-size", type=int, default=640)
    parser.add_argument("--confidence", type=float, nargs="+", default=(0.25, 0.12), help="thresholds to measure at")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--training", type=Path, help="what training.segmenter wrote of the run, to be included")
    parser.add_argument("--out", type=Path, help="where the figures go, besides the output")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    figures = []
    for confidence in options.confidence:
        settings = SegmenterOptions(input_size_px=options.input_size, confidence=confidence)
        outcomes = measure(FastSAMSegmenter(options.weights, options=settings), options.scenes)
        setup = {"confidence": confidence, "input_size_px": options.input_size, "threads": options.threads}
        figures.append({**setup, **figures_of(outcomes)})
    document = {
        "weights_sha256": hashlib.sha256(options.weights.read_bytes()).hexdigest(),
        "licence": "AGPL-3.0-or-later",
        "training": json.loads(options.training.read_text("utf-8")) if options.training else None,
        "held_out_scenes": figures,
    }
    text = json.dumps(document, indent=1)
    if options.out:
        options.out.write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
