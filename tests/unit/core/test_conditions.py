"""Conditions on metadata, as they are written and read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchanything.core.conditions import COMPARISONS, Where, conditions_of
from searchanything.core.errors import FilterError
from searchanything.core.types import Filter

LETTERS = st.text(st.characters(codec="utf-8", min_codepoint=32), max_size=6)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("year>=2020", Where("year", ">=", 2020)),
        (" year  >  -3.5 ", Where("year", ">", -3.5)),
        ("year=2020", Where("year", "==", 2020)),
        ("year==2020..2022", Where("year", "between", (2020, 2022))),
        ("day = 2024-01-01 .. 2024-06-30", Where("day", "between", ("2024-01-01", "2024-06-30"))),
        ("size=.5..1e3", Where("size", "between", (0.5, 1000.0))),
        ('name="a..b"', Where("name", "==", "a..b")),
        ('zip="02134"', Where("zip", "==", "02134")),
        ("zip=02134", Where("zip", "==", "02134")),
        ("city = Bad Hersfeld", Where("city", "==", "Bad Hersfeld")),
        ("city in Marburg, Bad Hersfeld,Kassel", Where("city", "in", ("Marburg", "Bad Hersfeld", "Kassel"))),
        ('city not  in "Marburg, Lahn",Kassel', Where("city", "not in", ("Marburg, Lahn", "Kassel"))),
        ("stars in 1,2.5,true", Where("stars", "in", (1, 2.5, True))),
        ("city begins with Mar", Where("city", "begins with", "Mar")),
        ("code begins with 20", Where("code", "begins with", "20")),
        ("raw!=true", Where("raw", "!=", True)),
        ('"my name" != "x = \\"y\\""', Where("my name", "!=", 'x = "y"')),
        ("in in in", Where("in", "in", ("in",))),
        ("a/b.c-d=1", Where("a/b.c-d", "==", 1)),
        ('empty=""', Where("empty", "==", "")),
    ],
)
def test_what_is_written_is_what_is_meant(text: str, expected: Where) -> None:
    read = Where.parse(text)
    assert read == expected
    assert [type(one) for one in read.values] == [type(one) for one in expected.values]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("year", "expected one of"),
        ("", "expected one of"),
        (">=3", "expected one of"),
        ("year>=", "expected a value"),
        ("year in ", "expected one of|commas"),
        ("year in 1,,2", "commas"),
        ("year in 1,", "commas"),
        ("year<true", "true and false"),
        ("year=5..3", "low <= high"),
        ("year=5..x", "of one kind"),
        ('year="abc', "ends with one"),
        ("year>2..3", None),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, complaint: str | None) -> None:
    if complaint is None:  # a text that is compared as one
        assert Where.parse(text).value == "2..3"
        return
    with pytest.raises(FilterError, match=complaint):
        Where.parse(text)


def test_values_are_checked() -> None:
    for name, comparison, value in (
        ("", "==", 1),
        ("a", "=~", "x"),
        ("a", "in", ()),
        ("a", "in", "abc"),
        ("a", "between", (1, 2, 3)),
        ("a", "==", float("inf")),
        ("a", "==", None),
        ("a", "begins with", 3),
        ("a", "in", tuple(range(257))),
    ):
        with pytest.raises(FilterError, match="where"):
            Where(name, comparison, value)


@given(
    name=LETTERS.filter(bool),
    comparison=st.sampled_from(COMPARISONS),
    values=st.lists(LETTERS, min_size=2, max_size=2) | st.lists(NUMBERS, min_size=2, max_size=2),
)
def test_a_condition_shown_can_be_read_again(name: str, comparison: str, values: list) -> None:
    if comparison == "begins with":
        values = [str(one) for one in values]
    several = comparison in ("in", "not in", "between")
    made = Where(name, comparison, sorted(values) if several else values[0])
    assert Where.parse(str(made)) == made


def test_a_filter_takes_texts() -> None:
    assert Filter(where="year>=2020") == Filter(where=(Where("year", ">=", 2020),))
    assert Filter(where=["a=1", Where("b", "<", 2)]).where == (Where("a", "==", 1), Where("b", "<", 2))
    assert conditions_of(()) == ()
    with pytest.raises(FilterError, match="expected conditions"):
        Filter(where=3)
