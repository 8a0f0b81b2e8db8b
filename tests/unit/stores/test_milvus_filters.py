"""Expressions for Milvus, written out. That they mean what the filter means is tested on real servers."""

from __future__ import annotations

import pytest

from searchanything.core.errors import FilterError
from searchanything.core.types import Filter, ImageRef, SizeClass
from searchanything.stores.milvus_filters import check_expression, compile_filter, objects_expression, one_of


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        (None, ""),
        (Filter(), ""),
        (Filter(bucket='a"b\\c'), r'bucket == "a\"b\\c"'),
        (Filter(key_prefix="cats/"), 'key >= "cats/" and key < "cats0"'),
        (Filter(key_prefix="50%_"), 'key >= "50%_" and key < "50%`"'),
        (Filter(key_prefix="!"), 'key >= "!" and key < "\\""'),
        (Filter(key_prefix="["), 'key >= "[" and key < "\\\\"'),
        (Filter(key_prefix="\ud7ff"), 'key >= "\ud7ff" and key < "\ue000"'),
        (Filter(key_prefix="a\U0010ffff"), 'key >= "a\U0010ffff" and key < "b"'),
        (Filter(key_prefix="\U0010ffff"), 'key >= "\U0010ffff"'),
        (Filter(key_prefix=""), ""),
        (Filter(area_px=(10, None), indexed_at_ms=(None, 5)), "area_px >= 10 and indexed_at_ms <= 5"),
        (Filter(size_class=SizeClass.SMALL), 'size_class == "small"'),
        (Filter(metadata={'a"]': True, "b": -1.5, "c": "x", "d": 3}),
         'metadata["a\\"]"] == true and metadata["b"] == -1.5 and metadata["c"] == "x" and metadata["d"] == 3'),
        (Filter(bucket="b", expression="region == 1 or region == 2"), 'bucket == "b" and (region == 1 or region == 2)'),
    ],
)  # fmt: skip
def test_what_a_filter_becomes(filter: Filter | None, expected: str) -> None:
    assert compile_filter(filter) == expected


def test_whole_images_are_findable_ones_and_have_their_own_time() -> None:
    findable = 'outcome != "failed"'
    assert compile_filter(Filter(indexed_at_ms=(1, 2)), whole_images=True) == (
        f"{findable} and last_at_ms >= 1 and last_at_ms <= 2"
    )
    assert compile_filter(None, whole_images=True) == findable


def test_a_server_gets_an_expression_as_it_stands_and_milvus_lite_what_was_understood() -> None:
    wanted = Filter(bucket="b", expression="region<2 or score in [1]")
    assert compile_filter(wanted) == 'bucket == "b" and (region < 2 or score in [1.0])'
    assert compile_filter(wanted, is_server=True) == 'bucket == "b" and (region<2 or score in [1])'
    assert compile_filter(Filter(expression="a % 2 == 0"), is_server=True) == "(a % 2 == 0)"


def test_exclusions_are_ids() -> None:
    image = ImageRef("b", 'k"')
    assert compile_filter(Filter(exclude=(image, image))) == f'image_id not in ["{image.image_id}"]'
    assert compile_filter(Filter(images=(image,))) == f'image_id in ["{image.image_id}"]'
    assert one_of("image_id", ["a", "b"]) == 'image_id in ["a", "b"]'


def test_what_cannot_be_written_is_compared_afterwards() -> None:
    assert objects_expression("b\n", "a/\nb") == 'key >= "a/" and key < "a0"'
    assert objects_expression("b", "\n") == 'bucket == "b"'
    assert objects_expression(None, "") == ""


@pytest.mark.parametrize(
    "expression",
    [
        "region == 1",
        '(region == 1 or region == 2) and key like "a%"',
        'key == ")" or key == "\\")("',
        "key == 'it is \\' quoted' and region in [1, 2]",
        'metadata["a"] == 1',
        'key like"a%"',
        "area_px % 2 == 1 and area_px / 100 > 3",
        'key == "50% / 0"',
    ],
)
def test_expressions_that_pass(expression: str) -> None:
    assert check_expression(expression) == expression


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("region == 1) or (id != ''", "too many"),
        ("(region == 1", "missing"),
        ("region in [1)", "too many"),
        ('key == "a', "never closed"),
        ('key == "a\\"', "never closed"),
        ("key like 5", "like"),
        ("key LIKE region", "like"),
        ("key like", "like"),
        ("key like(5)", "like"),
        ("region == 1\nor true", "line breaks"),
        ('key == "\ud800"', "surrogates"),
        ("  ", "empty"),
        *(
            (f"area_px {division} == 1", "above 0")
            for division in (
                "/ 0",
                "%0",
                "% -0",
                "/ (1-1)",
                "/ 0.5",
                "% region",
                "/ 2.0",
                "/ 2 ** -9",
                "/ 00",
                "% 1e-9",
                "/",
            )
        ),
    ],
)
def test_expressions_that_are_stopped_here(expression: str, told: str) -> None:
    with pytest.raises(FilterError, match=told):
        check_expression(expression)
