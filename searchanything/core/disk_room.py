"""How much room the disk of a folder has left."""

from __future__ import annotations

import os
from pathlib import Path


def free_bytes(folder: Path) -> int | None:
    """What this user may still write on the disk of a folder; None where that says nothing.

    That is so on a disk that is only read, on one of no blocks at all (some of a network or of memory), and of a folder
    that cannot be looked at: who goes on is told by what fails.
    """
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    if disk.f_flag & os.ST_RDONLY or not disk.f_blocks:
        return None
    return (disk.f_bavail if os.geteuid() else disk.f_bfree) * disk.f_frsize
