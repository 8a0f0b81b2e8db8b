"""One line for each finished wave: the coordinator writes them to a file, `searchanything watch` shows them.

A file, not a pipe: a terminal that stands still (Ctrl-S) must not stop the coordinator. It is replaced when it is long.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final, TextIO

from searchanything.core.closing import Closing
from searchanything.core.counting import counted
from searchanything.core.escaping import OneLineFormatter
from searchanything.ingest.reports import Failure
from searchanything.service.reports import WaveReport, summary

WAVES_LOGGER: Final = "searchanything.waves"
WAVES_FILE: Final = "waves.log"
_FILE_BYTES: Final = 2**20
_POLL_S: Final = 0.5
_END_S: Final = 2.0  # for the last lines; a terminal that stands still gets no more
_SHOWN_LETTERS: Final = 200  # of the first failure


def wave_line(images: int, wave: WaveReport) -> str:
    """What a wave of so many images did: seconds, rate, counts, and the first failure and warning with reasons."""
    total = wave.total
    rate = f" ({images / wave.seconds:.1f} a second)" if wave.seconds else ""
    line = f"{counted(images, 'image')} in {wave.seconds:.1f} s{rate}: {summary(wave)}"
    if total.regions:
        line += f", {counted(total.regions, 'region')}"
    if total.failures:
        line += f"; failed: {_first(total.failures, total.failed)}"
        line += ": `searchanything failed list`" if total.failed > 1 else ""
    if total.warnings:
        line += f"; warning: {_first(total.warnings, len(total.warnings))}"
    return line


def _first(failures: Sequence[Failure], count: int) -> str:
    """The first of so many failures or warnings with its reason."""
    first = failures[0]
    reason = first.message.removeprefix(f"{first.key}: ")  # most messages begin with it
    return f"{first.key}: {reason[:_SHOWN_LETTERS]}" + (f", and {count - 1:,} more" if count > 1 else "")


def write_lines_to(file: Path) -> None:
    """From now on, what this process logs to `WAVES_LOGGER` is added to the file, with the time of day."""
    handler = RotatingFileHandler(file, maxBytes=_FILE_BYTES, backupCount=1, encoding="utf-8", delay=True)
    handler.setFormatter(OneLineFormatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    logger = logging.getLogger(WAVES_LOGGER)
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)


class AddedLines(Closing):
    """The lines that are added to a file, and to the one that replaces it; there may be none yet."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._opened: TextIO | None = None
        self._begun = ""  # a line of which the end is not there yet

    def read(self) -> Iterator[str]:
        """Those since the last call."""
        while True:
            replaced = self._is_replaced()  # looked at first: nothing is added to a file after that
            yield from self._rest()
            if not replaced:
                return
            self.close()
            self._opened = self._file.open(encoding="utf-8", errors="replace")  # `close` closes it

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _is_replaced(self) -> bool:
        try:
            there = self._file.stat()
        except FileNotFoundError:
            return False
        return self._opened is None or not os.path.samestat(there, os.fstat(self._opened.fileno()))

    def _rest(self) -> Iterator[str]:
        while self._opened is not None and (text := self._opened.readline()):
            self._begun += text
            if text.endswith("\n"):
                line, self._begun = self._begun.rstrip("\n"), ""
                yield line


class ShownLines(Closing):
    """Each line that is added to a file is given to `show`, in a thread, until `close`, which waits for the last ones.

    What `show` cannot write, because its reader has gone away, is lost.
    """

    def __init__(self, file: Path, show: Callable[[str], None]) -> None:
        self._added, self._show = AddedLines(file), show
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wave lines", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Show what is there, and end."""
        self._ended.set()
        self._thread.join(_END_S)

    def _run(self) -> None:
        with self._added:
            last = False
            while not last:
                last = self._ended.wait(_POLL_S)
                with suppress(OSError):
                    for line in self._added.read():
                        self._show(line)
