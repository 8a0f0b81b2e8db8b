"""SIGTERM, Ctrl-C and a terminal that goes away end a program orderly; `nohup` keeps the last from it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from searchanything.cli.app import run
from searchanything.cli.watch import _stopped_by_signals, _until_signal
from searchanything.processes import ending_signals
from searchanything.service import tree

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


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("phase", ["check", "enter", "start", "run"])
def test_watch_ends_orderly_however_far_it_has_come(
    wish: signal.Signals,
    phase: str,
    hang_up: Callable[[signal.Handlers], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hang_up(signal.SIG_DFL)
    came: list[str] = []
    before = signal.signal(wish, lambda *_: came.append("as by default"))

    def at(here: str) -> None:
        came.append(here)
        if here == phase:
            os.kill(os.getpid(), wish)
            time.sleep(0.01)  # where a handler that raises does so

    class Tree:
        ui_url = api_url = folder = "here"
        password = password_file = None
        notes: dict[str, str] = {}  # noqa: RUF012

        def __enter__(self) -> Tree:
            at("enter")
            return self

        def __exit__(self, *_: object) -> None:
            came.append("exit")

        def start_watching(self) -> None:
            at("start")

        def run(self) -> None:
            at("run")

        def stop(self) -> None:
            came.append("stop")

        def close(self) -> None:
            came.append("close")

    monkeypatch.setattr(tree, "check_watchable", lambda *_: at("check"))
    monkeypatch.setattr(tree, "ServiceTree", lambda *_, **__: Tree())
    code = run(["watch", "folder", "--preset", "pico"])
    signal.signal(wish, before)
    assert code == 0
    whole = ["check", "enter", "start", "run", "stop", "close"]
    ways = {"check": whole[:1], "enter": whole[:2], "start": [*whole[:3], "exit"], "run": [*whole, "exit"]}
    assert came == ways[phase]
    assert capsys.readouterr().err.splitlines()[-1] == ("stopping" if phase == "run" else "stopped")
