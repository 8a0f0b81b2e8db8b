"""Where one indexed region (or whole image) stands: its own rows, its exact rank, and which part of a filter drops it.

Everything is asked of the index itself, so the answer is by its own rules, whatever it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from searchanything.core.types import Filter, Hit, ImageRow
from searchanything.explain.reencode import SearchContext
from searchanything.search.rescoring import QueryValues
from searchanything.search.search import Asked, Page, PageRequest, query_code_of, search_images, search_regions

GROWTH: Final = 4  # each further look at the ranking goes so many times deeper


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """A query against everything of its kind that is in the index, at most `most_bits` away.

    The first `rescore` rows are ordered by score, where more than a code is known of the query.
    """

    context: SearchContext
    asked: Asked
    whole_images: bool
    rescore: int = 0
    most_bits: int | None = None

    @property
    def rescored(self) -> int:
        """How many rows are ordered by score."""
        return self.rescore if isinstance(self.asked, QueryValues) else 0

    def without_bound(self) -> Ranking:
        """The same, whatever the distance."""
        return replace(self, most_bits=None)

    def page(self, request: PageRequest, filter: Filter | None) -> Page:
        """A stretch of the ranking. Raises: FilterError, UsageError, RegionIndexError."""
        search = search_images if self.whole_images else search_regions
        limit = self.context.max_limit
        return search(self.context.index, self.asked, request, filter=filter, max_limit=limit)

    def rows(self, image: ImageRow, filter: Filter) -> list[Hit]:
        """The committed rows of one image that match a filter (which names no images), nearest first."""
        index, limit = self.context.index, self.context.max_limit
        search = index.search_images if self.whole_images else index.search
        found = search(query_code_of(self.asked)[None], limit=limit, filter=replace(filter, images=(image.image,)))[0]
        return [match for match in found if match.generation == image.generation]


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


def find_rank(
    ranking: Ranking, filter: Filter | None, *, is_it: Callable[[Hit], bool], first: int, group_by_image: bool
) -> Rank:
    """Look ever deeper into the ranking, at least at the `first` hits, until a hit is it or there are no more."""
    most = ranking.context.max_limit
    depth = first
    while True:
        request = PageRequest(
            limit=depth, group_by_image=group_by_image, rescore=ranking.rescore, most_bits=ranking.most_bits
        )
        page = ranking.page(request, filter)
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


def excluding_parts(ranking: Ranking, filter: Filter | None, image: ImageRow, region: int | None) -> list[str]:
    """The parts of a filter, each taken alone, that the region (None: the image) does not pass."""
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
    if filter.within and not any(ref.bucket == bucket and ref.key.startswith(key) for bucket, key in filter.within):
        excluding.append("within")
    for name, part in _other_parts(filter).items():
        rows = ranking.rows(image, part)
        if not any(row.region == region for row in rows):
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
