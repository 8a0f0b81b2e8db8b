"""The fields of rows that a filter may name: their kinds, and how each is read from a row in memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final, TypeAlias

import numpy as np

from searchanything.core.conditions import Value
from searchanything.core.rows import ImageRow, RegionRow
from searchanything.core.types import size_class_of

Row: TypeAlias = RegionRow | ImageRow
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
ABSENT: Final = object()
UNWRITABLE: Final = re.compile("[\x00-\x1f\ud800-\udfff]")
"""Letters that no expression can hold: Milvus Lite knows no escapes for controls, and lone surrogates have no UTF-8."""


class Kind(StrEnum):
    """What a field holds."""

    TEXT = "texts"
    INT32 = "integers of 32 bits"
    INT64 = "integers of 64 bits"
    FLOAT32 = "numbers"


_SHARED: Mapping[str, Kind] = {
    **dict.fromkeys(("id", "image_id", "bucket", "key", "etag"), Kind.TEXT),
    "generation": Kind.INT64,
    **dict.fromkeys(("image_width", "image_height"), Kind.INT32),
}
REGION_COLUMNS: Final[Mapping[str, Kind]] = {
    **_SHARED,
    **dict.fromkeys(("region", "mask_height", "mask_width"), Kind.INT32),
    **dict.fromkeys(("x1", "y1", "x2", "y2", "score"), Kind.FLOAT32),
    **dict.fromkeys(("area_px", "indexed_at_ms"), Kind.INT64),
    **dict.fromkeys(("size_class", "mask_counts"), Kind.TEXT),
}
IMAGE_COLUMNS: Final[Mapping[str, Kind]] = {
    **_SHARED,
    **dict.fromkeys(("outcome", "error", "message", "sidecar_etag"), Kind.TEXT),
    **dict.fromkeys(("attempts", "regions"), Kind.INT32),
    **dict.fromkeys(("first_at_ms", "last_at_ms", "modified_at_ms"), Kind.INT64),
}
_DERIVED: Mapping[str, Callable[[Any], str | int | float]] = {
    "image_id": attrgetter("image.image_id"),
    "bucket": attrgetter("image.bucket"),
    "key": attrgetter("image.key"),
    "x1": lambda row: row.box_xyxy[0],
    "y1": lambda row: row.box_xyxy[1],
    "x2": lambda row: row.box_xyxy[2],
    "y2": lambda row: row.box_xyxy[3],
    "size_class": lambda row: size_class_of(row.box_xyxy).value,
    "mask_height": lambda row: row.mask.size[0],
    "mask_width": lambda row: row.mask.size[1],
    "mask_counts": attrgetter("mask.counts"),
    "outcome": attrgetter("outcome.value"),
}


@dataclass(frozen=True, slots=True)
class Column:
    """A field that every row has."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class MetadataField:
    """A name in the metadata, which a row may lack."""

    name: str


Field: TypeAlias = Column | MetadataField


def column_reader(column: str) -> Callable[[Row], Any]:
    """Reads a field's value from a row that has it."""
    return _DERIVED.get(column) or attrgetter(column)


def field_reader(field: Field) -> Callable[[Row], Any]:
    """Reads what a row holds of a field: `ABSENT` for metadata that it lacks."""
    if isinstance(field, MetadataField):
        return lambda row: row.metadata.get(field.name, ABSENT)
    read = column_reader(field.name)
    if field.kind is Kind.FLOAT32:
        return lambda row: float(np.float32(read(row)))
    return read


def as_stored(field: Field, value: Value) -> Value:
    """A value as rows hold it: boxes and scores are 32-bit floats."""
    return float(np.float32(value)) if isinstance(field, Column) and field.kind is Kind.FLOAT32 else value
