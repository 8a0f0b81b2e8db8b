"""Progress of long work, on stderr: bars if that is a terminal, else a line every ten seconds."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Final

from searchanything.cli.session import say

if TYPE_CHECKING:
    from searchanything.hash_training.training import TrainingProgress
    from searchanything.ingest.reports import IndexProgress, OnProgress
    from searchanything.models.presets import RecordProgress

_SAFE: Final = {
    "indexing": "what is indexed so far is intact and stays; run the same command again to continue",
    "repairing": "what is repaired so far is intact and stays; run the same command again to continue",
    "checking": "nothing was changed",
    "estimating": "nothing was written",
}


@contextlib.contextmanager
def indexing_progress(doing: str = "indexing") -> Iterator[OnProgress]:
    """A bar with rate, remaining time and failures; a line every ten seconds if stderr is not a terminal."""
    from searchanything.ingest.progress import lines

    try:
        with acknowledged(), _indexing_bar(doing) if _has_bars() else lines(doing, say) as show:
            yield show
    except KeyboardInterrupt:
        say(f"stopped: {_SAFE.get(doing, 'run the same command again to continue')}")
        raise


@contextlib.contextmanager
def passing_progress(doing: str) -> Iterator[OnProgress]:
    """The same for a pass over what is indexed, which ends at once when it is interrupted."""
    from searchanything.ingest.progress import lines

    with _indexing_bar(doing) if _has_bars() else lines(doing, say) as show:
        yield show


def _has_bars() -> bool:
    """Whether bars can be drawn. Rich takes FORCE_COLOR, which build servers set, for a terminal as well."""
    return sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


@contextlib.contextmanager
def acknowledged() -> Iterator[None]:
    """Answer a Ctrl-C at once: what is under way may take a while to end."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return

    def answer(number: int, frame: FrameType | None) -> None:
        os.write(2, b"\nstopping: waiting for the images under way\n")  # print may be what was interrupted
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, answer)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _indexing_bar(doing: str) -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from searchanything.ingest.progress import rate_text

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[counted]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}", style="red"),
    )
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False) as bar:
        task = bar.add_task(doing, total=None, rate="", failed="", counted="")

        def show(progress: IndexProgress) -> None:
            description = progress.stage or doing
            if bar.tasks[0].description != description:
                bar.reset(task, description=description)
            total = progress.total if progress.total_is_final else None
            bar.tasks[0].total = total  # `reset` and `update` take None for "as it is"
            speed = bar.tasks[0].speed
            rate = rate_text(speed) if speed and not progress.stage else ""
            failed = f"{progress.failed:,} failed" if progress.failed else ""
            bar.update(task, completed=progress.done, rate=rate, failed=failed, counted=_counted(progress))

        yield show


def _counted(progress: IndexProgress) -> str:
    from searchanything.ingest.progress import is_uncounted

    if is_uncounted(progress):
        return ""
    if progress.total is None:
        return f"{progress.done:,}"
    return f"{progress.done:,}/{progress.total:,}{'' if progress.total_is_final else '+'}"


@contextlib.contextmanager
def counting(doing: str) -> Iterator[Callable[[int, int], None]]:
    """The same for any things that are counted: how many are done, of how many."""
    from searchanything.ingest.reports import IndexProgress

    with indexing_progress(doing) as show:
        yield lambda done, total: show(IndexProgress(done, total, 0, 0, "", stage=doing))


@contextlib.contextmanager
def evaluation_progress() -> Iterator[Callable[[int, int, int], None]]:
    """The images of an evaluation: how many are done, of how many, and how many failed."""
    with _bars_or_lines("evaluating") as show:
        yield lambda done, total, failed: show(
            StageProgress("evaluating", done, total, f"{failed} failed" if failed else "")
        )


@contextlib.contextmanager
def download_progress() -> Iterator[RecordProgress]:
    """One bar per file of weights, with rate and remaining time."""
    with _bars_or_lines("fetching", of_bytes=True) as show:
        yield lambda record, done, total: show(StageProgress(record.name, done, total))


@contextlib.contextmanager
def rows_progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """The rows of a file of features; a bar pulses while their number is not known."""
    with _bars_or_lines(what) as show:
        yield lambda done: show(StageProgress(what, done, total))


@contextlib.contextmanager
def hash_progress(rows: int | None) -> Iterator[Callable[[TrainingProgress], None]]:
    """The stages of training a hash layer, with the best held-out loss so far."""
    with _bars_or_lines("training") as show:

        def shown(progress: TrainingProgress) -> None:
            loss = "" if progress.loss is None else f"held-out loss {progress.loss:.5f}"
            show(StageProgress(progress.stage, progress.done, rows if progress.total is None else progress.total, loss))

        yield shown


@dataclass(frozen=True, slots=True)
class StageProgress:
    """How far a stage has come, and what else there is to say of it."""

    stage: str
    done: int
    total: int | None
    besides: str = ""


@contextlib.contextmanager
def _bars_or_lines(doing: str, *, of_bytes: bool = False) -> Iterator[Callable[[StageProgress], None]]:
    """A bar per stage, or a line every ten seconds."""
    with _stage_bars(of_bytes=of_bytes) if _has_bars() else _stage_lines(doing, of_bytes=of_bytes) as show:
        yield show


@contextlib.contextmanager
def _stage_bars(*, of_bytes: bool) -> Iterator[Callable[[StageProgress], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    counted = (DownloadColumn(), TransferSpeedColumn()) if of_bytes else (MofNCompleteColumn(),)
    around = (TextColumn("{task.description}"), BarColumn()), (TimeRemainingColumn(), TextColumn("{task.fields[more]}"))
    with Progress(*around[0], *counted, *around[1], console=Console(stderr=True), redirect_stdout=False) as bar:
        tasks = {}

        def show(now: StageProgress) -> None:
            if now.stage not in tasks:
                tasks[now.stage] = bar.add_task(now.stage, total=now.total, more="")
            bar.update(tasks[now.stage], completed=now.done, total=now.total, more=now.besides)

        yield show


@contextlib.contextmanager
def _stage_lines(doing: str, *, of_bytes: bool) -> Iterator[Callable[[StageProgress], None]]:
    from searchanything.ingest.progress import lines
    from searchanything.ingest.reports import IndexProgress

    unit, named, besides = (10**6, " (MB)", "") if of_bytes else (1, "", "")

    def write(line: str) -> None:
        say(", ".join(filter(None, (line, besides))))

    with lines(doing, write) as report:

        def show(now: StageProgress) -> None:
            nonlocal besides
            besides = now.besides
            total = None if now.total is None else now.total // unit
            report(IndexProgress(now.done // unit, total, 0, 0, "", stage=f"{now.stage}{named}"))

        yield show
