"""Regions that an image's sidecar gives: of a detector, of annotators, in place of the segmenter's.

    {"regions": [{"box_xyxy": [10, 20, 90, 80], "mask": {"size": [480, 640], "counts": "…"}, "score": 0.9}, …]}

Boxes and masks are in the image's pixels, upright as it is shown. A region has a box, a mask or both; a mask is COCO's,
run-length encoded or polygons. COCO's own names, `bbox` [x, y, width, height] and `segmentation`, will do as well.

A region that is none is left out, as a sidecar's bad values are, and `sidecar_problem` tells it. Where nothing is left
of a list, the image has the segmenter's regions: else nobody would find it. An empty list says that there are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from searchanything.core.coco_masks import CocoRle, Polygons, mask_box, mask_pixels, read_coco_mask
from searchanything.core.counting import counted
from searchanything.core.types import BoxXYXY, FloatArray, Hit, MaskRLE, StoredObject
from searchanything.images.sidecars import SIDECAR_PROBLEM, SIDECAR_REGIONS, problem

MOST_GIVEN_REGIONS: Final = 1000  # as many as a region policy may keep
MOST_OUTLINE_PX: Final = 1 << 22  # of all polygons of an image: pycocotools walks them, 120 bytes and 5 steps a pixel
MOST_POLYGONS: Final = 1000  # of a mask: each is merged with all before it
_SHOWN: Final = 3
_MESSAGE_CHARACTERS: Final = 120
_NEITHER: Final = "expected a box or a mask, got neither"
_Number = Annotated[float, Field(strict=True)]
_FourNumbers = tuple[_Number, _Number, _Number, _Number]


class _Region(BaseModel):
    """One entry of the list; what else it holds is its writer's."""

    model_config = ConfigDict(allow_inf_nan=False)

    box_xyxy: _FourNumbers | None = None
    bbox: _FourNumbers | None = None  # left, top, width, height
    bbox_mode: Any = 1  # Detectron2's name of that; its 0 are corners
    mask: Polygons | CocoRle | None = None
    segmentation: Polygons | CocoRle | None = None
    score: Annotated[_Number, Field(ge=0, le=1)] | None = None
    image_size: tuple[int, int] | None = None  # height, width


@dataclass(frozen=True, slots=True, eq=False)
class GivenRegions:
    """N regions of one image, by falling score.

    `boxes_xyxy` (N, 4) float32 in image pixels, inside the image; `areas_px` (N,) and `scores` (N,) float32; `masks` of
    the image or of any grid that spans it, None for one that is its box.
    """

    boxes_xyxy: FloatArray
    areas_px: FloatArray
    scores: FloatArray
    masks: tuple[MaskRLE | None, ...]

    @classmethod
    def of_hits(cls, hits: Sequence[Hit]) -> Self:
        """Regions of one image as the index has them."""
        return cls.of([(one.box_xyxy, float(one.area_px), one.score, one.mask) for one in hits])

    @classmethod
    def of(cls, regions: Sequence[tuple[BoxXYXY, float, float, MaskRLE | None]]) -> Self:
        """Regions as box, area, score and mask each, in any order."""
        ordered = sorted(regions, key=lambda one: -one[2])
        return cls(
            boxes_xyxy=np.array([one[0] for one in ordered], dtype=np.float32).reshape(-1, 4),
            areas_px=np.array([one[1] for one in ordered], dtype=np.float32),
            scores=np.array([one[2] for one in ordered], dtype=np.float32),
            masks=tuple(one[3] for one in ordered),
        )


def with_given_regions(found: StoredObject, size: tuple[int, int]) -> tuple[StoredObject, GivenRegions | None]:
    """An image of this (height, width), its metadata completed by what its sidecar's regions are, and these.

    None where it gives none that can be used: then the metadata say why, if it tried to.
    """
    if found.regions is None:
        return found, None
    regions, wrong = read_given_regions(found.regions, size)
    metadata = dict(found.metadata)
    if wrong:
        metadata |= problem("; ".join(str(one) for one in (metadata.get(SIDECAR_PROBLEM), wrong) if one))
    if regions is not None:
        metadata[SIDECAR_REGIONS] = len(regions.scores)
    return replace(found, regions=None, metadata=metadata), regions


def read_given_regions(document: object, size: tuple[int, int]) -> tuple[GivenRegions | None, str]:
    """The regions of an image of this (height, width) that a JSON value lists, and what is wrong with it, or "".

    None where it is no list, a list of too many, or one of which nothing can be used.
    """
    if not isinstance(document, list):
        return None, f"regions: expected a list, got {type(document).__name__}; the segmenter's are indexed"
    if len(document) > MOST_GIVEN_REGIONS:
        most = f"at most {MOST_GIVEN_REGIONS} are taken"
        return None, f"regions: {most}, got {len(document)}; the segmenter's are indexed"
    found, wrong, room_px = [], [], float(MOST_OUTLINE_PX)
    for number, one in enumerate(document):
        try:
            said = _entry(one)
            room_px -= _outline_px(said, room_px)  # walked, whatever it turns out to be
            found.append(_region(said, size))
        except ValueError as error:  # pydantic's as well
            wrong.append(f"regions[{number}]: {_reason(error)}")
    if not wrong:
        return GivenRegions.of(found), ""
    more = " …" if len(wrong) > _SHOWN else ""
    shown = "; ".join(wrong[:_SHOWN]) + more
    if not found:
        return None, f"none of {counted(len(document), 'region')} can be used, the segmenter's are indexed: {shown}"
    return GivenRegions.of(found), f"{len(wrong)} of {counted(len(document), 'region')} left out: {shown}"


def check_given_region(document: object) -> None:
    """Raises: ValueError, in a few words, for a value that is no region of any image."""
    try:
        said = _entry(document)
        x1, y1, x2, y2 = box = _box(said) or (0.0, 0.0, 0.0, 0.0)
        if not (said.mask or said.segmentation) and not (x1 < x2 and y1 < y2):
            raise ValueError(f"expected a box with a width and a height, got {box}" if any(box) else _NEITHER)
    except ValueError as error:
        raise ValueError(_reason(error)) from None


def _entry(document: object) -> _Region:
    """One entry of the list. Raises: ValueError."""
    if not isinstance(document, dict):
        raise ValueError(f"expected an object with a box or a mask, got {type(document).__name__}")  # noqa: TRY004
    return _Region.model_validate(document)


def _outline_px(said: _Region, room_px: float) -> float:
    """How long an entry's polygons are. Raises: ValueError for more than there is room for, or too many."""
    polygons = [one for outline in (said.mask, said.segmentation) if isinstance(outline, list) for one in outline]
    if len(polygons) > MOST_POLYGONS:
        raise ValueError(f"expected at most {MOST_POLYGONS} polygons, got {len(polygons)}")
    length_px = 0.0
    for polygon in polygons:
        points = list(zip(polygon[::2], polygon[1::2], strict=False))  # of an odd number of coordinates others tell
        ends = [*points[1:], points[0]]
        length_px += sum(max(abs(x - u), abs(y - v)) for (x, y), (u, v) in zip(points, ends, strict=True))
    if length_px > room_px:
        raise ValueError(f"expected outlines of at most {MOST_OUTLINE_PX:,} pixels in all, got longer ones")
    return length_px


def _region(said: _Region, size: tuple[int, int]) -> tuple[BoxXYXY, float, float, MaskRLE | None]:
    """Box, area, score and mask of one entry. Raises: ValueError."""
    if said.image_size not in (None, size):
        raise ValueError(f"expected a region drawn on an image of the size {size}, got one of {said.image_size}")
    outline, box = said.mask or said.segmentation, _box(said)
    mask = read_coco_mask(outline, size) if outline else None
    score = 1.0 if said.score is None else said.score
    if mask is None:
        if box is None:
            raise ValueError(_NEITHER)
        x1, y1, x2, y2 = inside = _inside(box, size)
        return inside, (x2 - x1) * (y2 - y1), score, None
    pixels, around = mask_pixels(mask), _corners(mask_box(mask))
    if not pixels:
        raise ValueError("expected a mask with a pixel, got an empty one")
    if box is None or _is_flat(box):
        return around, float(pixels), score, mask
    x1, y1, x2, y2 = inside = _inside(box, size)
    if min(x2, around[2]) <= max(x1, around[0]) or min(y2, around[3]) <= max(y1, around[1]):
        raise ValueError("expected a mask in its box, got one beside it")
    return inside, float(pixels), score, mask


def _box(said: _Region) -> BoxXYXY | None:
    """The box of an entry, which may have both, as those that `export` writes. Raises: ValueError."""
    if said.box_xyxy is not None or said.bbox is None:
        return said.box_xyxy
    if said.bbox_mode != 1:
        raise ValueError("expected a bbox of bbox_mode 1, got another: corners are box_xyxy")
    return _corners(said.bbox)


def _corners(box: Sequence[float]) -> BoxXYXY:
    """The corners of a box (left, top, width, height)."""
    left, top, width, height = box
    return left, top, left + width, top + height


def _is_flat(box: BoxXYXY) -> bool:
    """Whether a box has no width or no height, as SAM writes those of masks one pixel wide: to the last pixel."""
    x1, y1, x2, y2 = box
    return min(x2 - x1, y2 - y1) == 0


def _inside(box: BoxXYXY, size: tuple[int, int]) -> BoxXYXY:
    """The part of a box that lies in the image. Raises: ValueError if there is none."""
    (x1, y1, x2, y2), (height, width) = box, size
    left, right = (min(max(side, 0.0), float(width)) for side in (x1, x2))
    top, bottom = (min(max(side, 0.0), float(height)) for side in (y1, y2))
    as_kept = np.array([left, top, right, bottom], dtype=np.float32)
    if not (as_kept[0] < as_kept[2] and as_kept[1] < as_kept[3]):
        shown = ", ".join(f"{side:g}" for side in box)
        raise ValueError(f"expected a box in the image of {width} x {height} pixels, got [{shown}]")
    return left, top, right, bottom


def _reason(error: ValueError) -> str:
    """What is wrong with an entry, in a few words."""
    text = str(error)
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        text = f"{first['loc'][0]} {first['msg']}"
    return text[:_MESSAGE_CHARACTERS]
