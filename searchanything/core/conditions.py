"""Conditions on metadata as people write them: `year >= 2020`, `city in Marburg, Kassel`, `stars = 3..5`.

A condition is one name, one comparison, and a value or several. It says the same of every index. Several conditions
must all hold. `area_px` and `size_class` without quotes are the region's own; any other name is one of metadata. What
needs `or` or the other fields of regions is an expression (docs/filters.md).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias, cast, get_args

from searchanything.core.errors import FilterError

Value: TypeAlias = str | int | float | bool
Range: TypeAlias = tuple[int | None, int | None]  # both ends included; None: no bound
Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in", "begins with", "between"]

COMPARISONS: Final[tuple[Operator, ...]] = get_args(Operator)
MAX_VALUES: Final = 256  # of a list
SIZE_CLASS, AREA_PX = "size_class", "area_px"  # what a condition can say of a region itself
_BY_EXPRESSION: Final = "expression (--filter)"  # of a `Filter`, and what the command line calls it
_ELSEWHERE: Final = {
    "bucket": "bucket (--bucket)",
    "key": "key_prefix (--key-prefix)",
    "score": _BY_EXPRESSION,
    "region": _BY_EXPRESSION,
}
_LISTS: Final = ("in", "not in", "between")
# Each in one pass, whatever the text: what is bare ends with a letter that is no space, and spaces are not given back.
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_NAME: Final = rf"""(?P<name>{_QUOTED}|[^\s"'<>=!](?:[^<>=!"']*?[^\s<>=!"'])??)"""
_FORM: Final = re.compile(
    rf"""\s*+{_NAME}(?:\s*+(?P<sign>==|!=|<=|>=|=|<|>)|\s++(?P<word>not\s++in|in|begins\s++with)\s)"""
    r"""\s*+(?P<value>(?:.*\S)?)\s*\Z""",
    re.DOTALL,
)
_ITEM: Final = re.compile(rf"""\s*+({_QUOTED}|(?:[^",]*[^",\s])?)\s*+(,|\Z)""")
_BARE: Final = r'[^"]*?[^"\s]'
_RANGES: Final = (
    re.compile(rf'(?=[^"]*\Z)({_BARE})\s*+\.\.\s*+([^"]*[^"\s])\s*\Z'),
    re.compile(rf'({_QUOTED})\s*+\.\.\s*+({_QUOTED}|[^"]*[^"\s])\s*\Z'),
    re.compile(rf"({_BARE})\s*+\.\.\s*+({_QUOTED})\s*\Z"),
)
_MOST_DIGITS: Final = 100  # an index takes 20; of some thousand Python makes no number
_LINK: Final = re.compile(r"\s(?:and|or|&&|\|\|)\s")
_FORMS: Final = "NAME=VALUE, NAME!=VALUE, NAME>=VALUE, NAME=LOW..HIGH, NAME in A,B, NAME not in A,B, NAME begins with A"


def items_kept(values: object) -> object:
    """The items of a list or set as a tuple, a set's in an order that is always the same; anything else as it is."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Collection):
        return values
    return tuple(sorted(values, key=repr) if isinstance(values, Set) else values)


def plain_value(value: object) -> object:
    """A single value of NumPy's as Python's own, which can be sent and saved; anything else as it is."""
    single = hasattr(value, "item") and getattr(value, "shape", None) == ()
    return value.item() if single else value  # type: ignore[attr-defined]  # as was just seen


def plain_range(values: object) -> object:
    """The ends of a range by `plain_value`; anything else as it is."""
    return tuple(map(plain_value, values)) if isinstance(values, tuple | list) else values


@dataclass(frozen=True, slots=True)
class Where:
    """One condition on metadata. `value` is a tuple for `in`, `not in` and `between` (low, high, both inclusive).

    A name that an image lacks is not equal to anything: `!=` and `not in` find the image, nothing else does. Numbers
    are compared as numbers, texts by code points, and a text never equals a number.

    Raises: FilterError for another comparison, or a value that does not go with it.
    """

    name: str
    comparison: Operator
    value: Value | tuple[Value, ...]

    if TYPE_CHECKING:  # what the fields are made of

        def __init__(self, name: str, comparison: Operator, value: Value | Collection[Value]) -> None: ...

    def __post_init__(self) -> None:
        if self.comparison not in COMPARISONS:
            raise FilterError(f"where: expected one of {', '.join(COMPARISONS)}, got {self.comparison!r}")
        if not isinstance(self.name, str) or not self.name:
            raise FilterError(f"where: expected the name of a metadata value, got {self.name!r}")
        if self.comparison in _LISTS:
            values = None if self.comparison == "between" and isinstance(self.value, Set) else items_kept(self.value)
            if not isinstance(values, tuple):
                what = "two values, low and high" if self.comparison == "between" else "several values"
                raise FilterError(f"where: `{self.comparison}` takes {what}, got {self.value!r}")
            object.__setattr__(self, "value", tuple(map(plain_value, values)))
        else:
            object.__setattr__(self, "value", plain_value(self.value))
        self._check_values()

    @classmethod
    def parse(cls, text: str) -> Self:
        """`year>=2020` and the like. An unquoted number, true or false is one; `"2020"` in quotes is a text.

        Raises: FilterError, also for what a region has and metadata has not: a `Filter` takes both.
        """
        found = _FORM.match(text) if isinstance(text, str) else None
        if found is None:
            raise FilterError(f"where {text!r}: expected one of {_FORMS}")
        if found["name"] in (AREA_PX, SIZE_CLASS, *_ELSEWHERE):
            how = _ELSEWHERE.get(found["name"], f"Filter(where=[{text!r}])")
            raise FilterError(
                f"where {text!r}: {found['name']} is the region's or the image's own: {how} says it; metadata of that "
                "name is written in quotes"
            )
        return cls(_unquoted(found["name"], text), *_comparison(found, text))

    @property
    def values(self) -> tuple[Value, ...]:
        """The value, or the values."""
        return self.value if isinstance(self.value, tuple) else (self.value,)

    def __str__(self) -> str:
        if self.comparison == "between":
            low, high = (json.dumps(value, ensure_ascii=False) for value in self.values)
            return f"{_quoted_name(self.name)} = {low}..{high}"
        shown = ", ".join(json.dumps(value, ensure_ascii=False) for value in self.values)
        return f"{_quoted_name(self.name)} {self.comparison} {shown}"

    def _check_values(self) -> None:
        values = self.values
        if not 1 <= len(values) <= MAX_VALUES:
            raise FilterError(f"where {self.name}: expected 1 to {MAX_VALUES} values, got {len(values)}")
        for value in values:
            if not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
                raise FilterError(f"where {self.name}: expected a text, a finite number, true or false, got {value!r}")
        if self.comparison in ("<", "<=", ">", ">=", "between") and any(isinstance(one, bool) for one in values):
            raise FilterError(f"where {self.name}: true and false are compared by = and != alone")
        if self.comparison == "begins with" and not isinstance(self.value, str):
            raise FilterError(f"where {self.name}: `begins with` takes a text, got {self.value!r}")
        if self.comparison == "between":
            self._check_range()

    def _check_range(self) -> None:
        if len(self.values) != 2 or isinstance(self.values[0], str) is not isinstance(self.values[1], str):
            raise FilterError(f"where {self.name}: expected (low, high) of one kind, got {self.value!r}")
        low, high = self.values
        if low > high:  # type: ignore[operator]  # of one kind, as was just seen
            raise FilterError(f"where {self.name}: expected low <= high, got {self.value!r}")


@dataclass(frozen=True, slots=True)
class Conditions:
    """What conditions say: of metadata `where`, of a region its area in pixels, (low, high), and its size class."""

    where: tuple[Where, ...] = ()
    area_px: Range = (None, None)
    size_class: str | None = None


def conditions_of(given: object, area_px: Range = (None, None), size_class: str | None = None) -> Conditions:
    """Conditions, or texts of them, with what is said of a region beside them. Raises: FilterError."""
    if isinstance(given, str | Where):
        given = (given,)
    if not isinstance(given, Sequence):
        raise FilterError(f"where: expected conditions such as 'year >= 2020', got {given!r}")
    where: list[Where] = []
    area, sizes = area_px, set() if size_class is None else {str(size_class)}
    for one in given:
        found = None if isinstance(one, Where) or not isinstance(one, str) else _FORM.match(one)
        if found is not None and found["name"] == AREA_PX:
            area = _common(area, _area(found, one))
        elif found is not None and found["name"] == SIZE_CLASS:
            sizes.add(_size(found, one))
        else:
            where.append(one if isinstance(one, Where) else Where.parse(one))
    if len(sizes) > 1:
        raise FilterError(f"where: expected one size_class, got {' and '.join(sorted(sizes))}")
    return Conditions(tuple(where), area, next(iter(sizes), None))


def _common(one: Range, other: Range) -> Range:
    """What two ranges, (low, high) both inclusive, have in common; None is no bound."""
    lows, highs = ([end for end in ends if end is not None] for ends in zip(one, other, strict=True))
    return max(lows, default=None), min(highs, default=None)


def _comparison(found: re.Match[str], text: str) -> tuple[Operator, Value | tuple[Value, ...]]:
    """The comparison of a condition, and its value. Raises: FilterError for what reads as something else."""
    if found["word"]:
        word = " ".join(found["word"].split())
        value = _unquoted(found["value"], text) if word == "begins with" else _items(_bare(found["value"]), text)
        return cast("Operator", word), value
    sign = "==" if found["sign"] == "=" else found["sign"]
    ends = next((ends for one in _RANGES if (ends := one.match(found["value"]))), None)
    if ends is not None and sign == "==":
        return "between", (_value(ends[1], text), _value(ends[2], text))
    _check_unambiguous(found["value"], text)
    return cast("Operator", sign), _value(found["value"], text)


def _check_unambiguous(value: str, text: str) -> None:
    """Raises: FilterError for values that look like a part of a condition: a text of that kind is written in quotes."""
    if value.startswith('"'):
        return
    if value[:1] in tuple("<>=!"):
        raise FilterError(
            f"where {text!r}: comparisons are = != < <= > >=; a text that begins with {value[0]} needs quotes"
        )
    if value.startswith("..") or value.endswith(".."):
        raise FilterError(f"where {text!r}: a range has both ends, LOW..HIGH; >= and <= have one")
    link = _LINK.search(value)
    if link is not None and re.search("[<>=]", value[link.end() :]):
        raise FilterError(
            f"where {text!r}: one condition each, and all that are given must hold; `or` is for {_BY_EXPRESSION}; a "
            "text that says so needs quotes"
        )


def _bare(values: str) -> str:
    """A list without the brackets around it."""
    pairs = {"(": ")", "[": "]"}
    return values[1:-1] if len(values) > 1 and pairs.get(values[0]) == values[-1] else values


def _area(found: re.Match[str], text: str) -> Range:
    """The range of a region's area that a condition allows. Raises: FilterError."""
    comparison, value = _comparison(found, text)
    values = value if isinstance(value, tuple) else (value,)
    if any(isinstance(one, bool | str) for one in values):
        raise FilterError(f"where {text!r}: area_px is a number of pixels")
    low, high = float(values[0]), float(values[-1])
    match comparison:
        case "==" | "between":
            return math.ceil(low), math.floor(high)
        case ">" | ">=":
            return (math.floor(low) + 1 if comparison == ">" else math.ceil(low)), None
        case "<" | "<=":
            return None, (math.ceil(high) - 1 if comparison == "<" else math.floor(high))
    raise FilterError(f"where {text!r}: area_px takes = < <= > >= and LOW..HIGH")


def _size(found: re.Match[str], text: str) -> str:
    """The size class that a condition names. Raises: FilterError."""
    comparison, value = _comparison(found, text)
    if comparison != "==" or not isinstance(value, str):
        raise FilterError(f"where {text!r}: size_class takes = and one of small, medium, large")
    return value


def _items(text: str, whole: str) -> tuple[Value, ...]:
    values: list[Value] = []
    place = 0
    while True:
        found = _ITEM.match(text, place)
        if found is None or not found[1]:
            raise FilterError(f"where {whole!r}: expected values with commas between them, got {text or 'none'}")
        values.append(_value(found[1], whole))
        if not found[2]:
            return tuple(values)
        place = found.end()


def _value(text: str, whole: str) -> Value:
    """A number, true or false where the text is one; else the text itself, without its quotes."""
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"-?(?:0|[1-9]\d*)", text):
        if len(text) > _MOST_DIGITS:
            raise FilterError(
                f"where {whole[:_MOST_DIGITS]}…: expected an integer of 64 bits, got one of {len(text)} digits"
            )
        return int(text)
    if re.fullmatch(r"-?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?", text) and not re.fullmatch(r"-?0\d+", text):
        return float(text)
    if not text:
        raise FilterError(f'where {whole!r}: expected a value; an empty text is ""')
    return _unquoted(text, whole)


def _unquoted(text: str, whole: str) -> str:
    if not text.startswith('"'):
        return text
    if len(text) < 2 or not text.endswith('"'):
        raise FilterError(f"where {whole!r}: a text that begins with a quote ends with one")
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def _quoted_name(name: str) -> str:
    return name if re.fullmatch(r"\w+", name) else json.dumps(name, ensure_ascii=False)
