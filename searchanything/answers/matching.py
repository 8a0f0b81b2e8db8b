"""What an answer says of chance: how often an unrelated region is as near as a hit, and whether any hit is good."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from searchanything.answers.hit_confidence import Confidence, confidence_of
from searchanything.core.errors import UsageError
from searchanything.core.types import Codes, Hit
from searchanything.search.calibration import LEAST_CODES, Background, Rates
from searchanything.search.search import Page


@dataclass(frozen=True, slots=True)
class Matching:
    """How hits were judged: by `sample` of the index's `rows` codes, and what was asked for at most.

    `nearest` is the nearest of the whole ranking, on this page or not, whether it was good enough or not. `sample` is 0
    where the index holds too few codes to state a rate; hits then have none, and `rough_rates` are what the few codes
    say of each, empty where these are fewer than ten. Codes have `bits`, and `before` hits are on the pages before.
    """

    sample: int
    max_false_match: float | None = None
    nearest: Hit | None = None
    hits: tuple[Hit, ...] = field(default=(), repr=False)
    rows: int = 0
    bits: int = 0
    before: int = 0
    rough_rates: tuple[float, ...] = field(default=(), repr=False)

    @property
    def calibrated(self) -> bool:
        """Whether every hit has a stated rate."""
        return all(hit.false_match is not None for hit in self.hits)

    def chance_shares(self, *, before: int = 0) -> list[float | None]:
        """Of each hit and those at least as near, the share that chance alone would give; None where it is not known.

        Of `rows` regions, rate · rows unrelated ones are as near as a hit; `before` hits came on earlier pages. Such
        a share is a false discovery rate, made monotone as q-values are (Benjamini and Hochberg 1995; Storey 2002). It
        is over the whole index: within a filter it is an upper bound. It is as good as its rates: stated, or rough.
        """
        rates = [hit.false_match or 0.0 for hit in self.hits] if self.calibrated else self.rough_rates
        if len(rates) < len(self.hits):
            return [None] * len(self.hits)
        order = sorted(range(len(self.hits)), key=lambda place: -self.hits[place].distance_bits)
        least, shares = 1.0, [1.0] * len(self.hits)
        for done, place in enumerate(order):
            as_near = before + len(order) - done
            least = min(least, rates[place] * self.rows / as_near)
            shares[place] = least
        return [round(share, 9) for share in shares]

    @property
    def confidences(self) -> tuple[Confidence, ...]:
        """How good each hit of the page is, in a word."""
        shares = self.chance_shares(before=self.before)
        words = [
            confidence_of(hit.distance_bits, self.bits, share) for hit, share in zip(self.hits, shares, strict=True)
        ]
        return tuple(words if self.calibrated else [replace(one, calibrated=False) for one in words])

    @property
    def verdict(self) -> str:
        """A sentence where hits were asked to be good and none of the whole ranking is; else empty."""
        if self.max_false_match is None or self.hits:
            return ""
        if self.nearest is None or self.nearest.false_match is None:
            return "no good match: there is nothing to compare with"
        if self.nearest.false_match <= self.max_false_match:  # it is on an earlier page
            return ""
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


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """What chance explains at each distance from one code, by a sample of the index's codes; None: they are too few.

    `rough_rates` are asked for where there are no `rates`.
    """

    background: Background
    rates: Rates | None
    rough_rates: Rates | None = None

    @classmethod
    def of(cls, background: Background, code: Codes) -> Self:
        """From a code (B,)."""
        rates = background.rates(code)
        return cls(background, rates, background.rough_rates(code) if rates is None else None)

    def most_bits(self, most: float | None) -> int | None:
        """The largest distance whose rate is at most `most`, -1 where none is: rates rise with the distance.

        Raises: UsageError where the index is too small to tell.
        """
        if most is None:
            return None
        if self.rates is None:
            raise UsageError(
                f"max_false_match needs an index of at least {LEAST_CODES} committed codes to compare with, this "
                f"one has {len(self.background.codes)}: leave it out"
            )
        return int(np.count_nonzero(self.rates <= most)) - 1

    def matching(self, page: Page, most: float | None = None, *, before: int = 0) -> Matching:
        """The page's hits with their rates, `before` of them on earlier pages. They lie within `most_bits` already."""
        rough = self.rough_rates
        return Matching(
            sample=0 if self.rates is None else len(self.background.codes),
            max_false_match=most,
            nearest=None if page.nearest is None else self.judged(page.nearest),
            hits=tuple(map(self.judged, page.hits)),
            rows=self.background.rows,
            bits=8 * self.background.codes.shape[1],
            before=before,
            rough_rates=() if rough is None else tuple(float(rough[hit.distance_bits]) for hit in page.hits),
        )

    def judged(self, hit: Hit) -> Hit:
        """The hit with its rate."""
        return hit if self.rates is None else replace(hit, false_match=float(self.rates[hit.distance_bits]))


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
