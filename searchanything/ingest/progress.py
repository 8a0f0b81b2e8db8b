"""Progress of long work in one line: done, of how many, rate, time left, failures.

The command line draws bars where stderr is a terminal; everywhere else, and in notebooks, it is this line.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Final

from searchanything.ingest.reports import IndexProgress, IndexReport, OnProgress

EVERY_S: Final = 10.0
NOTEBOOK_S: Final = 0.5
_SETTLED_S: Final = 1.0  # before that a rate says nothing


class ProgressLine:
    """What is known by now, as a sentence. Fed by any thread; `clock` gives seconds."""

    def __init__(self, doing: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._doing = doing
        self._clock = clock
        self._stage = ""
        self._start = clock()
        self._now: IndexProgress | None = None

    def __call__(self, now: IndexProgress) -> None:
        if now.stage != self._stage:
            self._stage, self._start = now.stage, self._clock()
        self._now = now

    def __str__(self) -> str:
        now = self._now
        elapsed = self._clock() - self._start
        if now is None:
            return f"{self._doing}: nothing done yet, {_time(elapsed)} so far"
        parts = [f"{now.stage or self._doing}: {self._counted(now)}"]
        rate = now.done / elapsed if elapsed >= _SETTLED_S else 0.0
        if rate and not now.stage:
            parts.append(f"{rate:.1f} images/s")
        if rate and now.total is not None and now.total_is_final and now.total > now.done:
            parts.append(f"about {_time((now.total - now.done) / rate)} left")
        if now.failed:
            parts.append(f"{now.failed:,} failed")
        return ", ".join(parts)

    def _counted(self, now: IndexProgress) -> str:
        if now.total is None:
            return f"{now.done:,} done"
        if not now.total_is_final:
            return f"{now.done:,} of {now.total:,} or more"
        share = f" ({now.done / now.total:.0%})" if now.total else ""
        return f"{now.done:,} of {now.total:,}{share}"


def within(tell: OnProgress, before: IndexProgress) -> OnProgress:
    """Progress of a part as progress of the whole, whose other parts have come so far as `before` says."""

    def add(now: IndexProgress) -> None:
        tell(
            replace(
                now,
                done=before.done + now.done,
                total=before.total,
                indexed=before.indexed + now.indexed,
                failed=before.failed + now.failed,
                total_is_final=before.total_is_final,
            )
        )

    return add


def so_far(report: IndexReport, *, total: int) -> IndexProgress:
    """What a report counts, as progress towards a total that is known."""
    failed = report.failed + report.given_up
    done = report.indexed + report.unchanged + report.empty + report.deleted + failed
    return IndexProgress(done, total, report.indexed, failed, "")


@contextlib.contextmanager
def lines(doing: str, write: Callable[[str], object], *, every_s: float | None = None) -> Iterator[OnProgress]:
    """Write the line every `EVERY_S` or so many seconds while the block runs, whether or not anything came."""
    line = ProgressLine(doing)
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(EVERY_S if every_s is None else every_s):
            write(str(line))

    ticker = threading.Thread(target=tick, name="progress", daemon=True)
    ticker.start()
    try:
        yield line
    finally:
        ended.set()
        ticker.join()


@contextlib.contextmanager
def in_notebooks(tell: OnProgress | None, doing: str) -> Iterator[OnProgress | None]:
    """`tell`, or where none was given and this is a notebook, a line under the cell that renews itself."""
    if tell is not None or not is_notebook():
        yield tell
        return
    with lines(doing, _renew, every_s=NOTEBOOK_S) as line:
        yield line
        _renew(f"{line}\n")


def is_notebook() -> bool:
    """Whether this process is a Jupyter kernel with a page before it."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def _renew(text: str) -> None:
    sys.stderr.write(f"\r{text:<79}" if not text.endswith("\n") else f"\r{text[:-1]:<79}\n")
    sys.stderr.flush()


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
