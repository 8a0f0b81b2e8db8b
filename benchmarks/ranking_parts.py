"""Images that show two things: recall of `all_of` over codes and over float features, for `benchmarks/ranking.py`.

Two concepts that share at least five scenes are asked for by a region each, of two scenes that are left out. recall@k:
of the images that show both, the share among the first k, k being how many there are; recall@3k likewise. Float: every
image, by the best assignment of its regions to both parts by cosine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from benchmarks.index_rows import image_row, region_row
from benchmarks.ranking_table import Line, compared
from searchanything.core.codes import unit_rows
from searchanything.core.types import Filter, ImageRef, IndexManifest
from searchanything.search.calibration import draw_background
from searchanything.search.combine import Combination, Part, search_combined
from searchanything.stores.memory import MAX_LIMIT, MemoryRegionIndex

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


def float_order(units: NDArray[np.float32], regions: Regions, rows: list[int], left_out: set[int]) -> list[int]:
    """All images by their best assignment of regions to the parts."""
    similar = units[rows] @ units.T
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


def parts_lines(regions: Regions, count: int) -> list[Line]:
    """An exhaustive float search against `all_of`."""
    index = index_of(regions)
    background = draw_background(index)
    units = unit_rows(regions["features"].astype(np.float32))
    ours, exhaustive, exact = [], [], []
    for rows, both, left_out in questions(regions, count):
        parts = tuple(Part(str(row), regions["codes"][row], background.rates(regions["codes"][row])) for row in rows)
        excluded = Filter(exclude=tuple(ImageRef("scenes", str(image)) for image in left_out))
        page = search_combined(index, Combination(parts), limit=3 * len(both), filter=excluded, max_limit=MAX_LIMIT)
        ours.append(recalls([int(hit.image.key) for hit in page.hits], both))
        exhaustive.append(recalls(float_order(units, regions, rows, left_out), both))
        exact.append(page.exact)
    print(f"\ntwo things: {np.mean(exact):.2f} of the answers say that they are exact")
    values = np.array(exhaustive), np.array(ours)
    return [
        compared("two things at once", "scenes", figure, ("float", values[0][:, place]), ("codes", values[1][:, place]))
        for place, figure in enumerate(("recall@k", "recall@3k"))
    ]
