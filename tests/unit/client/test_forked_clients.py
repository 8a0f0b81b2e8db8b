"""Clients of a server that are open when their process is forked, as by a web server that loads its program before."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

PROGRAM = """
import asyncio, os, signal, sys, time
from searchanything.client.awaited import AsyncRemoteClient
from searchanything.client.remote import RemoteClient

client = RemoteClient(sys.argv[1]) if sys.argv[2] == "waits" else AsyncRemoteClient(sys.argv[1])
ask = client.status if sys.argv[2] == "waits" else lambda: asyncio.run(client.status())
before = ask()
time.sleep(0.2)  # its thread is idle
child = os.fork()
signal.alarm(20)  # a thread that is not there would be waited for without end
asked = [ask(), ask()]
if child == 0:
    print(before["port"], *(one["port"] for one in asked), flush=True)
    os._exit(0)
assert [one["port"] for one in asked] == [before["port"]] * 2, asked
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.fixture
def url() -> Iterator[str]:
    """A server that says through which connection a request came."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = json.dumps({"port": self.client_address[1]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("kind", ["waits", "awaits"])
def test_a_child_asks_through_connections_and_threads_of_its_own(url: str, kind: str) -> None:
    """Two processes that read one connection got each other's answers."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, url, kind],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, first, second = done.stdout.split()
    assert first != before
    assert first == second, "it keeps its own"
