"""From a `Filter` to a Milvus expression, in the common ground of Milvus Lite 2.5 and Milvus server 2.3.

Neither has a way to pass values beside the expression (2.3 lacks templates), so texts are quoted: `"` and `\\` are
escaped, all else stands as it is; Lite knows no other escapes, and `check_filter` has refused control characters.
Milvus Lite gets nothing but what `write` makes of a predicate: it ends at some expressions that it cannot evaluate, for
all who share it. A server gets a filter's expression as it stands, unless that is a chain too long for it.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from searchanything.core.conditions import Value
from searchanything.core.errors import FilterError
from searchanything.core.rows import Outcome
from searchanything.core.types import Filter
from searchanything.stores.columns import (
    IMAGE_COLUMNS,
    INT64_MIN,
    REGION_COLUMNS,
    UNWRITABLE,
    Column,
    Field,
    Kind,
    MetadataField,
)
from searchanything.stores.expressions import parse_expression
from searchanything.stores.filters import check_filter, predicate_of
from searchanything.stores.predicates import All, Among, Compare, OfImages, Predicate, Prefix, Some, first_text_after

_FLAT_LEVELS: Final = 4
_LIKE_NO_TEXT = re.compile(r'\blike\b(?!\s*"")', re.IGNORECASE)
_LINKS = re.compile(r"\b(?:and|or)\b|&&|\|\|", re.IGNORECASE)
_MOST_LINKS: Final = 24
_DIVISION = re.compile(r"[/%](?!\s*[1-9]\d*\b(?!\.|\s*\*\*))")
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def compile_filter(filter: Filter | None, *, whole_images: bool = False, is_server: bool = False) -> str:
    """The expression that keeps the rows a filter means; empty if it means all. Raises: FilterError."""
    parsed, passed_on = filter, ""
    if filter is not None:
        check_filter(filter, whole_images=whole_images)
    if is_server and filter is not None and filter.expression is not None:
        as_it_stands = check_expression(filter.expression)
        if not _is_long_chain(as_it_stands, IMAGE_COLUMNS if whole_images else REGION_COLUMNS):
            parsed, passed_on = replace(filter, expression=None), f"({as_it_stands})"
    written = write(predicate_of(parsed, whole_images=whole_images))
    return " and ".join(part for part in (written, passed_on) if part)


def _is_long_chain(expression: str, columns: Mapping[str, Kind]) -> bool:
    """Whether an expression, which is one of our language, is to be written anew, as a flat tree: a server's segments
    read no more than about 45 comparisons in a row.
    """
    if len(_LINKS.findall("".join(_letters_outside_literals(expression)))) <= _MOST_LINKS:
        return False
    try:
        parse_expression(expression, columns)
    except FilterError:
        return False
    return True


def write(predicate: Predicate) -> str:
    """A predicate as both servers read it; empty if it is true of every row."""
    return _written(predicate)[1]


def one_of(field: str, values: Collection[str], *, excluded: bool = False) -> str:
    """`field in [...]`, or `not in`. The values are ids of ours: letters, digits, `_` and `-`."""
    return f"{field} {'not in' if excluded else 'in'} {json.dumps(list(values))}"


def objects_expression(bucket: str | None, key_prefix: str) -> str:
    """Rows of a bucket whose key starts so. May keep too many unless it `says_all`: compare again."""
    parts = []
    if bucket is not None and _writable(bucket) == bucket:
        parts.append(f"bucket == {quote(bucket)}")
    if stem := _writable(key_prefix):
        parts.append(write(Prefix(Column("key", Kind.TEXT), stem)))
    return " and ".join(parts)


def outcome_expression(outcome: Outcome | None) -> str:
    """Image rows of an outcome, or all."""
    return "" if outcome is None else f"outcome == {quote(outcome.value)}"


def all_expressions(*expressions: str) -> str:
    """What all of them are true of; an empty one is true of all rows."""
    return " and ".join(f"({one})" for one in expressions if one)


def says_all(bucket: str | None, key_prefix: str) -> bool:
    """Whether `objects_expression` keeps what lies in a place and no more: not every text can be written in one."""
    return all(_writable(text) == text for text in (bucket or "", key_prefix))


def quote(text: str) -> str:
    """A text without control characters as a literal of both servers."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def check_expression(expression: str) -> str:
    """Refuse what could break out of its parentheses, or end a server, which dies of a division by zero.

    Raises: FilterError.
    """
    if UNWRITABLE.search(expression.replace("\t", " ")):
        raise FilterError(
            f"expression: control characters, line breaks and lone surrogates are not allowed: {expression!r}"
        )
    open_brackets: list[str] = []
    outside = ""
    for letter in _letters_outside_literals(expression):
        outside += letter
        if letter in _CLOSING:
            open_brackets.append(_CLOSING[letter])
        elif letter in _CLOSING.values() and (not open_brackets or open_brackets.pop() != letter):
            raise FilterError(f"expression: a {letter!r} too many in {expression!r}")
    if open_brackets:
        raise FilterError(f"expression: a {open_brackets[-1]!r} is missing in {expression!r}")
    if not outside.strip():
        raise FilterError("expression: it is empty; leave it out instead")
    if _LIKE_NO_TEXT.search(outside):
        raise FilterError(f"expression: `like` wants a quoted text after it: {expression!r}")
    if _DIVISION.search(outside):
        raise FilterError(f"expression: only / and % by a whole number above 0 are passed on, got {expression!r}")
    return expression


def _letters_outside_literals(expression: str) -> Iterable[str]:
    """The expression with every quoted text replaced by ` "" `."""
    quote_letter, escaped = "", False
    for letter in expression:
        if not quote_letter:
            if letter in "\"'":
                quote_letter = letter
                yield from ' ""'
            else:
                yield letter
        elif escaped:
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == quote_letter:
            quote_letter = ""
            yield " "
    if quote_letter:
        raise FilterError(f"expression: the {quote_letter} of a text is never closed in {expression!r}")


def _written(predicate: Predicate) -> tuple[int, str]:
    """How many levels deep a predicate is for Milvus' parser, and the text."""
    match predicate:
        case All(parts):
            return _joined("and", [_written(part) for part in parts])
        case Some(parts):
            return _joined("or", [_written(part) for part in parts])
        case Prefix(field, text):
            following = first_text_after(text)
            above = () if following is None else (Compare(field, "<", following),)
            return _written(All((Compare(field, ">=", text), *above)))
        case OfImages(images, excluded):
            return 0, one_of("image_id", sorted({image.image_id for image in images}), excluded=excluded)
        case Among(MetadataField() as field, values, excluded):  # Milvus' own `in` wants values of one type
            each: list[Predicate] = [Compare(field, "!=" if excluded else "==", value) for value in values]
            return _written(All(tuple(each)) if excluded else Some(tuple(each)))
        case Among(field, values, excluded):
            listed = ", ".join(_literal(value, field) for value in values)
            return 0, f"{_name(field)} {'not in' if excluded else 'in'} [{listed}]"
        case Compare(field, comparison, value):
            return 0, f"{_name(field)} {comparison} {_literal(value, field)}"


def _joined(word: str, parts: Sequence[tuple[int, str]]) -> tuple[int, str]:
    """Parts joined by `and` or `or`: a few in a row, more as a flat tree, because Milvus Lite reads 40 levels or so."""
    if len(parts) < 2:
        return parts[0] if parts else (0, "")
    texts = [text if depth == 0 else f"({text})" for depth, text in parts]
    deepest = max(depth for depth, _ in parts) + len(parts) - 1
    if deepest <= _FLAT_LEVELS:
        return deepest, f" {word} ".join(texts)
    heap = [(depth, number, text) for number, ((depth, _), text) in enumerate(zip(parts, texts, strict=True))]
    heapq.heapify(heap)
    number = len(heap)
    while True:
        (_, _, left), (depth, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        joined = f"{left} {word} {right}"
        if not heap:
            return depth + 1, joined
        heapq.heappush(heap, (depth + 1, number, f"({joined})"))
        number += 1


def _name(field: Field) -> str:
    return f"metadata[{quote(field.name)}]" if isinstance(field, MetadataField) else field.name


def _literal(value: Value, field: Field) -> str:
    if isinstance(field, Column) and field.kind is Kind.FLOAT32:
        return repr(float(value))  # Milvus Lite dies of a list of integers for such a field
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    # The server reads the digits before the sign, and this one's are out of range; it compares as doubles anyway.
    return repr(float(value) if value == INT64_MIN else value)


def _writable(text: str) -> str:
    """The longest beginning of a text that an expression can hold."""
    return UNWRITABLE.split(text, 1)[0]
