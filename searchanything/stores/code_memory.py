"""Codes that were read before: a row is never overwritten, so its id stands for its code."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

MOST_CODES: Final = 1 << 16  # some 12 MB with ids, of codes of 256 bits


class CodeMemory:
    """The codes that were asked for last, by collection and row id. Thread-safe."""

    def __init__(self, most: int = MOST_CODES) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._codes: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def find(self, collection: str, ids: Iterable[str]) -> dict[str, bytes]:
        """Those of these rows' codes that are known."""
        found: dict[str, bytes] = {}
        with self._lock:
            for one in ids:
                code = self._codes.get((collection, one))
                if code is not None:
                    self._codes.move_to_end((collection, one))
                    found[one] = code
        return found

    def keep(self, collection: str, codes: Mapping[str, bytes]) -> None:
        """Remember codes; those that were asked for longest ago make room."""
        with self._lock:
            self._codes.update({(collection, one): code for one, code in codes.items()})
            while len(self._codes) > self._most:
                self._codes.popitem(last=False)

    def clear(self) -> None:
        """Forget all: rows were deleted."""
        with self._lock:
            self._codes.clear()
