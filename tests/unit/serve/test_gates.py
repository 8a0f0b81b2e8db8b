"""How much is done at once: so many work, so many wait, one more learns when; what takes too long keeps its place."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from fakes.loop_clock import LoopClock

from searchanything.core.byte_cache import ByteCache
from searchanything.core.errors import AnswerTimeoutError, BusyError
from searchanything.serve.gates import Gate


def test_one_more_than_work_and_wait_is_refused() -> None:
    release, running = threading.Event(), threading.Semaphore(0)
    gate = Gate("models", width=2, waiting=3, timeout_s=30)

    def work() -> int:
        running.release()
        release.wait(30)
        return 7

    async def ask() -> None:
        inside = [asyncio.ensure_future(gate.run(work)) for _ in range(5)]
        for _ in range(2):
            await asyncio.to_thread(running.acquire)
        assert gate.inside == 5
        with pytest.raises(BusyError) as caught:
            await gate.run(work)
        assert caught.value.retry_after_s >= 1
        release.set()
        assert await asyncio.gather(*inside) == [7] * 5
        assert await gate.run(lambda: 8) == 8

    asyncio.run(ask())
    assert gate.inside == 0
    gate.close()


def test_what_takes_too_long_is_answered_for_and_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, held = LoopClock(monkeypatch), Held()
    gate = Gate("models", width=1, waiting=0, timeout_s=60)

    async def ask() -> None:
        late = asyncio.ensure_future(gate.run(held))
        assert await asyncio.to_thread(held.running.wait, 30)
        clock.put_forward(60.0)
        with pytest.raises(AnswerTimeoutError, match=r"within 60 s"):
            await late
        assert gate.inside == 1
        with pytest.raises(BusyError, match="worked on"):
            await gate.run(lambda: None)
        held.released.set()
        await left(gate)
        await gate.run(lambda: None)

    asyncio.run(ask())
    gate.close()


async def left(gate: Gate) -> None:
    """Wait until nothing is inside."""
    async with asyncio.timeout(30):
        while gate.inside:
            await asyncio.sleep(0.001)


class Held:
    """Work that says when it runs, and goes on when it is released."""

    def __init__(self) -> None:
        self.running, self.released = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.running.set()
        self.released.wait(30)


def test_what_waited_too_long_was_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, held, begun = LoopClock(monkeypatch), Held(), threading.Event()
    gate = Gate("models", width=1, waiting=1, timeout_s=60)

    async def ask() -> None:
        first = asyncio.ensure_future(gate.run(held))
        assert await asyncio.to_thread(held.running.wait, 30)
        waiting = asyncio.ensure_future(gate.run(begun.set))
        await asyncio.sleep(0)
        clock.put_forward(60.0)
        with pytest.raises(BusyError, match="not begun") as caught:
            await waiting
        assert caught.value.retry_after_s >= 1
        with pytest.raises(AnswerTimeoutError):
            await first
        held.released.set()
        await left(gate)

    asyncio.run(ask())
    assert not begun.is_set()
    gate.close()


def test_who_goes_away_while_they_wait_make_room_and_nothing_is_begun_for_them() -> None:
    held, begun = Held(), threading.Event()
    gate = Gate("models", width=1, waiting=1, timeout_s=30)

    async def ask() -> None:
        first = asyncio.ensure_future(gate.run(held))
        assert await asyncio.to_thread(held.running.wait, 30)
        for _ in range(3):
            waiting = asyncio.ensure_future(gate.run(begun.set))
            await asyncio.sleep(0)
            assert gate.inside == 2
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert gate.inside == 1
        held.released.set()
        await first
        assert await gate.run(lambda: 8) == 8

    asyncio.run(ask())
    assert not begun.is_set()
    gate.close()


def test_a_closed_gate_begins_nothing_more() -> None:
    held, begun = Held(), threading.Event()
    gate = Gate("models", width=1, waiting=5, timeout_s=30)

    async def ask() -> None:
        first, second = (asyncio.ensure_future(gate.run(one)) for one in (held, begun.set))
        assert await asyncio.to_thread(held.running.wait, 30)
        gate.close()
        with pytest.raises(BusyError, match="ending"):
            await gate.run(begun.set)
        held.released.set()
        await first
        with pytest.raises(asyncio.CancelledError):
            await second

    asyncio.run(ask())
    assert (gate.inside, begun.is_set()) == (0, False)


def test_errors_of_the_work_are_its_own() -> None:
    gate = Gate("index", width=1, waiting=0, timeout_s=30)

    def own() -> None:
        raise TimeoutError("the store's")

    async def ask() -> None:
        for error, work in ((ZeroDivisionError, lambda: 1 / 0), (TimeoutError, own)):
            with pytest.raises(error):
                await gate.run(work)  # type: ignore[arg-type]
        assert gate.inside == 0

    asyncio.run(ask())
    gate.close()


def test_a_cache_keeps_the_last_used_within_its_bytes() -> None:
    cache = ByteCache[bytes](10, len)
    made: list[str] = []

    def maker(name: str) -> bytes:
        made.append(name)
        return name.encode() * 4

    for name in ("a", "b", "a", "c", "a", "b"):
        assert cache.get(name, lambda name=name: maker(name)) == name.encode() * 4  # type: ignore[misc]
    assert made == ["a", "b", "c", "b"]
    assert cache.held_bytes <= 10
    assert cache.get("large", lambda: b"x" * 99) == b"x" * 99
    assert cache.held_bytes <= 10
    cache.get("b", lambda: maker("b"))
    assert made == ["a", "b", "c", "b"], "what cannot be kept drives nothing out"


def test_a_value_that_cannot_be_measured_is_an_error_for_all_who_wait() -> None:
    cache = ByteCache[bytes](10, lambda value: 1 // len(value))
    for _ in range(
        2
    ):  # the second one had a value that was never counted, and who waited for the first went on waiting
        with pytest.raises(ZeroDivisionError):
            cache.get("a", bytes)


def test_a_cache_makes_a_thing_once_for_all_who_wait() -> None:
    cache, started, release = ByteCache[bytes](100, len), threading.Event(), threading.Event()
    made: list[int] = []

    def make() -> bytes:
        started.set()
        release.wait(30)
        made.append(1)
        raise ValueError("once")

    failures: list[Exception] = []

    def get() -> None:
        try:
            cache.get("a", make)
        except ValueError as error:
            failures.append(error)

    threads = [threading.Thread(target=get) for _ in range(4)]
    threads[0].start()
    started.wait(30)
    for thread in threads[1:]:
        thread.start()
    deadline = time.monotonic() + 20
    while cache.misses < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    release.set()
    for thread in threads:
        thread.join(30)
    assert (len(made), len(failures)) == (1, 4)
    assert cache.get("a", lambda: b"now") == b"now"
