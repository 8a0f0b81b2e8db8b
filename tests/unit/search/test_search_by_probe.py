"""What a probe finds is what scoring every region would, in pages, within a bound, an image once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from contracts.index_rows import image_row, manifest_of, random_codes, region_row
from hypothesis import given, settings
from hypothesis import strategies as st

from searchanything.core.errors import ObjectNotFoundError
from searchanything.core.types import Hit, ImageRef, RegionRef
from searchanything.search import refine
from searchanything.search.probe import Probe
from searchanything.search.refine import marked_regions, probe_depth, search_by_probe
from searchanything.search.search import PageRequest
from searchanything.stores.memory import MemoryRegionIndex

FEW_CODES = st.integers(0, 3).map(lambda bits: bytes([bits]) + bytes(31))  # many are equal, so that order is settled


def signs(code: bytes) -> np.ndarray:
    return np.unpackbits(np.frombuffer(code, np.uint8)) * 2.0 - 1


@settings(max_examples=100, deadline=None)
@given(
    images=st.lists(st.lists(FEW_CODES, min_size=1, max_size=3), min_size=1, max_size=6),
    right=st.lists(FEW_CODES, min_size=1, max_size=2),
    wrong=st.lists(FEW_CODES, max_size=2),
    grouped=st.booleans(),
    most_bits=st.none() | st.integers(0, 3),
    offset=st.integers(0, 3),
)
def test_everything_is_ranked_by_score_then_image_then_region(
    images: list[list[bytes]],
    right: list[bytes],
    wrong: list[bytes],
    grouped: bool,
    most_bits: int | None,
    offset: int,
) -> None:
    wrong = [one for one in wrong if one not in right]
    index = MemoryRegionIndex(manifest_of("f" * 64))
    scored = []
    marks = [np.mean([signs(one) for one in {*side}], axis=0) if side else 0.0 for side in (right, wrong)]
    weights = marks[0] - 0.4 * marks[1]
    ideal = weights > 0
    for number, codes in enumerate(images):
        image = ImageRef("bucket", f"{len(images) - number}")
        rows = [region_row(image, 9 - place, generation=2, code=code) for place, code in enumerate(codes)]
        index.insert_regions([*rows, region_row(image, 9, generation=1, code=right[0])])
        index.insert_images([image_row(image, generation=2)])
        for row in rows:
            distance = int((ideal != (signs(row.code) > 0)).sum())
            scored.append((-round(float(signs(row.code) @ weights) / 256, 5), image, row.region, distance))
    probe = Probe(*(np.frombuffer(b"".join(side), np.uint8).reshape(-1, 32) for side in (right, wrong)), "f" * 64)
    page = search_by_probe(
        index, probe, PageRequest(2, offset, group_by_image=grouped, most_bits=most_bits), filter=None
    )

    def shown(hit: Hit | None) -> tuple[ImageRef, int | None, int] | None:
        return None if hit is None else (hit.image, hit.region, hit.distance_bits)

    near = [one[1:] for one in sorted(scored) if most_bits is None or one[3] <= most_bits]
    first = [one for place, one in enumerate(near) if not grouped or one[0] not in [other[0] for other in near[:place]]]
    assert [shown(hit) for hit in page.hits] == first[offset : offset + 2]
    assert shown(page.nearest) == min((one[1:] for one in scored), key=lambda one: (one[2], one[0], one[1]))
    assert page.exact


def test_each_question_brings_twice_the_page_within_the_limit_of_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "_DEPTH", 20)
    index = MemoryRegionIndex(manifest_of("f" * 64))
    index.max_limit = 100
    asked = [PageRequest(limit, offset) for limit, offset in ((5, 0), (5, 5), (5, 6), (5, 45), (5, 60))]
    assert [probe_depth(index, request) for request in asked] == [20, 20, 22, 100, 100]


def test_regions_that_go_meanwhile_are_no_hits() -> None:
    class Losing(MemoryRegionIndex):
        def codes_of(self, ids: Sequence[str], **how: Any) -> dict[str, bytes]:
            self.delete_regions([row.id for row in self.regions_of(images[:1])])
            return super().codes_of(ids, **how)

    index, images = Losing(manifest_of("f" * 64)), [ImageRef("b", "0"), ImageRef("b", "1")]
    index.insert_regions([region_row(image, generation=1) for image in images])
    index.insert_images([image_row(image, generation=1) for image in images])
    probe = Probe(random_codes(1), random_codes(0), "f" * 64)
    assert [hit.image for hit in search_by_probe(index, probe, PageRequest(), filter=None).hits] == images[1:]


@pytest.mark.parametrize("ref", [RegionRef(ImageRef("b", "none"), 0), RegionRef(ImageRef("b", "0"), 7)])
def test_marks_are_regions_that_are_indexed(ref: RegionRef) -> None:
    index, image = MemoryRegionIndex(manifest_of("f" * 64)), ImageRef("b", "0")
    index.insert_regions([region_row(image, generation=1)])
    index.insert_images([image_row(image, generation=1)])
    with pytest.raises(ObjectNotFoundError, match="mark hits of this index"):
        marked_regions(index, [RegionRef(image, 0), ref], [])
