"""Code → hits: what is committed, nearest first, in pages, grouped by image if asked.

An index answers with rows as they lie there; this module drops what is not the newest committed generation of its
image (design decision 2), settles ties, rescores the nearest where asked, groups (decision 8), and says whether the
answer is exact. A ranking is: all committed rows (at most `most_bits` away, where there is such a bound) by distance,
bucket, key and region; of these the first `rescore` ones by score (`rescoring`); then the first row of each image, if
grouped. Pages are stretches of it.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias

import numpy as np

from searchanything.core.arguments import check_flags, whole_number_of
from searchanything.core.errors import UsageError
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import WordsMatch
from searchanything.core.types import CodeKind, Codes, Filter, Hit, ImageRef
from searchanything.search.rescoring import Match, QueryValues, Ranked, Window, scored

_GROWTH = 4  # each further round fetches so many times more
SLACK = 16  # fetched beyond the page in the first round, for stale rows and ties; and a quarter of the page
Order: TypeAlias = tuple[int, str, str, int]  # distance, bucket, key, region: compared without a call
Asked: TypeAlias = Codes | QueryValues  # a code (B,) uint8 alone, or with what it was made of: then it can be rescored


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of a search: what it took, and how many rows it looked at."""

    name: str
    ms: float
    candidates: int


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of a ranking. `exact` is False where the index is approximate or its limit cut the search short.

    `stages` says what it took: the search, and the rescoring where there was one. `nearest` is the nearest row of the
    whole ranking and beyond its bound, on whatever page.
    """

    hits: tuple[Hit, ...]
    exact: bool
    stages: tuple[Stage, ...] = ()
    nearest: Hit | None = None


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which stretch of the ranking is wanted, of which the first `rescore` rows by distance are ordered by score.

    What is farther than `most_bits` is left out before anything is counted; -1 leaves nothing, None all.

    Raises: UsageError for what is no whole number, a negative offset or window, a limit below 1, or a `group_by_image`
    that is neither true nor false.
    """

    limit: int = 10
    offset: int = 0
    group_by_image: bool = False
    rescore: int = 0
    most_bits: int | None = None

    def __post_init__(self) -> None:
        check_flags(group_by_image=self.group_by_image)
        for name, least in (("limit", 1), ("offset", 0), ("rescore", 0)):
            object.__setattr__(self, name, whole_number_of(getattr(self, name), name, least=least))


@dataclass(frozen=True, slots=True)
class Stretch(Generic[Match]):
    """A stretch of a ranking as it was read: as `Page`, before rows become hits."""

    rows: list[Ranked[Match]]
    exact: bool
    stages: tuple[Stage, ...]
    nearest: Match | None


@dataclass(frozen=True, slots=True, eq=False)
class RowRanking(Generic[Match]):
    """How a ranking is read: rows by distance, which `order_of` orders wholly, and the window that is rescored."""

    fetch: Callable[[int], list[Match]]
    window: Window[Match] | None

    def page(self, matches: Sequence[Match], *, group_by_image: bool) -> list[Ranked[Match]]:
        """Matches, which come in their total order, in their final one; of each image the first alone, if grouped."""
        ranked = [Ranked(one) for one in matches] if self.window is None else self.window.arrange(matches)
        return _first_of_each_image(ranked) if group_by_image else ranked

    @property
    def depth(self) -> int:
        """How many rows must be known before any has its place."""
        return 0 if self.window is None else self.window.depth

    @property
    def lost_rows(self) -> bool:
        """Whether rows were gone when their codes were asked for."""
        return self.window is not None and self.window.lost_rows

    def stages(self, start: float, rows: int) -> tuple[Stage, ...]:
        """What the search took, begun at `start` (`time.perf_counter`)."""
        spent = (time.perf_counter() - start) * 1000
        if self.window is None:
            return (Stage("search", spent, rows),)
        rescoring = Stage("rescore", self.window.spent_ms, self.window.rescored)
        return Stage("search", spent - rescoring.ms, rows), rescoring


def search_regions(index: RegionIndex, asked: Asked, request: PageRequest, *, filter: Filter | None) -> Page:
    """The regions nearest to a code, by (distance, bucket, key, region number), the first of them rescored.

    Raises: FilterError, UsageError (a page beyond the rows that an index gives), RegionIndexError.
    """
    return _page(index, index.search, asked, request, filter, of="regions")


def refuse_as_a_search(index: RegionIndex, request: PageRequest, *, filter: Filter | None) -> None:
    """Refuse a page and a filter as `search_regions` would, where there is nothing to search for.

    Only the index itself can tell whether it understands an expression, so it is asked for one row.

    Raises: FilterError, UsageError, RegionIndexError.
    """
    _check_page(index, request)
    if filter is not None:
        index.search(np.zeros((1, index.manifest.bits // 8), dtype=np.uint8), limit=1, filter=filter)


def search_images(index: RegionIndex, asked: Asked, request: PageRequest, *, filter: Filter | None) -> Page:
    """The images nearest to a whole-image code, by (distance, bucket, key). Raises as `search_regions` does."""
    return _page(index, index.search_images, asked, request, filter, of="images")


def _page(
    index: RegionIndex,
    search: Callable[..., Sequence[list[Hit]]],
    asked: Asked,
    request: PageRequest,
    filter: Filter | None,
    *,
    of: CodeKind,
) -> Page:
    code = query_code_of(asked)[None]
    window: Window[Hit] | None = window_of(index, asked, request, of=of)
    ranking = RowRanking(lambda limit: search(code, limit=limit, filter=filter)[0], window)
    found = collect_ranked(index, ranking, request)
    hits = tuple(scored(one.match, one.score) for one in found.rows)
    return Page(hits, exact=found.exact and index.exact, stages=found.stages, nearest=found.nearest)


def order_of(match: Hit | WordsMatch) -> Order:
    """Where a row stands in a ranking by distance; the number of a whole image counts as 0."""
    return match.distance_bits, match.image.bucket, match.image.key, match.region or 0


def query_code_of(asked: Asked) -> Codes:
    """What is compared first: the code (B,)."""
    return asked.code if isinstance(asked, QueryValues) else asked


def window_of(index: RegionIndex, asked: Asked, request: PageRequest, *, of: CodeKind) -> Window[Match] | None:
    """The window to rescore, None where that is not asked for or only a code is known."""
    if not isinstance(asked, QueryValues) or not request.rescore:
        return None
    return Window(index, asked.projection, min(request.rescore, index.max_limit), of)


def _check_page(index: RegionIndex, request: PageRequest) -> int:
    """Where the page ends. Raises: UsageError."""
    end, most = request.offset + request.limit, index.max_limit
    if end > most:
        raise UsageError(
            f"limit and offset together may be {most:,} at most, got {end:,}: narrow the search with a filter"
        )
    return end


def collect_ranked(index: RegionIndex, ranking: RowRanking[Match], request: PageRequest) -> Stretch[Match]:
    """Fetch ever more rows until window and page are settled, index or bound exhausted, or the limit reached."""
    start = time.perf_counter()
    end, max_limit = _check_page(index, request), index.max_limit
    limit = min(max_limit, _first_round(max(end, ranking.depth), request))
    search = _Search(index, ranking, request)
    repeated = False
    while True:
        matches, limit = search.fetch(limit)
        look = search.look(matches, is_all=len(matches) < limit)
        page = look.page
        if not look.settled and limit >= max_limit:
            page = ranking.page(look.allowed, group_by_image=request.group_by_image)
        if (look.outdated or ranking.lost_rows) and not repeated:  # an image was replaced meanwhile: look again, once
            search.generations.clear()
            repeated = True
            continue
        if look.settled or limit >= max_limit:
            stages = ranking.stages(start, len(matches))
            return Stretch(page[request.offset : end], look.settled, stages, next(iter(look.live), None))
        limit = min(max_limit, limit * _GROWTH)


@dataclass(frozen=True, slots=True, eq=False)
class _Look(Generic[Match]):
    """What is known of a ranking: rows that are committed, those near enough, and the page, if that is `settled`."""

    live: list[Match]
    allowed: list[Match]
    page: list[Ranked[Match]]
    settled: bool
    outdated: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Search(Generic[Match]):
    """A search under way. `generations` remembers what was asked; -1 stands for an image without a commit."""

    index: RegionIndex
    ranking: RowRanking[Match]
    request: PageRequest
    generations: dict[ImageRef, int] = field(default_factory=dict)

    @property
    def _rows(self) -> int:
        """How many rows must be known."""
        return max(self.request.offset + self.request.limit, self.ranking.depth)

    def fetch(self, limit: int) -> tuple[list[Match], int]:
        """The nearest rows in their total order, and how many were asked for: more where so many cannot settle it."""
        while True:
            matches = sorted(self.ranking.fetch(limit), key=order_of)
            if len(matches) < limit or limit >= self.index.max_limit or self._may_settle(matches):
                return matches, limit
            limit = min(self.index.max_limit, limit * _GROWTH)

    def _may_settle(self, matches: Sequence[Match]) -> bool:
        most_bits, last = self.request.most_bits, matches[-1].distance_bits
        nearer = bisect_left(matches, last, key=lambda one: one.distance_bits)
        return nearer >= self._rows or (most_bits is not None and last > most_bits)

    def look(self, matches: Sequence[Match], *, is_all: bool) -> _Look[Match]:
        """The page as far as these matches, in their total order, decide it. `is_all`: the index has no others.

        As few images as may do are asked for, and all only where rows of these were not committed.
        """
        few = self._likely_rows(matches)
        look = self._look(matches, few, is_all=is_all)
        return look if look.settled or few == len(matches) else self._look(matches, len(matches), is_all=is_all)

    def _likely_rows(self, matches: Sequence[Match]) -> int:
        """How many of the nearest rows hold the page, if nearly all of them are committed."""
        rows = _with_spare(self._rows)
        if self.request.group_by_image:
            images: set[ImageRef] = set()
            wanted = _with_spare(self.request.offset + self.request.limit)
            for number, match in enumerate(matches):
                images.add(match.image)
                if len(images) == wanted:
                    return min(len(matches), max(rows, number + 1))
            return len(matches)
        return min(len(matches), rows)

    def _look(self, matches: Sequence[Match], rows: int, *, is_all: bool) -> _Look[Match]:
        live, outdated = _committed(self.index, matches[:rows], self.generations)
        allowed = _within(live, self.request.most_bits)
        exhausted = len(allowed) < len(live) or (is_all and rows == len(matches))
        # The farthest distance may go on beyond the last row: only what is nearer is certain.
        last = matches[-1].distance_bits if matches else 0
        certain = [one for one in allowed if is_all or exhausted or one.distance_bits < last]
        if not exhausted and len(certain) < self._rows:
            return _Look(live, allowed, [], settled=False, outdated=outdated)
        page = self.ranking.page(certain, group_by_image=self.request.group_by_image)
        settled = exhausted or len(page) >= self.request.offset + self.request.limit
        return _Look(live, allowed, page, settled, outdated)


def _with_spare(rows: int) -> int:
    """So many, and a few for those that turn out not to be committed."""
    return rows + rows // 16 + 2


def _within(matches: list[Match], most_bits: int | None) -> list[Match]:
    """The matches that are near enough."""
    return matches if most_bits is None else [one for one in matches if one.distance_bits <= most_bits]


def _first_round(depth: int, request: PageRequest) -> int:
    """How many rows are fetched first: those of one image lie near to each other, and count once where grouped."""
    return (2 * depth if request.group_by_image else depth + depth // 4) + SLACK


def _committed(
    index: RegionIndex, matches: Sequence[Match], generations: dict[ImageRef, int]
) -> tuple[list[Match], bool]:
    """The matches of the newest committed generation, and whether any was of an older one.

    `generations` are those that were asked for. A row younger than what is known of its image is either not committed
    or was so since: the image is asked for again.
    """
    unknown = {match.image for match in matches if match.generation > generations.get(match.image, -1)}
    if unknown:
        generations.update(dict.fromkeys(unknown, -1))
        generations.update(index.generations(unknown))
    live, outdated = [], False
    for match in matches:
        newest = generations[match.image]
        if newest == match.generation:
            live.append(match)
        elif newest > match.generation:
            outdated = True
    return live, outdated


def _first_of_each_image(ranked: Iterable[Ranked[Match]]) -> list[Ranked[Match]]:
    best: dict[ImageRef, Ranked[Match]] = {}
    for one in ranked:
        best.setdefault(one.match.image, one)
    return list(best.values())
