"""How much is done at once: so many requests work, so many wait, and one more learns when to ask again.

Work runs in threads. One that takes too long is answered for, but keeps its place until it has ended: what cannot be
interrupted must not be counted as gone. The threads are daemons: `ThreadPoolExecutor` would have the process wait for
work that never ends.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from searchanything.core.errors import AnswerTimeoutError, BusyError

_Result = TypeVar("_Result")
_Task: TypeAlias = tuple[Callable[[], Any], Future[Any]]
_SMOOTHING: Final = 0.1  # of the mean duration: the last ten requests or so count
_LONGEST_RETRY_S: Final = 60
_ENDING_RETRY_S: Final = 5


class Gate:
    """A pool of `width` threads before which at most `waiting` requests wait. `name` is for people and metrics."""

    def __init__(self, name: str, *, width: int, waiting: int, timeout_s: float) -> None:
        self.name = name
        self._width, self._waiting, self._timeout_s = width, waiting, timeout_s
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._threads = 0
        self._closed = False
        self._lock = threading.Lock()
        self._inside = 0
        self._mean_s = 0.1

    @property
    def inside(self) -> int:
        """How many requests work or wait now."""
        return self._inside

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """The work's result. Raises: BusyError if it has not begun, AnswerTimeoutError, whatever the work raises."""
        future = self._enter(work)
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), self._timeout_s)
        except asyncio.CancelledError:
            future.cancel()
            raise
        except TimeoutError:
            if future.done():  # the work's own
                raise
            raise self._late(future) from None

    def close(self) -> None:
        """Let nothing more begin; what waits is cancelled, what works goes on."""
        with self._lock:
            self._closed = True
            threads = self._threads
        while True:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                break
            if task is not None:
                task[1].cancel()
        for _ in range(threads):
            self._tasks.put(None)

    def _enter(self, work: Callable[[], _Result]) -> Future[_Result]:
        with self._lock:
            if self._closed:
                raise BusyError("the server is ending", retry_after_s=_ENDING_RETRY_S)
            if self._inside >= self._width + self._waiting:
                raise BusyError(
                    f"{self._inside} requests of this kind are worked on or wait already ({self.name})",
                    retry_after_s=self._retry_s(),
                )
            self._inside += 1
            if self._threads < min(self._width, self._inside):
                self._threads += 1
                name = f"serve-{self.name}-{self._threads}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
            future: Future[_Result] = Future()
            self._tasks.put((partial(copy_context().run, work), future))  # so that its log has the request's number
        future.add_done_callback(self._leave)
        return future

    def _work(self) -> None:
        """One thread's life: a task after the other."""
        while (task := self._tasks.get()) is not None:
            work, future = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = self._timed(work)
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
                future.set_exception(error)
            else:
                future.set_result(result)
                del result
            del task, work, future  # a thread that waits keeps no answer alive

    def _late(self, future: Future[Any]) -> BusyError | AnswerTimeoutError:
        """What is answered in the end: who repeats what works still has it done twice."""
        if future.cancel():
            return BusyError(
                f"the request waited for {self._timeout_s:g} s and was not begun ({self.name})",
                retry_after_s=self._retry_s(),
            )
        return AnswerTimeoutError(
            f"expected an answer within {self._timeout_s:g} s, and the work goes on; ask for less, or have "
            f"SEARCHANYTHING_SERVE__TIMEOUT_S raised"
        )

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
