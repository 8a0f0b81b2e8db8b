"""What a backup lies in: a tar file, or objects below a prefix of a bucket. Small named members, written once in order.

The last member, `end.json`, names all others with their sha256: without it a backup is cut short. A tar file appears
whole or not at all. Every tar program can read one; the members are JSON, JSON lines in gzip, and safetensors.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from searchanything.core.errors import BackupError, UsageError
from searchanything.core.files import whole_file
from searchanything.core.protocols import FileStore
from searchanything.core.reading import kind_at

END: Final = "end.json"
MEMBER_BYTES: Final = 1 << 29  # far above what is written: bounds the memory that a foreign file can take
_LINE_BYTES: Final = 1 << 20  # likewise, of a row
_PIECE_BYTES: Final = 1 << 20  # unpacked at a time
WriteMember: TypeAlias = Callable[[str, bytes], None]  # takes a name and what lies under it
CURE: Final = "take another backup, or index the images again"


class BackupPlace(Protocol):
    """Where one backup lies or shall lie."""

    @property
    def location(self) -> str: ...

    def writing(self) -> contextlib.AbstractContextManager[WriteMember]:
        """Begin a new backup. Raises: UsageError where there is one, or the place cannot be written."""
        ...

    def members(self) -> Iterator[tuple[str, bytes]]:
        """The members as they were written. Raises: UsageError (nothing there), BackupError, StoreError."""
        ...


class TarPlace:
    """A tar file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @property
    def location(self) -> str:
        return str(self._file)

    @contextlib.contextmanager
    def writing(self) -> Iterator[WriteMember]:
        if kind_at(self._file, "the name of a new file"):
            raise UsageError(f"{self._file} exists, and a backup overwrites nothing: name another file")
        if kind_at(self._file.parent, "a folder") != "folder":
            raise UsageError(f"{self._file}: there is no folder {self._file.parent}; make it, or name another place")
        with (
            whole_file(self._file, private=True) as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            yield partial(_add_to_tar, tar)

    def members(self) -> Iterator[tuple[str, bytes]]:
        if kind_at(self._file, "a backup") != "file":
            raise UsageError(f"{self._file}: expected a backup, there is no such file")
        try:
            with tarfile.open(self._file, mode="r|") as tar:
                for member in tar:
                    yield member.name, _content(tar, member)
        except (tarfile.TarError, EOFError, ValueError) as error:  # the last: of a number or a name that is none
            raise BackupError(f"{self._file} is no whole backup ({error}): {CURE}") from error
        except OSError as error:
            raise BackupError(f"{self._file} cannot be read: {error.strerror or error}") from error


class ObjectsPlace:
    """Files below a prefix of a bucket (any `FileStore`)."""

    def __init__(self, files: FileStore) -> None:
        self._files = files

    @property
    def location(self) -> str:
        return self._files.location

    @contextlib.contextmanager
    def writing(self) -> Iterator[WriteMember]:
        found = next(iter(self._files.list()), None)
        if found is not None:
            raise UsageError(
                f"{self.location} holds {found.name}, and a backup overwrites nothing: name another prefix"
            )
        yield self._files.write

    def members(self) -> Iterator[tuple[str, bytes]]:
        found = {file.name: file for file in self._files.list()}
        if not found:
            raise UsageError(f"{self.location}: expected a backup, nothing lies there")
        for name in sorted(found, key=_order):
            with self._files.open(found[name]) as file:
                yield name, file.read(MEMBER_BYTES)


def _add_to_tar(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


class Sealed:
    """Writes members and, at the end, what they were."""

    def __init__(self, write: WriteMember) -> None:
        self._write = write
        self._digests: dict[str, str] = {}

    def write(self, name: str, data: bytes) -> None:
        """Add a member."""
        self._digests[name] = hashlib.sha256(data).hexdigest()
        self._write(name, data)

    def close(self, totals: Mapping[str, int]) -> None:
        """Add the last member: the backup is whole from now on."""
        self._write(END, json.dumps({"files": self._digests, **totals}, indent=1).encode())


class Checked:
    """Reads members in order and, at the end, sees that they are what was written."""

    def __init__(self, place: BackupPlace) -> None:
        self._place = place
        self.totals: dict[str, int] = {}

    def members(self) -> Iterator[tuple[str, bytes]]:
        """All members but the last. Whoever has taken all of them has had the whole backup.

        Raises: UsageError, BackupError, StoreError.
        """
        digests: dict[str, str] = {}
        for name, data in self._place.members():
            if name == END:
                self._compare(json_of(name, data, self._place.location), digests)
                return
            digests[name] = hashlib.sha256(data).hexdigest()
            yield name, data
        raise BackupError(f"{self._place.location} is cut short: it has no {END}; {CURE}")

    def _compare(self, end: Mapping[str, Any], digests: Mapping[str, str]) -> None:
        files = end.get("files")
        if not isinstance(files, dict) or not all(isinstance(end.get(name), int) for name in ("images", "regions")):
            raise BackupError(f"{self._place.location}: its {END} does not hold what it should; {CURE}")
        for name in sorted({*files, *digests}):
            if files.get(name) != digests.get(name):
                what = "is missing" if name not in digests else "is damaged"
                raise BackupError(f"{self._place.location}: its part {name} {what}; {CURE}")
        self.totals = {name: int(end[name]) for name in ("images", "regions")}


def packed(rows: list[dict[str, Any]]) -> bytes:
    """Rows as JSON lines in gzip."""
    lines = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
    return gzip.compress(lines.encode(), compresslevel=3, mtime=0)


def unzipped(name: str, data: bytes, location: str) -> Iterator[dict[str, Any]]:
    """The rows that were packed, one after another. Raises: BackupError."""
    try:
        for line in _lines(data):
            yield json.loads(line)
    except (zlib.error, ValueError, RecursionError) as error:
        raise BackupError(f"{location}: its part {name} is damaged ({error}); {CURE}") from error


def _lines(data: bytes) -> Iterator[bytes]:
    """The lines of a gzip file; memory holds one. Raises: zlib.error, ValueError."""
    unzip, waiting, rest = zlib.decompressobj(wbits=31), data, b""
    while not unzip.eof:
        piece = unzip.decompress(waiting, _PIECE_BYTES)
        waiting = unzip.unconsumed_tail
        if not (piece or waiting or unzip.eof):
            raise ValueError("it is cut short")
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if len(rest) > _LINE_BYTES:
            raise ValueError(f"expected rows of at most {_LINE_BYTES} bytes")
    if rest:
        raise ValueError("its last row is cut short")


def json_of(name: str, data: bytes, location: str) -> dict[str, Any]:
    """Raises: BackupError."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BackupError(f"{location}: its part {name} is damaged ({error}); {CURE}") from error
    if not isinstance(document, dict):
        raise BackupError(f"{location}: its part {name} is no JSON object; {CURE}")
    return document


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if not member.isreg() or member.size > MEMBER_BYTES:
        raise tarfile.ReadError(f"{member.name!r} is no part of a backup")
    file = tar.extractfile(member)
    return b"" if file is None else file.read()  # a ReadError where the file ends before


def _order(name: str) -> tuple[int, str]:
    """The order in which members were written, from their names."""
    ranks = {"manifest.json": 0, "hash.safetensors": 1, "words.safetensors": 2, END: 4}
    kind, _, number = name.partition("-")
    return ranks.get(name, 3), f"{number} {0 if kind == 'regions' else 1}"
