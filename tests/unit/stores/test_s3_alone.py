"""An object that a server cannot send while it sends others fails alone; a server that sends nothing is away."""

from __future__ import annotations

import pytest
from fakes.http_servers import Answer, Asked, web_server
from pydantic import SecretStr

from searchanything.core import patience
from searchanything.core.errors import StoreError, StoreUnavailableError
from searchanything.core.patience import PAUSES_S, LongWork, long_work
from searchanything.core.settings import StorageSettings
from searchanything.stores import s3, s3_access, s3_alone
from searchanything.stores.s3 import S3Store

LISTING = (
    '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>holiday</Name><IsTruncated>false'
    "</IsTruncated>{}</ListBucketResult>"
)
ENTRY = "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>10</Size></Contents>"
BODY = b"0123456789"


class Bucket:
    """A server's bucket of objects a to e: what it answers for some of them, and how often it was asked for these."""

    def __init__(self) -> None:
        self.status: dict[str, int] = {}
        self.asked: dict[str, int] = {}

    def answer(self, asked: Asked) -> Answer:
        path, _, query = asked.target.partition("?")
        key = path.rpartition("/")[2]
        if "list-type=2" in query:
            return 200, {}, LISTING.format("".join(map(ENTRY.format, "abcde"))).encode()
        self.asked[key] = self.asked.get(key, 0) + 1
        status = self.status.get(key, 200)
        if status == 200:
            return 200, {"ETag": '"e"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}, BODY
        return status, {}, b""


class Clock:
    """Time that passes by waiting alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slept: list[float] = []
        monkeypatch.setattr(LongWork, "pause", lambda _, pause_s: self.slept.append(pause_s))
        monkeypatch.setattr(s3_alone, "time", self)
        monkeypatch.setattr(patience, "time", self)

    def monotonic(self) -> float:
        return sum(self.slept)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for module in (s3, s3_access):
        monkeypatch.setattr(module, "BACKOFF_S", 0.0)
    return Bucket()


def opened(endpoint: str) -> S3Store:
    keys = {"access_key": SecretStr("key"), "secret_key": SecretStr("secret")}
    return S3Store(StorageSettings(endpoint=endpoint, secure=False, region="us-east-1", **keys), "holiday")


@pytest.mark.parametrize("method", [S3Store.read, S3Store.stat])
def test_it_is_no_outage(bucket: Bucket, method: object) -> None:
    bucket.status = {"b": 500}
    with web_server(bucket.answer) as server, pytest.raises(StoreError, match="sends other objects") as raised:
        method(opened(server.endpoint), "b")  # type: ignore[operator]
    assert not isinstance(raised.value, StoreUnavailableError)


def test_a_server_that_sends_no_object_is_away(bucket: Bucket) -> None:
    """It lists, as one does whose disks are started again."""
    bucket.status = dict.fromkeys("abcde", 500)
    with web_server(bucket.answer) as server, pytest.raises(StoreUnavailableError, match="overloaded or broken"):
        opened(server.endpoint).read("b")


def test_a_server_that_asks_to_come_later_is_taken_at_its_word(bucket: Bucket) -> None:
    bucket.status = {"b": 503}
    with web_server(bucket.answer) as server, pytest.raises(StoreUnavailableError, match="overloaded or broken"):
        opened(server.endpoint).read("b")


@pytest.mark.parametrize("status", [500, 503])
def test_long_work_waits_for_half_a_minute(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Until it has met one: then other objects are not waited for, where the server does not ask for that."""
    bucket.status = {"b": status, "d": 500}
    clock = Clock(monkeypatch)
    with web_server(bucket.answer) as server, long_work():
        store = opened(server.endpoint)
        assert store.read("a")[1] == BODY
        with pytest.raises(StoreError, match="sends other objects"):
            store.read("b")
        assert clock.slept == list(PAUSES_S[:5])
        assert sum(clock.slept) == s3_alone.ALONE_S
        with pytest.raises(StoreError, match="sends other objects"):
            store.read("d")
        assert len(clock.slept) == 5
        bucket.status = {"d": 503}
        with pytest.raises(StoreError, match="sends other objects"):
            store.read("d")
        assert len(clock.slept) == 10


def test_an_object_that_comes_in_time_is_no_failure(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.status = {"b": 500}
    clock = Clock(monkeypatch)
    monkeypatch.setattr(LongWork, "pause", lambda _, pause_s: (clock.slept.append(pause_s), bucket.status.clear()))
    with web_server(bucket.answer) as server, long_work():
        store = opened(server.endpoint)
        store.read("a")
        assert store.read("b")[1] == BODY
    assert clock.slept == [PAUSES_S[0]]
