"""Compaction: small files become large ones, and what is dead is left behind.

A merged file is written whole under a new name before its sources are deleted, so a kill at any point leaves rows twice
at worst, which the next run tells by their image and generation. Writers only ever add files, which a running
compaction does not know of: they do not disturb each other. One compaction at a time: each leaves a lease beside the
files, looks for others', and gives way where there is one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from searchanything.core.codes import generation_at
from searchanything.core.errors import StoreError
from searchanything.core.protocols import RegionIndex, StoredFile
from searchanything.features.contents import CachedFile, KeptImage, file_bytes
from searchanything.features.keep import FILE_ROWS
from searchanything.features.layout import FEATURES, LEASE, TOMBSTONES, FeatureCache, generation_of
from searchanything.features.liveness import FeatureState, Liveness, open_files

logger = logging.getLogger(__name__)

LEASE_S: Final = 3600.0
RUN_S: Final = 2700.0  # a run ends well before its lease, and leaves the rest to the next


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction did. `finished` is False where it ran out of time: run it again."""

    files_before: int
    files_after: int
    rows_before: int
    rows_dropped: int
    bytes_before: int
    bytes_after: int
    seconds: float
    finished: bool

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `searchanything features compact --format json`."""
        return {
            "files": {"before": self.files_before, "after": self.files_after},
            "rows": {"before": self.rows_before, "dropped": self.rows_dropped},
            "bytes": {"before": self.bytes_before, "after": self.bytes_after},
            "seconds": round(self.seconds, 3),
            "finished": self.finished,
        }


@dataclass(slots=True)
class _Group:
    """Files that will become one."""

    sources: list[StoredFile] = field(default_factory=list)
    tables: list[Any] = field(default_factory=list)
    images: list[KeptImage] = field(default_factory=list)
    dropped: int = 0

    @property
    def rows(self) -> int:
        return sum(image.regions for image in self.images)


def compact(cache: FeatureCache, index: RegionIndex, *, age_s: float, file_rows: int = FILE_ROWS) -> Compaction:
    """Merge the cache's files into such of about `file_rows` rows, without what is dead.

    Features of an attempt that was never committed are dead after `age_s` seconds.

    Raises: StoreError (another compaction is running, a damaged file), StoreUnavailableError, RegionIndexError.
    """
    start = time.monotonic()
    with _lease(cache) as lease:
        return _Run(cache, lease, start=start, file_rows=file_rows, age_s=age_s).through(index)


class _Run:
    """One pass over all files."""

    def __init__(self, cache: FeatureCache, lease: str, *, start: float, file_rows: int, age_s: float) -> None:
        self._cache = cache
        self._lease = lease
        self._start = start
        self._file_rows = file_rows
        self._age_s = age_s
        self._group = _Group()
        self._rows = self._dropped = self._bytes = self._bytes_after = self._files = self._files_after = 0

    def through(self, index: RegionIndex) -> Compaction:
        listed = [stored for stored in self._cache.files.list() if self._cache.is_own(stored.name)]
        judge = Liveness(self._cache, index, listed, age_s=self._age_s)
        finished = True
        for file in open_files(self._cache, listed, order=self._order(listed)):
            if time.monotonic() - self._start > RUN_S:
                finished = False
                break
            self._take(file, judge)
            if self._group.rows >= self._file_rows:
                self._flush()
        self._flush()
        self._sweep(listed, finished=finished)
        return Compaction(
            files_before=self._files,
            files_after=self._files_after,
            rows_before=self._rows,
            rows_dropped=self._dropped,
            bytes_before=self._bytes,
            bytes_after=self._bytes_after,
            seconds=time.monotonic() - self._start,
            finished=finished,
        )

    def _order(self, listed: list[StoredFile]) -> Callable[[StoredFile], tuple[object, ...]]:
        """Small files first, which are to be merged; the large ones in an order of this run's own.

        So a run that ends before it has looked at all has merged, and each large file has its turn in some run.
        """
        largest = max((one.size_bytes for one in listed), default=0)

        def place(one: StoredFile) -> tuple[object, ...]:
            if 2 * one.size_bytes < largest:
                return False, one.name
            return True, blake2b(f"{self._lease} {one.name}".encode(), digest_size=8).hexdigest()

        return place

    def _take(self, file: CachedFile, judge: Liveness) -> None:
        """Add a file to the group, unless it is large and whole as it is."""
        kept = [state is not FeatureState.DEAD for state in judge.judge(file.images)]
        rows = sum(image.regions for image in file.images)
        self._files += 1
        self._rows += rows
        self._bytes += file.stored.size_bytes
        if all(kept) and 2 * rows >= self._file_rows:
            self._files_after += 1
            self._bytes_after += file.stored.size_bytes
            return
        group = self._group
        if any(kept):
            group.tables.append(file.table(kept))
        group.sources.append(file.stored)
        group.images += [image for image, keep in zip(file.images, kept, strict=True) if keep]
        group.dropped += rows - sum(image.regions for image, keep in zip(file.images, kept, strict=True) if keep)

    def _flush(self) -> None:
        """Write the group as one file, then delete its sources."""
        group, self._group = self._group, _Group()
        self._dropped += group.dropped
        if len(group.sources) == 1 and not group.dropped:
            self._files_after += 1
            self._bytes_after += group.sources[0].size_bytes
            return
        if group.images:
            data = file_bytes(self._cache, group.tables, group.images)
            self._cache.files.write(self._cache.new_name(FEATURES), data)
            self._files_after += 1
            self._bytes_after += len(data)
        for stored in group.sources:
            self._cache.files.delete(stored.name)
        if group.sources:
            logger.info("%d files became one of %d rows; %d dropped", len(group.sources), group.rows, group.dropped)

    def _sweep(self, listed: list[StoredFile], *, finished: bool) -> None:
        """Delete tombstones that every file has been held against, and what killed writers left half written."""
        horizon = generation_at(age_s=self._age_s)
        for stored in listed:
            done = finished and stored.name.endswith(TOMBSTONES)
            half = not stored.name.endswith((FEATURES, TOMBSTONES, LEASE)) and generation_of(stored.name) < horizon
            if done or half:
                self._cache.files.delete(stored.name)


@contextmanager
def _lease(cache: FeatureCache) -> Iterator[str]:
    """Be the only one to compact these files, by a lease of this name. Raises: StoreError where another is at it."""
    own = cache.new_name(LEASE)
    cache.files.write(own, b"lease")
    try:
        oldest = generation_at(age_s=LEASE_S)
        for stored in list(cache.files.list()):
            if stored.name == own or not (cache.is_own(stored.name) and stored.name.endswith(LEASE)):
                continue
            if generation_of(stored.name) >= oldest:
                raise StoreError(
                    f"{cache.files.location}: another compaction is running, or was killed less than "
                    f"{LEASE_S / 60:.0f} minutes ago; try again later, or remove {stored.name} if nobody compacts"
                )
            cache.files.delete(stored.name)
        yield own
    finally:
        cache.files.delete(own)
