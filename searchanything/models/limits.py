"""What a preset's models do not know, said once in the life of a process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from searchanything.models.presets import PRESETS

logger = logging.getLogger(__name__)

_stated: Final[set[str]] = set()


def limits_of(preset: str) -> str:
    """The limits of a preset in a sentence; empty where it has none worth a warning, or is not known here."""
    found = PRESETS.get(preset)
    return "" if found is None else found.limits


def state_limits(preset: str, say: Callable[[str], None] | None = None) -> None:
    """Say the limits of a preset, unless this process has said them: as a warning, or by `say`."""
    limits = limits_of(preset)
    if limits and preset not in _stated:
        _stated.add(preset)
        (say or logger.warning)(limits)
