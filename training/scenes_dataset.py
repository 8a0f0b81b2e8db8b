"""Scenes on disk: a YOLO segmentation data set to train on, and a COCO file with exact masks to evaluate on.

    python -m training.scenes_dataset --pictograms data/pictograms --photographs data/photographs --out data/scenes
        [--street data/street]

With `--street`, 28 % of the cutouts are people and clothes, and the photographs themselves are training images too.
Training scenes hold seen concepts only. Evaluation scenes are drawn like the demo's, on photographs that no training
scene uses, from all concepts; each annotation says whether its concept is a zero-shot one.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from searchanything.core.geometry import encode_rle
from searchanything.core.types import BoolMask, RGBImage
from searchanything.demo.scenes import DEMO_RECIPE, Cutout, Scene, SceneRecipe, compose_scene
from training.photograph_classes import taught
from training.photographs import load_photographs, procedural_backdrop
from training.pictograms import Pictograms, load_pictograms
from training.street_scenes import street_cutouts, street_views

logger = logging.getLogger(__name__)

TRAINING_SIDE_PX = 416
# Object sizes cover what the demo's scenes show at the network input of 640 px; the canvas is smaller, for speed.
TRAINING_RECIPE = SceneRecipe(
    longest_side_px=(TRAINING_SIDE_PX, TRAINING_SIDE_PX),
    aspect=(1.0, 1.0),
    object_px=(18.0, 400.0),
    largest_fraction=0.96,
    upright=0.7,
    occluded=0.35,
    visible=0.5,
    tint=0.25,
    degraded=0.3,
)
# The second phase sees scenes like the demo's, at their size.
TUNING_RECIPE = replace(
    DEMO_RECIPE, longest_side_px=(640, 640), object_px=(20.0, 420.0), largest_fraction=0.9, tint=0.2
)
LEAST_PIXELS = 30  # of an object in a label
HELD_OUT_PHOTOGRAPHS = 6  # every sixth photograph, by name, serves evaluation only
EVALUATION_SEEDS = range(1_000_000, 1_000_150)
OTHERS_SHARE = 0.28  # of the cutouts, where there are others than pictograms
_PROCEDURAL_SHARE = 0.25
_PARTS_KEPT = 0.02  # contours that enclose less than this part of the object's largest one are left out of its polygon


@dataclass(frozen=True, slots=True, eq=False)
class SceneSource:
    """What scenes of one split are drawn from: rows of `pictograms`, and photographs as backdrops.

    `others` are cutouts of other kinds, which take the place of some pictograms.
    """

    pictograms: Pictograms
    rows: NDArray[np.int64]
    photographs: Sequence[RGBImage]
    recipe: SceneRecipe
    objects: tuple[int, int]
    others: Sequence[Cutout] = ()

    def cutout(self, row: int) -> Cutout:
        """The drawing in one row of the pictograms."""
        drawn = self.pictograms
        concept = drawn.names[drawn.concept_ids[row]]
        return Cutout(np.asarray(drawn.images[row]), concept, drawn.styles[drawn.style_ids[row]])

    def scene(self, seed: int) -> Scene:
        """The scene of one seed; the same cache gives the same scene."""
        rng = np.random.default_rng((seed, 7))
        count = int(rng.integers(self.objects[0], self.objects[1] + 1))
        rows = rng.choice(self.rows, count, replace=False)
        backdrop = self._backdrop(rng, seed)
        cutouts = [self.cutout(int(row)) for row in rows]
        if self.others:
            chosen = np.flatnonzero(rng.random(count) < OTHERS_SHARE)
            for place in chosen.tolist():
                cutouts[place] = self.others[int(rng.integers(len(self.others)))]
        return compose_scene(cutouts, backdrop, seed=seed, recipe=self.recipe)

    def _backdrop(self, rng: Generator, seed: int) -> RGBImage:
        if rng.random() < _PROCEDURAL_SHARE:
            return procedural_backdrop(seed)
        return self.photographs[int(rng.integers(len(self.photographs)))]


def training_source(
    pictograms: Path, photographs: Path, *, recipe: SceneRecipe = TRAINING_RECIPE, objects: tuple[int, int] = (0, 6)
) -> SceneSource:
    """Seen concepts on the photographs that are not held out."""
    drawn = load_pictograms(pictograms)
    images = [image for index, image in enumerate(_ordered(photographs)) if index % HELD_OUT_PHOTOGRAPHS]
    return SceneSource(drawn, drawn.rows(zero_shot=False), images, recipe, objects)


def evaluation_source(pictograms: Path, photographs: Path) -> SceneSource:
    """Seen and zero-shot concepts, half and half, on the held-out photographs, drawn like the demo's scenes."""
    drawn = load_pictograms(pictograms)
    images = _ordered(photographs)[::HELD_OUT_PHOTOGRAPHS]
    seen, unseen = drawn.rows(zero_shot=False), drawn.rows(zero_shot=True)
    balanced = np.concatenate([np.random.default_rng(0).choice(seen, len(unseen), replace=False), unseen])
    return SceneSource(drawn, balanced, images, DEMO_RECIPE, (3, 8))


def _ordered(photographs: Path) -> list[RGBImage]:
    return [image for _, image in sorted(load_photographs(photographs).items())]


def write_yolo(source: SceneSource, folder: Path, seeds: Sequence[int]) -> None:
    """Write `images/NAME.jpg` and `labels/NAME.txt` (class 0, one polygon per object in fractions of the image)."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        scene = source.scene(seed)
        write_labelled(folder, f"{seed:06d}", scene.image, [item.mask for item in scene.objects])


def write_labelled(folder: Path, name: str, image: RGBImage, masks: Sequence[BoolMask]) -> None:
    """Write one image with its polygons; masks of fewer than three corners or 30 pixels are left out."""
    _write_jpeg(folder / "images" / f"{name}.jpg", image)
    size = np.array([image.shape[1], image.shape[0]])
    polygons = [polygon_of(mask) / size for mask in masks if mask.sum() >= LEAST_PIXELS]
    corners = [polygon.ravel() for polygon in polygons if len(polygon) >= 3]
    lines = [" ".join(["0", *(f"{value:.4f}" for value in polygon)]) for polygon in corners]
    (folder / "labels" / f"{name}.txt").write_text("\n".join(lines), "utf-8")


def write_coco(source: SceneSource, folder: Path, seeds: Sequence[int]) -> None:
    """Write `images/NAME.jpg` and `annotations.json` (COCO, compressed RLE of the visible masks)."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    zero_shot = dict(zip(source.pictograms.names, source.pictograms.is_zero_shot.tolist(), strict=True))
    for seed in seeds:
        scene = source.scene(seed)
        height, width = scene.image.shape[:2]
        images.append({"id": seed, "file_name": f"{seed:06d}.jpg", "height": height, "width": width})
        _write_jpeg(folder / "images" / f"{seed:06d}.jpg", scene.image)
        for item in scene.objects:
            x1, y1, x2, y2 = item.box_xyxy
            rle = encode_rle(item.mask)
            annotation = {
                "id": len(annotations) + 1,
                "image_id": seed,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": item.area_px,
                "segmentation": {"size": list(rle.size), "counts": rle.counts},
                "concept": item.concept,
                "style": item.style,
                "drawing": f"{item.concept} by {item.style}",
                "zero_shot": zero_shot[item.concept],
            }
            annotations.append(annotation)
    categories = [{"id": 1, "name": "object"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(document), "utf-8")


def polygon_of(mask: BoolMask) -> NDArray[np.float64]:
    """One closed polygon, (N, 2) xy pixel coordinates, for a mask of any number of parts and holes.

    YOLO labels hold one polygon per object. Contours are joined by bridges that run there and back, so that filling by
    the even-odd rule gives the parts and leaves the holes open; parts and holes too small to matter are dropped.
    """
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    contours = sorted((np.asarray(c[:, 0, :], dtype=np.int32) for c in found), key=lambda c: -float(cv2.contourArea(c)))
    least = _PARTS_KEPT * float(cv2.contourArea(contours[0]))
    path = contours[0]
    for contour in contours[1:]:
        if len(contour) >= 3 and float(cv2.contourArea(contour)) >= least:
            path = _bridged(path, contour)
    return path.astype(np.float64)


def _bridged(path: NDArray[np.int32], contour: NDArray[np.int32]) -> NDArray[np.int32]:
    distances = ((path[:, None, :] - contour[None, :, :]) ** 2).sum(axis=2)
    here, there = np.unravel_index(int(distances.argmin()), distances.shape)
    loop = np.concatenate([contour[there:], contour[: there + 1]])
    return np.concatenate([path[: here + 1], loop, path[here:]])


def _write_jpeg(path: Path, image: RGBImage) -> None:
    cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])


@dataclass(frozen=True, slots=True)
class Split:
    """One training set to write: its folder's name, how many scenes of which recipe and with how many objects."""

    name: str
    scenes: int
    recipe: SceneRecipe
    objects: tuple[int, int]
    first_seed: int


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where pictograms, photographs and, if they are used, annotated street photographs lie."""

    pictograms: Path
    photographs: Path
    street: Path | None = None


def build(inputs: Inputs, folder: Path, *, splits: Sequence[Split], processes: int) -> None:
    """Write per split `NAME/` (YOLO) and its description `NAME.yaml`, and `val/` (COCO)."""
    for split in splits:
        seeds = range(split.first_seed, split.first_seed + split.scenes)
        chunks = [seeds[start::processes] for start in range(processes)]
        with ProcessPoolExecutor(processes) as pool:
            list(pool.map(partial(_write_split, inputs, folder, split), chunks))
            if inputs.street is not None:
                places = range(len(taught(inputs.street)))
                parts = [places[start::processes] for start in range(processes)]
                list(pool.map(partial(_write_street, inputs.street, folder / split.name), parts))
        images = f"{split.name}/images"
        description = {"path": str(folder.resolve()), "train": images, "val": images, "names": {0: "object"}}
        (folder / f"{split.name}.yaml").write_text(json.dumps(description), "utf-8")
        logger.info("%d scenes in %s", split.scenes, folder / split.name)
    write_coco(evaluation_source(inputs.pictograms, inputs.photographs), folder / "val", EVALUATION_SEEDS)


def _write_split(inputs: Inputs, folder: Path, split: Split, seeds: Sequence[int]) -> None:
    cv2.setNumThreads(1)
    source = training_source(inputs.pictograms, inputs.photographs, recipe=split.recipe, objects=split.objects)
    if inputs.street is not None:
        source = replace(source, others=street_cutouts(inputs.street))
    write_yolo(source, folder / split.name, seeds)


def _write_street(street: Path, folder: Path, numbers: Sequence[int]) -> None:
    cv2.setNumThreads(1)
    for name, (image, masks) in street_views(street, numbers):
        write_labelled(folder, name, image, masks)


def main() -> None:
    """Write the data sets named on the command line."""
    parser = argparse.ArgumentParser(description="Compose the scenes that the pico segmenter learns from.")
    parser.add_argument("--pictograms", type=Path, default=Path("data/pictograms"))
    parser.add_argument("--photographs", type=Path, default=Path("data/photographs"))
    parser.add_argument("--street", type=Path, help="annotated street photographs, see training.street_annotations")
    parser.add_argument("--out", type=Path, default=Path("data/scenes"))
    parser.add_argument("--scenes", type=int, nargs=2, default=(7000, 2000), help="scenes of each training phase")
    parser.add_argument("--judged-alone", action="store_true", help="write the evaluation scenes alone")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    first, second = options.scenes
    splits = (
        Split("train", first, TRAINING_RECIPE, (0, 6), first_seed=0),
        Split("tune", second, TUNING_RECIPE, (2, 9), first_seed=500_000),
    )
    inputs = Inputs(options.pictograms, options.photographs, options.street)
    build(inputs, options.out, splits=() if options.judged_alone else splits, processes=options.processes)


if __name__ == "__main__":
    main()
