"""What an answer says of chance: how often an unrelated region is as near as a hit, and whether any hit is good."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Self

from searchanything.core.errors import UsageError
from searchanything.core.types import Hit
from searchanything.search.calibration import LEAST_CODES, Background, Rates

WEAK_FALSE_MATCH: Final = 0.01  # of unrelated regions as near: about as many pairs show the same thing at all


@dataclass(frozen=True, slots=True)
class Matching:
    """How hits were judged: by `sample` of the index's `rows` codes, and what was asked for at most.

    `nearest` is the nearest hit of the page, whether it was good enough or not. `sample` is 0 where the index holds too
    few codes to say anything; hits then have no rate.
    """

    sample: int
    max_false_match: float | None = None
    nearest: Hit | None = None
    hits: tuple[Hit, ...] = ()
    rows: int = 0

    @classmethod
    def of(cls, hits: tuple[Hit, ...], rates: Rates | None, background: Background, most: float | None) -> Self:
        """Judge hits. Raises: UsageError where hits are to be cut and the index is too small for it."""
        if rates is None:
            if most is not None:
                raise UsageError(
                    f"max_false_match needs an index of at least {LEAST_CODES} committed codes to compare with, this "
                    f"one has {len(background.codes)}: leave it out"
                )
            return cls(0, None, hits[0] if hits else None, hits, background.rows)
        judged = tuple(replace(hit, false_match=float(rates[hit.distance_bits])) for hit in hits)
        good = tuple(hit for hit in judged if most is None or float(hit.false_match or 0) <= most)
        nearest = min(judged, key=lambda hit: hit.distance_bits, default=None)  # rescoring orders hits otherwise
        return cls(len(background.codes), most, nearest, good, background.rows)

    def chance_shares(self, *, before: int = 0) -> list[float | None]:
        """Of each hit and those at least as near, the share that chance alone would give; None where it is not known.

        Of `rows` regions, rate · rows unrelated ones are as near as a hit; `before` hits came on earlier pages. Such
        a share is a false discovery rate, made monotone as q-values are (Benjamini and Hochberg 1995; Storey 2002). It
        is over the whole index: within a filter it is an upper bound.
        """
        if any(hit.false_match is None for hit in self.hits):
            return [None] * len(self.hits)
        order = sorted(range(len(self.hits)), key=lambda place: -self.hits[place].distance_bits)
        least, shares = 1.0, [1.0] * len(self.hits)
        for done, place in enumerate(order):
            as_near = before + len(order) - done
            least = min(least, float(self.hits[place].false_match or 0.0) * self.rows / as_near)
            shares[place] = least
        return [round(share, 9) for share in shares]

    @property
    def verdict(self) -> str:
        """A sentence where hits were asked to be good and none is; else empty."""
        if self.max_false_match is None or self.hits:
            return ""
        if self.nearest is None or self.nearest.false_match is None:
            return "no good match: there is nothing to compare with"
        return (
            f"no good match: {one_in(self.nearest.false_match)} unrelated regions is as near as the nearest hit, at "
            f"{self.nearest.distance_bits} bits ({one_in(self.max_false_match)} was asked for)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: the part `matching` of an answer."""
        nearest = self.nearest
        return {
            "sample": self.sample,
            "max_false_match": self.max_false_match,
            "nearest_bits": None if nearest is None else nearest.distance_bits,
            "nearest_false_match": None if nearest is None else rounded_rate(nearest.false_match),
            "verdict": self.verdict,
        }


def is_weak(hit: Hit) -> bool:
    """Whether chance alone brings unrelated regions as near as this hit. False where the rate is not known."""
    return hit.false_match is not None and hit.false_match > WEAK_FALSE_MATCH


def rounded_rate(rate: float | None) -> float | None:
    """A rate to two digits: more would claim too much."""
    return None if rate is None else float(f"{rate:.1e}")


def one_in(rate: float) -> str:
    """A rate for people: "1 in 2,000"."""
    if rate > 0.5:
        return "nearly every one of the"
    count = 1 / max(rate, 1e-9)
    digits = 10 ** max(0, len(str(int(count))) - 2)
    return f"1 in {round(count / digits) * digits:,}"
