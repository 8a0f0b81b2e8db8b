"""The fields of rows in memory as columns, so that a filter is a few comparisons of arrays.

Numbers lie in arrays of the type that Milvus stores. Texts, metadata and images lie as numbers of distinct values: a
condition is evaluated once per value, by the same function that tells of a single row (`predicates.value_test`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Sequence
from functools import reduce
from typing import Any, Final, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from searchanything.core.conditions import Value
from searchanything.stores.columns import (
    ABSENT,
    INT64_MIN,
    Column,
    Field,
    Kind,
    MetadataField,
    Row,
    as_stored,
    field_reader,
)
from searchanything.stores.predicates import All, Among, Compare, OfImages, Predicate, Prefix, Some, value_test

Chosen: TypeAlias = NDArray[np.bool_]  # (N,), one for each row
_IMAGE: Final = "image"  # the column of images, beside those of fields
_FIRST_CAPACITY: Final = 1024
_OPERATORS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


class GrowingArray:
    """An array whose first axis grows by doubling, and loses entries to its last ones."""

    def __init__(self, dtype: Any, width: tuple[int, ...] = ()) -> None:  # noqa: ANN401 - as NumPy takes it
        self._array = np.empty((_FIRST_CAPACITY, *width), dtype=dtype)
        self._count = 0

    @property
    def filled(self) -> NDArray[Any]:
        return self._array[: self._count]

    def extend(self, values: NDArray[Any]) -> None:
        count = self._count + len(values)
        if count > len(self._array):
            grown = np.empty((max(count, 2 * len(self._array)), *self._array.shape[1:]), dtype=self._array.dtype)
            grown[: self._count] = self.filled
            self._array = grown
        self._array[self._count : count] = values
        self._count = count

    def fill_hole(self, number: int) -> None:
        """The last entry takes the place of this one."""
        self._count -= 1
        self._array[number] = self._array[self._count]


class _Numbers:
    """Integers or 32-bit floats as they are."""

    def __init__(self, field: Column) -> None:
        self._read = field_reader(field)
        self._dtype = np.float32 if field.kind is Kind.FLOAT32 else np.int64
        self.array = GrowingArray(self._dtype)

    def extend(self, rows: Sequence[Row]) -> None:
        self.array.extend(np.fromiter(map(self._read, rows), dtype=self._dtype, count=len(rows)))

    def chosen(self, predicate: Prefix | Among | Compare) -> Chosen:
        stored = self.array.filled
        if isinstance(predicate, Compare) and _is_number(predicate.value):
            value = as_stored(predicate.field, predicate.value)
            if self._dtype is np.int64 and (isinstance(value, float) or value == INT64_MIN):
                stored, value = stored.astype(np.float64), float(value)  # as `predicates` compares them
            return cast("Chosen", _OPERATORS[predicate.comparison](stored, value))
        return np.fromiter(map(value_test(predicate), stored.tolist()), dtype=np.bool_, count=len(stored))


class _Factor:
    """Values of any kind as numbers of distinct ones."""

    def __init__(self, read: Callable[[Row], Any]) -> None:
        self._read = read
        self._known: dict[Hashable, int] = {}
        self._values: list[Any] = []
        self.array = GrowingArray(np.int32)

    def extend(self, rows: Sequence[Row]) -> None:
        self.array.extend(np.fromiter((self._number(self._read(row)) for row in rows), dtype=np.int32, count=len(rows)))

    def chosen(self, predicate: Prefix | Among | Compare) -> Chosen:
        looked_up = self._looked_up(predicate)
        if looked_up is not None:
            return looked_up
        count = len(self._values)
        return self._of_values(np.fromiter(map(value_test(predicate), self._values), dtype=np.bool_, count=count))

    def among(self, values: Sequence[Any], *, excluded: bool) -> Chosen:
        """Rows that hold one of these values, or (`excluded`) none."""
        numbers = [self._known[key] for key in map(_key, values) if key in self._known]
        wanted = np.full(len(self._values), excluded)
        wanted[numbers] = not excluded
        return self._of_values(wanted)

    def _looked_up(self, predicate: Prefix | Among | Compare) -> Chosen | None:
        """A text's equality needs no look at every value."""
        if isinstance(predicate, Compare) and isinstance(predicate.value, str) and predicate.comparison in ("==", "!="):
            return self.among([predicate.value], excluded=predicate.comparison == "!=")
        if isinstance(predicate, Among) and all(isinstance(value, str) for value in predicate.values):
            return self.among(predicate.values, excluded=predicate.excluded)
        return None

    def _of_values(self, wanted: Chosen) -> Chosen:
        return cast("Chosen", wanted[self.array.filled]) if len(wanted) else np.zeros(0, dtype=np.bool_)

    def _number(self, value: Any) -> int:  # noqa: ANN401 - what a row holds
        key = _key(value)
        number = self._known.get(key)
        if number is None:
            number = self._known[key] = len(self._values)
            self._values.append(value)
        return number


_Column: TypeAlias = _Numbers | _Factor


class Columns:
    """The columns of one table's rows, each made at the first filter that names it, and kept up from then on."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._columns: dict[str | Field, _Column] = {}

    def extend(self, rows: Sequence[Row]) -> None:
        """Rows were added at the end."""
        for column in self._columns.values():
            column.extend(rows)

    def fill_hole(self, number: int) -> None:
        """A row is gone, and the last one took its place."""
        for column in self._columns.values():
            column.array.fill_hole(number)

    def chosen(self, predicate: Predicate) -> Chosen:
        """Which rows a predicate is true of."""
        match predicate:
            case All(parts):
                return reduce(operator.and_, map(self.chosen, parts), np.ones(len(self._rows), dtype=np.bool_))
            case Some(parts):
                return reduce(operator.or_, map(self.chosen, parts), np.zeros(len(self._rows), dtype=np.bool_))
            case OfImages(images, excluded):
                factor = cast("_Factor", self._column(_IMAGE))
                return factor.among(list(images), excluded=excluded)
            case Prefix() | Among() | Compare():
                return self._column(predicate.field).chosen(predicate)

    def _column(self, name: str | Field) -> _Column:
        column = self._columns.get(name)
        if column is None:
            column = _column_of(name)
            column.extend(self._rows)
            self._columns[name] = column
        return column


def _column_of(name: str | Field) -> _Column:
    if isinstance(name, str):
        return _Factor(operator.attrgetter(name))
    if isinstance(name, MetadataField) or name.kind is Kind.TEXT:
        return _Factor(field_reader(name))
    return _Numbers(name)


def _key(value: Any) -> Hashable:  # noqa: ANN401 - what a row holds
    """1, 1.0 and True are three values of metadata."""
    return value if value is ABSENT or isinstance(value, str) else (type(value), value)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
