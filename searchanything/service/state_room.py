"""Whether the disk of the service's folder has room for Prefect's database and the logs.

Without room Prefect's server ends as it starts, and cannot write into its log why; later, runs are no longer recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from searchanything.core.disk_room import free_bytes
from searchanything.core.errors import ServiceError
from searchanything.core.settings import ENV_PREFIX

WANTED_BYTES: Final = 16 * 10**6  # Prefect's empty database and its journal are 5 MB, its first runs as much again
_LOOK_S: Final = 5.0


class StateRoom:
    """The room that is left to one service's folder; `show` gets a line when it runs out, and when there is some."""

    def __init__(self, folder: Path, show: Callable[[str], None] | None = None) -> None:
        self._folder = folder
        self._show = show or (lambda _: None)
        self._short = False
        self._next_look = 0.0

    def check(self) -> None:
        """Raises: ServiceError where it is not enough to start."""
        if lack := self._lack():
            raise ServiceError(f"{lack}; make room, or set {ENV_PREFIX}SERVICE__FOLDER to a place on another disk")

    def look(self) -> None:
        """Look now and then, and say what has changed. Never raises."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_S
        lack = self._lack()
        if bool(lack) != self._short:
            self._short = bool(lack)
            text = f"{lack}: runs may fail or go unrecorded" if lack else f"there is room again for {self._folder}"
            with suppress(OSError):  # its reader has gone away
                self._show(f"{time.strftime('%H:%M:%S')}  {text}")

    def _lack(self) -> str:
        free = free_bytes(self._folder)
        if free is None or free >= WANTED_BYTES:
            return ""
        return f"no room on the disk of {self._folder} ({free / 1e6:.1f} MB are free, {WANTED_BYTES / 1e6:.0f} wanted)"
