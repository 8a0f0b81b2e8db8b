"""How often an unrelated region comes as near to a query as a hit does: from the index's own codes, per query.

Some codes lie in crowds, so a distance says little by itself. A fixed sample of the index's codes gives each query its
own distribution of distances. Its bulk is unrelated regions; its lower tail is too thin to be counted, and holds what
the query looks for. So the tail is a model: a generalised Pareto tail through the quantiles at 5 % and 20 % (excesses
over a threshold: Pickands, Annals of Statistics 1975), of a shape that was measured for each kind of code. What lies
nearer than that tail allows is taken for related regions, and subtracted. docs/adr/0059 has the alternatives.

Of fewer than 200 codes no rate is stated. Ten or more still say whether a hit stands out from the others of the index.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchanything.core.codes import hamming, stacked
from searchanything.core.conditions import plain_value
from searchanything.core.errors import UsageError
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import CodeKind, Codes, Place
from searchanything.search.committed import committed
from searchanything.search.scoped import ScopedIndex

SAMPLE_CODES: Final = 4096
LEAST_CODES: Final = 200  # of which 10 lie below the quantile at 5 %
LEAST_COMPARED: Final = 10  # below, a code cannot stand out from so few
MOST_SAMPLES: Final = 256  # 32 MB, with codes of 256 bits
LOOK_S: Final = 10.0  # the index is counted no more often than that
_GROWTH: Final = 0.1  # by so much an index changes before its sample is drawn again
_LOW, _HIGH = 0.05, 0.20
_LOW_CODES, _HIGH_CODES = 2, 8  # of fewer than 40 codes the quantiles are higher, so that they lie on so many
# Of the tail; 0 is exponential. Measured on labelled regions, and on names that texts ask for: docs/adr/0059
SHAPES: Final[Mapping[CodeKind, float]] = {"regions": 0.08, "images": 0.08, "words": 0.0}
Rates = NDArray[np.float64]  # (bits + 1,), by distance
_Name: TypeAlias = tuple[str, tuple[Place, ...], CodeKind, bytes]  # the last is the words layer, for words alone


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """A sample of one kind of an index's codes, (S, B) uint8, and how many rows there were when it was drawn."""

    codes: Codes
    rows: int
    kind: CodeKind = "regions"

    def rates(self, code: Codes) -> Rates | None:
        """By distance, the share of unrelated codes that are as near to a code (B,), or nearer; None: too few codes."""
        return self._rates(code) if len(self.codes) >= LEAST_CODES else None

    def rough_rates(self, code: Codes) -> Rates | None:
        """As `rates`, of few codes as well: good enough for a word, not to be stated. None: fewer than ten."""
        return self._rates(code) if len(self.codes) >= LEAST_COMPARED else None

    def _rates(self, code: Codes) -> Rates:
        bits = 8 * self.codes.shape[1]
        counts = np.bincount(hamming(code[None], self.codes)[0], minlength=bits + 1)
        return false_match_rates(counts, shape=SHAPES[self.kind])


def false_match_rates(counts: NDArray[np.int64], *, shape: float = SHAPES["regions"]) -> Rates:
    """From how many of ten codes or more lie at each distance, (bits + 1,), each one's false-match rate: rising, in
    (0, 1].
    """
    codes = int(counts.sum())
    low, high = max(_LOW, _LOW_CODES / codes), max(_HIGH, _HIGH_CODES / codes)
    share = np.cumsum(counts) / codes
    tail = _with_tail(share, low, high, shape)
    below = np.arange(len(share)) <= _quantile(share, low)
    related = min(low / 2, float(np.max((share - tail)[below], initial=0.0)))
    unrelated = np.clip((share - related) / (1 - related), 0.0, 1.0)
    return np.asarray(np.clip(_with_tail(unrelated, low, high, shape), np.finfo(np.float64).tiny, 1.0))


def rate_of(rate: object) -> float | None:
    """A rate, NumPy's as well; None for none. Raises: UsageError for what is no rate above 0 and at most 1."""
    if rate is None:
        return None
    given = plain_value(rate)
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= 1:
        raise UsageError(f"expected a false-match rate above 0 and at most 1, such as 1e-4, got {rate!r}")
    return float(given)


def draw_background(index: RegionIndex, *, of: CodeKind = "regions") -> Background:
    """A sample of about 4,096 committed codes: always the same ones while the index stays as it is."""
    rows = _rows(index, of)
    share = 1.0 if rows <= SAMPLE_CODES else SAMPLE_CODES / rows
    found = committed(index, list(index.iterate_codes(of=of, share=share)))
    bits = index.words.bits if of == "words" and index.words is not None else index.manifest.bits
    return Background(stacked((one.code for one in found), bits), rows, of)


@dataclass(slots=True)
class Backgrounds:
    """The samples of the indexes that are asked, drawn again when an index has changed by a tenth. Thread-safe.

    Views have samples of their own, as many as a server has users: those that were asked longest ago make room.
    """

    clock: Callable[[], float] = time.monotonic
    _drawn: dict[_Name, tuple[float, Background]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _drawing: threading.Lock = field(default_factory=threading.Lock)

    def of(self, index: RegionIndex, kind: CodeKind = "regions") -> Background:
        """The sample of one kind of an index's codes; of a view of some places, of theirs alone."""
        places = index.places if isinstance(index, ScopedIndex) else ()
        layer = index.words.layer if kind == "words" and index.words is not None else b""  # a restore may bring another
        name, now = (index.manifest.fingerprint, places, kind, layer), self.clock()
        with self._lock:
            held = self._drawn.pop(name, None)
            if held is not None:
                is_fresh = now - held[0] < LOOK_S
                self._drawn[name] = held if is_fresh else (now, held[1])  # this call looks; the others go on with it
                if is_fresh:
                    return held[1]
        if held is not None:
            return self._drawn_anew(name, index, now, held[1])
        with self._drawing:  # one call draws, the others wait for it
            with self._lock:
                held = self._drawn.get(name)
            return held[1] if held is not None else self._drawn_anew(name, index, now, None)

    def _drawn_anew(self, name: _Name, index: RegionIndex, now: float, known: Background | None) -> Background:
        kind, background = name[2], known
        rows = _rows(index, kind)
        if background is None or abs(rows - background.rows) > _GROWTH * background.rows:
            background = draw_background(index, of=kind)
        with self._lock:
            self._drawn[name] = now, background
            if len(self._drawn) > MOST_SAMPLES:
                del self._drawn[next(iter(self._drawn))]
        return background


def _rows(index: RegionIndex, kind: CodeKind) -> int:
    if kind == "words":
        return index.count_words()
    if kind == "regions":
        return index.count_regions()  # alone: image rows by outcome are counted by a look at each
    counts = index.counts()
    return counts.images + counts.empty


def _with_tail(share: Rates, least: float, most: float, shape: float) -> Rates:
    """The shares, below the quantile at `most` replaced by the Pareto tail through it and the one at `least`."""
    low, high = _quantile(share, least), _quantile(share, most)  # apart by 0.15 at least: no bit adds more than 1
    distances = np.arange(len(share))
    excess = np.maximum(high - distances, 0.0) / (high - low)
    ratio = most / least
    modelled = most * ((1 + (ratio**shape - 1) * excess) ** (-1 / shape) if shape else ratio**-excess)
    return np.asarray(np.where(distances < high, modelled, share))


def _quantile(share: Rates, wanted: float) -> float:
    """The distance at which the shares reach a value, between two whole distances where need be."""
    place = int(np.searchsorted(share, wanted))
    before = float(share[place - 1]) if place else 0.0
    return place - 1 + (wanted - before) / (float(share[place]) - before)
