"""How much is done at once: so many requests work, so many wait, and one more is told when to ask again.

Work runs in threads. One that takes too long is answered for, but keeps its place until it has ended: what cannot be
interrupted must not be counted as gone.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

from searchanything.core.errors import BusyError

_Result = TypeVar("_Result")
_SMOOTHING: Final = 0.1  # of the mean duration: the last ten requests or so count
_LONGEST_RETRY_S: Final = 60


class Gate:
    """A pool of `width` threads before which at most `waiting` requests wait. `name` is for people and metrics."""

    def __init__(self, name: str, *, width: int, waiting: int, timeout_s: float) -> None:
        self.name = name
        self._width, self._waiting, self._timeout_s = width, waiting, timeout_s
        self._pool = ThreadPoolExecutor(width, thread_name_prefix=f"serve-{name}")
        self._lock = threading.Lock()
        self._inside = 0
        self._mean_s = 0.1

    @property
    def inside(self) -> int:
        """How many requests work or wait now."""
        return self._inside

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """The work's result. Raises: BusyError, whatever the work raises."""
        future = self._enter(work)
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), self._timeout_s)
        except TimeoutError:
            if future.done():  # the work's own
                raise
            future.cancel()
            raise BusyError(
                f"no answer within {self._timeout_s:g} s; ask again, or for less", retry_after_s=self._retry_s()
            ) from None

    def close(self) -> None:
        """Let nothing more begin."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _enter(self, work: Callable[[], _Result]) -> Future[_Result]:
        with self._lock:
            if self._inside >= self._width + self._waiting:
                raise BusyError(
                    f"{self._inside} requests of this kind are worked on or wait already ({self.name})",
                    retry_after_s=self._retry_s(),
                )
            self._inside += 1
        future = self._pool.submit(self._timed, work)
        future.add_done_callback(self._leave)
        return future

    def _timed(self, work: Callable[[], _Result]) -> _Result:
        start = time.monotonic()
        try:
            return work()
        finally:
            self._mean_s += _SMOOTHING * (time.monotonic() - start - self._mean_s)

    def _leave(self, _: object) -> None:
        with self._lock:
            self._inside -= 1

    def _retry_s(self) -> int:
        """When those before would be done, if all take as long as the last ones did."""
        return min(_LONGEST_RETRY_S, max(1, math.ceil(self._inside / self._width * self._mean_s)))
