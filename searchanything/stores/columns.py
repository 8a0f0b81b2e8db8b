"""The fields of rows that a filter may name: their kinds, and how each is read from a row in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final, TypeAlias

from searchanything.core.types import ImageRow, RegionRow, size_class_of

Row: TypeAlias = RegionRow | ImageRow


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


def column_reader(column: str) -> Callable[[Row], Any]:
    """Reads a field's value from a row that has it."""
    return _DERIVED.get(column) or attrgetter(column)
