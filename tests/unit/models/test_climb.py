"""The climb picks the knee of whatever curve of speeds it is given, and ends when time is up."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from searchanything.models.climb import BUDGET_S, GAIN, PATIENCE, Climb

SIZES = (8, 16, 32, 64, 128, 256)
CLEAR = st.floats(GAIN + 0.01, 3.0)  # a step that nobody takes for noise
STEPS = st.lists(CLEAR, min_size=len(SIZES) - 1, max_size=len(SIZES) - 1)


def climbed(speeds: dict[int, float], delays: list[float] | None = None) -> tuple[Climb, dict[int, int]]:
    """A climb over a curve to its end, and how often each size was timed. A pass takes longer by its delay."""
    climb, passes = Climb(tuple(speeds)), dict.fromkeys(speeds, 0)
    waits = iter(delays or [])
    while (size := climb.size) is not None:
        passes[size] += 1
        climb.add(size / speeds[size] + next(waits, 0.0))
    return climb, passes


def fast(shape: list[float]) -> dict[int, float]:
    """A curve of that shape, whose passes take milliseconds."""
    return {size: 1e5 * speed / max(shape) for size, speed in zip(SIZES, shape, strict=True)}


@given(steps=STEPS, peak=st.integers(0, len(SIZES) - 1))
def test_it_finds_the_peak_of_a_curve_that_rises_and_falls(steps: list[float], peak: int) -> None:
    shape = [1.0]
    for place, step in enumerate(steps):
        shape.append(shape[-1] * (step if place < peak else 1 / step))
    climb, passes = climbed(fast(shape))
    assert climb.best == SIZES[peak]
    assert not any(list(passes.values())[peak + 1 + PATIENCE :]), "nothing is tried far beyond it"


@given(steps=STEPS, knee=st.integers(0, len(SIZES) - 1))
def test_where_speed_no_longer_rises_the_smallest_such_size_is_taken(steps: list[float], knee: int) -> None:
    shape = [1.0]
    for place, step in enumerate(steps):
        shape.append(shape[-1] * (step if place < knee else 1.01))
    assert climbed(fast(shape))[0].best == SIZES[knee]


@given(shape=st.lists(st.floats(0.01, 100.0), min_size=len(SIZES), max_size=len(SIZES)))
def test_of_any_curve_nothing_that_was_tried_is_much_faster(shape: list[float]) -> None:
    climb, passes = climbed(fast(shape))
    assert climb.best is not None
    tried = [size for size, count in passes.items() if count]
    assert tried == list(SIZES[: len(tried)])
    assert all(one * 2 == other for one, other in pairwise(tried))
    best = climb.speed(climb.best) or 0
    assert all((climb.speed(size) or 0) <= best * GAIN * (1 + 1e-9) for size in tried)


@given(
    steps=STEPS,
    peak=st.integers(0, len(SIZES) - 1),
    delays=st.lists(st.floats(0, 0.05), min_size=24, max_size=24),
)
def test_one_undisturbed_pass_of_each_size_is_enough(steps: list[float], peak: int, delays: list[float]) -> None:
    shape = [1.0]
    for place, step in enumerate(steps):
        shape.append(shape[-1] * (step if place < peak else 1 / step))
    curve = {size: speed * 100 for size, speed in fast(shape).items()}  # so that delays are long, but not for a budget
    disturbed = [0.0 if number % 3 == 1 else delay for number, delay in enumerate(delays)]
    assert climbed(curve, disturbed)[0].best == SIZES[peak]


@given(rate=st.floats(0.001, 30.0))
def test_a_slow_model_ends_the_climb_when_time_is_up(rate: float) -> None:
    climb, passes = climbed(dict.fromkeys(SIZES, rate))
    spent = sum(size * count / rate for size, count in passes.items())
    longest = max(size / rate for size, count in passes.items() if count)
    assert spent < BUDGET_S + longest
    if spent < BUDGET_S:
        assert climb.best == SIZES[0]


def test_a_single_pass_beyond_the_budget_chooses_nothing() -> None:
    climb = Climb(SIZES)
    climb.add(BUDGET_S)
    assert (climb.size, climb.best) == (None, None)


def test_long_passes_are_not_repeated_often() -> None:
    """Two of them: the first may have been slow for once."""
    _, passes = climbed({8: 16.0, 16: 16.0, 32: 16.0})
    assert passes == {8: 2, 16: 2, 32: 2}


def test_a_climb_that_is_stopped_keeps_the_best_so_far() -> None:
    climb = Climb(SIZES)
    for speed in (100, 100, 100, 200, 200, 200):
        climb.add((climb.size or 0) / speed)
    assert climb.size == 32
    climb.stop()
    assert (climb.size, climb.best, climb.speed(32)) == (None, 16, None)


def test_a_clock_that_stands_still_does_no_harm() -> None:
    climb = Climb((4,))
    for _ in range(3):
        climb.add(0.0)
    assert (climb.size, climb.best) == (None, 4)
