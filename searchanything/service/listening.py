"""A thread that listens to a bucket and hints at what changes.

Events that happen while nobody listens are lost, so a sync is requested each time listening begins and each time it
breaks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from searchanything.core.errors import EventError, EventsNotOfferedError, StoreError
from searchanything.core.protocols import ChangeEvents
from searchanything.images.scopes import Scope
from searchanything.service.events import changed_objects
from searchanything.service.waves import WaveQueue

logger = logging.getLogger(__name__)

_PAUSES_S: Final = (0.5, 30.0)  # between attempts to listen, doubling
_STEADY_S: Final = 10.0  # a stream that lasted so long was a good one
_JOIN_S: Final = 5.0


class HintFilter:
    """Puts the objects of a notification that lie in the bucket and under the prefix into the queue.

    Objects under our own prefix are left out: a run that writes there would start the next run. `lost` is called where
    a part of a notification cannot be read, with the reason: it may concern any object.
    """

    def __init__(
        self, queue: WaveQueue, bucket: str, scope: Scope, lost: Callable[[str], object] = logger.warning
    ) -> None:
        self._queue, self._bucket, self._scope, self._lost = queue, bucket, scope, lost

    def __call__(self, notification: Mapping[str, Any]) -> int:
        """How many hints it gave. Raises: EventError."""
        found = changed_objects(notification, self._lost)
        keys = [
            ref.key
            for ref in found
            if ref.bucket == self._bucket and ref.key.startswith(self._scope.prefix) and not self._scope.is_own(ref.key)
        ]
        if keys:
            self._queue.put(keys)
        return len(keys)


class Listener:
    """Listens until `stop`. `open_events` opens a new stream; `hint` takes its notifications.

    `on_offer` is called with whether the server sends notifications that we can read.
    """

    def __init__(
        self,
        open_events: Callable[[], ChangeEvents],
        hint: Callable[[Mapping[str, Any]], object],
        queue: WaveQueue,
        *,
        on_offer: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._open, self._hint, self._queue, self._on_offer = open_events, hint, queue, on_offer
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._events: ChangeEvents | None = None
        self._unreadable = False  # the last notification was
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        """Start listening; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; hints stay in the queue."""
        self._stopping.set()
        with self._lock:
            if self._events is not None:
                self._events.close()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        pause = _PAUSES_S[0]
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._listen()
            except EventsNotOfferedError as error:
                logger.info("%s; syncs will find what changes", error)
                self._on_offer(False)  # noqa: FBT003
                return
            except StoreError as error:
                logger.warning("listening broke off: %s", error)
                self._queue.request_sync("listening broke off")
            except Exception:  # a thread that ended would take all events with it, and nobody would know
                logger.exception("listening broke off")
                self._queue.request_sync("listening broke off")
            pause = _PAUSES_S[0] if time.monotonic() - began > _STEADY_S else min(2 * pause, _PAUSES_S[1])
            self._stopping.wait(pause)

    def _listen(self) -> None:
        events = self._open()
        with self._lock:
            if self._stopping.is_set():
                return
            self._events = events
        reporter = threading.Thread(target=self._report_when_connected, args=(events,), daemon=True)
        reporter.start()
        try:
            for notification in events:
                self._take(notification)
        finally:
            events.close()
            with self._lock:
                self._events = None  # nobody waits any more for it to be connected

    def _take(self, notification: Mapping[str, Any]) -> None:
        """Hint at its objects. One that cannot be read is skipped: it may concern any object, which a sync finds.

        Until another one can be read the server counts as one that sends none, as it may send no other kind.
        """
        try:
            self._hint(notification)
        except EventError as error:
            logger.warning("a notification is skipped, as it cannot be read: %s", error)
            self._unreadable = True
            self._on_offer(False)  # noqa: FBT003
            return
        if self._unreadable:
            self._unreadable = False
            self._on_offer(True)  # noqa: FBT003
            self._queue.request_sync("a notification could not be read")

    def _report_when_connected(self, events: ChangeEvents) -> None:
        """A sync finds what changed before the server began to send."""
        while not events.connected:
            if self._stopping.wait(0.02) or self._events is not events:
                return
        self._on_offer(True)  # noqa: FBT003
        self._queue.request_sync("listening began")
