"""How good a hit is, in a word: the same rule for programs, the command line, notebooks, REST and its page.

Only the standard library is imported here, as in `client.calls`: the light client shows these words too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Of the agreement beyond chance, 1 − 2 d / bits: 1 for equal codes, 0 for unrelated ones. Of pairs of regions of
# different pictogram scenes, 0.1 % reach 0.67, 1 % (about as many as show the same concept) 0.34, and 5 % 0.19.
STRENGTHS: Final = ((0.8, "very strong"), (0.6, "strong"), (0.34, "fair"), (0.2, "weak"))
# Of the hits at least as near, the share that chance alone would give in an index of this size, where known. Right
# were, of the 24 nearest hits of 600 regions among 700 scenes: 1.000, 0.995, 0.851, 0.483, and 0.158 of "none"
# (benchmarks/calibrating.py).
SHARES: Final = ((1e-3, "very strong"), (0.01, "strong"), (0.1, "fair"), (0.5, "weak"))
SAME: Final = 0.9  # so nearly equal codes are strong in any crowd: rates are cautious there (docs/adr/0059)
GOOD: Final = ("very strong", "strong", "fair")  # one of these, or there is no good match
WEAK: Final = ("weak", "none")  # chance alone may bring a hit as near


@dataclass(frozen=True, slots=True)
class Confidence:
    """How good a hit is. `value` is the agreement, from 0 (as any two regions agree) to 1 (the same code).

    Where `calibrated`, the word says how many of the hits up to this one chance alone would give: `false_match` times
    the regions of the index. Else the index is too small for that: a rough share is taken of what ten codes or more
    allow, and of fewer codes the agreement alone.
    """

    word: str
    value: float
    calibrated: bool


def confidence_of(distance_bits: int, bits: int, chance_share: float | None = None) -> Confidence:
    """A word and a number for a hit."""
    value = max(0.0, 1 - 2 * distance_bits / bits)
    if chance_share is None:
        word = next((word for least, word in STRENGTHS if value >= least), "none")
    else:
        share = min(chance_share, SHARES[1][0]) if value >= SAME else chance_share
        word = next((word for most, word in SHARES if share <= most), "none")
    return Confidence(word, round(value, 3), chance_share is not None)
