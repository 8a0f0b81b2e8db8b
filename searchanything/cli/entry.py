"""A question for a warm process, before the command line itself is imported.

Only the standard library is imported until that is decided: a warm answer takes as long as Python takes to start. What
asks a warm process is imported for questions alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

INTERRUPTED = 130  # an exit code, as `failures` has others; that is not light
QUESTIONS: Final = frozenset({"query", "segment", "explain", "compare"})
IDLE_VARIABLE: Final = "SEARCHANYTHING_SERVE__WARM_IDLE_S"  # 0 for no warm process at all
_COLD: Final = frozenset({"--no-warm", "--help", "-h"})


def warm_answer(arguments: Sequence[str]) -> int | None:
    """The exit code of what a warm process did; None where this process has to run the command line."""
    if not may_be_warm(arguments):
        return None
    from searchanything.cli.warm import ask_warm

    try:
        return ask_warm(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def may_be_warm(arguments: Sequence[str]) -> bool:
    """Whether a command line is a question that a warm process may answer."""
    if not arguments or arguments[0] not in QUESTIONS or not _COLD.isdisjoint(arguments):
        return False
    return os.environ.get(IDLE_VARIABLE, "").strip() not in ("0", "0.0")
