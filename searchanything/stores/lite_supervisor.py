"""The small process that starts the server of one Milvus Lite file, and ends it when nobody uses it any more.

Run as a script by `lite_host`, which explains the protocol. Only the standard library, so that it starts in
milliseconds and stays small. What it has to say goes to its standard error: `server.log` in the host's folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LONGEST_POLL_S = 0.5
_END_TIMEOUT_S = 5.0
_FOREIGN_TIMEOUT_S = 1.0  # an orphan of another program leaves within 0.2 s


@dataclass(frozen=True, slots=True)
class Orders:
    """What the first user tells its supervisor. `guard` is an inherited descriptor that carries the guard's lock."""

    library: str
    file: str
    socket: str
    users: str
    lite_lock: str
    guard: int
    idle_s: float


def main() -> None:
    """Become a daemon, run the server, return when it has ended."""
    orders = Orders(**json.loads(sys.argv[1]))
    if os.fork():
        os._exit(0)  # the user who started us waits for this and keeps no child
    lite_lock = _own_lite_lock(Path(orders.lite_lock))
    if lite_lock is None:
        sys.exit(f"{orders.file} has been opened by another program")
    with contextlib.suppress(FileNotFoundError):
        Path(orders.socket).unlink()
    with _start(orders) as server, Path(orders.users).open("ab") as users:
        if _wait_until_idle(server, users.fileno(), orders):
            _end(server)
        # Here the exclusive lock on `users` is still held: who arrives now waits until everything is gone.
        if server.poll() is not None:
            with contextlib.suppress(FileNotFoundError):
                Path(orders.socket).unlink()


def _own_lite_lock(path: Path) -> int | None:
    """Take the lock that Milvus Lite itself uses when it opens a file by path; it ends with this process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + _FOREIGN_TIMEOUT_S
    while True:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.02)
        else:
            return descriptor


def _start(orders: Orders) -> subprocess.Popen[bytes]:
    """The server inherits the guard, and dies with this process: by the kernel on Linux, else by Lite's own lock."""
    supervisor = os.getpid()
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def die_with_supervisor() -> None:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != supervisor:
                os._exit(1)

    paths = dict.fromkeys(("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"), orders.library)
    return subprocess.Popen(
        [f"{orders.library}/milvus", orders.file, f"unix:{orders.socket}", "ERROR", orders.lite_lock],
        env={**os.environ, **paths},
        cwd=Path(orders.file).parent,
        stdin=subprocess.DEVNULL,
        pass_fds=(orders.guard,),
        preexec_fn=die_with_supervisor,  # this process has one thread
    )


def _wait_until_idle(server: subprocess.Popen[bytes], users: int, orders: Orders) -> bool:
    """True with the exclusive lock on `users` held, or False once the server has ended by itself."""
    poll_s = min(_LONGEST_POLL_S, orders.idle_s / 4)
    last_used = time.monotonic()
    while True:
        try:
            server.wait(poll_s)
        except subprocess.TimeoutExpired:
            pass
        else:
            return False
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            last_used = time.monotonic()
            continue
        # Users touch the file as they come and go: one who came and went between two looks counts as well.
        touched_s_ago = max(0.0, time.time() - os.fstat(users).st_mtime)
        last_used = max(last_used, time.monotonic() - touched_s_ago)
        if time.monotonic() - last_used >= orders.idle_s:
            return True
        fcntl.flock(users, fcntl.LOCK_UN)


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
