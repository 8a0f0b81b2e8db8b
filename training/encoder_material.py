"""What the pico encoder's image tower is trained on, as tensors on the device: drawings, clothes, groceries, backdrops.

The classes are the seen concepts of the pictograms, the labels of the street photographs and the fine classes of the
groceries, in this order. The judged fifth of the photographs is left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchanything.core.types import BoolMask, RGBImage
from training.crops_dataset import Backgrounds, Drawings, fit_icon
from training.device_crops import BACKDROP_PX, CANVAS_PX, ICON_PX
from training.photograph_classes import PhotographFolders, pixels_of, plain_class, taught
from training.photographs import load_photographs
from training.pictograms import Pictograms, load_pictograms, plain_name
from training.scenes_dataset import HELD_OUT_PHOTOGRAPHS
from training.street_annotations import parts_of

_SURROUNDINGS = 2.2  # sides of a part's longest side that its window shows
_BACKDROPS = 1600
_GROCERY_STEP = 4  # every fourth grocery photograph is a backdrop too

UInt8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class MaterialFolders:
    """Where everything lies; `thin` takes every so manieth drawing and photograph, for trials."""

    pictograms: Path
    photographs: Path
    others: PhotographFolders = field(default_factory=PhotographFolders)
    leave_out: tuple[str, ...] = ()
    thin: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Images (n, channels, H, W) uint8 and their classes (n,) int64."""

    images: Tensor
    labels: Tensor

    @classmethod
    def of(cls, images: Sequence[UInt8], labels: Sequence[int], *, shape: tuple[int, int, int]) -> Labelled:
        """Images (H, W, channels) of one shape; there may be none."""
        stacked = np.stack([*images]) if images else np.zeros((0, *shape), np.uint8)
        turned = torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()
        return cls(turned, torch.tensor(labels, dtype=torch.int64))

    def to(self, device: torch.device) -> Labelled:
        """The same on a device."""
        return Labelled(self.images.to(device), self.labels.to(device))

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """All of it: icons (n, 4, 112, 112) premultiplied, street (n, 4, 160, 160), grocery (n, 3, 160, 160).

    `backdrops` (n, 3, 224, 224); `names` are the classes' names, which may repeat between the kinds.
    """

    icons: Labelled
    street: Labelled
    grocery: Labelled
    backdrops: Tensor
    names: tuple[str, ...]

    def to(self, device: torch.device) -> Material:
        """The same on a device."""
        parts = (part.to(device) for part in (self.icons, self.street, self.grocery))
        return Material(*parts, self.backdrops.to(device), self.names)

    def counts(self) -> dict[str, int]:
        """How many of each kind, for the record of a run."""
        kinds = {"icons": self.icons, "street": self.street, "grocery": self.grocery}
        return {**{name: len(kind) for name, kind in kinds.items()}, "classes": len(self.names)}


def drawings_at(pictograms: Pictograms, rows: NDArray[np.int64], *, size_px: int = 96) -> Drawings:
    """The drawings at `rows` of the pictograms, cut and sized."""
    icons = np.stack([fit_icon(np.ascontiguousarray(pictograms.images[row]), size_px=size_px) for row in rows])
    return Drawings(icons, pictograms.concept_ids[rows], pictograms.style_ids[rows])


def load_material(folders: MaterialFolders, *, seed: int) -> Material:
    """Read and cut everything, on the CPU."""
    icons, concepts = _icons(load_pictograms(folders.pictograms), folders)
    street_files = taught(folders.others.street)[:: folders.thin] if folders.others.street else []
    street_words, grocery_words = _words(folders.others)
    street = _street(street_files, first=len(concepts))
    grocery_images, fine = _grocery(folders)
    first = len(concepts) + len(street_words)
    shape = (CANVAS_PX, CANVAS_PX)
    return Material(
        icons,
        street,
        Labelled.of([_squared(image) for image in grocery_images], [first + one for one in fine], shape=(*shape, 3)),
        _backdrops(folders, grocery_images[::_GROCERY_STEP], seed=seed),
        (*concepts, *street_words, *grocery_words),
    )


def _icons(pictograms: Pictograms, folders: MaterialFolders) -> tuple[Labelled, list[str]]:
    rows = pictograms.rows(zero_shot=False)
    kept = [number for number, style in enumerate(pictograms.styles) if style not in folders.leave_out]
    rows = rows[np.isin(pictograms.style_ids[rows], kept)]
    concepts = np.unique(pictograms.concept_ids[rows])[:: folders.thin]
    rows = rows[np.isin(pictograms.concept_ids[rows], concepts)]
    drawings = drawings_at(pictograms, rows, size_px=ICON_PX)
    labels = np.searchsorted(concepts, drawings.concepts)
    found = Labelled.of([*drawings.icons], labels.tolist(), shape=(ICON_PX, ICON_PX, 4))
    return found, [plain_name(pictograms.names[concept]) for concept in concepts]


def _words(others: PhotographFolders) -> tuple[list[str], list[str]]:
    """The classes of clothes and of groceries."""
    street = json.loads((others.street / "labels.json").read_text("utf-8"))[1:] if others.street else []
    grocery = json.loads((others.grocery / "index.json").read_text("utf-8"))["fine"] if others.grocery else []
    return street, [plain_class(name) for name in grocery]


def _street(files: Sequence[Path], *, first: int) -> Labelled:
    """A window round each labelled part; label 1 is the class `first`."""
    windows, classes = [], []
    for path in files:
        image = pixels_of(path.with_suffix(".jpg"))
        labels = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
        for label, mask in parts_of(labels):
            windows.append(part_window(image, mask))
            classes.append(first + label - 1)
    return Labelled.of(windows, classes, shape=(CANVAS_PX, CANVAS_PX, 4))


def part_window(image: RGBImage, mask: BoolMask) -> UInt8:
    """(160, 160, 4): a part in the middle of its surroundings, black beyond the image; alpha is the part."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left
    side = int(_SURROUNDINGS * max(height, width)) + 4
    scale = CANVAS_PX / side
    middle = np.array([left + width / 2, top + height / 2])
    corner = CANVAS_PX / 2 - scale * middle + (scale - 1) / 2  # OpenCV counts from the pixels' centres
    pose = np.array([[scale, 0, corner[0]], [0, scale, corner[1]]])
    blur = max(1, round(1 / scale))
    layers = np.dstack([cv2.blur(image, (blur, blur)), mask.astype(np.uint8) * 255])
    return np.asarray(cv2.warpAffine(layers, pose, (CANVAS_PX, CANVAS_PX), flags=cv2.INTER_LINEAR), np.uint8)


def _grocery(folders: MaterialFolders) -> tuple[list[RGBImage], list[int]]:
    rows = folders.others.grocery_rows()[:: folders.thin]
    return [pixels_of(path) for path, _ in rows], [fine for _, fine in rows]


def _squared(image: RGBImage) -> UInt8:
    return np.asarray(cv2.resize(image, (CANVAS_PX, CANVAS_PX), interpolation=cv2.INTER_AREA), np.uint8)


def _backdrops(folders: MaterialFolders, groceries: Sequence[RGBImage], *, seed: int) -> Tensor:
    """Patches of photographs that are not held out, of groceries, and of made-up textures."""
    photographs = sorted(load_photographs(folders.photographs).items())
    kept = [image for number, (_, image) in enumerate(photographs) if number % HELD_OUT_PHOTOGRAPHS]
    enlarged = [cv2.resize(image, (BACKDROP_PX,) * 2, interpolation=cv2.INTER_LINEAR) for image in groceries]
    rng = np.random.default_rng(seed)
    backgrounds = (Backgrounds(kept), Backgrounds([np.asarray(image, np.uint8) for image in enlarged]))
    counts = (max(1, _BACKDROPS // folders.thin), len(groceries))
    patches = [
        source.patch(rng, height=BACKDROP_PX, width=BACKDROP_PX)
        for source, count in zip(backgrounds, counts, strict=True)
        for _ in range(count)
    ]
    return torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2).contiguous()
