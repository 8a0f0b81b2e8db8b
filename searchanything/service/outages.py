"""Whether source and index can be reached, as `searchanything watch` shows it: a line where that changes, none a retry.

Only a sync looks at all of both, and one follows whatever failed; so only a sync that succeeds ends an outage.
"""

from __future__ import annotations

import logging
from typing import Final

from searchanything.core.errors import IndexUnavailableError, SearchAnythingError, StoreError
from searchanything.service.wave_lines import WAVES_LOGGER

_PARTS: Final[tuple[tuple[type[SearchAnythingError], str], ...]] = (
    (StoreError, "the source"),  # a folder or bucket that is gone, or a key that is refused, as well
    (IndexUnavailableError, "the index"),
)
_REASON_LETTERS: Final = 200
_waves_logger = logging.getLogger(WAVES_LOGGER)


class Outages:
    """What cannot be reached at present."""

    def __init__(self) -> None:
        self._away: list[str] = []

    @property
    def away(self) -> tuple[str, ...]:
        """The parts that cannot be reached."""
        return tuple(self._away)

    def failed(self, error: Exception) -> None:
        """Work ended with this error."""
        for kind, part in _PARTS:
            if isinstance(error, kind) and part not in self._away:
                self._away.append(part)
                reason = str(error)[:_REASON_LETTERS]
                _waves_logger.warning("%s cannot be reached, and is tried again until it can: %s", part, reason)

    def synced(self) -> None:
        """A sync has succeeded."""
        if self._away:
            _waves_logger.info(
                "%s can be reached again, and a sync has found what was missed", " and ".join(self._away)
            )
        self._away.clear()
