"""Waiting for an index that is away: a part of a cluster that is started again costs a long reading nothing.

Only work that would be lost waits, such as a backup that has read for an hour. A question of a server's user fails at
once: it may be asked again, and others would queue behind it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, TypeVar

from searchanything.core.errors import IndexUnavailableError

logger = logging.getLogger(__name__)

PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0, *[30.0] * 9)
WAIT_S: Final = sum(PAUSES_S)  # five minutes; what is asked may itself take long to fail
Result = TypeVar("Result")
_waits: ContextVar[bool] = ContextVar("waits", default=False)


@contextmanager
def long_reading() -> Iterator[None]:
    """In this thread, what is asked `patiently` in here is waited for. For what has begun, and would be lost."""
    before = _waits.set(True)
    try:
        yield
    finally:
        _waits.reset(before)


def patiently(ask: Callable[[], Result]) -> Result:
    """The answer to a question that may be repeated; in a `long_reading` it is asked for five minutes.

    What is asked patiently within is not waited for by itself. Raises: what `ask` raises.
    """
    if not _waits.get():
        return ask()
    outer = _waits.set(False)
    try:
        return _asked_again(ask)
    finally:
        _waits.reset(outer)


def _asked_again(ask: Callable[[], Result]) -> Result:
    until = math.inf
    for pause_s in PAUSES_S:
        try:
            return ask()
        except IndexUnavailableError as error:
            until = min(until, time.monotonic() + WAIT_S)
            if time.monotonic() >= until:
                raise
            logger.warning("%s; asked again in %g s", error, pause_s)
            time.sleep(pause_s)
    return ask()
