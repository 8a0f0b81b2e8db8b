"""Hints → waves of work: coalesced per key, debounced, bounded.

A key waits once, however often it is hinted at; while it is being worked on, a new hint waits until that is done.
A wave is due when nothing new has come for `quiet_s`, when the first key has waited for `longest_wait_s`, or when it
is full. What does not fit into the queue is dropped: a sync is requested instead, and finds it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from itertools import islice

from searchanything.core.counting import counted
from searchanything.core.settings import ServiceSettings


class WaveQueue:
    """The waiting keys. Thread-safe; it never sleeps: the loop that takes waves asks `due_in_s` how long to wait.

    `on_change` is called, from any thread, whenever a wave may be due sooner than was said before.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._on_change = on_change
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[str, float] = {}  # key -> when it was first hinted at
        self._working: set[str] = set()
        self._blocked = 0  # keys that wait and are being worked on
        self._last = 0.0
        self._pending: list[str] = []
        self._hints = 0

    def put(self, keys: Iterable[str]) -> None:
        """Hint at keys. A key that does not fit is dropped, and a sync is requested."""
        now = self._clock()
        with self._lock:
            for key in keys:
                self._hints += 1
                if key in self._waiting:
                    continue
                if len(self._waiting) >= self._settings.queue_keys:
                    self._request(f"more than {counted(self._settings.queue_keys, 'key')} waited")
                else:
                    self._waiting[key] = now
                    self._blocked += key in self._working
            self._last = now
        self._on_change()

    def request_sync(self, reason: str) -> None:
        """Hints may have been lost: only a sync finds what they named."""
        with self._lock:
            self._request(reason)
        self._on_change()

    def take_pending(self) -> tuple[str, ...]:
        """Why a sync is pending (empty: none is). The queue forgets the reasons: the caller must run the sync."""
        with self._lock:
            pending, self._pending = tuple(self._pending), []
            return pending

    def due_in_s(self) -> float | None:
        """Seconds until a wave is due (0: now); None while nothing waits that could be taken."""
        with self._lock:
            free = len(self._waiting) - self._blocked
            if not free:
                return None
            if free >= self._settings.wave_keys:
                return 0.0
            first = next(since for key, since in self._waiting.items() if key not in self._working)
            due = min(self._last + self._settings.quiet_s, first + self._settings.longest_wait_s)
            return max(0.0, due - self._clock())

    def take(self) -> tuple[str, ...]:
        """The keys of the next wave, longest waiting first. They are being worked on until `done`."""
        with self._lock:
            free = (key for key in self._waiting if key not in self._working)
            keys = tuple(islice(free, self._settings.wave_keys))
            for key in keys:
                del self._waiting[key]
            self._working.update(keys)
            return keys

    def done(self, keys: Iterable[str]) -> None:
        """These keys are no longer being worked on, whether it succeeded or not."""
        with self._lock:
            for key in keys:
                self._blocked -= key in self._working and key in self._waiting
                self._working.discard(key)
        self._on_change()

    @property
    def hints(self) -> int:
        """How many hints have come so far."""
        with self._lock:
            return self._hints

    def __len__(self) -> int:
        with self._lock:
            return len(self._waiting) + len(self._working)

    def _request(self, reason: str) -> None:
        if reason not in self._pending:
            self._pending.append(reason)
