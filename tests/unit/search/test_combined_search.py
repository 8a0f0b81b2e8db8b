"""Several parts: the same answer as looking at every image, whatever the parts' nearest regions bring."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from contracts.index_rows import image_row, manifest_of, region_row
from hypothesis import example, given, settings
from hypothesis import strategies as st

from searchanything.core.codes import hamming
from searchanything.core.errors import FilterError, UsageError
from searchanything.core.types import Filter, ImageRef
from searchanything.search import combination
from searchanything.search.calibration import draw_background
from searchanything.search.combination import Combination, Part, search_combined
from searchanything.stores.memory import MemoryRegionIndex


def index_of(images: list[np.ndarray]) -> MemoryRegionIndex:
    index = MemoryRegionIndex(manifest_of("f" * 64))
    for number, codes in enumerate(images):
        image = ImageRef("bucket", f"{number:03}")
        rows = [region_row(image, place, generation=1, code=code.tobytes()) for place, code in enumerate(codes)]
        index.insert_regions(rows)
        index.insert_images([image_row(image, generation=1, regions=len(codes))])
    return index


def images_of(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    return [rng.integers(0, 256, (int(rng.integers(2, 8)), 32), dtype=np.uint8) for _ in range(count)]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    all_of=st.integers(0, 2),
    any_of=st.integers(0, 2),
    depth=st.sampled_from([5, 40, 4096]),
    at_once=st.sampled_from([2, 20, 128]),
)
def test_the_answer_is_that_of_looking_at_all(seed: int, all_of: int, any_of: int, depth: int, at_once: int) -> None:
    if all_of + any_of == 0:
        return
    rng = np.random.default_rng(seed)
    images = images_of(rng, 150)
    index = index_of(images)
    background = draw_background(index)
    parts = [
        Part(str(n), code, background.rates(code))
        for n, code in enumerate(rng.integers(0, 256, (4, 32), dtype=np.uint8))
    ]
    asked = Combination(tuple(parts[:all_of]), tuple(parts[2 : 2 + any_of]))
    index.max_limit = depth
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(combination, "_IMAGES_AT_ONCE", at_once)
        page = search_combined(index, asked, limit=5)
    truth = sorted(_best(codes, asked) for codes in images)[:5]
    scores = [-hit.score for hit in page.hits]
    if page.exact:
        assert scores == pytest.approx(truth)
    assert all(score >= best - 1e-9 for score, best in zip(scores, truth, strict=True))
    if depth == 4096:
        assert page.exact
    for hit in page.hits:
        regions = [match.row.region for match in hit.parts[:all_of]]
        assert len(set(regions)) == len(regions), "different parts take different regions"


def _best(codes: np.ndarray, asked: Combination) -> float:
    costs = [part.costs[hamming(part.code[None], codes)[0]] for part in asked.wanted]
    needed = len(asked.all_of)
    total = 0.0
    if needed:
        total = min(
            sum(costs[part][place] for part, place in enumerate(places))
            for places in permutations(range(len(codes)), needed)
        )
    return float(total + (min(cost.min() for cost in costs[needed:]) if asked.any_of else 0.0))


@given(rates=st.lists(st.floats(1e-12, 1.0), min_size=9, max_size=9))
def test_costs_are_logarithms_that_hardly_fall_where_a_part_is_sure(rates: list[float]) -> None:
    part = Part("a", np.zeros(1, dtype=np.uint8), np.array(rates))
    expected = [math.log(rate) if rate > 1e-4 else math.log(1e-4) + math.log(rate / 1e-4) / 10 for rate in rates]
    assert part.costs.tolist() == pytest.approx(expected)
    unrated = Part("a", np.zeros(1, dtype=np.uint8), None)
    assert unrated.costs.tolist() == [bits / 8 - 1 for bits in range(9)]


def test_none_of_leaves_images_out() -> None:
    rng = np.random.default_rng(4)
    images = images_of(rng, 100)
    wanted, unwanted = rng.integers(0, 256, (2, 32), dtype=np.uint8)
    images[7] = np.stack([wanted, images[7][0]])
    images[8] = np.stack([wanted, unwanted])
    index = index_of(images)
    background = draw_background(index)
    part, other = (Part(name, code, background.rates(code)) for name, code in (("a", wanted), ("b", unwanted)))
    both = search_combined(index, Combination((part,)), limit=2)
    assert {hit.image.key for hit in both.hits} == {"007", "008"}
    page = search_combined(index, Combination((part,), none_of=(other,)), limit=2)
    keys = [hit.image.key for hit in page.hits]
    assert keys[0] == "007"
    assert "008" not in keys
    everything = search_combined(index, Combination((part,), none_of=(other,)), limit=100)
    assert everything.excluded == 100 - len(everything.hits) >= 1
    nearest = other.rates[hamming(unwanted[None], images[9]).min()]
    for rate, left_out in ((nearest, 1), (np.nextafter(nearest, 0.0), 0)):
        asked = Combination((part,), none_of=(other,), none_rate=float(rate))
        assert search_combined(index, asked, limit=9, filter=Filter(key_prefix="009")).excluded == left_out
    under = search_combined(index, Combination((part,)), limit=1, filter=Filter(key_prefix="008"))
    assert [hit.image.key for hit in under.hits] == ["008"]


def test_one_part_that_is_very_near_does_not_stand_for_another() -> None:
    """An image with one part itself and nothing like the other comes after one with something like both."""
    rng = np.random.default_rng(9)
    images = images_of(rng, 400)
    one, other = rng.integers(0, 256, (2, 32), dtype=np.uint8)
    images[3] = np.stack([one, one ^ 0xFF, other ^ 0xFF])
    near = np.packbits(rng.permutation(256) < 95)
    images[5] = np.stack([one ^ near, other ^ near])
    index = index_of(images)
    background = draw_background(index)
    parts = tuple(Part(name, code, background.rates(code)) for name, code in (("a", one), ("b", other)))
    page = search_combined(index, Combination(parts), limit=2)
    assert page.hits[0].image.key == "005"
    sure = search_combined(index, Combination(parts, max_false_match=0.01), limit=20)
    assert [hit.image.key for hit in sure.hits] == ["005"]
    assert sure.unsure > 0
    assert all(one.false_match is not None and one.false_match <= 0.01 for one in sure.hits[0].parts)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    any_of=st.integers(0, 2),
    most=st.sampled_from([0.002, 0.02, 0.2, 1.0]) | st.integers(90, 120),  # or the rate of so many bits
)
def test_a_cut_leaves_what_looking_at_all_would(seed: int, any_of: int, most: float) -> None:
    rng = np.random.default_rng(seed)
    images = images_of(rng, 120)
    index = index_of(images)
    background = draw_background(index)
    codes = rng.integers(0, 256, (3, 32), dtype=np.uint8)
    parts = tuple(Part(str(n), code, background.rates(code)) for n, code in enumerate(codes))
    if isinstance(most, int):
        most = float(background.rates(codes[0])[most])
    free = Combination(parts[:1], parts[1 : 1 + any_of])
    cut = Combination(parts[:1], parts[1 : 1 + any_of], max_false_match=most)
    all_hits = search_combined(index, free, limit=120).hits
    wanted = [hit.image for hit in all_hits if all((one.false_match or 0) <= most for one in hit.parts)]
    for depth in (10, 4096):
        index.max_limit = depth
        page = search_combined(index, cut, limit=120)
        found = [hit.image for hit in page.hits]
        assert found == wanted if page.exact else set(found) <= set(wanted)
    assert page.exact
    assert page.looked_at <= 120
    assert page.unsure == 120 - len(page.hits)


def test_an_answer_is_exact_where_what_no_part_brought_cannot_be_better(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    images = images_of(rng, 100)
    code = rng.integers(0, 256, 32, dtype=np.uint8)
    images[7] = images[8] = np.stack([code, images[7][0]])
    index = index_of(images)
    part = Part("a", code, draw_background(index).rates(code))
    free, cut = Combination((part,)), Combination((part,), max_false_match=0.001)
    index.max_limit = 20
    brought = len(search_combined(index, free, limit=60).hits)
    exact = [search_combined(index, free, limit=limit).exact for limit in (1, 2, brought, brought + 1)]
    assert exact == [True, True, True, False]
    same = index_of([code[None]] * 3)
    same.max_limit = 2
    assert search_combined(same, free, limit=2).exact, "the third scores no higher"
    monkeypatch.setattr(combination, "_IMAGES_AT_ONCE", 10)
    assert search_combined(index, free, limit=1).looked_at == 10 < brought, "farther images cannot be better"
    page = search_combined(index, cut, limit=60)  # farther regions are not near enough
    assert ([hit.image.key for hit in page.hits], page.exact) == (["007", "008"], True)
    none = search_combined(index, Combination((part,), max_false_match=part.rates[0] / 2), limit=60)
    assert (none.hits, none.exact, none.looked_at) == ((), True, 0)


def test_an_image_with_fewer_regions_than_parts_shows_not_all() -> None:
    rng = np.random.default_rng(4)
    images = images_of(rng, 100)
    code = rng.integers(0, 256, 32, dtype=np.uint8)
    images[2] = code[None]
    index = index_of(images)
    part = Part("a", code, draw_background(index).rates(code))
    page = search_combined(index, Combination((part, part), max_false_match=0.01), limit=5)
    assert "002" not in [hit.image.key for hit in page.hits]
    assert page.unsure == 100 - len(page.hits)


def test_what_cannot_be_asked() -> None:
    code = np.zeros(32, dtype=np.uint8)
    with pytest.raises(UsageError, match="at least one part"):
        Combination(none_of=(Part("a", code, np.ones(257)),))
    with pytest.raises(UsageError, match="committed codes"):
        Combination((Part("a", code, None),), none_of=(Part("b", code, None),))
    with pytest.raises(UsageError, match="committed codes"):
        Combination((Part("a", code, None),), max_false_match=0.01)
    asked = Combination((Part("a", code, None),))
    with pytest.raises(FilterError, match="whole"):
        search_combined(index_of([]), asked, limit=1, filter=Filter(size_class="small"))
    with pytest.raises(UsageError, match="limit"):
        search_combined(index_of([]), asked, limit=0)
    with pytest.raises(UsageError, match="at most 16"):
        Combination((Part("a", code, None),) * 17)


@settings(max_examples=60, deadline=None)
@example(images=[[1, 1], [0]], wanted=[0, 0], at_once=1, limit=1)  # both score 1
@given(
    images=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=3), min_size=2, max_size=10),
    wanted=st.lists(st.integers(0, 2), min_size=1, max_size=3),
    at_once=st.integers(1, 3),
    limit=st.integers(1, 6),
)
def test_images_of_equal_scores_come_by_name_however_few_are_looked_at(
    images: list[list[int]], wanted: list[int], at_once: int, limit: int
) -> None:
    pool = np.zeros((3, 32), dtype=np.uint8)
    pool[1, :16], pool[2] = 255, 255  # 0, 128 and 256 bits apart: their costs add up to the same sums
    index = index_of([pool[codes] for codes in images])
    asked = Combination(tuple(Part(f"all {n}", pool[code], None) for n, code in enumerate(wanted)))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(combination, "_IMAGES_AT_ONCE", at_once)
        page = search_combined(index, asked, limit=limit)
    everything = search_combined(index, asked, limit=len(images))
    ranked = [(hit.score, hit.image) for hit in everything.hits]
    assert ranked == sorted(ranked, key=lambda one: (-one[0], one[1]))
    assert [(hit.score, hit.image) for hit in page.hits] == ranked[:limit]
