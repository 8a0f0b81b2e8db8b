"""New matches of many queries that have few each: one search is asked for up to 64 of them at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from searchanything.core.batching import batches
from searchanything.core.codes import stacked
from searchanything.core.errors import FilterError
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import ImageRow, RegionRow, WordsMatch
from searchanything.core.types import Hit, ImageRef
from searchanything.search.new_matches import NewMatch, Sought, new_of
from searchanything.search.search import order_of

CODES_AT_ONCE: Final = 64  # of one question to the index
TOGETHER_MS: Final = 600_000  # queries that have come as far as this are one question
ROWS: Final = (1, 8, 32)  # of each code, in one round after the other, until not all of them are near enough
_Near: TypeAlias = Sequence[Hit | WordsMatch]


def few_matches(index: RegionIndex, wanted: Sequence[Sought]) -> list[list[NewMatch] | None]:
    """The new matches of each; None where `new_matches` has to look: for they are not few, or cannot be told so.

    That is so where the index is approximate, or an image is being replaced, or for a filter that the index does not
    understand. One search is for all that differ in nothing but the code. Queries that matched at different times have
    come differently far: they are asked together, of some rows too many. Raises: RegionIndexError.
    """
    groups: dict[tuple[str, int, str], list[int]] = {}
    for number, one in enumerate(wanted):
        groups.setdefault((one.kind, one.since_ms // TOGETHER_MS, repr(one.filter)), []).append(number)
    near: dict[int, _Near] = {}
    for numbers in groups.values():
        near.update(_near(index, wanted, numbers))
    return _new(index, wanted, near)


def _near(index: RegionIndex, wanted: Sequence[Sought], numbers: Sequence[int]) -> dict[int, _Near]:
    """The rows near enough of those of the numbered that have few, committed or not."""
    known: dict[int, _Near] = {}
    for limit in ROWS if index.exact else ROWS[:1]:
        left = list[int]()
        for some in batches(numbers, CODES_AT_ONCE):
            try:
                found = _nearest(index, [wanted[number] for number in some], limit)
            except FilterError:
                return {}
            for number, rows in zip(some, found, strict=True):
                most_bits = wanted[number].most_bits
                if len(rows) < limit or rows[-1].distance_bits > most_bits:
                    known[number] = [row for row in rows if row.distance_bits <= most_bits]
                else:
                    left.append(number)
        numbers = left
    return known


def _nearest(index: RegionIndex, alike: Sequence[Sought], limit: int) -> Sequence[_Near]:
    """The nearest rows of each, of such as differ in code and moment alone."""
    first = alike[0]
    codes = stacked((one.code.tobytes() for one in alike), 8 * len(first.code))
    lately = first.within(min(one.since_ms for one in alike), None)
    if first.kind == "words":
        return index.search_words(codes, limit=limit, filter=lately)
    return (index.search if first.kind == "regions" else index.search_images)(codes, limit=limit, filter=lately)


def _new(index: RegionIndex, wanted: Sequence[Sought], near: Mapping[int, _Near]) -> list[list[NewMatch] | None]:
    """What is new of the rows near enough, with one question for all of their images; None where that is not known."""
    images = {row.image for rows in near.values() for row in rows}
    newest = index.newest(images) if images else {}
    committed = {number: _committed(rows, newest) for number, rows in near.items()}
    ids = {row.id for rows in committed.values() for row in rows or () if isinstance(row, WordsMatch)}
    regions = index.regions(ids) if ids else {}
    found: list[list[NewMatch] | None] = [None] * len(wanted)
    for number, rows in committed.items():
        if rows is not None:
            found[number] = new_of(list(_hits(rows, regions)), newest, wanted[number].new_from_ms)
    return found


def _committed(rows: _Near, newest: Mapping[ImageRef, ImageRow]) -> _Near | None:
    """The nearest row of each image; None where there is one of an image that was replaced."""
    nearest: dict[ImageRef, Hit | WordsMatch] = {}
    for row in sorted(rows, key=order_of):
        generation = newest[row.image].generation if row.image in newest else -1
        if row.generation < generation:
            return None
        if row.generation == generation:
            nearest.setdefault(row.image, row)
    return list(nearest.values())


def _hits(rows: _Near, regions: Mapping[str, RegionRow]) -> Iterator[Hit]:
    for row in rows:
        if isinstance(row, Hit):
            yield row
        elif row.id in regions:
            yield Hit.of(regions[row.id], row.distance_bits)
