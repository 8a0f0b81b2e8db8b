"""Standing queries in the service: every half a minute or so what is new is sent to their webhooks.

Not with each wave: an image that another process indexes, or that a webhook did not take, is sent as well.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from searchanything import wiring
from searchanything.client.client import Client
from searchanything.core.counting import counted
from searchanything.core.errors import IndexNotFoundError, SearchAnythingError
from searchanything.core.escaping import printable
from searchanything.service.figures import WatchFigures
from searchanything.service.wave_lines import WAVES_LOGGER

logger = logging.getLogger(__name__)
_waves_logger = logging.getLogger(WAVES_LOGGER)

_JOIN_S: Final = 12.0
_REASON_LETTERS: Final = 200


class _StoppedError(Exception):
    """The process ends."""


class Deliveries:
    """Sends in a thread of its own, until `stop`; what fails is a line once, and not again until it changes.

    To be made in the main thread: there the index's library is imported, which flushes all log handlers. In another one
    Prefect's would wait for its own thread then, which may wait to log, for good.
    """

    def __init__(self, client: Callable[[], Client], every_s: float, figures: WatchFigures) -> None:
        wiring.import_index_library()
        self._client, self._every_s, self._figures = client, every_s, figures
        self._stopping = threading.Event()
        self._said: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="deliveries", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def end(self) -> None:
        """Send nothing after the message under way; returns at once. The next process sends the rest."""
        self._stopping.set()

    def stop(self) -> None:
        """The same, and wait for the message under way."""
        self.end()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_S)

    def once(self) -> None:
        """Send what is new."""
        try:
            done = self._client().standing.deliver(progress=self._check)
        except (IndexNotFoundError, _StoppedError):
            return
        except SearchAnythingError as error:
            self._say({"": str(error)})
            return
        self._figures.delivered(done)
        for name, number in done.sent.items():
            _waves_logger.info("standing query %s: %s sent", printable(name), counted(number, "match", "matches"))
        self._say(dict(done.failed))

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            try:
                self.once()
            except Exception:  # a thread that ended would take all deliveries with it, and nobody would know
                logger.exception("standing queries could not be asked")

    def _check(self) -> None:
        if self._stopping.is_set():
            raise _StoppedError

    def _say(self, failed: dict[str, str]) -> None:
        for name, reason in failed.items():
            if self._said.get(name) != reason:
                what = f"standing query {printable(name)}" if name else "standing queries"
                _waves_logger.warning("%s: tried again later: %s", what, printable(reason)[:_REASON_LETTERS])
        self._said = failed
