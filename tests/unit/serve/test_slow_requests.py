"""Requests that never end: heads and bodies come in time, and who shows no key has nothing read."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.loop_clock import LoopClock
from fakes.serving import Served, listening
from urllib3 import PoolManager, Retry

from searchanything.core.errors import BodyTimeoutError
from searchanything.core.serve_settings import ServeSettings
from searchanything.serve.bodies import PROGRESS_BYTES, in_time

SHORT = ServeSettings(preload=False, header_timeout_s=0.3, body_timeout_s=0.3)
PATIENT = SHORT.model_copy(update={"header_timeout_s": 600.0, "body_timeout_s": 600.0})
JSON = b"Content-Type: application/json\r\n"
FORM = b"Content-Type: multipart/form-data; boundary=x\r\n"
MIB = 2**20
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc'


def head(path: str, *lines: bytes, length: int = 5000) -> bytes:
    return b"".join(
        (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n".encode(), *lines, b"\r\n")
    )


@contextmanager
def asked(served: Served) -> Iterator[Any]:
    """A function that sends bytes, and returns all that comes until the other side has ended the connection."""
    with listening(served) as url:
        port = int(url.rpartition(":")[2])

        def send(data: bytes) -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as one:
                one.sendall(data)
                parts = []
                try:
                    while part := one.recv(4096):
                        parts.append(part)
                except ConnectionResetError:
                    pass
                return b"".join(parts)

        yield send


def test_a_body_that_does_not_come_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served.make(tmp_path, monkeypatch, settings=PATIENT.model_copy(update={"body_timeout_s": 0.3}))
    with asked(served) as send:
        for data in (
            head("/v1/query", JSON) + b'{"image"',
            head("/v1/query", FORM) + PART,
            head("/v1/uploads", FORM) + PART,
            head("/v1/uploads") + b"\x89PNG",
            head("/v1/uploads"),
        ):
            answer = send(data)
            assert answer.startswith(b"HTTP/1.1 408 "), data
            assert b"problem:BodyTimeoutError" in answer
            assert b"connection: close" in answer.lower()
    assert served.desk.index.inside == served.desk.models.inside == served.desk.pictures.inside == 0


def ended(one: socket.socket, clock: LoopClock, *, within_s: float) -> bytes:
    """What comes until the other side ends the connection, for which its clock is put forward while nothing comes."""
    one.settimeout(0.1)
    came, left = b"", 30
    while left:
        try:
            if not (part := one.recv(4096)):
                return came
            came += part
        except ConnectionResetError:
            return came
        except TimeoutError:
            clock.put_forward(within_s)
            left -= 1
    return pytest.fail("it is not ended")


@pytest.mark.parametrize("data", [b"", b"GET / HT", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Mo"])
def test_a_head_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    served = Served.make(tmp_path, monkeypatch, settings=PATIENT.model_copy(update={"header_timeout_s": 60.0}))
    clock, whole = LoopClock(monkeypatch), b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with listening(served) as url:
        place = ("127.0.0.1", int(url.rpartition(":")[2]))
        with socket.create_connection(place, timeout=60) as one:
            one.sendall(data)
            assert ended(one, clock, within_s=60.0) == b""
        with socket.create_connection(place, timeout=60) as one:
            one.sendall(whole + (data or b"G"))
            assert one.recv(13) == b"HTTP/1.1 200 "
            ended(one, clock, within_s=60.0)


def test_an_answer_may_take_longer_than_a_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SHORT.model_copy(update={"header_timeout_s": 60.0, "body_timeout_s": 60.0, "timeout_s": 600.0})
    served = Served.make(tmp_path, monkeypatch, settings=settings)
    clock, release = LoopClock(monkeypatch), threading.Event()

    def status(_: object) -> None:
        for seconds in (60.0, 540.0):
            clock.put_forward(seconds)
        release.wait(30)

    monkeypatch.setattr(served.desk, "status", status)
    with asked(served) as send:
        asking = b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        assert send(asking).startswith(b"HTTP/1.1 504 ")
    release.set()


def test_nothing_is_read_of_who_shows_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served.make(tmp_path, monkeypatch, keys=True, settings=PATIENT)
    token, _ = served.desk.ring.add("one")
    with asked(served) as send:
        for key in (b"", b"Authorization: Bearer sa_no_no\r\n"):
            for path, kind in (("/v1/query", JSON), ("/v1/query", FORM), ("/v1/uploads", b""), ("/v1/no", JSON)):
                assert send(head(path, kind, key) + b"{").startswith(b"HTTP/1.1 401 "), path
        body = b'{"like": []}'
        valid = f"Authorization: Bearer {token}\r\nConnection: close\r\n".encode()
        assert send(head("/v1/query", JSON, valid, length=len(body)) + body).startswith(b"HTTP/1.1 422 ")


def test_nothing_is_read_behind_a_request_of_two_lengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that goes by the other length takes its body's end for the next request, of whom it pleases."""
    served = Served.make(tmp_path, monkeypatch, settings=PATIENT)
    body = b'{"like": []}'
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    behind = b"GET /v1/server HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with asked(served) as send:
        answer = send(head("/v1/query", JSON, b"Transfer-Encoding: chunked\r\n") + chunked + behind)
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer.lower()


def fill(one: socket.socket, port: int) -> None:
    """Ask for what needs no key, again and again, and read nothing. Raises: what ends it."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    one.connect(("127.0.0.1", port))
    while True:
        one.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)


@pytest.mark.parametrize("keys", [False, True])
@pytest.mark.parametrize("path", ["/v1/query", "/v1/uploads", "/v1/none"])
def test_what_stops_being_a_request_has_one_answer_and_is_no_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, path: str, *, keys: bool
) -> None:
    """Else whoever sends such pieces fills the log with tracebacks."""
    served = Served.make(tmp_path, monkeypatch, keys=keys)
    begun = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n".encode()
    with asked(served) as send:
        for name in ("uvicorn.error", "asyncio"):
            logging.getLogger(name).addHandler(caplog.handler)
        answer = send(begun + b"x\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert served.desk.index.inside == served.desk.pictures.inside == 0
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_who_reads_no_answers_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served.make(tmp_path, monkeypatch, keys=True, settings=SHORT)
    with listening(served) as url, socket.socket() as one:
        one.settimeout(30)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            fill(one, int(url.rpartition(":")[2]))


def test_who_reads_no_answers_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = PATIENT.model_copy(update={"connections": 1})
    served = Served.make(tmp_path, monkeypatch, keys=True, settings=patient)
    with listening(served) as url, socket.socket() as one:
        one.settimeout(1)
        with pytest.raises(TimeoutError):  # the server has stopped to read
            fill(one, int(url.rpartition(":")[2]))
        with PoolManager(retries=Retry(total=10, backoff_factor=0.1, redirect=0), timeout=10.0) as http:
            assert http.request("GET", f"{url}/healthz").status == 200


@pytest.mark.parametrize(("kind", "begin"), [(b"", b""), (FORM, PART)])
def test_uploads_together_hold_no_more_than_eight_of_the_largest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: bytes, begin: bytes
) -> None:
    patient = PATIENT.model_copy(update={"upload_bytes": MIB})
    served = Served.make(tmp_path, monkeypatch, settings=patient)
    with listening(served) as url, ExitStack() as stack, PoolManager(retries=False, timeout=60.0) as http:

        def one_more() -> int:
            return http.request("POST", f"{url}/v1/uploads", body=bytes(100)).status

        def comes_to(held: int) -> bool:
            """Whether the server comes to hold so many bytes; 30 s are enough."""
            return any(served.http.app._uploads._held == held or time.sleep(0.01) for _ in range(3000))

        assert one_more() == 422  # it is no image
        place = ("127.0.0.1", int(url.rpartition(":")[2]))
        held = [stack.enter_context(socket.create_connection(place)) for _ in range(16)]
        for connection in held:  # a form of the largest size has MIB more, of JSON
            connection.sendall(head("/v1/uploads", kind, length=MIB) + begin.ljust(MIB - 1))
        assert comes_to(16 * (MIB - 1))
        assert one_more() == 429
        question = json.dumps({"like": [served.name("a/two.png", region=0)]}).encode()
        headers = {"Content-Type": "application/json"}
        assert http.request("POST", f"{url}/v1/query", body=question, headers=headers).status == 200
        held[0].close()
        assert comes_to(15 * (MIB - 1))
        assert one_more() == 422


@pytest.mark.parametrize("path", ["/v1/standing/matches/taken", "/v1/standing", "/v1/query", "/v1/uploads"])
def test_what_calls_itself_a_form_has_the_limit_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    small = PATIENT.model_copy(update={"upload_bytes": MIB})
    served = Served.make(tmp_path, monkeypatch, keys=True, settings=small)
    token, _ = served.desk.ring.add("one", rights=("read", "standing"))
    with asked(served) as send:
        key = f"Authorization: Bearer {token}\r\nConnection: close\r\n".encode()
        assert send(head(path, FORM, key, length=100 * MIB) + PART.ljust(2 * MIB + 1)).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("part", [PROGRESS_BYTES, 1])
def test_a_body_has_time_as_long_as_it_goes_on(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = LoopClock(monkeypatch)

    async def read() -> int:
        loop, taken = asyncio.get_running_loop(), 0
        end = loop.time() + 900.0

        async def receive() -> dict[str, Any]:
            clock.put_forward(10.0)
            await asyncio.sleep(0)
            return {"type": "http.request", "body": bytes(part), "more_body": loop.time() < end}

        limited, message = in_time(receive, 600.0), {"more_body": True}
        while message["more_body"]:
            message = dict(await limited())
            taken += part
        return taken

    if part == 1:
        with pytest.raises(BodyTimeoutError, match=r"within 600 s"):
            asyncio.run(read())
    else:
        assert asyncio.run(read()) > part
