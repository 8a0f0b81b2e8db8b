"""A listing that runs ahead of the work on it, so that what it holds is counted while the first images are indexed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from dataclasses import replace
from queue import Empty, Full, Queue
from typing import Final

from searchanything.core.types import StoredObject
from searchanything.ingest.reports import OnProgress

_AHEAD: Final = 100_000  # objects that wait: about 60 MB
_POLL_S: Final = 0.2


class ListingAhead:
    """The objects of a listing in their order, read by a thread of its own up to `most` objects ahead.

    `total` is how many of them `counts` takes so far; it is final where `complete`. What the listing raises is raised
    in its place. To be iterated once.
    """

    def __init__(
        self, objects: Iterable[StoredObject], counts: Callable[[StoredObject], bool], *, most: int = _AHEAD
    ) -> None:
        self.total = 0
        self.complete = False
        self._objects = objects
        self._counts = counts
        self._queue: Queue[StoredObject | BaseException | None] = Queue(most)
        self._stopped = threading.Event()

    def __iter__(self) -> Iterator[StoredObject]:
        threading.Thread(target=copy_context().run, args=(self._list,), name="listing", daemon=True).start()
        try:
            while (one := self._next()) is not None:
                if isinstance(one, BaseException):
                    raise one
                yield one
        finally:
            self._stopped.set()

    def progress(self, report: OnProgress | None) -> OnProgress | None:
        """`report`, with the total as it is known by then."""
        if report is None:
            return None
        return lambda now: report(replace(now, total=max(now.done, self.total), total_is_final=self.complete))

    def _next(self) -> StoredObject | BaseException | None:
        while True:
            try:
                return self._queue.get(timeout=_POLL_S)  # with a timeout, or Ctrl-C would wait for the listing
            except Empty:
                continue

    def _list(self) -> None:
        end: BaseException | None = None
        try:
            for one in self._objects:
                self.total += self._counts(one)
                if not self._put(one):
                    return
            self.complete = True
        except BaseException as error:  # noqa: BLE001  raised again where the listing is read
            end = error
        self._put(end)

    def _put(self, one: StoredObject | BaseException | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(one, timeout=_POLL_S)
            except Full:
                continue
            return True
        return False
