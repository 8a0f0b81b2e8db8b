"""The names that a prompt may have as a mapping: those of `Points` and `Prompts`, and what people and answers write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from searchanything.core.errors import PromptError

Granularity: TypeAlias = Literal["part", "object", "whole"]  # which of several masks under a point
_NAMES: Final[Mapping[str, str]] = {
    "box": "boxes",
    "box_xyxy": "boxes",
    "boxes_xyxy": "boxes",
    "point": "foreground",
    "points": "foreground",
}
_SINGLE: Final = frozenset({"box", "box_xyxy"})
KNOWN: Final = ("foreground", "background", "granularity", "rule", "boxes", "text", "mask")


def plain_fields(fields: Mapping[str, object]) -> dict[str, object]:
    """The same under the names of `KNOWN`; what is None, and the `kind` that answers name, are left out.

    Raises: PromptError for other names, and for two names of one field.
    """
    found: dict[str, object] = {}
    for name, value in fields.items():
        if value is None or name == "kind":
            continue
        field = _NAMES.get(name, name)
        if field not in KNOWN:
            also = ", ".join(_NAMES)
            raise PromptError(f"expected the fields {', '.join(KNOWN)} (or {also}) of a prompt, got {name!r}")
        if field in found:
            raise PromptError(f"expected one of the names of a prompt's {field}, got two")
        found[field] = [value] if name in _SINGLE else value
    return found
