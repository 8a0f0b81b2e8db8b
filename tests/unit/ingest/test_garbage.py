"""What belongs to nobody leaves the index, and what lost rows is indexed again: by the table of the module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pytest
from contracts.index_rows import BITS, image_row, manifest_of, region_row
from hypothesis import example, given
from hypothesis import strategies as st

from searchanything.core.codes import next_generation
from searchanything.core.rows import Outcome
from searchanything.core.types import ImageRef
from searchanything.ingest import garbage
from searchanything.ingest.garbage import collect_garbage
from searchanything.stores.memory import MemoryRegionIndex

HOUR: Final = 3600.0
NOW: Final = next_generation()
CODE: Final = bytes(BITS // 8)
OURS: Final = (ImageRef("b", "in/a.png"), ImageRef("b", "in/b.png"), ImageRef("b", "in/c.png"))
THEIRS: Final = (ImageRef("b", "out/a.png"), ImageRef("other", "in/a.png"))


@dataclass(frozen=True)
class Rows:
    """Of one image: generations of its image rows, how many regions the newest has, and region rows by generation."""

    commits: frozenset[int]
    says: int
    regions: dict[int, int]

    @property
    def newest(self) -> int:
        return max(self.commits, default=0)

    @property
    def lost(self) -> bool:
        return bool(self.commits) and self.regions.get(self.newest, 0) < self.says

    def is_garbage(self, generation: int) -> bool:
        """Older than the commit; or an hour old, of an image that never was committed."""
        return generation < (self.newest or NOW)

    @property
    def has_garbage(self) -> bool:
        return any(map(self.is_garbage, [*self.commits, *self.regions]))

    @property
    def again(self) -> bool:
        """Rows are missing, or belong to a killed attempt that is newer than the commit, and old."""
        return self.lost or any(bool(self.newest) and self.newest < one < NOW for one in self.regions)

    def without_garbage(self) -> set[tuple[int, int]]:
        """What stays: generations of image rows, as region -1, and of regions."""
        rows = [(one, -1) for one in self.commits]
        rows += [(one, number) for one, count in self.regions.items() for number in range(count)]
        return {(one, number) for one, number in rows if not self.is_garbage(one)}


GENERATIONS = st.sampled_from([1, 2, NOW, NOW + 1])
SOME_ROWS = st.builds(
    Rows,
    st.frozensets(GENERATIONS, max_size=2),
    st.integers(0, 2),
    st.dictionaries(GENERATIONS, st.integers(1, 2), max_size=3),
)
NOTHING = Rows(frozenset(), 0, {})
ONE = Rows(frozenset({1}), 2, {1: 1})
WHOLE = Rows(frozenset({1}), 1, {1: 1})
NUMBERS_AGREE = Rows(frozenset({1}), 2, {1: 1, 2: 1})
KILLED_LATER = Rows(frozenset({1}), 1, {1: 1, 2: 1})
REPLACED_LATELY = Rows(frozenset({NOW + 1}), 1, {NOW: 1, NOW + 1: 1})


def fill(index: MemoryRegionIndex, image: ImageRef, rows: Rows) -> None:
    for one, count in rows.regions.items():
        index.insert_regions([region_row(image, number, generation=one, code=CODE) for number in range(count)])
    for one in rows.commits:
        says = rows.says if one == rows.newest else 2
        outcome = Outcome.INDEXED if says else Outcome.EMPTY
        index.insert_images([image_row(image, generation=one, code=CODE, regions=says, outcome=outcome)])


def held(index: MemoryRegionIndex, image: ImageRef) -> set[tuple[int, int]]:
    found = {(row.generation, -1) for row in index.iterate_images() if row.image == image}
    return found | {(row.generation, row.region) for row in index.regions_of([image])}


@given(
    ours=st.tuples(*(SOME_ROWS for _ in OURS)), theirs=st.tuples(*(SOME_ROWS for _ in THEIRS)), repairs=st.booleans()
)
@example(ours=(NUMBERS_AGREE, NOTHING, NOTHING), theirs=(ONE, ONE), repairs=True)
@example(ours=(KILLED_LATER, REPLACED_LATELY, NOTHING), theirs=(ONE, ONE), repairs=True)
@example(ours=(ONE, NOTHING, NOTHING), theirs=(WHOLE, NOTHING), repairs=True)
@example(ours=(KILLED_LATER, NOTHING, NOTHING), theirs=(NOTHING, NOTHING), repairs=False)
def test_what_belongs_to_nobody_goes_and_what_lost_rows_is_indexed_again(
    ours: tuple[Rows, ...], theirs: tuple[Rows, ...], repairs: bool
) -> None:
    index, asked = MemoryRegionIndex(manifest_of("f" * 64)), list[Sequence[str]]()
    for image, rows in zip(OURS + THEIRS, ours + theirs, strict=True):
        fill(index, image, rows)
    before = {image: held(index, image) for image in OURS + THEIRS}
    again = asked.append if repairs else None
    number = collect_garbage(index, bucket="b", key_prefix="in/", again=again, age_s=HOUR)
    said = sum(rows.says for rows in ours if rows.commits)
    there = sum(sum(rows.regions.values()) for rows in ours)
    if said == there and all(len(rows.commits) < 2 for rows in ours):  # rows are not looked at
        assert (number, asked, {image: held(index, image) for image in before}) == (0, [], before)
        return
    assert {image: held(index, image) for image in THEIRS} == {image: before[image] for image in THEIRS}
    assert [held(index, image) for image in OURS] == [rows.without_garbage() for rows in ours]
    assert number == sum(rows.has_garbage for rows in ours)
    lacking = [image.key for image, rows in zip(OURS, ours, strict=True) if rows.again]
    assert asked == ([lacking] if lacking and repairs else [])


def test_more_images_than_are_deleted_or_asked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "DELETED_AT_ONCE", 1)
    index, asked = MemoryRegionIndex(manifest_of("f" * 64)), list[Sequence[str]]()
    killed, lost = [ImageRef("b", f"killed{number}") for number in range(3)], OURS
    for image in killed:
        fill(index, image, Rows(frozenset(), 0, {1: 2}))
    for image in lost:
        fill(index, image, ONE)
    assert collect_garbage(index, bucket="b", key_prefix="", again=asked.append) == 3
    assert [held(index, image) for image in killed] == [set()] * 3
    assert asked == [[image.key for image in lost]]
