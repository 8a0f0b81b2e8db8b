"""A web server on loopback that answers as a test says and keeps what it was asked, as a server or as a proxy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, Mapping[str, str], bytes]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. `target` is a path, or the whole address where this server is asked as a proxy."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(slots=True)
class WebServer:
    """Where it listens, and what it was asked."""

    endpoint: str = ""
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def web_server(answer: Callable[[Asked], Answer]) -> Iterator[WebServer]:
    """`answer` is called for each request."""
    seen = WebServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            length = int(self.headers.get("content-length", 0))
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, body)
            seen.asked.append(asked)
            status, headers, answered = answer(asked)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if not any(name.lower() in ("content-length", "transfer-encoding") for name in headers):
                self.send_header("Content-Length", str(len(answered)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answered)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _any  # noqa: N815  the base class asks for these names

        def log_message(self, *_: object) -> None:
            """Nothing to stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    seen.endpoint = f"127.0.0.1:{server.server_port}"
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
