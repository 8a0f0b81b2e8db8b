"""How much is kept, and how much of it is current."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import Outcome
from searchanything.features.layout import FEATURES, FeatureCache
from searchanything.features.liveness import FeatureState, Liveness, open_files


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """A bucket's kept features. A row is a region's.

    `young` rows are of attempts that may be running. `images` have live features, `missing` ones are in the index
    without: they were indexed while features were not kept. `other_files` are those of other indexes of the bucket.
    """

    location: str
    feature_fingerprint: str
    files: int
    bytes: int
    rows: int
    live_rows: int
    young_rows: int
    images: int
    missing: int
    other_files: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `searchanything features status --format json`."""
        return {
            "location": self.location,
            "feature_fingerprint": self.feature_fingerprint,
            "files": self.files,
            "rows": self.rows,
            "live_rows": self.live_rows,
            "young_rows": self.young_rows,
            "bytes": self.bytes,
            "bytes_per_region": round(self.bytes / self.rows, 1) if self.rows else None,
            "images": self.images,
            "missing": self.missing,
            "other_files": self.other_files,
        }


def cache_status(cache: FeatureCache, index: RegionIndex, *, age_s: float) -> CacheStatus:
    """Read the footers of all files and ask the index about their images. Nothing is changed.

    Raises: StoreError, StoreUnavailableError, RegionIndexError.
    """
    listed = list(cache.files.list())
    own = [stored for stored in listed if cache.is_own(stored.name)]
    files = size_bytes = images = 0
    rows = dict.fromkeys(FeatureState, 0)
    judge = Liveness(cache, index, own, age_s=age_s)
    for file in open_files(cache, own):
        files += 1
        size_bytes += file.stored.size_bytes
        for image, state in zip(file.images, judge.judge(file.images), strict=True):
            rows[state] += image.regions
            images += state is FeatureState.LIVE
    states = index.iterate_states(bucket=cache.bucket)
    indexed = len({state.image for state in states if state.outcome is Outcome.INDEXED})
    return CacheStatus(
        location=cache.files.location,
        feature_fingerprint=cache.manifest.feature_fingerprint,
        files=files,
        bytes=size_bytes,
        rows=sum(rows.values()),
        live_rows=rows[FeatureState.LIVE],
        young_rows=rows[FeatureState.YOUNG],
        images=images,
        missing=max(0, indexed - images),
        other_files=sum(stored.name.endswith(FEATURES) for stored in listed) - files,
    )
