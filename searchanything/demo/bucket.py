"""Fills the demo's bucket with the rendered scenes, and leaves alone what is there already."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from searchanything.core.protocols import WritableBucket

BUCKET: Final = "searchanything-demo"
NOTE_KEY: Final = "README.txt"
_NOTE: Final = (
    "Scenes made by `searchanything demo`: pictograms pasted on photographs.\n"
    "This file is no image; the index skips it and counts it.\n"
)
_THREADS: Final = 8


@dataclass(frozen=True, slots=True)
class Filling:
    """What was done to the bucket, in objects. `removed` holds the keys that no scene has any more."""

    uploaded: int
    unchanged: int
    removed: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether the bucket is no longer as it was."""
        return bool(self.uploaded or self.removed)


def fill_bucket(store: WritableBucket, scenes: Mapping[str, Path], *, done: Callable[[int, int], None]) -> Filling:
    """Make the bucket hold exactly these files (by key) and a note. Objects whose etag is the file's MD5 stay.

    Raises: StoreError, StoreUnavailableError.
    """
    store.make_bucket()
    listed = {one.ref.key: one.etag for one in store.list()}
    contents = {NOTE_KEY: _NOTE.encode()} | {key: path.read_bytes() for key, path in scenes.items()}
    missing = [key for key, data in contents.items() if listed.get(key) != _etag_of(data)]

    def upload(key: str) -> None:
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
        store.upload(key, contents[key], content_type=kind)

    with ThreadPoolExecutor(_THREADS) as pool:
        for number, _ in enumerate(pool.map(upload, missing), start=1):
            done(number, len(missing))
    removed = tuple(sorted(listed.keys() - contents.keys()))
    for key in removed:
        store.delete(key)
    return Filling(len(missing), len(contents) - len(missing), removed)


def _etag_of(data: bytes) -> str:
    """What S3 servers give an object that was put in one piece."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
