"""From a `Filter` to a Milvus expression, in the common ground of Milvus Lite 2.5 and Milvus server 2.3.

Neither has a way to pass values beside the expression (2.3 lacks templates), so texts are quoted: `"` and `\\` are
escaped, all else stands as it is; Lite knows no other escapes, and `check_filter` has refused control characters.
A prefix is a range of the bytes' order, because `like` cannot match a literal `%`, and Lite crashes on odd patterns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable

from searchanything.core.errors import FilterError
from searchanything.core.types import Filter
from searchanything.stores.filters import INT64_MIN, Value, check_filter

_LAST_LETTER = "\U0010ffff"
_LIKE_NO_TEXT = re.compile(r'\blike\b(?!\s*"")', re.IGNORECASE)
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def compile_filter(filter: Filter | None, *, whole_images: bool = False) -> str:
    """The expression that keeps the rows a filter means; empty if it means all. Raises: FilterError."""
    parts = ['outcome == "indexed"'] if whole_images else []
    if filter is not None:
        check_filter(filter, whole_images=whole_images)
        parts += _parts(filter, "last_at_ms" if whole_images else "indexed_at_ms")
    return " and ".join(parts)


def one_of(field: str, values: Collection[str], *, excluded: bool = False) -> str:
    """`field in [...]`, or `not in`. The values are ids of ours: letters, digits, `_` and `-`."""
    return f"{field} {'not in' if excluded else 'in'} {json.dumps(list(values))}"


def objects_expression(bucket: str | None, key_prefix: str) -> str:
    """Rows of a bucket whose key starts so. May keep too many where a text cannot be written: compare again."""
    parts = []
    if bucket is not None and _writable(bucket) == bucket:
        parts.append(f"bucket == {quote(bucket)}")
    parts += _prefix_parts(_writable(key_prefix))
    return " and ".join(parts)


def quote(text: str) -> str:
    """A text without control characters as a literal of both servers."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def check_expression(expression: str) -> str:
    """Refuse what could break out of its parentheses, or end Milvus Lite, which crashes on some broken expressions.

    Raises: FilterError.
    """
    if any(letter < " " for letter in expression.replace("\t", " ")):
        raise FilterError(f"expression: control characters and line breaks are not allowed: {expression!r}")
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


def _parts(filter: Filter, time_field: str) -> list[str]:
    parts = []
    if filter.bucket is not None:
        parts.append(f"bucket == {quote(filter.bucket)}")
    if filter.key_prefix is not None:
        parts += _prefix_parts(filter.key_prefix)
    if filter.images:
        parts.append(one_of("image_id", sorted({image.image_id for image in filter.images})))
    if filter.exclude:
        parts.append(one_of("image_id", sorted({image.image_id for image in filter.exclude}), excluded=True))
    if filter.within:
        parts.append(f"({' or '.join(_place(*place) for place in filter.within)})")
    parts += _range_parts("area_px", filter.area_px)
    parts += _range_parts(time_field, filter.indexed_at_ms)
    if filter.size_class is not None:
        parts.append(f"size_class == {quote(filter.size_class.value)}")
    parts += [f"metadata[{quote(name)}] == {_literal(value)}" for name, value in filter.metadata.items()]
    if filter.expression is not None:
        parts.append(f"({check_expression(filter.expression)})")
    return parts


def _prefix_parts(prefix: str) -> list[str]:
    """Keys in [prefix, the first text after all that start so), by code points, which is the order of UTF-8's bytes."""
    if not prefix:
        return []
    parts = [f"key >= {quote(prefix)}"]
    stem = prefix.rstrip(_LAST_LETTER)
    if stem:
        following = 0xE000 if stem[-1] == "\ud7ff" else ord(stem[-1]) + 1  # surrogates are no letters
        parts.append(f"key < {quote(stem[:-1] + chr(following))}")
    return parts


def _place(bucket: str, key_prefix: str) -> str:
    return f"({' and '.join([f'bucket == {quote(bucket)}', *_prefix_parts(key_prefix)])})"


def _range_parts(field: str, bounds: tuple[int | None, int | None]) -> list[str]:
    return [f"{field} {sign} {end}" for sign, end in zip((">=", "<="), bounds, strict=True) if end is not None]


def _literal(value: Value) -> str:
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    # The server reads the digits before the sign, and this one's are out of range; it compares as doubles anyway.
    return repr(float(value) if value == INT64_MIN else value)


def _writable(text: str) -> str:
    """The longest beginning of a text that an expression can hold."""
    for number, letter in enumerate(text):
        if letter < " " or "\ud800" <= letter <= "\udfff":
            return text[:number]
    return text
