"""Files that a user or a document names: regular ones, of bounded size, and inside the folder that was meant."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final, Literal

from searchanything.core.errors import SearchAnythingError, UsageError

MAX_FILE_BYTES: Final = 1 << 30  # of a file that is read whole
_KINDS: Final = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_at(
    path: Path, expected: str, *, raised: type[SearchAnythingError] = UsageError
) -> Literal["file", "folder", "other"] | None:
    """What lies at a path that a user names, links followed; None for nothing.

    `Path.is_file` and the like do not serve: below a folder that this user may not enter they raise PermissionError up
    to Python 3.13, and say from 3.14 on that nothing is there.

    Raises: `raised`, which says what was `expected`, where what lies there cannot be known.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise raised(f"{path}: expected {expected}: {error}") from error
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading; a pipe is not waited for, a device not touched.

    Raises: OSError, also where it is no regular file; ValueError for a null character in the name.
    """
    _check_regular(Path(path).stat(), path)
    # It may have been exchanged since: opening a pipe that nobody writes to would wait without O_NONBLOCK.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    try:
        _check_regular(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: str | os.PathLike[str], *, most_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a regular file. Raises: as `open_file`; OSError where they are more than `most_bytes`."""
    with open_file(path) as file:
        data = file.read(most_bytes + 1) if os.fstat(file.fileno()).st_size <= most_bytes else None
    if data is None or len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"has more than {most_bytes:,} bytes", os.fspath(path))
    return data


def inside(folder: Path, name: str) -> Path:
    """The path that a document's `name` means below `folder`, links followed.

    Raises: OSError where that is outside, or cannot be found out; ValueError for a null character in the name.
    """
    path, root = folder / name, folder.resolve()
    if not path.resolve().is_relative_to(root):
        raise OSError(errno.EACCES, f"lies outside of {root}", str(path))
    return path


def _check_regular(state: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(state.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(state.st_mode)), "something else")
        raise OSError(errno.EINVAL, f"expected a regular file, this is {kind}", os.fspath(path))
