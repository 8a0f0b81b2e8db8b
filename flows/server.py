"""Prefect's server, for this machine's own pages and clients only.

Any web page can send requests to loopback, and with a host name that points to 127.0.0.1 (DNS rebinding) it can also
read the answers. So requests must name this machine as Host, and as Origin if they name any. Prefect's
password is asked for besides; `watch` sets it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .busy_database import writers_wait

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class OwnPages:
    """An ASGI application that answers only requests whose Host, and Origin if any, are among its own."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        """`hosts`: as a Host header has them, port included."""
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(f"http://{host}" for host in self._hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As every ASGI application."""
        if scope["type"] == "lifespan" or self._is_own(scope["headers"]):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            body = b"expected this machine as Host and Origin\n"
            length = str(len(body)).encode()
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", length)]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def _is_own(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        named = [(name, value.decode("latin-1").lower()) for name, value in headers]
        hosts = [value for name, value in named if name == b"host"]
        origins = [value for name, value in named if name == b"origin"]
        return len(hosts) == 1 and self._hosts.issuperset(hosts) and self._origins.issuperset(origins)


def serve_prefect(descriptor: int) -> None:
    """Run Prefect's server on a socket that listens, until it is stopped, as `prefect server start` does."""
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    api = get_current_settings().server.api
    listener = socket.socket(fileno=descriptor)
    names = [f"{host}:{listener.getsockname()[1]}" for host in ("127.0.0.1", "localhost", "[::1]")]
    with writers_wait():
        config = uvicorn.Config(
            OwnPages(create_app(final=True), names),
            log_level="warning",
            timeout_keep_alive=api.keepalive_timeout,
            ws_ping_interval=api.websocket_ping_interval,
            ws_ping_timeout=api.websocket_ping_timeout,
        )
        uvicorn.Server(config).run(sockets=[listener])
