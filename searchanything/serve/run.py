"""`searchanything serve` as a process: where it listens, who may ask, how it ends."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from searchanything.bounded_http import head_bounded_options
from searchanything.client.client import Client
from searchanything.core.addresses import is_loopback
from searchanything.core.errors import ServeError, SettingsError
from searchanything.core.serve_settings import ServeSettings
from searchanything.core.settings import Settings
from searchanything.core.state_folders import serve_folder
from searchanything.processes import ending_signals
from searchanything.serve.allowed_webhooks import check_allowed
from searchanything.serve.app import make_app
from searchanything.serve.desk import Desk
from searchanything.serve.keys import KeyRing

_GRACE_S: Final = 10  # for answers under way, once the process is asked to end
_BACKLOG: Final = 1024


def key_ring(settings: Settings) -> KeyRing | None:
    """The keys that requests must show; None where none is demanded. Raises: SettingsError where there is none yet."""
    serve = settings.serve
    through_a_proxy = any(not is_loopback(name) for name in serve.allowed_hosts)
    if is_loopback(serve.host) and not through_a_proxy and serve.keys == "auto":
        return None
    ring = KeyRing(serve_folder(settings))
    if not any(key.revoked_at_ms is None for key in ring.all()):
        places = " and as ".join((serve.host, *serve.allowed_hosts))
        raise SettingsError(
            f"to listen on {places} the server needs a key, and there is none yet; "
            "make one: searchanything keys add NAME"
        )
    return ring


def check_host(serve: ServeSettings) -> None:
    """Look the host up, before keys are asked for on its account. Raises: SettingsError where it has no address."""
    try:
        socket.getaddrinfo(serve.host or None, serve.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:  # the latter for what cannot be a name
        raise SettingsError(
            f"there is no such address to listen on: {serve.host} ({getattr(error, 'strerror', None) or error}); "
            f"name one of this machine's: --host"
        ) from error


def make_desk(client: Client, settings: Settings) -> Desk:
    """What the routes need. Raises: SettingsError, ServeError."""
    check_allowed(settings.serve.webhooks)
    return Desk(client, settings.serve, folder=serve_folder(settings), ring=key_ring(settings))


def configured(app: ASGIApp, settings: ServeSettings) -> uvicorn.Config:
    """uvicorn's configuration: connections are bounded, and its own log has no paths and no queries."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_GRACE_S,
        **head_bounded_options(head_s=settings.header_timeout_s, connections=settings.connections),
    )


class Server(uvicorn.Server):
    """uvicorn's, which says when and where it listens."""

    def __init__(self, desk: Desk, settings: ServeSettings, started: Callable[[str], None]) -> None:
        super().__init__(configured(make_app(desk), settings))
        self._host, self._on_start = settings.host, started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The signals end the server; uvicorn's own would then end the process by them, half closed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.signal(one, self.handle_exit) for one in ending_signals()}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            host = f"[{self._host}]" if ":" in self._host else self._host
            self._on_start(f"http://{host}:{port}")


def serve(client: Client, settings: Settings, *, started: Callable[[str], None]) -> bool:
    """Serve until SIGTERM or Ctrl-C. `started` is given the address. False where work is left that has not ended.

    Raises: SettingsError, ServeError where the address cannot be had.
    """
    check_host(settings.serve)
    desk = make_desk(client, settings)
    server = Server(desk, settings.serve, started)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    try:
        server.run()
    except SystemExit:  # uvicorn's way to say that the port is taken
        raise ServeError(
            f"the server cannot listen on {settings.serve.host}:{settings.serve.port}; name another port: --port"
        ) from None
    if not server.started:
        raise ServeError(f"the server cannot listen on {settings.serve.host}:{settings.serve.port}")
    return desk.is_idle
