"""Rescoring against a model that looks at every row and computes each score by itself."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.search.test_search import MANIFEST, World, image_row, region_row

from searchanything.core.codes import pack_signs
from searchanything.core.errors import UsageError
from searchanything.core.rows import RegionRow
from searchanything.core.types import CodeKind, Hit, ImageRef
from searchanything.search.rescoring import QueryValues, mean_of, similarities
from searchanything.search.search import PageRequest, search_images, search_regions
from searchanything.stores.memory import MemoryRegionIndex

seed = st.integers(0, 2**32 - 1)
depths = st.integers(0, 30)


def score(projection: Sequence[float], code: bytes) -> float:
    """Independent of the package: one sum with a sign per bit, first bit highest."""
    bits = "".join(f"{byte:08b}" for byte in code)
    signed = [value if bit == "1" else -value for value, bit in zip(projection, bits, strict=True)]
    return fsum(signed) / (sqrt(fsum(value * value for value in projection)) * sqrt(len(bits)))


class ValuedWorld(World):
    """A world, and a query whose code holds the signs of small whole numbers: scores tie where they should."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        values = np.random.default_rng(seed + 1).integers(1, 4, 8)
        values[np.random.default_rng(seed + 2).integers(8)] = 9
        signs = np.where(np.unpackbits(self.code) == 1, 1, -1)
        self.asked = QueryValues(self.code, (values * signs).astype(np.float32))

    def rescored(
        self, depth: int, *, group_by_image: bool, most_bits: int = 8
    ) -> list[tuple[int, ImageRef, int, float | None]]:
        rows = [row for row in self.regions if self.committed(row)]
        rows.sort(key=lambda row: (self.distance(row), row.image, row.region))
        values = self.asked.projection.tolist()
        window = sorted(rows[:depth], key=lambda row: -round(score(values, row.code), 9))
        ranked = [(row, round(score(values, row.code), 9)) for row in window] + [(row, None) for row in rows[depth:]]
        seen: set[ImageRef] = set()
        found = []
        for row, value in ranked:
            if self.distance(row) > most_bits:
                continue
            if not (group_by_image and row.image in seen):
                found.append((self.distance(row), row.image, row.region, value))
            seen.add(row.image)
        return found


def shown(hits: Sequence[Hit]) -> list[tuple[int, ImageRef, int | None, float | None]]:
    return [
        (one.distance_bits, one.image, one.region, None if one.similarity is None else round(one.similarity, 9))
        for one in hits
    ]


@given(seed, st.integers(1, 12), st.integers(0, 12), st.booleans(), depths)
@settings(max_examples=300, deadline=None)
def test_a_page_is_that_stretch_of_the_rescored_ranking(
    seed: int, limit: int, offset: int, group_by_image: bool, depth: int
) -> None:
    world = ValuedWorld(seed)
    request = PageRequest(limit, offset, group_by_image, depth)
    page = search_regions(world.index, world.asked, request, filter=None)
    assert shown(page.hits) == world.rescored(depth, group_by_image=group_by_image)[offset : offset + limit]
    assert page.exact
    assert [stage.name for stage in page.stages] == (["search", "rescore"] if depth else ["search"])


@given(seed, st.integers(1, 12), st.integers(0, 12), st.booleans(), depths, st.integers(-1, 8))
@settings(max_examples=300, deadline=None)
def test_a_bound_cuts_the_ranking_and_not_the_page(
    seed: int, limit: int, offset: int, group_by_image: bool, depth: int, most_bits: int
) -> None:
    world = ValuedWorld(seed)
    request = PageRequest(limit, offset, group_by_image, depth, most_bits)
    page = search_regions(world.index, world.asked, request, filter=None)
    allowed = world.rescored(depth, group_by_image=group_by_image, most_bits=most_bits)
    assert shown(page.hits) == allowed[offset : offset + limit]
    everything = world.rescored(0, group_by_image=False)
    nearest = None if page.nearest is None else (page.nearest.distance_bits, page.nearest.image, page.nearest.region)
    equally_near = [one[:3] for one in everything if one[0] == everything[0][0]]
    assert nearest in (equally_near or [None]), "of the whole ranking"


@given(seed, st.integers(1, 5), st.booleans(), depths)
@settings(max_examples=100, deadline=None)
def test_pages_tile_the_rescored_ranking(seed: int, limit: int, group_by_image: bool, depth: int) -> None:
    world = ValuedWorld(seed)
    expected = world.rescored(depth, group_by_image=group_by_image)
    found = []
    for offset in range(0, len(expected) + limit, limit):
        request = PageRequest(limit, offset, group_by_image, depth)
        found += shown(search_regions(world.index, world.asked, request, filter=None).hits)
    assert found == expected


@given(seed, st.integers(1, 6), st.booleans(), st.integers(1, 40), depths)
@settings(max_examples=200, deadline=None)
def test_an_exact_page_is_right_under_a_small_limit_of_the_index(
    seed: int, limit: int, group_by_image: bool, max_limit: int, depth: int
) -> None:
    world = ValuedWorld(seed)
    world.index.max_limit = max_limit
    if limit > max_limit:
        return
    request = PageRequest(limit, 0, group_by_image, depth)
    page = search_regions(world.index, world.asked, request, filter=None)
    expected = world.rescored(min(depth, max_limit), group_by_image=group_by_image)
    assert not page.exact or shown(page.hits) == expected[:limit]
    assert page.exact or len(world.regions) >= max_limit


@given(st.integers(1, 16), st.integers(0, 9), seed)
@settings(deadline=None)
def test_scores_are_cosines_with_the_bits(code_bytes: int, rows: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 256, (rows, code_bytes), dtype=np.uint8)
    projection = generator.normal(size=8 * code_bytes).astype(np.float32)
    found = similarities(projection, codes)
    expected = [score(projection.tolist(), code.tobytes()) for code in codes]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    own = pack_signs(projection[None])
    assert (similarities(projection, own) >= found.max(initial=-1) - 1e-9).all()


def test_equal_codes_score_the_same_to_the_last_bit_wherever_they_stand() -> None:
    generator = np.random.default_rng(3)
    codes = generator.integers(0, 256, (1001, 32), dtype=np.uint8)
    codes[[5, 500, 1000]] = codes[0]
    found = similarities(generator.normal(size=256).astype(np.float32), codes)
    assert len({found[place] for place in (0, 5, 500, 1000)}) == 1
    alone = similarities(generator.normal(size=256).astype(np.float32) * 0, codes[:1])
    assert alone.tolist() == [0.0]


def test_several_codes_ask_by_their_majority_and_where_they_part_by_the_first() -> None:
    one, other = 0b11001010, 0b10101100
    for codes, code, mean in (
        ([one], one, [1, 1, -1, -1, 1, -1, 1, -1]),
        ([one, other], one, [1, 0, 0, -1, 1, 0, 0, -1]),
        ([other, one], other, [1, 0, 0, -1, 1, 0, 0, -1]),
        ([one, other, other], other, [1, -1 / 3, 1 / 3, -1, 1, 1 / 3, -1 / 3, -1]),
    ):
        values = mean_of(np.array(codes, dtype=np.uint8)[:, None])
        assert values.code.tolist() == [code]
        np.testing.assert_allclose(values.projection, mean, atol=1e-7)


def test_whole_images_are_rescored_alike() -> None:
    index = MemoryRegionIndex(MANIFEST)
    near, far = ImageRef("b", "near"), ImageRef("b", "far")
    index.insert_images([image_row(near, 1, 0b1), image_row(far, 1, 0b1100_0000)])
    asked = QueryValues(np.zeros(1, np.uint8), np.array([-1, -1, -9, -9, -9, -9, -9, -9], np.float32))
    plain = search_images(index, asked, PageRequest(), filter=None)
    rescored = search_images(index, asked, PageRequest(rescore=2), filter=None)
    assert [(hit.image.key, hit.distance_bits) for hit in plain.hits] == [("near", 1), ("far", 2)]
    assert [(hit.image.key, hit.distance_bits) for hit in rescored.hits] == [("far", 2), ("near", 1)]


class Losing(MemoryRegionIndex):
    """Replaces an image just when the codes are asked for the first time, as another process would."""

    event: RegionRow | None = None

    def codes_of(self, ids: Sequence[str], *, of: CodeKind = "regions") -> dict[str, bytes]:
        event, self.event = self.event, None
        if event is not None:
            self.insert_regions([event])
            self.insert_images([image_row(event.image, event.generation, 0)])
            self.delete_before({event.image: event.generation})
        return super().codes_of(ids, of=of)


def test_an_image_that_is_replaced_meanwhile_is_found_as_it_is_now() -> None:
    index, image = Losing(MANIFEST), ImageRef("b", "k")
    index.insert_regions([region_row(image, 1, 0, 0)])
    index.insert_images([image_row(image, 1, 0)])
    index.event = region_row(image, 2, 5, 1)
    asked = QueryValues(np.zeros(1, np.uint8), -np.ones(8, np.float32))
    page = search_regions(index, asked, PageRequest(rescore=9), filter=None)
    assert [(hit.region, hit.etag) for hit in page.hits] == [(5, "etag-2")]
    assert page.exact


def test_a_window_below_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"rescore: expected a whole number of 0 or more, got -1"):
        PageRequest(rescore=-1)
