"""Content types of listed objects, asked for where a name says nothing: listings of S3 leave them out.

An answer holds for as long as the object keeps its etag, so a client that syncs again and again asks once.
"""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from typing import Final

from searchanything.core.errors import StoreError, StoreUnavailableError
from searchanything.core.protocols import ImageStore
from searchanything.core.types import ImageRef, StoredObject

MOST_KNOWN: Final = 200_000  # then all are forgotten; 60 MB at the most


class ContentTypes:
    """What was asked for before. Thread-safe."""

    def __init__(self) -> None:
        self._known: dict[tuple[ImageRef, str], str | None] = {}
        self._lock = Lock()

    def of(self, store: ImageStore, listed: StoredObject) -> StoredObject:
        """The object with its content type, as the store tells it; without one where it refuses to tell.

        Raises: StoreUnavailableError.
        """
        if listed.content_type is not None:
            return listed
        version = (listed.ref, listed.etag)
        with self._lock:
            if version in self._known:
                return replace(listed, content_type=self._known[version])
        try:
            found = store.stat(listed.ref.key)
        except StoreUnavailableError:
            raise
        except StoreError:
            return listed
        if found is None:
            return listed
        if found.etag == listed.etag:
            with self._lock:
                if len(self._known) >= MOST_KNOWN:
                    self._known.clear()
                self._known[version] = found.content_type
        return replace(listed, content_type=found.content_type)
