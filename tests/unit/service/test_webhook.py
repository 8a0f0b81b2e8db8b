"""The webhook before authentication: half-open requests cannot pile up, and an honest event passes between them."""

from __future__ import annotations

import json
import queue
import resource
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from http.client import HTTPResponse
from typing import Any

import pytest
from pydantic import SecretStr
from urllib3 import PoolManager

from searchanything import bounded_http
from searchanything.core.settings import ServiceSettings
from searchanything.images.scopes import Scope
from searchanything.service.http_thread import HttpThread
from searchanything.service.listening import HintFilter
from searchanything.service.waves import WaveQueue
from searchanything.service.webhook import MAX_BODY_BYTES, webhook_of

TOKEN = "the token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
HEAD = b"POST /events HTTP/1.1\r\nHost: localhost\r\n"
HALF_OPEN = {
    "silent": b"",
    "half a line": b"POST /ev",
    "half a head": HEAD + b"X-Slow: 1\r\n",
    "no body, no token": HEAD + b"Content-Length: 100\r\n\r\nabc",
    "no body, wrong token": HEAD + b"Authorization: Bearer no\r\nTransfer-Encoding: chunked\r\n\r\n",
    "pipelined": b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3 + HEAD,
}


@pytest.fixture
def hook() -> Iterator[tuple[HttpThread, list[Mapping[str, Any]]]]:
    """A webhook, and the notifications that it took."""
    taken: list[Mapping[str, Any]] = []

    def hint(notification: Mapping[str, Any]) -> int:
        taken.append(notification)
        return 1

    with webhook_of(settings(), hint, lambda _: None) as webhook:
        yield webhook, taken


def settings() -> ServiceSettings:
    return ServiceSettings(webhook_token=SecretStr(TOKEN), webhook_port=None)


@pytest.fixture
def many_files() -> Iterator[None]:
    """Descriptors for the attacker, who lives in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard) if hard > 0 else 8192, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def opened(webhook: HttpThread, sent: bytes) -> socket.socket:
    host, _, port = webhook.url.removeprefix("http://").partition(":")
    one = socket.create_connection((host, int(port)), timeout=30)
    one.sendall(sent)
    return one


def post(webhook: HttpThread, body: bytes = b"{}", headers: Mapping[str, str] = BEARER) -> int:
    with PoolManager(retries=False, timeout=30.0) as http:
        return http.request("POST", f"{webhook.url}/events", body=body, headers=headers).status


@pytest.mark.usefixtures("many_files")
def test_1500_half_open_requests_do_not_keep_an_honest_event_out(
    hook: tuple[HttpThread, list[Mapping[str, Any]]],
) -> None:
    webhook, taken = hook
    kinds = list(HALF_OPEN.values())
    with ExitStack() as stack:
        for number in range(1500):
            stack.enter_context(opened(webhook, kinds[number % len(kinds)]))
            if number % 300 == 299:
                body = json.dumps({"number": number}).encode()
                assert post(webhook, body) == 200
        assert [one["number"] for one in taken] == [299, 599, 899, 1199, 1499]
        assert len(webhook._server.server_state.connections) <= bounded_http.CONNECTIONS


@pytest.mark.parametrize("kind", HALF_OPEN)
def test_a_request_that_does_not_end_is_ended(
    hook: tuple[HttpThread, list[Mapping[str, Any]]], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(bounded_http, "REQUEST_S", 0.2)
    with opened(hook[0], HALF_OPEN[kind]) as one:
        try:
            while one.recv(4096):  # answers, if any; then its end: a timeout of 30 s would fail the test
                pass
        except ConnectionResetError:
            pass
    assert hook[1] == []


@pytest.mark.parametrize(
    "length",
    [
        "Content-Length: 9000000",
        "Transfer-Encoding: chunked",
        "Expect: 100-continue",
        "Connection: close\r\nContent-Length: 9000000",  # as proxies send it
        "Content-Length: 9000000\r\nTransfer-Encoding: chunked",
    ],
)
def test_who_is_answered_before_he_has_sent_all_is_not_waited_for(
    hook: tuple[HttpThread, list[Mapping[str, Any]]], length: str
) -> None:
    """The answer is the last, and is read to its end; what is sent behind it is taken, else it would be lost."""
    body = "Content-Length: 9\r\n" if length.startswith("Expect") else ""
    with opened(hook[0], HEAD + f"{body}{length}\r\n\r\n".encode()) as one, one.makefile("rb") as answers:
        answer = answers.read()  # to the end, which comes at once: by a timeout the test would fail
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b"\r\nconnection: close\r\n" in answer.lower()
        for _ in range(100):
            one.sendall(b" " * 2**16)
    assert hook[1] == []


def test_who_has_reset_the_connection_when_his_last_answer_ends_is_no_error() -> None:
    """As one who reads an answer and closes with the rest of his request unsent."""
    begun, was_reset, ended = threading.Event(), threading.Event(), queue.SimpleQueue[str]()

    async def refuse(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        begun.set()
        was_reset.wait(30)  # in its event loop, which learns of nothing meanwhile
        try:
            await send({"type": "http.response.body", "body": b""})
        except OSError as error:
            ended.put(str(error))
        ended.put("sent")

    with HttpThread("refusing", refuse, "127.0.0.1", 0) as server:
        with opened(server, HEAD + b"Content-Length: 9\r\n\r\n") as one:
            assert begun.wait(30)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        was_reset.set()
        assert ended.get(timeout=30) == "sent"


def test_who_gets_no_whole_answer_to_half_a_request_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a head alone has a deadline: the connection is not held for an answer that nobody makes any more."""
    options = bounded_http.head_bounded_options(head_s=0.2, connections=9)
    monkeypatch.setattr(bounded_http, "bounded_options", lambda: options)

    async def broken(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        raise ValueError("broken")

    begun = HEAD + b"Content-Length: 9000000\r\n\r\n"
    with HttpThread("broken", broken, "127.0.0.1", 0) as server, opened(server, begun) as one:
        assert one.makefile("rb").read().endswith(b"\r\n\r\n1")
        assert any(is_refused(one) for _ in range(2_000_000))


def is_refused(one: socket.socket) -> bool:
    """Send one more byte; True if the other side takes none any more."""
    try:
        one.sendall(b" ")
    except ConnectionError:
        return True
    return False


def test_a_body_that_comes_behind_its_head_does_not_end_the_connection(
    hook: tuple[HttpThread, list[Mapping[str, Any]]],
) -> None:
    head = HEAD + f"Authorization: {TOKEN}\r\nContent-Length: 2\r\n\r\n".encode()
    with opened(hook[0], b"") as one:
        for _ in range(3):
            one.sendall(head + b"{")
            one.settimeout(0.1)
            with pytest.raises(TimeoutError):  # the head is read by now
                one.recv(1)
            one.settimeout(30.0)
            one.sendall(b"}")
            assert status_of(one) == 200
    assert hook[1] == [{}] * 3


@pytest.mark.parametrize(("token", "is_lost"), [(TOKEN, True), ("no", False)])
def test_a_notification_that_is_cut_off_is_said_to_be_lost(token: str, is_lost: bool) -> None:
    """Its sender may not send it again; who has not the token sends none."""
    lost = queue.SimpleQueue[str]()
    begun = HEAD + f"Authorization: {token}\r\nContent-Length: 100\r\n\r\nabc".encode()
    with webhook_of(settings(), lambda _: 1, lost.put) as webhook:
        opened(webhook, begun).close()
        assert not is_lost or lost.get(timeout=30) == "a notification was cut off"
    assert lost.empty()


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"Records": [null]}', b" " * (MAX_BODY_BYTES + 1)])
@pytest.mark.parametrize(("token", "is_lost"), [(TOKEN, True), ("no", False)])
def test_a_notification_that_cannot_be_read_is_said_to_be_lost(token: str, is_lost: bool, body: bytes) -> None:
    """It may concern any object; of who has not the token nothing is read."""
    lost: list[str] = []
    hint = HintFilter(WaveQueue(settings()), "images", Scope())
    with webhook_of(settings(), hint, lost.append) as webhook:
        assert post(webhook, body, {"Authorization": token}) in ((400, 413) if is_lost else (401,))
        assert post(webhook, b'{"Records": []}') == 200
    assert len(lost) == is_lost


def status_of(one: socket.socket) -> int:
    """Read an answer to its end."""
    answer = HTTPResponse(one)
    answer.begin()
    answer.read()
    return answer.status


def test_who_is_idle_is_not_cut_off_before_he_sends_again(
    hook: tuple[HttpThread, list[Mapping[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_http, "REQUEST_S", 1.0)
    event = HEAD + f"Authorization: {TOKEN}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    with opened(hook[0], event) as one:
        assert status_of(one) == 200
        one.settimeout(2.0)
        with pytest.raises(TimeoutError):  # and no end
            one.recv(1)
        one.settimeout(30.0)
        one.sendall(event)
        assert status_of(one) == 200
        one.sendall(b"POST /ev")  # the next has begun, and must end
        assert one.recv(4096) == b""
    assert hook[1] == [{}, {}]


def test_a_request_has_its_own_time_however_long_the_connection_was_idle(
    hook: tuple[HttpThread, list[Mapping[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_http, "REQUEST_S", 3.0)
    event = HEAD + f"Authorization: {TOKEN}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    with opened(hook[0], event) as one:
        assert status_of(one) == 200
        for part, wait_s in ((b"", 2.0), (event[:20], 1.5)):  # begun before the time of the last one would be over
            one.sendall(part)
            one.settimeout(wait_s)
            with pytest.raises(TimeoutError):
                one.recv(1)
        one.settimeout(30.0)
        one.sendall(event[20:])
        assert status_of(one) == 200


def test_who_is_idle_is_waited_for_until_he_closes(hook: tuple[HttpThread, list[Mapping[str, Any]]]) -> None:
    go_client_s = 90  # of net/http's IdleConnTimeout
    assert hook[0]._server.config.timeout_keep_alive > go_client_s


def test_the_one_that_has_waited_longest_makes_room(
    hook: tuple[HttpThread, list[Mapping[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_http, "CONNECTIONS", 2)
    asking = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with opened(hook[0], asking) as first, opened(hook[0], asking) as second:
        assert status_of(first) == status_of(second) == 200
        first.sendall(asking)
        assert status_of(first) == 200
        with opened(hook[0], asking) as third:
            assert status_of(third) == 200
            assert second.recv(1) == b""
            first.sendall(asking)
            assert status_of(first) == 200


def trickled(one: socket.socket) -> bool:
    """Send one more byte; True if the other side has ended the connection."""
    try:
        one.sendall(b" ")
        return one.recv(1) == b""
    except TimeoutError:
        return False
    except (BrokenPipeError, ConnectionResetError):
        return True


def test_trickling_does_not_prolong_it(
    hook: tuple[HttpThread, list[Mapping[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_http, "REQUEST_S", 0.3)
    with opened(hook[0], HEAD + f"Authorization: {TOKEN}\r\nContent-Length: 9000\r\n\r\n".encode()) as one:
        one.settimeout(0.02)
        ended = any(trickled(one) for _ in range(8000))  # a byte each time: the whole would take minutes
    assert ended
    assert hook[1] == []


def test_a_body_is_limited_while_it_streams(hook: tuple[HttpThread, list[Mapping[str, Any]]]) -> None:
    assert post(hook[0], b" " * (MAX_BODY_BYTES + 1)) == 413
    assert post(hook[0], b"{}", {"Authorization": "Bearer no"}) == 401
    assert post(hook[0]) == 200


@pytest.mark.parametrize(
    ("chunks", "length", "status"),
    [(1000, 1, 200), (5000, 64, 200), (2000, 1, 400), (9000, 20, 400)],
)
def test_a_body_of_very_many_tiny_chunks_is_ended(
    hook: tuple[HttpThread, list[Mapping[str, Any]]], chunks: int, length: int, status: int
) -> None:
    """Each costs microseconds of all that is answered, whoever sends it: 12 MB of them took a webhook for 6 s."""
    head = HEAD + f"Authorization: {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"%x\r\n%b\r\n" % (length, b" " * length)
    with opened(hook[0], head) as one, one.makefile("rb") as answers, suppress(ConnectionError):
        one.sendall(chunk * chunks + b"2\r\n{}\r\n0\r\n\r\n")
        assert answers.readline().split()[1] == str(status).encode()
    assert hook[1] == [{}] * (status == 200)


def test_nothing_is_read_behind_an_event_of_two_lengths(hook: tuple[HttpThread, list[Mapping[str, Any]]]) -> None:
    head = HEAD + f"Authorization: {TOKEN}\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with opened(hook[0], (head + b"2\r\n{}\r\n0\r\n\r\n") * 2) as one, one.makefile("rb") as answers:
        answer = answers.read()  # until the other side has ended it
    assert answer.count(b"HTTP/1.1 200 ") == len(hook[1]) == 1
