"""The language of filters: what it says, what it refuses and with which words, and that nothing else gets through."""

from __future__ import annotations

import pytest
from contracts.index_rows import image_row, region_row
from fakes.matching import matcher
from hypothesis import example, given
from hypothesis import strategies as st

from searchanything.core.errors import FilterError
from searchanything.core.types import Filter, ImageRef
from searchanything.stores.columns import IMAGE_COLUMNS, REGION_COLUMNS, Kind, column_reader
from searchanything.stores.expressions import MAX_COMPARISONS, MAX_DEPTH, parse_expression
from searchanything.stores.filters import predicate_of
from searchanything.stores.milvus_filters import write
from searchanything.stores.milvus_schema import images_spec, regions_spec

ROW = region_row(
    ImageRef("b", "cats/a%1.jpg"), 3, generation=7, metadata={"n": 2, "name": 'a"\\b', "yes": True, "w": 1.5}
)


def written(expression: str) -> str:
    return write(parse_expression(expression, REGION_COLUMNS))


def holds(expression: str) -> bool:
    return matcher(parse_expression(expression, REGION_COLUMNS))(ROW)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("area_px>=900", "area_px >= 900"),
        ("900 <= area_px", "area_px >= 900"),
        ("900 <= area_px < 1000", "area_px >= 900 and area_px < 1000"),
        ("5 < region <= 9", "region > 5 and region <= 9"),
        ("9 >= region > 5", "region <= 9 and region > 5"),
        ("region == -0 or region == 0", "region == 0 or region == 0"),
        ("-2147483648 <= region <= 2147483647", "region >= -2147483648 and region <= 2147483647"),
        ("area_px <= 9223372036854775807", "area_px <= 9223372036854775807"),
        ("area_px >= -9223372036854775807", "area_px >= -9223372036854775807"),
        ("score <= 3.4028234663852886e38", "score <= 3.4028234663852886e+38"),
        ('key like "cats/%"', 'key >= "cats/" and key < "cats0"'),
        ("key LIKE 'cats'", 'key == "cats"'),
        ('not key like "a%"', 'key < "a" or key >= "b"'),
        ("region in [1, 2,1]", "region in [1, 2]"),
        ("region not in [1] && !(region > 5 || region < 2)", "region not in [1] and (region <= 5 and region >= 2)"),
        ("score > 1 and x1 in [1, 0.5]", "score > 1.0 and x1 in [1.0, 0.5]"),
        ("metadata['a\"'] in [1, 1.5]", 'metadata["a\\""] == 1 or metadata["a\\""] == 1.5'),
        ('metadata["a"] not in [true]', 'metadata["a"] != true'),
        ('not (metadata["a"] == 1 and region == -1)', 'metadata["a"] != 1 or region != -1'),
        ("key == \"a\\\\\\\"'b\" or key == 'it\\'s'", 'key == "a\\\\\\"\'b" or key == "it\'s"'),
        ("region == 1 or region == 2 and region == 3", "region == 1 or (region == 2 and region == 3)"),
    ],
)
def test_what_an_expression_becomes_for_milvus(expression: str, expected: str) -> None:
    assert written(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('metadata["n"] == 2 and metadata["n"] == 2.0 and metadata["n"] != "2" and metadata["n"] != true', True),
        ('metadata["none"] != 2', True),
        ('metadata["none"] < 2 or metadata["none"] >= 2', False),
        ('metadata["n"] < "z" or metadata["name"] < 5', False),
        ('metadata["name"] == "a\\"\\\\b"', True),
        ('metadata["name"] like "a%" and metadata["w"] in [2, 1.5]', True),
        ("score == 0.75 and x1 == 1.5 and 40 < x2 < 45", True),
        ("y2 != 60", False),
        ('size_class == "medium" and bucket != "a" and image_id > ""', True),
        ('not (region == 3 and (area_px < 5 or key like "dogs%"))', True),
        ("mask_height == 120 and mask_width == 160 and generation in [6, 7]", True),
    ],
)
def test_what_an_expression_says_of_a_row(expression: str, expected: bool) -> None:
    assert holds(expression) is expected


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("area_px % 0 == 1", "arithmetic"),
        ("area_px % -0 == 1", "arithmetic"),
        ("1/0 == 1", "arithmetic"),
        ("area_px + 1 == 2", "arithmetic"),
        ("area_px ** 2 > 1", "arithmetic"),
        ("1 in [1,2]", r"field in \[...\]"),
        ('"a" in ["a"]', r"field in \[...\]"),
        ("1 == 1", "expected a field"),
        ('key like "a\\%"', "alone, got"),
        ('key like "a\\\\%"', "key_prefix"),
        ('key like "%a"', "key_prefix"),
        ('key like "a_%"', "key_prefix"),
        ('key like ""', "key_prefix"),
        ("key like 5", "quoted text"),
        ('region like "1%"', "like` is for texts"),
        ('metadata["a"] in [1, "b"]', "of one kind"),
        ("region in []", "text in quotes"),
        ("region in [1.5]", "write 1, not 1.5"),
        ("region == 1.0", "holds integers"),
        ('region == "1"', 'not compared with "1"'),
        ("region == true", "not compared with true"),
        ("key == 1", "holds texts"),
        ("region == 2147483648", "region holds integers of 32 bits, which 2147483648 is beyond"),
        ("region == -2147483649", "region holds integers of 32 bits, which -2147483649 is beyond"),
        ("key == 1", "which are not compared with 1;"),
        ("area_px < 9223372036854775808", "beyond 64 bits"),
        ("area_px > -9223372036854775808", "beyond 64 bits"),
        ("score < 1e39", "32-bit float"),
        ("score < 1e999", "beyond 64 bits"),
        ("region == 010", "zero before"),
        ("region == 01", "zero before"),
        ("region == 0x1F", "means nothing"),
        ("region == " + "9" * 5000, "beyond 64 bits"),
        ('colour == "red"', r'metadata\["colour"\]'),
        ('metadata["a"]["b"] == 1', "flat"),
        ('metadata[""] == 1', "not empty"),
        ("metadata[1] == 1", "quoted text"),
        ("metadata == 1", "expected \\["),
        ('metadata["a"] < true', "== and != alone"),
        ('not metadata["a"] < 2', "write the comparison that is meant"),
        ('metadata["a"] not like "b%"', "write the comparison that is meant"),
        ("region = 1", "written =="),
        ("region == x1", "not with one another"),
        ("region is null", "no nulls"),
        ("region IS 5", "at character 8: there are no nulls"),
        ('exists metadata["a"]', "`exists` is not evaluated"),
        ('EXISTS metadata["a"]', "`exists` is not evaluated"),
        ("region between 1 and 2", "write field >= low and field <= high"),
        ("region == 1 & region == 2", "write `and` or `or`"),
        ("region == 1 And region == 2", "expected `and`, `or` or the end, got And"),
        ('array_contains(metadata["a"], 1)', "no field holds a list"),
        ('json_contains(metadata["a"], 1)', "no field holds a list"),
        ('ARRAY_CONTAINS(metadata["a"], 1)', "no field holds a list"),
        ("abs(region) == 1", r"abs\(…\) is not evaluated"),
        ("region == 1 region == 2", "expected `and`"),
        ("region == 1) or (id != ''", "expected `and`"),
        ("(region == 1", "expected \\)"),
        ("region in [1", "expected \\]"),
        ("region not 1", "expected one of .* got 1;"),
        ("region not == 1", "expected one of .* got ==;"),
        ("region == )", "expected a text in quotes, a number, true or false, got \\);"),
        ("region ==", "expected a text in quotes, a number, true or false, got the end;"),
        ("1 < region > 5", "range"),
        ("1 == region == 1", "range"),
        ('key == "a', "never closed"),
        ('key == "a\\n"', "alone, got"),
        ("region == 1\nor region == 2", "line breaks"),
        ("key == '\ud800'", "surrogates|line breaks"),
        ("  ", "empty"),
        ("and", "expected a field"),
        ("region", "expected one of == .* in like, got the end;"),
        ("true", "expected one of"),
        ("(" * 17 + "region == 1" + ")" * 17, "nested"),
        ("!" * 17 + "(region == 1)", "nested"),
        ("(region == 1) and " * 3 + "(" * 17 + "region == 1" + ")" * 17, "nested"),
        ('metadata["a"] in [' + "1," * 512 + "1]", "more than 512 comparisons"),
        ("(" * 100_000, "nested"),
        (" or ".join(["region == 1"] * 513), "comparisons"),
        ("region in [" + "1," * 16_384 + "1]", "at most 16384"),
        ("region == 1 or " * 100_000, "letters"),
    ],
)
def test_what_is_refused_and_why(expression: str, told: str) -> None:
    with pytest.raises(FilterError, match=told):
        written(expression)


def test_a_refusal_shows_the_place_and_what_is_known() -> None:
    with pytest.raises(FilterError, match=r"filter 'region == 1 and area_px % 2 == 1', at character 25: arithmetic"):
        written("region == 1 and area_px % 2 == 1")
    with pytest.raises(FilterError, match=r'like "beginning%", and, or, not'):
        written("region ** 2")


def test_what_is_just_within_the_limits_is_read() -> None:
    for within in (
        "(" * 16 + "region == 1" + ")" * 16,
        "(region == 1) and " * 30 + "(" * 16 + "region == 1" + ")" * 16,
        " or ".join(["region == 1"] * 512),
        'metadata["a"] in [' + "1," * 511 + "1]",
        "region in [" + "1," * 16_383 + "1]",
        "region == 1".ljust(1 << 20),
    ):
        assert written(within)
    with pytest.raises(FilterError, match=r"has 1048577 letters, at most 1048576 are read"):
        written("region == 1".ljust((1 << 20) + 1))


def test_a_long_filter_is_shown_up_to_200_letters() -> None:
    for length, shown in ((200, "region ===" + "a" * 190), (201, "region ===" + "a" * 190 + "…")):
        with pytest.raises(FilterError, match=f"^filter '{shown}', at character 10: equality"):
            written("region ===".ljust(length, "a"))


def depth_of(text: str) -> int:
    """Levels of parentheses and of joining words, from the text alone: what Milvus' left-leaning trees cost."""
    open_levels, words, deepest = [0], 0, 0
    for word in text.replace("(", " ( ").replace(")", " ) ").split():
        if word == "(":
            open_levels.append(0)
        elif word == ")":
            open_levels.pop()
        elif word in ("and", "or"):
            words += 1
            open_levels[-1] += 1
        deepest = max(deepest, sum(open_levels))
    return deepest


def test_long_and_nested_expressions_stay_flat_for_milvus_lite() -> None:
    """Milvus Lite refuses more than about 40 levels (measured: 32 pass, 64 do not)."""
    chain = " or ".join(f"region == {number}" for number in range(MAX_COMPARISONS))
    assert depth_of(written(chain)) <= 12
    nested = "region == 1"
    for level in range(MAX_DEPTH):
        more = (" and " if level % 2 else " or ") + "region == 2"
        nested = f"({nested}){more * 30}"
    assert depth_of(written(nested)) <= 32
    many = Filter(metadata={str(number): number for number in range(1000)})
    assert depth_of(write(predicate_of(many, whole_images=False))) <= 12


@pytest.mark.parametrize("text", ["{0}@", "area_px == -{0}x", "area_px{0}=={0}1{0}@"])
def test_long_gaps_are_passed_once(text: str) -> None:
    """Tried from each of their letters, 10⁵ of them took minutes, in which no thread of the process went on."""
    with pytest.raises(FilterError):
        parse_expression(text.format(" " * 200_000), {"area_px": Kind.INT64})


@given(expression=st.text(st.sampled_from([*"()[]<>=!&|%+-*/\"'\\ .,19ax_$", "\t"]), max_size=30) | st.text())
@example("region in [1]]")
def test_anything_is_understood_or_refused(expression: str) -> None:
    try:
        text = written(expression)
    except FilterError:
        return
    assert written(text) == text, "what was written is not of the language"


def test_every_field_of_the_collections_can_be_named() -> None:
    sizes = {Kind.TEXT: "VARCHAR", Kind.INT32: "INT32", Kind.INT64: "INT64", Kind.FLOAT32: "FLOAT"}
    row, image = ROW, image_row(ImageRef("b", "k"), generation=1)
    for spec, columns, one in (
        (regions_spec("r", 8), REGION_COLUMNS, row),
        (images_spec("i", 8), IMAGE_COLUMNS, image),
    ):
        fields = {field.name: field.type.value for field in spec.fields if field.name not in ("code", "metadata")}
        assert {name: sizes[kind] for name, kind in columns.items()} == fields
        for name, kind in columns.items():
            assert isinstance(column_reader(name)(one), str) is (kind is Kind.TEXT)
