"""S3 without a server: settings, errors in our words, and servers that break off, stall or speak nonsense."""

from __future__ import annotations

import inspect
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from xml.etree import ElementTree as ET

import minio.error
import pytest
import urllib3.exceptions
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from pydantic import SecretStr
from urllib3 import HTTPResponse

from searchanything.core.errors import (
    ObjectNotFoundError,
    SettingsError,
    StoreError,
    StoreUnavailableError,
)
from searchanything.core.settings import StorageSettings
from searchanything.stores import s3
from searchanything.stores.s3 import S3Store, _header_text
from searchanything.stores.s3_errors import FOREIGN_ERRORS, store_error

pytestmark = pytest.mark.usefixtures("quick_retries")
ACCESS_KEY, SECRET_KEY = "ACCESSKEY0123456789", "very/secret+key"

# The error classes of both libraries at their pinned versions. A new one fails the test below: map it, then add it.
MINIO_ERRORS = {"MinioException", "InvalidResponseError", "ServerError", "S3Error"}
NOT_RAISED_BY_S3 = {"MinioAdminException"}  # only by minio's administration client


def s3_error(code: str, status: int, message: str = "a message") -> S3Error:
    where = {"resource": "/bucket/key", "request_id": "request", "host_id": "host"}
    response = HTTPResponse(status=status)  # by name: minio has changed the order
    return S3Error(code=code, message=message, response=response, bucket_name="bucket", object_name="key", **where)


def foreign_instances() -> list[Exception]:
    """One instance of every error class that minio and urllib3 define, and of their bases."""
    found: list[Exception] = [
        MinioException("x"),
        InvalidResponseError(502, "text/html", "<html>"),
        ServerError("server failed", 503),
        ServerError("server failed", 304),
        s3_error("NoSuchKey", 404),
        s3_error("SomethingNew", 400),
        s3_error("InternalError", 500),
        urllib3.exceptions.IncompleteRead(1, 2),
        urllib3.exceptions.InvalidChunkLength(HTTPResponse(b"x"), b"zz"),
        urllib3.exceptions.MaxRetryError(None, "/", ConnectionRefusedError("refused")),  # type: ignore[arg-type]
        urllib3.exceptions.MaxRetryError(None, "/", urllib3.exceptions.SSLError("tls")),  # type: ignore[arg-type]
    ]
    for kind in vars(urllib3.exceptions).values():
        is_error = inspect.isclass(kind) and issubclass(kind, urllib3.exceptions.HTTPError)
        if is_error and kind not in {type(error) for error in found}:
            error = kind.__new__(kind)
            Exception.__init__(error, "boom")
            found.append(error)
    others = (TimeoutError("t"), ConnectionResetError("r"), ssl.SSLError("s"), ValueError("v"))
    return [*found, *others, ET.ParseError("no XML"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")]


def settings(endpoint: str, **others: object) -> StorageSettings:
    keys = {"access_key": SecretStr(ACCESS_KEY), "secret_key": SecretStr(SECRET_KEY)}
    return StorageSettings.model_validate({"endpoint": endpoint, "secure": False, **keys, **others})


class TestMapping:
    def test_no_error_class_is_unknown(self) -> None:
        defined = {
            name
            for name, kind in vars(minio.error).items()
            if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__ == "minio.error"
        }
        assert defined == MINIO_ERRORS | NOT_RAISED_BY_S3

    @pytest.mark.parametrize("error", foreign_instances(), ids=lambda error: type(error).__name__)
    def test_every_foreign_error_becomes_ours(self, error: Exception) -> None:
        assert isinstance(error, FOREIGN_ERRORS)
        ours = store_error(error, subject="bucket/key", endpoint="server:9000")
        assert isinstance(ours, StoreError)
        assert str(ours).startswith("bucket/key: ")
        is_answered = isinstance(ours, ObjectNotFoundError)  # to whoever asks a server for the object
        assert ("server:9000" in str(ours)) != is_answered

    def test_what_a_server_says_is_cut_off(self) -> None:
        error = store_error(s3_error("A" * 100_000, 400, "B" * 100_000), subject="bucket", endpoint="host")
        assert len(str(error)) < 600

    @pytest.mark.parametrize(
        ("error", "kind", "advice"),
        [
            (s3_error("NoSuchKey", 404), ObjectNotFoundError, "no such object"),
            (s3_error("NoSuchBucket", 404), ObjectNotFoundError, "no such bucket"),
            (s3_error("AccessDenied", 403), StoreError, "check SEARCHANYTHING_STORAGE__ACCESS_KEY"),
            (s3_error("SignatureDoesNotMatch", 403), StoreError, "SECRET_KEY"),
            (s3_error("RequestTimeTooSkewed", 403), StoreUnavailableError, "set this machine's clock"),
            (s3_error("AuthorizationHeaderMalformed", 400), StoreError, "STORAGE__REGION"),
            (
                s3_error("InvalidObjectState", 403),
                StoreError,
                "is archived: restore it, then `searchanything failed retry`",
            ),
            (s3_error("ExpiredToken", 400), StoreUnavailableError, "set new keys"),
            (s3_error("InvalidAccessKeyId", 403), StoreUnavailableError, "SECRET_KEY, then repeat"),
            (s3_error("SlowDown", 503), StoreUnavailableError, "try later"),
            (ServerError("x", 500), StoreUnavailableError, "try later"),
            (InvalidResponseError(200, "text/html", "<html>"), StoreError, "not its console|and not its console"),
            (urllib3.exceptions.SSLError("wrong version"), StoreUnavailableError, "STORAGE__SECURE=false"),
            (ConnectionRefusedError("refused"), StoreUnavailableError, "check that the server runs"),
        ],
        ids=str,
    )
    def test_kind_and_advice(self, error: Exception, kind: type[StoreError], advice: str) -> None:
        ours = store_error(error, subject="bucket/key", endpoint="server:9000")
        assert type(ours) is kind
        with pytest.raises(kind, match=advice):
            raise ours


class TestSettings:
    @pytest.mark.parametrize(
        ("endpoint", "reason"),
        [
            ("http://localhost:9000", "write localhost:9000 and SEARCHANYTHING_STORAGE__SECURE=false"),
            ("https://s3.example.org/", "write s3.example.org$"),
            ("localhost:9000/bucket", "expected host:port without scheme and path, got 'localhost:9000/bucket'$"),
            ("local host:9000", "expected host:port"),
            ("localhost:", "expected host:port"),
            ("localhost:port", "expected host:port"),
            ("localhost:0", "expected a port from 1 to 65535"),
            ("localhost:70000", "expected a port from 1 to 65535"),
            ("-x:9000", "expected host:port"),
        ],
    )
    def test_a_bad_endpoint(self, endpoint: str, reason: str) -> None:
        with pytest.raises(SettingsError, match=reason):
            S3Store(StorageSettings(endpoint=endpoint), "bucket")

    def test_keys_in_the_endpoint_are_never_shown(self) -> None:
        with pytest.raises(SettingsError, match="holds an '@'") as caught:
            S3Store(StorageSettings(endpoint="user:hunter2@localhost:9000"), "bucket")
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("endpoint", ["localhost:9000", "s3.amazonaws.com", "127.0.0.1:80", "[::1]:9000", "minio"])
    def test_good_endpoints(self, endpoint: str) -> None:
        assert S3Store(StorageSettings(endpoint=endpoint), "bucket").bucket == "bucket"

    def test_half_a_pair_of_keys(self) -> None:
        for name in ("access_key", "secret_key"):
            with pytest.raises(SettingsError, match="set both") as caught:
                S3Store(StorageSettings.model_validate({"endpoint": "x:1", name: SECRET_KEY}), "bucket")
            assert SECRET_KEY not in str(caught.value)

    def test_a_bad_region(self) -> None:
        with pytest.raises(SettingsError, match="REGION"):
            S3Store(StorageSettings(endpoint="x:1", region="not a region!"), "bucket")


class TestLinks:
    def test_links_are_signed_for_the_public_endpoint_without_asking_it(self) -> None:
        inside = settings("s3:8333", public_endpoint="https://pictures.example.org/")
        link = S3Store(inside, "images").link("a b.jpg", age_s=60)
        assert link.startswith("https://pictures.example.org/images/a%20b.jpg?")
        assert "us-east-1" in link

    def test_the_region_stays(self) -> None:
        inside = settings("s3:8333", public_endpoint="http://127.0.0.1:8333", region="eu-west-9")
        link = S3Store(inside, "images").link("a.jpg", age_s=60)
        assert link.startswith("http://127.0.0.1:8333/images/a.jpg?")
        assert "eu-west-9" in link

    @pytest.mark.parametrize("address", ["pictures.example.org", "ftp://pictures", "https://a/b", "https://"])
    def test_what_is_no_address_is_refused(self, address: str) -> None:
        with pytest.raises(SettingsError, match=r"PUBLIC_ENDPOINT.*https://s3\.example\.org"):
            S3Store(settings("s3:8333", public_endpoint=address), "images")


@contextmanager
def scripted_server(answer: Callable[[int, socket.socket], None]) -> Iterator[str]:
    """A server that reads a request and lets `answer(number, connection)` do as it likes, then hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            number = 0
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    with suppress(OSError):  # the client has hung up
                        answer(number, connection)
                number += 1

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def head(length: int, *lines: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {length}", 'ETag: "e1"', *lines, "", ""]).encode()


class TestBrokenServers:
    """Anonymous access and a given region: then a read is one request."""

    @staticmethod
    def store(endpoint: str, **others: object) -> S3Store:
        return S3Store(
            StorageSettings.model_validate({"endpoint": endpoint, "secure": False, "region": "r", **others}), "bucket"
        )

    def test_a_body_that_breaks_off_is_asked_for_again(self) -> None:
        def answer(number: int, connection: socket.socket) -> None:
            connection.sendall(head(10) + (b"0123456789" if number == 2 else b"0123"))

        with scripted_server(answer) as endpoint:
            found, body = self.store(endpoint).read("a.jpg")
        assert (found.etag, body) == ("e1", b"0123456789")

    def test_one_that_always_breaks_off_is_unavailable(self) -> None:
        with (
            scripted_server(lambda _, connection: connection.sendall(head(10) + b"0123")) as endpoint,
            pytest.raises(StoreUnavailableError, match="broke off 3 times while sending it"),
        ):
            self.store(endpoint).read("a.jpg")

    def test_a_trickle_is_ended(self) -> None:
        def answer(number: int, connection: socket.socket) -> None:
            if number >= s3.RETRIES:  # it is asked for something else
                return
            connection.sendall(head(1000))
            for _ in range(1000):
                connection.sendall(b"x")
                time.sleep(0.05)

        started = time.monotonic()
        with (
            scripted_server(answer) as endpoint,
            pytest.raises(StoreUnavailableError, match="broke off"),
        ):
            self.store(endpoint, timeout_s=0.3).read("a.jpg")
        assert time.monotonic() - started < 10

    def test_silence_ends_after_the_timeout(self) -> None:
        started = time.monotonic()
        with (
            scripted_server(lambda *_: time.sleep(0.5)) as endpoint,
            pytest.raises(StoreUnavailableError, match="does not answer"),
        ):
            self.store(endpoint, timeout_s=0.2).stat("a.jpg")
        assert time.monotonic() - started < 10

    def test_a_busy_server_is_asked_again(self) -> None:
        def answer(number: int, connection: socket.socket) -> None:
            busy = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nRetry-After: 3600\r\n\r\n"
            connection.sendall(busy if number < 2 else head(2) + b"ok")

        started = time.monotonic()
        with scripted_server(answer) as endpoint:
            assert self.store(endpoint).read("a.jpg")[1] == b"ok"
        assert time.monotonic() - started < 10

    def test_a_compressed_object_is_not_decompressed(self) -> None:
        with scripted_server(lambda _, to: to.sendall(head(4, "Content-Encoding: gzip") + b"raw!")) as endpoint:
            assert self.store(endpoint).read("a.jpg")[1] == b"raw!"

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\xff\xfe\x00",
            b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\noops!",
            b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: 4\r\n\r\n<no>",
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
        ],
        ids=["html", "binary", "html-404", "bad-xml", "redirect", "ssh"],
    )
    def test_what_is_no_s3_server_is_told(self, answer: bytes) -> None:
        with scripted_server(lambda _, connection: connection.sendall(answer)) as endpoint:
            listing = self.store(endpoint).list()
            with pytest.raises(StoreError, match=endpoint):
                list(listing)

    @pytest.mark.parametrize(
        ("status", "kind", "body"),
        [
            ("412 Precondition Failed", "text/html", "Bad URL"),
            ("400 Bad Request", "text/xml", "<Error><Code>MissingAuthenticationToken</Code></Error>"),
        ],
        ids=["swift", "nanio"],  # their answers to a question that nobody signed
    )
    def test_who_is_refused_without_keys_reads_that_none_are_set(self, status: str, kind: str, body: str) -> None:
        lines = f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "", body
        answer = "\r\n".join(lines).encode()
        with scripted_server(lambda _, connection: connection.sendall(answer)) as endpoint:
            listing = self.store(endpoint).list()
            with pytest.raises(StoreError, match="credentials: anonymous access, as no keys are set"):
                list(listing)

    def test_nothing_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            endpoint = f"127.0.0.1:{listener.getsockname()[1]}"
        store = S3Store(settings(endpoint), "bucket")
        for ask in (lambda: list(store.list()), lambda: store.stat("a"), lambda: store.read("a")):
            with pytest.raises(StoreUnavailableError, match="cannot be reached") as caught:
                ask()
            assert SECRET_KEY not in str(caught.value)
            assert ACCESS_KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("plain", "plain"),
        ("=?UTF-8?B?R3LDvMOfZQ==?=", "Grüße"),
        ("=?UTF-8?Q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        ("Grüße".encode().decode("latin-1"), "Grüße"),
        ("=?klingon?B?R3LDvMOfZQ==?=", "=?klingon?B?R3LDvMOfZQ==?="),
        ("\xff", "\xff"),
    ],
)
def test_metadata_beyond_ascii(sent: str, meant: str) -> None:
    assert _header_text(sent) == meant
