"""The features that are kept of a source's images: how many, and their files merged."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from searchanything.client.connection import Connection, SourceName
from searchanything.core.protocols import RegionIndex
from searchanything.features.compact import Compaction, compact
from searchanything.features.layout import FeatureCache
from searchanything.features.status import CacheStatus, cache_status


@dataclass(frozen=True, slots=True, eq=False)
class KeptFeatures:
    """What `ingest.keep_features` keeps of the images of a bucket or folder; a prefix makes no difference. Thread-safe.

    Both methods raise StoreError, RegionIndexError, UsageError (no pyarrow), and ObjectNotFoundError for a source that
    is neither there nor known.
    """

    connection: Connection

    def status(self, source: SourceName) -> CacheStatus:
        """Where the features are, how many there are, and of how many images of the index."""
        index, cache = self._opened(source)
        return cache_status(cache, index, age_s=self.connection.settings.ingest.garbage_age_s)

    def compact(self, source: SourceName) -> Compaction:
        """Merge files, without rows of images that are gone or were indexed again, while others may index.

        Raises: StoreError if another compaction is running.
        """
        index, cache = self._opened(source)
        return compact(cache, index, age_s=self.connection.settings.ingest.garbage_age_s)

    def _opened(self, source: SourceName) -> tuple[RegionIndex, FeatureCache]:
        """The index and what is kept of a source.

        Raises: ObjectNotFoundError where neither knows of it, and it is not there: a mistyped name.
        """
        index, store = self.connection.read_index(), self.connection.open_source(source)[0]
        cache = self.connection.feature_cache(store, index)
        known = chain(cache.files.list(), index.iterate_states(bucket=cache.bucket))
        if next(known, None) is None:
            next(iter(store.list()), None)
        return index, cache
