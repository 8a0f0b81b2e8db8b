"""Files that are there as a whole or not at all, however a run ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from searchanything.errors import UsageError


def write_whole(path: Path, data: bytes) -> None:
    """Write beside the target and rename; parent folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)


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
