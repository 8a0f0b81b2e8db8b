"""The bounds of a filter, and the fields that regions and whole images have."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from contracts.index_rows import image_row, region_row
from fakes.matching import matcher

from searchanything.core.errors import FilterError
from searchanything.core.rows import Outcome
from searchanything.core.types import Filter, ImageRef
from searchanything.stores.filters import predicate_of

IMAGE = ImageRef("b", "k")
MOST = 2**63 - 1


@pytest.mark.parametrize("bounds", [(0, MOST), (7, 7), (None, 7), (7, None), (0, None), (None, MOST)])
def test_bounds_are_within_what_they_bound(bounds: tuple[int | None, int | None]) -> None:
    holds = matcher(predicate_of(Filter(area_px=bounds), whole_images=False))
    assert holds(region_row(IMAGE, 0, generation=1, area_px=7))


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ((8, 7), "expected (low, high) with low <= high, got (8, 7)"),
        ((-1, 7), f"expected integers from 0 to {MOST} or None, got (-1, 7)"),
        ((0, MOST + 1), f"expected integers from 0 to {MOST} or None, got (0, {MOST + 1})"),
        ((0, True), f"expected integers from 0 to {MOST} or None, got (0, True)"),
        ((0.0, 7), f"expected integers from 0 to {MOST} or None, got (0.0, 7)"),
    ],
)
def test_bounds_that_are_none_are_refused(bounds: Any, said: str) -> None:
    with pytest.raises(FilterError) as refused:
        predicate_of(Filter(indexed_at_ms=bounds), whole_images=False)
    assert str(refused.value) == f"indexed_at_ms: {said}"


def test_times_are_asked_for_in_milliseconds() -> None:
    with pytest.raises(FilterError, match=r"or None, got .*: of a datetime, int\(when\.timestamp\(\) \* 1000\)$"):
        predicate_of(Filter(indexed_at_ms=(datetime(2026, 1, 1, tzinfo=UTC), None)), whole_images=True)  # type: ignore[arg-type]


def test_regions_and_whole_images_have_their_own_fields() -> None:
    for expression, field, whole_images in (("region == 0", "region", True), ("attempts > 0", "attempts", False)):
        asked = Filter(expression=expression)
        assert predicate_of(asked, whole_images=not whole_images)
        with pytest.raises(FilterError, match=f"no field {field}: there are"):
            predicate_of(asked, whole_images=whole_images)


def test_images_that_failed_are_not_found() -> None:
    holds = matcher(predicate_of(None, whole_images=True))
    assert holds(image_row(IMAGE, generation=1))
    assert not holds(image_row(IMAGE, generation=1, outcome=Outcome.FAILED))
