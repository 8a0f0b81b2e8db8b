"""The collections in Milvus: their fields, and rows on the way in and out.

Boxes and scores are stored as float32; texts have the limits of `row_checks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from searchanything.core.types import (
    ImageMatch,
    ImageRef,
    ImageRow,
    ImageState,
    MaskRLE,
    Outcome,
    RegionMatch,
    RegionRow,
    WordsMatch,
    size_class_of,
)
from searchanything.images.incoming import BUCKET_BYTES, ETAG_BYTES, KEY_BYTES
from searchanything.stores.row_checks import (
    ERROR_BYTES,
    ID_BYTES,
    MASK_COUNTS_BYTES,
    MESSAGE_BYTES,
)

Entity = Mapping[str, Any]  # a row as pymilvus takes and gives it

BODY_BYTES = 60_000
_BATCH_ROWS = 2000
_BATCH_BYTES = 8 * 2**20  # the server refuses messages above 64 MiB; an estimate may be off by far
_ROW_OVERHEAD_BYTES = 400  # numbers, ids and protobuf's own


class FieldType(StrEnum):
    """The types in use, by pymilvus' names."""

    VARCHAR = "VARCHAR"
    INT32 = "INT32"
    INT64 = "INT64"
    FLOAT = "FLOAT"
    JSON = "JSON"
    BINARY_VECTOR = "BINARY_VECTOR"


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field. `size` is the bytes of a VARCHAR or the bits of a vector. The first field is the primary key."""

    name: str
    type: FieldType
    size: int | None = None


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """What a collection is made of. `scalar_index` names a field that a server indexes besides the vector `code`."""

    name: str
    fields: tuple[FieldSpec, ...]
    scalar_index: str | None = None


def regions_spec(name: str, bits: int) -> CollectionSpec:
    """The regions' collection."""
    return CollectionSpec(name, (*_shared_fields(bits), *_REGION_FIELDS), scalar_index="image_id")


def words_spec(name: str, bits: int) -> CollectionSpec:
    """The collection of words codes: what filters go by, but no masks."""
    fields = tuple(field for field in _REGION_FIELDS if field.name != "mask_counts")
    return CollectionSpec(name, (*_shared_fields(bits), *fields), scalar_index="image_id")


def images_spec(name: str, bits: int) -> CollectionSpec:
    """The images' collection."""
    return CollectionSpec(name, (*_shared_fields(bits), *_IMAGE_FIELDS), scalar_index="image_id")


def meta_spec(name: str) -> CollectionSpec:
    """The collection of manifests, hash layers and, on Milvus Lite, the live pointer."""
    return CollectionSpec(
        name,
        (
            FieldSpec("id", FieldType.VARCHAR, 256),
            FieldSpec("code", FieldType.BINARY_VECTOR, 8),  # Milvus wants a vector everywhere
            FieldSpec("kind", FieldType.VARCHAR, 16),
            FieldSpec("fingerprint", FieldType.VARCHAR, 128),
            FieldSpec("number", FieldType.INT64),
            FieldSpec("body", FieldType.VARCHAR, BODY_BYTES),
        ),
    )


def _shared_fields(bits: int) -> tuple[FieldSpec, ...]:
    return (
        FieldSpec("id", FieldType.VARCHAR, ID_BYTES),
        FieldSpec("code", FieldType.BINARY_VECTOR, bits),
        FieldSpec("image_id", FieldType.VARCHAR, ID_BYTES),
        FieldSpec("bucket", FieldType.VARCHAR, BUCKET_BYTES),
        FieldSpec("key", FieldType.VARCHAR, KEY_BYTES),
        FieldSpec("etag", FieldType.VARCHAR, ETAG_BYTES),
        FieldSpec("generation", FieldType.INT64),
        FieldSpec("image_width", FieldType.INT32),
        FieldSpec("image_height", FieldType.INT32),
        FieldSpec("metadata", FieldType.JSON),
    )


_REGION_FIELDS = (
    FieldSpec("region", FieldType.INT32),
    *(FieldSpec(name, FieldType.FLOAT) for name in ("x1", "y1", "x2", "y2")),
    FieldSpec("area_px", FieldType.INT64),
    FieldSpec("size_class", FieldType.VARCHAR, 8),
    FieldSpec("mask_height", FieldType.INT32),
    FieldSpec("mask_width", FieldType.INT32),
    FieldSpec("mask_counts", FieldType.VARCHAR, MASK_COUNTS_BYTES),
    FieldSpec("score", FieldType.FLOAT),
    FieldSpec("indexed_at_ms", FieldType.INT64),
)
_IMAGE_FIELDS = (
    FieldSpec("outcome", FieldType.VARCHAR, 8),
    FieldSpec("error", FieldType.VARCHAR, ERROR_BYTES),
    FieldSpec("message", FieldType.VARCHAR, MESSAGE_BYTES),
    FieldSpec("attempts", FieldType.INT32),
    FieldSpec("first_at_ms", FieldType.INT64),
    FieldSpec("last_at_ms", FieldType.INT64),
    FieldSpec("regions", FieldType.INT32),
    FieldSpec("modified_at_ms", FieldType.INT64),
    FieldSpec("sidecar_etag", FieldType.VARCHAR, ETAG_BYTES),
)
REGION_OUTPUT = [
    field.name for field in regions_spec("", 8).fields if field.name not in ("code", "image_id", "size_class")
]
REGION_ROW_OUTPUT = [*REGION_OUTPUT, "code"]
WORDS_OUTPUT = ["id", "bucket", "key", "generation", "region"]
IMAGE_OUTPUT = [field.name for field in images_spec("", 8).fields if field.name != "image_id"]
IMAGE_STATE_OUTPUT = [
    "bucket", "key", "etag", "generation", "outcome", "regions", "modified_at_ms", "sidecar_etag", "message",
]  # fmt: skip
IMAGE_MATCH_OUTPUT = ["id", "bucket", "key", "etag", "generation", "image_width", "image_height", "metadata"]


def region_entity(row: RegionRow) -> dict[str, Any]:
    """A checked row as Milvus takes it."""
    x1, y1, x2, y2 = (float(value) for value in row.box_xyxy)
    return _shared_values(row) | {
        "region": int(row.region),
        "x1": x1,
        "y1": y1,
        "x2": x2,
        "y2": y2,
        "area_px": int(row.area_px),
        "size_class": size_class_of(row.box_xyxy).value,
        "mask_height": int(row.mask.size[0]),
        "mask_width": int(row.mask.size[1]),
        "mask_counts": row.mask.counts,
        "score": float(row.score),
        "indexed_at_ms": int(row.indexed_at_ms),
    }


def words_entity(row: RegionRow) -> dict[str, Any]:
    """A checked row, whose code is its words code, as Milvus takes it."""
    entity = region_entity(row)
    del entity["mask_counts"]
    return entity


def image_entity(row: ImageRow) -> dict[str, Any]:
    """A checked row as Milvus takes it."""
    return _shared_values(row) | {
        "outcome": row.outcome.value,
        "error": row.error,
        "message": row.message,
        "attempts": int(row.attempts),
        "first_at_ms": int(row.first_at_ms),
        "last_at_ms": int(row.last_at_ms),
        "regions": int(row.regions),
        "modified_at_ms": int(row.modified_at_ms),
        "sidecar_etag": row.sidecar_etag,
    }


def _shared_values(row: RegionRow | ImageRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "code": row.code,
        "image_id": row.image.image_id,
        "bucket": row.image.bucket,
        "key": row.image.key,
        "etag": row.etag,
        "generation": int(row.generation),
        "image_width": int(row.image_width),
        "image_height": int(row.image_height),
        "metadata": dict(row.metadata),
    }


def region_match_of(entity: Entity, distance_bits: int) -> RegionMatch:
    """A hit of a search, with the fields of `REGION_OUTPUT`."""
    return RegionMatch(**_region_of(entity), distance_bits=distance_bits)


def region_row_of(entity: Entity) -> RegionRow:
    """A row with the fields of `REGION_ROW_OUTPUT`."""
    return RegionRow(**_region_of(entity), id=entity["id"], code=code_of(entity))


def code_of(entity: Entity) -> bytes:
    """The vector of a row."""
    return b"".join(entity["code"])  # pymilvus gives a vector of bytes as a list of one


def _region_of(entity: Entity) -> dict[str, Any]:
    """What a region's row and a hit have in common."""
    same = (
        *("etag", "generation", "region", "area_px", "score"),
        *("image_width", "image_height", "indexed_at_ms", "metadata"),
    )
    return {name: entity[name] for name in same} | {
        "image": ImageRef(entity["bucket"], entity["key"]),
        "box_xyxy": (entity["x1"], entity["y1"], entity["x2"], entity["y2"]),
        "mask": MaskRLE((entity["mask_height"], entity["mask_width"]), entity["mask_counts"]),
    }


def words_match_of(entity: Entity, distance_bits: int) -> WordsMatch:
    """A hit of a search, with the fields of `WORDS_OUTPUT`."""
    image = ImageRef(entity["bucket"], entity["key"])
    return WordsMatch(entity["id"], image, entity["generation"], entity["region"], distance_bits)


def image_match_of(entity: Entity, distance_bits: int) -> ImageMatch:
    """A hit of a search, with the fields of `IMAGE_MATCH_OUTPUT`."""
    return ImageMatch(
        image=ImageRef(entity["bucket"], entity["key"]),
        etag=entity["etag"],
        generation=entity["generation"],
        image_width=entity["image_width"],
        image_height=entity["image_height"],
        metadata=entity["metadata"],
        distance_bits=distance_bits,
    )


def image_row_of(entity: Entity) -> ImageRow:
    """A row with the fields of `IMAGE_OUTPUT`."""
    return ImageRow(
        id=entity["id"],
        code=code_of(entity),
        image=ImageRef(entity["bucket"], entity["key"]),
        etag=entity["etag"],
        generation=entity["generation"],
        outcome=Outcome(entity["outcome"]),
        error=entity["error"],
        message=entity["message"],
        attempts=entity["attempts"],
        first_at_ms=entity["first_at_ms"],
        last_at_ms=entity["last_at_ms"],
        image_width=entity["image_width"],
        image_height=entity["image_height"],
        regions=entity["regions"],
        metadata=entity["metadata"],
        modified_at_ms=entity["modified_at_ms"],
        sidecar_etag=entity["sidecar_etag"],
    )


def image_state_of(entity: Entity) -> ImageState:
    """A row with the fields of `IMAGE_STATE_OUTPUT`."""
    return ImageState(
        image=ImageRef(entity["bucket"], entity["key"]),
        etag=entity["etag"],
        generation=entity["generation"],
        outcome=Outcome(entity["outcome"]),
        regions=entity["regions"],
        modified_at_ms=entity["modified_at_ms"],
        sidecar_etag=entity["sidecar_etag"],
        message=entity["message"],
    )


def batches(entities: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Cut rows into messages bounded by rows and by bytes."""
    batch: list[dict[str, Any]] = []
    size = 0
    for entity in entities:
        entity_bytes = _ROW_OVERHEAD_BYTES + sum(_text_bytes(value) for value in entity.values())
        if batch and (len(batch) == _BATCH_ROWS or size + entity_bytes > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(entity)
        size += entity_bytes
    if batch:
        yield batch


def _text_bytes(value: object) -> int:
    """An upper bound of what a text or a JSON object takes in a message."""
    if isinstance(value, str):
        return 4 * len(value)
    if isinstance(value, dict):
        return sum(_text_bytes(name) + _text_bytes(inner) + 32 for name, inner in value.items())
    return len(value) if isinstance(value, bytes) else 8
