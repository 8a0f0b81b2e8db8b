"""What the index holds of one image or region: looked up by name, without models and without the image itself."""

from __future__ import annotations

import numpy as np

from searchanything.core.errors import ObjectNotFoundError
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import (
    Codes,
    ImageRef,
    ImageRow,
    MaskRLE,
    Outcome,
    RegionRef,
    RegionRow,
    Selection,
    row_id,
)

_RUN_OF_ALL = MaskRLE((1, 1), "01")  # COCO's encoding of one cell that is set


def list_images(
    index: RegionIndex, *, bucket: str | None = None, key_prefix: str = "", most: int
) -> tuple[list[ImageRow], bool]:
    """The newest rows of indexed images, by bucket and key, and whether these are all: at most `most` are looked at.

    An index that holds more answers with the first that come, in its own order.
    """
    newest: dict[ImageRef, ImageRow] = {}
    complete = True
    for row in index.iterate_images(bucket=bucket, key_prefix=key_prefix):
        if row.image not in newest and len(newest) == most:
            complete = False
            break
        known = newest.get(row.image)
        if known is None or known.generation < row.generation:
            newest[row.image] = row
    rows = sorted(newest.values(), key=lambda row: row.image)
    return [row for row in rows if row.outcome is Outcome.INDEXED], complete


def stored_image(index: RegionIndex, image: ImageRef) -> ImageRow:
    """The image's row, if it is indexed. Raises: ObjectNotFoundError."""
    row = index.newest([image]).get(image)
    if row is None or not row.is_findable:
        raise ObjectNotFoundError(
            f"{image} is not in the index, or its last attempt failed: `searchanything failed list`"
        )
    return row


def stored_regions(index: RegionIndex, image: ImageRow) -> list[RegionRow]:
    """All regions of an image's committed generation, by number."""
    ids = [row_id(image.image, image.generation, number) for number in range(image.regions)]
    found = index.regions(ids)
    return [found[name] for name in ids if name in found]


def stored_region(index: RegionIndex, image: ImageRow, number: int) -> RegionRow:
    """One of them. Raises: ObjectNotFoundError."""
    name = row_id(image.image, image.generation, number)
    row = index.regions([name]).get(name)
    if row is None:
        raise ObjectNotFoundError(f"expected a region of {image.image} from 0 to {image.regions - 1}, got {number}")
    return row


def stored_selection(row: RegionRow | ImageRow, ref: RegionRef) -> tuple[Codes, Selection]:
    """The code (B,) of a region, or of a whole image, and what it selects."""
    code = np.frombuffer(row.code, dtype=np.uint8)
    if isinstance(row, ImageRow):
        box = (0.0, 0.0, float(row.image_width), float(row.image_height))
        area, mask, score = row.image_width * row.image_height, _RUN_OF_ALL, 1.0
    else:
        box, area, mask, score = row.box_xyxy, row.area_px, row.mask, row.score
    kind = "image" if isinstance(row, ImageRow) else "region"
    what = "the whole image" if kind == "image" else f"region {ref.region}"
    reason = f"{what} of {ref.image}, as it is indexed"
    return code, Selection(
        kind=kind,  # type: ignore[arg-type]  # one of two names
        box_xyxy=box,
        area_px=area,
        mask=mask,
        score=score,
        rule="stored",
        reason=reason,
    )
