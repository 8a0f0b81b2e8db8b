"""Newest generations that were asked for before, for as long as nobody has written."""

from __future__ import annotations

import threading
from collections.abc import Collection, Hashable, Mapping
from typing import Final

MOST_IMAGES: Final = 1 << 15  # some 5 MB


class GenerationMemory:
    """Of images, by id, the newest generation that was committed, 0 for none, at one state of the rows. Thread-safe.

    A state is anything that differs after every write by anybody; None where nobody knows of writes: then nothing is
    remembered. It must be looked at before the rows are: what is read later is at least as new.
    """

    def __init__(self, most: int = MOST_IMAGES) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._state: Hashable = None
        self._generations: dict[str, int] = {}

    def find(self, state: Hashable, ids: Collection[str]) -> dict[str, int]:
        """Those of these images' generations that are known to be right."""
        with self._lock:
            if state is None or state != self._state:
                return {}
            return {one: self._generations[one] for one in ids if one in self._generations}

    def keep(self, state: Hashable, generations: Mapping[str, int]) -> None:
        """Remember generations as of a state; others' are forgotten, and all where they become too many."""
        with self._lock:
            if state is None:
                return
            if state != self._state or len(self._generations) + len(generations) > self._most:
                self._generations.clear()
            self._state = state
            self._generations.update(generations)
