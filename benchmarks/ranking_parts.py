"""Images that show two things: recall of `all_of` over codes and over float features, for `benchmarks/ranking.py`.

Two concepts that share at least five scenes are asked for by a region each, of two scenes that are left out. recall@k:
of the images that show both, the share among the first k, k being how many there are; recall@3k likewise. Float: every
image, by the best assignment of its regions to both parts by cosine. One part, or both, may be the concept's name: then
codes take what the three regions nearest to it have in common, as `Client.combine` does, and float compares its
embedding with f_I; cosines then count by how many standard deviations they are above the mean of all regions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from benchmarks.index_rows import image_row, region_row
from benchmarks.ranking_table import Line, compared
from benchmarks.ranking_words import WINDOW
from searchanything.client.combining import WORDS_EXAMPLES
from searchanything.core.codes import hamming, pack_signs, unit_rows
from searchanything.core.manifest import IndexManifest
from searchanything.core.types import Codes, Filter, FloatArray, ImageRef
from searchanything.encode.encoder import Encoder
from searchanything.hash_training.words_training import train_words
from searchanything.search.calibration import draw_background
from searchanything.search.combination import Combination, Part, search_combined
from searchanything.search.rescoring import mean_of, similarities
from searchanything.stores.memory import MemoryRegionIndex

LEAST = 5
Regions = dict[str, NDArray[Any]]


def index_of(regions: Regions) -> MemoryRegionIndex:
    """The regions as an index in memory."""
    manifest = IndexManifest(
        "f" * 64,
        "a" * 64,
        "pico",
        8 * regions["codes"].shape[1],
        "d" * 64,
        hash_trained=True,
        schema_version=1,
        created_at_ms=0,
    )
    index = MemoryRegionIndex(manifest)
    for number in np.unique(regions["images"]):
        image, rows = ImageRef("scenes", str(number)), np.flatnonzero(regions["images"] == number)
        codes = (regions["codes"][row].tobytes() for row in rows)
        index.insert_regions([region_row(image, 1, place, code) for place, code in enumerate(codes)])
        index.insert_images([image_row(image, 1, bytes(manifest.bits // 8), regions=len(rows))])
    return index


def questions(regions: Regions, count: int) -> Iterator[tuple[list[int], set[int], set[int]]]:
    """Two query regions, the images that hold both of their concepts, and the images that are left out."""
    rng = np.random.default_rng(23)
    concepts, images = regions["concepts"], regions["images"]
    holding = {one: set(images[concepts == one].tolist()) for one in np.unique(concepts[concepts >= 0]).tolist()}
    pairs = [(one, other) for one in holding for other in holding if one < other]
    asked = 0
    for place in rng.permutation(len(pairs)):
        both = holding[pairs[place][0]] & holding[pairs[place][1]]
        rows = [int(rng.choice(np.flatnonzero(concepts == one))) for one in pairs[place]]
        left_out = {int(images[row]) for row in rows}
        if len(both - left_out) >= LEAST:
            yield rows, both - left_out, left_out
            asked += 1
        if asked == count:
            return


def float_order(similar: NDArray[np.float32], regions: Regions, left_out: set[int]) -> list[int]:
    """All images by their best assignment of regions to the parts, of which (P, N) says how similar each region is."""
    scores = {}
    for image in np.unique(regions["images"]).tolist():
        if image not in left_out:
            some = similar[:, regions["images"] == image]
            places = linear_sum_assignment(-some)
            scores[image] = float(some[places].sum())
    return sorted(scores, key=lambda image: -scores[image])


def recalls(order: list[int], both: set[int]) -> tuple[float, float]:
    """recall@k and recall@3k."""
    return tuple(len(both & set(order[: times * len(both)])) / len(both) for times in (1, 3))  # type: ignore[return-value]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A part: its code, and how similar each region is by floats, (N,)."""

    code: Codes
    similar: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """What a concept's name stands for, by words codes of the regions, and by its embedding."""

    regions: Regions
    words: Codes
    texts: FloatArray
    embedded: FloatArray
    units: FloatArray

    @classmethod
    def of(cls, regions: Regions, encoder: Encoder) -> Named:
        """Embeds all names."""
        units = np.ascontiguousarray(regions["features"][:, -encoder.embedder.dimension :])
        layer, embedded = (
            train_words(units, encoder.everyday_words()),
            encoder.embedder.embed_texts(list(regions["names"])),
        )
        return cls(regions, layer.encode(units), layer.project_texts(embedded), embedded, units)

    def asked(self, concept: int) -> Asked:
        """The part that a name is."""
        text = self.texts[concept]
        window = np.argsort(hamming(pack_signs(text[None]), self.words)[0], kind="stable")[:WINDOW]
        nearest = window[np.argsort(-similarities(text, self.words[window]), kind="stable")][:WORDS_EXAMPLES]
        similar = self.units @ self.embedded[concept]
        return Asked(mean_of(self.regions["codes"][nearest]).code, (similar - similar.mean()) / similar.std())


def parts_lines(regions: Regions, encoder: Encoder, count: int) -> list[Line]:
    """An exhaustive float search against `all_of`: of two regions, of a region and a name, of two names."""
    named = Named.of(regions, encoder)
    units = unit_rows(regions["features"].astype(np.float32))

    def by_region(row: int) -> Asked:
        return Asked(regions["codes"][row], units @ units[row])

    def above(row: int) -> Asked:
        one = by_region(row)
        return Asked(one.code, (one.similar - one.similar.mean()) / one.similar.std())

    def by_name(row: int) -> Asked:
        return named.asked(int(regions["concepts"][row]))

    kinds = {"": (by_region, by_region), ", one by name": (above, by_name), ", both by name": (by_name, by_name)}
    lines = []
    for kind, ways in kinds.items():
        asked = [
            ([way(row) for way, row in zip(ways, rows, strict=True)], both, left_out)
            for rows, both, left_out in questions(regions, count)
        ]
        lines += _lines(f"two things at once{kind}", regions, asked)
    return lines


def _lines(what: str, regions: Regions, asked: list[tuple[list[Asked], set[int], set[int]]]) -> list[Line]:
    index = index_of(regions)
    background = draw_background(index)
    ours, exhaustive, exact = [], [], []
    for several, both, left_out in asked:
        parts = tuple(Part(str(n), one.code, background.rates(one.code)) for n, one in enumerate(several))
        excluded = Filter(exclude=tuple(ImageRef("scenes", str(image)) for image in left_out))
        page = search_combined(index, Combination(parts), limit=3 * len(both), filter=excluded)
        ours.append(recalls([int(hit.image.key) for hit in page.hits], both))
        exhaustive.append(recalls(float_order(np.stack([one.similar for one in several]), regions, left_out), both))
        exact.append(page.exact)
    print(f"\n{what}: {np.mean(exact):.2f} of the answers say that they are exact")
    values = np.array(exhaustive), np.array(ours)
    return [
        compared(what, "scenes", figure, ("float", values[0][:, place]), ("codes", values[1][:, place]))
        for place, figure in enumerate(("recall@k", "recall@3k"))
    ]
