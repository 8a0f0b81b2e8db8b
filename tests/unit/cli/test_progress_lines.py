"""Progress of the command line: bars on a terminal, else plain lines now and then."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from searchanything.cli.progress import (
    download_progress,
    evaluation_progress,
    hash_progress,
    indexing_progress,
    passing_progress,
    rows_progress,
)
from searchanything.hash_training.training import TrainingProgress
from searchanything.ingest import progress as ingest_progress
from searchanything.ingest.reports import IndexProgress


class Stream(io.StringIO):
    """Standard error, a terminal or not."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@contextmanager
def _indexing() -> Iterator[Callable[[], None]]:
    with indexing_progress() as show:
        yield lambda: show(IndexProgress(3, 20, 3, 0, ""))


@contextmanager
def _exporting() -> Iterator[Callable[[], None]]:
    with passing_progress("exporting") as show:
        yield lambda: show(IndexProgress(3, 20, 0, 0, "", stage="exporting"))


@contextmanager
def _evaluating() -> Iterator[Callable[[], None]]:
    with evaluation_progress() as show:
        yield lambda: show(3, 20, 2)


@contextmanager
def _reading() -> Iterator[Callable[[], None]]:
    with rows_progress("reading", None) as show:
        yield lambda: show(3000)


@contextmanager
def _training() -> Iterator[Callable[[], None]]:
    with hash_progress(50) as show:
        yield lambda: show(TrainingProgress("training", 3, 20, 0.25))


@contextmanager
def _fetching() -> Iterator[Callable[[], None]]:
    record: Any = SimpleNamespace(name="small.pt")
    with download_progress() as show:
        yield lambda: show(record, 45_000_000, 300_000_000)


WORK: dict[str, tuple[Callable[[], AbstractContextManager[Callable[[], None]]], str]] = {
    "index": (_indexing, "indexing: 3 of 20 (15%)"),
    "export": (_exporting, "exporting: 3 of 20 (15%)"),
    "eval": (_evaluating, "evaluating: 3 of 20 (15%), 2 failed"),
    "hash judge": (_reading, "reading: 3,000 done"),
    "hash train": (_training, "training: 3 of 20 (15%), held-out loss 0.25000"),
    "models fetch": (_fetching, "small.pt (MB): 45 of 300 (15%)"),
}


def written(work: str, monkeypatch: pytest.MonkeyPatch, *, terminal: bool, until: str) -> str:
    """What standard error shows of it, waited for."""
    stream = Stream(terminal=terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    with WORK[work][0]() as step:
        step()
        deadline = time.monotonic() + 30
        while until not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    return stream.getvalue()


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """However late a line comes, it says no more than in the first second."""
    monkeypatch.setattr(ingest_progress, "_SETTLED_S", float("inf"))


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("setting", ["FORCE_COLOR", "TTY_COMPATIBLE", "none"])
def test_what_is_no_terminal_gets_plain_lines(work: str, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_progress, "EVERY_S", 0.02)
    monkeypatch.setenv(setting, "1")
    shown = written(work, monkeypatch, terminal=False, until=WORK[work][1])
    assert shown.splitlines()[-1] == WORK[work][1]
    assert not set("\r\x1b") & set(shown)


@pytest.mark.parametrize("work", WORK)
def test_a_terminal_gets_bars(work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    doing = WORK[work][1].partition(":")[0].removesuffix(" (MB)")
    shown = written(work, monkeypatch, terminal=True, until=doing)
    assert doing in shown
    assert "\x1b[" in shown


@pytest.mark.usefixtures("early")
def test_a_terminal_without_a_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_progress, "EVERY_S", 0.02)
    monkeypatch.setenv("TERM", "dumb")
    doing = WORK["index"][1]
    assert written("index", monkeypatch, terminal=True, until=doing).splitlines()[-1] == doing
