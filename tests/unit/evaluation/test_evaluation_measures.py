"""Figures of rankings against numbers worked out by hand and against a statement with loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from searchanything.core.codes import hamming
from searchanything.core.digests import Numbers
from searchanything.core.intervals import wilson_interval
from searchanything.evaluation.measures import (
    Values,
    average_precision,
    category_median,
    figure_interval,
    interval,
    mean,
    resampled_category_medians,
    resampled_means,
    retrieval_values,
)
from searchanything.evaluation.ranking import largest, nearest, signs, units


def ranking(*right: int, length: int = 100) -> np.ndarray:
    """One ranking with right hits at these ranks, counted from 1."""
    flags = np.zeros((1, length), dtype=np.bool_)
    flags[0, np.array(right, dtype=np.intp) - 1] = True
    return flags


def test_average_precision_by_hand() -> None:
    # Right at ranks 1, 3 and 6, five to find: (1/1 + 2/3 + 3/6) / 5.
    assert_allclose(average_precision(ranking(1, 3, 6), np.array([5]), depth=10), [(1 + 2 / 3 + 3 / 6) / 5])
    # Two to find, at ranks 2 and 12: only the first counts at 10, over the two.
    assert_allclose(average_precision(ranking(2, 12), np.array([2]), depth=10), [1 / 2 / 2])
    # Thirty to find: nobody can show more than ten among ten.
    assert_allclose(average_precision(ranking(*range(1, 11)), np.array([30]), depth=10), [1.0])


def test_precision_and_recall_by_hand() -> None:
    values = retrieval_values(ranking(1, 4, 5, 40), np.array([8]))
    assert_allclose(values["precision_1"], [1.0])
    assert_allclose(values["precision_5"], [3 / 5])
    assert_allclose(values["precision_10"], [3 / 10])
    assert_allclose(values["recall_1"], [1 / 8])
    assert_allclose(values["recall_10"], [3 / 8])
    assert_allclose(values["recall_100"], [4 / 8])


def test_a_query_with_nothing_to_find_has_no_figure() -> None:
    values = retrieval_values(ranking(), np.array([0]))
    assert all(np.isnan(one).all() for one in values.values())
    assert mean(values["map_10"]) is None


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 15))
def test_figures_of_many_rankings_are_what_their_definitions_say(seed: int, length: int, depth: int) -> None:
    rng = np.random.default_rng(seed)
    right = rng.random((4, length)) < rng.random((4, 1))
    possible = right.sum(axis=1) + rng.integers(0, 3, 4) * rng.integers(0, 10, 4)
    values = retrieval_values(right, possible)
    got = average_precision(right, possible, depth=depth)
    for query, flags in enumerate(right.tolist()):
        if not possible[query]:
            assert math.isnan(got[query])
            assert all(math.isnan(one[query]) for one in values.values())
            continue
        total = 0.0
        for rank in range(1, min(depth, length) + 1):
            if flags[rank - 1]:
                total += sum(flags[:rank]) / rank
        assert got[query] == pytest.approx(total / min(depth, possible[query]))
        for k in (1, 5, 10):
            assert values[f"precision_{k}"][query] == pytest.approx(sum(flags[:k]) / k)
        for k in (1, 10, 100):
            assert values[f"recall_{k}"][query] == pytest.approx(sum(flags[:k]) / possible[query])


@pytest.mark.parametrize("images", [np.arange(9), np.array([4, 4, 2, 9, 2, 9, 9, 0, 4])])
def test_the_median_category_is_that_of_a_loop_over_categories_and_resamples(images: Numbers) -> None:
    """How often a resample has each query shows in the resampled means of what is 1 for that query alone."""
    rng = np.random.default_rng(4)
    values, categories = rng.random(9), np.array([3, 0, 3, 1, 0, 1, 7, 7, 3])
    values[[3, 5, 6]] = np.nan  # category 1 has no value, category 7 one
    drawn = times_drawn(images, seed=6)

    def in_loops(times: list[int]) -> float:
        means = []
        for category in set(categories.tolist()):
            part = [v for v, c, n in zip(values, categories, times, strict=True) for _ in range(n) if c == category]
            if applying := [one for one in part if not math.isnan(one)]:
                means.append(sum(applying) / len(applying))
        return float(np.median(means)) if means else math.nan

    assert category_median(values, categories) == pytest.approx(in_loops([1] * 9))
    expected = [in_loops(times) for times in drawn.tolist()]
    assert_allclose(resampled_category_medians(values, categories, seed=6, images=images), expected)
    applying = ~np.isnan(values)
    some = drawn[:, applying].any(axis=1)
    means = resampled_means({"a": values}, seed=6, images=images)["a"]
    assert_allclose(means[some], [values[applying].repeat(times).mean() for times in drawn[some][:, applying]])
    assert_array_equal(np.isnan(means), ~some)


def times_drawn(images: Numbers, *, seed: int) -> np.ndarray:
    """(1000, Q) how often each resample has each query. An image's share of the images drawn is counted by a figure
    that applies to one query of each image alone, and is 1 for that image.
    """
    names, firsts = np.unique(images, return_index=True)
    figures = {}
    for name, first in zip(names.tolist(), firsts.tolist(), strict=True):
        figures[str(name)] = np.full(len(images), np.nan)
        figures[str(name)][firsts] = 0.0
        figures[str(name)][first] = 1.0
    shares = resampled_means(figures, seed=seed, images=images)
    return np.rint(np.stack([shares[str(name)] for name in images.tolist()], axis=1) * len(names)).astype(int)


def test_an_image_is_drawn_with_all_of_its_queries() -> None:
    """Among as many images as there are, with replacement: multinomial counts, whatever the images are called."""
    images = np.array([70, 3, 70, 5, 3, 3, 8])
    drawn = times_drawn(images, seed=2)
    for name in (70, 3, 5, 8):
        assert (drawn[:, images == name] == drawn[:, images == name][:, :1]).all()
    by_image = drawn[:, [0, 1, 3, 6]]
    assert_array_equal(by_image.sum(axis=1), np.full(1000, 4))
    assert_allclose(by_image.mean(axis=0), 1, atol=0.11)  # four standard errors
    assert_allclose(by_image.var(axis=0), 3 / 4, atol=0.15)


def test_the_interval_of_a_mean_is_that_of_drawn_images() -> None:
    """NumPy's own draws of images, with a mean effect of each: the same ends, and twice those of drawn queries."""
    rng = np.random.default_rng(8)
    images = np.repeat(np.arange(40), rng.integers(5, 25, 40))
    values = np.clip(rng.normal(0.5, 0.2, 40)[images] + rng.normal(0, 0.1, len(images)), 0, 1)
    sums, counts = np.bincount(images, weights=values), np.bincount(images)
    draws = rng.integers(0, 40, (20_000, 40))
    expected = np.quantile(sums[draws].sum(axis=1) / counts[draws].sum(axis=1), (0.025, 0.975))
    found = figure_interval(values, resampled_means({"a": values}, seed=3, images=images)["a"], images)
    width = expected[1] - expected[0]
    assert found == pytest.approx(expected.tolist(), abs=0.08 * width)
    assert width > 4 * 1.96 * values.std() / math.sqrt(len(values))


def test_some_resamples_may_have_no_value() -> None:
    """One of three queries has a value: a resample leaves it out with probability (2/3)^3 = 0.30."""
    values = np.array([np.nan, 0.5, np.nan])
    means = resampled_means({"a": values}, seed=1)["a"]
    medians = resampled_category_medians(values, np.array([0, 0, 1]), seed=1, images=np.arange(3))
    assert_array_equal(means, medians)
    assert np.isnan(means).mean() == pytest.approx((2 / 3) ** 3, abs=0.05)
    assert set(means[~np.isnan(means)].tolist()) == {0.5}
    assert interval(means) == (0.5, 0.5)


def test_without_queries_there_is_no_figure() -> None:
    """As where all that is annotated is a crowd."""
    none = np.zeros(0)
    assert category_median(none, np.zeros(0, dtype=np.int64)) is None
    assert category_median(np.full(2, np.nan), np.arange(2)) is None
    for resampled in (
        resampled_means({"a": none}, seed=1)["a"],
        resampled_category_medians(none, np.zeros(0, dtype=np.int64), seed=1, images=np.zeros(0, dtype=np.int64)),
    ):
        assert_array_equal(resampled, np.full(1000, np.nan))


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 50))
def test_codes_rank_as_hamming_distances_do(seed: int, depth: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (rows, 2), dtype=np.uint8)  # few values: many equal distances
    queries, index = rng.integers(0, rows, 5), rng.permutation(rows)
    barred = rng.random((5, rows)) < 0.3
    ranked = nearest(signs(codes), queries, index, barred=lambda q, r: barred[q][:, r], depth=depth)
    distances = hamming(codes[queries], codes[index])
    for query in range(5):
        allowed = [place for place in range(rows) if not barred[query, index[place]]]
        expected = [int(index[place]) for place in sorted(allowed, key=lambda place: distances[query, place])][:depth]
        assert ranked[query].tolist() == expected + [-1] * (depth - len(expected))


def test_blocks_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    rows = rng.integers(-2, 3, (60, 3)).astype(np.float32)
    queries, index = np.arange(60), rng.permutation(60)

    def nobody(q: np.ndarray, r: np.ndarray) -> np.ndarray:
        return np.zeros((len(q), len(r)), dtype=np.bool_)

    whole = nearest(lambda numbers: rows[numbers], queries, index, barred=nobody, depth=7)
    monkeypatch.setattr("searchanything.evaluation.ranking._QUERIES_AT_ONCE", 13)
    monkeypatch.setattr("searchanything.evaluation.ranking._ROWS_AT_ONCE", 11)
    assert_array_equal(nearest(lambda numbers: rows[numbers], queries, index, barred=nobody, depth=7), whole)


def test_of_equal_values_the_first_are_the_largest() -> None:
    assert largest(np.array([[1, 5, 3, 3, 3]], dtype=np.float32), 3).tolist() == [[1, 2, 3]]


def test_unit_rows_leave_zeros_alone() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32)
    assert_allclose(units(lambda numbers: rows[numbers])(np.array([0, 1])), [[0.6, 0.8], [0, 0]])


def test_the_interval_of_a_constant_is_the_constant() -> None:
    assert interval(resampled_means({"a": np.full(20, 0.25)}, seed=1)["a"]) == pytest.approx((0.25, 0.25))
    assert interval(resampled_means({"a": np.full(20, np.nan)}, seed=1)["a"]) is None
    assert resampled_means({}, seed=1) == {}


def test_the_interval_is_the_normal_one_where_there_are_many_queries() -> None:
    right = (np.arange(400) % 4 == 0).astype(np.float64)  # a share of 0.25
    low, high = interval(resampled_means({"a": right}, seed=1)["a"]) or (0, 0)
    half = 1.96 * math.sqrt(0.25 * 0.75 / 400)
    assert low == pytest.approx(0.25 - half, abs=0.008)
    assert high == pytest.approx(0.25 + half, abs=0.008)


def test_the_interval_holds_95_percent_of_1000_resampled_means() -> None:
    assert interval(np.append(np.arange(1001.0), np.nan)) == (25.0, 975.0)
    assert resampled_means({"a": np.arange(3.0)}, seed=1)["a"].shape == (1000,)


def test_wilson_interval_agrees_with_published_values() -> None:
    # Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    for count in range(50):  # nothing beside them by rounding, and where nothing was tried nothing is known
        assert (wilson_interval(0, count)[0], wilson_interval(count, count)[1]) == (0.0, 1.0)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.zeros(20), (0.0, 0.1611)),  # Newcombe's 0 of 20
        (np.ones(20), (0.8389, 1.0)),
        (np.append(np.ones(20), np.nan), (0.8389, 1.0)),
        (np.full(20, 0.25), (0.25, 0.25)),
        (
            np.array([0.0, 1.0] * 3),
            (0.1667, 0.8333),
        ),  # all 0, or all 1, in a 64th of the resamples each
        (np.full(20, np.nan), None),
    ],
)
def test_values_that_are_all_right_or_all_wrong_are_no_certainty(
    values: Values, expected: tuple[float, float] | None
) -> None:
    images = np.arange(len(values))
    found = figure_interval(values, resampled_means({"a": values}, seed=1)["a"], images)
    assert found == (None if expected is None else pytest.approx(expected, abs=5e-5))


def test_queries_about_one_image_are_one_trial_where_all_are_right() -> None:
    """100 queries on 20 images: all right is 20 of 20. Of a difference, an interval without width stays."""
    values, images = np.append(np.ones(100), np.nan), np.append(np.repeat(np.arange(20), 5), 20)
    again = resampled_means({"a": values}, seed=1, images=images)["a"]
    assert figure_interval(values, again, images) == pytest.approx((0.8389, 1.0), abs=5e-5)
    assert figure_interval(values, again, images, is_share=False) == (1.0, 1.0)


@pytest.mark.parametrize("is_share", [True, False])
def test_a_figure_that_applies_on_fewer_than_six_images_has_no_interval(is_share: bool) -> None:
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(10), 4)
    for count in (1, 5, 6):
        for values in (rng.random(40), np.ones(40)):
            values[images >= count] = np.nan
            again = resampled_means({"a": values}, seed=1, images=images)["a"]
            assert (figure_interval(values, again, images, is_share=is_share) is None) == (count < 6), count


def test_figures_are_resampled_together() -> None:
    values = np.random.default_rng(0).random(50)
    means = resampled_means({"a": values, "b": 1 - values}, seed=2)
    assert_allclose(means["a"] + means["b"], 1.0)
    assert means["a"].std() > 0.01
