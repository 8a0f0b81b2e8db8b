"""Prefect's server answers to this machine's names alone: no page of elsewhere, under whatever name it reaches it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from searchanything_flows.server import OwnPages

HOSTS = ["127.0.0.1:4200", "localhost:4200", "[::1]:4200"]


def answered(headers: list[tuple[bytes, bytes]], kind: str = "http") -> Any:
    """The status of an answer, or the type of message that a websocket gets; "passed" where the server was asked."""
    sent: list[dict[str, Any]] = []

    async def server(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "passed"})

    async def receive() -> dict[str, Any]:
        return {"type": f"{kind}.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(OwnPages(server, HOSTS)({"type": kind, "headers": headers}, receive, send))
    return sent[0].get("status", sent[0]["type"])


@pytest.mark.parametrize("host", [*HOSTS, "LOCALHOST:4200"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_our_own_names_pass(host: str, kind: str) -> None:
    assert answered([(b"host", host.encode())], kind) == "passed"
    own = [(b"host", host.encode()), (b"origin", b"http://localhost:4200")]
    assert answered(own, kind) == "passed"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"host", b"rebound.example:4200")],
        [(b"host", b"127.0.0.1:4200.rebound.example")],
        [(b"host", b"127.0.0.1")],
        [(b"host", b"localhost:4201")],
        [(b"host", b"user@localhost:4200")],
        [(b"host", b"\xff\xfe")],
        [(b"host", b"localhost:4200"), (b"host", b"rebound.example:4200")],
        [(b"host", b"localhost:4200"), (b"origin", b"http://elsewhere.example")],
        [(b"host", b"localhost:4200"), (b"origin", b"null")],
        [(b"host", b"localhost:4200"), (b"origin", b"https://localhost:4200")],
        [(b"host", b"localhost:4200"), (b"origin", b"http://localhost:8080")],
        [(b"host", b"localhost:4200"), (b"origin", b"http://localhost:4200"), (b"origin", b"http://x.example")],
    ],
)
def test_other_names_do_not(headers: list[tuple[bytes, bytes]]) -> None:
    assert answered(headers) == 403
    assert answered(headers, "websocket") == "websocket.close"


def test_the_servers_own_begin_and_end_pass() -> None:
    sent: list[str] = []

    async def server(scope: Any, _receive: Any, _send: Any) -> None:
        sent.append(scope["type"])

    asyncio.run(OwnPages(server, HOSTS)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert sent == ["lifespan"]
