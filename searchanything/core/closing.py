"""`with` for what is closed in the end."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """A `with` block that ends with `close`, however it ends."""

    __slots__ = ()

    def close(self) -> None:
        """Free what is held; a second time does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
