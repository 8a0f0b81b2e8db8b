"""How many of the hits chance alone would give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from fakes.answers import hit
from hypothesis import given
from hypothesis import strategies as st

from searchanything.answers.matching import Matching

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


def test_the_nearest_of_many_is_what_chance_gives() -> None:
    rng = np.random.default_rng(3)
    good = sum(
        judged(sorted(rng.random(2000))[:24], 2000).chance_shares()[0] <= 0.1
        for _ in range(400)  # type: ignore[operator]
    )
    assert 20 <= good <= 60, "of unrelated questions a tenth, as the share says"
