"""How many inputs at once are fastest: sizes are tried from the smallest, on work that has to be done anyway.

Up: a size is timed in a few passes, of which the fastest counts, as whatever else a machine does makes a pass longer.
Larger sizes follow until two in a row bring no gain, work or memory is too small, or the time for it is over.
Then the best one and the usual one take turns at as much work, and the usual one stays unless it loses every turn: a
machine that is busy for some seconds must not choose for the weeks after.

Free of torch, clocks and threads: who does the work says how long it took.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

FASTER: Final = 1.05  # another size must be so much faster
PASSES: Final = 3  # of each size
LEAST_PASSES: Final = 2  # the first of a size may be slow for once: memory and kernels are made ready
TURNS: Final = 5  # of the best size and the usual one
LEAST_TURNS: Final = 3
LONG_S: Final = 1.0  # passes of together so much are enough
PATIENCE: Final = 2  # sizes without a gain
BUDGET_S: Final = 30.0  # of timed passes, until turns are taken


class Climb:
    """The choice among some sizes. Not thread-safe."""

    def __init__(self, sizes: Sequence[int], usual: int) -> None:
        """`sizes` rise; there is at least one."""
        self._sizes = tuple(sizes)
        self._usual = usual
        self._speeds: list[float] = []  # of the sizes that were tried
        self._best: int | None = None  # of them, its place
        self._seconds: list[float] = []  # of the passes of the size that is being tried
        self._turns: list[float] = []  # seconds of an input, of the best size and the usual one by turns
        self._spent_s = 0.0
        self._up = True
        self.choice: int | None = None
        """What was chosen; None until then."""

    @property
    def size(self) -> int | None:
        """What is to be timed next; None where all is said."""
        if self.choice is not None:
            return None
        if self._up:
            return self._sizes[len(self._speeds)]
        return self._usual if len(self._turns) % 2 else self._found

    @property
    def speed(self) -> float:
        """Inputs per second of the choice, at its fastest; 0 where it was not timed."""
        tried = [speed for size, speed in zip(self._sizes, self._speeds, strict=False) if size == self.choice]
        in_turns = self._turns[0 if self.choice == self._found else 1 :: 2]
        return max([*tried, *(1 / each for each in in_turns)], default=0.0)

    @property
    def _found(self) -> int:
        """The best of the sizes that were tried, the usual one where none was."""
        return self._usual if self._best is None else self._sizes[self._best]

    def add(self, seconds: float) -> None:
        """A pass of `size` inputs took so long."""
        if self._up:
            self._add_pass(max(seconds, 1e-9))
        else:
            self._add_turn(max(seconds, 1e-9))

    def run_out(self) -> None:
        """`size` inputs are more than memory holds."""
        size = self.size
        if not self._up:
            self.choice = min(self._found, self._usual)
        elif size is not None and size > self._usual:
            self._end_climb()
        else:
            self.choice = self._found  # whatever it is: the usual number is too large as well

    def give_up(self) -> None:
        """Work does not come in so many as `size`."""
        if not self._up:
            self.choice = self._usual
        elif self._speeds:
            self._end_climb()

    def _add_pass(self, seconds: float) -> None:
        self._seconds.append(seconds)
        self._spent_s += seconds
        many, long = len(self._seconds) >= PASSES, sum(self._seconds) >= LONG_S
        if many or (long and len(self._seconds) >= LEAST_PASSES):
            self._judge()
        if self._up and self._spent_s >= BUDGET_S:
            self._end_climb()

    def _judge(self) -> None:
        self._speeds.append(self._sizes[len(self._speeds)] / min(self._seconds))
        self._seconds = []
        tried = len(self._speeds)
        if self._best is None or self._speeds[-1] > self._speeds[self._best] * FASTER:
            self._best = tried - 1
        if tried - 1 - self._best == PATIENCE or tried == len(self._sizes):
            self._end_climb()

    def _end_climb(self) -> None:
        self._up, self._seconds = False, []
        if self._found == self._usual:
            self.choice = self._usual

    def _add_turn(self, seconds: float) -> None:
        """Both sizes have as much work in a turn: what disturbs a pass is likelier to meet a long one."""
        size = self._usual if len(self._turns) % 2 else self._found
        self._seconds.append(seconds)
        work = size * len(self._seconds)
        if work < max(self._usual, self._found):
            return
        self._turns.append(sum(self._seconds) / work)
        self._seconds = []
        if len(self._turns) % 2:
            return
        best, usual = self._turns[-2:]
        turns, spent_s = len(self._turns) // 2, sum(self._turns) * max(self._usual, self._found)
        if usual <= best * FASTER:
            self.choice = self._usual
        elif turns >= TURNS or (turns >= LEAST_TURNS and spent_s >= LONG_S):
            self.choice = self._found
