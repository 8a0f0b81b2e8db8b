"""The service's folder: closed to the machine's other users, and held by one `watch` at a time."""

from __future__ import annotations

import fcntl
import os
import secrets
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from searchanything.core.errors import ServiceError, UsageError
from searchanything.core.files import privately
from searchanything.core.settings import ENV_PREFIX

PASSWORD_FILE: Final = "prefect-password"  # noqa: S105  a name


def make_private(folder: Path) -> None:
    """A folder that is closed to other users of the machine.

    Raises: ServiceError if it is somebody else's, or cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ServiceError(
            f"{folder} cannot be made: {error.strerror or error}; set {ENV_PREFIX}SERVICE__FOLDER to a place that can "
            "be written"
        ) from error
    if folder.stat().st_uid != os.getuid():
        raise ServiceError(f"{folder} belongs to another user; set {ENV_PREFIX}SERVICE__FOLDER to a place of this one")
    folder.chmod(0o700)


def kept_password(file: Path) -> str:
    """The password of this installation, as `user:password`; made at the first need."""
    with suppress(FileNotFoundError):
        kept = file.read_text("utf-8").strip()
        if kept.partition(":")[2]:
            return kept
    made = f"searchanything:{secrets.token_urlsafe(24)}"
    with open(file, "w", encoding="utf-8", opener=privately) as out:
        out.write(f"{made}\n")
    return made


def owned(path: Path) -> ExitStack:
    """The lock of a service folder, held until the stack is closed; it ends with this process."""
    with ExitStack() as stack:
        file = stack.enter_context(open(path, "a", opener=privately))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another `searchanything watch` uses {path.parent}; end it, or set {ENV_PREFIX}SERVICE__FOLDER"
            ) from None
        return stack.pop_all()
