"""The queue of hints: coalesced, debounced, bounded. Time is a number that the test moves."""

from __future__ import annotations

import random

import pytest

from searchanything.core.settings import ServiceSettings
from searchanything.service.waves import WaveQueue

LIMITS = ServiceSettings(quiet_s=1.0, longest_wait_s=3.0, wave_keys=4, queue_keys=10)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WaveQueue:
    return WaveQueue(LIMITS, clock=clock)


def test_nothing_is_due_while_nothing_waits(queue: WaveQueue) -> None:
    assert queue.due_in_s() is None
    assert queue.take() == ()


def test_a_wave_is_due_after_quiet(queue: WaveQueue, clock: Clock) -> None:
    queue.put(["a"])
    assert queue.due_in_s() == pytest.approx(1.0)
    clock.now += 0.75
    queue.put(["b"])
    assert queue.due_in_s() == pytest.approx(1.0)
    clock.now += 1.0
    assert queue.due_in_s() == 0.0
    assert queue.take() == ("a", "b")


def test_no_key_waits_longer_than_the_longest_wait(queue: WaveQueue, clock: Clock) -> None:
    for _ in range(6):
        queue.put(["a"])  # never quiet
        clock.now += 0.5
    assert queue.due_in_s() == 0.0


def test_a_full_wave_is_due_at_once_and_the_rest_waits(queue: WaveQueue) -> None:
    queue.put("abcdef")
    assert queue.due_in_s() == 0.0
    assert queue.take() == ("a", "b", "c", "d")
    assert queue.due_in_s() == pytest.approx(1.0)
    assert queue.take() == ("e", "f")


def test_as_many_keys_as_a_wave_holds_are_a_full_one(queue: WaveQueue) -> None:
    queue.put("abc")
    assert queue.due_in_s() == pytest.approx(1.0)
    queue.put("d")
    assert queue.due_in_s() == 0.0


def test_how_long_a_key_that_is_being_worked_on_has_waited_hastens_no_other(queue: WaveQueue, clock: Clock) -> None:
    queue.put(["a"])
    queue.take()
    queue.put(["a"])
    clock.now += 2.5
    queue.put(["b"])
    assert queue.due_in_s() == pytest.approx(1.0)


def test_the_end_of_what_was_not_worked_on_changes_nothing(queue: WaveQueue) -> None:
    queue.put(["a"])
    queue.done(["a", "b"])
    assert queue.take() == ("a",)
    assert queue.due_in_s() is None


def test_doubled_hints_are_one(queue: WaveQueue) -> None:
    queue.put(["a", "a", "b", "a"])
    queue.put(["a"])
    assert (queue.take(), queue.hints) == (("a", "b"), 5)


def test_a_key_that_is_being_worked_on_waits_until_that_is_done(queue: WaveQueue, clock: Clock) -> None:
    queue.put(["a"])
    assert queue.take() == ("a",)
    queue.put(["a"])
    clock.now += 10
    assert queue.due_in_s() is None
    assert (queue.take(), len(queue)) == ((), 2)
    queue.done(["a"])
    assert queue.due_in_s() == 0.0
    assert queue.take() == ("a",)


def test_what_does_not_fit_is_left_to_a_sync(queue: WaveQueue) -> None:
    queue.put(str(number) for number in range(11))
    assert len(queue) == 10
    assert queue.take_pending() == ("more than 10 keys waited",)
    assert queue.take_pending() == ()


def test_asking_when_a_wave_is_due_costs_no_look_at_all_that_waits(clock: Clock) -> None:
    """It is asked after every hint: in all that would be the square of their number."""
    queue = WaveQueue(ServiceSettings(wave_keys=256, queue_keys=5000), clock=clock)
    looks = 0

    class Counting(dict[str, float]):
        def items(self):  # type: ignore[no-untyped-def]
            nonlocal looks
            for item in super().items():
                looks += 1
                yield item

    queue._waiting = Counting()
    for number in range(2000):
        queue.put([f"{number}"])
        queue.due_in_s()
    assert looks <= 2000


def test_whoever_waits_is_told(clock: Clock) -> None:
    told: list[str] = []
    queue = WaveQueue(LIMITS, on_change=lambda: told.append("change"), clock=clock)
    queue.put(["a"])
    queue.request_sync("why")
    queue.done(["a"])
    assert len(told) == 3
    assert queue.take_pending() == ("why",)


@pytest.mark.parametrize("seed", range(20))
def test_no_hint_is_ever_lost(seed: int) -> None:
    """Whatever the order of hints, waves and their ends: after its last hint, each key is in a wave that begins."""
    choose, clock = random.Random(seed), Clock()  # noqa: S311
    queue = WaveQueue(LIMITS, clock=clock)
    dirty: set[str] = set()  # hinted at since it was last taken
    working: list[tuple[str, ...]] = []
    for _ in range(300):
        clock.now += choose.random()
        assert queue._blocked == len(queue._working & queue._waiting.keys())
        match choose.choice(["put", "put", "take", "done"]):
            case "put":
                key = choose.choice("abcdefghijklmnop")
                queue.put([key])
                if not queue.take_pending():
                    dirty.add(key)
            case "take" if queue.due_in_s() == 0.0:
                wave = queue.take()
                assert 0 < len(wave) <= LIMITS.wave_keys
                assert not any(set(wave) & set(other) for other in working)
                dirty -= set(wave)
                working.append(wave)
            case "done" if working:
                queue.done(working.pop(choose.randrange(len(working))))
    for wave in working:
        queue.done(wave)
    rest: set[str] = set()
    while wave := queue.take():
        rest |= set(wave)
    assert rest == dirty
