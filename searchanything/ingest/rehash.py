"""Another hash layer for what is indexed: rows of the live index into one beside it, with codes of kept features.

    live rows ─► those that the other index lacks ─► codes, with which they are its rows, under the same ids
                                                     of kept features, or its own of before, of the same content

A row keeps its id, its generation and everything else but the code: so what is there needs no second look, a run that
was killed goes on where it was, and an image that was indexed again meanwhile is one that the other index lacks. The
image row is the commit, as it always is. An image that failed has no code, and needs no features.

An image that was only indexed again as it was has the same features: where its regions are the same to the pixel, the
codes which the other index has of an older attempt are those that it would get.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from searchanything.core.batching import batches
from searchanything.core.errors import ObjectNotFoundError
from searchanything.core.protocols import Hasher, StoredFile
from searchanything.core.rows import ImageRow, ImageState, Outcome, RegionRow
from searchanything.core.types import ImageRef
from searchanything.features.contents import CachedFile, KeptImage
from searchanything.features.kept_regions import kept_rows
from searchanything.features.layout import FEATURES, FeatureCache
from searchanything.features.liveness import open_files
from searchanything.ingest.beside import COMPARED_AT_ONCE, IMAGES_AT_ONCE, Beside, newest_at_least

logger = logging.getLogger(__name__)

LISTINGS: Final = 3  # of the files of features: what a compaction merged meanwhile is in a file of another name


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Rehash(Beside):
    """Brings an index of another hash layer up to date with the live one, of the same features. See the module."""

    hasher: Hasher

    def standing(self, states: Sequence[ImageState]) -> list[int | None]:
        """What is as new as in the live index, or newer."""
        there = self.other.generations({state.image for state in states})
        return [newest_at_least(one.generation, there.get(one.image)) for one in states]

    def ready_words(self) -> None:
        """Words codes are those of the live index, whose rows have the same ids."""
        if not self.lacks_words():
            return
        for states in batches(self.other.iterate_states(), IMAGES_AT_ONCE):
            images = {state.image for state in states}
            words, said = dict(self.live.words_of(images)), {name for name, _ in self.other.words_of(images)}
            if words.keys() - said:
                rows = [row for row in self.other.regions_of(images) if row.id in words and row.id not in said]
                self.other.insert_words([replace(row, words_code=words[row.id]) for row in rows])
            self.progress(0)

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
            newer = [(ref, generation) for ref, generation in attempts if generation > there.get(ref, 0)]
            lacking = {ref for ref, generation in newer if not self.was_held(ref, generation)}
            rows |= self.live.newest(lacking) if lacking else {}
        wanted = _first_of_each(file.images, rows.values())
        if not any(wanted):
            return 0
        kept = kept_rows(file, wanted)
        hashed = self.hasher.encode(kept.regions.mask, kept.regions.image)
        codes = {name: code.tobytes() for name, code in zip(kept.ids, hashed, strict=True)}
        images = [ImageRef(bucket, one.key) for one, is_wanted in zip(file.images, wanted, strict=True) if is_wanted]
        coded = self.hasher.encode(kept.images.mask, kept.images.image)
        whole = {image: code.tobytes() for image, code in zip(images, coded, strict=True)}
        carried = 0
        for part in batches(images, IMAGES_AT_ONCE):
            carried += self._carry([rows[ref] for ref in part], lambda region: codes.get(region.id), whole)
        return carried

    def carry_same(self, bucket: str) -> int:
        """Carry over the images of a bucket of which the other index has older rows, of the same content and regions;
        returns how many.
        """
        carried = 0
        for states in batches(self.lacking(bucket=bucket), COMPARED_AT_ONCE):
            there = self.other.generations({state.image for state in states})
            carried += sum(self._carry_older(some) for some in batches(there, IMAGES_AT_ONCE))
        return carried

    def _carry_older(self, images: Sequence[ImageRef]) -> int:
        older, newest = self.other.newest(images), self.live.newest(images)
        rows = [row for image, row in newest.items() if image in older and _is_of_same_content(row, older[image])]
        generations = {row.image: older[row.image].generation for row in rows}
        before = {
            (region.image, region.region): region
            for region in (self.other.regions_of(generations) if rows else ())
            if region.generation == generations[region.image]
        }

        def code_of(region: RegionRow) -> bytes | None:
            one = before.get((region.image, region.region))
            is_same = one is not None and (one.mask, one.box_xyxy) == (region.mask, region.box_xyxy)
            return one.code if one is not None and is_same else None

        return self._carry(rows, code_of, {image: older[image].code for image in generations})

    def _carry(
        self, rows: Sequence[ImageRow], code_of: Callable[[RegionRow], bytes | None], whole: Mapping[ImageRef, bytes]
    ) -> int:
        """Rows of images, all of whose regions must be there and have a code; returns how many have."""
        found: dict[ImageRef, list[RegionRow]] = {row.image: [] for row in rows}
        newest = {row.image: row.generation for row in rows}
        for region in self.live.regions_of(found) if rows else ():
            code = code_of(region) if region.generation == newest[region.image] else None
            if code is not None:
                found[region.image].append(replace(region, code=code))
        complete = [row for row in rows if len(found[row.image]) == row.regions]  # else it was replaced meanwhile
        regions = [region for row in complete for region in found[row.image]]
        self._commit(regions, [replace(row, code=whole[row.image]) for row in complete])
        return len(complete)

    def _commit(self, regions: Sequence[RegionRow], rows: Sequence[ImageRow]) -> None:
        """Regions, then image rows, then what these replace. What a killed run left of the regions is not doubled."""
        images = [row.image for row in rows]
        if regions:
            words = dict(self.live.words_of(images)) if self.other.words is not None else {}
            regions = [replace(region, words_code=words.get(region.id, b"")) for region in regions]
            there = {region.id for region in self.other.regions_of(images)}
            self.other.insert_regions([region for region in regions if region.id not in there])
            if there and words:  # it may have been killed before their words
                said = {name for name, _ in self.other.words_of(images)}
                self.other.insert_words([one for one in regions if one.id in there - said and one.words_code])
        self.commit_images(rows)


def _is_of_same_content(row: ImageRow, older: ImageRow) -> bool:
    """Whether the same regions were found in the same bytes, as far as image rows say, and have codes."""
    same = older.etag, older.outcome, older.regions
    return row.is_findable and older.is_findable and same == (row.etag, row.outcome, row.regions)


def _first_of_each(images: Sequence[KeptImage], rows: Iterable[ImageRow]) -> list[bool]:
    """Which of a file's images are those of these rows, each once."""
    left = {(row.image.key, row.generation, row.regions) for row in rows if row.outcome is Outcome.INDEXED}
    wanted = []
    for image in images:
        one = image.key, image.generation, image.regions
        wanted.append(one in left)
        left.discard(one)
    return wanted
