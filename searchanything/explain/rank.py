"""Where one indexed region (or whole image) stands: its own rows, its exact rank, and which part of a filter drops it.

Everything is asked of the index itself, so the answer is by its own rules, whatever it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from searchanything.core.codes import stacked
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import ImageRow, row_id
from searchanything.core.types import CodeKind, Codes, Filter, Hit, lies_in
from searchanything.search.rescoring import QueryValues, similarities
from searchanything.search.search import Asked, Page, PageRequest, query_code_of, search_images, search_regions

GROWTH: Final = 4  # each further look at the ranking goes so many times deeper
IsIt = Callable[[Hit], bool]
Scorer = Callable[[Sequence[str], Codes], NDArray[np.floating]]  # of rows, by ids and codes


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """A query's codes against everything of their kind that is in the index, at most `most_bits` away.

    The first `rescore` rows are ordered by score, where more than a code is known of the query.
    """

    measure: ClassVar[str] = "similarity"  # what the nearest are ordered by: the name of a figure
    index: RegionIndex
    asked: Asked
    whole_images: bool = False
    rescore: int = 0
    most_bits: int | None = None

    @classmethod
    def of(cls, index: RegionIndex, asked: Asked, request: PageRequest, *, whole_images: bool) -> Self:
        """As an answer's page is read."""
        return cls(index, asked, whole_images, request.rescore, request.most_bits)

    @property
    def rescored(self) -> int:
        """How many rows are ordered by score."""
        return self.rescore if isinstance(self.asked, QueryValues) else 0

    @property
    def bits(self) -> int:
        """How long the codes are that it compares."""
        return self.index.manifest.bits

    @property
    def kind(self) -> CodeKind:
        """Whose codes they are."""
        return "images" if self.whole_images else "regions"

    def without_bound(self) -> Self:
        """The same, whatever the distance."""
        return replace(self, most_bits=None)

    def page(self, request: PageRequest, filter: Filter | None) -> Page:
        """A stretch of the ranking. Raises: FilterError, UsageError, RegionIndexError."""
        search = search_images if self.whole_images else search_regions
        return search(self.index, self.asked, request, filter=filter)

    def rows(self, image: ImageRow, filter: Filter) -> list[Hit]:
        """The committed rows of one image that match a filter (which names no images), nearest first."""
        search = self.index.search_images if self.whole_images else self.index.search
        wanted, code = replace(filter, images=(image.image,)), query_code_of(self.asked)
        found = search(code[None], limit=self.index.max_limit, filter=wanted)[0]
        return [match for match in found if match.generation == image.generation]

    def scored(self, hits: Sequence[Hit]) -> list[Hit]:
        """Hits with their similarity, where the nearest are rescored."""
        if not self.rescored or not isinstance(self.asked, QueryValues):
            return list(hits)
        projection = self.asked.projection
        return with_scores(self.index, hits, lambda _, codes: similarities(projection, codes), of=self.kind)

    def find(self, filter: Filter | None, *, is_it: IsIt, first: int, group_by_image: bool) -> Rank:
        """Look ever deeper, at least at the `first` hits, until a hit is it or there are no more."""
        most = self.index.max_limit
        depth = first
        while True:
            request = PageRequest(
                limit=depth, group_by_image=group_by_image, rescore=self.rescore, most_bits=self.most_bits
            )
            page = self.page(request, filter)
            number = next((number for number, hit in enumerate(page.hits) if is_it(hit)), None)
            if number is not None or len(page.hits) < depth or depth >= most:
                break
            depth = min(most, depth * GROWTH)
        return Rank(
            rank=None if number is None else number + 1,
            hit=None if number is None else page.hits[number],
            nearest=page.hits[:first],
            looked_at=len(page.hits),
            exact=page.exact,
        )


@dataclass(frozen=True, slots=True)
class Rank:
    """A rank (from 1) in a ranking, None where the search ended before it; `looked_at` hits were seen.

    `hit` is what stands at that rank: with grouping perhaps another region of the same image. `nearest` holds the
    first hits of the ranking, `exact` is False where the index is approximate or its limit was met.
    """

    rank: int | None
    hit: Hit | None
    nearest: tuple[Hit, ...]
    looked_at: int
    exact: bool


def is_of(image: ImageRow, hit: Hit) -> bool:
    """Whether a hit is a row of this image as it was committed then: numbers of another commit name other regions."""
    return (hit.image, hit.generation) == (image.image, image.generation)


def with_scores(index: RegionIndex, hits: Sequence[Hit], score: Scorer, *, of: CodeKind) -> list[Hit]:
    """Hits with what a question makes of their ids and codes; without it where a code is gone by now."""
    names = [row_id(hit.image, hit.generation, hit.region) for hit in hits]
    found = index.codes_of(names, of=of)
    there = [name for name in names if name in found]
    if not there:
        return list(hits)
    codes = stacked((found[name] for name in there), 8 * len(found[there[0]]))
    scores = dict(zip(there, score(there, codes).tolist(), strict=True))
    return [replace(hit, similarity=scores.get(name)) for hit, name in zip(hits, names, strict=True)]


def excluding_parts(
    rows: Callable[[ImageRow, Filter], list[Hit]], filter: Filter | None, image: ImageRow, region: int | None
) -> list[str]:
    """The parts of a filter, each taken alone, that the region (None: the image) does not pass.

    `rows` are a ranking's rows of the image.
    """
    if filter is None:
        return []
    ref = image.image
    excluding = []
    if filter.bucket is not None and filter.bucket != ref.bucket:
        excluding.append("bucket")
    if filter.key_prefix is not None and not ref.key.startswith(filter.key_prefix):
        excluding.append("key_prefix")
    if filter.images and ref not in filter.images:
        excluding.append("images")
    if ref in filter.exclude:
        excluding.append("exclude")
    if filter.within and not lies_in(ref, filter.within):
        excluding.append("within")
    for name, part in _other_parts(filter).items():
        if not any(row.region == region for row in rows(image, part)):
            excluding.append(name)
    return excluding


def _other_parts(filter: Filter) -> dict[str, Filter]:
    """Each given part that the index has to judge, as a filter of its own."""
    parts = {
        "area_px": Filter(area_px=filter.area_px),
        "size_class": Filter(size_class=filter.size_class),
        "indexed_at_ms": Filter(indexed_at_ms=filter.indexed_at_ms),
        "expression": Filter(expression=filter.expression),
    }
    parts |= {f"metadata {name}": Filter(metadata={name: value}) for name, value in filter.metadata.items()}
    parts |= {f"where {one}": Filter(where=(one,)) for one in filter.where}
    return {name: part for name, part in parts.items() if part != Filter()}
