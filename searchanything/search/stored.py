"""What the index holds of one image or region: looked up by name, without models and without the image itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from searchanything.core.arguments import check_kind, check_under, whole_number_of
from searchanything.core.errors import ObjectNotFoundError
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import ImageRow, ImageState, RegionRow, row_id
from searchanything.core.types import ImageRef, MaskRLE, RegionRef, Selection

AnyRow = TypeVar("AnyRow", ImageRow, ImageState)
_RUN_OF_ALL = MaskRLE((1, 1), "01")  # COCO's encoding of one cell that is set


def list_images(index: RegionIndex, *, bucket: str | None, key_prefix: str, most: int) -> tuple[list[ImageRow], bool]:
    """The newest rows of indexed images, by bucket and key, and whether these are all: at most `most` are looked at.

    Images without regions are among them, for they are found by their whole image.

    An index that holds more answers with the first that come, in its own order. Raises: UsageError.
    """
    most = whole_number_of(most, "most", least=1)
    check_under(bucket, key_prefix)
    return _newest(index.iterate_images(bucket=bucket, key_prefix=key_prefix), most)


def list_image_names(
    index: RegionIndex, *, bucket: str | None, key_prefix: str, most: int
) -> tuple[list[ImageRef], bool]:
    """The same images' names alone, in less time and a quarter of the memory, or less."""
    found, complete = _newest(index.iterate_states(bucket=bucket, key_prefix=key_prefix), most)
    return [row.image for row in found], complete


def _newest(rows: Iterable[AnyRow], most: int) -> tuple[list[AnyRow], bool]:
    """The newest findable row of each image of the first `most`, by bucket and key, and whether there are no more."""
    newest: dict[ImageRef, AnyRow] = {}
    complete = True
    for row in rows:
        if row.image not in newest and len(newest) == most:
            complete = False
            break
        known = newest.get(row.image)
        if known is None or known.generation < row.generation:
            newest[row.image] = row
    found = sorted(newest.values(), key=lambda row: row.image)
    return [row for row in found if row.is_findable], complete


def stored_image(index: RegionIndex, image: ImageRef) -> ImageRow:
    """The image's row, if it is indexed. Raises: ObjectNotFoundError; UsageError for what is no `ImageRef`."""
    check_kind(image, ImageRef, "image", "an ImageRef (`locate` gives that of a name)")
    return _findable(index.newest([image]).get(image), image)


def _findable(row: ImageRow | None, image: ImageRef) -> ImageRow:
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


def _there(row: RegionRow | None, image: ImageRow, number: int) -> RegionRow:
    if row is None and 0 <= number < image.regions:
        raise ObjectNotFoundError(
            f"region {number} of {image.image} has no row: the image was replaced just now, or the index lost rows "
            f"(`searchanything status`); `searchanything sync repair SOURCE` indexes such images again"
        )
    if row is None and not image.regions:
        raise ObjectNotFoundError(f"{image.image} has no regions: only the image as a whole can be asked about")
    if row is None:
        raise ObjectNotFoundError(f"expected a region of {image.image} from 0 to {image.regions - 1}, got {number}")
    return row


def stored_rows(index: RegionIndex, refs: Sequence[RegionRef]) -> list[RegionRow | ImageRow]:
    """The rows of regions, and of images as wholes, in this order. Raises: ObjectNotFoundError."""
    newest = index.newest({ref.image for ref in refs})
    images = {ref.image: _findable(newest.get(ref.image), ref.image) for ref in refs}
    ids = {ref: row_id(ref.image, images[ref.image].generation, ref.region) for ref in refs if ref.region is not None}
    regions = index.regions(list(ids.values())) if ids else {}
    return [
        images[ref.image] if ref.region is None else _there(regions.get(ids[ref]), images[ref.image], ref.region)
        for ref in refs
    ]


def stored_selection(rows: Sequence[RegionRow | ImageRow], refs: Sequence[RegionRef]) -> Selection:
    """What a region, or a whole image, selects; of several, the first is shown."""
    row, ref = rows[0], refs[0]
    if isinstance(row, ImageRow):
        box = (0.0, 0.0, float(row.image_width), float(row.image_height))
        area, mask, score = row.image_width * row.image_height, _RUN_OF_ALL, 1.0
    else:
        box, area, mask, score = row.box_xyxy, row.area_px, row.mask, row.score
    kind = "image" if isinstance(row, ImageRow) else "region"
    what = "the whole image" if kind == "image" else f"region {ref.region}"
    reason = f"{what} of {ref.image}, as it is indexed"
    if len(rows) > 1:
        reason = f"what {len(rows)} {kind}s of the index have in common; the first is {what} of {ref.image}"
    return Selection(
        kind=kind,  # type: ignore[arg-type]  # one of two names
        box_xyxy=box,
        area_px=area,
        mask=mask,
        score=score,
        rule="stored",
        reason=reason,
    )
