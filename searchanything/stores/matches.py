"""From rows to hits, and when two manifests mean the same index."""

from __future__ import annotations

from searchanything.core.errors import IndexMismatchError
from searchanything.core.manifest import SCHEMA_VERSION, IndexManifest
from searchanything.core.rows import ImageRow, ImageState
from searchanything.core.types import Hit, ImageRef, Metadata


def image_hit(row: ImageRow, distance_bits: int) -> Hit:
    """The row as an answer, with its distance to a query."""
    version, size = (row.etag, row.generation), (row.image_width, row.image_height)
    return whole_image_hit(row.image, version, size=size, metadata=row.metadata, distance_bits=distance_bits)


def whole_image_hit(
    image: ImageRef, version: tuple[str, int], *, size: tuple[int, int], metadata: Metadata, distance_bits: int
) -> Hit:
    """A whole image as an answer. `version` is its etag and generation, `size` (width, height)."""
    width, height = size
    return Hit(
        image=image, etag=version[0], generation=version[1], metadata=metadata, region=None,
        box_xyxy=(0.0, 0.0, float(width), float(height)), mask=None, area_px=width * height, score=1.0,
        image_width=width, image_height=height, distance_bits=distance_bits,
    )  # fmt: skip


def image_state(row: ImageRow) -> ImageState:
    """The row without what is no state."""
    return ImageState(
        image=row.image, etag=row.etag, generation=row.generation, outcome=row.outcome, regions=row.regions,
        modified_at_ms=row.modified_at_ms, sidecar_etag=row.sidecar_etag,
    )  # fmt: skip


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
