"""Filter expressions for property tests: well-formed ones over many fields, and some that are broken."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hypothesis import strategies as st

INTEGERS = ["region", "area_px", "indexed_at_ms", "generation", "image_width", "mask_height"]
FLOATS = ["score", "x1", "y2"]
TEXTS = ["key", "bucket", "etag", "size_class", "id", "image_id", "mask_counts"]
COMPARISONS = ["==", "!=", "<", "<=", ">", ">="]
WORDS = [
    *INTEGERS, *FLOATS, *TEXTS, *COMPARISONS, "and", "or", "not", "in", "like", "(", ")", "[", "]", ",", "&&", "||",
    "!", "-", "+", "%", "/", "**", "0", "1", "-1", "1.5", "1e400", "9223372036854775807", "-9223372036854775808",
    '"a"', '"a%"', '"%"', '"_"', '"\\\\"', '""', "'", '"', "true", "false", "metadata", 'metadata["a"]', "exists",
    "array_contains", "null", "\\", "$", "{", "}", "\x7f",
]  # fmt: skip


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text.isprintable() else '"x"'


def expressions(texts: Sequence[str], names: Sequence[str], leaves: int = 12) -> st.SearchStrategy[str]:
    """Expressions of the language, over the given texts and names of metadata."""
    text = st.sampled_from(texts).map(_quoted)
    plain = text.filter(lambda one: not any(letter in one for letter in "%_\\"))
    integer = st.integers(-2, 6).map(str) | st.sampled_from(["2147483647", "-2147483648", "900", "1760000000003"])
    decimal = st.sampled_from(["0.75", "1.5", "-0.0", "1e-30", "3e38", ".5", "2.", "1.0"])
    number = integer | decimal
    sign = st.sampled_from(COMPARISONS)
    metadata = st.sampled_from(names).map(lambda name: f"metadata[{_quoted(name)}]")
    small = text | number

    def compare(field: st.SearchStrategy[str], value: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        single = st.tuples(field, sign, value).map(" ".join)
        turned = st.tuples(value, sign, field).map(" ".join)
        listed = st.tuples(field, st.sampled_from(["in", "not in"]), st.lists(value, min_size=1, max_size=4)).map(
            lambda parts: f"{parts[0]} {parts[1]} [{', '.join(parts[2])}]"
        )
        return single | turned | listed

    leaf = (
        compare(st.sampled_from(INTEGERS), integer)
        | compare(st.sampled_from(FLOATS), number)
        | compare(st.sampled_from(TEXTS), text)
        | compare(metadata, text)
        | compare(metadata, integer)
        | compare(metadata, decimal)
        | st.tuples(metadata, st.sampled_from(["==", "!="]), st.sampled_from(["true", "false"])).map(" ".join)
        | st.tuples(metadata, sign, small).map(" ".join)
        | st.tuples(st.sampled_from(["key", "bucket", "etag"]) | metadata, plain.filter(lambda one: one != '""')).map(
            lambda parts: f"{parts[0]} like {parts[1][:-1]}%{parts[1][-1]}"
        )
    )

    def deeper(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        joined = st.tuples(st.sampled_from([" and ", " or ", " && ", " || "]), st.lists(inner, min_size=2, max_size=6))
        return joined.map(lambda parts: f"({parts[0].join(parts[1])})") | inner.map(lambda one: f"not ({one})")

    return st.recursive(leaf, deeper, max_leaves=leaves)


def soups(texts: Sequence[str], names: Sequence[str]) -> st.SearchStrategy[str]:
    """Short expressions with some tokens put in the place of others: about half are none."""
    whole = expressions(texts, names, leaves=3)
    changes = st.lists(st.tuples(st.integers(0, 30), st.sampled_from(WORDS)), max_size=2)
    return st.builds(_changed, whole, changes)


def _changed(expression: str, changes: Sequence[tuple[int, str]]) -> str:
    tokens = expression.split(" ")
    for place, word in changes:
        tokens[place % len(tokens)] = word
    return " ".join(tokens)
