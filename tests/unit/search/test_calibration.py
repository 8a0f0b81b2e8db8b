"""False-match rates: from the index's own codes, per query, and drawn again as the index grows."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from contracts.index_rows import image_row, manifest_of, region_row
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import genpareto

from searchanything.core.errors import UsageError
from searchanything.core.manifest import IndexCounts
from searchanything.core.types import CodeKind, ImageRef
from searchanything.search import calibration
from searchanything.search.calibration import (
    LEAST_CODES,
    LOOK_S,
    SAMPLE_CODES,
    SHAPES,
    Backgrounds,
    draw_background,
    false_match_rates,
    rate_of,
)
from searchanything.search.scoped import ScopedIndex
from searchanything.stores.memory import MemoryRegionIndex


def filled(images: int, *, per_image: int = 10, committed: bool = True) -> MemoryRegionIndex:
    index = MemoryRegionIndex(manifest_of("f" * 64))
    add(index, range(images), per_image=per_image, committed=committed)
    return index


def add(index: MemoryRegionIndex, numbers: range, *, per_image: int = 10, committed: bool = True) -> None:
    refs = [ImageRef("bucket", f"{number}.jpg") for number in numbers]
    index.insert_regions([region_row(ref, number, generation=1) for ref in refs for number in range(per_image)])
    if committed:
        index.insert_images([image_row(ref, generation=1) for ref in refs])


def distances(rng: np.random.Generator, count: int, *, shape: float) -> np.ndarray:
    """Distances below 140 bits whose lower tail is generalised Pareto, 6 bits wide (by scipy)."""
    return np.clip(np.floor(140 - genpareto(shape, scale=6).rvs(count, random_state=rng)), 0, 256).astype(int)


@pytest.mark.parametrize(
    ("kind", "shape", "least", "most"),
    [
        ("regions", 0.08, 0.5, 2),
        ("regions", 0.0, 0.85, 6),
        ("regions", 0.12, 0.25, 1.5),
        ("words", 0.0, 0.5, 2),
        ("words", 0.08, 0.05, 1.5),
    ],
    ids=["as measured", "exponential: stated rates are cautious", "heavier: they are bold", "words", "heavier words"],
)
def test_stated_rates_are_those_of_unrelated_codes(kind: CodeKind, shape: float, least: float, most: float) -> None:
    """A sample of 4,096, one in a hundred of them related and near, states rates that a million others have."""
    rng = np.random.default_rng(5)
    truth = np.cumsum(np.bincount(distances(rng, 1_000_000, shape=shape), minlength=257)) / 1_000_000
    for _ in range(5):
        related = rng.integers(20, 90, 41)
        sample = np.concatenate([distances(rng, 4055, shape=shape), related])
        rates = false_match_rates(np.bincount(sample, minlength=257), shape=SHAPES[kind])
        for wanted in (1e-4, 1e-3, 1e-2, 1e-1):
            at = int(np.searchsorted(truth, wanted))
            assert least < rates[at] / truth[at] < most, (wanted, at)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 256), min_size=LEAST_CODES, max_size=400))
def test_rates_rise_and_are_shares(distances: list[int]) -> None:
    rates = false_match_rates(np.bincount(distances, minlength=257))
    assert rates.shape == (257,)
    assert (np.diff(rates) >= -1e-12).all()
    assert (rates > 0).all()
    assert rates[-1] == pytest.approx(1.0)


def test_a_sample_holds_committed_codes_alone() -> None:
    index = filled(30)
    add(index, range(30, 60), committed=False)
    background = draw_background(index)
    assert len(background.codes) == 300
    assert {code.tobytes() for code in background.codes} == {
        row.code for row in index.iterate_regions() if int(row.image.key.split(".")[0]) < 30
    }
    assert len(draw_background(index, of="images").codes) == 30


def test_a_large_index_is_sampled() -> None:
    index = filled(40, per_image=400)
    codes = draw_background(index).codes
    assert 0.9 * SAMPLE_CODES < len(codes) < 1.1 * SAMPLE_CODES
    assert np.array_equal(codes, draw_background(index).codes)


def test_few_codes_say_nothing() -> None:
    code = np.zeros(32, dtype=np.uint8)
    assert draw_background(filled(19)).rates(code) is None
    assert draw_background(filled(0)).rates(code) is None
    assert draw_background(filled(20)).rates(code) is not None


def test_the_sample_follows_the_index() -> None:
    now = 0.0
    index, backgrounds = filled(100), Backgrounds(clock=lambda: now)
    first = backgrounds.of(index)
    add(index, range(100, 200))
    assert backgrounds.of(index) is first, "it is not counted at every question"
    now = LOOK_S + 1
    second = backgrounds.of(index)
    assert len(second.codes) == 2000
    add(index, range(200, 205))
    now = 2 * LOOK_S + 2
    assert backgrounds.of(index) is second, "a few more rows change nothing"
    index.delete_images([ImageRef("bucket", f"{number}.jpg") for number in range(150)])
    now = 3 * LOOK_S + 3
    assert len(backgrounds.of(index).codes) == 550


def test_words_of_another_layer_have_a_sample_of_their_own() -> None:
    backgrounds, ref = Backgrounds(clock=lambda: 0.0), ImageRef("bucket", "a.jpg")
    for layer, bits in ((b"one", 64), (b"two", 128)):  # as before and after a restore: one fingerprint, as many rows
        index = filled(0)
        index.add_words(layer, bits)
        words = b"\x0f" * (bits // 8)
        index.insert_regions([replace(region_row(ref, number, generation=1), words_code=words) for number in range(10)])
        index.insert_images([image_row(ref, generation=1)])
        assert backgrounds.of(index, "words").codes.tobytes() == words * 10


def test_samples_that_were_asked_longest_ago_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may have a view for each of its users, and they come and go."""
    monkeypatch.setattr(calibration, "MOST_SAMPLES", 4)
    index, backgrounds = filled(30), Backgrounds()
    views = [ScopedIndex(index, (("bucket", ""), (f"user{number}", ""))) for number in range(6)]
    first, second, *others = views
    drawn = {view: backgrounds.of(view) for view in (first, second)}
    for view in others:
        backgrounds.of(view)
        assert backgrounds.of(first) is drawn[first]
    assert backgrounds.of(second) is not drawn[second]
    assert len(backgrounds._drawn) == 4


@pytest.mark.parametrize("rate", [0, -1e-4, 1.5, "1e-4", True, float("nan")])
def test_what_is_no_rate(rate: object) -> None:
    with pytest.raises(UsageError, match="false-match rate above 0"):
        rate_of(rate)  # type: ignore[arg-type]
    given = [rate_of(one) for one in (1e-4, 1, np.float32(0.5), None)]
    assert given == [1e-4, 1.0, 0.5, None]
    assert [type(one) for one in given[:3]] == [float] * 3


class Counted(MemoryRegionIndex):
    """An index that takes its time to count its regions, and does not want to look at each of its images."""

    looks = 0

    def count_regions(self, *, bucket: str | None = None, key_prefix: str = "") -> int:
        self.looks += 1
        time.sleep(0.02)
        return super().count_regions(bucket=bucket, key_prefix=key_prefix)

    def counts(self, **_: object) -> IndexCounts:
        raise AssertionError("rows were counted by outcome")


def test_many_questions_at_once_draw_one_sample() -> None:
    index, now = Counted(manifest_of("f" * 64)), 0.0
    add(index, range(50))
    backgrounds = Backgrounds(clock=lambda: now)
    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(backgrounds.of, [index] * 32))
    assert len(set(map(id, first))) == 1
    assert index.looks == 2, "once to see whether to draw, once to draw"
    add(index, range(50, 100))
    now = LOOK_S + 1
    with ThreadPoolExecutor(8) as pool:
        again = list(pool.map(backgrounds.of, [index] * 32))
    assert index.looks == 4, "one looks, the others go on with what there is"
    assert len(backgrounds.of(index).codes) == 1000
    assert len(again) == 32
