"""From rows to matches, and when two manifests mean the same index."""

from __future__ import annotations

from searchanything.core.errors import IndexMismatchError
from searchanything.core.types import ImageMatch, ImageRow, IndexManifest, RegionMatch, RegionRow
from searchanything.encode.fingerprint import SCHEMA_VERSION


def region_match(row: RegionRow, distance_bits: int) -> RegionMatch:
    """The row without its code, with its distance to a query."""
    return RegionMatch(
        image=row.image,
        etag=row.etag,
        generation=row.generation,
        region=row.region,
        box_xyxy=row.box_xyxy,
        area_px=row.area_px,
        mask=row.mask,
        score=row.score,
        image_width=row.image_width,
        image_height=row.image_height,
        indexed_at_ms=row.indexed_at_ms,
        metadata=row.metadata,
        distance_bits=distance_bits,
    )


def image_match(row: ImageRow, distance_bits: int) -> ImageMatch:
    """The row without its code, with its distance to a query."""
    return ImageMatch(
        image=row.image,
        etag=row.etag,
        generation=row.generation,
        image_width=row.image_width,
        image_height=row.image_height,
        metadata=row.metadata,
        distance_bits=distance_bits,
    )


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
