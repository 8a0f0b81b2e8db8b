"""Processes of one machine that share an index in memory: each can die at a write, and another can work meanwhile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from searchanything.client import lease
from searchanything.stores.memory import MemoryIndexStore, MemoryRegionIndex

WRITES = {
    MemoryRegionIndex: (
        "insert_regions",
        "insert_images",
        "insert_words",
        "delete_before",
        "delete_regions",
        "delete_images",
    ),
    MemoryIndexStore: ("create", "add_words", "remember", "switch", "withdraw", "drop"),
}


class KilledError(BaseException):
    """What SIGKILL is to a process: nothing of it is written any more, whatever it does on its way out."""


@dataclass(slots=True)
class Fate:
    """What happens to a process at which of its writes, from 1; None: nothing."""

    dies_at: int | None = None
    is_written: bool = False  # the write that it dies at
    meanwhile_at: int | None = None
    meanwhile: Callable[[], object] | None = None


@dataclass(slots=True)
class _Process:
    pid: int
    fate: Fate
    writes: int = 0
    dead: bool = False


class Processes:
    """Runs work as processes of one machine, one inside another. While none runs, nothing happens to writes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._pids, self._running, self._skipped_s = count(1000), list[_Process](), 0.0
        self._own = threading.local()
        for owner, names in WRITES.items():
            for name in names:
                monkeypatch.setattr(owner, name, self._mortal(getattr(owner, name)))
        clock = SimpleNamespace(time=self._now, monotonic=self._now, sleep=self.skip)
        monkeypatch.setattr(lease, "time", clock)
        monkeypatch.setattr(lease, "os", SimpleNamespace(getpid=lambda: self._running[-1].pid, kill=os.kill))
        monkeypatch.setattr(lease, "_runs", lambda pid: pid in {one.pid for one in self._running})

    def skip(self, seconds: float) -> None:
        """Let time pass for leases."""
        self._skipped_s += seconds

    def run(self, work: Callable[[], object], fate: Fate | None = None) -> object:
        """What the work gives. Raises: KilledError, and as the work."""
        with self._another(fate or Fate()):
            return work()

    @contextmanager
    def _another(self, fate: Fate) -> Iterator[None]:
        process = _Process(next(self._pids), fate)
        self._running.append(process)
        try:
            yield
        finally:
            process.dead = True
            self._running.remove(process)

    def _now(self) -> float:
        return time.time() + self._skipped_s

    def _mortal(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def written(*args: Any, **options: Any) -> Any:
            if not self._running or getattr(self._own, "is_writing", False):  # one write is a part of another
                return write(*args, **options)
            process = self._running[-1]
            process.writes += 1
            fate = process.fate
            if process.writes == fate.meanwhile_at and fate.meanwhile is not None:
                self.run(fate.meanwhile)
            dies = process.writes == fate.dies_at
            if process.dead or (dies and not fate.is_written):
                process.dead = True
                raise KilledError
            self._own.is_writing = True
            try:
                result = write(*args, **options)
            finally:
                self._own.is_writing = False
            if dies:
                process.dead = True
                raise KilledError
            return result

        return written
