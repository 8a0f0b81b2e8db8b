"""Answers whose rows are together too large for one message: a Milvus server sends 64 MiB, Lite reads as much."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from contracts.conftest import Bench
from contracts.index_rows import image_row, random_codes

from searchanything.core.codes import next_generation
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import Codes, Filter, ImageRef

IMAGES, GENERATIONS = 24, 50  # 70 MB
METADATA = {"note": "x" * 58_000}


@pytest.fixture(scope="module")
def wide(shared_index: RegionIndex) -> Iterator[Bench]:
    """Images of many generations that nobody deleted, each with nearly as much metadata as may be."""
    bench = Bench(shared_index)
    codes = iter(random_codes(IMAGES * GENERATIONS, seed=5))
    for number in range(IMAGES):
        image = bench.image(f"{number:02}.jpg")
        rows = [
            image_row(image, generation=next_generation(), code=next(codes).tobytes(), metadata=METADATA)
            for _ in range(GENERATIONS)
        ]
        bench.index.insert_images(rows)
    yield bench
    bench.index.delete_images(bench.used)


def test_the_newest_of_many_rows(wide: Bench) -> None:
    newest = wide.index.newest(wide.used)
    newer: dict[ImageRef, int] = {}
    for row in wide.index.iterate_states(bucket=wide.bucket):
        newer[row.image] = max(row.generation, newer.get(row.image, 0))
    assert {image: row.generation for image, row in newest.items()} == newer
    assert all(row.metadata == METADATA for row in newest.values())


@pytest.mark.parametrize(("queries", "limit"), [(1, 1300), (9, 400), (1, 1200)])  # the last: when it is known
def test_a_search_whose_hits_are_large(wide: Bench, queries: int, limit: int) -> None:
    codes = random_codes(queries, seed=queries)
    found = wide.index.search_images(codes, limit=limit, filter=Filter(bucket=wide.bucket))
    assert [len(hits) for hits in found] == [min(limit, IMAGES * GENERATIONS)] * queries
    expected = distances(wide, codes)
    for hits, near in zip(found, expected, strict=True):
        assert [hit.distance_bits for hit in hits] == near[:limit]
        assert all(hit.metadata == METADATA for hit in hits)
        assert len({(hit.image, hit.generation) for hit in hits}) == len(hits)


def distances(wide: Bench, codes: Codes) -> list[list[int]]:
    """Of all rows to each code, the least first."""
    rows = [one.code for one in wide.index.iterate_codes(of="images", bucket=wide.bucket)]
    stored = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), -1)
    return [sorted(np.bitwise_count(stored ^ code).sum(axis=1).tolist()) for code in codes]
