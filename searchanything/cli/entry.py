"""A question for a warm process, before the command line itself is imported.

Only the standard library is imported until that is decided: a warm answer takes as long as Python takes to start.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from searchanything.cli.warm import ask_warm

INTERRUPTED = 130  # as `failures` has it, which is not light


def warm_answer(arguments: Sequence[str]) -> int | None:
    """The exit code of what a warm process did; None where this process has to run the command line."""
    try:
        return ask_warm(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
