"""What is taught of photographs: the words of street clothing and groceries, and crops that show them.

Folders as `training.street_annotations` and `training.whole_images` read them. One fifth of each is left out, to judge
by; the image tower that ships has seen it all the same (docs/pico.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image

from searchanything.core.types import FloatArray, RGBImage
from searchanything.images.crops import image_crop
from training.street_annotations import FIFTHS, parts_of

JUDGED_FIFTH: Final = 0  # number modulo 5 of the photographs that figures are of
_LEAST_SIDE_PX: Final = 12
_STREET_STEP: Final = 3  # every third photograph shows all labels often enough
_MOST_OF_A_CLASS: Final = 8


@dataclass(frozen=True, slots=True)
class PhotographFolders:
    """Where street and grocery photographs lie; None where they are not used."""

    street: Path | None = None
    grocery: Path | None = None

    def names(self) -> tuple[str, ...]:
        """All words that are taught, sorted."""
        found: set[str] = set()
        if self.street:
            found |= set(_labels(self.street)[1:])
        if self.grocery:
            index = json.loads((self.grocery / "index.json").read_text("utf-8"))
            found |= {plain_class(name) for name in (*index["fine"], *index["coarse"])}
        return tuple(sorted(found))

    def street_labels(self) -> list[Path]:
        """The label files of the street photographs, without the judged fifth."""
        return taught(self.street) if self.street else []

    def street_things(self, labels: Path) -> tuple[FloatArray, list[str]]:
        """The boxes (n, 4) xyxy of what a street photograph shows, and their words."""
        words = _labels(labels.parent)
        found = list(parts_of(np.asarray(cv2.imread(str(labels), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)))
        corners = [cv2.boundingRect(mask.astype(np.uint8)) for _, mask in found]
        boxes = np.array([(x, y, x + width, y + height) for x, y, width, height in corners], np.float32)
        return boxes.reshape(-1, 4), [words[label] for label, _ in found]

    def grocery_rows(self) -> list[tuple[Path, int]]:
        """The grocery photographs and their fine classes, without the judged fifth."""
        return [(self.grocery / file, fine) for file, fine in _rows(self.grocery)] if self.grocery else []

    def crops(self, *, size_px: int) -> dict[str, list[RGBImage]]:
        """Up to 8 crops (S, S, 3) of each word, none of the judged fifth."""
        found: dict[str, list[RGBImage]] = {}
        for name, part in chain(self._street_parts(), self._grocery_parts()):
            if len(crops := found.setdefault(name, [])) < _MOST_OF_A_CLASS:
                crops.append(image_crop(part(), size_px=size_px))
        return found

    def _street_parts(self) -> Iterator[tuple[str, Callable[[], RGBImage]]]:
        if self.street is None:
            return
        words = _labels(self.street)
        for path in taught(self.street)[::_STREET_STEP]:
            image = pixels_of(path.with_suffix(".jpg"))
            labels = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
            for label, mask in parts_of(labels):
                rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
                part = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                if min(part.shape[:2]) >= _LEAST_SIDE_PX:
                    yield words[label], partial(np.asarray, part)

    def _grocery_parts(self) -> Iterator[tuple[str, Callable[[], RGBImage]]]:
        if self.grocery is None:
            return
        index = json.loads((self.grocery / "index.json").read_text("utf-8"))
        for path, fine in self.grocery_rows():
            part = partial(pixels_of, path)
            for name in dict.fromkeys(plain_class(index[kind][fine]) for kind in ("fine", "coarse")):
                yield name, part


def plain_class(name: str) -> str:
    """A class' name as people write it: "Red-Bell-Pepper" is "red bell pepper"."""
    return name.replace("-", " ").lower()


def taught(street: Path) -> list[Path]:
    """The label files of street photographs, without the judged fifth."""
    return [path for path in sorted(street.glob("*.png")) if int(path.stem) % FIFTHS != JUDGED_FIFTH]


def _rows(grocery: Path) -> list[tuple[str, int]]:
    """Files and fine classes of grocery photographs, without the judged fifth."""
    index = json.loads((grocery / "index.json").read_text("utf-8"))
    return [(row[0], row[1]) for place, row in enumerate(index["rows"]) if place % FIFTHS != JUDGED_FIFTH]


def _labels(street: Path) -> list[str]:
    words: list[str] = json.loads((street / "labels.json").read_text("utf-8"))
    return words


def pixels_of(path: Path) -> RGBImage:
    """A photograph's pixels."""
    with Image.open(path) as stored:
        return np.asarray(stored.convert("RGB"))
