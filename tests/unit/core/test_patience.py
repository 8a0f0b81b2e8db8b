"""A long reading waits for its server; nothing else does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from searchanything.core import patience
from searchanything.core.errors import IndexUnavailableError, RegionIndexError
from searchanything.core.patience import PAUSES_S, WAIT_S, long_reading, patiently

AWAY = IndexUnavailableError("find no available rootcoord")


class Clock:
    """Time that passes by sleeping, and by asking: each question takes so long."""

    def __init__(self, asking_s: float = 0.0) -> None:
        self.now, self.asking_s, self.slept = 0.0, asking_s, list[float]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, pause_s: float) -> None:
        self.now += pause_s
        self.slept.append(pause_s)

    def asks(self, *errors: RegionIndexError | None) -> Callable[[], str]:
        """A question that raises these first, and all the time if they are no more."""
        left = list(errors)

        def ask() -> str:
            self.now += self.asking_s
            error = left.pop(0) if left else None
            if error is not None:
                raise error
            return "answer"

        return ask


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    return clock


def test_who_reads_for_long_waits(clock: Clock) -> None:
    with long_reading():
        assert patiently(clock.asks(AWAY, AWAY)) == "answer"
        assert patiently(clock.asks(AWAY)) == "answer"
    assert clock.slept == [*PAUSES_S[:2], PAUSES_S[0]], "another question, another outage"


def test_who_only_asks_has_an_error_at_once(clock: Clock) -> None:
    with pytest.raises(IndexUnavailableError):
        patiently(clock.asks(AWAY))
    with long_reading():
        pass
    with pytest.raises(IndexUnavailableError):
        patiently(clock.asks(AWAY))
    assert clock.slept == []


def test_other_errors_are_raised_at_once(clock: Clock) -> None:
    with long_reading(), pytest.raises(RegionIndexError):
        patiently(clock.asks(RegionIndexError("a wrong question")))
    assert clock.slept == []


@pytest.mark.parametrize("asking_s", [0.0, 30.0], ids=["refused", "no answer in time"])
def test_what_stays_away_is_an_error_after_five_minutes(clock: Clock, asking_s: float) -> None:
    """However long each question takes, and however deep it is: what is asked within is not waited for by itself."""
    clock.asking_s = asking_s
    ask = clock.asks(*[AWAY] * 1000)
    with long_reading(), pytest.raises(IndexUnavailableError):
        patiently(lambda: patiently(lambda: patiently(ask)))
    most = WAIT_S + 2 * asking_s + (max(PAUSES_S) if asking_s else 0)  # the last pause may begin within the time
    assert WAIT_S <= clock.now <= most
    assert WAIT_S == 300
