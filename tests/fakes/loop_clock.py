"""The clocks of event loops, put forward by a test: what comes too late then is not what a busy machine delays."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from weakref import WeakKeyDictionary

import pytest


class LoopClock:
    """Event loops keep their time, and what a test adds to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead_s: WeakKeyDictionary[asyncio.BaseEventLoop, float] = WeakKeyDictionary()
        plain = asyncio.BaseEventLoop.time
        monkeypatch.setattr(
            asyncio.BaseEventLoop, "time", lambda loop: plain(loop) + self._ahead_s.setdefault(loop, 0.0)
        )

    def put_forward(self, seconds: float) -> None:
        """From any thread; each loop does it between two steps, so that what it has begun to wait for counts."""
        for loop in list(self._ahead_s):
            with suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(self._add, loop, seconds)

    def _add(self, loop: asyncio.BaseEventLoop, seconds: float) -> None:
        self._ahead_s[loop] += seconds
