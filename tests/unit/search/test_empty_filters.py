"""An answer without hits whose conditions hold of no image: what the log says, and where it says nothing."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from contracts.index_rows import manifest_of, random_codes, region_row

from searchanything.core.errors import IndexUnavailableError
from searchanything.core.types import Filter, ImageRef
from searchanything.search.empty_filters import warn_of_filter
from searchanything.stores.memory import MemoryRegionIndex


def index_of(*metadata: Mapping[str, str | float | bool]) -> MemoryRegionIndex:
    index = MemoryRegionIndex(manifest_of("f" * 64))
    images = [ImageRef("b", f"{number}.png") for number in range(len(metadata))]
    rows = [
        region_row(image, 0, generation=1, code=code.tobytes(), metadata=one)
        for image, code, one in zip(images, random_codes(len(images)), metadata, strict=True)
    ]
    index.insert_regions(rows)
    return index


TEXTS = {"year": "2020", "city": "Marburg", "stars": "9", "organic": "true"}


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("year = 2020", 'it is a text in the regions looked at, which equals no number; try year == "2020"'),
        ("year >= 2019", 'try year >= "2019"'),
        ("year = 2000..2030", 'try year = "2000".."2030"'),
        ("year in 2020, 2021", 'try year in "2020", "2021"'),
        ("organic = true", 'equals no true or false; try organic == "true"'),
        ("stars in 9, 10", 'try stars in "9", "10"'),
        ("stars >= 8", 'try stars >= "8"'),
        ("year = 2020.5", "equals no number"),
        ("year in 2020, 2020.5", "equals no number"),
        ("year in 2020, 2020.5, true", "equals no number or true or false"),
        ("yeer = 2020", "of 2 regions looked at none has metadata of that name; there are city, organic, stars, year"),
    ],
)
def test_the_log_says_what_was_meant(where: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    hint = warn_of_filter(index_of(TEXTS, TEXTS), Filter(where=[where]), [])
    [message] = caplog.messages
    assert message == hint
    assert message.startswith("nothing found where ")
    assert message.endswith(said)


@pytest.mark.parametrize(
    ("filter", "tried"),
    [
        (Filter(bucket="s3://holiday"), 'try bucket is "holiday"'),
        (Filter(key_prefix="s3://holiday/2024/"), 'try bucket is "holiday" and key_prefix is "2024/"'),
        (
            Filter(bucket="s3://holiday/2024/", where=["year = 2020"]),
            'try bucket is "holiday" and key_prefix is "2024/"',
        ),
    ],
)
def test_a_place_that_is_written_as_an_address(filter: Filter, tried: str, caplog: pytest.LogCaptureFixture) -> None:
    hint = warn_of_filter(index_of(TEXTS), filter, [])
    name, text = ("bucket", filter.bucket) if filter.bucket else ("key_prefix", filter.key_prefix)
    assert hint == f'nothing found where {name} is "{text}": buckets and keys are named apart; {tried}'
    assert caplog.messages == [hint]


@pytest.mark.parametrize("where", ["stars >= 10", "city >= 1000000", "city >= -5"])
def test_texts_are_not_offered_where_their_order_is_another(where: str, caplog: pytest.LogCaptureFixture) -> None:
    warn_of_filter(index_of(TEXTS), Filter(where=[where]), [])
    assert "equals no number" in caplog.text
    assert "try" not in caplog.text


def test_one_question_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_filter(index_of(TEXTS), Filter(where=['city = "Marburg"', "year = 2020", *["nobody = 1"] * 1000]), [])
    [message] = caplog.messages
    assert message.startswith("nothing found where year == 2020: ")


def test_equal_metadata_is_a_condition_too(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_filter(index_of({"year": 2020.0}), Filter(metadata={"year": "2020"}), [])
    assert "it is a number in the regions looked at, which equals no text" in caplog.text


@pytest.mark.parametrize(("names", "shown"), [(8, "a, b, c, d, e, f, g, h"), (9, "a, b, c, d, e, f, g, h, …")])
def test_the_first_names_are_shown(names: int, shown: str) -> None:
    hint = warn_of_filter(index_of(dict.fromkeys("abcdefghi"[:names], "x")), Filter(where=["year = 2020"]), [])
    assert hint.endswith(f"there are {shown}")


def test_images_without_any_metadata(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_filter(index_of({}), Filter(where=["year = 2020"]), [])
    assert "of 1 region looked at none has metadata of that name; they have none at all" in caplog.text


@pytest.mark.parametrize(
    "filter",
    [
        None,
        Filter(),
        Filter(where=['year = "2020"']),  # of a kind: it may hold of images that were not looked at
        Filter(where=["area_px > 900"]),
        Filter(where=["year != 2020", "nobody not in 1, 2"]),  # hold of images that lack the name
        Filter(bucket="other", where=["year = 2020"]),
        Filter(key_prefix="elsewhere/", where=["year = 2020"]),
    ],
)
def test_nothing_is_said_where_nothing_is_sure(filter: Filter | None, caplog: pytest.LogCaptureFixture) -> None:
    assert warn_of_filter(index_of(TEXTS), filter, []) == ""
    assert caplog.messages == []


def test_a_look_that_fails_takes_no_answer_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    index = index_of(TEXTS)

    def away(*_: object, **__: object) -> None:
        raise IndexUnavailableError("away")

    monkeypatch.setattr(index, "search", away)
    warn_of_filter(index, Filter(where=["year = 2020"], metadata={"": "x"}), [])
    assert caplog.messages == []


def test_an_answer_with_hits_or_a_later_page_costs_no_look(caplog: pytest.LogCaptureFixture) -> None:
    for hits, offset in (([object()], 0), ([], 10)):
        warn_of_filter(index_of(TEXTS), Filter(where=["year = 2020"]), hits, offset=offset)
    assert caplog.messages == []
