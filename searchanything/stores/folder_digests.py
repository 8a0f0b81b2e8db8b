"""Digests of a folder's files, kept from one call to the next so that unchanged files are not read again.

A digest stands for a file that is the same by key, device, inode, size, and times of modification and change. The time
of change (ctime) cannot be set back, but it is only as fine as the kernel's clock: a file that changed within the last
two seconds may change once more without a trace, and its digest is not kept. So a rewrite is missed only where a file
system does not keep ctime (FAT), or where its clock is set back, and then only with the same size and time.

The file is a cache of this user on this machine: removing it costs no more than reading the images once. Digests of
files that are gone stay until they have been most of the file for a week: a disk may be away for a while.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
import weakref
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Final

logger = logging.getLogger(__name__)

SETTLED_NS: Final = 2_000_000_000
_WAITING_ROWS: Final = 1000
_BUSY_S: Final = 2.0
_CROWDED_H: Final = 7 * 24
_SPARE_ROWS: Final = 10_000
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS digests (key BLOB PRIMARY KEY, version TEXT NOT NULL, digest TEXT NOT NULL) WITHOUT ROWID
"""
_NEXT: Final = "SELECT key FROM digests WHERE key > ? ORDER BY key LIMIT ?"


def version_of(state: os.stat_result) -> str:
    """What changes with a file's content, as far as its folder tells."""
    return f"{state.st_dev}-{state.st_ino}-{state.st_size}-{state.st_mtime_ns}-{state.st_ctime_ns}"


def is_settled(state: os.stat_result) -> bool:
    """False for a file that may change once more without a new time."""
    return time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) > SETTLED_NS


class FolderDigests:
    """The digests of one folder, in `place` or, without one, in memory. Thread-safe, and safe between processes."""

    def __init__(self, folder: Path, place: Path | None) -> None:
        name = blake2b(os.fsencode(folder), digest_size=16).hexdigest()
        self._folder = os.fsencode(folder)
        self._file = None if place is None else place.expanduser() / f"{name}.sqlite"
        self._fresh: dict[bytes, tuple[str, str]] = {}  # in memory, and not yet in the file
        self._database: sqlite3.Connection | None = None
        self._lock = Lock()

    def find(self, key: str, state: os.stat_result) -> str | None:
        """The digest of the file in this state, where it is known."""
        name = os.fsencode(key)
        with self._lock:
            row = self._fresh.get(name) or self._stored(name)
        return row[1] if row is not None and row[0] == version_of(state) else None

    def keep(self, key: str, state: os.stat_result, digest: str) -> None:
        """Remember the digest of the file in this state, if it cannot change without a trace."""
        if not is_settled(state):
            return
        with self._lock:
            self._fresh[os.fsencode(key)] = (version_of(state), digest)
            if self._file is not None and len(self._fresh) >= _WAITING_ROWS:
                self._write()

    def flush(self, listed: int | None = None) -> None:
        """Write what waits, at the end of a listing: of so many files, where it was one of the whole folder.

        Where digests of files that are gone have been most of all for a week, they are removed.
        """
        with self._lock:
            if self._file is not None and self._fresh:
                self._write()
            if listed is not None and self._database is not None:
                try:
                    self._thin_out(self._database, listed)
                except sqlite3.Error as error:
                    self._give_up(error)

    def _thin_out(self, database: sqlite3.Connection, listed: int) -> None:
        [rows] = database.execute("SELECT count(*) FROM digests").fetchone()
        [since] = database.execute(
            "PRAGMA user_version"
        ).fetchone()  # when most of them had gone, in hours; 0: have not
        hour = int(time.time() / 3600)
        is_crowded = rows > 2 * listed + _SPARE_ROWS
        if is_crowded and since and hour - since >= _CROWDED_H:
            self._remove_gone(database)
            is_crowded = False
        if is_crowded != bool(since):
            database.execute(f"PRAGMA user_version = {hour if is_crowded else 0}")

    def _remove_gone(self, database: sqlite3.Connection) -> None:
        """Some at a time: to look for files may take minutes, in which no other process could write."""
        last = b""
        while names := database.execute(_NEXT, (last, _WAITING_ROWS)).fetchall():
            gone = [one for one in names if not os.path.lexists(os.path.join(self._folder, one[0]))]  # noqa: PTH118 - bytes
            with database:
                database.executemany("DELETE FROM digests WHERE key = ?", gone)
            [last] = names[-1]

    def _stored(self, name: bytes) -> tuple[str, str] | None:
        if self._database is None and (self._file is None or not self._file.exists()):
            return None  # made only when there is something to keep
        database = self._opened()
        if database is None:
            return None
        try:
            row = database.execute("SELECT version, digest FROM digests WHERE key = ?", (name,)).fetchone()
        except sqlite3.Error as error:
            self._give_up(error)
            return None
        return None if row is None else (str(row[0]), str(row[1]))

    def _write(self) -> None:
        database = self._opened()
        if database is None:
            return
        rows = [(name, *row) for name, row in self._fresh.items()]
        try:
            with database:
                database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", rows)
        except sqlite3.Error as error:
            self._give_up(error)
        else:
            self._fresh.clear()

    def _opened(self) -> sqlite3.Connection | None:
        """The file, made if need be, for this user alone; None where there can be none."""
        if self._database is None and self._file is not None:
            try:
                self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file.touch(mode=0o600)
                self._database = sqlite3.connect(self._file, timeout=_BUSY_S, check_same_thread=False)
                weakref.finalize(self, self._database.close)  # Python 3.13 warns of one that is only collected
                self._database.execute(_TABLE)
            except (OSError, sqlite3.Error) as error:
                self._give_up(error)
        return self._database

    def _give_up(self, error: Exception) -> None:
        """Go on in memory. A file that is damaged is removed, so that the next process makes a new one."""
        logger.warning("%s: digests cannot be kept from now on: %s", self._file, error)
        is_damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        if is_damaged and self._file is not None:
            self._file.unlink(missing_ok=True)
        if self._database is not None:
            self._database.close()
        self._database = self._file = None
