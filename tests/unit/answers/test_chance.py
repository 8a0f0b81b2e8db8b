"""How many of the hits chance alone would give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fakes.answers import hit
from hypothesis import given
from hypothesis import strategies as st

from searchanything.answers.hit_confidence import GOOD, Confidence, confidence_of
from searchanything.answers.matching import Matching, Scale
from searchanything.core.codes import hamming, pack_signs
from searchanything.core.types import Codes
from searchanything.search.calibration import LEAST_COMPARED, Background
from searchanything.search.search import Page

RATES = st.lists(st.floats(1e-9, 1.0), max_size=30).map(sorted)


def judged(rates: list[float], rows: int, *, order: list[int] | None = None) -> Matching:
    """Hits at rising distances; equal rates are equally far."""
    distances = np.unique(rates, return_inverse=True)[1] if rates else []
    hits = [
        replace(hit(number, distance=int(d)), false_match=r)
        for number, (r, d) in enumerate(zip(rates, distances, strict=True))
    ]
    return Matching(4096, None, None, tuple(hits[place] for place in order) if order else tuple(hits), rows)


def adjusted(rates: list[float], rows: int, before: int) -> list[float]:
    """q-values by their definition: the least of m p_j / j over all j whose p is at least as large."""
    ranks = [before + sum(other <= rate for other in rates) for rate in rates]
    ratios = [rate * rows / rank for rate, rank in zip(rates, ranks, strict=True)]
    return [min([1.0, *(r for r, other in zip(ratios, rates, strict=True) if other >= rate)]) for rate in rates]


@given(rates=RATES, rows=st.integers(1, 10**6), before=st.integers(0, 50))
def test_shares_are_adjusted_rates(rates: list[float], rows: int, before: int) -> None:
    found = judged(rates, rows).chance_shares(before=before)
    assert np.allclose(found, adjusted(rates, rows, before), atol=1e-8)
    assert found == sorted(found)


@given(rates=RATES.filter(bool), rows=st.integers(1, 10**6), data=st.data())
def test_the_order_of_the_page_changes_nothing(rates: list[float], rows: int, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(rates))))
    straight = judged(rates, rows).chance_shares()
    assert judged(rates, rows, order=order).chance_shares() == [straight[place] for place in order]


def test_a_rate_that_is_not_known_says_nothing() -> None:
    assert Matching(0, None, None, (hit(1), hit(2)), 50).chance_shares() == [None, None]
    assert Matching(0).chance_shares() == []


def test_a_judgement_is_shown_without_the_hits_that_it_is_of() -> None:
    shown = repr(judged([1e-3, 2e-3], 1000))
    assert "rows=1000" in shown
    assert "Hit(" not in shown
    assert "rates" not in shown


def test_the_nearest_of_many_is_what_chance_gives() -> None:
    rng = np.random.default_rng(3)
    good = sum(
        judged(sorted(rng.random(2000))[:24], 2000).chance_shares()[0] <= 0.1
        for _ in range(400)  # type: ignore[operator]
    )
    assert 20 <= good <= 60, "of unrelated questions a tenth, as the share says"


def alike(rng: np.random.Generator, count: int, base: np.ndarray, flipped: float) -> Codes:
    """Codes that differ from one of signs in so many of their bits."""
    return pack_signs(np.where(rng.random((count, 256)) < flipped, -base, base).astype(np.float32))


def first_word(codes: Codes, query: Codes) -> Confidence:
    """What is said of the nearest code, in an index of these whole images."""
    distances = hamming(query[None], codes)[0]
    nearest = int(distances.argmin())
    page = Page((hit(nearest, distance=int(distances[nearest])),), exact=True)
    return Scale.of(Background(codes, len(codes), "images"), query).matching(page).confidences[0]


@pytest.mark.parametrize("count", [10, 20, 60, 120, 199])
def test_one_of_a_small_crowd_is_no_good_match(count: int) -> None:
    """Whole images of one street agree by more than a third, all of them: that says nothing of any."""
    rng = np.random.default_rng(7)
    unrelated, copies = [], []
    for _ in range(100):
        street = rng.standard_normal(256)
        codes = alike(rng, count, street, 0.2)
        other = alike(rng, 1, street, 0.2)[0]
        copy = alike(rng, 1, np.unpackbits(codes[0]) * 2.0 - 1.0, 0.06)[0]
        unrelated.append(first_word(codes, other))
        copies.append(first_word(codes, copy))
    assert np.mean([one.word in GOOD for one in unrelated]) <= 0.15
    assert np.mean([one.word in GOOD for one in copies]) >= 0.85
    assert np.mean([one.value >= 0.34 for one in unrelated]) > 0.95, "by the agreement alone, these are fair"
    assert not any(one.calibrated for one in unrelated), "no rate is stated of so few codes"


def test_below_ten_codes_the_agreement_alone_says_it() -> None:
    rng = np.random.default_rng(7)
    street = rng.standard_normal(256)
    codes, other = alike(rng, LEAST_COMPARED - 1, street, 0.2), alike(rng, 1, street, 0.2)[0]
    assert first_word(codes, other).word == "fair"
    assert first_word(alike(rng, LEAST_COMPARED, street, 0.2), other).word not in GOOD


def test_of_two_hundred_codes_rates_are_stated() -> None:
    rng = np.random.default_rng(7)
    codes = alike(rng, 200, rng.standard_normal(256), 0.2)
    assert first_word(codes, codes[3]).calibrated
    scale = Scale.of(Background(codes, 200, "images"), codes[3])
    assert scale.rough_rates is None
    assert scale.matching(Page((hit(3),), exact=True)).rough_rates == ()


def test_rough_rates_count_the_pages_before() -> None:
    rough = Matching(0, hits=(hit(1, distance=60),), rows=50, bits=256, rough_rates=(0.02,))
    assert rough.chance_shares() == [1.0]
    assert rough.chance_shares(before=9) == [0.1]
    assert replace(rough, before=9).confidences == (Confidence("fair", 0.531, False),)


@pytest.mark.parametrize(
    ("bits_of_200", "word"),
    [
        (20, "very strong"),
        (21, "strong"),
        (40, "strong"),
        (41, "fair"),
        (65, "fair"),
        (67, "weak"),
        (79, "weak"),
        (81, "none"),
    ],
)
def test_the_agreement_in_words(bits_of_200: int, word: str) -> None:
    assert confidence_of(bits_of_200, 200).word == word


@pytest.mark.parametrize(
    ("share", "word"),
    [
        (0.001, "very strong"),
        (0.0011, "strong"),
        (0.01, "strong"),
        (0.011, "fair"),
        (0.1, "fair"),
        (0.11, "weak"),
        (0.5, "weak"),
        (0.51, "none"),
    ],
)
def test_the_share_of_chance_in_words(share: float, word: str) -> None:
    assert confidence_of(60, 200, share).word == word


def test_nine_tenths_of_agreement_are_strong_in_any_crowd() -> None:
    assert [confidence_of(distance, 200, 1.0).word for distance in (0, 10, 11)] == ["strong", "strong", "none"]
