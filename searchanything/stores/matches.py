"""From rows to hits, and when two manifests mean the same index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final

from searchanything.core.errors import IndexMismatchError
from searchanything.core.types import Hit, ImageRow, ImageState, IndexManifest, RegionRow
from searchanything.encode.fingerprint import SCHEMA_VERSION

WHOLE_IMAGE_FIELDS: Final = ("image", "etag", "generation", "image_width", "image_height", "metadata")
# By position: a search makes hundreds of hits.
_BEFORE_DISTANCE: Final = attrgetter("image", "etag", "region", "box_xyxy", "mask", "area_px", "score")
_AFTER_DISTANCE: Final = attrgetter("image_width", "image_height", "metadata", "generation")
_STATE_FIELDS: Final = tuple(one.name for one in fields(ImageState))


def region_hit(row: RegionRow, distance_bits: int) -> Hit:
    """The row as an answer, with its distance to a query."""
    values: tuple[Any, ...] = (*_BEFORE_DISTANCE(row), distance_bits, *_AFTER_DISTANCE(row))
    return Hit(*values)


def image_hit(row: ImageRow, distance_bits: int) -> Hit:
    """The row as an answer, with its distance to a query."""
    return whole_image_hit({name: getattr(row, name) for name in WHOLE_IMAGE_FIELDS}, distance_bits)


def whole_image_hit(values: Mapping[str, Any], distance_bits: int) -> Hit:
    """A whole image as an answer, of the values of `WHOLE_IMAGE_FIELDS`."""
    width, height = values["image_width"], values["image_height"]
    box_xyxy = (0.0, 0.0, float(width), float(height))
    whole = {"region": None, "box_xyxy": box_xyxy, "mask": None, "area_px": width * height, "score": 1.0}
    return Hit(**values, **whole, distance_bits=distance_bits)


def image_state(row: ImageRow) -> ImageState:
    """The row without what is no state."""
    return ImageState(**{name: getattr(row, name) for name in _STATE_FIELDS})


def check_schema(manifest: IndexManifest, uri: str) -> None:
    """Refuse an index whose rows another version wrote: none is read half, and none is written into.

    Raises: IndexMismatchError.
    """
    found = manifest.schema_version
    what = f"{uri}: the rows of index {manifest.fingerprint} are of schema {found}, this version reads {SCHEMA_VERSION}"
    if found > SCHEMA_VERSION:
        raise IndexMismatchError(f"{what}: a newer searchanything made it; upgrade this one")
    if found < SCHEMA_VERSION:
        raise IndexMismatchError(
            f"{what}: an earlier searchanything made it; index the images again under another --uri (on a server also "
            f"SEARCHANYTHING_MILVUS__COLLECTION_PREFIX), or query it with the version that made it"
        )


def check_same_index(stored: IndexManifest, wanted: IndexManifest) -> None:
    """Raises: IndexMismatchError where the index that exists was made otherwise than the wanted one."""
    for name in ("fingerprint", "feature_fingerprint", "bits", "hash_digest", "schema_version"):
        if getattr(stored, name) != getattr(wanted, name):
            raise IndexMismatchError(
                f"index {stored.fingerprint} has {name} {getattr(stored, name)}, expected {getattr(wanted, name)}"
            )
