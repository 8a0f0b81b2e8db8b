"""Lists whose sizes add up to no more than a bound."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from searchanything.core.batching import bounded_batches


@given(st.lists(st.integers(0, 12)), st.integers(1, 20), st.none() | st.integers(1, 5))
def test_lists_are_as_long_as_the_bounds_allow(sizes: list[int], most: int, items: int | None) -> None:
    cut = list(bounded_batches(sizes, most, size_of=int, items_at_most=items))
    assert [size for batch in cut for size in batch] == sizes
    assert all(len(batch) == 1 or sum(batch) <= most for batch in cut if batch), "alone, or within the bound"
    assert all(0 < len(batch) <= (items or len(batch)) for batch in cut)
    for batch, following in pairwise(cut):
        assert len(batch) == items or sum(batch) + following[0] > most, "one more would have fitted"
