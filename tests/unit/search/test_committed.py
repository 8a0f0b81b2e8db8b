"""Rows of an image's newest committed generation are the image, and no others."""

from __future__ import annotations

import pytest
from contracts.index_rows import image_row, manifest_of, region_row

from searchanything.core.manifest import IndexCounts
from searchanything.core.types import ImageRef
from searchanything.search.committed import committed, holds_rows
from searchanything.stores.memory import MemoryRegionIndex


def test_only_the_newest_commit_counts() -> None:
    index = MemoryRegionIndex(manifest_of("f" * 64))
    replaced, waiting = ImageRef("b", "replaced"), ImageRef("b", "waiting")
    rows = [region_row(replaced, number, generation=age) for age in (1, 2, 3) for number in (0, 1)]
    rows.append(region_row(waiting, 0, generation=1))
    index.insert_images([image_row(replaced, generation=age) for age in (1, 2)])  # 3 is not committed yet
    assert committed(index, rows) == rows[2:4]
    assert committed(index, []) == []


class NotCounting(MemoryRegionIndex):
    """As a server that was restarted: it counts no rows for a while, and streams them all."""

    def count_regions(self, **_: object) -> int:
        return 0

    def counts(self, **_: object) -> IndexCounts:
        return IndexCounts(0, 0, 0, 0)


@pytest.mark.parametrize("kind", [MemoryRegionIndex, NotCounting])
def test_an_index_that_anything_was_written_to_holds_rows(kind: type[MemoryRegionIndex]) -> None:
    image = ImageRef("b", "one")
    regions_alone, images_alone, empty = (kind(manifest_of("f" * 64)) for _ in range(3))
    regions_alone.insert_regions([region_row(image, generation=1)])
    images_alone.insert_images([image_row(image, generation=1, regions=0)])
    assert [holds_rows(index) for index in (regions_alone, images_alone, empty)] == [True, True, False]
