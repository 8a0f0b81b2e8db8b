"""What people write for a place with images (`s3://bucket/prefix` or a folder), and the store behind it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from searchanything.core.addresses import shown_address, split_s3
from searchanything.core.errors import ObjectNotFoundError, UsageError
from searchanything.core.protocols import ImageStore, Opener, StoredFile
from searchanything.core.reading import kind_at, open_file
from searchanything.core.settings import Settings, StorageSettings
from searchanything.stores.files import BucketFiles
from searchanything.stores.folder import FolderStore

if TYPE_CHECKING:
    from searchanything.stores.s3 import S3Store

# As S3 servers accept them: today's rule (lower case) and the older one (upper case, underscores).
_BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


@dataclass(frozen=True, slots=True)
class Source:
    """A bucket or a folder, and the beginning of the keys that are meant ("" for all)."""

    kind: Literal["s3", "folder"]
    bucket: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}" if self.kind == "s3" else self.bucket


def parse_source(text: str | os.PathLike[str]) -> Source:
    """Understand `s3://bucket/prefix` or a folder's path; the prefix is taken as it stands, never URL-decoded.

    Raises: UsageError for an empty text, another scheme, a malformed bucket name, a path that is a file
    or cannot be one.
    """
    if not isinstance(text, str):
        return _folder(Path(text))
    if not text.strip():
        raise UsageError("the source is empty; expected s3://bucket/prefix or a folder's path")
    if (named := split_s3(text)) is not None:
        return _bucket(text, *named)
    if found := _SCHEME.match(text):
        raise UsageError(
            f"{shown_address(text)}: sources of kind {found[1]}: are not known; expected s3://bucket/prefix or a "
            "folder's path (the S3 server's address is a setting: SEARCHANYTHING_STORAGE__ENDPOINT)"
        )
    return _folder(Path(text))


def open_store(source: Source, settings: Settings) -> ImageStore:
    """The store that holds the source's images. Nothing is contacted or read yet.

    Raises: SettingsError where the S3 settings are missing or malformed.
    """
    if source.kind == "folder":
        largest, digests_dir = settings.storage.max_object_bytes, settings.ingest.digests_dir
        return FolderStore(source.bucket, max_object_bytes=largest, digests_dir=digests_dir)
    return open_s3(source.bucket, settings.storage, connections=settings.ingest.transfer_threads)


def open_s3(bucket: str, storage: StorageSettings, *, connections: int = 8) -> S3Store:
    """The objects of an S3 bucket; `connections`: as many as there are threads that use it. Nothing is contacted yet.

    Raises: SettingsError where the S3 settings are missing or malformed.
    """
    from searchanything.stores.s3 import S3Store  # loading minio takes half a second, which folders need not pay

    return S3Store(storage, bucket, connections=connections)


def find_files(location: str, settings: Settings, *, suffixes: tuple[str, ...]) -> list[tuple[str, Opener]]:
    """The file at a path or `s3://bucket/key`, or all files with the first of these suffixes below it, with openers.

    Of an object no more is fetched than is read. Raises: UsageError and ObjectNotFoundError where nothing is there,
    SettingsError, StoreError.
    """
    if split_s3(location) is None:
        return [(str(file), partial(open_file, file)) for file in _files_on_disk(Path(location), suffixes)]
    source = parse_source(location)
    store = open_s3(source.bucket, settings.storage)
    if source.prefix.lower().endswith(suffixes):
        one = store.stat(source.prefix)
        if one is None:
            raise ObjectNotFoundError(f"{location}: no such object; {_expected(suffixes)}")
        objects = [one]
    else:
        objects = [found for found in store.list(source.prefix) if found.ref.key.lower().endswith(suffixes[0])]
    if not objects:
        raise UsageError(f"{location} holds no {suffixes[0]} object; {_expected(suffixes)}")
    kept = BucketFiles(store, "")
    stored = [StoredFile(found.ref.key, found.size_bytes) for found in objects]
    return [(f"s3://{source.bucket}/{file.name}", partial(kept.open, file)) for file in stored]


def _files_on_disk(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    kind = kind_at(path, f"a {suffixes[0]} file or a folder of such")
    if kind is None:
        raise UsageError(f"{path}: no such file; {_expected(suffixes)}")
    files = sorted(path.rglob(f"*{suffixes[0]}")) if kind == "folder" else [path]
    if not files:
        raise UsageError(f"{path} holds no {suffixes[0]} file; {_expected(suffixes)}")
    return files


def _expected(suffixes: tuple[str, ...]) -> str:
    return f"expected a {' or '.join(suffixes)} file, a folder of {suffixes[0]} files, or s3:// and one of these"


def _bucket(text: str, bucket: str, prefix: str) -> Source:
    if not _BUCKET_NAME.fullmatch(bucket) or ".." in bucket:
        shown = "what it names" if "@" in text else f"'{bucket}'"  # some programs take keys there
        raise UsageError(
            f"{shown_address(text)}: {shown} cannot be a bucket's name; expected s3://bucket/prefix with a name of "
            "3 to 63 letters, digits, dots and hyphens"
        )
    return Source("s3", bucket, prefix)


def _folder(path: Path) -> Source:
    expected = "a folder or s3://bucket/prefix"
    try:
        path = path.expanduser()
    except RuntimeError as error:  # no such user's home
        raise UsageError(f"{path}: expected {expected}: {error}") from error
    if kind_at(path, expected) == "file":
        raise UsageError(f"{path}: is a file; expected a folder (here: {path.parent}) or s3://bucket/prefix")
    return Source("folder", str(path.resolve()))
