"""What a `Filter` means, checked and evaluated in Python: the ground truth for what Milvus is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

from searchanything.core.errors import FilterError
from searchanything.core.types import Filter, ImageRef, ImageRow, RegionRow, size_class_of

Value: TypeAlias = str | int | float | bool
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


def check_filter(filter: Filter, *, whole_images: bool) -> None:
    """Refuse what no index could answer, so that every index refuses the same.

    `whole_images`: the filter is for `search_images`, whose rows have no area of a region and no size class.

    Raises: FilterError.
    """
    if not isinstance(filter, Filter):
        raise FilterError(f"expected a searchanything.Filter, got {type(filter).__name__}")
    if whole_images and (filter.area_px != (None, None) or filter.size_class is not None):
        raise FilterError("area_px and size_class restrict regions; a search of whole images has none: leave them out")
    for name, text in (("bucket", filter.bucket), ("key_prefix", filter.key_prefix)):
        if text is not None:
            _check_text(name, text)
    if not isinstance(filter.expression, str | None):
        raise FilterError(f"expression: expected text, got {filter.expression!r}")
    _check_range("area_px", filter.area_px)
    _check_range("indexed_at_ms", filter.indexed_at_ms)
    for name, images in (("images", filter.images), ("exclude", filter.exclude)):
        if not isinstance(images, Collection) or not all(isinstance(one, ImageRef) for one in images):
            raise FilterError(f"{name}: expected ImageRefs, got {images!r}")
    _check_places(filter.within)
    if not isinstance(filter.metadata, Mapping):
        raise FilterError(f"metadata: expected names and values, got {filter.metadata!r}")
    for name, value in filter.metadata.items():
        _check_metadata(name, value)


def row_matcher(filter: Filter) -> Callable[[RegionRow | ImageRow], bool]:
    """A predicate for rows. The filter was checked before and has no `expression`.

    As Milvus does it, integers in metadata are compared exactly, with other numbers (and the least integer) as IEEE
    doubles, and numbers never equal a boolean or a text.
    """
    only, excluded = frozenset(filter.images), frozenset(filter.exclude)

    def matches(row: RegionRow | ImageRow) -> bool:
        image = row.image
        return (
            (filter.bucket is None or image.bucket == filter.bucket)
            and (filter.key_prefix is None or image.key.startswith(filter.key_prefix))
            and (not only or image in only)
            and image not in excluded
            and (not within or any(image.bucket == bucket and image.key.startswith(key) for bucket, key in within))
            and _time_and_size_match(filter, row)
            and all(name in row.metadata and _equal(row.metadata[name], value) for name, value in wanted)
        )

    wanted, within = tuple(filter.metadata.items()), filter.within
    return matches


def _time_and_size_match(filter: Filter, row: RegionRow | ImageRow) -> bool:
    if isinstance(row, ImageRow):
        return _within(filter.indexed_at_ms, row.last_at_ms)
    return (
        _within(filter.indexed_at_ms, row.indexed_at_ms)
        and _within(filter.area_px, row.area_px)
        and (filter.size_class is None or size_class_of(row.box_xyxy) is filter.size_class)
    )


def _within(bounds: tuple[int | None, int | None], value: int) -> bool:
    low, high = bounds
    return (low is None or value >= low) and (high is None or value <= high)


def _equal(stored: Value, wanted: Value) -> bool:
    if isinstance(stored, bool) or isinstance(wanted, bool):
        return stored is wanted
    if isinstance(stored, str) or isinstance(wanted, str):
        return stored == wanted
    if isinstance(stored, int) and isinstance(wanted, int) and wanted != INT64_MIN:
        return stored == wanted
    return float(stored) == float(wanted)


def _check_text(name: str, text: str) -> None:
    """Milvus Lite has no way to write a control character in an expression, and a lone surrogate has no UTF-8."""
    if not isinstance(text, str):
        raise FilterError(f"{name}: expected text, got {text!r}")
    if any(letter < " " or "\ud800" <= letter <= "\udfff" for letter in text):
        raise FilterError(f"{name}: control characters and lone surrogates cannot be filtered by, got {text!r}")


def _check_places(within: object) -> None:
    places = within if isinstance(within, Sequence) and not isinstance(within, str | bytes) else None
    if places is None or not all(isinstance(one, Sequence) and len(one) == 2 for one in places):
        raise FilterError(f"within: expected pairs of a bucket and a key prefix, got {within!r}")
    for bucket, key_prefix in places:
        _check_text("within", bucket)
        _check_text("within", key_prefix)


def _check_range(name: str, bounds: tuple[int | None, int | None]) -> None:
    if not isinstance(bounds, Sequence) or len(bounds) != 2:
        raise FilterError(f"{name}: expected (low, high), either may be None, got {bounds!r}")
    low, high = bounds
    for end in bounds:
        if end is not None and (isinstance(end, bool) or not isinstance(end, int) or not 0 <= end <= INT64_MAX):
            raise FilterError(f"{name}: expected integers from 0 to {INT64_MAX} or None, got {bounds!r}")
    if low is not None and high is not None and low > high:
        raise FilterError(f"{name}: expected (low, high) with low <= high, got {bounds!r}")


def _check_metadata(name: str, value: object) -> None:
    _check_text("the name of metadata", name)
    if not name:
        raise FilterError("metadata: expected a name, got an empty one")
    if isinstance(value, str):
        _check_text(f"metadata {name!r}", value)
    elif isinstance(value, bool):
        return
    elif isinstance(value, int):
        if not INT64_MIN <= value <= INT64_MAX:
            raise FilterError(f"metadata {name!r}: expected an integer of 64 bits, got {value}")
    elif not isinstance(value, float) or not math.isfinite(value):
        raise FilterError(f"metadata {name!r}: expected a text, a finite number or a boolean, got {value!r}")
