"""The climb picks the knee of whatever curve of speeds it is given, and ends when time is up."""

from __future__ import annotations

from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchanything.models.climb import BUDGET_S, FASTER, PASSES, PATIENCE, TURNS, Climb

SIZES = (8, 16, 32, 64, 128, 256)
USUAL = st.sampled_from(SIZES)
CLEAR = st.floats(FASTER + 0.01, 3.0)  # a step that nobody takes for noise
STEPS = st.lists(CLEAR, min_size=len(SIZES) - 1, max_size=len(SIZES) - 1)


def climbed(speeds: dict[int, float], usual: int, *, delays: tuple[float, ...] = (0.0,)) -> tuple[Climb, list[int]]:
    """A climb over a curve to its end, and the sizes that were timed. A pass takes longer by its delay, in a circle."""
    climb, timed = Climb(tuple(speeds), usual), list[int]()
    for number in count():
        if (size := climb.size) is None:
            return climb, timed
        timed.append(size)
        climb.add(size / speeds[size] + delays[number % len(delays)])
    raise AssertionError


def fast(shape: list[float]) -> dict[int, float]:
    """A curve of that shape, whose passes take milliseconds."""
    return {size: 1e5 * speed / max(shape) for size, speed in zip(SIZES, shape, strict=True)}


def peaked(steps: list[float], peak: int) -> list[float]:
    """It rises to a place and falls from there."""
    shape = [1.0]
    for place, step in enumerate(steps):
        shape.append(shape[-1] * (step if place < peak else 1 / step))
    return shape


@given(steps=STEPS, peak=st.integers(0, len(SIZES) - 1), usual=USUAL)
def test_it_finds_the_peak_of_a_curve_that_rises_and_falls(steps: list[float], peak: int, usual: int) -> None:
    curve = fast(peaked(steps, peak))
    climb, timed = climbed(curve, usual)
    assert climb.choice == SIZES[peak]
    assert climb.speed == pytest.approx(curve[SIZES[peak]])
    tried = set(timed) - {usual}
    assert not tried & set(SIZES[peak + 1 + PATIENCE :]), "nothing is tried far beyond it"


@given(steps=STEPS, knee=st.integers(0, len(SIZES) - 1), usual=USUAL)
def test_where_speed_no_longer_rises_the_smallest_such_size_is_taken(steps: list[float], knee: int, usual: int) -> None:
    """The usual one is kept where it is as fast."""
    shape = [1.0]
    for place, step in enumerate(steps):
        shape.append(shape[-1] * (step if place < knee else 1.001))
    assert climbed(fast(shape), usual)[0].choice == max(SIZES[knee], usual)


@given(shape=st.lists(st.floats(0.01, 100.0), min_size=len(SIZES), max_size=len(SIZES)), usual=USUAL)
def test_of_any_curve_nothing_that_was_tried_is_much_faster(shape: list[float], usual: int) -> None:
    curve = fast(shape)
    climb, timed = climbed(curve, usual)
    assert climb.choice is not None
    assert curve[climb.choice] >= curve[usual]
    assert all(curve[size] <= curve[climb.choice] * FASTER**2 * (1 + 1e-9) for size in timed)
    up = list(dict.fromkeys(timed[: next((n for n, (a, b) in enumerate(pairwise(timed)) if b < a), len(timed)) + 1]))
    assert up == list(SIZES[: len(up)])


@given(
    steps=STEPS,
    peak=st.integers(0, len(SIZES) - 1),
    delays=st.tuples(st.just(0.0), st.floats(0, 0.05), st.floats(0, 0.05)),
)
def test_one_undisturbed_pass_of_each_size_is_enough_to_find_it(
    steps: list[float], peak: int, delays: tuple[float, ...]
) -> None:
    """It is tried in turns at least, if it is not the usual one."""
    usual = SIZES[0]
    _, timed = climbed(fast(peaked(steps, peak)), usual, delays=delays)
    turns = [size for size, before in zip(timed[1:], timed, strict=False) if before == usual != size][1:]
    assert set(turns) <= {SIZES[peak]}


@given(delays=st.lists(st.floats(0.0, 0.3), min_size=7, max_size=60), usual=USUAL)
def test_in_whatever_noise_the_usual_size_stays_unless_it_loses_every_turn(delays: list[float], usual: int) -> None:
    speeds = dict.fromkeys(SIZES, 1e5)
    climb, timed = climbed(speeds, usual, delays=tuple(delays))
    took = [size / 1e5 + delays[number % len(delays)] for number, size in enumerate(timed)]
    if climb.choice != usual:
        assert climb.choice is not None
        most = max(climb.choice, usual)
        one_turn = [climb.choice] * (most // climb.choice) + [usual] * (most // usual)
        for turn in range(1, 4):  # from the last one back
            end = len(timed) - (turn - 1) * len(one_turn)
            first, middle = end - len(one_turn), end - most // usual
            assert timed[first:end] == one_turn
            assert sum(took[middle:end]) > sum(took[first:middle]) * FASTER


def test_a_single_lost_turn_is_enough_for_the_usual_size() -> None:
    climb = Climb((8, 16), 8)
    for _ in range(2 * PASSES):
        climb.add((climb.size or 0) / (200 if climb.size == 16 else 100))
    for _ in range(TURNS - 1):
        climb.add(16 / 200)
        climb.add(8 / 100)
        assert climb.size == 8, "as much work as the other"
        climb.add(8 / 100)
    assert (climb.choice, climb.size) == (None, 16)
    climb.add(16 / 100)
    climb.add(8 / 100)
    climb.add(8 / 100)
    assert (climb.choice, climb.size) == (8, None)


@given(rate=st.floats(0.001, 30.0), usual=USUAL)
def test_a_slow_model_ends_the_climb_when_time_is_up(rate: float, usual: int) -> None:
    climb, timed = climbed(dict.fromkeys(SIZES, rate), usual)
    assert climb.choice == usual
    turns = 0 if len(timed) == 1 or usual == SIZES[0] else usual // SIZES[0] + 1  # the first one, which is lost
    spent = [size / rate for size in timed[: len(timed) - turns]]
    assert sum(spent[:-1]) < BUDGET_S


def test_a_single_pass_beyond_the_budget_leaves_the_usual_size() -> None:
    climb = Climb(SIZES, 32)
    climb.add(BUDGET_S)
    assert (climb.size, climb.choice, climb.speed) == (None, 32, 0.0)


def test_when_time_is_up_the_best_so_far_has_its_turns() -> None:
    climb = Climb(SIZES, 8)
    while climb.size != 64:
        climb.add({8: 4.0, 16: 3.0, 32: 2.0}[climb.size or 0])
    climb.add(BUDGET_S)
    assert climb.size == 32
    for _ in range(3):
        climb.add(2.0)
        for _ in range(4):
            climb.add(4.0)
    assert (climb.choice, climb.speed) == (32, 16.0)


def test_long_passes_are_not_repeated_often() -> None:
    """Two of them: the first may have been slow for once."""
    _, timed = climbed({8: 16.0, 16: 16.0, 32: 16.0}, 8)
    assert timed == [8, 8, 16, 16, 32, 32]


@pytest.mark.parametrize(("usual", "choice"), [(8, None), (16, 16), (32, 16), (64, 16)])
def test_memory_that_runs_out_ends_the_climb_at_the_best_so_far(usual: int, choice: int | None) -> None:
    climb = Climb(SIZES, usual)
    for speed in (100, 100, 100, 200, 200, 200):
        climb.add((climb.size or 0) / speed)
    assert climb.size == 32
    climb.run_out()
    assert climb.choice == choice, "where the usual size fits it has its turns"
    assert climb.size == (16 if choice is None else None)


def test_a_size_that_runs_out_in_its_turns_is_not_chosen() -> None:
    climb = Climb(SIZES, 8)
    while climb.size != 32 or climb._up:
        climb.add((climb.size or 0) / {8: 100, 16: 200, 32: 300, 64: 250, 128: 250}[climb.size or 0])
    climb.run_out()
    assert climb.choice == 8


def test_memory_for_nothing_that_is_tried_leaves_the_usual_size() -> None:
    climb = Climb(SIZES, 32)
    climb.run_out()
    assert climb.choice == 32


def test_a_clock_that_stands_still_does_no_harm() -> None:
    climb = Climb((4,), 4)
    for _ in range(3):
        climb.add(0.0)
    assert (climb.size, climb.choice) == (None, 4)
