"""What a `Filter` means: checked, and turned into the one predicate that every index evaluates."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

from searchanything.core.arguments import check_filter_kind, check_places
from searchanything.core.conditions import Where
from searchanything.core.errors import FilterError
from searchanything.core.rows import Outcome
from searchanything.core.types import Filter, ImageRef, Place
from searchanything.stores.columns import (
    IMAGE_COLUMNS,
    INT64_MAX,
    INT64_MIN,
    REGION_COLUMNS,
    UNWRITABLE,
    Column,
    Kind,
    MetadataField,
)
from searchanything.stores.expressions import parse_expression
from searchanything.stores.predicates import All, Among, Compare, OfImages, Predicate, Prefix, Some

_FINDABLE = Compare(Column("outcome", Kind.TEXT), "!=", Outcome.FAILED.value)  # as `core.rows.is_findable` says


def check_filter(filter: Filter, *, whole_images: bool) -> None:
    """Refuse what no index could answer, so that every index refuses the same.

    `whole_images`: the filter is for `search_images`, whose rows have no area of a region and no size class.

    Raises: FilterError.
    """
    check_filter_kind(filter)
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
    for name, value in [*filter.metadata.items(), *((one.name, value) for one in filter.where for value in one.values)]:
        _check_metadata(name, value)


def predicate_of(filter: Filter | None, *, whole_images: bool) -> Predicate:
    """The condition that a filter means, for regions or for images (which must have a code to be found).

    Raises: FilterError for what no index could answer, and for an expression that is not of `expressions`.
    """
    columns = IMAGE_COLUMNS if whole_images else REGION_COLUMNS
    parts: list[Predicate] = []
    if whole_images:
        parts.append(_FINDABLE)
    if filter is not None:
        check_filter(filter, whole_images=whole_images)
        parts += _parts(filter, "last_at_ms" if whole_images else "indexed_at_ms")
        if filter.expression is not None:
            parts.append(parse_expression(filter.expression, columns))
    return All(tuple(parts))


def objects_predicate(bucket: str | None, key_prefix: str) -> Predicate:
    """What is true of a bucket's rows whose key starts so; of all rows without a bucket and a prefix."""
    return All(tuple(_place_parts(bucket, key_prefix)))


def _parts(filter: Filter, time_field: str) -> Iterator[Predicate]:
    yield from _place_parts(filter.bucket, filter.key_prefix)
    if filter.images:
        yield OfImages(frozenset(filter.images))
    if filter.exclude:
        yield OfImages(frozenset(filter.exclude), excluded=True)
    if filter.within:
        yield Some(tuple(All(tuple(_place_parts(*place))) for place in filter.within))
    yield from _range_parts("area_px", filter.area_px)
    yield from _range_parts(time_field, filter.indexed_at_ms)
    if filter.size_class is not None:
        yield Compare(Column("size_class", Kind.TEXT), "==", filter.size_class.value)
    for name, value in filter.metadata.items():
        yield Compare(MetadataField(name), "==", value)
    yield from map(_condition, filter.where)


def _condition(where: Where) -> Predicate:
    field, values = MetadataField(where.name), where.values
    match where.comparison:
        case "in" | "not in":
            return Among(field, values, excluded=where.comparison == "not in")
        case "between":
            return All((Compare(field, ">=", values[0]), Compare(field, "<=", values[1])))
        case "begins with":
            return Prefix(field, str(values[0]))
        case comparison:
            return Compare(field, comparison, values[0])


def _place_parts(bucket: str | None, key_prefix: str | None) -> Iterator[Predicate]:
    if bucket is not None:
        yield Compare(Column("bucket", Kind.TEXT), "==", bucket)
    if key_prefix:
        yield Prefix(Column("key", Kind.TEXT), key_prefix)


def _range_parts(field: str, bounds: tuple[int | None, int | None]) -> Iterator[Predicate]:
    low, high = bounds
    if low is not None:
        yield Compare(Column(field, Kind.INT64), ">=", low)
    if high is not None:
        yield Compare(Column(field, Kind.INT64), "<=", high)


def _check_text(name: str, text: str) -> None:
    if not isinstance(text, str):
        raise FilterError(f"{name}: expected text, got {text!r}")
    if UNWRITABLE.search(text):
        raise FilterError(f"{name}: control characters and lone surrogates cannot be filtered by, got {text!r}")


def _check_places(within: Sequence[Place]) -> None:
    check_places(within, "within", error=FilterError)
    for bucket, key_prefix in within:
        _check_text("within", bucket)
        _check_text("within", key_prefix)


def _check_range(name: str, bounds: tuple[int | None, int | None]) -> None:
    if not isinstance(bounds, Sequence) or len(bounds) != 2:
        raise FilterError(f"{name}: expected (low, high), either may be None, got {bounds!r}")
    low, high = bounds
    for end in bounds:
        if end is not None and (isinstance(end, bool) or not isinstance(end, int) or not 0 <= end <= INT64_MAX):
            cure = ": of a datetime, int(when.timestamp() * 1000)" if hasattr(end, "timestamp") else ""
            raise FilterError(f"{name}: expected integers from 0 to {INT64_MAX} or None, got {bounds!r}{cure}")
    if low is not None and high is not None and low > high:
        raise FilterError(f"{name}: expected (low, high) with low <= high, got {bounds!r}")


def _check_metadata(name: str, value: object) -> None:
    _check_text("the name of metadata", name)
    if not name:
        raise FilterError("metadata: expected a name, got an empty one")
    if isinstance(value, str):
        _check_text(f"metadata {name!r}", value)
    elif isinstance(value, int):
        if not INT64_MIN <= value <= INT64_MAX:
            raise FilterError(f"metadata {name!r}: expected an integer of 64 bits, got {value}")
    elif not isinstance(value, float) or not math.isfinite(value):
        raise FilterError(f"metadata {name!r}: expected a text, a finite number or a boolean, got {value!r}")
