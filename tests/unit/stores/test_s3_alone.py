"""An object that a server cannot send while it sends others fails alone; a server that sends nothing is away."""

from __future__ import annotations

from contextlib import nullcontext
from urllib.parse import parse_qs

import pytest
from fakes.http_servers import Answer, Asked, web_server
from pydantic import SecretStr
from urllib3.exceptions import MaxRetryError, NewConnectionError

from searchanything.core import patience
from searchanything.core.errors import ObjectNotSentError, StoreError, StoreUnavailableError
from searchanything.core.patience import PAUSES_S, LongWork, long_work
from searchanything.core.settings import StorageSettings
from searchanything.stores import s3, s3_access, s3_alone
from searchanything.stores.s3 import S3Store

LISTING = (
    '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>holiday</Name><IsTruncated>false'
    "</IsTruncated>{}</ListBucketResult>"
)
ENTRY = "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>{}</Size></Contents>"
REFUSED = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
BODY = b"0123456789"


class Bucket:
    """A server's bucket of objects a to e: what it answers for some of them, and how often it was asked for these.

    Below some prefixes it may not be listed, as policies say.
    """

    def __init__(self) -> None:
        self.sizes = dict.fromkeys("abcde", len(BODY))
        self.refused = set[str]()
        self.status: dict[str, int] = {}
        self.asked: dict[str, int] = {}

    def answer(self, asked: Asked) -> Answer:
        path, _, query = asked.target.partition("?")
        key = path.removeprefix("/holiday/")
        if "list-type=2" in query:
            return self._listing(parse_qs(query).get("prefix", [""])[0])
        self.asked[key] = self.asked.get(key, 0) + 1
        status = self.status.get(key, 200)
        if status == 200:
            return 200, {"ETag": '"e"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}, BODY
        return status, {}, b""

    def _listing(self, prefix: str) -> Answer:
        if prefix in self.refused:
            return 403, {"Content-Type": "application/xml"}, REFUSED
        entries = [ENTRY.format(key, size) for key, size in self.sizes.items() if key.startswith(prefix)]
        return 200, {}, LISTING.format("".join(entries)).encode()


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
    monkeypatch.setattr(s3_alone, "_busy", s3_alone.BusyObjects())
    return Bucket()


def opened(endpoint: str) -> S3Store:
    keys = {"access_key": SecretStr("key"), "secret_key": SecretStr("secret")}
    return S3Store(StorageSettings(endpoint=endpoint, secure=False, region="us-east-1", **keys), "holiday")


@pytest.mark.parametrize("method", [S3Store.read, S3Store.stat])
def test_it_is_no_outage(bucket: Bucket, method: object) -> None:
    bucket.status = {"b": 500}
    with web_server(bucket.answer) as server, pytest.raises(ObjectNotSentError, match="sends other objects") as raised:
        method(opened(server.endpoint), "b")  # type: ignore[operator]
    assert not isinstance(raised.value, StoreUnavailableError)


def test_a_server_that_sends_no_object_is_away(bucket: Bucket) -> None:
    """It lists, as one does whose disks are started again."""
    bucket.status = dict.fromkeys("abcde", 500)
    with web_server(bucket.answer) as server, pytest.raises(StoreUnavailableError, match="overloaded or broken"):
        opened(server.endpoint).read("b")
    assert bucket.asked == {"b": 1 + s3_access.RETRIES, **dict.fromkeys("acde", 1)}, (
        "each takes as long as it may stall"
    )


def test_the_object_that_was_sent_last_shows_it(bucket: Bucket) -> None:
    """Where there may be no listing at all, and more that are as bad."""
    bucket.status, bucket.refused = dict.fromkeys("abcd", 500), {""}
    with web_server(bucket.answer) as server:
        store = opened(server.endpoint)
        store.read("e")
        with pytest.raises(ObjectNotSentError, match="sends other objects"):
            store.read("b")
    assert bucket.asked == {"e": 2, "b": 1 + s3_access.RETRIES}


@pytest.mark.parametrize("refused", [[], [""], ["", "x/y/"]], ids=["nothing", "the bucket", "all but x/"])
@pytest.mark.parametrize("other", ["x/y/c", "x/c"])
def test_the_objects_beside_it_show_it(bucket: Bucket, refused: list[str], other: str) -> None:
    """A policy may let others of the bucket neither be listed nor read."""
    bucket.status = {**dict.fromkeys("abcde", 403), "x/y/b": 500}
    bucket.sizes |= {"x/y/b": 10, other: 10}
    bucket.refused = set(refused)
    with web_server(bucket.answer) as server, pytest.raises(ObjectNotSentError, match="sends other objects"):
        opened(server.endpoint).read("x/y/b")


def test_answers_without_a_body_show_nothing(bucket: Bucket) -> None:
    """A gateway gives them while what holds the bodies is away."""

    def answer(asked: Asked) -> Answer:
        status, headers, body = bucket.answer(asked)
        cut_off = {**headers, "Content-Length": str(len(body)), "Connection": "close"}
        return (status, headers, body) if "list-type=2" in asked.target else (status, cut_off, b"")

    with web_server(answer) as server, pytest.raises(StoreUnavailableError, match="broke off"):
        opened(server.endpoint).read("b")


def test_a_listing_that_is_none_shows_nothing(bucket: Bucket) -> None:
    """Such as the page of a proxy before a server that is away."""
    bucket.status = {"b": 500}

    def answer(asked: Asked) -> Answer:
        return (200, {}, b"<html><br>") if "list-type=2" in asked.target else bucket.answer(asked)

    with web_server(answer) as server, pytest.raises(StoreUnavailableError, match="overloaded or broken"):
        opened(server.endpoint).read("b")


def test_who_is_not_reached_was_not_asked_for_an_object(bucket: Bucket) -> None:
    """Others may be sent at the same moment: by another of a server's addresses, or because it is back."""

    def ask() -> bytes:
        raise MaxRetryError(None, "/", NewConnectionError(None, "refused"))  # type: ignore[arg-type]

    with web_server(bucket.answer) as server, pytest.raises(MaxRetryError):
        opened(server.endpoint)._questions.ask(ask, "b")


def test_empty_objects_show_nothing(bucket: Bucket) -> None:
    """Such as folders' markers, of which no byte can be asked for: those that are not empty are asked for."""
    markers = [f"{name}/.keep" for name in "123456"]
    bucket.sizes = {**dict.fromkeys(markers, 0), **bucket.sizes}
    bucket.status = {**dict.fromkeys(markers, 416), "b": 500}
    with web_server(bucket.answer) as server, pytest.raises(ObjectNotSentError, match="sends other objects"):
        opened(server.endpoint).read("b")


def test_a_server_that_asks_to_come_later_is_taken_at_its_word(bucket: Bucket) -> None:
    bucket.status = {"b": 503}
    with web_server(bucket.answer) as server, pytest.raises(StoreUnavailableError, match="overloaded or broken"):
        opened(server.endpoint).read("b")


def test_who_comes_later_for_half_a_minute_waits_no_longer(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch does, with a store for each batch: MinIO says so of an object on damaged disks, for ever."""
    clock = Clock(monkeypatch)
    with web_server(bucket.answer) as server:
        for status in ({"b": 503}, {}, {"b": 503}):
            bucket.status = status  # where it is sent in between, it is another time
            for _ in range(2):
                with nullcontext() if not status else pytest.raises(StoreUnavailableError, match="overloaded"):
                    assert opened(server.endpoint).read("b")[1] == BODY
                clock.slept.append(s3_alone.ALONE_S / 2)
        with pytest.raises(ObjectNotSentError, match="sends other objects"):
            opened(server.endpoint).read("b")


@pytest.mark.parametrize("between", ["a refusal", "nothing for long", "others that are busy", "an outage"])
def test_who_was_asked_to_come_later_another_time_waits_again(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    """A watch lives for weeks, and any server asks so now and then."""
    clock = Clock(monkeypatch)
    monkeypatch.setattr(s3_alone, "_BUSY_KEPT", 2)
    bucket.sizes |= {"f": 1, "g": 1}
    with web_server(bucket.answer) as server:
        store = opened(server.endpoint)

        def asked(*keys: str, **status: int) -> None:
            bucket.status = dict.fromkeys(keys, 503) | status
            for key in keys:
                with pytest.raises(StoreUnavailableError, match="overloaded"):
                    store.read(key)

        asked("b")
        clock.slept.append(s3_alone.ALONE_S)
        if between == "a refusal":
            bucket.status = {"b": 404}
            with pytest.raises(StoreError):
                store.read("b")
        elif between == "nothing for long":
            clock.slept.append(s3_alone._BUSY_KEPT_S)
        elif between == "others that are busy":
            asked("f", "g")
        else:
            asked("b", **dict.fromkeys("acdefg", 500))
        asked("b")
        clock.slept.append(s3_alone.ALONE_S)
        with pytest.raises(ObjectNotSentError, match="sends other objects"):
            store.read("b")


@pytest.mark.parametrize("outage", ["not reached", "nothing is sent"])
def test_the_time_of_an_outage_does_not_count(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, outage: str) -> None:
    """A server that is started again may send some objects before others: half a minute begins when it sends some."""
    clock = Clock(monkeypatch)
    bucket.status = {"b": 500}

    def answer(asked: Asked) -> Answer:
        is_away = outage == "nothing is sent" and clock.monotonic() <= s3_alone.ALONE_S
        return (500, {}, b"") if is_away and "list-type=2" not in asked.target else bucket.answer(asked)

    def ask() -> str | None:
        if outage == "not reached" and clock.monotonic() <= s3_alone.ALONE_S:
            raise MaxRetryError(None, "/", NewConnectionError(None, "refused"))  # type: ignore[arg-type]
        if clock.monotonic() > 2 * s3_alone.ALONE_S:
            bucket.status.clear()
        return store._client.stat_object("holiday", "b").etag

    with web_server(answer) as server, long_work():
        store = opened(server.endpoint)
        patience.patiently(lambda: None, s3_access.s3_server(server.endpoint))
        assert store._questions.ask(ask, "b") == "e"


@pytest.mark.parametrize("status", [500, 503])
def test_long_work_waits_for_half_a_minute(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Until it has met one: then other objects are not waited for, where the server does not ask for that."""
    bucket.status = {"b": status, "d": 500}
    clock = Clock(monkeypatch)
    with web_server(bucket.answer) as server, long_work():
        store = opened(server.endpoint)
        assert store.read("a")[1] == BODY
        with pytest.raises(ObjectNotSentError, match="sends other objects"):
            store.read("b")
        assert clock.slept == list(PAUSES_S[:5])
        assert sum(clock.slept) == s3_alone.ALONE_S
        with pytest.raises(ObjectNotSentError, match="sends other objects"):
            store.read("d")
        assert len(clock.slept) == 5
        bucket.status = {"d": 503}
        with pytest.raises(ObjectNotSentError, match="sends other objects"):
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
