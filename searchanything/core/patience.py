"""Waiting for an index that is away: a part of a cluster that is started again costs a long reading nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar

from searchanything.core.errors import IndexUnavailableError

logger = logging.getLogger(__name__)

PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0, *[30.0] * 9)  # five minutes
Result = TypeVar("Result")


def patiently(ask: Callable[[], Result]) -> Result:
    """The answer to a question that may be repeated, asked again for five minutes while the index is away.

    For work that would otherwise be lost: what has just begun had better fail. Raises: what `ask` raises.
    """
    for pause_s in PAUSES_S:
        try:
            return ask()
        except IndexUnavailableError as error:
            logger.warning("%s; asked again in %g s", error, pause_s)
            time.sleep(pause_s)
    return ask()
