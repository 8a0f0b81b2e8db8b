"""Code → hits: what is committed, nearest first, in pages, grouped by image if asked.

An index answers with rows as they lie there; this module drops what is not the newest committed generation of its
image (design decision 2), settles ties, groups (decision 8), and says whether the answer is exact.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from searchanything.core.errors import UsageError
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import Codes, Filter, Hit, ImageMatch, ImageRef, RegionMatch

GROWTH = 4  # each further round fetches so many times more
SLACK = 16  # fetched beyond the page in the first round, for stale rows and ties


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of a ranking. `exact` is False where the index is approximate or its limit cut the search short."""

    hits: tuple[Hit, ...]
    exact: bool


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which stretch of the ranking is wanted.

    Raises: UsageError for what is no whole number, a negative offset or a limit below 1.
    """

    limit: int = 10
    offset: int = 0
    group_by_image: bool = False

    def __post_init__(self) -> None:
        for name in ("limit", "offset"):
            try:
                object.__setattr__(self, name, operator.index(getattr(self, name)))
            except TypeError:
                raise UsageError(f"expected a whole number as {name}, got {getattr(self, name)!r}") from None
        if self.limit < 1 or self.offset < 0:
            raise UsageError(f"expected limit ≥ 1 and offset ≥ 0, got limit {self.limit}, offset {self.offset}")


_Match = TypeVar("_Match", RegionMatch, ImageMatch)


def search_regions(
    index: RegionIndex, code: Codes, request: PageRequest, *, filter: Filter | None, max_limit: int
) -> Page:
    """The regions nearest to a code (B,) uint8, by (distance, bucket, key, region number).

    Raises: FilterError, UsageError (a page beyond `max_limit` rows), RegionIndexError.
    """

    def fetch(limit: int) -> list[RegionMatch]:
        return index.search(code[None], limit=limit, filter=filter)[0]

    def order(match: RegionMatch) -> tuple[int, ImageRef, int]:
        return match.distance_bits, match.image, match.region

    matches, exact = _collect(index, fetch, order, request, max_limit=max_limit)
    return Page(tuple(region_hit(match) for match in matches), exact=exact and index.exact)


def refuse_as_a_search(index: RegionIndex, request: PageRequest, *, filter: Filter | None, max_limit: int) -> None:
    """Refuse a page and a filter as `search_regions` would, where there is nothing to search for.

    Only the index itself can tell whether it understands an expression, so it is asked for one row.

    Raises: FilterError, UsageError, RegionIndexError.
    """
    _check_page(request, max_limit)
    if filter is not None:
        index.search(np.zeros((1, index.manifest.bits // 8), dtype=np.uint8), limit=1, filter=filter)


def search_images(
    index: RegionIndex, code: Codes, request: PageRequest, *, filter: Filter | None, max_limit: int
) -> Page:
    """The images nearest to a whole-image code, by (distance, bucket, key). Raises as `search_regions` does."""

    def fetch(limit: int) -> list[ImageMatch]:
        return index.search_images(code[None], limit=limit, filter=filter)[0]

    def order(match: ImageMatch) -> tuple[int, ImageRef]:
        return match.distance_bits, match.image

    matches, exact = _collect(index, fetch, order, request, max_limit=max_limit)
    return Page(tuple(_image_hit(match) for match in matches), exact=exact and index.exact)


def _check_page(request: PageRequest, max_limit: int) -> int:
    """Where the page ends. Raises: UsageError."""
    end = request.offset + request.limit
    if end > max_limit:
        raise UsageError(f"expected offset + limit ≤ {max_limit}, got {end}; narrow the search with a filter")
    return end


def _collect(
    index: RegionIndex,
    fetch: Callable[[int], list[_Match]],
    order: Callable[[_Match], tuple[int, ImageRef] | tuple[int, ImageRef, int]],
    request: PageRequest,
    *,
    max_limit: int,
) -> tuple[list[_Match], bool]:
    """Fetch ever more rows until the page is settled, the index exhausted, or its limit reached."""
    end = _check_page(request, max_limit)
    limit = min(max_limit, 2 * end + SLACK)
    generations: dict[ImageRef, int] = {}
    repeated = False
    while True:
        matches = fetch(limit)
        live, outdated = _committed(index, matches, generations)
        if outdated and not repeated:  # an image was replaced between the two reads: look again, once
            generations.clear()
            repeated = True
            continue
        exhausted = len(matches) < limit
        # The farthest distance may go on beyond the last row: only what is nearer is settled.
        last = matches[-1].distance_bits if matches else 0
        settled = sorted((one for one in live if exhausted or one.distance_bits < last), key=order)
        page = _first_of_each_image(settled) if request.group_by_image else settled
        if len(page) >= end or exhausted:
            return page[request.offset : end], True
        if limit >= max_limit:
            live.sort(key=order)
            page = _first_of_each_image(live) if request.group_by_image else live
            return page[request.offset : end], False
        limit = min(max_limit, limit * GROWTH)


def _committed(
    index: RegionIndex, matches: Sequence[_Match], generations: dict[ImageRef, int]
) -> tuple[list[_Match], bool]:
    """The matches of the newest committed generation, and whether any was of an older one.

    `generations` remembers what was asked; -1 stands for an image without a commit. A row younger than what is
    remembered is either not committed or was so since: its image is asked for again.
    """
    unknown = {match.image for match in matches if match.generation > generations.get(match.image, -1)}
    if unknown:
        generations.update(dict.fromkeys(unknown, -1))
        generations.update({image: row.generation for image, row in index.newest(unknown).items()})
    live = [match for match in matches if generations[match.image] == match.generation]
    return live, any(match.generation < generations[match.image] for match in matches)


def _first_of_each_image(matches: Iterable[_Match]) -> list[_Match]:
    best: dict[ImageRef, _Match] = {}
    for match in matches:
        best.setdefault(match.image, match)
    return list(best.values())


def region_hit(match: RegionMatch) -> Hit:
    """A match as people get it."""
    return Hit(
        image=match.image,
        etag=match.etag,
        region=match.region,
        box_xyxy=match.box_xyxy,
        mask=match.mask,
        area_px=match.area_px,
        score=match.score,
        distance_bits=match.distance_bits,
        image_width=match.image_width,
        image_height=match.image_height,
        metadata=match.metadata,
    )


def _image_hit(match: ImageMatch) -> Hit:
    width, height = match.image_width, match.image_height
    return Hit(
        image=match.image,
        etag=match.etag,
        region=None,
        box_xyxy=(0.0, 0.0, float(width), float(height)),
        mask=None,
        area_px=width * height,
        score=1.0,
        distance_bits=match.distance_bits,
        image_width=width,
        image_height=height,
        metadata=match.metadata,
    )
