"""At which consistency level a server is read, so that this process sees its own writes without waiting for each.

A server's Session level waits for this process's insertions, and for nothing where there are none: a server that was
restarted and reads its log again (half a minute) answers such a read as if the collection were empty. So without a
recent insertion of this process the level is Bounded: all that anybody wrote more than some five seconds ago is waited
for. For deletions Session gives no time to wait for, so the first read of a collection after one is strong, and waits
for all that was written: once, however many deletions there were.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

BOUNDED_AFTER_S: Final = 60.0  # far more than a Bounded read lags behind (`common.gracefulTime`: 5 s)


class ReadLevels:
    """The levels of this process's reads of one server, by whatever connection. Thread-safe."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._unseen: Counter[str] = Counter()  # deletions in a collection that no read has waited for
        self._inserted: dict[str, float] = {}  # when this process wrote to a collection last

    def inserted(self, collection: str) -> None:
        """Note an insertion, which the reads of the next minute have to show."""
        with self._lock:
            self._inserted[collection] = self._clock()

    def deleted(self, collection: str) -> None:
        """Note a deletion, which the next read has to show."""
        with self._lock:
            self._unseen[collection] += 1

    @contextlib.contextmanager
    def reading(self, collection: str, usual: str) -> Iterator[str]:
        """The level for a read, at least the usual one."""
        with self._lock:
            unseen = self._unseen[collection]
            fresh = self._clock() - self._inserted.get(collection, -math.inf) < BOUNDED_AFTER_S
        yield "Strong" if unseen else "Bounded" if usual == "Session" and not fresh else usual
        with self._lock:
            if unseen and self._unseen[collection] == unseen:
                del self._unseen[collection]


_OF_SERVERS: Final[dict[tuple[str, str], ReadLevels]] = {}


def levels_of(uri: str, database: str) -> ReadLevels:
    """Those of all connections to a server's database: pymilvus keeps the times of insertions for the process, too."""
    return _OF_SERVERS.setdefault((uri, database), ReadLevels())
