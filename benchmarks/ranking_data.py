"""Labelled regions for `benchmarks/ranking.py`: features of generated scenes, and of annotated street photographs.

Scenes are indexed as images are: the regions that the policy keeps, each labelled by the object whose mask it covers
with an IoU of at least 0.5, or by nothing. Of street photographs (`NUMBER.jpg` beside `NUMBER.png`, the label of each
pixel, and `labels.json`) the annotated masks themselves are the regions, so that ranking alone is judged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from searchanything import wiring
from searchanything.core.protocols import Segmentation
from searchanything.core.settings import load_settings
from searchanything.core.types import BoolMasks, FloatArray, RGBImage
from searchanything.demo.scenes import Scene, generate_demo_scenes, load_demo_assets
from searchanything.encode.encoder import Encoder, RegionJob
from training.photograph_classes import pixels_of

MIN_IOU = 0.5
LEAST_SHARE = 0.01  # of a photograph's pixels: smaller annotations are crumbs
UNLABELLED = -1


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """N regions: `mask` (N, C) and `image` (N, D) float32, the name's number or -1 (N,), the image's number (N,).

    `unseen` says of each of the M names whether training never saw the thing; `photographs` are those they came from.
    """

    mask: FloatArray
    image: FloatArray
    labels: NDArray[np.int64]
    images: NDArray[np.int64]
    names: tuple[str, ...]
    unseen: NDArray[np.bool_]

    def save(self, path: Path) -> None:
        """Write all of it as .npz."""
        arrays = {name: getattr(self, name) for name in ("mask", "image", "labels", "images", "unseen")}
        np.savez(path, allow_pickle=False, names=np.array(self.names), **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return cls(**arrays | {"names": tuple(arrays["names"].tolist())})


def load_preset(preset: str) -> Encoder:
    """The models of a preset with its own hash layer."""
    settings = load_settings()
    return wiring.load_encoder(preset, wiring.hash_layer_of(preset, None, settings), settings)


def scene_regions(encoder: Encoder, count: int, *, seed: int) -> Regions:
    """The kept regions of generated scenes, none of which any training saw."""
    assets = load_demo_assets()
    names = tuple(sorted({cutout.concept for cutout in assets.cutouts}))
    jobs = (_scene_job(encoder, scene, names) for _, scene in generate_demo_scenes(count, seed=seed))
    unseen = np.array([name in assets.zero_shot for name in names])
    return replace(_regions(encoder, jobs, tuple(name.replace("-", " ") for name in names)), unseen=unseen)


def street_regions(encoder: Encoder, folder: Path, files: Sequence[Path]) -> Regions:
    """The annotated regions of some photographs of a folder, by their label files; training saw their names."""
    words = tuple(json.loads((folder / "labels.json").read_text("utf-8")))
    return _regions(encoder, (_street_job(encoder, file) for file in files), words)


def _regions(encoder: Encoder, jobs: Iterator[tuple[RegionJob, NDArray[np.int64]]], names: tuple[str, ...]) -> Regions:
    masks, images, labels, numbers = [], [], [], []
    for number, (job, found) in enumerate(jobs):
        if len(found):
            masks.append(encoder.pool_masks([job]))
            images.append(encoder.embed_regions([job]))
            labels.append(found)
            numbers.append(np.full(len(found), number))
    return Regions(
        np.concatenate(masks),
        np.concatenate(images),
        np.concatenate(labels),
        np.concatenate(numbers),
        names=names,
        unseen=np.zeros(len(names), dtype=bool),
    )


def _scene_job(encoder: Encoder, scene: Scene, names: Sequence[str]) -> tuple[RegionJob, NDArray[np.int64]]:
    (segmentation,) = encoder.segmenter.segment([scene.image])
    rows = encoder.policy.keep(segmentation)
    job = RegionJob.of_rows(scene.image, segmentation, rows)
    objects = [segmentation.letterbox.grid_mask(one.mask) for one in scene.objects]
    overlaps = np.array([_overlaps(job.masks, one) for one in objects]).reshape(len(objects), len(rows))
    numbers = np.array([names.index(one.concept) for one in scene.objects])
    best = overlaps.argmax(axis=0) if len(objects) else np.zeros(len(rows), dtype=int)
    return job, np.where(overlaps.max(axis=0, initial=0) >= MIN_IOU, numbers[best], UNLABELLED)


def _street_job(encoder: Encoder, file: Path) -> tuple[RegionJob, NDArray[np.int64]]:
    image = pixels_of(file.with_suffix(".jpg"))
    painted = np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
    (segmentation,) = encoder.segmenter.segment([image])
    wanted = [one for one in np.unique(painted[painted > 0]) if (painted == one).mean() >= LEAST_SHARE]
    masks = np.array([segmentation.letterbox.grid_mask(painted == one) for one in wanted], dtype=bool)
    boxes = np.array([_box(painted == one) for one in wanted], dtype=np.float32).reshape(-1, 4)
    grid: BoolMasks = masks.reshape(-1, *segmentation.letterbox.grid_size)
    return _job(image, segmentation, grid, boxes), np.array(wanted, dtype=np.int64)


def _job(image: RGBImage, segmentation: Segmentation, masks: BoolMasks, boxes: FloatArray) -> RegionJob:
    return RegionJob(image, segmentation, masks, boxes)


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _overlaps(masks: BoolMasks, one: NDArray[np.bool_]) -> FloatArray:
    """IoU of each of (N, gh, gw) masks with one."""
    both = (masks & one).sum(axis=(1, 2))
    return np.asarray(both / np.maximum((masks | one).sum(axis=(1, 2)), 1), dtype=np.float32)
