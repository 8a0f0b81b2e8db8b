"""Printing help without what it never shows.

typer's printer imports rich's Markdown and tracebacks, which bring a parser and a highlighter of their own: half of all
that `--help` would load. Our help is in rich's markup, and `app.run` prints errors itself.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Final

from searchanything.core.put_off import put_off

PRINTER: Final = "typer.rich_utils"
_NEVER_SHOWN: Final = ("rich.markdown", "rich.traceback")
_ASKING: Final = frozenset({"--help", "-h"})


def prepare_help(arguments: Sequence[str]) -> None:
    """Import typer's printer of help, lightly, where a command line asks for help; without a verb it gets help, too."""
    if PRINTER not in sys.modules and (not arguments or asks_help(arguments)):
        with put_off(*_NEVER_SHOWN):
            importlib.import_module(PRINTER)


def asks_help(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for help."""
    return not _ASKING.isdisjoint(arguments)
