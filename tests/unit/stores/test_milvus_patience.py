"""Which reads wait for a Milvus server that is away, as while a part of it is started again."""

from __future__ import annotations

from typing import Any

import pymilvus
import pytest

from searchanything.core import patience
from searchanything.core.errors import IndexUnavailableError
from searchanything.core.patience import PAUSES_S, long_reading
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
    monkeypatch.setattr(patience.time, "sleep", pauses.append)
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
def test_all_reads_of_a_long_reading_wait(slept: list[float], monkeypatch: pytest.MonkeyPatch, read: Any) -> None:
    connection = connected(monkeypatch, Restarting(3))  # each is asked for twice at once
    with long_reading():
        assert read(connection) == [{"id": "a"}]
    assert slept == [PAUSES_S[0]]


@pytest.mark.parametrize("read", [streamed, asked])
def test_others_fail_at_once(slept: list[float], monkeypatch: pytest.MonkeyPatch, read: Any) -> None:
    """A question of a server's user would wait for minutes, and those that come behind it."""
    with pytest.raises(IndexUnavailableError):
        read(connected(monkeypatch, Restarting(2)))
    assert slept == []


def test_a_stream_that_has_begun_is_no_long_reading_by_itself(
    slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Restarting(0)
    stream = connected(monkeypatch, client).iterate("c", "", ["id"])
    assert next(stream) == {"id": "a"}
    client.times = 2
    with pytest.raises(IndexUnavailableError):
        next(stream)
    assert slept == []


def test_an_embedded_index_is_not_waited_for(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    connection = connected(monkeypatch, Restarting(2))
    monkeypatch.setattr(MilvusConnection, "embedded", True)
    with long_reading(), pytest.raises(IndexUnavailableError):
        asked(connection)
    assert slept == []
