"""Where the processes that share an embedded index meet: a folder beside its file, and a socket.

Where neither folder nor file can be written there, because of a mount or its modes, the folder lies in a place of this
user's: SQLite can make no journal beside the file, so nobody writes by way of it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from searchanything.core.errors import IndexUnavailableError

READ_ONLY_ERRORS = (errno.EROFS, errno.EACCES, errno.EPERM)
_SOCKET_PATH = re.compile(r"[A-Za-z0-9._/-]{1,100}")  # sun_path holds 104 bytes on macOS; gRPC unquotes the rest


def folder_beside(file: Path) -> Path:
    """The folder of a file that can be written."""
    return file.with_name(f".{file.name}.host")


def make_folder(file: Path) -> Path:
    """The folder for the processes that use a file now, made for its owner alone.

    Raises: IndexUnavailableError if it is somebody else's; OSError.
    """
    folder = _made_folder(file)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), file.parent.stat().st_uid):
        raise IndexUnavailableError(
            f"{file}: {folder} belongs to another user (uid {found.st_uid}), who could hold the index "
            f"or read it; index in a folder of yours, or have it removed"
        )
    if found.st_mode & 0o077:
        with contextlib.suppress(OSError):  # a file system without modes
            folder.chmod(0o700)
    return folder


def _made_folder(file: Path) -> Path:
    beside = folder_beside(file)
    try:
        beside.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in READ_ONLY_ERRORS or not file.exists():
            raise
    else:
        if os.access(beside, os.W_OK) or os.access(file.parent, os.W_OK):
            return beside
    for folder in _folders_of_ours():
        elsewhere = folder / f"{_short_name(file)}.host"
        elsewhere.mkdir(mode=0o700, exist_ok=True)
        return elsewhere
    raise IndexUnavailableError(
        f"{file}: its folder cannot be written, and there is no other place for what its users share: set "
        "XDG_RUNTIME_DIR to a folder of yours"
    )


def choose_socket(file: Path, folder: Path) -> str:
    """A socket in the folder, or, where that path is too long or odd for a socket, in a place of this user's.

    Raises: IndexUnavailableError.
    """
    beside = str(folder / "socket")
    if _SOCKET_PATH.fullmatch(beside):
        return beside
    for ours in _folders_of_ours():
        if _SOCKET_PATH.fullmatch(path := str(ours / _short_name(file))):
            return path
    raise IndexUnavailableError(
        f"{file}: its path is too long or odd for a socket, and there is no other place for one: "
        "set XDG_RUNTIME_DIR to a folder of yours with a short plain name"
    )


def _short_name(file: Path) -> str:
    return hashlib.sha256(os.fsencode(file)).hexdigest()[:24]


def _folders_of_ours() -> Iterator[Path]:
    """Folders that no other user can write to, made when they are asked for."""
    for base in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108 - a folder in it
        folder = Path(base or "/nonexistent") / f"searchanything-{os.getuid()}"
        if _made_ours(folder):
            yield folder


def _made_ours(folder: Path) -> bool:
    """Make a folder that no other user can write to; False where that is not so."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return False
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
