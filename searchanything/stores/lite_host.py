"""One Milvus Lite server per file, shared by all processes of the machine (design decision 9).

Beside `index.db` (or, if nobody can write there, elsewhere: `lite_folder`) lies a folder `.index.db.host`, which only
its owner can look into, with

    guard     locked (flock) by the supervisor and inherited by the server: while either lives, no other can start
    users     every user holds a shared lock; the supervisor ends the server when it could hold the exclusive one
              for `idle_s` seconds, and keeps it while doing so: who arrives in that moment waits, then starts anew
    writer    locked by whoever inserts or deletes: Milvus Lite bears one writer at a time
    address   the path of the Unix socket
    served    which file the server has open (device and inode): it may have been removed or replaced since
    filled    which file was seen with an index in it: where it is empty now, it was emptied
    readonly  why that file cannot be written; empty where it can
    seal      what the file was when its last server ended: a checksum
    retire    made by a user: the supervisor ends the server, for the file is not what the server believes
    server.log

The first user takes `guard`, looks at the file (`lite_file`), hands the guard to a detached supervisor
(`lite_supervisor`) and waits for the socket. Locks end with the processes that hold them, so kill -9 of anybody leaves
nothing to clean: a dead server's socket refuses, a dead supervisor takes its server along, and the next user starts
both again. The files themselves are never removed (removing a lock's file would let two hold "the" lock); where a
person removes them, the supervisor sees it and ends its server.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from searchanything.core.errors import IndexUnavailableError
from searchanything.core.files import privately
from searchanything.stores.lite_file import (
    check_file_name,
    check_room,
    prepare_file,
    read_only,
    unusable,
    why_read_only,
)
from searchanything.stores.lite_folder import choose_socket, folder_beside, make_folder
from searchanything.stores.lite_supervisor import (
    ADDRESS,
    FILLED,
    GUARD,
    LOG,
    RETIRE,
    SEAL,
    SERVED,
    USERS,
    WRITER,
    identity_of,
    write_private,
)

logger = logging.getLogger(__name__)

_READ_ONLY = "readonly"
_STARTS = 3  # of a server that ends at once: a start may meet another program's last moments
_POLL_S = (0.002, 0.05)


class LiteHost:
    """This process's share in the server of one file. Thread-safe, and safe to use after a fork.

    `idle_s` is how long the server outlives its last user (the first user's wish counts), `timeout_s` how long to
    wait for the server, or for the other processes' writes.
    """

    # Over 200 lines: start, share, watch and leave are one state under one lock; parts would hand it to and fro.

    def __init__(self, file: Path, *, idle_s: float, timeout_s: float) -> None:
        """Raises: SettingsError if Milvus Lite cannot open a file of that name; IndexUnavailableError if we cannot."""
        check_file_name(file)
        self._file = Path(os.path.realpath(file.expanduser()))
        self._folder = folder_beside(self._file)
        self._idle_s = idle_s
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._users: int | None = None
        self._guard: int | None = None
        self._early: threading.Thread | None = None
        _hosts.add(self)

    @property
    def file(self) -> Path:
        return self._file

    @property
    def identity(self) -> str | None:
        """Which file has the name now; None where there is none."""
        return identity_of(self._file)

    def start_early(self) -> None:
        """Begin to start the server of a file that is there, beside what this process does until `acquire`."""
        if self.identity is not None:
            self._early = threading.Thread(target=self._acquire_early, name="early", daemon=True)
            self._early.start()

    def _acquire_early(self) -> None:
        with contextlib.suppress(Exception):  # `acquire` comes to the same, and says so
            self.acquire(create=False)

    def acquire(self, *, create: bool = True) -> str:
        """Become a user and see that the server runs; return its socket's path. May be called again and again.

        Its server makes the file where there is none, unless `create` is false. Raises: IndexUnavailableError.
        """
        deadline = time.monotonic() + self._timeout_s  # before the lock: what begins early may have used it up
        with self._lock, self._explained():
            self._make_folder()
            if self._users is not None and identity_of(self._users) != identity_of(self._folder / USERS):
                self._leave()  # the folder was removed under us
            if self._users is None:
                self._users = self._lock_file(USERS, fcntl.LOCK_SH, deadline)
                os.utime(self._users)
            try:
                return self._running_server(deadline, create=create)
            except BaseException:
                self._leave()
                raise

    def release(self) -> None:
        """Stop being a user. The server stays for the others, and for `idle_s` seconds."""
        if self._early is not None:
            self._early.join()
        with self._lock:
            self._leave()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock of the file's writers. Raises: IndexUnavailableError if others hold it too long."""
        with self._explained():
            self._make_folder()
            descriptor = self._lock_file(WRITER, fcntl.LOCK_EX, time.monotonic() + self._timeout_s)
        try:
            yield
        finally:
            _unlock(descriptor)

    def check_writable(self) -> None:
        """Where the server could only read its file, look again: replace the server if it could write by now.

        Raises: IndexReadOnlyError, IndexFullError, IndexUnavailableError.
        """
        check_room(self._file)
        if self._note(_READ_ONLY):
            self.retire()
            self.acquire()
            if why := self._note(_READ_ONLY):
                raise read_only(self._file, why)

    def look_writable(self) -> None:
        """Look whether a write could succeed. The server stays as it is: to open its rows again may take a minute.

        Raises: IndexReadOnlyError, IndexFullError, IndexUnavailableError.
        """
        check_room(self._file)
        why = self._note(_READ_ONLY)
        if not (os.access(self._file, os.W_OK) and os.access(self._file.parent, os.W_OK | os.X_OK)):
            raise read_only(self._file, why or "this user may not write there")
        if why and (still := self._still_read_only()):
            raise read_only(self._file, still)

    def _still_read_only(self) -> str:
        """Why a file is still not written, beside modes and room, which nobody else writes meanwhile: quotas, locks."""
        with self.writing():
            return self._note(_READ_ONLY) and why_read_only(self._file)

    def retire(self) -> None:
        """Have the server replaced: what it shows is not what its file holds. Its other users will find the next one.

        Raises: IndexUnavailableError if it stays.
        """
        with self._explained():
            asked = self._folder / RETIRE
            if self._guard_is_free():
                return
            asked.touch(mode=0o600)  # once: asked again, the next one would end as well
            for _ in _turns(time.monotonic() + self._timeout_s):
                if self._guard_is_free() or not asked.exists():  # the next one's supervisor removes it
                    return
            raise IndexUnavailableError(f"{self._file}: its server did not end within {self._timeout_s} s")

    def forget_in_child(self) -> None:
        """After a fork, in the child: the parent's locks are the parent's (closing a copy does not release them)."""
        for descriptor in (self._users, self._guard):
            if descriptor is not None:
                os.close(descriptor)
        self._users = self._guard = self._early = None
        self._lock = threading.Lock()

    def _leave(self) -> None:
        if self._users is not None:
            with contextlib.suppress(OSError):
                os.utime(self._users)
            _unlock(self._users)
            self._users = None

    def _running_server(self, deadline: float, *, create: bool) -> str:
        starts, last_words = 0, ""
        for _ in _turns(deadline):
            address = self._served_address()
            if address is not None:
                return address
            if self._guard_is_free():
                last_words = self._last_words() if starts else ""
                if starts == _STARTS:
                    break
                if not create and self.identity is None:
                    raise IndexUnavailableError(f"{self._file} is no longer there")
                if time.monotonic() < deadline:  # else nobody would wait for it
                    starts += self._try_start()
        check_room(self._file)
        hint = f"no answer within {self._timeout_s} s; does another machine hold {self._folder / 'guard'}?"
        raise IndexUnavailableError(f"{self._file}: its Milvus Lite server did not start: {last_words or hint}")

    def _try_start(self) -> bool:
        """Start a supervisor unless the guard says that there is one. It owns the guard from then on."""
        self._guard = self._try_lock(GUARD)
        if self._guard is None:
            return False
        try:
            if self._served_address() is None:  # a server may have come and gone in between
                self._start(self._guard)
        finally:
            os.close(self._guard)
            self._guard = None
        return True

    def _start(self, guard: int) -> None:
        why_not = prepare_file(self._file, filled=self._note(FILLED), seal=self._note(SEAL))
        with contextlib.suppress(OSError):  # a full disk, of which `check_room` tells
            write_private(self._folder / _READ_ONLY, why_not)
        address = choose_socket(self._file, self._folder)
        orders = {
            "library": _library(),
            "file": str(self._file),
            "socket": address,
            "folder": str(self._folder),
            "lite_lock": str(self._folder.with_suffix(".lock")),
            "guard": guard,
            "idle_s": self._idle_s,
            "read_only": bool(why_not),
        }
        script = Path(__file__).with_name("lite_supervisor.py")
        # Written before the start and read by all: runtime folders may differ between this machine's processes.
        write_private(self._folder / ADDRESS, address)
        (self._folder / LOG).unlink(missing_ok=True)
        with open(self._folder / LOG, "ab", opener=privately) as log:  # to be cut short by the supervisor
            subprocess.run(  # returns as soon as the supervisor has left our process group
                [sys.executable, "-I", "-S", str(script), json.dumps(orders)],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(guard,),
                start_new_session=True,
            )
        logger.debug("started the server of %s on %s", self._file, address)

    def _served_address(self) -> str | None:
        """Where the server of the file answers: of the one that has the name now."""
        address = self._note(ADDRESS)
        return address if address and self._note(SERVED) == self.identity and _answers(address) else None

    def _note(self, name: str) -> str:
        """What a small file of the folder says; "" where there is none."""
        try:
            return (self._folder / name).read_text()
        except FileNotFoundError:
            return ""

    def _make_folder(self) -> None:
        self._folder = make_folder(self._file)

    def _guard_is_free(self) -> bool:
        descriptor = self._try_lock(GUARD)
        if descriptor is None:
            return False
        _unlock(descriptor)
        return True

    def _try_lock(self, name: str, kind: int = fcntl.LOCK_EX) -> int | None:
        descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _lock_file(self, name: str, kind: int, deadline: float) -> int:
        for _ in _turns(deadline):
            if (descriptor := self._try_lock(name, kind)) is not None:
                return descriptor
        raise IndexUnavailableError(f"{self._file}: waited {self._timeout_s} s for other processes ({name})")

    def _last_words(self) -> str:
        """The last line that the supervisor or the server wrote."""
        with contextlib.suppress(OSError, IndexError):
            return (self._folder / LOG).read_text(errors="replace").strip().splitlines()[-1][:500]
        return ""

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, subprocess.SubprocessError) as error:
            raise unusable(self._file, error) from error


def server_at(address: str) -> tuple[object, ...]:
    """Which server listens at a socket's path. Raises: OSError if none does."""
    found = Path(address).stat()
    return address, found.st_ino, found.st_ctime_ns


def _answers(address: str) -> bool:
    """True if a server greets, as gRPC servers do (HTTP/2 SETTINGS).

    To connect proves nothing: the kernel accepts for a server that was killed and has not yet let go of its socket.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(address)
            return bool(probe.recv(1))
        except OSError:
            return False


def _library() -> str:
    """The folder of Milvus Lite's server binary, found without importing the package (it drags pkg_resources in)."""
    spec = importlib.util.find_spec("milvus_lite")
    if spec is None or spec.origin is None:
        raise IndexUnavailableError("the embedded index needs milvus-lite: pip install milvus-lite==2.5.1")
    return str(Path(spec.origin).with_name("lib"))


def _turns(deadline: float) -> Iterator[None]:
    """Turns to look for what others do, one at least; pauses between them grow."""
    pause = _POLL_S[0]
    while True:
        yield
        if time.monotonic() >= deadline:
            return
        time.sleep(pause)
        pause = min(pause * 1.5, _POLL_S[1])


def _unlock(descriptor: int) -> None:
    """Release at once, even if a child forked in between holds a copy of the descriptor."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _forget_all() -> None:
    for host in list(_hosts):
        host.forget_in_child()


_hosts: weakref.WeakSet[LiteHost] = weakref.WeakSet()
os.register_at_fork(after_in_child=_forget_all)
