"""What a click selects by rule, on scenes and on annotated photographs, for `benchmarks/ranking.py` (docs/adr/0053)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.ranking_table import Line, Values, compared
from searchanything.core.geometry import encode_rle
from searchanything.core.protocols import Segmentation
from searchanything.core.types import RGBImage
from searchanything.demo.scenes import generate_demo_scenes
from searchanything.encode.encoder import Encoder
from searchanything.evaluation.clicking import CLICKS, click
from searchanything.evaluation.overlaps import MIN_IOU, region_ious
from searchanything.evaluation.truth import Instance, TrueImage
from training.photograph_classes import pixels_of
from training.street_annotations import parts_of

Annotated = tuple[RGBImage, TrueImage]
_BATCH = 8
_AGAINST = ("surest", "smallest", "largest", "fastsam")


def clicks_lines(encoder: Encoder, data: str, images: Iterable[Annotated]) -> list[Line]:
    """Each other rule against the default one; all rules' shares are printed."""
    found: dict[str, list[Values]] = {name: [] for name in CLICKS}
    for batch in _batches(images):
        segmentations = encoder.segmenter.segment([image for image, _ in batch])
        for segmentation, (_, truth) in zip(segmentations, batch, strict=True):
            for name, values in click(segmentation, truth, _on(segmentation, truth)).items():
                found[name].append(values)
    joined = {name: np.concatenate(values) for name, values in found.items()}
    print(f"\nclicks, {data}: " + ", ".join(f"{name} {np.nanmean(values):.3f}" for name, values in joined.items()))
    return [compared("a click", data, "share", (one, joined[one]), ("default", joined["default"])) for one in _AGAINST]


def _on(segmentation: Segmentation, truth: TrueImage) -> NDArray[np.bool_]:
    """(N + 1, M): which of the masks lie on which instance; the last row on none."""
    on = region_ious(segmentation.letterbox, segmentation.masks, truth) >= MIN_IOU
    return np.concatenate([on, np.zeros((1, on.shape[1]), dtype=np.bool_)])


def scene_clicks(count: int, *, seed: int) -> Iterator[Annotated]:
    """Generated scenes with their objects."""
    for name, scene in generate_demo_scenes(count, seed=seed):
        objects = [(one.concept, np.asarray(one.mask, dtype=np.bool_)) for one in scene.objects]
        yield scene.image, _truth(name, scene.image, objects)


def street_clicks(files: Sequence[Path]) -> Iterator[Annotated]:
    """Photographs beside label files, with the connected parts of each label."""
    for file in files:
        image = pixels_of(file.with_suffix(".jpg"))
        labels = np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
        yield image, _truth(file.name, image, [(str(label), mask) for label, mask in parts_of(labels)])


def _truth(name: str, image: RGBImage, objects: Sequence[tuple[str, np.ndarray]]) -> TrueImage:
    instances = []
    for category, mask in objects:
        ys, xs = np.nonzero(mask)
        if len(xs):
            box = float(xs.min()), float(ys.min()), float(xs.max()) + 1, float(ys.max()) + 1
            instances.append(Instance(category, box, float(mask.sum()), encode_rle(mask)))
    return TrueImage(name, image.shape[0], image.shape[1], tuple(instances))


def _batches(images: Iterable[Annotated]) -> Iterator[list[Annotated]]:
    batch: list[Annotated] = []
    for one in images:
        batch.append(one)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
