"""How many inputs at once are fastest: sizes are tried from the smallest, on work that has to be done anyway.

A size is timed in a few passes, of which the fastest counts: what another program takes meanwhile makes a pass longer,
never shorter. Larger sizes are tried until two in a row bring no gain, memory runs out, or the time for it is over.
Free of torch, clocks and threads: who does the work says how long it took.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

GAIN: Final = 1.05  # a larger size must be so much faster: it needs more memory
PASSES: Final = 3  # of each size
LEAST_PASSES: Final = 2  # the first of a size may be slow for once: memory and kernels are made ready
LONG_S: Final = 1.0  # passes of together so much are enough
PATIENCE: Final = 2  # sizes without a gain
BUDGET_S: Final = 30.0  # of all timed passes


class Climb:
    """The choice among some sizes. Not thread-safe."""

    def __init__(self, sizes: Sequence[int]) -> None:
        """`sizes` rise; there is at least one."""
        self._sizes = tuple(sizes)
        self._seconds: list[float] = []  # of the passes of the size that is being tried
        self._speeds: dict[int, float] = {}
        self._spent_s = 0.0
        self._without_gain = 0
        self._ended = False
        self.best: int | None = None

    @property
    def size(self) -> int | None:
        """What is to be timed next; None where all is said."""
        return None if self._ended else self._sizes[len(self._speeds)]

    def speed(self, size: int) -> float | None:
        """Inputs per second at a size; None where it was not tried to the end."""
        return self._speeds.get(size)

    def add(self, seconds: float) -> None:
        """A pass of `size` inputs took so long."""
        self._seconds.append(max(seconds, 1e-9))
        self._spent_s += seconds
        many, long = len(self._seconds) >= PASSES, sum(self._seconds) >= LONG_S
        if many or (long and len(self._seconds) >= LEAST_PASSES):
            self._judge()
        if self._spent_s >= BUDGET_S:
            self.stop()

    def stop(self) -> None:
        """No larger size is possible, as memory has run out, or wanted."""
        self._ended = True

    def _judge(self) -> None:
        size = self._sizes[len(self._speeds)]
        speed = self._speeds[size] = size / min(self._seconds)
        self._seconds = []
        if self.best is None or speed > self._speeds[self.best] * GAIN:
            self.best, self._without_gain = size, 0
        else:
            self._without_gain += 1
        if self._without_gain == PATIENCE or len(self._speeds) == len(self._sizes):
            self.stop()
