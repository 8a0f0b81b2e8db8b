"""What annotated images hold, whatever file the annotations come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from searchanything.core.types import BoxXYXY, MaskRLE


@dataclass(frozen=True, slots=True)
class Instance:
    """One annotated object: its visible pixels at the image's size, and a box in image pixels.

    A `crowd` is an area that holds several objects of its category: nothing is asked about it, and hits on it count
    neither way. `attributes` are what the annotation says besides, as text, of the names that were asked for.
    `annotation` is its id in the file, or its place there.
    """

    category: str
    box_xyxy: BoxXYXY
    area_px: float
    mask: MaskRLE
    crowd: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)
    annotation: str = ""

    @property
    def longest_side_px(self) -> float:
        """The longer side of the box."""
        x1, y1, x2, y2 = self.box_xyxy
        return max(x2 - x1, y2 - y1)


@dataclass(frozen=True, slots=True)
class TrueImage:
    """One image: its file's name below the images' folder, its size in pixels, its objects.

    Pixels of `void` belong to nobody: they are taken out of every region before it is compared. None: there are none.
    """

    file_name: str
    height: int
    width: int
    instances: tuple[Instance, ...]
    void: MaskRLE | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """Annotated images, and how many annotations without any pixel were left out."""

    images: tuple[TrueImage, ...]
    empty_annotations: int = 0

    def sample(self, count: int | None, *, seed: int) -> Self:
        """At most `count` of the images, drawn by `seed`, in their order; all for None."""
        if count is None:
            return self
        drawn = np.sort(np.random.default_rng(seed).permutation(len(self.images))[:count])
        return replace(self, images=tuple(self.images[place] for place in drawn))


def attribute_text(value: object) -> str:
    """An attribute's value as it names a group: JSON's spelling of booleans, anything else as Python writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
