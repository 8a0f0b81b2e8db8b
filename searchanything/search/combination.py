"""Images that hold several things: all of some, any of others, none of further ones.

No part is a range search: each part brings its nearest regions, and what an image lacks among them is bounded by the
farthest of them. Images are looked at whole in the order of that bound, until no image that was not looked at could be
better (Fagin, Lotem and Naor: Optimal aggregation algorithms for middleware, 2003). Costs are logarithms of false-match
rates, so that a part whose code lies in a crowd counts less; where a part is there for sure they hardly fall further:
one that is very near does not stand for another that is missing. Different parts of `all_of` take different regions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from searchanything.core.arguments import check_filter_kind, whole_number_of
from searchanything.core.codes import hamming, stacked
from searchanything.core.errors import FilterError, UsageError
from searchanything.core.libraries import importing
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import RegionRow
from searchanything.core.short_reprs import ShortRepr
from searchanything.core.types import NONE_RATE, Codes, Filter, ImageRef
from searchanything.search.calibration import LEAST_CODES, Rates
from searchanything.search.committed import committed

_DEPTH: Final = 4096  # regions that each part brings
MAX_PARTS: Final = 16
SURE_RATE: Final = 1e-4  # a part is there for sure; what is still nearer counts a tenth (docs/adr/0061)
_BEYOND_SURE: Final = 0.1
_IMAGES_AT_ONCE: Final = 128


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One thing: its code (B,), what chance explains at each distance (None: unknown), and its name for people."""

    name: str
    code: Codes
    rates: Rates | None

    @property
    def costs(self) -> NDArray[np.float64]:
        """(bits + 1,) what a region at each distance costs, at most 0."""
        if self.rates is None:
            return np.arange(8 * len(self.code) + 1) / (8 * len(self.code)) - 1
        logs, sure = np.log(self.rates), np.log(SURE_RATE)
        return np.asarray(np.maximum(logs, sure) + _BEYOND_SURE * np.minimum(logs - sure, 0.0))


@dataclass(frozen=True, slots=True, eq=False)
class Combination:
    """What is asked. `max_false_match`: each part must be as near as so few unrelated regions are; None: no cut.

    Raises: UsageError without a part that must be there, or with too many.
    """

    all_of: tuple[Part, ...] = ()
    any_of: tuple[Part, ...] = ()
    none_of: tuple[Part, ...] = ()
    none_rate: float = NONE_RATE
    max_false_match: float | None = None

    def __post_init__(self) -> None:
        if not self.wanted:
            raise UsageError("expected at least one part in all_of or any_of: none_of alone finds nearly everything")
        if len(self.wanted) + len(self.none_of) > MAX_PARTS:
            raise UsageError(f"expected at most {MAX_PARTS} parts, got {len(self.wanted) + len(self.none_of)}")
        if any(part.rates is None for part in self.none_of):
            raise UsageError(f"none_of needs an index of at least {LEAST_CODES} committed codes to say what is near")
        if self.max_false_match is not None and any(part.rates is None for part in self.wanted):
            raise UsageError(
                f"max_false_match needs an index of at least {LEAST_CODES} committed codes to compare with"
            )

    @property
    def wanted(self) -> tuple[Part, ...]:
        """The parts that count for an image."""
        return self.all_of + self.any_of

    @property
    def most_costs(self) -> list[float]:
        """What each wanted part may cost; costs rise with the distance, as rates do."""
        if self.max_false_match is None:
            return [np.inf] * len(self.wanted)
        near = [0 if part.rates is None else int((part.rates <= self.max_false_match).sum()) for part in self.wanted]
        return [
            float(part.costs[count - 1]) if count else -np.inf for part, count in zip(self.wanted, near, strict=True)
        ]

    def suffices(self, hit: CombinedHit) -> bool:
        """Whether an image shows every part as surely as was asked for."""
        most = self.max_false_match
        needed = len(self.all_of) + bool(self.any_of)
        return most is None or (len(hit.parts) == needed and all((one.false_match or 0.0) <= most for one in hit.parts))


@dataclass(frozen=True, slots=True, repr=False)
class PartMatch(ShortRepr):
    """The region that stands for a part in an image."""

    _shown: ClassVar[tuple[str, ...]] = ("part", "distance_bits", "false_match")
    part: str
    row: RegionRow
    distance_bits: int
    false_match: float | None


@dataclass(frozen=True, slots=True, repr=False)
class CombinedHit(ShortRepr):
    """An image with a region for each part of `all_of` and the best of `any_of`. `score`: the higher, the better."""

    _shown: ClassVar[tuple[str, ...]] = ("image", "score", "parts")
    image: ImageRef
    score: float
    parts: tuple[PartMatch, ...]


@dataclass(frozen=True, slots=True)
class CombinedPage:
    """The best images. `exact`: no image of the index scores higher than the last; else some may be missed.

    `looked_at` images were compared whole; `excluded` of them hold a part of `none_of`. `unsure` images lack a part at
    the rate that was asked for.
    """

    hits: tuple[CombinedHit, ...]
    exact: bool
    looked_at: int
    excluded: int
    unsure: int


def search_combined(
    index: RegionIndex, asked: Combination, *, limit: int, filter: Filter | None = None
) -> CombinedPage:
    """The images that hold what is asked, best first. Raises: FilterError, UsageError, RegionIndexError."""
    limit = whole_number_of(limit, "limit", least=1)
    check_filter_kind(filter)
    if filter is not None and (filter.area_px, filter.size_class, filter.expression) != ((None, None), None, None):
        raise FilterError("images are looked at whole: filter them by bucket, key_prefix, images, metadata or where")
    bounds = _Bounds.of(index, asked, filter, depth=min(index.max_limit, _DEPTH))
    hits: list[CombinedHit] = []
    excluded = 0
    order = bounds.order()
    unsure = len(bounds.found) - len(order)
    for start in range(0, len(order), _IMAGES_AT_ONCE):
        portion = order[start : start + _IMAGES_AT_ONCE]
        # An image that could score the same may come first by its name.
        if len(hits) >= limit and -hits[limit - 1].score < bounds.of_image(portion[0]):
            return CombinedPage(tuple(hits[:limit]), index.exact, start, excluded, unsure)
        for rows in _rows_of(index, portion).values():
            if _holds_any(rows, asked):
                excluded += 1
                continue
            hit = _hit(rows, asked)
            if asked.suffices(hit):
                hits.append(hit)
            else:
                unsure += 1
        hits.sort(key=lambda hit: (-hit.score, hit.image))
    last = -hits[limit - 1].score if len(hits) >= limit else np.inf
    exact = index.exact and (bounds.complete or not bounds.may_suffice({}) or last <= bounds.of_others)
    return CombinedPage(tuple(hits[:limit]), exact, len(order), excluded, unsure)


@dataclass(frozen=True, slots=True)
class Examined:
    """One image as a search looks at it, whether it would or not.

    `hit` is what it would be as an answer. `nearest` is its nearest region to each wanted part, `unwanted` that to each
    part of `none_of`. `brought_by` are the parts whose nearest `depth` regions hold one of its own.
    """

    hit: CombinedHit
    costs: Mapping[str, float]
    nearest: tuple[PartMatch, ...]
    unwanted: tuple[PartMatch, ...]
    brought_by: tuple[str, ...]
    depth: int


def examine(index: RegionIndex, asked: Combination, image: ImageRef, *, filter: Filter | None) -> Examined | None:
    """What a search finds in an image; None without a region. `costs` are of the parts of the hit, by name.

    Raises: FilterError, RegionIndexError.
    """
    rows = _rows_of(index, [image]).get(image)
    if not rows:
        return None
    depth = min(index.max_limit, _DEPTH)
    bounds = _Bounds.of(index, asked, filter, depth=depth)
    hit, parts = _hit(rows, asked), {part.name: part for part in asked.wanted}
    brought = bounds.found.get(image, {})
    return Examined(
        hit=hit,
        costs={one.part: float(parts[one.part].costs[one.distance_bits]) for one in hit.parts},
        nearest=tuple(_nearest(part, rows) for part in asked.wanted),
        unwanted=tuple(_nearest(part, rows) for part in asked.none_of),
        brought_by=tuple(part.name for number, part in enumerate(asked.wanted) if number in brought),
        depth=depth,
    )


def _nearest(part: Part, rows: Sequence[RegionRow]) -> PartMatch:
    distances = hamming(part.code[None], _codes(rows))[0]
    best = int(distances.argmin())
    return _match(part, rows[best], int(distances[best]))


@dataclass(slots=True)
class _Bounds:
    """What each image must cost at least, by the parts' nearest regions."""

    asked: Combination
    farthest: list[float] = field(default_factory=list)
    found: dict[ImageRef, dict[int, float]] = field(default_factory=dict)
    complete: bool = True

    @classmethod
    def of(cls, index: RegionIndex, asked: Combination, filter: Filter | None, *, depth: int) -> _Bounds:
        bounds = cls(asked)
        codes = np.stack([part.code for part in asked.wanted])
        for number, matches in enumerate(index.search(codes, limit=depth, filter=filter)):
            costs = asked.wanted[number].costs
            for match in matches:
                of_image = bounds.found.setdefault(match.image, {})
                of_image.setdefault(number, float(costs[match.distance_bits]))
            whole = len(matches) < depth  # then whoever is not among them has no region at all
            bounds.complete &= whole
            bounds.farthest.append(0.0 if whole else float(costs[matches[-1].distance_bits]))
        return bounds

    @property
    def of_others(self) -> float:
        """Of an image that no part brought."""
        return self._sum({})

    def of_image(self, image: ImageRef) -> float:
        return self._sum(self.found[image])

    def order(self) -> list[ImageRef]:
        """The images that any part brought and that may suffice, the least bound first."""
        some = [image for image, costs in self.found.items() if self.may_suffice(costs)]
        return sorted(some, key=lambda image: (self.of_image(image), image))

    def may_suffice(self, costs: Mapping[int, float]) -> bool:
        """Whether an image with these costs at least can show every part as surely as was asked for."""
        enough = [costs.get(number, self.farthest[number]) <= most for number, most in enumerate(self.asked.most_costs)]
        needed = len(self.asked.all_of)
        return all(enough[:needed]) and (not self.asked.any_of or any(enough[needed:]))

    def _sum(self, costs: Mapping[int, float]) -> float:
        every = [costs.get(number, farthest) for number, farthest in enumerate(self.farthest)]
        needed = len(self.asked.all_of)
        return sum(every[:needed]) + min(every[needed:], default=0.0)


def _rows_of(index: RegionIndex, images: Sequence[ImageRef]) -> dict[ImageRef, list[RegionRow]]:
    """The committed regions of images."""
    rows: dict[ImageRef, list[RegionRow]] = {}
    for row in committed(index, list(index.regions_of(images))):
        rows.setdefault(row.image, []).append(row)
    return rows


def _codes(rows: Sequence[RegionRow]) -> Codes:
    """The codes of regions, of which there is one at least."""
    return stacked((row.code for row in rows), 8 * len(rows[0].code))


def _holds_any(rows: Sequence[RegionRow], asked: Combination) -> bool:
    """True if a region is nearer to a part of `none_of` than chance allows."""
    codes = _codes(rows)
    return any(
        part.rates is not None and float(part.rates[int(hamming(part.code[None], codes)[0].min())]) <= asked.none_rate
        for part in asked.none_of
    )


def _hit(rows: list[RegionRow], asked: Combination) -> CombinedHit:
    codes = _codes(rows)
    distances = hamming(np.stack([part.code for part in asked.wanted]), codes)
    costs = np.stack([part.costs[row] for part, row in zip(asked.wanted, distances, strict=True)])
    needed = len(asked.all_of)
    # An image with fewer regions than parts gives the others nothing: they cost what no match costs.
    with importing():
        from scipy.optimize import linear_sum_assignment  # half of what `status` would load otherwise

    parts, chosen = linear_sum_assignment(costs[:needed])
    pairs = list(zip(parts.tolist(), chosen.tolist(), strict=True))
    if asked.any_of:
        place = int(costs[needed:].argmin())
        pairs.append((needed + place // len(rows), place % len(rows)))
    matches = tuple(_match(asked.wanted[part], rows[one], int(distances[part, one])) for part, one in pairs)
    return CombinedHit(rows[0].image, -float(sum(costs[part, one] for part, one in pairs)), matches)


def _match(part: Part, row: RegionRow, distance_bits: int) -> PartMatch:
    rate = None if part.rates is None else float(part.rates[distance_bits])
    return PartMatch(part.name, row, distance_bits, rate)
