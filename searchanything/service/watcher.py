"""The watcher's loop: hints start waves; lost hints and the clock start syncs. Knows nothing of Prefect or Dask.

    listener, webhook ─► WaveQueue ─► index_wave(keys)   (up to `waves` at once)
              └ "something may have been lost" ─► pending sync ─► sync()   (one at a time; waves go on meanwhile)

The keys of a failed wave are not put back: a sync is requested, and finds them. A sync that fails stays pending and is
tried again after a pause. One that somebody stopped has shown nothing, and does not come back at once: what it was for
is found by the regular one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from searchanything import wiring
from searchanything.core.settings import ServiceSettings, Settings
from searchanything.service.figures import RunKind, WatchFigures
from searchanything.service.http_thread import HttpThread
from searchanything.service.listening import HintFilter, Listener
from searchanything.service.outages import Outages
from searchanything.service.waves import WaveQueue
from searchanything.service.webhook import webhook_of

logger = logging.getLogger(__name__)

_PAUSES_S: Final = (2.0, 60.0)  # between syncs that fail, doubling
_GRACE_S: Final = 15.0  # for running waves when the watcher ends


@dataclass(frozen=True, slots=True)
class Work:
    """What the loop starts: a wave of keys (returns those to look at again), and a sync. Either may raise.

    A sync returns whether source and index are in step as far as it could bring them; False if somebody stopped it.
    """

    index_wave: Callable[[Sequence[str]], Awaitable[Sequence[str]]]
    sync: Callable[[], Awaitable[bool]]


class SyncClock:
    """When the next sync is due: now if one is pending, else after the interval; never in the pause after a failure."""

    def __init__(self, interval_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval_s = interval_s
        self._clock = clock
        self._due = clock() + interval_s
        self._asked_for = float("inf")
        self._not_before = 0.0
        self._pause = _PAUSES_S[0]

    def due_in_s(self, *, pending: bool) -> float:
        """Seconds until a sync is due; 0 for now."""
        now = self._clock()
        wanted = now if pending else min(self._due, now + self.interval_s, self._asked_for)
        return max(0.0, wanted - now, self._not_before - now)

    def ask_within(self, seconds: float) -> None:
        """A sync that begins from now on is due by then; who asks often, as a broken sender does, gets no more of them.

        From any thread: a sync that begins meanwhile may be followed by one too many.
        """
        self._asked_for = min(self._asked_for, self._clock() + seconds)

    def began(self) -> None:
        """A sync begins, as had been asked for until now."""
        self._asked_for = float("inf")

    def succeeded(self) -> None:
        """A sync has succeeded."""
        self._due = self._clock() + self.interval_s
        self._pause = _PAUSES_S[0]

    def stopped(self) -> None:
        """Somebody stopped a sync: the next is the regular one, and what failed before it still counts."""
        self._due = self._clock() + self.interval_s

    def failed(self, kind: RunKind) -> None:
        """A sync or a wave has failed: the next sync waits, and longer each time that a sync fails.

        Waves fail by the dozen while a server is started again: each would put off the sync that finds their images.
        """
        now = self._clock()
        if kind == "sync":
            self._not_before = now + self._pause
            self._pause = min(2 * self._pause, _PAUSES_S[1])
        elif self._not_before <= now:
            self._not_before = now + _PAUSES_S[0]


class Watcher:
    """One watched source: queue, listener, webhook and the loop. Made in the event loop that runs it.

    Raises: SettingsError (no token, port taken), UsageError (source).
    """

    def __init__(self, source: str, settings: Settings) -> None:
        self._settings: ServiceSettings = settings.service
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self.stopping = False  # True once the loop is to end
        self._pending: set[str] = set()
        self.queue = WaveQueue(self._settings, on_change=self._wake_up)
        self._polled_s = self._settings.poll_s if self._settings.webhook_port is None else self._settings.sync_s
        self.clock = SyncClock(self._polled_s)
        self._outages = Outages()
        self.events_offered: bool | None = None
        self.webhook_url: str | None = None
        self.metrics_url: str | None = None
        self.figures = WatchFigures()
        self.figures.watch(
            queued=lambda: len(self.queue), hints=lambda: self.queue.hints, away=lambda: self._outages.away
        )
        self._open = ExitStack()
        store, scope = wiring.open_scoped(source, settings)
        hint = HintFilter(self.queue, store.bucket, scope, self._lost)
        if self._settings.webhook_port is not None:
            webhook = webhook_of(self._settings, hint, self._lost)
            self.webhook_url = f"{self._open.enter_context(webhook).url}/events"
        if self._settings.metrics_port is not None:
            host, port = self._settings.metrics_host, self._settings.metrics_port
            figures = HttpThread("metrics", self.figures.app, host, port)
            self.metrics_url = f"{self._open.enter_context(figures).url}/metrics"
        self._listen(source, settings, hint)

    def stop(self) -> None:
        """End the loop: no new work starts, running work gets a few seconds to finish. From any thread."""
        self.stopping = True
        self._wake_up()

    def close(self) -> None:
        """Stop the listener and the webhook."""
        self._open.close()

    async def run(self, work: Work, *, until: float = float("inf")) -> None:
        """Start work as it falls due, until `stop`, or until `time.monotonic()` is past `until` and no sync runs."""
        waves: set[asyncio.Task[None]] = set()
        sync: asyncio.Task[None] | None = None
        try:
            while not self.stopping:
                sync = None if sync is not None and sync.done() else sync
                waves = {wave for wave in waves if not wave.done()}
                if time.monotonic() >= until and sync is None:
                    break
                self._pending.update(self.queue.take_pending())
                if sync is None and self.clock.due_in_s(pending=bool(self._pending)) == 0:
                    sync = self._started(self._sync(work))
                while len(waves) < self._settings.waves and self.queue.due_in_s() == 0:
                    waves.add(self._started(self._wave(work, self.queue.take())))
                await self._sleep(sync, waves, until)
        finally:
            await _ended({*waves, *([sync] if sync else [])})

    def _listen(self, source: str, settings: Settings, hint: HintFilter) -> None:
        open_events = wiring.events_opener(source, settings)
        if open_events is None:
            self._offered(False)  # noqa: FBT003
            return
        listener = Listener(open_events, hint, self.queue, on_offer=self._offered)
        listener.start()
        self._open.callback(listener.stop)

    def _offered(self, offered: bool) -> None:  # noqa: FBT001
        """The server sends notifications that we can read, so syncs are rare; or not, and they find everything."""
        self.clock.interval_s = self._settings.sync_s if offered else self._polled_s
        if not offered and self.events_offered is not False:
            self.queue.request_sync("no notifications")
        self.events_offered = offered
        self._wake_up()

    def _lost(self, reason: str) -> None:
        """A notification, or a part of one, said what is not known: a sync follows, at most one in `poll_s`."""
        logger.warning("a sync follows within %.0f s: %s", self._settings.poll_s, reason)
        self.clock.ask_within(self._settings.poll_s)
        self._wake_up()

    def _started(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: self._wake.set())
        return task

    async def _wave(self, work: Work, keys: Sequence[str]) -> None:
        again: Sequence[str] = ()
        lost = f"a wave of {len(keys)} images failed; a sync will find them"
        try:
            with self._sync_if_cut("wave", self.queue.request_sync, lost):
                again = await work.index_wave(keys)
        finally:
            self.queue.done(keys)
        if again:
            self.queue.put(again)

    async def _sync(self, work: Work) -> None:
        self._pending = set()  # what is requested from now on may come too late for this sync
        self.clock.began()
        with self._sync_if_cut("sync", self._pending.add, "a sync failed; it is tried again"):
            if not await work.sync():
                self.clock.stopped()
                return
            self.clock.succeeded()
            self.figures.synced()
            self._outages.synced()

    @contextmanager
    def _sync_if_cut(self, kind: RunKind, request: Callable[[str], None], lost: str) -> Iterator[None]:
        """Work that fails, or is cut off because the period is over: a sync is requested."""
        try:
            yield
        except Exception as error:
            logger.exception(lost)
            self._outages.failed(error)
            self.clock.failed(kind)
            self.figures.failed(kind)
            request(f"a {kind} failed")
        except asyncio.CancelledError:
            request(f"a {kind} was cut off")
            raise

    async def _sleep(self, sync: asyncio.Task[None] | None, waves: set[asyncio.Task[None]], until: float) -> None:
        """Until something has changed or falls due."""
        waits = [max(0.05, until - time.monotonic())]
        if sync is None:
            waits.append(self.clock.due_in_s(pending=bool(self._pending)))
        due = self.queue.due_in_s()
        if due is not None and len(waves) < self._settings.waves:
            waits.append(due)
        try:
            await asyncio.wait_for(self._wake.wait(), min(*waits, 3600.0))
        except TimeoutError:
            return
        self._wake.clear()

    def _wake_up(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    """Wait for running work for a while; then cancel it, which the commit rule makes harmless."""
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=_GRACE_S)
    for task in late:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
