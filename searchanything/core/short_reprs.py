"""Values that print themselves in one short line: a notebook shows many, and nobody reads a mask's run lengths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from searchanything.core.escaping import printable

_LONGEST: Final = 80


class ShortRepr:
    """For dataclasses with `repr=False`: `__repr__` shows the fields of `_shown` alone, each in a few letters."""

    __slots__ = ()
    _shown: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={_brief(getattr(self, name))}" for name in self._shown)
        return f"{type(self).__name__}({fields})"


def _brief(value: object) -> str:
    match value:
        case str():
            text = str(value)  # of an enum its value
            return repr(printable(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"))
        case bool() | None:
            return repr(value)
        case tuple() if all(isinstance(one, float | int) or hasattr(one, "dtype") for one in value):
            return f"({', '.join(format(one, 'g') for one in value)})"
        case tuple() | list() | Mapping():
            return f"<{len(value)}>"
        case float():
            return format(value, ".3g")
    return str(value)
