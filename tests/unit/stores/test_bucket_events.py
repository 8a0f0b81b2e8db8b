"""A stream of notifications ends when it is closed, at whatever moment that is; what else ends it is an error."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from urllib.parse import parse_qs, urlsplit

import pytest
from fakes.http_servers import Answer, Asked, web_server
from pydantic import SecretStr

from searchanything.core.errors import EventsNotOfferedError, StoreError, StoreUnavailableError
from searchanything.core.settings import StorageSettings
from searchanything.stores.s3_events import BucketEvents

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Mute:
    """A server that accepts and says `greeting`, and nothing more."""

    def __init__(self, greeting: bytes) -> None:
        self._greeting = greeting
        self._server = socket.create_server(("127.0.0.1", 0))
        self._held = ExitStack()
        self.asked = threading.Event()
        self.requests: list[str] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def settings(self) -> StorageSettings:
        port = self._server.getsockname()[1]
        keys = {"access_key": SecretStr("a"), "secret_key": SecretStr("b"), "region": "us-east-1"}
        return StorageSettings(endpoint=f"127.0.0.1:{port}", secure=False, timeout_s=600, **keys)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)  # wakes the thread, which could else hold one more connection
        self._thread.join()
        self._server.close()
        self._held.close()

    def _serve(self) -> None:
        while True:
            try:
                connection = self._held.enter_context(self._server.accept()[0])
            except OSError:
                return
            self.requests.append(connection.recv(4096).decode().partition("\r\n")[0])
            connection.sendall(self._greeting)
            self.asked.set()


@pytest.fixture
def mute(request: pytest.FixtureRequest) -> Iterator[Mute]:
    server = Mute(request.param)
    yield server
    server.close()


def listening(events: BucketEvents) -> tuple[threading.Thread, list[object]]:
    """A thread that iterates, and what it came to: None for a quiet end, else the error."""
    outcome: list[object] = []

    def run() -> None:
        try:
            list(events)
        except Exception as error:  # noqa: BLE001  whatever it is, the test is to see it
            outcome.append(error)
        else:
            outcome.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, outcome


@pytest.mark.parametrize("mute", [b"", ANSWER[:20], ANSWER], indirect=True, ids=["silent", "half an answer", "open"])
def test_closing_ends_the_iteration_whether_the_stream_is_open_or_not(mute: Mute) -> None:
    events = BucketEvents(mute.settings, "images")
    thread, outcome = listening(events)
    assert mute.asked.wait(30)
    events.close()
    thread.join(30)
    assert outcome == [None]


def answer(status: str, code: str) -> bytes:
    document = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(document)}\r\n\r\n"
    return head.encode() + document


NOT_OFFERED = [
    pytest.param(answer("501 Not Implemented", "NotImplemented"), id="an error that says so"),
    pytest.param(answer("200 OK", "it is a listing"), id="a listing, as of a server that does not know the question"),
]


@pytest.mark.parametrize("mute", NOT_OFFERED, indirect=True)
def test_a_server_that_does_not_offer_it(mute: Mute) -> None:
    with (
        BucketEvents(mute.settings, "images") as events,
        pytest.raises(EventsNotOfferedError, match=r"bucket images: 127\.0\.0\.1:\d+ does not offer"),
    ):
        next(iter(events))
    assert not events.connected


def test_aws_does_not_offer_it() -> None:
    with (
        BucketEvents(StorageSettings(region="us-east-1", credentials="anonymous"), "images") as events,
        pytest.raises(EventsNotOfferedError, match="does not offer"),
    ):
        next(iter(events))


@pytest.mark.parametrize("mute", [answer("403 Forbidden", "AccessDenied")], indirect=True)
def test_a_refusal_is_no_missing_offer(mute: Mute) -> None:
    with BucketEvents(mute.settings, "images") as events, pytest.raises(StoreError, match="images") as refused:
        next(iter(events))
    assert not isinstance(refused.value, EventsNotOfferedError | StoreUnavailableError)


@pytest.mark.parametrize(("lists", "raised"), [(True, EventsNotOfferedError), (False, StoreUnavailableError)])
def test_a_signature_that_is_good_for_a_listing_is_wrong_for_no_other_reason(
    lists: bool, raised: type[StoreError]
) -> None:
    """As Ceph says of parameters that it does not know."""
    listing = b"<ListBucketResult><Name>images</Name><IsTruncated>false</IsTruncated></ListBucketResult>"
    refusal = b"<Error><Code>SignatureDoesNotMatch</Code></Error>"

    def answered(asked: Asked) -> Answer:
        is_good = lists and "events=" not in asked.target
        return 200 if is_good else 403, {"Content-Type": "application/xml"}, listing if is_good else refusal

    with web_server(answered) as server:
        keys = {"access_key": "a", "secret_key": "b", "region": "us-east-1", "secure": False}
        settings = StorageSettings.model_validate({"endpoint": server.endpoint, **keys})
        with BucketEvents(settings, "images") as events, pytest.raises(StoreError) as refused:
            next(iter(events))
    assert type(refused.value) is raised


@pytest.mark.parametrize("mute", [ANSWER + chunk(b'{"Records": [1]}\n') + chunk(b"")], indirect=True)
def test_a_stream_that_ends_is_an_error_and_nothing_is_asked_again(mute: Mute) -> None:
    """What happened until another answer came would be lost, and nobody would know."""
    with BucketEvents(mute.settings, "images", "ä/b c") as events:
        assert not events.connected
        stream = iter(events)
        assert next(stream) == {"Records": [1]}
        assert events.connected
        with pytest.raises(StoreUnavailableError, match="ended the stream of notifications"):
            next(stream)
    (line,) = mute.requests
    asked = parse_qs(urlsplit(line.split()[1]).query)
    assert asked["prefix"] == ["ä/b c"]
    assert asked["events"] == ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]


LINES = [b"{}", b"[]", b"3", b"null", b'{"Event": "s3:TestEvent"}', b"[" * 5000, b'{"Records": [{', b"\xff"]


@pytest.mark.parametrize("mute", [ANSWER + chunk(b"\n".join(LINES)) + chunk(b'\n{"Records": [1]}\n')], indirect=True)
def test_a_line_that_is_no_notification_does_not_end_the_stream(mute: Mute) -> None:
    with BucketEvents(mute.settings, "images") as events:
        found = list(islice(events, len(LINES) + 1))
    assert found == [*({} for _ in LINES), {"Records": [1]}]


@pytest.mark.parametrize("mute", [ANSWER], indirect=True)
def test_what_is_closed_before_it_begins_asks_nobody(mute: Mute) -> None:
    events = BucketEvents(mute.settings, "images")
    events.close()
    assert list(events) == []
    assert not mute.asked.is_set()
