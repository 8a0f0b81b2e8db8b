"""A write that Prefect's database refuses is tried again by the server, not by the client after seconds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from searchanything_flows import busy_database
from searchanything_flows.busy_database import WritesAgain

TRIES = 1 + len(busy_database._PAUSES_S)
REFUSED, DONE = 503, 201


class Prefect:
    """A server that answers each request with the next status; after a 503 it raises, as Starlette does."""

    def __init__(self, statuses: list[int]) -> None:
        self._statuses = iter(statuses)
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["path"] = f"{scope['path']}/changed"  # as mounted applications do
        assert scope["path"] == "/api/changed"
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message.get("more_body", False)
        self.bodies.append(body)
        status = next(self._statuses)
        await send({"type": "http.response.start", "status": status})
        await send({"type": "http.response.body", "body": b"%d" % status})
        if status == REFUSED:
            raise OSError("database is locked")


def ask(prefect: Any, method: str, *body: bytes) -> list[Any]:
    """What the client gets: the status and the body, and "raised" where the server is told of an exception."""
    parts = [{"type": "http.request", "body": part, "more_body": True} for part in body[:-1]]
    messages = iter([*parts, {"type": "http.request", "body": body[-1]}])
    got: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        got.append(message.get("status", message.get("body")))

    try:
        asyncio.run(WritesAgain(prefect)({"type": "http", "method": method, "path": "/api"}, receive, send))
    except OSError:
        got.append("raised")
    return got


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy_database, "_PAUSES_S", (0.0,) * (TRIES - 1))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_refused_write_succeeds_a_moment_later(method: str) -> None:
    prefect = Prefect([REFUSED, REFUSED, DONE])
    assert ask(prefect, method, b"a ", b"", b"run") == [DONE, b"201"]
    assert prefect.bodies == [b"a run"] * 3


def test_one_that_is_refused_for_long_is_left_to_the_client() -> None:
    prefect = Prefect([REFUSED] * TRIES)
    assert ask(prefect, "POST", b"a run") == [REFUSED, b"503", "raised"]
    assert prefect.bodies == [b"a run"] * TRIES


def test_one_that_the_database_itself_has_waited_for_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite waits a minute for another one's write: with four tries more the client would have asked five times."""
    prefect, now = Prefect([REFUSED] * TRIES), iter([0.0, 60.0])
    monkeypatch.setattr(busy_database, "monotonic", lambda: next(now))
    assert ask(prefect, "POST", b"a run") == [REFUSED, b"503", "raised"]
    assert prefect.bodies == [b"a run"]


def test_a_read_is_passed_on_as_it_is() -> None:
    assert ask(Prefect([REFUSED]), "GET", b"") == [REFUSED, b"503", "raised"]


@pytest.mark.parametrize("status", [DONE, 404, 422, 500])
def test_other_answers_are_passed_on_at_once(status: int) -> None:
    prefect = Prefect([status])
    assert ask(prefect, "POST", b"a run") == [status, b"%d" % status]


def test_a_long_request_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy_database, "_LONGEST_BODY", 5)
    prefect = Prefect([REFUSED])
    assert ask(prefect, "POST", b"a long ", b"request ", b"indeed") == [REFUSED, b"503", "raised"]
    assert prefect.bodies == [b"a long request indeed"]


def test_an_error_without_an_answer_is_raised_at_once() -> None:
    calls = []

    async def broken(*_: Any) -> None:
        calls.append(1)
        raise OSError("broken")

    assert ask(broken, "POST", b"a run") == ["raised"]
    assert calls == [1]
