"""The collections in Milvus: their fields, and rows on the way in and out.

Boxes and scores are stored as float32; texts have the limits of `row_checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

from searchanything.core.batching import bounded_batches
from searchanything.core.errors import IndexMismatchError
from searchanything.core.rows import ImageRow, ImageState, Outcome, RegionRow, StoredCode, WordsMatch
from searchanything.core.types import Hit, ImageRef, MaskRLE
from searchanything.images.incoming import BUCKET_BYTES, ETAG_BYTES, KEY_BYTES
from searchanything.stores.columns import column_reader
from searchanything.stores.matches import whole_image_hit
from searchanything.stores.row_checks import (
    ERROR_BYTES,
    ID_BYTES,
    MASK_COUNTS_BYTES,
    MESSAGE_BYTES,
)

Entity = Mapping[str, Any]  # a row as pymilvus takes and gives it
FoundRow: TypeAlias = tuple[Any, ...]  # distance in bits, and the values of the fields that were asked for

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


class LivePointer(NamedTuple):
    """Which index is live. `made` differs once one of that name was dropped and made anew."""

    name: str  # a fingerprint, or of a server the collection that begins one
    made: int


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """What a collection is made of. `scalar_index` names a field that a server indexes besides the vector `code`."""

    name: str
    fields: tuple[FieldSpec, ...]
    scalar_index: str | None = None


def fields_of(described: Mapping[str, Any]) -> dict[str, int | None]:
    """Names of the fields of a collection as pymilvus describes it; for a vector also its bits."""
    return {field["name"]: field["params"].get("dim") for field in described["fields"]}


def check_fields(spec: CollectionSpec, present: Mapping[str, int | None], uri: str) -> None:
    """Raises: IndexMismatchError where a collection lacks a field, or holds codes of other bits."""
    for field in spec.fields:
        if field.name not in present:
            raise IndexMismatchError(
                f"{uri}: the collection {spec.name} has no field {field.name!r}: another program made it, or another "
                f"version of this one; name another --uri or SEARCHANYTHING_MILVUS__COLLECTION_PREFIX, and index again"
            )
    bits, wanted = present["code"], next(field.size for field in spec.fields if field.name == "code")
    if bits != wanted:
        raise IndexMismatchError(f"{uri}: {spec.name} holds codes of {bits} bits, expected {wanted}")


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
REGION_ROW_OUTPUT = [field.name for field in regions_spec("", 8).fields if field.name not in ("image_id", "size_class")]
REGION_HIT_OUTPUT = [
    "id", "bucket", "key", "etag", "generation", "image_width", "image_height", "metadata", "region",
    "x1", "y1", "x2", "y2", "area_px", "mask_height", "mask_width", "mask_counts", "score",
]  # fmt: skip
WORDS_OUTPUT = ["id", "bucket", "key", "generation", "region"]
IMAGE_OUTPUT = [field.name for field in images_spec("", 8).fields if field.name != "image_id"]
GENERATION_OUTPUT = ["image_id", "generation"]
IMAGE_STATE_OUTPUT = ["bucket", "key", "etag", "generation", "outcome", "regions", "modified_at_ms", "sidecar_etag"]
IMAGE_HIT_OUTPUT = ["id", "bucket", "key", "etag", "generation", "image_width", "image_height", "metadata"]


_CASTS: Mapping[FieldType, Callable[[Any], Any]] = {
    FieldType.VARCHAR: str,
    FieldType.INT32: int,
    FieldType.INT64: int,
    FieldType.FLOAT: float,
    FieldType.JSON: dict,
    FieldType.BINARY_VECTOR: bytes,
}
_Writers: TypeAlias = tuple[tuple[str, Callable[[Any], Any], Callable[[Any], Any]], ...]


def _writers(spec: CollectionSpec) -> _Writers:
    """Each field's name, how it is read from a row, and its type."""
    return tuple((one.name, column_reader(one.name), _CASTS[one.type]) for one in spec.fields)


def _same(kind: type, spec: CollectionSpec) -> tuple[str, ...]:
    """The attributes of rows or hits that are fields of a collection as they stand."""
    columns = {one.name for one in spec.fields} - {"code", "outcome"}
    return tuple(one.name for one in fields(kind) if one.name in columns)


_REGION_WRITERS, _IMAGE_WRITERS = _writers(regions_spec("", 8)), _writers(images_spec("", 8))
_REGION_SAME = _same(RegionRow, regions_spec("", 8))
_IMAGE_SAME, _STATE_SAME = (_same(kind, images_spec("", 8)) for kind in (ImageRow, ImageState))


def region_entity(row: RegionRow) -> dict[str, Any]:
    """A checked row as Milvus takes it."""
    return {name: cast(read(row)) for name, read, cast in _REGION_WRITERS}


def words_entity(row: RegionRow) -> dict[str, Any]:
    """A checked row, whose code is its words code, as Milvus takes it."""
    entity = region_entity(row)
    del entity["mask_counts"]
    return entity


def image_entity(row: ImageRow) -> dict[str, Any]:
    """A checked row as Milvus takes it."""
    return {name: cast(read(row)) for name, read, cast in _IMAGE_WRITERS}


def region_hit_of(row: FoundRow) -> Hit:
    """A row that was found, with the fields of `REGION_HIT_OUTPUT`. In one step: a search makes hundreds of hits."""
    (
        distance_bits, _, bucket, key, etag, generation, image_width, image_height, metadata, region,
        x1, y1, x2, y2, area_px, mask_height, mask_width, mask_counts, score,
    ) = row  # fmt: skip
    return Hit(
        image=ImageRef(bucket, key), etag=etag, generation=generation, metadata=metadata, region=region,
        box_xyxy=(x1, y1, x2, y2), mask=MaskRLE((mask_height, mask_width), mask_counts), area_px=area_px, score=score,
        image_width=image_width, image_height=image_height, distance_bits=distance_bits,
    )  # fmt: skip


def region_row_of(entity: Entity) -> RegionRow:
    """A row with the fields of `REGION_ROW_OUTPUT`."""
    return RegionRow(**_values(entity, _REGION_SAME), **_shape(entity), code=code_of(entity))


def stored_code_of(entity: Entity) -> StoredCode:
    """A row's code, of a region or, without that field, of an image."""
    image = ImageRef(entity["bucket"], entity["key"])
    return StoredCode(image, entity["generation"], entity.get("region"), code_of(entity))


def words_match_of(row: FoundRow) -> WordsMatch:
    """A row that was found, with the fields of `WORDS_OUTPUT`."""
    distance_bits, name, bucket, key, generation, region = row
    return WordsMatch(name, ImageRef(bucket, key), generation, region, distance_bits)


def image_hit_of(row: FoundRow) -> Hit:
    """A row that was found, with the fields of `IMAGE_HIT_OUTPUT`."""
    distance_bits, _, bucket, key, etag, generation, width, height, metadata = row
    image, version = ImageRef(bucket, key), (etag, generation)
    return whole_image_hit(image, version, size=(width, height), metadata=metadata, distance_bits=distance_bits)


def image_row_of(entity: Entity) -> ImageRow:
    """A row with the fields of `IMAGE_OUTPUT`."""
    return ImageRow(**_values(entity, _IMAGE_SAME), outcome=Outcome(entity["outcome"]), code=code_of(entity))


def image_state_of(entity: Entity) -> ImageState:
    """A row with the fields of `IMAGE_STATE_OUTPUT`."""
    return ImageState(**_values(entity, _STATE_SAME), outcome=Outcome(entity["outcome"]))


def _values(entity: Entity, same: tuple[str, ...]) -> dict[str, Any]:
    values = {name: entity[name] for name in same}
    values["image"] = ImageRef(entity["bucket"], entity["key"])
    return values


def _shape(entity: Entity) -> dict[str, Any]:
    mask = MaskRLE((entity["mask_height"], entity["mask_width"]), entity["mask_counts"])
    return {"box_xyxy": (entity["x1"], entity["y1"], entity["x2"], entity["y2"]), "mask": mask}


def code_of(entity: Entity) -> bytes:
    return b"".join(entity["code"])  # pymilvus gives a vector of bytes as a list of one


def messages(entities: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows as messages bounded by rows and by bytes."""
    return bounded_batches(entities, _BATCH_BYTES, size_of=entity_bytes, items_at_most=_BATCH_ROWS)


def entity_bytes(entity: dict[str, Any]) -> int:
    """An upper bound of what a row takes in a message, or in an embedded index's file."""
    return _ROW_OVERHEAD_BYTES + sum(_text_bytes(value) for value in entity.values())


def _text_bytes(value: object) -> int:
    """An upper bound of what a text or a JSON object takes in a message."""
    if isinstance(value, str):
        return 4 * len(value)
    if isinstance(value, dict):
        return sum(_text_bytes(name) + _text_bytes(inner) + 32 for name, inner in value.items())
    return len(value) if isinstance(value, bytes) else 8
