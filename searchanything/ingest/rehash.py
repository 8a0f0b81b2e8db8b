"""Another hash layer for what is indexed: rows of the live index into one beside it, with codes of kept features.

    live rows ─► those that the other index lacks ─► codes of their kept features ─► its rows, under the same ids

A row keeps its id, its generation and everything else but the code: so what is there needs no second look, a run that
was killed goes on where it was, and an image that was indexed again meanwhile is one that the other index lacks. The
image row is the commit, as it always is. An image that failed has no code, and needs no features.

When the other index has become live others write it as well. From then on `held` says what it had when it was compared
last: what lacks of that was deleted by others, and is not brought back.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from searchanything.core.batching import batches
from searchanything.core.errors import ObjectNotFoundError
from searchanything.core.protocols import Hasher, RegionIndex, StoredFile
from searchanything.core.rows import ImageRow, ImageState, Outcome, RegionRow, row_id
from searchanything.core.types import Codes, ImageRef
from searchanything.features.contents import CachedFile, KeptImage
from searchanything.features.kept_regions import kept_rows
from searchanything.features.layout import FEATURES, FeatureCache
from searchanything.features.liveness import open_files

logger = logging.getLogger(__name__)

IMAGES_AT_ONCE: Final = 256  # whose rows are held
COMPARED_AT_ONCE: Final = 8192  # per question to an index, which looks at all its rows for each where it is embedded
LISTINGS: Final = 3  # of the files of features: what a compaction merged meanwhile is in a file of another name


@dataclass(frozen=True, slots=True, eq=False)
class LayersCompared:
    """What the live index has, as 64 bits for each image in its generation, in order, 8 bytes a row.

    The other index was `lacking` some of it, and held the others.
    """

    lacking: NDArray[np.uint64]
    held: NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Rehash:
    """Brings an index of another hash layer up to date with the live one, of the same features. See the module.

    `progress` is called at every step, with how many more images are done. `held` is given once others write the other
    index as well. All methods raise: RegionIndexError, IndexUnavailableError, and what `progress` raises.
    """

    live: RegionIndex
    other: RegionIndex
    hasher: Hasher
    progress: Callable[[int], None] = lambda _: None
    held: NDArray[np.uint64] | None = None

    def compare(self) -> LayersCompared:
        """What the other index lacks of the live one, and what it has."""
        lacking, held = array("Q"), array("Q")
        for state, is_lacking in self._compared():
            (lacking if is_lacking else held).append(_number_of(state.image, state.generation))
        return LayersCompared(*(np.unique(np.frombuffer(one, dtype=np.uint64)) for one in (lacking, held)))

    def lacking(self, *, bucket: str | None = None) -> Iterator[ImageState]:
        """The images that the other index does not have as the live one has them; some may come twice."""
        return (state for state, is_lacking in self._compared(bucket=bucket) if is_lacking)

    def _compared(self, *, bucket: str | None = None) -> Iterator[tuple[ImageState, bool]]:
        for states in batches(self.live.iterate_states(bucket=bucket), COMPARED_AT_ONCE):
            there = self.other.generations({state.image for state in states})
            self.progress(0)
            yield from ((state, self._is_lacking(state.image, state.generation, there)) for state in states)

    def forget_failed_attempts(self) -> None:
        """Delete what only failed to be indexed in the other index, so that it is lacking there, and tried again."""
        for states in batches(self.other.iterate_states(outcome=Outcome.FAILED), COMPARED_AT_ONCE):
            known = self.live.newest({state.image for state in states})
            self.other.delete_images(
                {one.image for one in states if one.image in known and known[one.image].outcome is not Outcome.FAILED}
            )

    def carry_failed(self) -> set[str]:
        """Carry over what is known of images that failed; returns the buckets in which others are lacking."""
        buckets: set[str] = set()
        for states in batches(self.lacking(), COMPARED_AT_ONCE):
            buckets |= {state.image.bucket for state in states if state.outcome is not Outcome.FAILED}
            failed = {state.image for state in states if state.outcome is Outcome.FAILED}
            newest = self.live.newest(failed).values() if failed else ()
            rows = [row for row in newest if row.outcome is Outcome.FAILED]
            self._commit([], [replace(row, code=bytes(self.hasher.bits // 8)) for row in rows])
        return buckets

    def carry_kept(self, cache: FeatureCache) -> int:
        """Carry over the images of a bucket whose features are kept; returns how many.

        Raises: StoreError for a damaged file; ModelError for features that the layer does not take.
        """
        carried, met = 0, set[str]()
        for _ in range(LISTINGS):
            files = [one for one in cache.files.list() if cache.is_own(one.name) and one.name not in met]
            if not any(one.name.endswith(FEATURES) for one in files):
                break
            met |= {one.name for one in files}
            carried += self._carry_files(cache, files)
        return carried

    def forget_gone(self) -> int:
        """Delete from the other index what the live one has no more; returns how many images.

        While others write the other index that is what it `held`: the live one never had what is new there.
        """
        forgotten = 0
        for states in batches(self.other.iterate_states(), COMPARED_AT_ONCE):
            known = self.live.generations({state.image for state in states})
            self.progress(0)
            gone = {one.image: one.generation for one in states if one.image not in known and self._is_of_before(one)}
            if self.held is not None:
                self.other.delete_before({image: generation + 1 for image, generation in gone.items()})
            elif gone:
                self.other.delete_images(gone)
            forgotten += len(gone)
        return forgotten

    def _is_of_before(self, state: ImageState) -> bool:
        return self.held is None or _is_among(_number_of(state.image, state.generation), self.held)

    def _is_lacking(self, image: ImageRef, generation: int, there: Mapping[ImageRef, int]) -> bool:
        if generation <= there.get(image, 0):
            return False
        return self.held is None or not _is_among(_number_of(image, generation), self.held)

    def _carry_files(self, cache: FeatureCache, files: Sequence[StoredFile]) -> int:
        carried = 0
        for file in open_files(cache, files):
            self.progress(0)
            try:
                carried += self._carry_file(file, cache.bucket)
            except ObjectNotFoundError:
                logger.debug("%s has gone while it was read", file.stored.name)
        return carried

    def _carry_file(self, file: CachedFile, bucket: str) -> int:
        """One file's images that are current in the live index and lacking in the other."""
        rows: dict[ImageRef, ImageRow] = {}
        for some in batches(file.images, IMAGES_AT_ONCE):
            attempts = [(ImageRef(bucket, image.key), image.generation) for image in some]
            there = self.other.generations({ref for ref, _ in attempts})
            lacking = {ref for ref, generation in attempts if self._is_lacking(ref, generation, there)}
            rows |= self.live.newest(lacking) if lacking else {}
        wanted = _first_of_each(file.images, rows.values())
        if not any(wanted):
            return 0
        kept = kept_rows(file, wanted)
        codes = dict(zip(kept.ids, self.hasher.encode(kept.regions.mask, kept.regions.image), strict=True))
        images = [ImageRef(bucket, one.key) for one, is_wanted in zip(file.images, wanted, strict=True) if is_wanted]
        whole = dict(zip(images, self.hasher.encode(kept.images.mask, kept.images.image), strict=True))
        carried = 0
        for part in batches(images, IMAGES_AT_ONCE):
            carried += self._carry([rows[ref] for ref in part], codes, whole)
        return carried

    def _carry(self, rows: Sequence[ImageRow], codes: Mapping[str, Codes], whole: Mapping[ImageRef, Codes]) -> int:
        """Rows of images, all of whose regions must be there, with the codes of their features."""
        found: dict[ImageRef, list[RegionRow]] = {row.image: [] for row in rows}
        for region in self.live.regions_of(found):
            if region.id in codes:  # which no other generation's regions are
                found[region.image].append(region)
        complete = [row for row in rows if len(found[row.image]) == row.regions]  # else it was replaced meanwhile
        regions = [replace(region, code=codes[region.id].tobytes()) for row in complete for region in found[row.image]]
        self._commit(regions, [replace(row, code=whole[row.image].tobytes()) for row in complete])
        return len(complete)

    def _commit(self, regions: Sequence[RegionRow], rows: Sequence[ImageRow]) -> None:
        """Regions, then image rows, then what these replace. What a killed run left of the regions is not doubled."""
        if not rows:
            return
        images = [row.image for row in rows]
        if regions:
            words = dict(self.live.words_of(images)) if self.other.words is not None else {}
            regions = [replace(region, words_code=words.get(region.id, b"")) for region in regions]
            there = {region.id for region in self.other.regions_of(images)}
            self.other.insert_regions([region for region in regions if region.id not in there])
            if there and words:  # it may have been killed before their words
                said = {name for name, _ in self.other.words_of(images)}
                self.other.insert_words([one for one in regions if one.id in there - said and one.words_code])
        before = self.other.generations(images)
        self.other.insert_images(rows)
        self.other.delete_before({row.image: row.generation for row in rows if row.image in before})
        self.progress(len(rows))


def _first_of_each(images: Sequence[KeptImage], rows: Iterable[ImageRow]) -> list[bool]:
    """Which of a file's images are those of these rows, each once."""
    left = {(row.image.key, row.generation, row.regions) for row in rows if row.outcome is Outcome.INDEXED}
    wanted = []
    for image in images:
        one = image.key, image.generation, image.regions
        wanted.append(one in left)
        left.discard(one)
    return wanted


def _number_of(image: ImageRef, generation: int) -> int:
    """64 bits for an image in a generation; others once it was indexed again."""
    return int(row_id(image, generation)[:16], 16)


def _is_among(number: int, numbers: NDArray[np.uint64]) -> bool:
    wanted = np.uint64(number)
    at = int(np.searchsorted(numbers, wanted))
    return at < len(numbers) and bool(numbers[at] == wanted)
