"""An index to which something happens between two of its calls, as another process would have it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from searchanything.core.protocols import RegionIndex

CALLS = {"newest", "generations", "search", "search_images", "search_words", "regions", "regions_of", "codes_of"}


class InterruptedIndex:
    """A `RegionIndex` that does `then` before its call number `at` (from 0), counted in `calls`."""

    def __init__(self, index: RegionIndex, then: Callable[[], object] = lambda: None, *, at: int = -1) -> None:
        self._index, self._then, self._at = index, then, at
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._index, name)
        return partial(self._called, found) if name in CALLS else found

    def _called(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if self.calls == self._at:
            self._then()
        self.calls += 1
        return method(*args, **options)
