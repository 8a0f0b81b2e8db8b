"""What is asked of every image: names for its categories, and the words among which a region is named."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from searchanything.core.protocols import RegionEncoder
from searchanything.core.types import FloatArray
from searchanything.evaluation.truth import Truth

WORDS: Final = 10  # candidates among which a region is named


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """The categories' names, K of them, sorted, and what the encoder makes of them.

    `embeddings` (K, D) float32 of unit length. `words` holds for each category the numbers of its candidate words,
    itself first: a fixed draw of others of its own group.
    """

    names: tuple[str, ...]
    embeddings: FloatArray
    words: tuple[NDArray[np.intp], ...]

    @classmethod
    def of(cls, truth: Truth, embedder: RegionEncoder, *, group_by: str | None, seed: int) -> Self:
        """The vocabulary of annotated images; `group_by` is the attribute that names a category's group."""
        group_of: dict[str, str] = {}
        for image in truth.images:
            for one in image.instances:
                group_of.setdefault(one.category, one.attributes[group_by] if group_by else "")
        names = tuple(sorted(group_of))
        members: defaultdict[str, list[int]] = defaultdict(list)
        for number, name in enumerate(names):
            members[group_of[name]].append(number)
        rng = np.random.default_rng((seed, 10))
        words = [_drawn(number, members[group_of[name]], rng) for number, name in enumerate(names)]
        embeddings = embedder.embed_texts([spoken(name) for name in names])
        return cls(names, embeddings, tuple(words))

    def number(self, name: str) -> int:
        """A category's number."""
        return int(np.searchsorted(self.names, name))


def spoken(category: str) -> str:
    """A category's name as people write it: "sports-car" and "sports_car" are "sports car"."""
    return category.replace("-", " ").replace("_", " ")


def _drawn(number: int, group: list[int], rng: np.random.Generator) -> NDArray[np.intp]:
    others = rng.permutation([one for one in group if one != number])[: WORDS - 1]
    return np.array([number, *others], dtype=np.intp)
