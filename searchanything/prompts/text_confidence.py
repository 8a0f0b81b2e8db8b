"""Is what a text chose plausible? A text always finds a closest region, also where there is no such thing.

Cosines of different models, texts and images have no common scale. What can be said of any of them is how many
everyday words name the chosen region better than the text does: of a hundred words few do where the thing is there, and
about as many as chance would have it where it is not.

The bounds were measured, not chosen (`python benchmarks/text_presence.py`, with the rates that they lead to).
"""

from __future__ import annotations

import threading
from typing import Final, Literal

import numpy as np

from searchanything.core.protocols import RegionEncoder
from searchanything.core.types import FloatArray, TextMatch

_WORDS = """
person face hand foot eye dog cat horse cow bird fish insect snake tree flower grass leaf mountain river sea beach
sky cloud sun moon star snow fire stone sand house door window roof wall street bridge tower school car bus truck
train bicycle boat airplane wheel sign lamp chair table bed carpet mirror picture clock book paper letter box bag
bottle glass cup plate knife fork bread cake cheese meat egg apple banana grape tomato potato shirt trousers dress
shoe hat ring umbrella telephone camera computer keyboard television guitar drum ball hammer key rope bucket coin
flag medal candle toy machine
"""
COMPARED_WORDS: Final = tuple(_WORDS.split())
CLEAR_SHARE: Final = 0.02  # said of 89 % of what is there and of 23 % of what is not (docs/adr/0010)
WEAK_SHARE: Final = 0.09  # above it: 5 % of what is there, 45 % of what is not
# A text that is one of the words has another cosine than it, as models round otherwise in a batch (1e-6 on a CPU).
SAME_COSINE: Final = 1e-4


class TextConfidence:
    """Compares texts with everyday words, whose embeddings are made once, at the first need. Thread-safe."""

    def __init__(self, embedder: RegionEncoder) -> None:
        self._embedder = embedder
        self._lock = threading.Lock()
        self._words: FloatArray | None = None

    @property
    def words(self) -> FloatArray:
        """The embeddings of the everyday words, (words, D)."""
        with self._lock:
            if self._words is None:
                self._words = self._embedder.embed_texts(COMPARED_WORDS)
            return self._words

    def judge(self, cosines: FloatArray, regions: FloatArray) -> TextMatch:
        """The least plausible of R ≥ 1 chosen regions: their (R,) cosines to the text, and their (R, D) embeddings."""
        better = (regions @ self.words.T > cosines[:, None] + SAME_COSINE).sum(axis=1)
        worst = int(np.lexsort((cosines, -better))[0])
        count = int(better[worst])
        return TextMatch(
            float(cosines[worst]), count, len(COMPARED_WORDS), confidence_by_share(count / len(COMPARED_WORDS))
        )


def confidence_by_share(share: float) -> Literal["clear", "unsure", "weak"]:
    """What a share of better words says about the text."""
    return "clear" if share <= CLEAR_SHARE else "unsure" if share <= WEAK_SHARE else "weak"
