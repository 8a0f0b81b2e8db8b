"""What a listing could not look at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from searchanything.core.omissions import Omission, Omissions


class Places(list[Omission]):
    """Places that count how often all of them are gone through."""

    passes = 0

    def __iter__(self) -> Iterator[Omission]:
        self.passes += 1
        return super().__iter__()


@pytest.mark.parametrize(
    ("place", "hidden", "seen"),
    [
        ("", ["a.jpg", "a/b.jpg"], []),
        ("a/", ["a/b.jpg", "a/b/c.jpg", "a/"], ["a.jpg", "ab/c.jpg", "b/a/c.jpg", "a"]),
        ("a/b/", ["a/b/c.jpg"], ["a/c.jpg", "a/bc/d.jpg"]),
        ("a/b.jpg", ["a/b.jpg"], ["a/b.jpg/c.jpg", "a/b.jpgs", "b.jpg"]),
    ],
)
def test_a_place_hides_itself_and_what_lies_in_it(place: str, hidden: list[str], seen: list[str]) -> None:
    omissions = Omissions()
    assert not any(omissions.hides(key) for key in (*hidden, *seen))
    omissions.miss(place, "locked")
    assert [key for key in (*hidden, *seen) if omissions.hides(key)] == hidden


def test_thousands_of_places_are_not_gone_through_for_each_image() -> None:
    omissions = Omissions(unreadable=Places(Omission(f"locked/{number}.jpg", "") for number in range(5000)))
    assert [omissions.hides(f"locked/{number}.jpg") for number in (0, 4999, 5000)] == [True, True, False]
    assert isinstance(omissions.unreadable, Places)
    assert omissions.unreadable.passes == 1
