"""Altered copies of an image, in which regions must still be recognised: smaller, mirrored, turned, dark and so on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import cv2
import numpy as np

from searchanything.core.types import BoolMask, RGBImage

Copy: TypeAlias = tuple[RGBImage, BoolMask]  # an altered image, and where one region lies in it
Alteration: TypeAlias = Callable[[RGBImage, Sequence[BoolMask]], list[Copy]]

SCALE: Final = 0.6
TURN_DEGREES: Final = 10.0
GAIN: Final = 0.55
JPEG_QUALITY: Final = 30
SURROUNDINGS: Final = 2.0  # the cut is so many times as wide and high as the region's box
_LEAST_SIDE_PX: Final = 32


def _smaller(image: RGBImage, masks: Sequence[BoolMask]) -> list[Copy]:
    height, width = (round(side * SCALE) for side in image.shape[:2])
    small = _pixels(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    return [(small, _resized(mask, height, width)) for mask in masks]


def _mirrored(image: RGBImage, masks: Sequence[BoolMask]) -> list[Copy]:
    flipped = np.ascontiguousarray(image[:, ::-1])
    return [(flipped, np.ascontiguousarray(mask[:, ::-1])) for mask in masks]


def _turned(image: RGBImage, masks: Sequence[BoolMask]) -> list[Copy]:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), TURN_DEGREES, 1.0)
    turned = _pixels(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101))
    moved = [cv2.warpAffine(mask.astype(np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST) for mask in masks]
    return [(turned, np.asarray(one, dtype=np.bool_)) for one in moved]


def _dark(image: RGBImage, masks: Sequence[BoolMask]) -> list[Copy]:
    dark = np.round(image * GAIN).astype(np.uint8)
    return [(dark, mask) for mask in masks]


def _coarse(image: RGBImage, masks: Sequence[BoolMask]) -> list[Copy]:
    _, packed = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    coarse = np.ascontiguousarray(_pixels(cv2.imdecode(packed, cv2.IMREAD_COLOR))[..., ::-1])
    return [(coarse, mask) for mask in masks]


def _cut(image: RGBImage, masks: Sequence[BoolMask]) -> list[Copy]:
    """Each region with some of its surroundings: an image of its own."""
    copies = []
    for mask in masks:
        rows, columns = (_around(np.asarray(mask.any(axis=axis), dtype=np.bool_)) for axis in (1, 0))
        copies.append((np.ascontiguousarray(image[rows, columns]), np.ascontiguousarray(mask[rows, columns])))
    return copies


ALTERATIONS: Final[Mapping[str, Alteration]] = {
    "smaller": _smaller,
    "mirrored": _mirrored,
    "turned": _turned,
    "dark": _dark,
    "coarse": _coarse,
    "cut": _cut,
}


def _around(occupied: BoolMask) -> slice:
    """The stretch of a side that a cut shows, by which of its pixels the region occupies."""
    places = np.flatnonzero(occupied)
    if not len(places):
        return slice(0, len(occupied))
    centre, length = (places[0] + places[-1] + 1) / 2, places[-1] + 1 - places[0]
    half = max(length * SURROUNDINGS, _LEAST_SIDE_PX) / 2
    return slice(max(0, int(centre - half)), min(len(occupied), int(np.ceil(centre + half))))


def _resized(mask: BoolMask, height: int, width: int) -> BoolMask:
    return np.asarray(
        cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.bool_
    )


def _pixels(array: object) -> RGBImage:
    return np.asarray(array, dtype=np.uint8)
