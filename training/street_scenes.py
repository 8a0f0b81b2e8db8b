"""Street photographs for the segmenter: as training images of their own at several scales, and as cutouts for scenes.

    python -m training.scenes_dataset --street data/street --out data/scenes

`--street` is a folder as `training.street_annotations` reads it. The fifth that figures are of is left out, here as
everywhere. What counts as a region: the whole person, and each connected part of each label.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from searchanything.core.types import BoolMask, RGBImage
from searchanything.demo.scenes import Cutout
from training.photograph_classes import pixels_of, taught
from training.street_annotations import parts_of

VIEWS: Final = 4  # of a photograph: the whole, and crops at other scales
CUTOUT_SIDE_PX: Final = 28  # smaller parts make no cutouts
STYLE: Final = "photograph"
_CROP_SHARE: Final = (0.35, 0.9)  # of the photograph's height; the width is a quarter more
_ZOOM: Final = (0.7, 1.9)

View = tuple[RGBImage, list[BoolMask]]


def regions_of(labels: np.ndarray) -> list[BoolMask]:
    """The whole person of a label image (H, W) uint8, and its parts; none where nothing is labelled."""
    person = np.asarray(labels > 0, dtype=np.bool_)
    return [person, *(mask for _, mask in parts_of(labels))] if person.any() else []


def views_of(path: Path) -> Iterator[View]:
    """A photograph, given by its label file, whole and in crops at other scales; drawn by its number."""
    image, labels = pixels_of(path.with_suffix(".jpg")), _labels(path)
    masks = regions_of(labels)
    yield image, masks
    for number in range(1, VIEWS):
        rng = np.random.default_rng((int(path.stem), number))
        share, zoom = rng.uniform(*_CROP_SHARE), rng.uniform(*_ZOOM)
        height, width = (
            max(1, int(side * part)) for side, part in zip(labels.shape, (share, min(1, share * 1.25)), strict=True)
        )
        top, left = (
            int(rng.integers(side - kept + 1)) for side, kept in zip(labels.shape, (height, width), strict=True)
        )
        part = (slice(top, top + height), slice(left, left + width))
        size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
        way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
        crop = np.asarray(cv2.resize(image[part], size, interpolation=way), dtype=np.uint8)
        yield crop, [_resized(mask[part], size) for mask in masks]


def street_views(street: Path, numbers: Sequence[int]) -> Iterator[tuple[str, View]]:
    """Views of the taught photographs at these places, each with a name of its own."""
    files = taught(street)
    for number in numbers:
        for place, view in enumerate(views_of(files[number])):
            yield f"street{files[number].stem}_{place}", view


def street_cutouts(street: Path) -> list[Cutout]:
    """What the taught photographs show, cut out: people, and the largest part of each label."""
    found = []
    for path in taught(street):
        image, labels = pixels_of(path.with_suffix(".jpg")), _labels(path)
        largest: dict[int, BoolMask] = {0: np.asarray(labels > 0, dtype=np.bool_)}
        for label, mask in parts_of(labels):
            if label not in largest or mask.sum() > largest[label].sum():
                largest[label] = mask
        found += [cutout for mask in largest.values() if (cutout := _cutout(image, mask)) is not None]
    return found


def _cutout(image: RGBImage, mask: BoolMask) -> Cutout | None:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if min(len(rows), len(columns)) < CUTOUT_SIDE_PX:
        return None
    part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    alpha = mask[part][..., None]
    return Cutout(np.concatenate([image[part] * alpha, alpha * np.uint8(255)], axis=2).astype(np.uint8), STYLE, STYLE)


def _labels(path: Path) -> np.ndarray:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)


def _resized(mask: BoolMask, size: tuple[int, int]) -> BoolMask:
    return np.asarray(cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST), dtype=np.bool_)
