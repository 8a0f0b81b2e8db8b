"""`with` for what is closed in the end."""

from __future__ import annotations

from types import TracebackType
from typing import NoReturn, Self

from searchanything.core.errors import UsageError


class Closing:
    """A `with` block that ends with `close`, however it ends."""

    __slots__ = ()

    def close(self) -> None:
        """Free what is held; a second time does nothing."""
        raise NotImplementedError

    def __reduce__(self) -> NoReturn:
        """Raises: UsageError; what is to be closed lives in one process."""
        name = type(self).__name__
        raise UsageError(f"a {name} cannot be pickled: it holds connections; open one in each process")

    def __copy__(self) -> Self:
        """One that shares the connections."""
        view = object.__new__(type(self))
        vars(view).update(vars(self))
        return view

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
