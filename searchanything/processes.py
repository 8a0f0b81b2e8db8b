"""Child processes that never outlive their parent, and that are gone when they were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

_TEARDOWN_S = 10.0

# The server gets no standard input; the watcher reads ours, which ends when the parent closes it or dies. The data lie
# on the disk long before a gentle end, for which the volume server takes its time when there are many buckets.
_SUPERVISOR = """
exec 3<&0
ticks=$1; shift
"$@" 0</dev/null 3<&- & server=$!
{
    read -r _ <&3
    kill -TERM "$server"
    while [ "$ticks" -gt 0 ]; do sleep 0.2; ticks=$((ticks - 1)); done
    kill -KILL "$server"
} 2>/dev/null & watcher=$!
wait "$server"; code=$?
kill "$watcher" 2>/dev/null
exit "$code"
"""


def ending_signals() -> tuple[signal.Signals, ...]:
    """What ends a program orderly: SIGTERM, Ctrl-C, and the end of its terminal unless `nohup` has that ignored."""
    hangup = (signal.SIGHUP,) if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else ()
    return (signal.SIGTERM, signal.SIGINT, *hangup)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the group that `process` leads, and wait until none of it runs.

    The kernel takes a while to tear a process down: until then it holds its ports and files.
    """
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + _TEARDOWN_S
    while _group_runs(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)


def _group_runs(group: int) -> bool:
    """Whether a process of the group runs. Told by /proc, as signal 0 also finds the dead that init did not reap."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            state, _, of_group = stat.read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(of_group) == group and state not in "ZX":
                return True
    return False


def attempts(process: subprocess.Popen[bytes], *, within_s: float, pause_s: float = 0.05) -> Iterator[None]:
    """Turns to find out whether a server is usable by now, until it has ended or the time is over."""
    deadline = time.monotonic() + within_s
    while process.poll() is None and time.monotonic() < deadline:
        yield
        time.sleep(pause_s)


def supervised(command: Sequence[str | Path], *, grace_s: float) -> list[str]:
    """A command line that runs `command` and ends it when its standard input closes, however that comes about.

    SIGTERM first, SIGKILL after `grace_s` seconds. Start it with `stdin=PIPE` and in a session of its own.
    """
    return ["/bin/sh", "-c", _SUPERVISOR, "sh", str(round(grace_s * 5)), *map(str, command)]
