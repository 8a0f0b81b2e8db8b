"""Nearly equal codes: every pair is found, and groups are what they say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from contracts.index_rows import random_codes
from hypothesis import given, settings
from hypothesis import strategies as st

from searchanything.core.codes import hamming
from searchanything.core.errors import UsageError
from searchanything.search import duplicates
from searchanything.search.duplicates import duplicate_groups, near_pairs


def crowded(seed: int, count: int, flips: int, *, length: int = 64) -> np.ndarray:
    """Codes of `length` bits in crowds: a few centres, each with a few bits changed."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (max(1, count // 4), length), dtype=np.uint8)[rng.integers(0, max(1, count // 4), count)]
    for row in bits:
        row[rng.choice(length, rng.integers(0, flips + 1), replace=False)] ^= 1
    return np.packbits(bits, axis=1)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 60),
    flips=st.integers(0, 12),
    max_bits=st.integers(0, 20),
    length=st.sampled_from([64, 256]),
    at_once=st.sampled_from([1, 7, 1000]),
)
def test_every_near_pair_is_found_once(
    seed: int, count: int, flips: int, max_bits: int, length: int, at_once: int
) -> None:
    codes = crowded(seed, count, flips, length=length)
    codes = np.unique(codes, axis=0) if count else np.zeros((0, length // 8), dtype=np.uint8)
    codes = np.random.default_rng(seed).permutation(codes)
    expected = {
        (left, right)
        for left, row in enumerate(hamming(codes, codes))
        for right in np.flatnonzero(row <= max_bits).tolist()
        if left < right
    }
    steps: list[tuple[str, int, int | None]] = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(duplicates, "_ROWS_AT_ONCE", at_once)
        monkeypatch.setattr(duplicates, "_PAIRS_AT_ONCE", at_once)
        found = near_pairs(codes, max_bits=max_bits, on_step=lambda *step: steps.append(step))
    assert [tuple(pair) for pair in found.tolist()] == sorted(expected)
    assert steps == [("comparing", done, max_bits + 1) for done in range(max_bits + 2)]


def test_no_part_is_all_dull_bits() -> None:
    """Bits that are the same in all codes tell none apart: each part has its share of the others."""
    codes = np.full((500, 32), 0x0F, dtype=np.uint8)
    codes[:, ::2] |= random_codes(500, seed=1, bits=128) & 0x80
    for count in (4, 8):
        assert [len(np.unique(part)) for part in duplicates._parts(codes, count)] == [2 ** (16 // count)] * count


def chained(seed: int, count: int, flips: int) -> np.ndarray:
    """Codes in a chain: each is the one before with a few bits changed, so that the near ones of near ones are far."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (1, 64), dtype=np.uint8)
    while len(bits) < count:
        bits = np.concatenate([bits, bits[-1:]])
        bits[-1, rng.choice(64, rng.integers(0, flips + 1), replace=False)] ^= 1
    return rng.permutation(np.packbits(bits, axis=1)[:count])


@settings(max_examples=100, deadline=None)
@given(
    make=st.sampled_from([crowded, chained]),
    seed=st.integers(0, 10_000),
    count=st.integers(0, 60),
    flips=st.integers(0, 6),
    max_bits=st.integers(0, 12),
)
def test_groups_hold_what_is_near_their_first(
    make: Callable[[int, int, int], np.ndarray], seed: int, count: int, flips: int, max_bits: int
) -> None:
    codes = make(seed, count, flips)[:count]
    groups = duplicate_groups(codes, max_bits=max_bits)
    near = (hamming(codes, codes) <= max_bits).sum(axis=1)
    members = [one for group in groups for one in group.members]
    assert len(members) == len(set(members))
    for group in groups:
        distances = hamming(codes[group.members[0]][None], codes[list(group.members)])[0]
        assert tuple(distances.tolist()) == group.distances_bits
        assert max(group.distances_bits) <= max_bits
        assert len(group.members) > 1
        assert near[list(group.members)].max() == near[group.members[0]], "the first has the most neighbours"
    sizes = [len(group.members) for group in groups]
    assert sizes == sorted(sizes, reverse=True)
    alone = [one for one in range(len(codes)) if one not in members]
    apart = hamming(codes[alone], codes[alone]) + 1000 * np.eye(len(alone), dtype=np.int32)
    assert not len(alone) or apart.min() > max_bits, "two that are left alone are no duplicates of one another"


@pytest.mark.parametrize("bits", [-1, 32, 2.5, True])
def test_what_is_no_distance(bits: object) -> None:
    with pytest.raises(UsageError, match="from 0 to 31 bits"):
        duplicate_groups(np.zeros((2, 32), dtype=np.uint8), max_bits=bits)  # type: ignore[arg-type]
