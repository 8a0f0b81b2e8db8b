"""What codes are compared with: plain and weighted float features, rescored codes, and the median category."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from fakes.models import CHANNELS, FakeEmbedder, fake_encoder
from hypothesis import given
from hypothesis import strategies as st

from searchanything.core.codes import pack_signs
from searchanything.core.types import FloatArray
from searchanything.encode.encoder import Encoder
from searchanything.evaluation.evidence import Rows
from searchanything.evaluation.measures import category_median, mean, resampled_category_medians
from searchanything.evaluation.observing import AS_SHIPPED
from searchanything.evaluation.ranking import NOBODY, rescored
from searchanything.evaluation.spaces import main_spaces
from searchanything.models.hashing import HashLayer

COLUMNS = CHANNELS + FakeEmbedder.dimension


def rows_of(features: FloatArray, encoder: Encoder) -> Rows:
    """An index that keeps all of the rows."""
    count = len(features)
    codes = encoder.hasher.encode(features[:, :CHANNELS], features[:, CHANNELS:])
    return Rows(
        image=np.arange(count),
        is_region=np.ones(count, dtype=np.bool_),
        kept=np.ones((count, 1), dtype=np.bool_),
        stored_bytes=np.zeros(count, dtype=np.int64),
        joined=features.astype(np.float16),
        changed={},
        codes={AS_SHIPPED: codes},
    )


def drawn_features(count: int, seed: int) -> FloatArray:
    parts = np.split(np.random.default_rng(seed).standard_normal((count, COLUMNS)), [CHANNELS], axis=1)
    joined = np.concatenate([part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts], axis=1)
    return joined.astype(np.float16).astype(np.float32)


def test_weighted_float_is_what_the_layer_turns_into_bits() -> None:
    generator = np.random.default_rng(3)
    mean_of = generator.standard_normal(COLUMNS).astype(np.float32) * 0.1
    scale = np.repeat(np.float32([0.2, 1.5]), [CHANNELS, FakeEmbedder.dimension])
    weight = generator.standard_normal((64, COLUMNS)).astype(np.float32)
    layer = HashLayer.create(
        weight,
        np.zeros(64, dtype=np.float32),
        mask_dimension=CHANNELS,
        provenance={"method": "itq", "trained": "true"},
        notes={"mean": mean_of, "scale": scale},
    )
    encoder = replace(fake_encoder(), hasher=layer)
    features = drawn_features(30, seed=1)
    spaces = main_spaces(rows_of(features, encoder), encoder, seed=0)
    found = spaces["float_weighted"].rows_of(np.arange(30))
    expected = (features - mean_of) * scale
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-5)
    plain = spaces["float"].rows_of(np.arange(30))
    assert np.abs(plain @ plain.T - expected @ expected.T).max() > 0.1


def test_rescored_codes_are_in_the_order_of_the_query_s_values() -> None:
    encoder, features = fake_encoder(), drawn_features(40, seed=2)
    spaces = main_spaces(rows_of(features, encoder), encoder, seed=0)
    assert [*spaces] == ["float", "float_weighted", "bits_64", "bits_64_rescored", "bits_256"]
    again = spaces["bits_64_rescored"].again
    assert again is not None
    assert spaces["bits_64"].again is None
    queries = np.array([0, 7])
    ranked = np.stack([np.setdiff1d(np.arange(40), [query]) for query in queries])
    ranked[1, -2:] = NOBODY
    found = again(queries, ranked)
    values = encoder.hasher.project(features[:, :CHANNELS], features[:, CHANNELS:])
    for query, before, after in zip(queries, ranked, found, strict=True):
        cosines = {row: float(values[query] @ np.sign(values[row])) for row in before if row != NOBODY}
        assert [row for row in after if row != NOBODY] == sorted(cosines, key=lambda row: -cosines[row])
    assert found[1, -2:].tolist() == [NOBODY, NOBODY]


@given(seed=st.integers(0, 2**31), depth=st.integers(0, 12), missing=st.integers(0, 5))
def test_rescoring_moves_rows_and_loses_none(seed: int, depth: int, missing: int) -> None:
    generator = np.random.default_rng(seed)
    codes = pack_signs(generator.standard_normal((20, 16)).astype(np.float32))
    ranked = np.stack([generator.permutation(20)[:depth] for _ in range(3)]).reshape(3, depth)
    ranked[:, max(0, depth - missing) :] = NOBODY
    found = rescored(ranked, generator.standard_normal((3, 16)).astype(np.float32), codes)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(ranked, axis=1))
    np.testing.assert_array_equal(found == NOBODY, ranked == NOBODY)


def test_rescoring_leaves_the_order_of_what_ties_and_the_ranking_it_was_given() -> None:
    codes = np.zeros((40, 2), dtype=np.uint8)
    ranked = np.random.default_rng(1).permutation(40)[None]
    given, nearer = ranked.copy(), int(ranked[0, 30])
    codes[nearer] = 255
    (found,) = rescored(ranked, np.ones((1, 16), dtype=np.float32), codes)
    assert found.tolist() == [nearer, *(row for row in given[0] if row != nearer)]
    np.testing.assert_array_equal(ranked, given)


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.one_of(st.just(float("nan")), st.floats(0, 1, width=32))),
        max_size=30,
    )
)
def test_the_median_category_is_the_median_of_means(asked: list[tuple[int, float]]) -> None:
    by_category: defaultdict[int, list[float]] = defaultdict(list)
    for category, value in asked:
        if value == value:
            by_category[category].append(value)
    values = np.array([value for _, value in asked], dtype=np.float64)
    categories = np.array([category for category, _ in asked], dtype=np.int64)
    found = category_median(values, categories)
    if not by_category:
        assert found is None
    else:
        assert found == pytest.approx(statistics.median(statistics.fmean(one) for one in by_category.values()))


def test_rare_categories_weigh_as_much_as_frequent_ones() -> None:
    values = np.array([1.0] * 97 + [0.0, 0.1, 0.2])
    categories = np.array([0] * 97 + [1, 2, 3])
    assert mean(values) == pytest.approx(0.973)
    assert category_median(values, categories) == pytest.approx(0.15)
    images = np.arange(len(values))
    again = resampled_category_medians(values, categories, seed=0, images=images)
    assert again.shape == (1000,)
    low, high = np.quantile(again, (0.025, 0.975))
    assert low < 0.15 < high
    np.testing.assert_array_equal(again, resampled_category_medians(values, categories, seed=0, images=images))
    one, none = np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64)
    assert np.isnan(resampled_category_medians(np.array([np.nan]), one, seed=0, images=one)).all()
    nobody = resampled_category_medians(np.zeros(0), none, seed=0, images=none)
    assert nobody.shape == (1000,)
    assert np.isnan(nobody).all()
