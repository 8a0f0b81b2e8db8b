"""What is new of what matches: the nearest regions of images whose content was first indexed since a moment.

Rows carry the time of their attempt (`indexed_at_ms`), and image rows that of the first one with the same content
(`first_at_ms`). A filter on the first keeps a search to what was written lately; the second leaves out what was only
indexed again, by `--force`, for other metadata or by other models.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from searchanything.core.batching import batches
from searchanything.core.codes import stacked
from searchanything.core.errors import FilterError
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import WordsMatch
from searchanything.core.types import CodeKind, Codes, Filter, Hit
from searchanything.search.by_words import search_words
from searchanything.search.search import Page, PageRequest, search_images, search_regions

MATCHES_OF_A_SEARCH: Final = 1000  # of one answer; where there are more, shorter stretches of time are asked for
CODES_AT_ONCE: Final = 64  # of one question to the index
TOGETHER_MS: Final = 600_000  # queries that have come as far as this are one question


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


def may_match(index: RegionIndex, wanted: Sequence[Sought]) -> list[bool]:
    """Of which there are rows near enough, committed or not: one search for all that differ in nothing but the code.

    Queries that matched at different times have come differently far: they are asked together, of some rows too many.
    One whose filter the index does not understand may match. Raises: RegionIndexError.
    """
    groups: dict[tuple[str, int, str], list[int]] = {}
    for number, one in enumerate(wanted):
        groups.setdefault((one.kind, one.since_ms // TOGETHER_MS, repr(one.filter)), []).append(number)
    may = [False] * len(wanted)
    for numbers in groups.values():
        for some in batches(numbers, CODES_AT_ONCE):
            alike = [wanted[number] for number in some]
            for number, one, nearest in zip(some, alike, _nearest(index, alike), strict=True):
                may[number] = nearest <= one.most_bits
    return may


def _nearest(index: RegionIndex, alike: Sequence[Sought]) -> list[float]:
    """How far the nearest row of each is, of such as differ in code and moment alone: inf where there is none.

    0 where the index does not understand the filter: who looks closer gets the error.
    """
    first = alike[0]
    codes = stacked((one.code.tobytes() for one in alike), 8 * len(first.code))
    lately = first.within(min(one.since_ms for one in alike), None)
    found: Sequence[Sequence[Hit | WordsMatch]]
    try:
        if first.kind == "words":
            found = index.search_words(codes, limit=1, filter=lately)
        else:
            search = index.search if first.kind == "regions" else index.search_images
            found = search(codes, limit=1, filter=lately)
    except FilterError:
        return [0.0] * len(alike)
    return [rows[0].distance_bits if rows else math.inf for rows in found]


def new_matches(
    index: RegionIndex, wanted: Sought, *, max_limit: int, now_ms: int
) -> Iterator[tuple[list[NewMatch], int]]:
    """Images that are new and match, the oldest stretch of time first; with each stretch the moment up to which it is.

    `now_ms` is the end of the last one, which has no upper bound: another machine's clock may be ahead.

    Raises: FilterError, RegionIndexError.
    """
    stretches: list[tuple[int, int | None]] = [(wanted.since_ms, None)]
    while stretches:
        low, high = stretches.pop()
        end = now_ms if high is None else high
        page = _page(index, wanted, wanted.within(low, high), max_limit)
        is_cut = len(page.hits) >= MATCHES_OF_A_SEARCH or (index.exact and not page.exact)
        if is_cut and low < end:
            middle = (low + end) // 2
            stretches += [(middle + 1, high), (low, middle)]
            continue
        yield _new(index, page.hits, wanted.new_from_ms), end


def _page(index: RegionIndex, wanted: Sought, filter: Filter, max_limit: int) -> Page:
    searches = {"regions": search_regions, "images": search_images, "words": search_words}
    limit = min(MATCHES_OF_A_SEARCH, max_limit)
    request = PageRequest(limit=limit, group_by_image=True, most_bits=wanted.most_bits)
    return searches[wanted.kind](index, wanted.code, request, filter=filter)


def _new(index: RegionIndex, hits: Sequence[Hit], new_from_ms: int) -> list[NewMatch]:
    """Those whose content was first indexed since then."""
    rows = index.newest({hit.image for hit in hits}) if hits else {}
    return [
        NewMatch(hit, rows[hit.image].first_at_ms)
        for hit in hits
        if hit.image in rows and rows[hit.image].etag == hit.etag and rows[hit.image].first_at_ms >= new_from_ms
    ]
