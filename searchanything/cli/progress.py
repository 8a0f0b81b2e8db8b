"""Progress of long work, on stderr: bars if that is a terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Final

from searchanything.cli.session import say

if TYPE_CHECKING:
    from rich.console import Console

    from searchanything.hash_training.training import TrainingProgress
    from searchanything.ingest.reports import IndexProgress, OnProgress
    from searchanything.models.presets import RecordProgress
    from searchanything.models.weights import WeightsRecord


_SAFE: Final = {
    "indexing": "what is indexed so far is intact and stays; run the same command again to continue",
    "repairing": "what is repaired so far is intact and stays; run the same command again to continue",
    "checking": "nothing was changed",
    "estimating": "nothing was written",
}


@contextlib.contextmanager
def indexing_progress(doing: str = "indexing") -> Iterator[OnProgress]:
    """A bar with rate, remaining time and failures; a line every ten seconds if stderr is not a terminal."""
    from rich.console import Console

    from searchanything.ingest.progress import lines

    console = Console(stderr=True)
    try:
        with acknowledged(), _indexing_bar(console, doing) if console.is_terminal else lines(doing, say) as show:
            yield show
    except KeyboardInterrupt:
        say(f"stopped: {_SAFE.get(doing, 'run the same command again to continue')}")
        raise


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
def _indexing_bar(console: Console, doing: str) -> Iterator[OnProgress]:
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
    with Progress(*columns, console=console, redirect_stdout=False) as bar:
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
    """A bar over the images: how many are done, of how many, and how many failed."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    failed_column = TextColumn("{task.fields[failed]}", style="red")
    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), failed_column)
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=False) as bar:
        task = bar.add_task("evaluating", total=None, failed="")

        def show(done: int, total: int, failed: int) -> None:
            bar.update(task, completed=done, total=total, failed=f"{failed} failed" if failed else "")

        yield show


@contextlib.contextmanager
def download_progress() -> Iterator[RecordProgress]:
    """One bar per file of weights, with rate and remaining time."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=False) as bar:
        tasks = {}

        def show(record: WeightsRecord, done: int, total: int | None) -> None:
            if record.name not in tasks:
                tasks[record.name] = bar.add_task(record.name, total=total)
            bar.update(tasks[record.name], completed=done, total=total)

        yield show


@contextlib.contextmanager
def rows_progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar over the rows of a file of features; a pulse while their number is not known."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=False) as bar:
        task = bar.add_task(what, total=total)

        def show(done: int) -> None:
            bar.update(task, completed=done)

        yield show


@contextlib.contextmanager
def hash_progress(rows: int | None) -> Iterator[Callable[[TrainingProgress], None]]:
    """One bar per stage of training a hash layer, with the best held-out loss so far."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=False) as bar:
        tasks = {}

        def show(progress: TrainingProgress) -> None:
            if progress.stage not in tasks:
                total = progress.total if progress.total is not None else rows
                tasks[progress.stage] = bar.add_task(progress.stage, total=total, loss="")
            loss = "" if progress.loss is None else f"held-out loss {progress.loss:.5f}"
            bar.update(tasks[progress.stage], completed=progress.done, loss=loss)

        yield show
