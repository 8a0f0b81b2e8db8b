"""An index of which only some places can be seen: whoever searches it cannot find, name or count what lies elsewhere.

The restriction sits at the border that every question goes through, so that no path to the rows can forget it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from searchanything.core.errors import UsageError
from searchanything.core.manifest import IndexCounts, IndexManifest, WordsPart
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import ImageRow, ImageState, Outcome, RegionRow, StoredCode, WordsMatch
from searchanything.core.types import CodeKind, Codes, Filter, Hit, ImageRef, Place, lies_in

READ_ONLY: Final = "this view of some places is for questions: nothing is written, deleted or backed up through it"
_NOWHERE: Final = ImageRef("", "")  # no bucket has this name


def seen_in(index: RegionIndex, places: tuple[Place, ...]) -> RegionIndex:
    """The index as far as it lies in these places; no places are all there are."""
    return ScopedIndex(index, places) if places else index


def contains(places: Sequence[Place], others: Sequence[Place]) -> bool:
    """Whether a view of `places` shows whatever one of the others shows; no places are all there are."""
    return not places or (bool(others) and set(others) <= set(narrowed(others, places)))


def narrowed(asked: Sequence[Place], places: Sequence[Place]) -> tuple[Place, ...]:
    """The places that a view of `places` shows of those asked for: what lies in both. No places are all there are."""
    if not asked or not places:
        return tuple(asked) or tuple(places)
    return _common(asked, places) or ((_NOWHERE.bucket, ""),)


@dataclass(frozen=True, slots=True)
class ScopedIndex:
    """A `RegionIndex` of the images in some places, at least one. It refuses writes with UsageError."""

    index: RegionIndex
    places: tuple[Place, ...]

    @property
    def manifest(self) -> IndexManifest:
        return self.index.manifest

    @property
    def collections(self) -> tuple[str, str]:
        return self.index.collections

    @property
    def exact(self) -> bool:
        return self.index.exact

    @property
    def max_limit(self) -> int:
        return self.index.max_limit

    def insert_regions(self, rows: Sequence[RegionRow]) -> None:  # noqa: ARG002
        raise UsageError(READ_ONLY)

    def insert_images(self, rows: Sequence[ImageRow]) -> None:  # noqa: ARG002
        raise UsageError(READ_ONLY)

    def delete_before(self, generations: Mapping[ImageRef, int]) -> None:  # noqa: ARG002
        raise UsageError(READ_ONLY)

    def delete_regions(self, ids: Collection[str]) -> None:  # noqa: ARG002
        raise UsageError(READ_ONLY)

    def delete_images(self, images: Collection[ImageRef]) -> None:  # noqa: ARG002
        raise UsageError(READ_ONLY)

    def newest(self, images: Collection[ImageRef]) -> dict[ImageRef, ImageRow]:
        return self.index.newest([image for image in images if lies_in(image, self.places)])

    def generations(self, images: Collection[ImageRef]) -> dict[ImageRef, int]:
        return self.index.generations([image for image in images if lies_in(image, self.places)])

    def iterate_images(
        self, *, bucket: str | None = None, key_prefix: str = "", outcome: Outcome | None = None
    ) -> Iterator[ImageRow]:
        for place in self._places_under(bucket, key_prefix):
            yield from self.index.iterate_images(bucket=place[0], key_prefix=place[1], outcome=outcome)

    def iterate_regions(self, *, bucket: str | None = None, key_prefix: str = "") -> Iterator[RegionRow]:
        for place in self._places_under(bucket, key_prefix):
            yield from self.index.iterate_regions(bucket=place[0], key_prefix=place[1])

    def iterate_states(
        self, *, bucket: str | None = None, key_prefix: str = "", outcome: Outcome | None = None
    ) -> Iterator[ImageState]:
        for place in self._places_under(bucket, key_prefix):
            yield from self.index.iterate_states(bucket=place[0], key_prefix=place[1], outcome=outcome)

    def iterate_attempts(self, *, bucket: str | None = None, key_prefix: str = "") -> Iterator[tuple[ImageRef, int]]:
        for place in self._places_under(bucket, key_prefix):
            yield from self.index.iterate_attempts(bucket=place[0], key_prefix=place[1])

    def regions(self, ids: Collection[str]) -> dict[str, RegionRow]:
        return {name: row for name, row in self.index.regions(ids).items() if lies_in(row.image, self.places)}

    def iterate_codes(
        self, *, of: CodeKind = "regions", bucket: str | None = None, key_prefix: str = "", share: float = 1.0
    ) -> Iterator[StoredCode]:
        for place in self._places_under(bucket, key_prefix):
            yield from self.index.iterate_codes(of=of, bucket=place[0], key_prefix=place[1], share=share)

    def regions_of(self, images: Collection[ImageRef]) -> Iterator[RegionRow]:
        return self.index.regions_of([image for image in images if lies_in(image, self.places)])

    def codes_of(
        self, ids: Sequence[str], *, of: CodeKind = "regions", within: Sequence[Place] = ()
    ) -> dict[str, bytes]:
        """An id is a hash and says no place, so the index looks at each row's own."""
        both = _common(within, self.places) if within else self.places
        return self.index.codes_of(ids, of=of, within=both) if both else {}

    @property
    def words(self) -> WordsPart | None:
        return self.index.words

    def insert_words(self, rows: Sequence[RegionRow]) -> None:  # noqa: ARG002
        raise UsageError(READ_ONLY)

    def search_words(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[WordsMatch]]:
        found = self.index.search_words(codes, limit=limit, filter=self._narrowed(filter))
        return [[one for one in several if lies_in(one.image, self.places)] for several in found]

    def words_of(self, images: Collection[ImageRef]) -> Iterator[tuple[str, bytes]]:
        return self.index.words_of([image for image in images if lies_in(image, self.places)])

    def count_words(self, *, bucket: str | None = None, key_prefix: str = "") -> int:
        places = self._places_under(bucket, key_prefix)
        return sum(self.index.count_words(bucket=place[0], key_prefix=place[1]) for place in places)

    def count_regions(self, *, bucket: str | None = None, key_prefix: str = "") -> int:
        places = self._places_under(bucket, key_prefix)
        return sum(self.index.count_regions(bucket=place[0], key_prefix=place[1]) for place in places)

    def search(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[Hit]]:
        return self._seen(self.index.search(codes, limit=limit, filter=self._narrowed(filter)))

    def search_images(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[Hit]]:
        return self._seen(self.index.search_images(codes, limit=limit, filter=self._narrowed(filter)))

    def counts(self, *, bucket: str | None = None, key_prefix: str = "") -> IndexCounts:
        places = self._places_under(bucket, key_prefix)
        found = (self.index.counts(bucket=place[0], key_prefix=place[1]) for place in places)
        return sum(found, IndexCounts(0, 0, 0, 0))

    def _seen(self, found: list[list[Hit]]) -> list[list[Hit]]:
        """The filter leaves out what lies elsewhere; whatever an index makes of an expression, this does too."""
        return [[hit for hit in hits if lies_in(hit.image, self.places)] for hits in found]

    def _narrowed(self, filter: Filter | None) -> Filter:
        """The filter, within these places: of a filter with places of its own, what lies in both."""
        asked = filter or Filter()
        if not asked.within:
            return replace(asked, within=self.places)
        within = _common(asked.within, self.places)
        # No place is left: a bucket of two of which each must hold is one that nothing lies in.
        return replace(asked, within=within) if within else replace(asked, within=self.places, images=(_NOWHERE,))

    def _places_under(self, bucket: str | None, key_prefix: str) -> list[Place]:
        """These places as far as they lie under a bucket and prefix, none inside another: no row comes twice."""
        if bucket is not None:
            found = list(_common(((bucket, key_prefix),), self.places))
        else:
            everywhere = tuple((place[0], key_prefix) for place in self.places)
            found = list(_common(everywhere, self.places))
        known = set(found)
        return [one for one in dict.fromkeys(found) if not any(around in known for around in _around(one))]


def _around(place: Place) -> Iterator[Place]:
    """The places that this one lies in, but for itself."""
    bucket, key_prefix = place
    return ((bucket, key_prefix[:length]) for length in range(len(key_prefix)))


def _common(some: Sequence[Place], others: Sequence[Place]) -> tuple[Place, ...]:
    """What lies in one of the one and in one of the other places: each looked up, as there may be thousands of both."""
    first, second = set(some), set(others)
    inner = [one for one in some if one in second or any(around in second for around in _around(one))]
    inner += [one for one in others if any(around in first for around in _around(one))]
    return tuple(dict.fromkeys(inner))
