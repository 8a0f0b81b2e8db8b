"""What waits for a Milvus server that is away, as while it is started again, and that no row comes twice by that."""

from __future__ import annotations

from typing import Any

import pymilvus
import pytest

from searchanything.core.errors import IndexUnavailableError
from searchanything.core.patience import PAUSES_S, LongWork, long_work
from searchanything.core.settings import MilvusSettings
from searchanything.stores.milvus_connection import MilvusConnection


class Restarting:
    """A client of a server that is away as often as said, then answers: it has one row."""

    def __init__(self, times: int) -> None:
        self.times = times

    def _answer(self, answer: Any) -> Any:
        if self.times:
            self.times -= 1
            raise pymilvus.MilvusException(code=65535, message="find no available rootcoord, check rootcoord state")
        return answer

    def now(self, timeout_s: float) -> int:  # noqa: ARG002
        return self._answer(7)  # type: ignore[no-any-return]

    def page(self, asked: Any, timeout_s: float) -> list[dict[str, Any]]:  # noqa: ARG002
        return self._answer([] if asked.after else [{"id": "a"}])  # type: ignore[no-any-return]

    def rows(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        return self._answer([{"id": "a"}])  # type: ignore[no-any-return]

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr(LongWork, "pause", lambda _, pause_s: pauses.append(pause_s))
    return pauses


def connected(monkeypatch: pytest.MonkeyPatch, client: Restarting) -> MilvusConnection:
    connection = MilvusConnection(MilvusSettings(uri="http://127.0.0.1:1"))
    monkeypatch.setattr(connection, "_connect", lambda _: client)
    return connection


def streamed(connection: MilvusConnection) -> list[dict[str, Any]]:
    return list(connection.iterate("c", "", ["id"]))


def asked(connection: MilvusConnection) -> list[dict[str, Any]]:
    return connection.query("c", "", ["id"])


@pytest.mark.parametrize("read", [streamed, asked])
def test_all_reads_of_long_work_wait(slept: list[float], monkeypatch: pytest.MonkeyPatch, read: Any) -> None:
    connection = connected(monkeypatch, client := Restarting(0))
    with long_work():
        connection.now()
        client.times = 3  # each is asked for twice at once
        assert read(connection) == [{"id": "a"}]
    assert slept == [PAUSES_S[0]]


@pytest.mark.parametrize("read", [streamed, asked])
def test_the_first_contact_fails_at_once(slept: list[float], monkeypatch: pytest.MonkeyPatch, read: Any) -> None:
    with long_work(), pytest.raises(IndexUnavailableError):
        read(connected(monkeypatch, Restarting(2)))
    assert slept == []


@pytest.mark.parametrize("read", [streamed, asked])
def test_others_fail_at_once(slept: list[float], monkeypatch: pytest.MonkeyPatch, read: Any) -> None:
    """A question of a server's user would wait for minutes, and those that come behind it."""
    with pytest.raises(IndexUnavailableError):
        read(connected(monkeypatch, Restarting(2)))
    assert slept == []


def test_a_stream_that_has_begun_is_no_long_work_by_itself(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    client = Restarting(0)
    stream = connected(monkeypatch, client).iterate("c", "", ["id"])
    assert next(stream) == {"id": "a"}
    client.times = 2
    with pytest.raises(IndexUnavailableError):
        next(stream)
    assert slept == []


def test_an_embedded_index_is_not_waited_for(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    connection = connected(monkeypatch, client := Restarting(0))
    monkeypatch.setattr(MilvusConnection, "embedded", True)
    with long_work():
        asked(connection)
        client.times = 2
        with pytest.raises(IndexUnavailableError):
            asked(connection)
    assert slept == []


class Losing(Restarting):
    """A client of a server that ends within an insertion: the first so many of its rows are there, unacknowledged."""

    def __init__(self, arrive: int) -> None:
        super().__init__(0)
        self.arrive, self.held = arrive, list[str]()

    def rows(self, _: str, expression: str, *__: Any, level: str, **___: Any) -> list[dict[str, Any]]:
        assert level == "Strong"
        return self._answer([{"id": one} for one in self.held if f'"{one}"' in expression])  # type: ignore[no-any-return]

    def add(self, _: str, entities: list[dict[str, Any]], timeout_s: float) -> int:  # noqa: ARG002
        arriving = [one["id"] for one in entities]
        if self.times:
            arriving = arriving[: self.arrive]
        self.held += arriving
        return self._answer(len(entities))  # type: ignore[no-any-return]


@pytest.mark.parametrize("arrive", [0, 1, 3], ids=["none arrived", "some", "all"])
def test_rows_of_long_work_are_inserted_once(slept: list[float], monkeypatch: pytest.MonkeyPatch, arrive: int) -> None:
    connection = connected(monkeypatch, client := Losing(arrive))
    with long_work():
        connection.now()
        client.times = 1
        connection.insert("c", [{"id": "a"}, {"id": "b"}, {"id": "c"}])
    assert sorted(client.held) == ["a", "b", "c"]
    assert slept == [PAUSES_S[0]]


def test_other_insertions_are_tried_once(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    connection = connected(monkeypatch, client := Losing(0))
    connection.now()
    client.times = 1
    with pytest.raises(IndexUnavailableError):
        connection.insert("c", [{"id": "a"}])
    assert (client.held, slept) == ([], [])
