"""Nearly equal codes: every pair is found, and groups are what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchanything.core.codes import hamming
from searchanything.core.errors import UsageError
from searchanything.search.duplicates import duplicate_groups, near_pairs


def crowded(seed: int, count: int, flips: int) -> np.ndarray:
    """Codes in crowds: a few centres, each with a few bits changed."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (max(1, count // 4), 64), dtype=np.uint8)[rng.integers(0, max(1, count // 4), count)]
    for row in bits:
        row[rng.choice(64, rng.integers(0, flips + 1), replace=False)] ^= 1
    return np.packbits(bits, axis=1)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 60), flips=st.integers(0, 12), max_bits=st.integers(0, 20))
def test_every_near_pair_is_found_once(seed: int, count: int, flips: int, max_bits: int) -> None:
    codes = np.unique(crowded(seed, count, flips), axis=0) if count else np.zeros((0, 8), dtype=np.uint8)
    expected = {
        (left, right)
        for left, row in enumerate(hamming(codes, codes))
        for right in np.flatnonzero(row <= max_bits).tolist()
        if left < right
    }
    assert [tuple(pair) for pair in near_pairs(codes, max_bits=max_bits).tolist()] == sorted(expected)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 60), flips=st.integers(0, 6), max_bits=st.integers(0, 12))
def test_groups_hold_what_is_near_their_first(seed: int, count: int, flips: int, max_bits: int) -> None:
    codes = crowded(seed, count, flips)[:count]
    groups = duplicate_groups(codes, max_bits=max_bits)
    members = [one for group in groups for one in group.members]
    assert len(members) == len(set(members))
    for group in groups:
        distances = hamming(codes[group.members[0]][None], codes[list(group.members)])[0]
        assert tuple(distances.tolist()) == group.distances_bits
        assert max(group.distances_bits) <= max_bits
        assert len(group.members) > 1
    sizes = [len(group.members) for group in groups]
    assert sizes == sorted(sizes, reverse=True)
    alone = [one for one in range(len(codes)) if one not in members]
    apart = hamming(codes[alone], codes[alone]) + 1000 * np.eye(len(alone), dtype=np.int32)
    assert not len(alone) or apart.min() > max_bits, "two that are left alone are no duplicates of one another"


@pytest.mark.parametrize("bits", [-1, 32, 2.5, True])
def test_what_is_no_distance(bits: object) -> None:
    with pytest.raises(UsageError, match="from 0 to 31 bits"):
        duplicate_groups(np.zeros((2, 32), dtype=np.uint8), max_bits=bits)  # type: ignore[arg-type]
