"""The demo's files: written as a whole or not at all, by one run at a time; and those that the package ships."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from pathlib import Path

from searchanything.core.errors import UsageError
from searchanything.core.files import write_whole


def save_bytes(path: Path, data: bytes) -> None:
    """Write a file as a whole; parent folders are made. Raises: UsageError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: file.write(data))


@contextmanager
def held_alone(folder: Path) -> Iterator[None]:
    """Keep other runs out of the folder. The lock ends with the process. Raises: UsageError if another run holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"another demo runs in {folder}; wait for it, or name another folder") from None
        yield


def files_below(folder: Traversable) -> Iterator[Traversable]:
    """All files of a folder of the package, always in the same order."""
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        if entry.is_dir():
            yield from files_below(entry)
        else:
            yield entry
