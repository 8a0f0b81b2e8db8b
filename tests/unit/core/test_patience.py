"""Long work waits for a server that has answered; nothing else does, and nothing waits for ever."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from searchanything.core import patience
from searchanything.core.errors import IndexUnavailableError, RegionIndexError
from searchanything.core.patience import (
    LATER_S,
    PAUSES_S,
    WAIT_S,
    WAITED,
    LongWork,
    PatientThreads,
    later_looks,
    long_work,
    patiently,
)

AWAY = "find no available rootcoord"
SERVER = "the index at http://m:19530"
TIMEOUT_S = 20.0


class Clock:
    """Time that passes by waiting, and by asking: each question takes so long."""

    def __init__(self, asking_s: float = 0.0) -> None:
        self.now, self.asking_s, self.slept = 0.0, asking_s, list[float]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, pause_s: float) -> None:
        self.now += pause_s
        self.slept.append(pause_s)

    def asks(self, *errors: RegionIndexError | None) -> Callable[[], str]:
        """A question that raises these first, then is answered."""
        left = list(errors)

        def ask() -> str:
            self.now += self.asking_s
            error = left.pop(0) if left else None
            if error is not None:
                raise error
            return "answer"

        return ask


def asked(ask: Callable[[], str]) -> str:
    return patiently(ask, SERVER)


def away(times: int = 1) -> list[IndexUnavailableError]:
    return [IndexUnavailableError(AWAY) for _ in range(times)]


def beginning_to_wait(pool: PatientThreads) -> tuple[Future[str], threading.Event]:
    """What a thread asks of a server that stays away, and when it has asked it."""
    waits = threading.Event()

    def stays_away() -> str:
        waits.set()
        raise IndexUnavailableError(AWAY)

    return pool.submit(asked, stays_away), waits


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    monkeypatch.setattr(LongWork, "pause", lambda _, pause_s: clock.sleep(pause_s))
    return clock


def test_long_work_waits(clock: Clock) -> None:
    with long_work():
        asked(clock.asks())
        assert asked(clock.asks(*away(2))) == "answer"
        assert asked(clock.asks(*away())) == "answer"
    assert clock.slept == [*PAUSES_S[:2], PAUSES_S[0]], "another question, another outage"


def test_who_only_asks_has_an_error_at_once(clock: Clock) -> None:
    with pytest.raises(IndexUnavailableError):
        asked(clock.asks(*away()))
    with long_work():
        asked(clock.asks())
    with pytest.raises(IndexUnavailableError):
        asked(clock.asks(*away()))
    assert clock.slept == []


def test_the_first_contact_fails_at_once(clock: Clock) -> None:
    """As with a wrong address. What answers is another server, or did so before the work began."""
    with long_work():
        asked(clock.asks())
    with long_work():
        patiently(clock.asks(), "the image store at s:8333")
        with pytest.raises(IndexUnavailableError) as raised:
            asked(clock.asks(*away()))
    assert clock.slept == []
    assert not hasattr(raised.value, "__notes__"), "nothing was waited for"


def test_long_work_within_long_work_is_a_part_of_it(clock: Clock) -> None:
    """Such as a backup's, or that of what a progress callback starts: who has answered need not do so again."""
    with long_work():
        asked(clock.asks())
        with long_work():
            assert asked(clock.asks(*away())) == "answer"
        assert asked(clock.asks(*away())) == "answer", "its end is not that of the whole"
    assert clock.slept == [PAUSES_S[0]] * 2


def test_a_refusal_is_an_answer(clock: Clock) -> None:
    with long_work():
        with pytest.raises(RegionIndexError):
            asked(clock.asks(RegionIndexError("a wrong question")))
        assert clock.slept == []
        assert asked(clock.asks(*away())) == "answer"


@pytest.mark.parametrize("asking_s", [0.0, 30.0], ids=["refused", "no answer in time"])
def test_what_stays_away_is_an_error_after_five_minutes(clock: Clock, asking_s: float) -> None:
    """However long each question takes, and however deep it is: what is asked within is not waited for by itself."""
    ask = clock.asks(None, *away(1000))
    with long_work():
        asked(ask)
        clock.now, clock.asking_s = 0.0, asking_s
        with pytest.raises(IndexUnavailableError, match=AWAY) as raised:
            asked(lambda: asked(lambda: asked(ask)))
        most = WAIT_S + 2 * asking_s + (max(PAUSES_S) if asking_s else 0)  # the last pause may begin within the time
        assert WAIT_S <= clock.now <= most
        assert WAIT_S == 300
        assert raised.value.__notes__ == [WAITED]
        with pytest.raises(IndexUnavailableError):  # such as a note that is taken back at the end
            asked(ask)
        assert clock.now <= most + asking_s, "what failed is over: nothing is waited for any more"


def test_waiting_is_said_once_however_many_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    all_wait = threading.Barrier(3, timeout=TIMEOUT_S)
    monkeypatch.setattr(LongWork, "pause", lambda _, __: all_wait.wait())
    with long_work(), PatientThreads(3) as threads, caplog.at_level(logging.INFO):
        asked(lambda: "answer")
        questions = [Clock().asks(*away(2)) for _ in range(3)]
        assert list(threads.map(asked, questions)) == ["answer"] * 3
        asked(lambda: "answer")
    assert [record.getMessage() for record in caplog.records] == [
        f"{SERVER} is away, and is waited for, five minutes at most: {AWAY}",
        f"{SERVER} answers again",
    ]


def test_threads_wait_as_who_asks_does(clock: Clock) -> None:
    with long_work(), PatientThreads(2) as threads:
        asked(clock.asks())
        assert list(threads.map(asked, [clock.asks(*away()), clock.asks()])) == ["answer"] * 2
    assert clock.slept == [PAUSES_S[0]]
    with pytest.raises(IndexUnavailableError), PatientThreads(1) as threads:
        threads.submit(asked, clock.asks(*away())).result()


def test_what_ends_within_leaves_the_work_patient(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Threads, and long work of its own. Each outage is said, and its end."""
    with long_work():
        asked(clock.asks())
        for _ in range(2):
            with PatientThreads(1) as threads, long_work():
                assert threads.submit(asked, clock.asks()).result() == "answer"
            assert asked(clock.asks(*away())) == "answer"
    said = [record.getMessage().partition(" is away")[0] for record in caplog.records]
    assert said == [SERVER, f"{SERVER} answers again"] * 2


@pytest.mark.parametrize("failing", ["its threads", "its server"])
def test_a_part_that_fails_leaves_the_work_patient(clock: Clock, failing: str) -> None:
    """Such as what a progress callback starts, and whose errors it catches."""

    def part() -> None:
        with long_work(), PatientThreads(1):
            if failing == "its threads":
                raise RegionIndexError(failing)
            patiently(clock.asks(*away(1000)), "the image store at s:8333")

    with long_work():
        asked(clock.asks())
        patiently(clock.asks(), "the image store at s:8333")
        with pytest.raises(RegionIndexError):
            part()
        before = len(clock.slept)
        assert asked(clock.asks(*away())) == "answer"
        assert clock.slept[before:] == [PAUSES_S[0]]


def test_whoever_waited_in_vain_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several threads the first that ends its wait ends those of all, and any error may be the one that is seen."""
    monkeypatch.setattr(patience, "PAUSES_S", (TIMEOUT_S,))
    with long_work(), PatientThreads(1) as threads:
        asked(lambda: "answer")
        waiting, waits = beginning_to_wait(threads)
        assert waits.wait(TIMEOUT_S)
        monkeypatch.setattr(patience, "PAUSES_S", ())
        with pytest.raises(IndexUnavailableError) as raised:
            asked(Clock().asks(*away()))
        ended = waiting.exception(TIMEOUT_S / 2)
    assert raised.value.__notes__ == [WAITED]
    assert isinstance(ended, IndexUnavailableError)
    assert ended.__notes__ == [WAITED]


def test_who_gives_up_on_one_server_did_not_wait_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSES_S", ())
    with long_work():
        for server in (SERVER, "the image store at s:8333"):
            patiently(lambda: "answer", server)
        with pytest.raises(IndexUnavailableError):
            asked(Clock().asks(*away()))
        with pytest.raises(IndexUnavailableError) as raised:
            patiently(Clock().asks(*away()), "the image store at s:8333")
    assert not hasattr(raised.value, "__notes__")


def test_a_thread_that_outlives_the_work_waits_no_longer() -> None:
    """Such as one that lists ahead of an `index` whose index has just failed."""
    with PatientThreads(1) as threads:
        with long_work():
            asked(lambda: "answer")
            waiting, waits = beginning_to_wait(threads)
            assert waits.wait(TIMEOUT_S)
        assert isinstance(waiting.exception(TIMEOUT_S / 2), IndexUnavailableError)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_ends_the_waits_of_all_threads(interruption: type[BaseException]) -> None:
    """Ctrl-C, while the thread that writes waits for the index: nobody waits for the rest of the five minutes."""

    def run() -> None:
        with long_work():
            asked(lambda: "answer")
            with PatientThreads(1) as threads:
                assert beginning_to_wait(threads)[1].wait(TIMEOUT_S)
                raise interruption

    begun = time.monotonic()
    with pytest.raises(interruption):
        run()
    assert time.monotonic() - begun < TIMEOUT_S < WAIT_S


def test_the_end_of_the_work_is_that_of_its_parts() -> None:
    """Such as another thread's, which its writer started, while the work is interrupted."""

    def part(waits: threading.Event) -> str:
        def stays_away() -> str:
            waits.set()
            raise IndexUnavailableError(AWAY)

        with long_work():
            return asked(stays_away)

    waits = threading.Event()
    with PatientThreads(1) as threads:
        with long_work():
            asked(lambda: "answer")
            waiting = threads.submit(part, waits)
            assert waits.wait(TIMEOUT_S)
        assert isinstance(waiting.exception(TIMEOUT_S / 2), IndexUnavailableError)


def test_an_interruption_of_who_asks_is_no_answer_and_the_end(clock: Clock) -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    with long_work():
        asked(clock.asks())
        with pytest.raises(KeyboardInterrupt):
            asked(interrupted)
        with pytest.raises(IndexUnavailableError):
            asked(clock.asks(*away()))
    assert clock.slept == []


def test_long_work_alone_looks_again_later(clock: Clock) -> None:
    assert sum(1 for _ in later_looks()) == 1
    assert clock.slept == []
    with long_work():
        assert sum(1 for _ in later_looks()) == 1 + len(LATER_S)
    assert clock.slept == list(LATER_S)


def test_work_that_is_interrupted_looks_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LongWork, "pause", lambda work, _: work.end())
    with long_work():
        assert sum(1 for _ in later_looks()) == 1
