"""Standing queries in the service: a thread that nothing ends but `stop`, and a line for what fails."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes.http_servers import Asked, web_server
from fakes.standing import RED, draw, keys_of, opened

from searchanything.answers.standing_answers import StandingMatches
from searchanything.client.client import Client
from searchanything.core.errors import IndexUnavailableError
from searchanything.core.types import ImageRef
from searchanything.service.deliveries import Deliveries
from searchanything.service.figures import WatchFigures
from searchanything.stores.memory import MemoryIndexStore

WAIT_S = 30.0  # of a failing test


def test_the_thread_outlives_a_defect_and_ends_when_it_is_to(
    client: Client, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    came, calls = threading.Event(), []

    def answer(_: Asked) -> tuple[int, dict[str, str], bytes]:
        came.set()
        return 200, {}, b""

    def opened_now() -> Client:
        calls.append(threading.current_thread())
        if len(calls) == 1:
            raise ZeroDivisionError
        return client

    with web_server(answer) as server:
        client.standing.add("red", images / "0.png", RED, webhook=f"http://{server.endpoint}/")
        draw(images / "new.png")
        client.index(images)
        deliveries = Deliveries(opened_now, 0.01, WatchFigures())
        deliveries.stop()  # it never began
        deliveries = Deliveries(opened_now, 0.01, WatchFigures())
        deliveries.start()
        assert came.wait(WAIT_S)
        deliveries.stop()
        assert not calls[0].is_alive()
        assert [keys_of(asked.body) for asked in server.asked] == [["new.png"]]
    assert "could not be asked" in caplog.text


def test_an_index_that_fails_is_a_line_until_it_does_again(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(*_: object) -> bytes:
        raise IndexUnavailableError("the server is gone")

    deliveries = Deliveries(lambda: client, 30.0, WatchFigures())
    for lines in (1, 2):
        with monkeypatch.context() as patched:
            patched.setattr(MemoryIndexStore, "recall_all", gone)
            deliveries.once()
            deliveries.once()
        said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert said[-lines:] == ["standing queries: tried again later: the server is gone"] * lines
        assert len([one for one in said if "tried again" in one]) == lines
        deliveries.once()


def test_what_was_sent_is_a_line(client: Client, images: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with web_server(lambda _: (200, {}, b"")) as server:
        client.standing.add("red", images / "0.png", RED, webhook=f"http://{server.endpoint}/")
        draw(images / "new.png")
        client.index(images)
        for _ in range(2):
            Deliveries(lambda: client, 30.0, WatchFigures()).once()
    assert [line for line in caplog.messages if "sent" in line] == ["standing query red: 1 match sent"]


def test_nothing_indexed_yet_is_no_line(client: Client, images: Path, caplog: pytest.LogCaptureFixture) -> None:
    query = client.standing.add("red", images / "0.png", RED, webhook="http://127.0.0.1:9/")
    with opened(MemoryIndexStore()) as empty:
        empty.standing.memory.keep_query(query)
        caplog.clear()
        Deliveries(lambda: empty, 30.0, WatchFigures()).once()
    assert caplog.messages == []


def test_the_id_of_matches_is_that_of_the_same_matches_in_any_order() -> None:
    def named(*keys: str, query: str = "q") -> str:
        hits = [SimpleNamespace(hit=SimpleNamespace(image=ImageRef("b", key), etag="e")) for key in keys]
        return StandingMatches(SimpleNamespace(id=query), tuple(hits)).id  # type: ignore[arg-type]

    assert named("x", "y") == named("y", "x")
    assert len({named("x", "y"), named("x"), named(), named("x", query="p")}) == 4
