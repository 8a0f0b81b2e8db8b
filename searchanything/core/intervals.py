"""How far a share of few trials may be from the true one."""

from __future__ import annotations

import math
from typing import Final

_Z95: Final = 1.959964  # the standard normal's two-sided 95 % quantile


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share (Wilson 1927); unlike the normal one it stays within 0 and 1."""
    if not count:
        return 0.0, 1.0
    share, z2 = right / count, _Z95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return (middle - half if right else 0.0), (middle + half if right < count else 1.0)
