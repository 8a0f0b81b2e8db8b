"""A stream of rows: pages that fit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from searchanything.core.errors import IndexMismatchError, RegionIndexError
from searchanything.stores.milvus_schema import Entity
from searchanything.stores.row_pages import RowPages


class Server:
    """Answers of so many rows, in order; `fails` says what each further question raises first."""

    def __init__(self, rows: int, *fails: RegionIndexError | None) -> None:
        self.ids = [f"{number:04d}" for number in range(rows)]
        self.fails = list(fails)
        self.asked: list[tuple[str, int]] = []

    def ask(self, after: str, rows: int) -> list[Entity]:
        self.asked.append((after, rows))
        if self.fails and (error := self.fails.pop(0)) is not None:
            raise error
        return [{"id": one} for one in self.ids if one > after][:rows]

    def stream(self, *, first: int = 2) -> Iterator[str]:
        pages = RowPages(self.ask, first=first)
        for row in pages.rest(pages.page("")):
            yield str(row["id"])


def test_pages_grow_with_what_was_read() -> None:
    server = Server(100)
    assert list(server.stream(first=3)) == server.ids
    sizes = [size for _, size in server.asked]
    assert sizes[:9] == [3] * 9, "an eighth of 24 rows is the first size"
    assert sizes == sorted(sizes)
    assert sizes[-1] > 3


def test_too_large_an_answer_is_asked_for_by_halves_and_other_errors_are_raised() -> None:
    too_large = RegionIndexError("received message larger than max")
    server = Server(300, too_large, None, too_large)
    assert list(server.stream(first=256)) == server.ids
    assert [size for _, size in server.asked[:4]] == [256, 128, 128, 64]
    with pytest.raises(RegionIndexError):
        next(Server(300, too_large).stream(first=64))
    with pytest.raises(IndexMismatchError):
        list(Server(300, None, IndexMismatchError("another")).stream(first=256))
