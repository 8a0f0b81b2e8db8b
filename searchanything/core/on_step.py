"""How far long work is, for those parts of it that do not know who shows that."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

OnStep: TypeAlias = Callable[[str, int, int | None], None]
"""Takes a stage by its name, how many of its steps are done, and of how many, None where that is not known."""


def unseen(stage: str, done: int, total: int | None) -> None:
    """Where nobody looks."""
