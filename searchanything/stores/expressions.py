"""A small language of filters, the common ground of Milvus Lite and Milvus server: from text to a predicate.

    either  = both { ("or" | "||") both }
    both    = unit { ("and" | "&&") unit }
    unit    = ("not" | "!") unit | "(" either ")" | comparison
    comparison = field ("==" | "!=" | "<" | "<=" | ">" | ">=") value | value (the same) field [(the same) value]
               | field ["not"] "in" "[" value { "," value } "]" | field ["not"] "like" "beginning%"
    field   = a field's name | metadata "[" text "]"
    value   = text | integer | number | true | false

Milvus Lite ends at some expressions that it cannot evaluate, for all processes that share it; so it gets none but
those which this parser understood, in its own writing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

import numpy as np

from searchanything.core.conditions import Value
from searchanything.core.errors import FilterError
from searchanything.stores.columns import INT64_MAX, INT64_MIN, UNWRITABLE, Column, Field, Kind, MetadataField
from searchanything.stores.predicates import All, Among, Compare, Predicate, Prefix, Relation, Some, negated

MAX_LETTERS: Final = 1 << 20
_MAX_VALUES: Final = 16_384  # of a list
MAX_COMPARISONS: Final = 512  # a list of metadata counts each of its values
MAX_DEPTH: Final = 16  # Milvus Lite reads no more than about 40 levels, of which long chains take some
_TOKEN = re.compile(
    r"""\s*+(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
    r"""|(?P<number>(?:-\s*+)?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))"""
    r"""|(?P<name>[A-Za-z_]\w*)|(?P<sign>==|!=|<=|>=|&&|\|\||[<>()\[\],!]))"""
)
_COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=")
_FLIPPED: Final[Mapping[str, str]] = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_WORDS: Final[Mapping[str, str]] = {
    "and": "&&", "or": "||", "not": "!", "in": "in", "like": "like", "true": "true", "false": "false",
}  # fmt: skip
_CURES: Final[Mapping[str, str]] = {
    **dict.fromkeys("%/+*-~", "arithmetic is not evaluated: compare a field with a value, as in area_px >= 900"),
    "=": "equality is written ==",
    **dict.fromkeys("&|", "write `and` or `or`"),
    **dict.fromkeys("\"'", "this text is never closed"),
    "exists": "`exists` is not evaluated: compare the metadata with a value",
    "is": "there are no nulls: compare with a value",
    "between": 'write field >= low and field <= high',
}  # fmt: skip
_NO_LISTS = 'no field holds a list: write metadata["name"] == value'
_SUMMARY = (
    'filters know == != < <= > >= with a value, in [...], like "beginning%", and, or, not, ( ), '
    'over fields and metadata["name"]'
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # text, number, name, or the sign or word itself
    written: str
    start: int


def parse_expression(text: str, columns: Mapping[str, Kind]) -> Predicate:
    """What an expression says of rows with these fields. Raises: FilterError."""
    if len(text) > MAX_LETTERS:
        raise FilterError(
            f"the filter has {len(text)} letters, at most {MAX_LETTERS} are read: use images=… or exclude=…"
        )
    if found := UNWRITABLE.search(text.replace("\t", " ")):
        got = f"{found[0]!r} at {found.start()}"
        raise FilterError(f"filter: control characters and line breaks are not allowed, got {got}")
    if not text.strip():
        raise FilterError("the filter is empty: leave it out instead")
    return _Parser(text, columns).parse()


class _Parser:
    """Reads one expression by recursive descent."""

    # Over 200 lines: one small method per rule of the grammar, all on the same row of tokens.

    def __init__(self, text: str, columns: Mapping[str, Kind]) -> None:
        self._text = text
        self._columns = columns
        self._tokens = [*self._cut(), _Token("end", "", len(text))]
        self._next = 0
        self._depth = 0
        self._comparisons = 0

    def parse(self) -> Predicate:
        predicate = self._either()
        if self._peek.kind != "end":
            raise self._refused(f"expected `and`, `or` or the end, got {self._peek.written}")
        return predicate

    def _cut(self) -> Iterator[_Token]:
        place, end = 0, len(self._text.rstrip())
        while place < end:
            found = _TOKEN.match(self._text, place)
            if found is None:
                place += len(self._text[place:]) - len(self._text[place:].lstrip())
                letter = self._text[place]
                raise self._refused(_CURES.get(letter, f"{letter} means nothing here"), place)
            kind, written = str(found.lastgroup), found.group(str(found.lastgroup))
            if kind == "sign":
                kind = written
            elif kind == "name":
                kind = _WORDS.get(written.lower() if written.isupper() else written, "name")
            yield _Token(kind, written, found.start(str(found.lastgroup)))
            place = found.end()

    def _either(self) -> Predicate:
        parts = [self._both()]
        while self._take("||"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def _both(self) -> Predicate:
        parts = [self._unit()]
        while self._take("&&"):
            parts.append(self._unit())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _unit(self) -> Predicate:
        if self._peek.kind not in ("!", "("):
            return self._comparison()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._refused(f"parentheses and `not` are nested more than {MAX_DEPTH} deep")
        if self._take("!"):
            predicate = negated(self._unit())
        else:
            self._expect("(")
            predicate = self._either()
            self._expect(")")
        self._depth -= 1
        return predicate

    def _comparison(self) -> Predicate:
        self._count(1)
        if self._peek.kind in ("text", "number", "true", "false"):
            return self._turned()
        field = self._field()
        excluded = self._take("!")
        if self._take("in"):
            return self._among(field, excluded=excluded)
        if self._take("like"):
            pattern = self._like(field)
            return negated(pattern) if excluded else pattern
        comparison = self._sign("!" if excluded else "")
        return self._compared(field, comparison, self._value())

    def _turned(self) -> Predicate:
        """`5 < field`, and `5 < field < 9`."""
        low = self._value()
        if self._peek.kind in ("in", "!"):
            raise self._refused("a list is for a field: write field in [...]")
        sign = self._sign()
        field = self._field()
        first = self._compared(field, cast("Relation", _FLIPPED.get(sign, sign)), low)
        if self._peek.kind not in _COMPARISONS:
            return first
        if sign not in _FLIPPED or self._peek.kind[0] != sign[0]:
            raise self._refused("a chain is a range, as in 5 <= field < 9")
        return All((first, self._compared(field, self._sign(), self._value())))

    def _field(self) -> Field:
        token = self._token()
        if token.kind != "name":
            raise self._refused(f"expected a field, got {token.written or 'the end'}", token.start)
        name = token.written
        if self._peek.kind == "(":
            cure = _NO_LISTS if "contains" in name.lower() else f"{name}(…) is not evaluated"
            raise self._refused(cure, token.start)
        if name == "metadata":
            return self._metadata()
        if name.lower() in _CURES:
            raise self._refused(_CURES[name.lower()], token.start)
        if name not in self._columns:
            known = ", ".join(sorted(self._columns))
            raise self._refused(f'no field {name}: there are {known}, and metadata["{name}"]', token.start)
        return Column(name, self._columns[name])

    def _metadata(self) -> MetadataField:
        self._expect("[")
        token = self._expect("text")
        self._expect("]")
        if self._peek.kind == "[":
            raise self._refused("metadata is flat: one name in brackets")
        name = self._unquoted(token)
        if not name:
            raise self._refused("a name of metadata is not empty", token.start)
        return MetadataField(name)

    def _sign(self, before: str = "") -> Relation:
        token = self._token()
        if before or token.kind not in _COMPARISONS:
            cure = _CURES.get(token.written.lower())
            got = token.written or "the end"
            raise self._refused(cure or f"expected one of {' '.join(_COMPARISONS)} in like, got {got}", token.start)
        return cast("Relation", token.kind)

    def _compared(self, field: Field, comparison: Relation, value: Value) -> Predicate:
        if isinstance(value, bool) and comparison not in ("==", "!="):
            raise self._refused("true and false are compared by == and != alone")
        return Compare(field, comparison, self._fitting(field, value))

    def _among(self, field: Field, *, excluded: bool) -> Predicate:
        start = self._expect("[").start
        values = [self._fitting(field, self._value())]
        while self._take(","):
            values.append(self._fitting(field, self._value()))
        self._expect("]")
        if len(values) > _MAX_VALUES:
            raise self._refused(f"a list holds at most {_MAX_VALUES} values, got {len(values)}", start)
        if isinstance(field, MetadataField):
            self._count(len(values) - 1)
        if len({_family(value) for value in values}) > 1:
            raise self._refused("the values of a list are of one kind: texts, numbers, or true and false", start)
        return Among(field, tuple({(type(value), value): value for value in values}.values()), excluded=excluded)

    def _like(self, field: Field) -> Predicate:
        token = self._token()
        if token.kind != "text":
            raise self._refused(f"`like` is followed by a quoted text, got {token.written or 'the end'}", token.start)
        if isinstance(field, Column) and field.kind is not Kind.TEXT:
            raise self._refused(f"{field.name} holds {field.kind}: `like` is for texts", token.start)
        pattern = self._unquoted(token)
        stem = pattern.removesuffix("%")
        if not pattern or any(letter in stem for letter in "%_\\"):
            raise self._refused(
                'only like "beginning%" is evaluated, and _ % \\ elsewhere are wildcards: '
                "use the filter's key_prefix (--key-prefix), which takes every letter as it is",
                token.start,
            )
        return Compare(field, "==", stem) if stem == pattern else Prefix(field, stem)

    def _value(self) -> Value:
        token = self._token()
        if token.kind in ("true", "false"):
            return token.kind == "true"
        if token.kind == "text":
            return self._unquoted(token)
        if token.kind == "number":
            return self._number(token)
        cure = "fields are compared with values, not with one another" if token.kind == "name" else None
        got = token.written or "the end"
        raise self._refused(cure or f"expected a text in quotes, a number, true or false, got {got}", token.start)

    def _number(self, token: _Token) -> int | float:
        written = token.written.replace(" ", "").replace("\t", "")
        digits = written.lstrip("-")
        if len(digits) > 1 and digits[0] == "0" and digits.isdigit():
            raise self._refused("numbers are decimal, without a zero before them", token.start)
        if digits.isdigit() and len(digits) < 20 and INT64_MIN < int(written) <= INT64_MAX:
            return int(written)
        number = float(written)
        if digits.isdigit() or not math.isfinite(number):
            raise self._refused(f"{written[:40]} is beyond 64 bits", token.start)
        return number

    def _fitting(self, field: Field, value: Value) -> Value:
        """The value, if the field can hold it."""
        if isinstance(field, MetadataField):
            return value
        kind, is_text = field.kind, isinstance(value, str)
        if isinstance(value, bool) or is_text is not (kind is Kind.TEXT):
            raise self._refused(f"{field.name} holds {kind}, which are not compared with {_written(value)}")
        if kind is Kind.FLOAT32:
            if not abs(float(value)) <= float(np.finfo(np.float32).max):
                raise self._refused(f"{field.name} is a 32-bit float, which {value} is beyond")
            return float(value)
        if kind in (Kind.INT32, Kind.INT64) and not isinstance(value, int):
            raise self._refused(f"{field.name} holds integers: write {math.floor(float(value))}, not {value}")
        if kind is Kind.INT32 and isinstance(value, int) and not -(2**31) <= value < 2**31:
            raise self._refused(f"{field.name} holds {kind}, which {value} is beyond")
        return value

    def _unquoted(self, token: _Token) -> str:
        inner = token.written[1:-1]
        if "\t" in inner:
            raise self._refused("a text holds no tab", token.start)
        for escape in re.findall(r"\\.", inner):
            if escape[1] not in "\\\"'":
                raise self._refused(f'a text knows \\" and \\\\ alone, got {escape}', token.start)
        return re.sub(r"\\(.)", r"\1", inner)

    @property
    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _token(self) -> _Token:
        token = self._peek
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _take(self, kind: str) -> bool:
        taken = self._peek.kind == kind
        self._next += taken
        return taken

    def _expect(self, kind: str) -> _Token:
        token = self._token()
        if token.kind != kind:
            wanted = "a quoted text" if kind == "text" else kind
            raise self._refused(f"expected {wanted}, got {token.written or 'the end'}", token.start)
        return token

    def _count(self, more: int) -> None:
        self._comparisons += more
        if self._comparisons > MAX_COMPARISONS:
            raise self._refused(f"more than {MAX_COMPARISONS} comparisons: ask in parts, or use images=… or exclude=…")

    def _refused(self, why: str, place: int | None = None) -> FilterError:
        start = self._tokens[self._next].start if place is None else place
        shown = self._text if len(self._text) <= 200 else f"{self._text[:200]}…"
        return FilterError(f"filter {shown!r}, at character {start + 1}: {why}; {_SUMMARY}")


def _family(value: Value) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"


def _written(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
