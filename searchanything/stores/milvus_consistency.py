"""At which consistency level a server is read, so that this process sees its own writes without waiting for each.

A server's Session level waits for this process's insertions. For deletions it gives no time to wait for, so the first
read of a collection after one is strong, and waits for all that was written: once, however many deletions there were.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator


class ReadLevels:
    """The levels of one connection's reads. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unseen: Counter[str] = Counter()  # deletions in a collection that no read has waited for

    def deleted(self, collection: str) -> None:
        """Note a deletion, which the next read has to show."""
        with self._lock:
            self._unseen[collection] += 1

    @contextlib.contextmanager
    def reading(self, collection: str, usual: str) -> Iterator[str]:
        """The level for a read, at least the usual one."""
        with self._lock:
            unseen = self._unseen[collection]
        yield "Strong" if unseen else usual
        with self._lock:
            if unseen and self._unseen[collection] == unseen:
                del self._unseen[collection]
