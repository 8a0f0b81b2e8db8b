"""Which processes serve an embedded index: found by what they were started with, as `ps` would."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path


def processes_of(file: Path) -> dict[str, list[int]]:
    """Process ids of the servers and of the supervisors of a file."""
    found: dict[str, list[int]] = {"server": [], "supervisor": []}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if str(file) in words and words[0].endswith("/milvus"):
                found["server"].append(int(folder.name))
            elif any(word.endswith("lite_supervisor.py") for word in words) and f'"{file}"' in " ".join(words):
                found["supervisor"].append(int(folder.name))
    return found


def kill(kind: str, file: Path) -> int:
    """kill -9 the one server or supervisor of a file, and wait until it is gone."""
    [pid] = processes_of(file)[kind]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pid not in processes_of(file)[kind])
    return pid


def wait_until(condition: object, *, timeout_s: float = 15.0) -> None:
    """Poll a callable until it is true; fail when it never is."""
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def wait_until_ended(file: Path) -> None:
    """Wait for the server and the supervisor of a file to end by themselves."""
    wait_until(lambda: processes_of(file) == {"server": [], "supervisor": []})
