"""An index in memory whose calls can be broken off."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from searchanything.core.rows import ImageRow, RegionRow
from searchanything.core.types import ImageRef
from searchanything.stores.memory import MemoryRegionIndex

SHARES = {"before": 0.0, "half": 0.5, "after": 1.0}  # of a call's effect, by when it breaks


class BreakingIndex(MemoryRegionIndex):
    """Hands each call about rows or images to `through`, which does it, or a part of it and raises."""

    def through(self, call: Callable[..., object], subjects: Collection[object]) -> object:
        raise NotImplementedError

    def insert_regions(self, rows: Sequence[RegionRow]) -> None:
        self.through(super().insert_regions, rows)

    def insert_images(self, rows: Sequence[ImageRow]) -> None:
        self.through(super().insert_images, rows)

    def newest(self, images: Collection[ImageRef]) -> dict[ImageRef, ImageRow]:
        return self.through(super().newest, images)  # type: ignore[return-value]

    def delete_before(self, generations: Mapping[ImageRef, int]) -> None:
        self.through(super().delete_before, generations)

    def delete_regions(self, ids: Collection[str]) -> None:
        self.through(super().delete_regions, ids)

    def delete_images(self, images: Collection[ImageRef]) -> None:
        self.through(super().delete_images, images)


def do_part(call: Callable[..., object], subjects: Collection[object], effect: str) -> None:
    """Do a call for as many of its subjects as it is broken off after."""
    part = list(subjects)[: int(len(subjects) * SHARES[effect])]
    call({one: subjects[one] for one in part} if isinstance(subjects, Mapping) else part)
