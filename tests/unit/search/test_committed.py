"""Rows of an image's newest committed generation are the image, and no others."""

from __future__ import annotations

from contracts.index_rows import image_row, manifest_of, region_row

from searchanything.core.types import ImageRef
from searchanything.search.committed import committed
from searchanything.stores.memory import MemoryRegionIndex


def test_only_the_newest_commit_counts() -> None:
    index = MemoryRegionIndex(manifest_of("f" * 64))
    replaced, waiting = ImageRef("b", "replaced"), ImageRef("b", "waiting")
    rows = [region_row(replaced, number, generation=age) for age in (1, 2, 3) for number in (0, 1)]
    rows.append(region_row(waiting, 0, generation=1))
    index.insert_images([image_row(replaced, generation=age) for age in (1, 2)])  # 3 is not committed yet
    assert committed(index, rows) == rows[2:4]
    assert committed(index, []) == []
