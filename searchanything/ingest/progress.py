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

from searchanything.core.on_step import OnStep, unseen
from searchanything.ingest.reports import IndexProgress, IndexReport, OnProgress

EVERY_S: Final = 10.0
NOTEBOOK_S: Final = 0.5
_SETTLED_S: Final = 1.0  # before that a rate says nothing


class ProgressLine:
    """What is known by now, as a sentence. Fed by any thread; `clock` gives seconds."""

    def __init__(self, doing: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._doing = doing
        self._clock = clock
        self._start = self._reported_at = clock()
        self._done_before = 0  # of the present stage: what was done when it was first heard of
        self._now: IndexProgress | None = None

    def __call__(self, now: IndexProgress) -> None:
        self._reported_at = self._clock()
        if self._now is None or now.stage != self._now.stage:
            self._start, self._done_before = self._reported_at, now.done
        self._now = now

    def __str__(self) -> str:
        now = self._now
        elapsed_s = self._clock() - self._start
        so_far = f"{_time(elapsed_s)} so far"
        if now is None or not (now.stage or now.done or now.total or now.total_is_final):
            return f"{self._doing}: nothing done yet, {so_far}"
        if is_uncounted(now):
            return f"{now.stage}: {so_far}"
        parts = [f"{now.stage or self._doing}: {self._counted(now)}"]
        rate = self._rate(now)
        if now.done == self._done_before and elapsed_s >= _SETTLED_S:
            parts.append(so_far)  # else the same line would come again and again
        if rate and not now.stage:
            parts.append(rate_text(rate))
        if rate and now.total is not None and now.total_is_final:
            left_s = (now.total - now.done) / rate - (self._clock() - self._reported_at)
            if left_s > 0:
                parts.append(f"about {_time(left_s)} left")
        if now.failed:
            parts.append(f"{now.failed:,} failed")
        return ", ".join(parts)

    def _rate(self, now: IndexProgress) -> float:
        """Images a second when something was last heard: between batches the time left must not grow."""
        elapsed = self._reported_at - self._start
        return (now.done - self._done_before) / elapsed if elapsed >= _SETTLED_S else 0.0

    def _counted(self, now: IndexProgress) -> str:
        if now.total is None:
            return f"{now.done:,} done"
        if not now.total_is_final:
            return f"{now.done:,} of {now.total:,} or more"
        share = f" ({now.done / now.total:.0%})" if now.total else ""
        return f"{now.done:,} of {now.total:,}{share}"


def is_uncounted(now: IndexProgress) -> bool:
    """Whether this names a stage that has nothing to count."""
    return bool(now.stage) and now.total is None and not now.done


def rate_text(per_second: float) -> str:
    """A rate in the unit in which it is not a fraction."""
    for per_unit, unit in ((per_second, "s"), (per_second * 60, "min")):
        if per_unit >= 1:
            return f"{per_unit:.1f} images/{unit}"
    return f"{per_second * 3600:.1f} images/h"


def steps_of(report: OnProgress | None) -> OnStep:
    """The steps of a stage as progress, whose `stage` it is."""
    if report is None:
        return unseen
    return lambda stage, done, total: report(IndexProgress(done, total, 0, 0, "", stage=stage))


def within(report: OnProgress, before: IndexProgress) -> OnProgress:
    """Progress of a part as progress of the whole, whose other parts have come so far as `before` says."""

    def add(now: IndexProgress) -> None:
        report(
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


def so_far(before: IndexProgress, report: IndexReport) -> IndexProgress:
    """How far a run is whose next part this reports."""
    failed = report.failed + report.exhausted
    done = report.indexed + report.unchanged + report.empty + report.deleted + failed
    return replace(
        before, done=before.done + done, indexed=before.indexed + report.indexed, failed=before.failed + failed
    )


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
def in_notebooks(report: OnProgress | None, doing: str) -> Iterator[OnProgress | None]:
    """`report`, or where none was given and this is a notebook, a line under the cell that renews itself."""
    if report is not None or not is_notebook():
        yield report
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
