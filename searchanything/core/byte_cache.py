"""Values that are made once and kept while there is room. Who asks for what is being made waits for it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ByteCache(Generic[Value]):
    """The last used values, up to `max_bytes` of them by `size_of`. Thread-safe."""

    def __init__(self, max_bytes: int, size_of: Callable[[Value], int]) -> None:
        self._max_bytes = max_bytes
        self._size_of = size_of
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Value] = OrderedDict()
        self._making: dict[Hashable, Future[Value]] = {}
        self._bytes = 0
        self.hits = 0
        self.misses = 0

    @property
    def held_bytes(self) -> int:
        """What is kept now."""
        return self._bytes

    def get(self, name: Hashable, make: Callable[[], Value]) -> Value:
        """The value of that name, made if it is not there. Raises: what `make` raises, to all who wait for it."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                self.hits += 1
                return self._kept[name]
            self.misses += 1
            other = self._making.get(name)
            if other is None:
                mine = self._making[name] = Future[Value]()
        if other is not None:
            return other.result()
        try:
            value = make()
            self.keep(name, value)
        except BaseException as error:
            with self._lock:
                del self._making[name]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._making[name]
        mine.set_result(value)
        return value

    def kept(self, names: Iterable[Hashable]) -> dict[Hashable, Value]:
        """The values of these names that are there; what is being made is not waited for."""
        with self._lock:
            found = {name: self._kept[name] for name in names if name in self._kept}
            for name in found:
                self._kept.move_to_end(name)
            return found

    def keep(self, name: Hashable, value: Value) -> None:
        """Keep a value that was made elsewhere, unless there is one, or it is larger than all that may be kept."""
        size = self._size_of(value)
        with self._lock:
            if name in self._kept or size > self._max_bytes:
                return
            self._kept[name] = value
            self._bytes += size
            while self._bytes > self._max_bytes:
                self._bytes -= self._size_of(self._kept.popitem(last=False)[1])
