"""SIGTERM, Ctrl-C and a terminal that goes away end a program orderly; `nohup` keeps the last from it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from searchanything.cli.watch import _stopped_by_signals, _until_signal
from searchanything.processes import ending_signals

WISHES = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.fixture
def hang_up() -> Iterator[Callable[[signal.Handlers], None]]:
    """What a hang-up does to this process."""
    before = signal.getsignal(signal.SIGHUP)
    yield lambda does: signal.signal(signal.SIGHUP, does) and None
    signal.signal(signal.SIGHUP, before)


def test_an_ignored_hang_up_stays_so(hang_up: Callable[[signal.Handlers], None]) -> None:
    hang_up(signal.SIG_DFL)
    assert set(ending_signals()) == set(WISHES)
    hang_up(signal.SIG_IGN)
    assert set(ending_signals()) == {signal.SIGTERM, signal.SIGINT}
    with _stopped_by_signals(lambda: pytest.fail("it was stopped")):
        os.kill(os.getpid(), signal.SIGHUP)


@pytest.mark.parametrize("wish", WISHES)
def test_watch_is_stopped(wish: signal.Signals, hang_up: Callable[[signal.Handlers], None]) -> None:
    hang_up(signal.SIG_DFL)
    stopped = threading.Event()
    with _stopped_by_signals(stopped.set):
        os.kill(os.getpid(), wish)
        assert stopped.wait(10)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


@pytest.mark.parametrize("wish", WISHES)
def test_a_worker_is_cancelled(wish: signal.Signals, hang_up: Callable[[signal.Handlers], None]) -> None:
    hang_up(signal.SIG_DFL)

    async def work() -> None:
        os.kill(os.getpid(), wish)
        await asyncio.sleep(60)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(_until_signal(work()))
