"""Conditions on metadata, as they are written and read."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchanything.core.conditions import COMPARISONS, Conditions, Where, conditions_of
from searchanything.core.errors import FilterError
from searchanything.core.types import Filter, ImageRef, SizeClass

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
        ('year="', "ends with one"),
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
        (3, "==", 1),
    ):
        with pytest.raises(FilterError, match="where"):
            Where(name, comparison, value)


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_true_and_false_have_no_order(comparison: str) -> None:
    several = comparison in ("in", "not in", "between")
    if comparison in ("==", "!=", "in", "not in"):
        assert Where("a", comparison, (True, False) if several else True).values[0] is True  # type: ignore[arg-type]
        return
    with pytest.raises(FilterError, match=r"where a: (true and false|`begins with`)"):
        Where("a", comparison, (False, True) if several else True)  # type: ignore[arg-type]


def test_numbers_of_numpy_s_are_python_s() -> None:
    for given_value, value in ((np.int64(3), 3), (np.float32(0.5), 0.5), (np.bool_(True), True), (np.array(4), 4)):
        for one in (Where("a", "==", given_value).value, Where("a", "in", [given_value]).values[0]):
            assert (one, type(one)) == (value, type(value))
    for array in (np.array([3]), np.array([3, 4])):
        with pytest.raises(FilterError, match="where a"):
            Where("a", "==", array)  # type: ignore[arg-type]


def test_a_set_of_several_kinds_has_one_order() -> None:
    made = Where("a", "in", {3, "x", 0.5, "3"})
    assert made == Where("a", "in", frozenset(["3", 0.5, "x", 3]))
    assert set(made.values) == {3, "x", 0.5, "3"}


def test_a_condition_is_shown_as_people_write_it() -> None:
    for text in ("year >= 2020", 'city in "A", "B"', "stars = 3..5", '"a b" == true', 'city begins with "M"'):
        assert str(Where.parse(text)) == text


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
    assert conditions_of(()) == Conditions()
    with pytest.raises(FilterError, match="expected conditions"):
        Filter(where=3)


@pytest.mark.parametrize(
    ("where", "area_px", "size_class"),
    [
        ("area_px > 900", (901, None), None),
        ("area_px>=899.5", (900, None), None),
        ("area_px < 900", (None, 899), None),
        ("area_px <= 900", (None, 900), None),
        ("area_px = 900", (900, 900), None),
        ("area_px = 100..400", (100, 400), None),
        ("size_class = large", (None, None), "large"),
        (["area_px > 10", "area_px < 20", "size_class=small"], (11, 19), "small"),
    ],
)
def test_what_a_region_has_itself(
    where: object, area_px: tuple[int | None, int | None], size_class: str | None
) -> None:
    made = Filter(where=where)  # type: ignore[arg-type]
    assert (made.area_px, made.size_class, made.where) == (area_px, size_class, ())


def test_conditions_narrow_the_other_parts() -> None:
    made = Filter(area_px=(100, 1000), where=["area_px < 500", "year = 3"])  # type: ignore[arg-type]
    assert made == Filter(area_px=(100, 499), where=(Where("year", "==", 3),))
    assert Filter(where='"area_px" > 900').where == (Where("area_px", ">", 900),)  # type: ignore[arg-type]
    assert replace(made, bucket="b").area_px == (100, 499)
    for where in (["size_class=small", "size_class=large"], "size_class > small", "size_class = 3", "area_px = big"):
        with pytest.raises(FilterError):
            Filter(where=where)  # type: ignore[arg-type]
    for where in ("size_class > small", "size_class = 3", "size_class in small,large"):
        with pytest.raises(FilterError, match="takes = and one of small, medium, large"):
            conditions_of(where)
    with pytest.raises(FilterError, match="one size_class"):
        Filter(size_class=SizeClass.SMALL, where="size_class = large")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("year <> 2020", "needs quotes"),
        ("year =! 3", "needs quotes"),
        ("year >= 2020 and city = A", "one condition each, and all that are given must hold"),
        ("year = 3 or year = 4", "`or` is for expression (--filter)"),
        ("year = 1..", "LOW..HIGH"),
        ("year = ..3", "LOW..HIGH"),
        ("key = a.jpg", "key_prefix (--key-prefix) says it"),
        ("bucket = b", "where 'bucket = b': bucket is the region's or the image's own: bucket (--bucket) says it"),
    ],
)
def test_what_reads_as_something_else_is_refused(text: str, hint: str) -> None:
    with pytest.raises(FilterError, match=re.escape(hint)):
        Filter(where=text)  # type: ignore[arg-type]


def test_what_is_meant_so_is_written_in_quotes() -> None:
    assert Where.parse('title = "rock and roll = fun"') == Where("title", "==", "rock and roll = fun")
    assert Where.parse("title = rock and roll") == Where("title", "==", "rock and roll")
    assert Where.parse('sign = "> 3"') == Where("sign", "==", "> 3")
    for text in ("city in (A, B)", "city in [A, B]", "city in A, B"):
        assert Where.parse(text) == Where("city", "in", ("A", "B"))


def test_values_are_a_list_or_a_set_and_a_range_has_an_order() -> None:
    for values in (["B", "A"], ("B", "A")):
        assert Where("city", "in", values).value == ("B", "A")
    assert Where("city", "not in", {"B", "A"}).value == Where("city", "not in", frozenset("AB")).value == ("A", "B")
    assert Where("stars", "between", [3, 5]) == Where.parse("stars = 3..5")
    for comparison, values, said in (
        ("in", "AB", "several values"),
        ("in", {"A": 1}, "several values"),
        ("between", {3, 5}, "two values, low and high"),
    ):
        with pytest.raises(FilterError, match=said):
            Where("city", comparison, values)  # type: ignore[arg-type]


def test_a_filter_is_as_it_was_made_whatever_becomes_of_what_it_was_made_of() -> None:
    one, other = ImageRef("b", "1"), ImageRef("b", "2")
    images, exclude, within, metadata = [one], {other, one}, [("b", "")], {"year": 2020}
    made = Filter(images=images, exclude=exclude, within=within, metadata=metadata)
    expected = Filter(images=(one,), exclude=(one, other), within=(("b", ""),), metadata={"year": 2020})
    images.append(other)
    exclude.clear()
    within.clear()
    metadata["year"] = 1999
    assert made == expected


MANY = 100_000


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        *(("a=x" + " " * MANY + "y", True), ("a" + " " * MANY + "b", False), ("a=" + "..a" * MANY + '"', False)),
        *(("a=b" + ".." * MANY + '"', True), ("a=b" + " " * MANY + 'c"', True), ("a in b" + " " * MANY + '"', False)),
        *(("a=b" + " and " * MANY, True), ("a not" + " " * MANY, False), ("a begins" + " " * MANY, False)),
        *(("a=" + "1" * MANY, False), ("a=..b" + '"' + ".." * MANY, False)),
    ],
    ids=lambda given: given[:12] if isinstance(given, str) else None,
)
def test_a_long_text_is_read_in_one_pass(text: str, is_one: bool) -> None:
    """Looking at each letter from each other one would take hours."""
    if is_one:
        assert Where.parse(text).name == "a"
    else:
        with pytest.raises(FilterError):
            Where.parse(text)
