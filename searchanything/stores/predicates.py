"""Conditions on rows, as a tree: what a `Filter` means to every index. Evaluated here, written for Milvus elsewhere.

As Milvus does it: a metadata name that a row lacks, and a value of another kind (text, number, boolean), is equal to
nothing and neither below nor above anything. Integers are compared exactly, with other numbers as IEEE doubles;
boxes and scores as 32-bit floats, which they are stored as.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

from searchanything.core.conditions import Value
from searchanything.core.errors import FilterError
from searchanything.core.types import ImageRef
from searchanything.stores.columns import ABSENT, INT64_MIN, Column, Field, as_stored

Relation: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]
_OPPOSITE: Final[Mapping[str, Relation]] = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_CALCULATED: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compare:
    """A field against one value, of the field's kind. Booleans only know `==` and `!=`."""

    field: Field
    comparison: Relation
    value: Value


@dataclass(frozen=True, slots=True)
class Among:
    """A field against several values of one kind: equal to one of them, or (`excluded`) to none."""

    field: Field
    values: tuple[Value, ...]
    excluded: bool = False


@dataclass(frozen=True, slots=True)
class Prefix:
    """A text that begins so."""

    field: Field
    text: str


@dataclass(frozen=True, slots=True)
class OfImages:
    """Rows of these images, or (`excluded`) of all others."""

    images: frozenset[ImageRef]
    excluded: bool = False


@dataclass(frozen=True, slots=True)
class All:
    """All of these; true of every row if there are none."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one of these."""

    parts: tuple[Predicate, ...]


Predicate: TypeAlias = Compare | Among | Prefix | OfImages | All | Some


def negated(predicate: Predicate) -> Predicate:
    """The predicate that is true of all other rows: Milvus Lite knows no `not`.

    Raises: FilterError where it cannot be said: a row may lack a metadata name, and is then neither below nor above.
    """
    match predicate:
        case All(parts):
            return Some(tuple(negated(part) for part in parts))
        case Some(parts):
            return All(tuple(negated(part) for part in parts))
        case Among() | OfImages():
            return replace(predicate, excluded=not predicate.excluded)
        case Compare(field, comparison, value) if isinstance(field, Column) or comparison in ("==", "!="):
            return Compare(field, _OPPOSITE[comparison], value)
        case Prefix(Column() as field, text):
            following = first_text_after(text)
            above = () if following is None else (Compare(field, ">=", following),)
            return Some((Compare(field, "<", text), *above))
    raise FilterError(
        "`not` before <, <=, >, >= or `like` of metadata is not evaluated, because images may lack the name: "
        "write the comparison that is meant"
    )


def first_text_after(prefix: str) -> str | None:
    """The least text above all that begin so, by code points, which is the order of UTF-8's bytes; None: there is none.

    A prefix is a range, because `like` cannot match a literal `%`, and Milvus Lite dies of odd patterns.
    """
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    following = 0xE000 if stem[-1] == "\ud7ff" else ord(stem[-1]) + 1  # surrogates are no letters
    return stem[:-1] + chr(following)


def value_test(predicate: Prefix | Among | Compare) -> Callable[[Any], bool]:
    """The predicate as a function of what a row holds of its field."""
    match predicate:
        case Prefix(_, text):
            return lambda found: isinstance(found, str) and found.startswith(text)
        case Among(field, _, excluded):
            values = tuple(as_stored(field, value) for value in predicate.values)
            if isinstance(field, Column):  # all of one type, so a set will do
                known = frozenset(values)
                return lambda found: (found in known) is not excluded
            return lambda found: any(_equal(found, value) for value in values) is not excluded
        case Compare(field, comparison, _):
            value = as_stored(field, predicate.value)
            if comparison in ("==", "!="):
                wanted = comparison == "=="
                return lambda found: _equal(found, value) is wanted
            calculate = _CALCULATED[comparison]
            return lambda found: _ordered(found, value, calculate)


def _equal(stored: Any, wanted: Value) -> bool:  # noqa: ANN401 - what a row holds, or nothing
    if stored is ABSENT or isinstance(stored, bool) or isinstance(wanted, bool):
        return stored is wanted
    if isinstance(stored, str) or isinstance(wanted, str):
        return bool(stored == wanted)
    left, right = _numbers(stored, wanted)
    return left == right


def _ordered(stored: Any, wanted: Value, calculate: Callable[[Any, Any], bool]) -> bool:  # noqa: ANN401 - as above
    if stored is ABSENT or isinstance(stored, bool) or isinstance(stored, str) is not isinstance(wanted, str):
        return False
    return calculate(stored, wanted) if isinstance(wanted, str) else calculate(*_numbers(stored, wanted))


def _numbers(stored: float, wanted: float) -> tuple[float, float]:
    """Two numbers as Milvus compares them: the least integer has no literal, so it travels as a double."""
    if isinstance(stored, int) and isinstance(wanted, int) and wanted != INT64_MIN:
        return stored, wanted
    return float(stored), float(wanted)
