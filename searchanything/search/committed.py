"""Which rows are the image: those of its newest committed generation. All others are garbage, or were replaced."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol, TypeVar

from searchanything.core.manifest import IndexCounts
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import ImageRef


class OfImage(Protocol):
    """What is of one generation of an image: a row, a hit, a stored code."""

    @property
    def image(self) -> ImageRef: ...

    @property
    def generation(self) -> int: ...


Row = TypeVar("Row", bound=OfImage)


def holds_rows(index: RegionIndex) -> bool:
    """Whether anything is in an index; to be asked before it is dropped. Raises: RegionIndexError.

    A server that was restarted may count no rows for a while. A stream waits for all that anybody wrote.
    """
    counted = index.count_regions() > 0 or index.counts() != IndexCounts(0, 0, 0, 0)
    return counted or any(True for rows in (index.iterate_states(), index.iterate_attempts()) for _ in rows)


def committed(index: RegionIndex, rows: Collection[Row]) -> list[Row]:
    """The rows of their images' newest committed generations, in the same order. Raises: RegionIndexError."""
    images = {one.image for one in rows}
    newest = index.generations(images) if images else {}
    return [one for one in rows if newest.get(one.image) == one.generation]
