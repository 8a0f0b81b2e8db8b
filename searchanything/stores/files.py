"""Files of our own: below a prefix of a bucket, or in a folder. Each appears whole or not at all."""

from __future__ import annotations

import contextlib
import io
import mimetypes
import os
import stat
from collections.abc import Iterator
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

from searchanything.core.errors import ObjectNotFoundError, StoreError, UsageError
from searchanything.core.files import write_whole
from searchanything.core.protocols import StoredFile, WritableBucket
from searchanything.core.reading import open_file

_READ_BYTES = 1 << 16  # fetched at least: a Parquet file's footer
MOST_BYTES = 1 << 23  # fetched by one request: bounds the memory and what is fetched again after a break


class Bucket(WritableBucket, Protocol):
    """As much of `S3Store` as is needed here."""

    def read_part(self, key: str, *, first: int, count: int) -> bytes: ...

    def link(self, key: str, *, age_s: float) -> str: ...


class BucketFiles:
    """A `FileStore` below a prefix of a bucket. A file is one object, put at once."""

    def __init__(self, store: Bucket, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    @property
    def location(self) -> str:
        return f"s3://{self._store.bucket}/{self._prefix}"

    def list(self, prefix: str = "") -> Iterator[StoredFile]:
        for found in self._store.list(f"{self._prefix}{prefix}"):
            yield StoredFile(found.ref.key.removeprefix(self._prefix), found.size_bytes)

    def open(self, file: StoredFile) -> BinaryIO:
        part = _ObjectParts(self._store, f"{self._prefix}{file.name}", file.size_bytes)
        return io.BufferedReader(part, _READ_BYTES)

    def write(self, name: str, data: bytes) -> None:
        content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        self._store.upload(f"{self._prefix}{name}", data, content_type=content_type)

    def delete(self, name: str) -> None:
        self._store.delete(f"{self._prefix}{name}")

    def address(self, name: str, *, age_s: float) -> str:
        return self._store.link(f"{self._prefix}{name}", age_s=age_s)


class FolderFiles:
    """A `FileStore` in a folder, which is made when the first file is written.

    A file that is written over keeps its mode and, as far as this user may give it away, its owner and group: another
    group may do no more than all others. A link to a file of the folder stays one, another is refused.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def location(self) -> str:
        return str(self._folder)

    def list(self, prefix: str = "") -> Iterator[StoredFile]:
        try:
            with os.scandir(self._folder) as entries:
                found = sorted(self._folder / one.name for one in entries if one.name.startswith(prefix))
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._error(error) from error
        for path in found:
            try:
                if path.is_file():
                    yield StoredFile(path.name, path.stat().st_size)
            except FileNotFoundError:  # deleted meanwhile
                continue

    def open(self, file: StoredFile) -> BinaryIO:
        try:
            return open_file(self._folder / file.name)
        except FileNotFoundError as error:
            raise ObjectNotFoundError(f"{self._folder / file.name}: no such file any more") from error
        except OSError as error:
            raise self._error(error) from error

    def write(self, name: str, data: bytes) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            target = self._behind_link(name)
            write_whole(target, lambda file: _write_like(target, file, data))
        except OSError as error:
            raise self._error(error) from error
        except UsageError as error:
            raise StoreError(str(error)) from error

    def _behind_link(self, name: str) -> Path:
        """The file that a name stands for. Raises: StoreError where a link leads to none of this folder; OSError."""
        path = self._folder / name
        if not path.is_symlink():
            return path
        target = Path(os.path.realpath(path))  # of links in a circle `Path.resolve` raises a RuntimeError
        if not (target.is_file() and target.is_relative_to(self._folder.resolve())):
            raise StoreError(f"{path}: a link to something else than a file of this folder; expected a file")
        return target

    def delete(self, name: str) -> None:
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise self._error(error) from error

    def address(self, name: str, *, age_s: float) -> str:  # noqa: ARG002  a path does not age
        return str(self._folder / name)

    def _error(self, error: OSError) -> StoreError:
        return StoreError(
            f"{self._folder} cannot be used: {error.strerror or error}; check its permissions and its disk"
        )


def _write_like(target: Path, file: BinaryIO, data: bytes) -> None:
    """Write a file with the mode, the owner and the group of the one that it replaces, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        _make_like(target.stat(), file.fileno())
    file.write(data)


def _make_like(before: os.stat_result, descriptor: int) -> None:
    """Give what is changed alone: not all file systems have modes and owners, and not every owner can be given."""
    made, mode = os.fstat(descriptor), stat.S_IMODE(before.st_mode) & 0o777
    if made.st_gid != before.st_gid:
        try:
            os.fchown(descriptor, -1, before.st_gid)
        except OSError:
            mode &= 0o707 | (mode & 0o007) << 3
    if stat.S_IMODE(made.st_mode) != mode:
        os.fchmod(descriptor, mode)
    if made.st_uid != before.st_uid:  # last: of another's file modes cannot be changed
        with contextlib.suppress(OSError):
            os.fchown(descriptor, before.st_uid, -1)


class _ObjectParts(io.RawIOBase):
    """An object as a file that fetches what is read, in threads of Arrow's: `long_work` waits as for who opened it."""

    def __init__(self, store: Bucket, key: str, size_bytes: int) -> None:
        super().__init__()
        self._store, self._key, self._size, self._place = store, key, size_bytes, 0
        self._opened_in = copy_context()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # what BufferedReader hands over
        count = min(len(buffer), self._size - self._place, MOST_BYTES)
        if count <= 0:
            return 0
        read = partial(self._store.read_part, self._key, first=self._place, count=count)
        data = self._opened_in.copy().run(read)  # no two threads are in one at the same time
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)
