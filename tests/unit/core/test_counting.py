"""One is singular; all other numbers, zero too, are plural."""

from __future__ import annotations

import pytest

from searchanything.core.counting import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (21, "21 images"), (1200, "1,200 images")]
)
def test_nouns_follow_their_number(number: int, text: str) -> None:
    assert counted(number, "image") == text


def test_a_plural_of_its_own() -> None:
    assert (counted(1, "category", "categories"), counted(2, "category", "categories")) == (
        "1 category",
        "2 categories",
    )
