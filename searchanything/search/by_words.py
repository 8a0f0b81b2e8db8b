"""A text alone → hits: words codes by distance, rescored by the text's projection, joined with their region rows.

The ranking is that of `search`: by distance, bucket, key and region, the window by score, grouped if asked.
"""

from __future__ import annotations

from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import WordsMatch
from searchanything.core.types import Filter, Hit
from searchanything.search.rescoring import Window
from searchanything.search.search import (
    Asked,
    Page,
    PageRequest,
    RowRanking,
    collect_ranked,
    query_code_of,
    window_of,
)


def search_words(index: RegionIndex, asked: Asked, request: PageRequest, *, filter: Filter | None) -> Page:
    """The regions nearest to a text. Raises: FilterError, UsageError, RegionIndexError (also without words codes)."""
    code = query_code_of(asked)

    def fetch(limit: int) -> list[WordsMatch]:
        return index.search_words(code[None], limit=limit, filter=filter)[0]

    window: Window[WordsMatch] | None = window_of(index, asked, request, of="words")
    found = collect_ranked(index, RowRanking(fetch, window), request)
    nearest = found.nearest
    rows = index.regions([*(one.match.id for one in found.rows), *([] if nearest is None else [nearest.id])])
    hits = tuple(
        Hit.of(rows[one.match.id], one.match.distance_bits, similarity=one.score)
        for one in found.rows
        if one.match.id in rows
    )
    first = None if nearest is None or nearest.id not in rows else Hit.of(rows[nearest.id], nearest.distance_bits)
    exact = found.exact and index.exact and len(hits) == len(found.rows)
    return Page(hits, exact=exact, stages=found.stages, nearest=first)
