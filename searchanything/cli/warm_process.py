"""The warm process: `python -m searchanything.cli.warm_process SOCKET`. See `warm`."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from searchanything.cli.warm import DEBUG_VARIABLE, connected, take_guard

Run = Callable[[Sequence[str]], int]
_QUESTION_S: Final = 10.0  # for a question to arrive once somebody has connected
_ENDING_S: Final = 10.0  # for another process, which nobody can ask any more
_POLL_S: Final = 0.01


class _Sent(io.TextIOBase):
    """A stream whose text goes to whoever asked. A reader that went away is told as a pipe would."""

    def __init__(self, file: Any, name: str, *, terminal: bool, encoding: str) -> None:  # noqa: ANN401 - a socket's file
        self._file, self._name, self._terminal, self._encoding = file, name, terminal, encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._terminal

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1 if self._name == "out" else 2  # of this process, which has nothing there

    def write(self, text: str) -> int:
        self._file.write(json.dumps({self._name: text}).encode() + b"\n")
        self._file.flush()
        return len(text)


def serve_questions(listener: socket.socket, run: Run, *, idle_s: float) -> None:
    """Answer one question after the other, until nobody asks for so long."""
    listener.settimeout(idle_s)
    while True:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            return
        with connection, contextlib.suppress(OSError, ValueError):
            connection.settimeout(_QUESTION_S)
            with connection.makefile("rwb") as file:
                question = json.loads(file.readline())
                connection.settimeout(None)
                code = run_question(question, file, run)
                file.write(json.dumps({"code": code}).encode() + b"\n")


def run_question(question: dict[str, Any], file: Any, run: Run) -> int:  # noqa: ANN401 - a socket's file
    """Run one command line as if it were the asker's; its exit code."""
    out = _Sent(file, "out", terminal=question["terminal"], encoding=question["encoding"])
    err = _Sent(file, "err", terminal=False, encoding="utf-8")
    os.environ["COLUMNS"] = str(question["columns"])
    os.environ[DEBUG_VARIABLE] = str(question["debug"])
    os.chdir(question["folder"])
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return run(question["arguments"])
    finally:
        os.chdir("/")


def main(place: Path) -> int:
    """Listen at once, load what takes long, answer. 0 also where another process was faster."""
    guard = awaited_guard(place)
    if guard is None:
        return 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        place.unlink(missing_ok=True)  # the socket of a dead process: the guard says that there is no other
        listener.bind(str(place))
        place.chmod(0o600)
        listener.listen()
        try:
            return _serve(listener)
        finally:
            place.unlink(missing_ok=True)


def awaited_guard(place: Path) -> int | None:
    """The lock of a process; None where another one listens, which holds it. One that ends holds it a while longer.

    Raises: TimeoutError where one neither listens nor ends.
    """
    deadline = time.monotonic() + _ENDING_S
    while (guard := take_guard(place)) is None:
        if (connection := connected(place)) is not None:
            connection.close()
            return None
        if time.monotonic() > deadline:
            raise TimeoutError(f"{place}: the process that holds its lock can be asked nothing")
        time.sleep(_POLL_S)
    return guard


def _serve(listener: socket.socket) -> int:
    """What takes long to import comes after the socket is there: who asks meanwhile waits."""
    from searchanything.cli.app import run
    from searchanything.cli.kept_index import KeptIndex
    from searchanything.core.errors import SearchAnythingError
    from searchanything.core.settings import load_settings

    try:
        idle_s = load_settings().serve.warm_idle_s
    except SearchAnythingError:
        return 1  # the command itself says what is wrong
    if not idle_s:
        return 1
    with contextlib.closing(KeptIndex()) as kept:
        serve_questions(listener, partial(run, connect=kept), idle_s=idle_s)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
