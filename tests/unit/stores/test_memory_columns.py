"""Filters on columns say of every row what the function of a single row says, through insertion and deletion."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from contracts.index_rows import region_row
from fakes.matching import matcher
from hypothesis import given
from hypothesis import strategies as st

from searchanything.core.rows import RegionRow
from searchanything.core.types import ImageRef
from searchanything.stores.columns import INT64_MAX, INT64_MIN, REGION_COLUMNS, Column, Kind, MetadataField
from searchanything.stores.memory_table import Table
from searchanything.stores.predicates import All, Among, Compare, OfImages, Predicate, Prefix, Some

IMAGES = [ImageRef(bucket, key) for bucket in ("a", "b") for key in ("", "x/1", "x/2", "y")]
TEXTS = st.sampled_from(["", "a", "b", "x/", "x/1", "y", "small"])
INTEGERS = st.sampled_from([INT64_MIN, -1, 0, 1, 2**53, 2**53 + 1, INT64_MAX])
NUMBERS = INTEGERS | st.sampled_from([0.0, 0.1, 1.0, 1.5, float(2**53), -0.5, 1e30])
ANY = TEXTS | NUMBERS | st.booleans()
SIGNS = ["==", "!=", "<", "<=", ">", ">="]
COMPARISONS = st.sampled_from(SIGNS)


def values_of(kind: Kind) -> st.SearchStrategy[Any]:
    return TEXTS if kind is Kind.TEXT else NUMBERS


FIELDS = st.one_of(
    st.sampled_from([Column(name, kind) for name, kind in REGION_COLUMNS.items()]),
    st.sampled_from([MetadataField("m"), MetadataField("absent")]),
)


@st.composite
def leaves(draw: st.DrawFn) -> Predicate:
    field = draw(FIELDS)
    values = ANY if isinstance(field, MetadataField) else values_of(field.kind)
    shape = draw(st.sampled_from(["compare", "among", "prefix", "images"]))
    if shape == "images":
        return OfImages(draw(st.frozensets(st.sampled_from(IMAGES))), draw(st.booleans()))
    if shape == "among":
        return Among(field, tuple(draw(st.lists(values, min_size=1, max_size=4))), draw(st.booleans()))
    if shape == "prefix" and (isinstance(field, MetadataField) or field.kind is Kind.TEXT):
        return Prefix(field, draw(TEXTS))
    value = draw(values)
    comparison = draw(st.sampled_from(["==", "!="]) if isinstance(value, bool) else COMPARISONS)
    return Compare(field, comparison, value)


PREDICATES = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        st.builds(lambda parts: All(tuple(parts)), st.lists(inner, max_size=3)),
        st.builds(lambda parts: Some(tuple(parts)), st.lists(inner, max_size=3)),
    ),
    max_leaves=5,
)


@st.composite
def rows(draw: st.DrawFn) -> list[RegionRow]:
    made = []
    for number in range(draw(st.integers(0, 12))):
        metadata = {"m": draw(ANY)} if draw(st.booleans()) else {}
        made.append(
            region_row(
                draw(st.sampled_from(IMAGES)),
                number,
                generation=draw(st.integers(1, 3)),
                area_px=abs(draw(INTEGERS)) % 2**63,
                score=draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
                box_xyxy=(0.1, 0.0, draw(st.sampled_from([1.0, 40.0, 0.7])), 33.3),
                metadata=metadata,
            )
        )
    return made


@given(predicate=PREDICATES, first=rows(), more=rows(), gone=st.sets(st.sampled_from(IMAGES)))
def test_columns_say_what_rows_say(
    predicate: Predicate, first: list[RegionRow], more: list[RegionRow], gone: set[ImageRef]
) -> None:
    table: Table[RegionRow] = Table(32)
    table.insert(first)
    table.count(predicate)  # the columns are made here, and kept up below
    table.insert(more)
    table.delete_images(gone)
    kept = {row.id: row for row in (*first, *more) if row.image not in gone}
    assert {row.id for row in table.rows} == set(kept)
    expected = {name for name, row in kept.items() if matcher(predicate)(row)}
    found = table.nearest(table._codes.filled[:1], 100, predicate)
    assert {row.id for one in found for row, _ in one} == (expected if kept else set())


EDGES = [0, 1, 2, 1.0, 0.5, 0.1, -1, 2**53, 2**53 + 1, 2.0**53, 2**63 - 1, -(2**63), 2.0**63, 1e30, -1e30]


@pytest.mark.parametrize(("name", "kind"), [one for one in REGION_COLUMNS.items() if one[1] is not Kind.TEXT])
def test_columns_of_numbers_say_what_rows_say_of_every_edge(name: str, kind: Kind) -> None:
    areas = [0, 1, 2, 2**53, 2**53 + 1, 2**63 - 1]
    made = [
        region_row(IMAGES[0], n, generation=1 + n % 2, area_px=area, score=[0.0, 0.1, 0.5, 1.0][n % 4])
        for n, area in enumerate(areas)
    ]
    table: Table[RegionRow] = Table(32)
    table.insert(made)
    field = Column(name, kind)
    tested: list[Predicate] = [Compare(field, sign, value) for sign in SIGNS for value in EDGES]
    for excluded in (False, True):
        tested += [Among(field, (value,), excluded) for value in EDGES]
        tested += [Among(field, (2, 0.1, value), excluded) for value in EDGES]
    for predicate in tested:
        is_meant = matcher(predicate)
        found = [row.region for row in table.rows if is_meant(row)]
        chosen = np.flatnonzero(table._columns.chosen(predicate)).tolist()
        assert chosen == found, predicate


@given(first=rows(), more=rows(), bucket=st.sampled_from([None, "a", "b", "c"]), prefix=TEXTS)
def test_rows_under_a_prefix(first: list[RegionRow], more: list[RegionRow], bucket: str | None, prefix: str) -> None:
    table: Table[RegionRow] = Table(32)
    for part in (first, more):
        table.insert(part)
        kept = {row.id: row for row in (*first, *more) if row.id in table}
        expected = {
            name
            for name, row in kept.items()
            if bucket in (None, row.image.bucket) and row.image.key.startswith(prefix)
        }
        assert {row.id for row in table.under(bucket, prefix)} == expected


def test_a_row_with_an_id_that_is_there_takes_its_place() -> None:
    table: Table[RegionRow] = Table(32)
    row = region_row(IMAGES[0], generation=1, area_px=4)
    table.insert([row])
    assert table.count(Compare(Column("area_px", Kind.INT64), "==", 4)) == 1
    table.insert([region_row(IMAGES[0], generation=1, area_px=9)])
    assert len(table) == 1
    assert table.count(Compare(Column("area_px", Kind.INT64), "==", 4)) == 0
    assert next(table.get([row.id])).area_px == 9


def test_asking_by_image_looks_at_no_other_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits ask for a few images at a time: with a look at every row they would grow slower with the index."""
    table: Table[RegionRow] = Table(32)
    table.insert([region_row(ImageRef("a", str(number)), generation=1) for number in range(100)])
    looked_at: list[str] = []
    monkeypatch.setattr(table, "rows", Noting(table.rows, looked_at))
    assert len(table.of_images([ImageRef("a", "7"), ImageRef("a", "none")])) == 1
    assert len(looked_at) == 1


class Noting(list[RegionRow]):
    """Notes which rows are looked at."""

    def __init__(self, rows: list[RegionRow], looked_at: list[str]) -> None:
        super().__init__(rows)
        self._looked_at = looked_at

    def __getitem__(self, number: Any) -> Any:
        self._looked_at.append(str(number))
        return super().__getitem__(number)

    def __iter__(self) -> Any:
        raise AssertionError("every row was looked at")
