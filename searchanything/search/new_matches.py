"""What is new of what matches: the nearest regions of images whose content was first indexed since a moment.

Rows carry the time of their attempt (`indexed_at_ms`), and image rows that of the first one with the same content
(`first_at_ms`). A filter on the first keeps a search to what was written lately; the second leaves out what was only
indexed again, by `--force`, for other metadata or by other models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import ImageRow
from searchanything.core.types import CodeKind, Codes, Filter, Hit, ImageRef
from searchanything.search.by_words import search_words
from searchanything.search.search import Page, PageRequest, search_images, search_regions

MATCHES_OF_A_SEARCH: Final = 1000  # of one answer; where there are more, shorter stretches of time are asked for


@dataclass(frozen=True, slots=True, eq=False)
class Sought:
    """What is looked for: at most `most_bits` from a code (B,) uint8 of one kind, where the filter holds.

    In rows since `since_ms`, of contents that were first indexed since `new_from_ms`.
    """

    code: Codes
    kind: CodeKind
    most_bits: int
    filter: Filter | None
    since_ms: int
    new_from_ms: int

    def within(self, low_ms: int, high_ms: int | None) -> Filter:
        """The filter, of rows that were written between two moments, both included."""
        return replace(self.filter or Filter(), indexed_at_ms=(low_ms, high_ms))


@dataclass(frozen=True, slots=True)
class NewMatch:
    """The nearest region of an image (or the image as a whole), and when the image's content was first indexed."""

    hit: Hit
    first_at_ms: int


def new_matches(index: RegionIndex, wanted: Sought, *, now_ms: int) -> Iterator[tuple[list[NewMatch], int]]:
    """Images that are new and match, the oldest stretch of time first; with each stretch the moment up to which it is.

    `now_ms` is the end of the last one, which has no upper bound: another machine's clock may be ahead.

    Raises: FilterError, RegionIndexError.
    """
    stretches: list[tuple[int, int | None]] = [(wanted.since_ms, None)]
    while stretches:
        low, high = stretches.pop()
        end = now_ms if high is None else high
        page = _page(index, wanted, wanted.within(low, high))
        is_cut = len(page.hits) >= MATCHES_OF_A_SEARCH or (index.exact and not page.exact)
        if is_cut and low < end:
            middle = (low + end) // 2
            stretches += [(middle + 1, high), (low, middle)]
            continue
        images = index.newest({hit.image for hit in page.hits}) if page.hits else {}
        yield new_of(page.hits, images, wanted.new_from_ms), end


def _page(index: RegionIndex, wanted: Sought, filter: Filter) -> Page:
    searches = {"regions": search_regions, "images": search_images, "words": search_words}
    limit = min(MATCHES_OF_A_SEARCH, index.max_limit)
    request = PageRequest(limit=limit, group_by_image=True, most_bits=wanted.most_bits)
    return searches[wanted.kind](index, wanted.code, request, filter=filter)


def new_of(hits: Sequence[Hit], images: Mapping[ImageRef, ImageRow], new_from_ms: int) -> list[NewMatch]:
    """Those whose content was first indexed since then, by their images' newest rows."""
    return [
        NewMatch(hit, images[hit.image].first_at_ms)
        for hit in hits
        if hit.image in images and images[hit.image].etag == hit.etag and images[hit.image].first_at_ms >= new_from_ms
    ]
