"""Images in a folder: keys are relative POSIX paths, the etag is the digest of the content.

Hidden files and folders (a name that begins with a dot), and what operating systems and network drives leave behind,
are not objects. A file whose name says nothing (`image_names`) gets its content type from its first bytes. Nothing
outside the folder is ever read: a symbolic link to a file counts if its target lies inside, links to folders are not
followed (so there are no loops).
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from hashlib import file_digest, sha256
from pathlib import Path

from searchanything.core.counting import counted
from searchanything.core.errors import ImageError, ObjectNotFoundError, StoreError, StoreUnavailableError
from searchanything.core.omissions import Omissions
from searchanything.core.reading import kind_at
from searchanything.core.settings import StorageSettings
from searchanything.core.types import ImageRef, StoredObject
from searchanything.images.decoding import format_of
from searchanything.images.names import SkipReason, claims_to_be_image, is_system_name, needs_type
from searchanything.stores.folder_digests import FolderDigests, version_of

logger = logging.getLogger(__name__)

_FIRST_BYTES = 256  # that tell a format
_ETAG_DIGITS = 32  # the first 128 bits of the content's SHA-256
_NO_SUCH_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_DISK_WENT = "its disk was mounted or unmounted while it was listed; what lies there is unknown"
_FOLDER_WENT = "what was listed of it first and last is gone again: it was emptied or replaced while it was listed"
_DEFAULT_MAX_BYTES = int(StorageSettings.model_fields["max_object_bytes"].default)


class FolderStore:
    """An `ImageStore` over a folder of this machine. Digests of its files are kept in `digests_dir`, if there is one.

    A file that does not claim to be an image, is larger than `max_object_bytes` or cannot be opened has an etag made
    of its inode, size and time stamps: the first two are never decoded and should cost no reading, the last shall
    appear in the listing so that its failure can be recorded.
    """

    # Over 200 lines: listing, stat and read must tell the same of a file, so they share each look at the disk.

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        max_object_bytes: int = _DEFAULT_MAX_BYTES,
        digests_dir: Path | None = None,
    ) -> None:
        self._root = Path(folder).expanduser().resolve()
        self._max_object_bytes = max_object_bytes
        self._digests = FolderDigests(self._root, digests_dir)
        self._devices: dict[str, int] = {}  # by folder, as the last listing found them

    @property
    def bucket(self) -> str:
        """The folder's absolute path."""
        return str(self._root)

    def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:
        """Stream the files whose relative path starts with `prefix`, in no particular order, images or not.

        Images are read once to digest them; those of unchanged files are remembered (see `folder_digests`).
        A file that cannot be opened is listed all the same: reading it raises the StoreError that belongs to it.
        `omissions` are told of names that are not UTF-8, of pipes, sockets and devices, of links to anything but a file
        of this folder, of subfolders that cannot be read, of the folder itself where it was emptied meanwhile, and of
        the disks that the folder and its subfolders lie on.

        Raises: ObjectNotFoundError if there is no such folder; StoreError if it cannot be read, or, without
        `omissions`, at the very end if a part of it cannot.
        """
        if kind_at(self._root, "a folder", raised=StoreError) != "folder":
            raise ObjectNotFoundError(f"{self._root}: no such folder; check the path, or whether its disk is mounted")
        noted = Omissions() if omissions is None else omissions
        ends, listed = list[Path](), 0
        for key, path in self._files("", (prefix, None), noted):
            try:
                found = self._describe(key, path)
            except OSError as error:  # a folder whose names may be read and nothing else
                noted.miss(key, _why_unreadable(error))
                continue
            if found is not None:
                ends[1:] = [path]
                listed += 1
                yield found
        self._digests.flush(None if prefix or noted.unreadable else listed)
        if ends and not any(map(os.path.exists, ends)):
            noted.miss("", _FOLDER_WENT)  # then "some are listed" does not tell that the folder is there
        for place, device in noted.devices.items():
            if self._device(place) != device:  # what was listed of it may be the end of what was there
                noted.miss(place, _DISK_WENT)
        if noted.unreadable and omissions is None:
            raise StoreError(
                f"{self._root}: {counted(len(noted.unreadable), 'place')} cannot be read, the listing is incomplete: "
                f"{', '.join(one.key or './' for one in noted.unreadable[:5])}; check their permissions, or remove them"
            )

    def stat(self, key: str) -> StoredObject | None:
        """The file as it is now; None where there is none.

        Raises: StoreUnavailableError where the disk that a listing found it on is away; StoreError, also where its type
        shows in its first bytes alone and it cannot be opened: it may be an image.
        """
        path = self._locate(key)
        found = None if path is None else self._describe(key, path)
        if found is not None and found.content_type is None and needs_type(key):
            raise StoreError(f"{path}: cannot be opened, so its type is unknown; check its permissions and its disk")
        if found is None:
            self._check_disk(key)
        return found

    def read(self, key: str) -> tuple[StoredObject, bytes]:
        """The file's bytes and the digest of exactly these bytes.

        Raises: ObjectNotFoundError; StoreUnavailableError where the disk that a listing found it on is away; StoreError
        if it cannot be read; ImageError if it is larger than allowed.
        """
        path = self._locate(key)
        if path is None:
            self._check_disk(key)
            raise ObjectNotFoundError(f"{key}: no such file in {self._root}")
        try:
            with path.open("rb") as file:
                state = os.fstat(file.fileno())
                data = file.read(self._max_object_bytes + 1) if state.st_size <= self._max_object_bytes else b""
                after = os.fstat(file.fileno())
        except OSError as error:
            raise _store_error(path, error) from error
        size = max(state.st_size, len(data))
        if size > self._max_object_bytes:
            raise ImageError(
                key,
                f"has {size} bytes, more than the {self._max_object_bytes} that "
                "SEARCHANYTHING_STORAGE__MAX_OBJECT_BYTES allows",
            )
        kind = _type_of(data) if needs_type(key) else None
        if not self._is_digested(key, kind, state):
            return self._object(key, _identity(state), state, len(data), kind), data
        etag = sha256(data).hexdigest()[:_ETAG_DIGITS]
        if version_of(after) == version_of(state):
            self._digests.keep(key, after, etag)
        return self._object(key, etag, state, len(data), kind), data

    def _files(self, folder: str, wanted: tuple[str, int | None], omissions: Omissions) -> Iterator[tuple[str, Path]]:
        """Keys and paths under `folder` ("" or ending in a slash); notes what is skipped.

        `wanted` are the prefix of the keys and the device of the folder around.
        """
        prefix, around = wanted
        device, found = self._entries(folder, omissions)
        if device is not None and device != around:
            omissions.devices[folder] = self._devices[folder] = device
        for name, kind in found:
            key = folder + name + ("/" if kind == "folder" else "")
            if not (key.startswith(prefix) or (kind == "folder" and prefix.startswith(key))):
                continue
            if (reason := _why_no_object(name, kind)) is not None:
                if (reason, kind) != (SkipReason.HIDDEN, "folder"):  # of programs, this one's among them
                    omissions.skip(key, reason, expected=isinstance(reason, SkipReason))
            elif kind == "folder":
                yield from self._files(key, (prefix, device), omissions)
            elif kind == "file":
                yield key, self._root / key
            else:
                yield from self._linked(key, omissions)

    def _entries(self, folder: str, omissions: Omissions) -> tuple[int | None, Sequence[tuple[str, str]]]:
        """The device of a folder, and the names in it with their kinds. Raises: StoreError for the folder itself."""
        try:
            device = self._device(folder)
            with os.scandir(self._root / folder) as entries:
                found = sorted((entry.name, _kind(entry)) for entry in entries)
        except OSError as error:
            if not folder:
                raise _store_error(self._root, error) from error
            if not isinstance(error, FileNotFoundError):  # else deleted while we were listing
                logger.warning("%s: cannot be listed: %s", self._root / folder, error.strerror)
                omissions.miss(folder, _why_unreadable(error))
            return None, ()
        if self._device(folder) != device:
            omissions.miss(folder, _DISK_WENT)
            return None, ()
        return device, found

    def _device(self, folder: str) -> int | None:
        """The device that a folder lies on; None where there is no such folder any more."""
        try:
            return (self._root / folder).stat().st_dev
        except FileNotFoundError:
            return None

    def _check_disk(self, key: str) -> None:
        """What is not there was deleted, unless its disk went. Raises: StoreUnavailableError."""
        places = [place for place in self._devices if key.startswith(place)]
        place = max(places, key=len, default=None)
        if place is not None and self._device(place) != self._devices[place]:
            raise StoreUnavailableError(
                f"{self._root / place}: its disk was mounted or unmounted meanwhile; mount it again, then repeat"
            )

    def _linked(self, key: str, omissions: Omissions) -> Iterator[tuple[str, Path]]:
        """The file behind a link, where it is one of this folder."""
        try:
            path = self._locate(key)
        except StoreError as error:
            omissions.miss(key, str(error))
            return
        if path is not None:
            yield key, path
        else:
            omissions.skip(key, "a link to something else than a file of this folder")

    def _locate(self, key: str) -> Path | None:
        """The file that a key names, or None: outside the folder, hidden, behind a linked folder, or no file.

        Raises: StoreError if that cannot be found out.
        """
        parts = key.split("/")
        if not all(_is_listable(part) for part in parts) or "\0" in key:
            return None
        path = self._root.joinpath(*parts)
        try:
            target = path.resolve(strict=True)
            inside = target.is_relative_to(self._root) and path.parent.resolve() == path.parent
            return path if inside and stat.S_ISREG(target.stat().st_mode) else None
        except RuntimeError:
            return None  # a loop of symbolic links
        except OSError as error:
            if error.errno in _NO_SUCH_FILE:
                return None
            raise _store_error(path, error) from error

    def _describe(self, key: str, path: Path) -> StoredObject | None:
        try:
            state = path.stat()
            kind = _type_of_file(key, path)
            etag = self._digest(key, path, state) if self._is_digested(key, kind, state) else _identity(state)
        except FileNotFoundError:
            return None
        except OSError as error:
            state, kind = path.lstat(), None
            etag = _identity(state)
            logger.warning("%s: cannot be opened: %s", path, error.strerror)
        return self._object(key, etag, state, state.st_size, kind)

    def _object(
        self, key: str, etag: str, state: os.stat_result, size_bytes: int, content_type: str | None
    ) -> StoredObject:
        return StoredObject(
            ref=ImageRef(self.bucket, key),
            etag=etag,
            size_bytes=size_bytes,
            modified_at_ms=max(0, state.st_mtime_ns // 1_000_000),
            content_type=content_type,
        )

    def _is_digested(self, key: str, content_type: str | None, state: os.stat_result) -> bool:
        return claims_to_be_image(key, content_type) and state.st_size <= self._max_object_bytes

    def _digest(self, key: str, path: Path, state: os.stat_result) -> str:
        """The content's digest, remembered for as long as the file stays as it is."""
        known = self._digests.find(key, state)
        if known is not None:
            return known
        with path.open("rb") as file:
            digest = file_digest(file, sha256)
            after = os.fstat(file.fileno())
        etag = digest.hexdigest()[:_ETAG_DIGITS]
        if version_of(after) == version_of(state):
            self._digests.keep(key, after, etag)
        return etag


def _why_no_object(name: str, kind: str) -> str | None:
    """Why what has this name and kind is none of the folder's objects; None for what may be."""
    if is_system_name(name):
        return SkipReason.SYSTEM
    if name.startswith("."):
        return SkipReason.HIDDEN
    if not _is_listable(name):
        return "its name is not UTF-8"
    return "a pipe, a socket or a device" if kind == "other" else None


def _type_of_file(key: str, path: Path) -> str | None:
    """The content type by the first bytes, where the name says nothing; else None: the name decides."""
    if not needs_type(key):
        return None
    with path.open("rb") as file:
        return _type_of(file.read(_FIRST_BYTES))


def _type_of(data: bytes) -> str:
    """Of a file whose name says nothing. `BM` also begins words, so more is asked of a BMP."""
    kind = format_of(data[:_FIRST_BYTES])
    if kind is None or (kind == "BMP" and data[6:10] != bytes(4)):
        return "application/octet-stream"
    return f"image/{kind.lower()}"


def _is_listable(name: str) -> bool:
    """False for hidden names, for `.`, `..` and the empty name, and for names that are no text."""
    if not name or name.startswith("."):
        return False
    return name.isprintable() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _identity(state: os.stat_result) -> str:
    """An etag that needs no reading; told apart from digests by its hyphens."""
    return f"{state.st_ino:x}-{state.st_size:x}-{state.st_mtime_ns:x}-{state.st_ctime_ns:x}"


def _kind(entry: os.DirEntry[str]) -> str:
    """`folder`, `file`, `link`, or `other` (pipes, sockets, devices)."""
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


def _why_unreadable(error: OSError) -> str:
    return f"cannot be read: {error.strerror}; what lies there is unknown: check its permissions and its disk"


def _store_error(path: Path, error: OSError) -> StoreError:
    """The operating system's error in our words."""
    if error.errno in _NO_SUCH_FILE:
        return ObjectNotFoundError(f"{path}: no such file any more")
    return StoreError(f"{path}: cannot be read: {error.strerror}; check its permissions and its disk")
