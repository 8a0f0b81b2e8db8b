"""A text alone → hits: words codes by distance, rescored by the text's projection, joined with their region rows.

The ranking is that of `search`: by distance, bucket, key and region, the window by score, grouped if asked.
"""

from __future__ import annotations

from searchanything.core.protocols import RegionIndex
from searchanything.core.types import Filter, Hit, ImageRef, RegionRow, WordsMatch
from searchanything.search.rescoring import QueryValues, Ranked, Window
from searchanything.search.search import Page, PageRequest, RowRanking, collect


def search_words(
    index: RegionIndex, values: QueryValues, request: PageRequest, *, filter: Filter | None, max_limit: int
) -> Page:
    """The regions nearest to a text. Raises: FilterError, UsageError, RegionIndexError (also without words codes)."""

    def fetch(limit: int) -> list[WordsMatch]:
        return index.search_words(values.code[None], limit=limit, filter=filter)[0]

    def order(match: WordsMatch) -> tuple[int, ImageRef, int]:
        return match.distance_bits, match.image, match.region

    depth = min(request.rescore, max_limit)
    window: Window[WordsMatch] | None = Window(index, values.projection, depth, "words") if depth else None
    ranked, exact, stages = collect(index, RowRanking(fetch, order, window), request, max_limit=max_limit)
    rows = index.regions([one.match.id for one in ranked])
    hits = tuple(_hit(rows[one.match.id], one) for one in ranked if one.match.id in rows)
    return Page(hits, exact=exact and index.exact and len(hits) == len(ranked), stages=stages)


def _hit(row: RegionRow, ranked: Ranked[WordsMatch]) -> Hit:
    return Hit(
        image=row.image,
        etag=row.etag,
        region=row.region,
        box_xyxy=row.box_xyxy,
        mask=row.mask,
        area_px=row.area_px,
        score=row.score,
        distance_bits=ranked.match.distance_bits,
        image_width=row.image_width,
        image_height=row.image_height,
        metadata=row.metadata,
        similarity=ranked.score,
    )
