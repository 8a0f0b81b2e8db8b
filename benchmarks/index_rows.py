"""Rows for the programs that fill an index by hand: what matters is given, the rest is plausible."""

from __future__ import annotations

from typing import Any, Final

from searchanything.core.rows import ImageRow, Outcome, RegionRow, row_id
from searchanything.core.types import ImageRef, MaskRLE

_SHARED: Final[dict[str, Any]] = {"etag": "etag", "image_width": 640, "image_height": 480, "metadata": {}}
_REGION: Final[dict[str, Any]] = _SHARED | {
    "box_xyxy": (1.0, 2.0, 41.0, 60.0),
    "area_px": 900,
    "mask": MaskRLE((120, 160), "Rg^1:f30P1"),
    "score": 0.75,
    "indexed_at_ms": 1,
}
_IMAGE: Final[dict[str, Any]] = _SHARED | {
    "outcome": Outcome.INDEXED,
    "regions": 0,
    "error": "",
    "message": "",
    "attempts": 1,
    "first_at_ms": 1,
    "last_at_ms": 1,
}


def region_row(image: ImageRef, generation: int, region: int, code: bytes, **rest: Any) -> RegionRow:  # noqa: ANN401
    """A region of an image."""
    values = {**_REGION, **rest}
    id_ = row_id(image, generation, region)
    return RegionRow(id=id_, code=code, image=image, generation=generation, region=region, **values)


def image_row(image: ImageRef, generation: int, code: bytes, **rest: Any) -> ImageRow:  # noqa: ANN401
    """An image that was indexed."""
    return ImageRow(id=row_id(image, generation), code=code, image=image, generation=generation, **{**_IMAGE, **rest})
