"""One program under watch: started, found ready, killed or ended, started again. None outlives us."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from searchanything.processes import kill_group, supervised

_POLL_S = 0.1


class NotReadyError(RuntimeError):
    """A program ended, or did not become ready in time."""


@dataclass
class Program:
    """A command with its environment. `ready` says whether it serves; it may raise OSError while it does not."""

    name: str
    command: Sequence[str | Path]
    environment: Mapping[str, str]
    folder: Path
    ready: Callable[[], bool]
    grace_s: float = 40.0
    kept: tuple[int, ...] = ()  # descriptors of ours that it gets
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log_file(self) -> Path:
        """What the program wrote, over all its starts."""
        return self.folder / f"{self.name}.log"

    @property
    def alive(self) -> bool:
        """True while it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The program's own process number. Raises: NotReadyError if it does not run."""
        if self._process is None or not self.alive:
            raise NotReadyError(f"{self.name} does not run")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            raise NotReadyError(f"{self.name} has not begun")
        return min(int(child) for child in children)  # the supervisor's first child; its second is the watcher

    def start(self) -> None:
        """Start it, without waiting until it is ready."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                supervised(self.command, grace_s=self.grace_s),
                cwd=self.folder,  # no .env of the user's is read
                env=dict(self.environment),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=self.kept,
            )

    def wait(self, timeout_s: float) -> None:
        """Wait until it is ready. Raises: NotReadyError."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not self.alive:
                raise NotReadyError(f"{self.name} ended: {self.last_words()}")
            with suppress(OSError):
                if self.ready():
                    return
            time.sleep(_POLL_S)
        raise NotReadyError(f"{self.name} was not ready within {timeout_s:.0f} s: {self.last_words()}")

    def kill(self) -> None:
        """SIGKILL to it and to its process group. What it put into sessions of their own has to notice by itself."""
        process, self._process = self._process, None
        if process is not None:
            kill_group(process)
            if process.stdin:
                process.stdin.close()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after `grace_s`."""
        if self._process is not None:
            if self._process.stdin:
                self._process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self.grace_s + 5.0)
            self.kill()

    def last_words(self) -> str:
        """The last lines of its log."""
        if not self.log_file.exists():
            return "it said nothing"
        return "\n".join(self.log_file.read_text(errors="replace").strip().splitlines()[-15:])
