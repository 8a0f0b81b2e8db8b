"""The small process that starts the server of one Milvus Lite file, and ends it when it is not wanted any more.

Run as a script by `lite_host`, which explains the protocol. Only the standard library, so that it starts in
milliseconds and stays small. What it has to say goes to its standard error: `server.log` in the host's folder.

The server keeps all rows in memory and never looks at its file again. So the file is watched: where it is removed,
replaced or written by another program, the server ends, and the next user starts one that reads what is there now.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

ADDRESS, GUARD, USERS, WRITER, LOG = "address", "guard", "users", "writer", "server.log"
SERVED, FILLED, SEAL, RETIRE = "served", "filled", "seal", "retire"  # see `lite_host`

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_IN_CLOSE_WRITE, _IN_WATCHED = 0x8, 0x4 | 0x8 | 0x400 | 0x800  # linux/inotify.h; also IN_ATTRIB, IN_(DELETE|MOVE)_SELF
_IN_FOLDER = 0x80 | 0x100 | 0x200  # IN_MOVED_TO, IN_CREATE, IN_DELETE
_LONGEST_POLL_S = 0.5
_END_TIMEOUT_S = 5.0
_FOREIGN_TIMEOUT_S = 1.0  # an orphan of another program leaves within 0.2 s
_OTHER_TIMEOUT_S = 3.0  # of a server whose folder was deleted: it is ended within a poll
_LOG_BYTES, _LOG_KEPT = 1 << 20, 1 << 16
_NUMBER = struct.Struct(">I")
_COUNTER_AT, _VERSION_AT = 24, 60  # sqlite.org/fileformat2.html: the file change counter and the user version
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Orders:
    """What the first user tells its supervisor. `guard` is an inherited descriptor that carries the guard's lock."""

    library: str
    file: str
    socket: str
    folder: str
    lite_lock: str
    guard: int
    idle_s: float
    read_only: bool


class End(Enum):
    """Why a server ends."""

    DIED = auto()
    IDLE = auto()  # the exclusive lock on `users` is held
    ASKED = auto()
    CHANGED = auto()  # its file is gone, another, or written by another program
    DISPLACED = auto()  # its folder is gone: others may have made a new one


def main() -> None:
    """Become a daemon, run the server, return when it has ended."""
    orders = Orders(**json.loads(sys.argv[1]))
    os.umask(0o077)
    if os.fork():
        os._exit(0)  # the user who started us waits for this and keeps no child
    lite_lock = _own_lite_lock(Path(orders.lite_lock))
    if lite_lock is None or not (orders.read_only or _wait_for_other_servers(orders.file)):
        sys.exit(f"{orders.file} has been opened by another program")
    folder = Path(orders.folder)
    for stale in (Path(orders.socket), folder / RETIRE, folder / SEAL):
        stale.unlink(missing_ok=True)
    write_private(folder / SERVED, identity_of(orders.file) or "")
    watch, counter = _Watch(orders.file, orders.folder), change_counter(orders.file)
    with _start(orders) as server, (folder / USERS).open("ab") as users:
        guardian = _Guardian(orders, server, watch, users.fileno(), counter)
        end = guardian.wait()
        # gRPC removes a socket's path when it ends gently, even that of a later server.
        _end(server, gently=end is not End.DISPLACED)
        # Where it was idle, the exclusive lock on `users` is still held: who arrives now waits until all is gone.
        guardian.unlink_socket()
        if end in (End.DIED, End.IDLE, End.ASKED) and not orders.read_only:
            _seal(orders.file, folder / SEAL, since=counter)


def identity_of(file: str | Path | int) -> str | None:
    """Which file it is, whatever its name; None where there is none."""
    try:
        found = os.stat(file)  # noqa: PTH116 - a path or a descriptor
    except OSError:
        return None
    return f"{found.st_dev}:{found.st_ino}"


def change_counter(file: str | Path) -> int:
    """How many transactions were written to a SQLite file; 0 for an empty one. Raises: OSError."""
    return _header_number(file, _COUNTER_AT)


def seal_of(file: str | Path) -> dict[str, int]:
    """What a file is when nobody writes to it. Raises: OSError.

    `nonce` and `counter` belong to one content alone: the nonce is written last, and any transaction after it counts.
    """
    checksum = size = 0
    with Path(file).open("rb", buffering=0) as opened:
        while chunk := opened.read(_CHUNK):
            checksum, size = zlib.crc32(chunk, checksum), size + len(chunk)
    counter, nonce = (_header_number(file, place) for place in (_COUNTER_AT, _VERSION_AT))
    return {"nonce": nonce, "counter": counter, "bytes": size, "crc32": checksum}


def _header_number(file: str | Path, place: int) -> int:
    with Path(file).open("rb", buffering=0) as opened:
        found = os.pread(opened.fileno(), _NUMBER.size, place)
    return int(_NUMBER.unpack(found)[0]) if len(found) == _NUMBER.size else 0


def write_private(file: Path, text: str) -> None:
    """Write a small file at once, for its owner alone; not if it says that already: the disk may be full.

    Raises: OSError.
    """
    with contextlib.suppress(OSError):
        if file.read_text() == text:
            return
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        with open(fresh, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as opened:
            opened.write(text)
        fresh.replace(file)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


class _Guardian:
    """Waits until a server is to end: unused, asked to, or with its file or folder gone."""

    def __init__(
        self, orders: Orders, server: subprocess.Popen[bytes], watch: _Watch, users: int, counter: int
    ) -> None:
        """`counter` is the file's from before the server began to read it."""
        self._orders = orders
        self._folder = Path(orders.folder)
        self._server = server
        self._watch = watch
        self._users = users
        self._file = identity_of(orders.file)
        self._size = _size_of(orders.file)
        self._counter = counter
        self._filled = False
        self._socket: str | None = None
        self._last_used = time.monotonic()

    def wait(self) -> End:
        poll_s = min(_LONGEST_POLL_S, self._orders.idle_s / 4)
        with self._watch.waiting(self._server.pid) as wait:
            while True:
                closed = wait(poll_s)
                if self._server.poll() is not None:
                    return End.DIED
                if self._written_by_others(closed=closed) or self._file_changed():
                    return End.CHANGED
                if self._displaced():
                    return End.DISPLACED
                if (self._folder / RETIRE).exists():
                    return End.ASKED
                if self._is_idle():
                    return End.IDLE
                _bound_log(self._folder / LOG)

    def unlink_socket(self) -> None:
        """Remove the server's own socket, not one that a later server made at the same place."""
        self._note_socket()
        if self._socket is not None and identity_of(self._orders.socket) == self._socket:
            Path(self._orders.socket).unlink(missing_ok=True)

    def _note_socket(self) -> None:
        if self._socket is None and identity_of(self._folder / GUARD) == identity_of(self._orders.guard):
            self._socket = identity_of(self._orders.socket)

    def _written_by_others(self, *, closed: bool) -> bool:
        """Who closed it while the server has it open is another program, which may have written."""
        return closed and _has_open(self._server.pid, self._file)

    def _file_changed(self) -> bool:
        """Whether the file is gone, another, shorter than before (SQLite never makes it so), or written by others."""
        if identity_of(self._orders.file) != self._file:
            return True
        if self._orders.read_only and change_counter(self._orders.file) != self._counter:
            return True  # written by whoever can
        before, self._size = self._size, _size_of(self._orders.file)
        if self._size and not self._filled:
            self._filled = True
            write_private(self._folder / FILLED, str(self._file))
        return self._size < before

    def _displaced(self) -> bool:
        """Whether others can neither see the guard's lock nor find the socket."""
        if identity_of(self._folder / GUARD) != identity_of(self._orders.guard):
            return True
        self._note_socket()
        return self._socket is not None and identity_of(self._orders.socket) != self._socket

    def _is_idle(self) -> bool:
        """Whether nobody used the server for so long; the exclusive lock on `users` is then held."""
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._last_used = time.monotonic()
            return False
        # Users touch the file as they come and go: one who came and went between two looks counts as well.
        touched_s_ago = max(0.0, time.time() - os.fstat(self._users).st_mtime)
        self._last_used = max(self._last_used, time.monotonic() - touched_s_ago)
        if time.monotonic() - self._last_used >= self._orders.idle_s:
            return True
        fcntl.flock(self._users, fcntl.LOCK_UN)
        return False


class _Watch:
    """Wakes up at once where the kernel tells of changes (Linux); elsewhere polling has to do."""

    def __init__(self, file: str, folder: str) -> None:
        self._inotify = -1
        if sys.platform != "linux":
            return
        libc = ctypes.CDLL(None)
        self._inotify = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)  # -1 where the user has too many
        if self._inotify >= 0:
            self._file = libc.inotify_add_watch(self._inotify, os.fsencode(file), _IN_WATCHED)
            libc.inotify_add_watch(self._inotify, os.fsencode(folder), _IN_FOLDER)

    @contextlib.contextmanager
    def waiting(self, pid: int) -> Iterator[Callable[[float], bool]]:
        """A function that waits: for a change, for the end of the process, or so many seconds.

        It says whether somebody closed the file who might have written to it.
        """
        poll = select.poll()
        descriptors = [] if self._inotify < 0 else [self._inotify]
        with contextlib.suppress(AttributeError, OSError):  # since Linux 5.3
            descriptors.append(os.pidfd_open(pid))
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)

        def wait(seconds: float) -> bool:
            poll.poll(seconds * 1000)
            return self._file_was_closed()

        try:
            yield wait
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _file_was_closed(self) -> bool:
        if self._inotify < 0:
            return False
        closed = False
        with contextlib.suppress(BlockingIOError):
            while events := os.read(self._inotify, 1 << 16):
                while events:
                    watch, mask, _, length = struct.unpack_from("iIII", events)
                    closed |= watch == self._file and bool(mask & _IN_CLOSE_WRITE)
                    events = events[16 + length :]
        return closed


def _seal(file: str, seal: Path, *, since: int) -> None:
    """Note what a file is now, after giving it a new nonce if anything was written since that count."""
    import secrets
    import sqlite3  # 20 ms with the other, when nobody waits

    with contextlib.suppress(OSError, sqlite3.Error):
        if change_counter(file) != since:
            with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as database:
                database.execute(f"PRAGMA user_version = {1 + secrets.randbelow(2**31 - 1)}")
        write_private(seal, json.dumps(seal_of(file)))


def _own_lite_lock(path: Path) -> int | None:
    """Take the lock that Milvus Lite itself uses when it opens a file by path; it ends with this process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with contextlib.suppress(OSError):
        os.fchmod(descriptor, 0o600)  # who can read it can lock it
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


def _wait_for_other_servers(file: str) -> bool:
    """Wait until no Milvus Lite has the file open: one whose locks were deleted under it, or that serves a link to it.

    Linux only; elsewhere the locks have to do. False where it stays.
    """
    wanted, deadline = identity_of(file), time.monotonic() + _OTHER_TIMEOUT_S
    while any(_has_open(pid, wanted) for pid in _milvus_processes()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _milvus_processes() -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended, or another user's
            if (folder / "exe").readlink().name == "milvus":
                yield int(folder.name)


def _has_open(pid: int, identity: str | None) -> bool:
    """Whether a process has a file open, as far as the system lets us see."""
    with contextlib.suppress(OSError):
        return any(identity_of(descriptor) == identity for descriptor in Path(f"/proc/{pid}/fd").iterdir())
    return False


def _size_of(file: str) -> int:
    with contextlib.suppress(OSError):
        return Path(file).stat().st_size
    return 0


def _bound_log(log: Path) -> None:
    """Keep the end of a log that has grown too long. All who write to it append."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > _LOG_BYTES:
            with log.open("r+b") as opened:
                opened.seek(-_LOG_KEPT, os.SEEK_END)
                kept = opened.read()
                opened.truncate(0)
                opened.seek(0)
                opened.write(kept)


def _home(orders: Orders) -> str:
    """Where the server empties and remakes `.cache/milvus`, or loads nothing: in a user's home are others' files."""
    with contextlib.suppress(OSError):
        Path(orders.folder, ".cache", "milvus").mkdir(parents=True, exist_ok=True)
        return orders.folder
    return os.environ.get("HOME", orders.folder)


def _start(orders: Orders) -> subprocess.Popen[bytes]:
    """The server inherits the guard, and dies with this process: by the kernel on Linux, else by Lite's own lock."""
    supervisor = os.getpid()
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def die_with_supervisor() -> None:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != supervisor:
                os._exit(1)

    paths = dict.fromkeys(("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"), orders.library) | {"HOME": _home(orders)}
    # Else it leaves files in the temporary folder that all can read and nobody deletes, with a line for each query.
    logging = {"GLOG_logtostderr": "1", "GLOG_minloglevel": "2"}
    return subprocess.Popen(
        [f"{orders.library}/milvus", orders.file, f"unix:{orders.socket}", "ERROR", orders.lite_lock],
        env={**os.environ, **paths, **logging},
        cwd=Path(orders.file).parent,
        stdin=subprocess.DEVNULL,
        pass_fds=(orders.guard,),
        preexec_fn=die_with_supervisor,  # this process has one thread
    )


def _end(server: subprocess.Popen[bytes], *, gently: bool) -> None:
    if server.poll() is not None:
        return
    if gently:
        server.terminate()
    else:
        server.kill()
    try:
        server.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
