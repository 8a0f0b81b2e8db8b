"""Bytes that are made once and kept while there is room. Who asks for what is being made waits for it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future


class ByteCache:
    """The last used values, up to `max_bytes` of them. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._making: dict[Hashable, Future[bytes]] = {}
        self._bytes = 0
        self.hits = 0
        self.misses = 0

    @property
    def held_bytes(self) -> int:
        """What is kept now."""
        return self._bytes

    def get(self, name: Hashable, make: Callable[[], bytes]) -> bytes:
        """The value of that name, made if it is not there. Raises: what `make` raises, to all who wait for it."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                self.hits += 1
                return self._kept[name]
            self.misses += 1
            other = self._making.get(name)
            if other is None:
                mine = self._making[name] = Future[bytes]()
        if other is not None:
            return other.result()
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._making[name]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._making[name]
            self._keep(name, value)
        mine.set_result(value)
        return value

    def _keep(self, name: Hashable, value: bytes) -> None:
        self._kept[name] = value
        self._bytes += len(value)
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._kept.popitem(last=False)[1])
