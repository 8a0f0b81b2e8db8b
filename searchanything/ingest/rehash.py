"""Another hash layer for what is indexed: rows of the live index into one beside it, with codes of kept features.

    live rows ─► those that the other index lacks ─► codes of their kept features ─► its rows, under the same ids

A row keeps its id, its generation and everything else but the code: so what is there needs no second look, a run that
was killed goes on where it was, and an image that was indexed again meanwhile is one that the other index lacks. The
image row is the commit, as it always is. An image that failed has no code, and needs no features.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from searchanything.core.batching import batches
from searchanything.core.protocols import Hasher, RegionIndex
from searchanything.core.rows import ImageRow, ImageState, Outcome, RegionRow
from searchanything.core.types import Codes, ImageRef
from searchanything.features.contents import CachedFile, KeptImage
from searchanything.features.kept_regions import kept_rows
from searchanything.features.layout import FeatureCache
from searchanything.features.liveness import open_files

logger = logging.getLogger(__name__)

IMAGES_AT_ONCE: Final = 256  # per question to an index


@dataclass(frozen=True, slots=True, eq=False)
class Rehash:
    """Brings an index of another hash layer up to date with the live one, of the same features. See the module.

    `progress` is called with how many more images are done; attempts of a generation before `since` are not looked at.
    All methods raise: RegionIndexError, IndexUnavailableError.
    """

    live: RegionIndex
    other: RegionIndex
    hasher: Hasher
    progress: Callable[[int], None] = lambda _: None
    since: int = 0

    def lacking(self, *, bucket: str | None = None) -> Iterator[ImageState]:
        """The images that the other index does not have as the live one has them; some may come twice."""
        for states in batches(self.live.iterate_states(bucket=bucket), IMAGES_AT_ONCE):
            there = self.other.generations({state.image for state in states})
            yield from (state for state in states if self._is_lacking(state, there))

    def carry_failed(self) -> set[str]:
        """Carry over what is known of images that failed; returns the buckets in which others are lacking."""
        buckets: set[str] = set()
        for states in batches(self.lacking(), IMAGES_AT_ONCE):
            newest = self.live.newest({state.image for state in states}).values()
            failed = [row for row in newest if row.outcome is Outcome.FAILED]
            self._commit([], [replace(row, code=bytes(self.hasher.bits // 8)) for row in failed])
            buckets |= {row.image.bucket for row in newest if row.outcome is not Outcome.FAILED}
        return buckets

    def carry_kept(self, cache: FeatureCache) -> int:
        """Carry over the images of a bucket whose features are kept; returns how many.

        Raises: StoreError for a damaged file; ModelError for features that the layer does not take.
        """
        carried = 0
        for file in open_files(cache, [stored for stored in cache.files.list() if cache.is_own(stored.name)]):
            carried += self._carry_file(file, cache.bucket)
        return carried

    def forget_gone(self) -> int:
        """Delete from the other index what the live one has no more; returns how many images.

        Only while nobody else writes the other index: what is new there is not in the live one either.
        """
        forgotten = 0
        for states in batches(self.other.iterate_states(), IMAGES_AT_ONCE):
            known = self.live.generations({state.image for state in states})
            gone = {state.image for state in states} - known.keys()
            if gone:
                self.other.delete_images(gone)
            forgotten += len(gone)
        return forgotten

    def _is_lacking(self, state: ImageState, there: Mapping[ImageRef, int]) -> bool:
        return state.generation > max(there.get(state.image, 0), self.since)

    def _carry_file(self, file: CachedFile, bucket: str) -> int:
        """One file's images that are current in the live index and lacking in the other."""
        refs = [ImageRef(bucket, image.key) for image in file.images]
        rows: dict[ImageRef, ImageRow] = {}
        for some in batches(refs, IMAGES_AT_ONCE):
            there = self.other.generations(some)
            newest = self.live.newest(some)
            rows |= {ref: row for ref, row in newest.items() if self._is_lacking(row, there)}
        wanted = _first_of_each(file.images, rows, bucket)
        if not any(wanted):
            return 0
        kept = kept_rows(file, wanted)
        codes = dict(zip(kept.ids, self.hasher.encode(kept.regions.mask, kept.regions.image), strict=True))
        images = [ref for ref, is_wanted in zip(refs, wanted, strict=True) if is_wanted]
        whole = dict(zip(images, self.hasher.encode(kept.images.mask, kept.images.image), strict=True))
        carried = 0
        for some in batches(images, IMAGES_AT_ONCE):
            carried += self._carry([rows[ref] for ref in some], codes, whole)
        return carried

    def _carry(self, rows: Sequence[ImageRow], codes: Mapping[str, Codes], whole: Mapping[ImageRef, Codes]) -> int:
        """Rows of images, all of whose regions must be there, with the codes of their features."""
        newest = {row.image: row.generation for row in rows}
        found: dict[ImageRef, list[RegionRow]] = {row.image: [] for row in rows}
        for region in self.live.regions_of(newest):
            if region.generation == newest[region.image] and region.id in codes:
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


def _first_of_each(images: Sequence[KeptImage], rows: Mapping[ImageRef, ImageRow], bucket: str) -> list[bool]:
    """Which of a file's images are those of these rows, each once."""
    met: set[ImageRef] = set()
    wanted: list[bool] = []
    for image in images:
        ref = ImageRef(bucket, image.key)
        row = rows.get(ref)
        is_row = row is not None and row.outcome is Outcome.INDEXED and row.generation == image.generation
        wanted.append(is_row and row is not None and row.regions == image.regions and ref not in met)
        if wanted[-1]:
            met.add(ref)
    return wanted
