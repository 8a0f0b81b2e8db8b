"""What becomes of an answer in another process: its values go there, its client stays where it is.

Only the standard library is imported here: the light client's answers are such ones, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, ClassVar, NoReturn, Self, TypeVar

from searchanything.core.errors import UsageError

Answer = TypeVar("Answer")


class PickledAlone:
    """For frozen dataclasses that hold, beside their values, what asks the client further questions.

    Pickled, they keep their values; each function in a field becomes `not_here`. Those in `_computed` are called first,
    and their result is kept. A copy within the process is the answer itself, as nothing in it ever changes.
    """

    __slots__ = ()
    _computed: ClassVar[tuple[str, ...]] = ()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        kept = {}
        for one in fields(self):  # type: ignore[arg-type]  # what has this class is a dataclass
            value = getattr(self, one.name)
            if callable(value):
                value = value() if one.name in self._computed else not_here
            kept[one.name] = value
        return _made_again, (type(self), kept)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def not_here(*_: object, **__: object) -> NoReturn:
    """Raises: UsageError, in place of what an answer that was pickled would ask its client."""
    raise UsageError(
        "this answer was pickled: its values are here, the client that it came from is not; ask the question again "
        "with a client of this process"
    )


def _made_again(kind: type[Answer], values: dict[str, Any]) -> Answer:
    return kind(**values)
