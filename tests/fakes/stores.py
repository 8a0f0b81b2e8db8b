"""An image store in memory, written by hand, that can be told to misbehave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from hashlib import md5

from searchanything.core.errors import ImageError, ObjectNotFoundError, StoreError
from searchanything.core.omissions import Omissions
from searchanything.core.types import ImageRef, StoredObject


class InMemoryStore:
    """An `ImageStore` over a dictionary.

    `failures` holds errors that `read` raises for a key; `after_read` is called with the key once its bytes are taken
    (to overwrite it at that very moment); `reads` counts how often each key was read.
    """

    def __init__(self, bucket: str = "memory", *, max_object_bytes: int = 1 << 20) -> None:
        self._bucket = bucket
        self._max_object_bytes = max_object_bytes
        self._objects: dict[str, tuple[StoredObject, bytes]] = {}
        self._writes = 0
        self.exists = True
        self.failures: dict[str, Exception] = {}
        self.after_read: Callable[[str], None] = lambda _: None
        self.reads: dict[str, int] = {}

    @property
    def bucket(self) -> str:
        return self._bucket

    def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> StoredObject:
        """Write or overwrite an object."""
        self._writes += 1
        stored = StoredObject(
            ref=ImageRef(self._bucket, key),
            etag=md5(data, usedforsecurity=False).hexdigest(),
            size_bytes=len(data),
            modified_at_ms=self._writes,
            content_type=content_type,
            metadata=dict(metadata or {}),
        )
        self._objects[key] = (stored, data)
        return stored

    def delete(self, key: str) -> None:
        """Remove an object; it is no error if there is none."""
        self._objects.pop(key, None)

    def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:  # noqa: ARG002
        self._check_bucket()
        for key, (stored, _) in list(self._objects.items())[::-1]:  # no order is promised
            if key.startswith(prefix):
                yield replace(stored, content_type=None, metadata={})  # as little as an S3 listing tells

    def stat(self, key: str) -> StoredObject | None:
        found = self._objects.get(key) if self.exists else None
        return found[0] if found else None

    def read(self, key: str) -> tuple[StoredObject, bytes]:
        self._check_bucket()
        if not key or {".", ".."} & set(key.split("/")):
            raise StoreError(f"{key!r} cannot be a key")
        self.reads[key] = self.reads.get(key, 0) + 1
        if key in self.failures:
            raise self.failures[key]
        if key not in self._objects:
            raise ObjectNotFoundError(f"{key}: no such object in {self._bucket}")
        found = self._objects[key]
        if found[0].size_bytes > self._max_object_bytes:
            raise ImageError(key, f"has {found[0].size_bytes} bytes, more than allowed")
        self.after_read(key)
        return found

    def _check_bucket(self) -> None:
        if not self.exists:
            raise ObjectNotFoundError(f"no such bucket: {self._bucket}")
