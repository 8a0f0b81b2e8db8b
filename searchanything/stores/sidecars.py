"""An image store whose images take metadata, and regions if wanted, from sidecars in the same store.

Of one name in several places the sidecar's value counts, then the object's user metadata, then its tags. Asking for an
image costs one more request, and reading its sidecar another.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

from searchanything.core.errors import ImageError, StoreError, StoreUnavailableError
from searchanything.core.omissions import Omissions
from searchanything.core.protocols import ImageStore
from searchanything.core.types import Metadata, StoredObject
from searchanything.images.sidecars import (
    MAX_REGIONS_BYTES,
    MAX_SIDECAR_BYTES,
    SIDECAR_PROBLEM,
    etag_for_regions,
    parse_sidecar,
    parse_sidecar_with_regions,
    problem,
    too_large,
)

logger = logging.getLogger(__name__)


class SidecarStore:
    """An `ImageStore` over another one. Sidecars are listed as the objects that they are.

    With `regions`, `read` tells what a sidecar says of its image's regions, and etags of sidecars are marked.
    """

    def __init__(self, store: ImageStore, suffix: str, *, regions: bool = False) -> None:
        self._store = store
        self._suffix = suffix
        self._takes_regions = regions
        self._most_bytes = MAX_REGIONS_BYTES if regions else MAX_SIDECAR_BYTES

    @property
    def bucket(self) -> str:
        return self._store.bucket

    def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:
        """As the store lists them: without metadata and sidecars' etags."""
        return self._store.list(prefix, omissions)

    def stat(self, key: str) -> StoredObject | None:
        """The object as it is now, with the sidecar's metadata. Raises: as the store does for the image."""
        found = self._store.stat(key)
        return None if found is None else replace(self._with_sidecar(found), regions=None)  # many are held at once

    def read(self, key: str) -> tuple[StoredObject, bytes]:
        """The object's bytes, and its sidecar as it is at about that time. Raises: as the store does for the image."""
        found, data = self._store.read(key)
        return self._with_sidecar(found), data

    def _with_sidecar(self, found: StoredObject) -> StoredObject:
        key = f"{found.ref.key}{self._suffix}"
        etag, metadata, regions = self._sidecar(key)
        if SIDECAR_PROBLEM in metadata:
            logger.debug("%s: %s", key, metadata[SIDECAR_PROBLEM])
        etag = etag_for_regions(etag) if self._takes_regions else etag
        return replace(found, metadata={**found.metadata, **metadata}, sidecar_etag=etag, regions=regions)

    def _sidecar(self, key: str) -> tuple[str, Metadata, object]:
        """A sidecar's etag, metadata and regions; "" and nothing without one. Raises: StoreUnavailableError."""
        try:
            seen = self._store.stat(key)
            if seen is None:
                return "", {}, None
            if seen.size_bytes > self._most_bytes:  # not fetched, however large
                return seen.etag, too_large(seen.size_bytes, self._most_bytes), None
            read, data = self._store.read(key)
        except StoreUnavailableError:
            raise
        except (StoreError, ImageError) as error:
            return "", problem(f"cannot be read: {error}"), None
        if self._takes_regions:
            return read.etag, *parse_sidecar_with_regions(data)
        return read.etag, parse_sidecar(data), None
