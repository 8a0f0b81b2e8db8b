"""What the demo says while it works, and how long its steps took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_SAY_EVERY_S: Final = 5.0


class Course:
    """Says what happens through `say`, and keeps the seconds of each step."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said_at = 0.0
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, sentence: str) -> Iterator[None]:
        """Say the sentence, do the block, keep its time under `name`."""
        self._say(sentence)
        start = self._said_at = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)

    def note(self, sentence: str) -> None:
        """Say how a step came out."""
        self._say(f"  {sentence}")

    def progress(self, done: int, total: int) -> None:
        """Say how far a step is, every few seconds."""
        now = time.perf_counter()
        if now - self._said_at >= _SAY_EVERY_S:
            self._said_at = now
            self._say(f"  {done} of {total}")
