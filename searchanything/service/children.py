"""The child processes of `searchanything watch`: started, revived after a pause, ended with all that they started."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from searchanything.core.files import privately
from searchanything.processes import kill_group

logger = logging.getLogger(__name__)

_STOP_S: Final = 30.0  # the coordinator gives its waves 15, and ends by itself after 25
_PAUSES_S: Final = (0.5, 30.0)
_STEADY_S: Final = 60.0  # a child that lived so long may be started again at once
_LOG_BYTES: Final = 10 * 2**20
# Python runs modules of its working directory, and Prefect obeys a `.env`, `prefect.toml` or `pyproject.toml` there.
CHILDREN_FOLDER: Final = "/"
_PRIVATE: Final = 0o077  # umask of our children: other users of the machine read and write nothing of theirs


@dataclass(slots=True)
class Child:
    """A child, how it is started, and when it may be started again."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    kept: tuple[int, ...] = ()  # descriptors of ours that it gets
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause_s: float = _PAUSES_S[0]
    due: float = 0.0

    def start(self) -> None:
        """Start it; what it says is added to its log."""
        self.bound_log()
        with open(self.log, "ab", opener=privately) as log:
            self.process = started(self.command, self.environment, log=log, stdout=log, kept=self.kept)
        self.started = time.monotonic()

    def revive(self) -> None:
        """Start it again if it has died and its pause is over; after another pause where that fails."""
        now = time.monotonic()
        if self.process is None:
            if now >= self.due:
                try:
                    self.start()
                except OSError as error:
                    self._pause(now)
                    logger.warning("%s could not be started again, which is tried until it can: %s", self.name, error)
        elif (code := self.process.poll()) is not None:
            self.stop()  # what it has left of its group
            self.pause_s = _PAUSES_S[0] if now - self.started > _STEADY_S else self.pause_s
            self._pause(now)
            logger.warning("%s ended with code %s; it is started again (%s)", self.name, code, self.log)

    def _pause(self, now: float) -> None:
        self.due = now + self.pause_s
        self.pause_s = min(2 * self.pause_s, _PAUSES_S[1])

    def bound_log(self) -> None:
        """Put a long log aside and go on with an empty one; the child has it open, for appending."""
        try:
            if self.log.stat().st_size > _LOG_BYTES:
                shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
                os.truncate(self.log, 0)
        except FileNotFoundError:
            return
        except OSError as error:  # a full disk is no reason to end the service
            logger.warning("%s could not be put aside: %s", self.log, error)

    def stop(self) -> None:
        """End it and all that it started."""
        if self.process is not None:
            ended(self.process)
            self.process = None


def started(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    log: IO[bytes],
    stdout: IO[bytes] | int,
    kept: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """A process that ends when its standard input does."""
    return subprocess.Popen(
        list(command),
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=log,
        cwd=CHILDREN_FOLDER,
        start_new_session=True,  # Ctrl-C reaches us only, and the whole group can be killed
        umask=_PRIVATE,
        pass_fds=kept,
    )


def ended(process: subprocess.Popen[bytes]) -> None:
    """Close its standard input, wait until it is gone, and kill what is left of its group."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
    kill_group(process)
