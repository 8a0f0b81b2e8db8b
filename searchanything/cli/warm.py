"""Questions by a warm process: the first starts it, it has torch and the models loaded, and ends when nobody asks.

A process belongs to one user, one environment (all `SEARCHANYTHING_…` and `AWS_…` variables, and the files
of settings) and one state of this package, whose digest names its socket. It holds no file of an index open between
questions (`kept_index`). It runs one question at a time, with the very code of the command line and in the asker's
folder, and sends what that prints.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from searchanything.cli.entry import may_be_warm
from searchanything.core.settings_files import ENV_FILE, own_file

DEBUG_VARIABLE: Final = "SEARCHANYTHING_DEBUG"  # goes with each question
_PREFIX: Final = "SEARCHANYTHING_"
_START_S: Final = 60.0  # until the socket is there; on a machine that is idle it takes a tenth of a second
_ALSO: Final = (
    "HOME",
    "PYTHONPATH",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "XDG_CONFIG_HOME",
)
_POLL_S: Final = 0.01
_PACKAGE: Final = Path(__file__).parents[1]
_CUT_OFF: Final = "error: the process that answered was killed\ncure:  ask again, or with --no-warm\n"


def ask_warm(arguments: Sequence[str]) -> int | None:
    """The exit code of a command line that a warm process ran; None where it has to be run here."""
    if not may_be_warm(arguments) or not hasattr(socket, "AF_UNIX"):
        return None
    try:
        place = socket_path()
        connection = None if place is None else (connected(place) or _started(place))
        if connection is None:
            return None
        with connection:
            return _answer(connection, arguments)
    except OSError:
        return None


def socket_path() -> Path | None:
    """Where the process of this environment listens; None where there is no place that is this user's alone."""
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"searchanything-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        return None
    return folder / f"warm-{_environment_digest()}"


def _environment_digest() -> str:
    """What an answer may depend on besides arguments and folder: another environment gets another process."""
    digest = hashlib.sha256()
    for name in sorted(os.environ):
        ours = name.startswith((_PREFIX, "AWS_")) and name != DEBUG_VARIABLE
        if ours or name in _ALSO or name.upper().endswith("_PROXY"):
            digest.update(f"{name}={os.environ[name]}\0".encode("utf-8", "surrogateescape"))
    asked = _asked_file()
    if asked is not None:
        digest.update(os.fsencode(Path.cwd()))  # relative paths in it
    for file in (own_file(), asked):
        with contextlib.suppress(OSError):
            digest.update(b"" if file is None else file.read_bytes() + b"\0")
    digest.update(f"{sys.prefix}\0{sys.version}\0".encode())
    for file in sorted(_PACKAGE.rglob("*.py")):  # of an editable installation the code may change
        digest.update(f"{file}\0{file.stat().st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:24]


def _asked_file() -> Path | None:
    """The file of settings that the environment names; it may be named from this folder."""
    asked = os.environ.get(ENV_FILE)
    return Path(asked).expanduser() if asked else None


def connected(place: Path) -> socket.socket | None:
    """A connection to the process that listens there; None where none does."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(place))
    except OSError:
        connection.close()
        return None
    return connection


def _started(place: Path) -> socket.socket | None:
    """Start the process, unless another command does just now, and connect; None where it does not come up."""
    process, deadline = _process_at(place), time.monotonic() + _START_S
    while time.monotonic() < deadline:
        code, connection = process.poll(), connected(place)
        if connection is not None:
            process.returncode = 0  # it outlives this process, which is meant
            return connection
        if code not in (None, 0):
            return None
        if code == 0:  # another one listened, and has ended since
            process = _process_at(place)
        time.sleep(_POLL_S)
    process.kill()
    return None


def _process_at(place: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "searchanything.cli.warm_process", str(place)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/" if _asked_file() is None else None,
    )


def _answer(connection: socket.socket, arguments: Sequence[str]) -> int | None:
    """Send the question, print what comes. None where the process ended before it had said anything."""
    columns = shutil.get_terminal_size().columns
    question = {
        "arguments": list(arguments),
        "folder": str(Path.cwd()),
        "terminal": sys.stdout.isatty(),
        "encoding": sys.stdout.encoding or "utf-8",
        "columns": columns,
        "debug": os.environ.get(DEBUG_VARIABLE, ""),
    }
    begun = False
    try:
        with connection.makefile("rwb") as file:
            file.write(json.dumps(question).encode() + b"\n")
            file.flush()
            for line in file:
                said: dict[str, Any] = json.loads(line)
                if "code" in said:
                    return int(said["code"])
                begun = True
                _print(said)
    except (OSError, ValueError):  # it was killed: half a line is none
        pass
    if not begun:
        return None
    sys.stderr.write(_CUT_OFF)
    return 1


def _print(said: dict[str, Any]) -> None:
    stream = sys.stdout if "out" in said else sys.stderr
    text = said.get("out", said.get("err", ""))
    try:
        stream.write(text.encode(stream.encoding or "utf-8", "backslashreplace").decode(stream.encoding or "utf-8"))
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def take_guard(place: Path) -> int | None:
    """The lock of a process; None where another holds it."""
    guard = os.open(place.with_suffix(".guard"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(guard)
        return None
    return guard
