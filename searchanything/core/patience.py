"""Waiting for a server that is away: one that is started again costs long work nothing.

Only work that would be lost waits, such as an `index` that has run for an hour. A question of a server's user fails at
once: it may be asked again, and others would queue behind it. So does the first contact, as with a wrong address: what
has answered since the work began is waited for.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Final, ParamSpec, TypeAlias, TypeVar
from weakref import WeakSet

from searchanything.core.errors import IndexUnavailableError

logger = logging.getLogger(__name__)

PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0, *[30.0] * 9)
WAIT_S: Final = sum(PAUSES_S)  # five minutes; what is asked may itself take long to fail
LATER_S: Final = (1.0, 2.0, 4.0)  # more than a server needs to show all its rows, once it answers
WAITED: Final = "it was waited for five minutes; run the same again when it can be reached"
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")
Away: TypeAlias = type[Exception] | tuple[type[Exception], ...]


@dataclass(slots=True, eq=False)
class _Servers:
    """What some work and its parts know of servers: who has answered, and of whom somebody has said that it is away."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    answered: set[str] = field(default_factory=set)
    away: set[str] = field(default_factory=set)


class LongWork:
    """What has answered since some work began, what is away, and whether the work is over. Thread-safe.

    A part of other work knows what that knows, and is over when that is; its own end is not that of the whole.
    """

    def __init__(self, known: _Servers | None = None) -> None:
        self._known = known or _Servers()
        self._over = threading.Event()
        self._parts: WeakSet[LongWork] = WeakSet()
        self.in_vain_for = ""  # who was waited for until the time was up

    @property
    def over(self) -> bool:
        """Whether nothing is waited for any more."""
        return self._over.is_set()

    def end(self) -> None:
        """From now on nothing is waited for: it was interrupted, or has failed."""
        with self._known.lock:
            self._over.set()
            parts = list(self._parts)
        for part in parts:
            part.end()

    def part(self) -> LongWork:
        """A part of this work."""
        part = LongWork(self._known)
        with self._known.lock:
            self._parts.add(part)
        if self.over:
            part.end()
        return part

    def pause(self, pause_s: float) -> None:
        """Wait so long, or until the work is over."""
        self._over.wait(pause_s)

    def has_answered(self, of: str) -> bool:
        """Whether this one has answered since the work began."""
        return of in self._known.answered

    def answered(self, of: str) -> None:
        """This one has answered."""
        self._known.answered.add(of)

    def say_away(self, of: str, error: Exception) -> bool:
        """Say that this one is away, unless another thread has: whether it was said."""
        with self._known.lock:
            if of in self._known.away:
                return False
            self._known.away.add(of)
        logger.warning("%s is away, and is waited for, five minutes at most: %s", of, error)
        return True

    def waits_no_longer(self, of: str, *, is_back: bool) -> None:
        """Who has said that it is away waits no longer."""
        self._known.away.discard(of)
        if is_back:
            logger.warning("%s answers again", of)


class _Wait:
    """One question's wait for whom it is asked."""

    def __init__(self, work: LongWork, of: str) -> None:
        self._work, self._of = work, of
        self._pauses, self._until, self._has_said = iter(PAUSES_S), math.inf, False

    def answer(self, ask: Callable[[], Result], away: Away) -> Result:
        """As `patiently`."""
        is_back = False
        try:
            while True:
                try:
                    answer = ask()
                except away as error:
                    if not self._goes_on(error):
                        raise
                except Exception:
                    is_back = True
                    self._work.answered(self._of)
                    raise
                else:
                    is_back = True
                    self._work.answered(self._of)
                    return answer
        finally:
            if self._has_said:
                self._work.waits_no_longer(self._of, is_back=is_back)

    def _goes_on(self, error: Exception) -> bool:
        """Wait, unless it is of no use, and say whether it is to be asked again."""
        work = self._work
        if not work.has_answered(self._of):
            return False
        if not work.over:
            self._wait(error)
        if work.in_vain_for == self._of:  # of several threads that wait, any one's error may be the one that is seen
            error.add_note(WAITED)
        return not work.over

    def _wait(self, error: Exception) -> None:
        """Wait for a while, or end the work if the time is up."""
        work = self._work
        self._until = min(self._until, time.monotonic() + WAIT_S)
        pause_s = next(self._pauses, None)
        if pause_s is None or time.monotonic() >= self._until:
            work.in_vain_for = self._of
            work.end()
            return
        self._has_said = work.say_away(self._of, error) or self._has_said
        work.pause(pause_s)


_work: ContextVar[LongWork | None] = ContextVar("work", default=None)


@contextmanager
def long_work() -> Iterator[None]:
    """In here, what is asked `patiently` is waited for, once it has answered. For what would be lost.

    Within other long work it is a part of that: who has answered before is waited for, and where its errors are caught
    the whole goes on as patiently as before.
    """
    whole = _work.get()
    work = LongWork() if whole is None else whole.part()
    before = _work.set(work)
    try:
        yield
    finally:
        _work.reset(before)
        work.end()  # for threads that outlive it, such as one that lists ahead


def is_waited_for(of: str) -> bool:
    """Whether this one would be waited for here if it were away."""
    work = _work.get()
    return work is not None and not work.over and work.has_answered(of)


def patiently(ask: Callable[[], Result], of: str, away: Away = IndexUnavailableError) -> Result:
    """The answer to a question that may be repeated; in `long_work` it is asked for five minutes.

    `of` says whom, in words; `away` is what is raised where that one cannot be reached. What is asked patiently within
    is not waited for by itself. Raises: what `ask` raises, with a note where it was waited for in vain.
    """
    work = _work.get()
    if work is None:
        return ask()
    outer = _work.set(None)
    try:
        return _Wait(work, of).answer(ask, away)
    except BaseException as error:
        if not isinstance(error, Exception):
            work.end()
        raise
    finally:
        _work.reset(outer)


def later_looks() -> Iterator[None]:
    """Turns to look again at what an index seems to lack: one at once, and in `long_work` others, later and later."""
    yield
    work = _work.get()
    if work is None:
        return
    for pause_s in LATER_S:
        work.pause(pause_s)
        if work.over:
            return
        yield


class PatientThreads(ThreadPoolExecutor):
    """Threads that work for who asks: in `long_work` they wait as well, and no longer once that is interrupted."""

    def submit(
        self, fn: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        """As the base class."""
        return super().submit(partial(copy_context().run, fn, *args, **kwargs))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        work = _work.get()
        if error is not None and work is not None:
            work.end()  # else its threads, which are waited for, wait on
        return super().__exit__(kind, error, trace)
