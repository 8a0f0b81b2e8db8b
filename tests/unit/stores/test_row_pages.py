"""A stream of rows: pages that fit, and a server that is away for a while."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from searchanything.core import patience
from searchanything.core.errors import IndexMismatchError, IndexUnavailableError, RegionIndexError
from searchanything.core.patience import PAUSES_S
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

    def stream(self, *, first: int = 2, patient: bool = True) -> Iterator[str]:
        pages = RowPages(self.ask, first=first, patient=patient)
        for row in pages.rest(pages.page("")):
            yield str(row["id"])


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", pauses.append)
    return pauses


AWAY = IndexUnavailableError("find no available rootcoord")


def test_pages_grow_with_what_was_read() -> None:
    server = Server(100)
    assert list(server.stream(first=3)) == server.ids
    sizes = [size for _, size in server.asked]
    assert sizes[:9] == [3] * 9, "an eighth of 24 rows is the first size"
    assert sizes == sorted(sizes)
    assert sizes[-1] > 3


def test_a_stream_that_has_begun_waits_for_its_server(slept: list[float]) -> None:
    server = Server(6, None, AWAY, AWAY, None, AWAY)
    assert list(server.stream()) == server.ids, "each row once"
    assert slept == [*PAUSES_S[:2], PAUSES_S[0]], "another page, another outage"


def test_what_stays_away_is_an_error_in_the_end(slept: list[float]) -> None:
    server = Server(6, None, *[AWAY] * (len(PAUSES_S) + 1))
    stream = server.stream()
    assert [next(stream), next(stream)] == server.ids[:2]
    with pytest.raises(IndexUnavailableError):
        next(stream)
    assert slept == list(PAUSES_S)


@pytest.mark.parametrize("patient", [True, False])
def test_a_server_that_does_not_answer_at_all_is_an_error_at_once(slept: list[float], patient: bool) -> None:
    server = Server(6, AWAY)
    with pytest.raises(IndexUnavailableError):
        next(server.stream(patient=patient))
    assert slept == []


def test_an_embedded_one_is_not_waited_for(slept: list[float]) -> None:
    stream = Server(6, None, AWAY).stream(patient=False)
    assert [next(stream), next(stream)]
    with pytest.raises(IndexUnavailableError):
        next(stream)
    assert slept == []


def test_too_large_an_answer_is_asked_for_by_halves_and_other_errors_are_raised(slept: list[float]) -> None:
    too_large = RegionIndexError("received message larger than max")
    server = Server(300, too_large, None, too_large)
    assert list(server.stream(first=256)) == server.ids
    assert [size for _, size in server.asked[:4]] == [256, 128, 128, 64]
    with pytest.raises(RegionIndexError):
        next(Server(300, too_large).stream(first=64))
    with pytest.raises(IndexMismatchError):
        list(Server(300, None, IndexMismatchError("another")).stream(first=256))
    assert slept == []
