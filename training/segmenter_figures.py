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
from numpy.typing import NDArray
from PIL import Image

from searchanything.geometry import decode_rle
from searchanything.models.fastsam import FastSAMSegmenter
from searchanything.models.options import SegmenterOptions
from searchanything.protocols import Segmenter
from searchanything.types import MEDIUM_AREA_PX, SMALL_AREA_PX, BoolMasks, MaskRLE

logger = logging.getLogger(__name__)

FOUND_IOU = 0.5
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
    document = json.loads((scenes / "annotations.json").read_text("utf-8"))
    outcomes = []
    for image in document["images"]:
        with Image.open(scenes / "images" / image["file_name"]) as stored:
            pixels = np.asarray(stored.convert("RGB"))
        started = time.perf_counter()
        segmentation = segmenter.segment([pixels])[0]
        milliseconds = 1000 * (time.perf_counter() - started)
        size = (image["height"], image["width"])
        masks = np.array([segmentation.letterbox.image_mask(mask) for mask in segmentation.masks], dtype=np.bool_)
        annotations = [item for item in document["annotations"] if item["image_id"] == image["id"]]
        outcomes.append(_outcome(masks.reshape(-1, *size), annotations, milliseconds))
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
    found = [item.iou for item in objects if item.iou >= FOUND_IOU]
    return {
        "images": len(outcomes),
        "recall_at_iou_0.5": {name: _recall(group) for name, group in groups.items()},
        "objects": {name: len(group) for name, group in groups.items()},
        "mean_iou_of_found": round(float(np.mean(found)), 4) if found else 0.0,
        "regions_per_image": round(float(np.mean([outcome.regions for outcome in outcomes])), 2),
        "background_regions_per_image": round(float(np.mean([outcome.background_regions for outcome in outcomes])), 3),
        "median_ms_per_image": round(float(np.median([outcome.milliseconds for outcome in outcomes])), 1),
    }


def _outcome(masks: BoolMasks, annotations: Sequence[dict[str, Any]], milliseconds: float) -> SceneOutcome:
    truths = [decode_rle(MaskRLE(tuple(a["segmentation"]["size"]), a["segmentation"]["counts"])) for a in annotations]
    true_masks = np.array(truths, dtype=np.bool_).reshape(len(truths), *masks.shape[1:])
    ious = _paired(_mask_iou(true_masks, masks))
    anything = true_masks.any(axis=0)
    on_objects = np.array([(mask & anything).sum() / max(1, mask.sum()) for mask in masks])
    items = tuple(
        ObjectOutcome(
            box_area_px=int(a["bbox"][2] * a["bbox"][3]),
            longest_side_px=int(max(a["bbox"][2:])),
            style=a["style"],
            zero_shot=a["zero_shot"],
            iou=float(iou),
        )
        for a, iou in zip(annotations, ious, strict=True)
    )
    return SceneOutcome(items, len(masks), int((on_objects < BACKGROUND_SHARE).sum()), milliseconds)


def _mask_iou(first: BoolMasks, second: BoolMasks) -> NDArray[np.float64]:
    pixels = first.shape[1] * first.shape[2]
    one = first.reshape(len(first), pixels).astype(np.float32)
    other = second.reshape(len(second), pixels).astype(np.float32)
    common = one @ other.T
    union = one.sum(axis=1)[:, None] + other.sum(axis=1)[None, :] - common
    return np.asarray(common / np.maximum(union, 1), dtype=np.float64)


def _paired(ious: NDArray[np.float64]) -> NDArray[np.float64]:
    """For every row the IoU of the column that it is paired with, greedily by falling IoU."""
    left = ious.copy()
    best = np.zeros(len(left))
    for _ in range(min(left.shape)):
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        if left[row, column] <= 0:
            break
        best[row] = left[row, column]
        left[row, :] = left[:, column] = -1
    return best


def _recall(objects: Sequence[ObjectOutcome]) -> float | None:
    return round(float(np.mean([item.iou >= FOUND_IOU for item in objects])), 4) if objects else None


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
