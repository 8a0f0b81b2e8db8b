"""Which regions a policy keeps, against the rule in words: a third of the places for each size, the rest by area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchanything.core.errors import SettingsError
from searchanything.core.protocols import Segmentation
from searchanything.core.types import FloatArray, SizeClass, size_class_of
from searchanything.encode.region_policy import PolicyName, RegionPolicy


@dataclass
class Measured:
    """What a policy looks at, regions by falling score."""

    areas_px: FloatArray
    boxes_xyxy: FloatArray


def measured(areas: list[int], sides: list[tuple[int, int]]) -> Segmentation:
    boxes = [[7, 9, 7 + width, 9 + height] for width, height in sides]
    regions = Measured(np.array(areas, dtype=np.float32), np.array(boxes, dtype=np.float32).reshape(-1, 4))
    return cast("Segmentation", regions)


def by_hand(areas: list[int], sides: list[tuple[int, int]], name: PolicyName, count: int) -> list[int]:
    """Rows by falling area, and among equals by falling score."""
    largest = sorted(range(len(areas)), key=lambda row: (-areas[row], row))
    if name == "largest":
        return largest[:count]
    kept = []
    for size in SizeClass:
        kept += [row for row in largest if size_class_of((0, 0, *sides[row])) is size][: count // 3]
    left_over = [row for row in largest if row not in kept][: count - len(kept)]
    return [row for row in largest if row in kept or row in left_over]


side = st.sampled_from([8, 31, 32, 33, 90, 96, 97, 200])


@given(
    regions=st.lists(st.tuples(st.integers(1, 9), st.tuples(side, side)), max_size=60),
    name=st.sampled_from(["largest", "stratified"]),
    count=st.integers(1, 40),
)
def test_the_rows_kept_are_those_of_the_rule(
    regions: list[tuple[int, tuple[int, int]]], name: PolicyName, count: int
) -> None:
    """Few different areas, so that many tie; sides at which the sizes begin."""
    areas, sides = [area for area, _ in regions], [sides for _, sides in regions]
    kept = RegionPolicy(name, count).keep(measured(areas, sides))
    assert kept.tolist() == by_hand(areas, sides, name, count)


def test_a_small_region_is_kept_beside_larger_ones_that_are_more_than_there_are_places() -> None:
    areas, sides = [900, 800, 700, 600, 500, 5], [(200, 200)] * 5 + [(8, 8)]
    assert RegionPolicy("largest", 3).keep(measured(areas, sides)).tolist() == [0, 1, 2]
    assert RegionPolicy("stratified", 3).keep(measured(areas, sides)).tolist() == [0, 1, 5]


@pytest.mark.parametrize(("name", "count"), [("smallest", 5), ("", 5), ("largest", 0), ("stratified", 1001)])
def test_other_policies_are_refused(name: str, count: int) -> None:
    with pytest.raises(SettingsError, match="1 to 1000 regions"):
        RegionPolicy.described({"policy": name, "count": count})


@pytest.mark.parametrize("policy", [RegionPolicy(), RegionPolicy("stratified", 1), RegionPolicy("largest", 1000)])
def test_a_policy_comes_back_from_its_description(policy: RegionPolicy) -> None:
    assert RegionPolicy.described(policy.description) == policy
    assert RegionPolicy().description == {"policy": "largest", "count": 25}, "the paper's"
    with pytest.raises(SettingsError, match="policy"):
        RegionPolicy.described({})
