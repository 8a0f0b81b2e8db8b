"""Masks as COCO writes them: polygons, or a run-length encoding, as a text or as a list of numbers.

Format: https://cocodataset.org/#format-data, "Object Detection".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

from annotated_types import MinLen
from pydantic import BaseModel, BeforeValidator

from searchanything.core.counting import counted
from searchanything.core.geometry import MAX_MASK_CELLS, check_rle
from searchanything.core.libraries import LazyModule
from searchanything.core.types import MaskRLE

if TYPE_CHECKING:
    from pycocotools import mask as coco_mask
else:
    coco_mask = LazyModule("pycocotools.mask")

_MERGED: Final = 8  # polygons at once
_CORNERS: Final = 6  # numbers of a triangle
Polygon: TypeAlias = Annotated[list[float], MinLen(_CORNERS)]  # x, y, x, y, …


def _with_area(outline: object) -> object:
    """Without polygons of up to two points, as contours of single pixels are: they have no area."""
    if not isinstance(outline, list):
        return outline
    return [one for one in outline if not (isinstance(one, list) and len(one) in (0, 2, 4))]


Polygons: TypeAlias = Annotated[list[Polygon], BeforeValidator(_with_area)]


class CocoRle(BaseModel):
    """A run-length encoding of a mask of `size` (height, width): compressed, or the runs themselves."""

    size: tuple[int, int]
    counts: str | list[int]


def read_coco_mask(outline: list[list[float]] | CocoRle, size: tuple[int, int]) -> MaskRLE:
    """The mask at the image's size (height, width), checked: it can be decoded. It may have no pixel.

    Raises: ValueError for what is no mask of that size, or one of more than `MAX_MASK_CELLS`.
    """
    if size[0] * size[1] > MAX_MASK_CELLS:
        raise ValueError(f"expected at most {MAX_MASK_CELLS:,} pixels, got {size[1]} x {size[0]}")
    if isinstance(outline, CocoRle):
        return _run_lengths(outline, size)
    if any(len(polygon) % 2 for polygon in outline):
        raise ValueError("expected polygons of x, y pairs, got an odd number of coordinates")
    reach = 2 * max(size) + 1
    if not all(-reach <= place <= 2 * reach for polygon in outline for place in polygon):  # a pixel a step is walked
        raise ValueError(f"expected coordinates near the image, from {-reach} to {2 * reach}, got others")
    parts = coco_mask.frPyObjects(outline, *size)
    while len(parts) > 1:  # each is merged with all before it: of a thousand at once that took six seconds
        parts = [coco_mask.merge(parts[first : first + _MERGED]) for first in range(0, len(parts), _MERGED)]
    return MaskRLE(size, parts[0]["counts"].decode("ascii"))


def mask_pixels(mask: MaskRLE) -> int:
    """How many pixels a mask has, without decoding it."""
    return int(coco_mask.area(_encoded(mask)))


def mask_box(mask: MaskRLE) -> tuple[float, float, float, float]:
    """The tight box (left, top, width, height) around a mask, without decoding it."""
    left, top, width, height = (float(side) for side in coco_mask.toBbox(_encoded(mask)))
    return left, top, width, height


def _encoded(mask: MaskRLE) -> dict[str, object]:
    return {"size": mask.size, "counts": mask.counts.encode("ascii")}


def _run_lengths(rle: CocoRle, size: tuple[int, int]) -> MaskRLE:
    if rle.size != size:
        raise ValueError(f"expected the image's size {size}, got {rle.size}")
    counts = rle.counts
    if isinstance(counts, list):
        if min(counts, default=0) < 0 or sum(counts) != size[0] * size[1]:
            got = f"{sum(counts)} in {counted(len(counts), 'run')}"
            raise ValueError(f"expected runs of {size[0] * size[1]} pixels, got {got}")
        plain = {"size": size, "counts": counts}
        return MaskRLE(size, coco_mask.frPyObjects(plain, *size)["counts"].decode("ascii"))
    mask = MaskRLE(size, counts)
    check_rle(mask)  # pycocotools trusts its input, and would read beyond it
    return mask
