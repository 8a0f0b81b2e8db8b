"""Packing, Hamming distances and generations."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchanything.core import codes
from searchanything.core.codes import generation_at, hamming, next_generation, pack_signs, stacked

seed = st.integers(0, 2**32 - 1)
code_bytes = st.integers(1, 40)


@given(seed, st.integers(0, 5), code_bytes)
def test_a_bit_is_set_where_the_activation_is_positive_first_bit_highest(seed: int, count: int, width: int) -> None:
    generator = np.random.default_rng(seed)
    activations = generator.choice([-1.0, -1e-30, -0.0, 0.0, 1e-30, 2.0], (count, 8 * width)).astype(np.float32)
    packed = pack_signs(activations)
    assert (packed.dtype, packed.shape) == (np.uint8, (count, width))
    for row, code in zip(activations.tolist(), packed, strict=True):
        bits = "".join("1" if value > 0 else "0" for value in row)
        assert int.from_bytes(code.tobytes(), "big") == int(bits, 2)


@given(seed, st.integers(0, 9), code_bytes)
def test_stacked_codes_are_their_rows(seed: int, count: int, width: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 256, (count, width), dtype=np.uint8)
    found = stacked((row.tobytes() for row in rows), 8 * width)
    assert (found.dtype, found.shape) == (np.uint8, (count, width))
    assert (found == rows).all()
    if count:
        with pytest.raises(ValueError, match=f"{count} codes of {8 * width + 8} bits"):
            stacked([row.tobytes() for row in rows], 8 * width + 8)


@pytest.mark.parametrize("shape", [(2, 12), (8,), (1, 2, 8)])
def test_activations_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        pack_signs(np.zeros(shape, dtype=np.float32))


@given(seed, st.integers(0, 6), st.integers(0, 9), code_bytes)
def test_distances_are_those_of_whole_numbers(seed: int, queries: int, count: int, width: int) -> None:
    generator = np.random.default_rng(seed)
    one = generator.integers(0, 256, (queries, width), dtype=np.uint8)
    other = generator.integers(0, 256, (count, width), dtype=np.uint8)
    found = hamming(one, other)
    assert (found.dtype, found.shape) == (np.int32, (queries, count))
    numbers, others = ([int.from_bytes(row.tobytes(), "big") for row in rows] for rows in (one, other))
    assert found.tolist() == [[(a ^ b).bit_count() for b in others] for a in numbers]


@pytest.mark.parametrize("width", [3, 16])
def test_distances_to_many_codes_are_those_of_whole_numbers(width: int) -> None:
    """More than are counted at a time, and no multiple of that."""
    codes = np.random.default_rng(5).integers(0, 256, (20_001, width), dtype=np.uint8)
    numbers = [int.from_bytes(row.tobytes(), "big") for row in codes]
    expected = [[(asked ^ other).bit_count() for other in numbers] for asked in numbers[:2]]
    assert hamming(codes[:2], codes).tolist() == expected


def test_the_longest_distance_does_not_overflow() -> None:
    assert hamming(np.zeros((1, 4096), np.uint8), np.full((1, 4096), 255, np.uint8)).tolist() == [[32768]]


@pytest.mark.parametrize(("one", "other"), [((2, 3), (2, 4)), ((3,), (2, 3)), ((2, 3), (3,))])
def test_codes_of_different_lengths_never_meet(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="of one length"):
        hamming(np.zeros(one, np.uint8), np.zeros(other, np.uint8))


def test_generations_rise_strictly_and_are_times() -> None:
    before = time.time_ns()
    drawn = [next_generation() for _ in range(5000)]
    assert all(one < following for one, following in pairwise(drawn))
    assert before - 1024 <= drawn[0] < drawn[-1] < time.time_ns() + 1024 + 5000
    assert drawn[-1] < 2**63


def test_threads_never_share_a_generation() -> None:
    with ThreadPoolExecutor(8) as pool:
        drawn = [one for many in pool.map(lambda _: [next_generation() for _ in range(500)], range(8)) for one in many]
    assert len(set(drawn)) == len(drawn)


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> int:
    """A clock that stands, and a process that has drawn nothing yet."""
    now = 1_790_000_000_123_456_789
    monkeypatch.setattr(codes.time, "time_ns", lambda: now)
    monkeypatch.setattr(codes, "_last", 0)
    return now


def test_generations_rise_while_the_clock_stands_or_is_set_back(frozen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = next_generation(), next_generation()
    assert abs(first - frozen) < 1024
    monkeypatch.setattr(codes.time, "time_ns", lambda: frozen - 10**12)
    assert first < second < next_generation()


@pytest.mark.parametrize("ahead", [0, 1, 1023, 1024, 10**18])
def test_a_generation_lies_above_the_one_it_replaces(frozen: int, ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    for _ in range(50):
        monkeypatch.setattr(codes, "_last", 0)
        taken.append(next_generation(after=frozen + ahead) - frozen - ahead)
    assert 0 < min(taken) <= max(taken) <= 2**20 + 1
    if ahead >= 1024:
        assert len(set(taken)) > 45, "so many workers at once would hardly take the same one"


@pytest.mark.parametrize("ahead", [0, 1, 10**18])
def test_the_least_draw_lies_above_it_too(frozen: int, ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes.secrets, "randbelow", lambda _: 0)
    replaced = frozen // 1024 * 1024 + ahead
    assert next_generation(after=replaced) > replaced


def test_generations_of_an_age_lie_so_many_seconds_back(frozen: int) -> None:
    assert generation_at(age_s=2.5) == frozen - 2_500_000_000
    assert generation_at(age_s=1e12) == 0, "older than 1970"


def test_one_that_replaces_something_old_is_a_time_like_any_other(frozen: int) -> None:
    assert abs(next_generation(after=frozen - 10**15) - frozen) < 1024


@pytest.mark.usefixtures("frozen")
def test_workers_at_one_instant_draw_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """As two processes would: neither knows what the other has drawn."""
    drawn = set()
    for _ in range(200):
        monkeypatch.setattr(codes, "_last", 0)
        drawn.add(next_generation())
    assert len(drawn) > 120  # of 1024; 182 are expected
    assert max(drawn) - min(drawn) < 1024


def test_processes_at_one_instant_draw_apart() -> None:
    code = (
        "from searchanything.core import codes\n"
        "codes.time.time_ns = lambda: 1 << 60\n"
        "print(*[setattr(codes, '_last', 0) or codes.next_generation() for _ in range(20)])"
    )
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    one, other = (run.communicate(timeout=60)[0].split() for run in runs)
    assert len(one) == len(other) == 20
    assert one != other


def test_generations_fit_63_bits_until_2262(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes.time, "time_ns", lambda: 2**63 - 1)
    monkeypatch.setattr(codes, "_last", 0)
    assert 2**63 - 1024 <= next_generation() < 2**63
