"""What lies in the file of an embedded index: an index, damage, or another program's data; and if it can be written.

Looked at before each start of its server, while nobody else has it open, because Milvus Lite tells none of it: it reads
what it can of a damaged file, acknowledges rows that SQLite refused to write, and makes its tables in any database.

`PRAGMA quick_check` reads the whole file (0.1 s for 10^5 regions) and finds damage to its structure. Damage to what the
rows say it cannot find: for that the last server's supervisor left a checksum, its seal.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from searchanything.core.disk_room import free_bytes
from searchanything.core.errors import (
    IndexDamagedError,
    IndexFullError,
    IndexReadOnlyError,
    IndexUnavailableError,
    RegionIndexError,
    SettingsError,
)
from searchanything.stores.lite_folder import READ_ONLY_ERRORS
from searchanything.stores.lite_supervisor import change_counter, identity_of, seal_of

FILE_NAME_LENGTH = 36  # Milvus Lite's own limit
_FILE_NAME = re.compile(r"[A-Za-z0-9._-]+")
_MAGIC = b"SQLite format 3\0"
_LITE_TABLE, _LITE_COLUMNS = "collection_meta", {"collection_name", "meta_type", "blob_field", "string_field"}
WHOLE_COLLECTION = 3  # its schema, the table of its rows, and then the index of its codes, which is no table
_PARTS = (
    f"SELECT count(*) FROM (SELECT meta_type FROM {_LITE_TABLE} "  # noqa: S608 - a name of Milvus Lite's
    "WHERE collection_name = ? AND meta_type IN ('schema', 'index') "
    "UNION SELECT type FROM sqlite_master WHERE name = ? AND type = 'table')"
)
_TABLES_OF_ROWS = (
    "SELECT found.name FROM sqlite_master AS found, pragma_table_info(found.name) AS of_it "
    "WHERE found.type = 'table' AND of_it.name = 'milvus_id'"
)
_BUSY_S = 2.0
_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)
_ROOM_BYTES = 1 << 20  # left to SQLite's journal, and to what the index's users share
_CURE = (
    "restore it from a backup, or move it away (`mv {file} {file}.damaged`) and run `searchanything index` "
    "to make it anew from the images"
)


def check_file_name(file: Path) -> None:
    """Raises: SettingsError if Milvus Lite cannot open a file of that name; IndexUnavailableError if we cannot."""
    name = file.name
    if not _FILE_NAME.fullmatch(name) or len(name) > FILE_NAME_LENGTH:
        raise SettingsError(
            f"an embedded index needs a file name of at most {FILE_NAME_LENGTH} letters (A-Z a-z 0-9 . _ -), "
            f"got {name.rpartition('@')[2]!r}: choose another name, or a Milvus server with http://host:port"
        )
    try:
        is_folder = stat.S_ISDIR(file.expanduser().stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:  # such as a folder that may not be entered: what is in it is not known
        raise IndexUnavailableError(f"{file}: the embedded index cannot be used: {error}") from error
    if is_folder:
        raise SettingsError(
            f"{file}: an embedded index needs the name of a file, this is a folder; try {file}/index.db"
        )


def prepare_file(file: Path, *, filled: str, seal: str) -> str:
    """Make a file that is absent, else check it; returns why it cannot be written, or "".

    `filled` is the identity of a file that an index has been in, `seal` what its last server's supervisor left. Another
    empty file will do.

    Raises: IndexUnavailableError for another program's file, IndexDamagedError, OSError.
    """
    if not file.exists() or file.stat().st_size == 0:
        check_room(file)
    if not file.exists():
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return ""
    _check_kind(file)
    if file.stat().st_size == 0:
        if identity_of(file) == filled:
            raise damaged(file, "it is empty, and an index has been in it")
    else:
        _check_database(file)
        _check_seal(file, seal)
    _hide_from_others(file)
    if not (why := why_read_only(file)):
        _index_ids(file)
    return why


def _index_ids(file: Path) -> None:
    """Have rows found by their ids, by which Milvus Lite deletes: without, SQLite reads the whole table each time.

    Written once; where the disk has no room for it, or another program reads the file, the next start tries again.
    """
    with contextlib.suppress(IndexUnavailableError), _opened(file) as database:
        for (table,) in database.execute(_TABLES_OF_ROWS).fetchall():
            database.execute(f'CREATE INDEX IF NOT EXISTS "{table}_ids" ON "{table}" (milvus_id)')


def why_read_only(file: Path) -> str:
    """Begin to write, and take it back: modes, access lists, read-only mounts and full disks all tell it here."""
    try:
        with _opened(file) as database:
            database.execute("BEGIN IMMEDIATE")
            [version] = database.execute("PRAGMA user_version").fetchone()
            database.execute(f"PRAGMA user_version = {version ^ 1}")  # the first change makes the journal
            database.execute("ROLLBACK")
    except IndexUnavailableError as error:
        return str(error.__cause__ or error)
    return ""


def wait_for_readers(file: Path, timeout_s: float) -> None:
    """Wait until no other program is within a transaction: while one reads a file, it refuses what is written.

    Raises: IndexUnavailableError, IndexDamagedError.
    """
    with _opened(file, busy_s=timeout_s) as database:
        database.execute("BEGIN EXCLUSIVE")
        database.execute("ROLLBACK")


def damaged(file: Path, how: str) -> IndexDamagedError:
    """The error for a file that cannot be what was written to it."""
    return IndexDamagedError(f"{file}: the index is damaged: {how}; {_CURE.format(file=file)}")


def read_only(file: Path, why: str) -> IndexReadOnlyError:
    """The error for a file that cannot be written."""
    return IndexReadOnlyError(
        f"{file}: the index can be read but not written: {why}; make the file and its folder writable for this user "
        f"(`chmod u+w`, another disk or mount, more room), or name another index with --uri"
    )


def unusable(file: Path, error: Exception) -> RegionIndexError:
    """The error for what the system said of a file or its folder."""
    code = error.errno if isinstance(error, OSError) else None
    if code in _FULL_ERRORS:
        return _full(file, str(error))
    if code in READ_ONLY_ERRORS and not file.exists():
        return IndexReadOnlyError(
            f"{file}: no index can be made here: {error}; make the folder writable for this user, or name another "
            f"place with --uri"
        )
    return IndexUnavailableError(f"{file}: the embedded index cannot be used: {error}")


def check_place(file: Path) -> None:
    """Raises: RegionIndexError (IndexReadOnlyError, IndexFullError, …) where no file of this name can be made."""
    folder = next(one for one in file.absolute().parents if one.exists())
    if not folder.is_dir():
        raise unusable(file, NotADirectoryError(errno.ENOTDIR, "it is no folder", str(folder)))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise unusable(file, PermissionError(errno.EACCES, "it cannot be written to (w and x)", str(folder)))
    check_room(folder / file.name)


def check_room(file: Path, rows_bytes: int = 0) -> None:
    """Raises: IndexFullError where the disk of a file has no room for rows of at most so many bytes.

    Looked at before a server is asked: it does not say what it failed on, and pymilvus asks again until the time is up.
    """
    free = free_bytes(file.parent)
    wanted_bytes = _ROOM_BYTES + rows_bytes
    if free is not None and free < wanted_bytes:
        raise _full(file, f"{free / 1e6:.2f} MB are left, {wanted_bytes / 1e6:.2f} MB needed")


def _full(file: Path, how: str) -> IndexFullError:
    return IndexFullError(
        f"{file}: no space left on its disk ({how}): nothing can be written; make room in {file.parent}, then run the "
        f"same again: what was indexed stays indexed"
    )


def _check_kind(file: Path) -> None:
    """Raises: IndexUnavailableError for what is no SQLite file at all."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise IndexUnavailableError(f"{file}: expected an embedded index, this is no regular file; name another")
    with file.open("rb") as opened:
        head = opened.read(len(_MAGIC))
    if head in (b"", _MAGIC):
        return
    if not head.strip(b"\0"):
        raise damaged(file, "it begins with zeros")
    raise IndexUnavailableError(
        f"{file}: expected an embedded index (a SQLite file), this begins with {head!r}; name another file"
    )


def _check_database(file: Path) -> None:
    with _opened(file) as database:
        _check_owner(file, database)
        [found] = database.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise damaged(file, str(found).replace("\n", " "))
        [mode] = database.execute("PRAGMA journal_mode").fetchone()
        if mode == "wal":  # by a tool's hand: there the counter of changes stands still
            database.execute("PRAGMA journal_mode = DELETE")


def _check_owner(file: Path, database: sqlite3.Connection) -> None:
    """Raises: IndexUnavailableError for a database of another program."""
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    columns = {row[1] for row in database.execute(f"PRAGMA table_info({_LITE_TABLE})")}
    [mark] = database.execute("PRAGMA application_id").fetchone()
    if columns >= _LITE_COLUMNS or (not tables and not mark):
        return
    known = f"with the tables {', '.join(tables[:5])}" if tables else f"with the application id {mark}"
    raise IndexUnavailableError(
        f"{file}: expected an embedded index, this is another program's SQLite file ({known}); name another file"
    )


def _check_seal(file: Path, seal: str) -> None:
    """Raises: IndexDamagedError if this is the content that was sealed by its marks, but not by its bytes."""
    try:
        before = dict(json.loads(seal))
    except (ValueError, TypeError):
        return  # none, or one that was being written when all ended
    now = seal_of(file)
    if (
        now["nonce"]
        and (now["nonce"], now["counter"]) == (before.get("nonce"), before.get("counter"))
        and now != before
    ):
        raise damaged(file, "bytes of it changed after it was closed")


def _hide_from_others(file: Path) -> None:
    """Take what all may do from a file; what its group may do is somebody's decision."""
    with contextlib.suppress(OSError):  # another owner's, or a file system without modes
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & stat.S_IRWXO:
            file.chmod(mode & ~(stat.S_IRWXO | stat.S_IRWXG))


@contextlib.contextmanager
def _opened(file: Path, *, busy_s: float | None = None) -> Iterator[sqlite3.Connection]:
    """Raises: IndexDamagedError for what SQLite calls damage; IndexUnavailableError."""
    address = f"file:{quote(str(file))}?mode=rw"
    try:
        wait_s = _BUSY_S if busy_s is None else busy_s
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=wait_s, isolation_level=None)) as database:
            yield database
    except sqlite3.OperationalError as error:  # locked, read-only, full, cannot be opened
        raise IndexUnavailableError(f"{file}: the embedded index cannot be used: {error}") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the words of a damaged schema are no text
        raise damaged(file, str(error)) from error


def count_rows(file: Path, table: str) -> int | None:
    """How many rows lie in a table; None where somebody is writing, or there is none."""
    return _counted(file, f'SELECT count(*) FROM "{table}"')  # noqa: S608 - a collection of ours


def parts_of_collection(file: Path, name: str) -> int | None:
    """How much there is of a collection, 0 to `WHOLE_COLLECTION`; None where somebody is writing."""
    return _counted(file, _PARTS, name, name)


def _counted(file: Path, query: str, *values: str) -> int | None:
    """A number that is asked for without a lock, which would make the server's next write fail."""
    address = f"file:{quote(str(file))}?mode=ro&immutable=1"
    try:
        before = change_counter(file)
        with contextlib.closing(sqlite3.connect(address, uri=True)) as database:
            [count] = database.execute(query, values).fetchone()
        return int(count) if change_counter(file) == before else None
    except (sqlite3.Error, OSError, UnicodeDecodeError):
        return None
