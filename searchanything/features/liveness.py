"""Which features are current, which are garbage, and which a running attempt may yet need: the index decides.

the index has the image in this generation                      live
the index has it in a later one                                 dead: indexed again
the image was deleted (a tombstone of a later generation)       dead
an older attempt that was never committed, `age_s` ago          dead: killed
a younger one                                                   young: perhaps about to be committed
the same rows met before                                        dead: a compaction was killed before its last step
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Final

from searchanything.core.batching import batches
from searchanything.core.codes import generation_at
from searchanything.core.errors import ObjectNotFoundError
from searchanything.core.protocols import RegionIndex, StoredFile
from searchanything.core.rows import Outcome, row_id
from searchanything.core.types import ImageRef
from searchanything.features.contents import CachedFile, KeptImage
from searchanything.features.keep import read_tombstones
from searchanything.features.layout import FEATURES, TOMBSTONES, FeatureCache

QUESTION_IMAGES: Final = 256  # per question to the index


class FeatureState(StrEnum):
    """What one attempt's features are."""

    LIVE = "live"
    YOUNG = "young"
    DEAD = "dead"


class Liveness:
    """Judges the contents of files, each once and in one order. Memory grows by a number per image."""

    def __init__(self, cache: FeatureCache, index: RegionIndex, listed: Sequence[StoredFile], *, age_s: float) -> None:
        """`listed` are all files of the cache, whose tombstones count. Raises: StoreError."""
        self._bucket = cache.bucket
        self._index = index
        self._tombstones = read_tombstones(cache, [one for one in listed if one.name.endswith(TOMBSTONES)])
        self._horizon = generation_at(age_s=age_s)
        self._met: set[int] = set()

    def judge(self, images: Sequence[KeptImage]) -> list[FeatureState]:
        """The state of a file's images. Raises: RegionIndexError."""
        verdicts = []
        for part in batches(images, QUESTION_IMAGES):
            rows = self._index.newest([ImageRef(self._bucket, image.key) for image in part])
            for image in part:
                row = rows.get(ImageRef(self._bucket, image.key))
                committed = row.generation if row is not None else 0
                is_live = row is not None and committed == image.generation and row.outcome is Outcome.INDEXED
                verdicts.append(self._once(image, self._state(image, committed, is_live=is_live)))
        return verdicts

    def _state(self, image: KeptImage, committed: int, *, is_live: bool) -> FeatureState:
        if is_live:
            return FeatureState.LIVE
        least = max(committed + 1, self._tombstones.get(image.key, 0), self._horizon)
        return FeatureState.DEAD if image.generation < least else FeatureState.YOUNG

    def _once(self, image: KeptImage, state: FeatureState) -> FeatureState:
        if state is FeatureState.DEAD:
            return state
        number = int(row_id(ImageRef(self._bucket, image.key), image.generation)[:16], 16)
        if number in self._met:
            return FeatureState.DEAD
        self._met.add(number)
        return state


def open_files(
    cache: FeatureCache,
    listed: Sequence[StoredFile],
    *,
    order: Callable[[StoredFile], tuple[object, ...]] = lambda one: (one.name,),
) -> Iterator[CachedFile]:
    """Each file of features among the listed ones, in the order of their names or another one; none that has gone.

    Raises: StoreError for a damaged one.
    """
    for stored in sorted(listed, key=order):
        if not stored.name.endswith(FEATURES):
            continue
        try:
            opened = CachedFile(cache, stored)
        except ObjectNotFoundError:
            continue
        with opened:
            yield opened
