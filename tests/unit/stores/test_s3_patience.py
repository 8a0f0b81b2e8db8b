"""Long work waits for an S3 server that has answered, and says at the end that it did."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from fakes.http_servers import Answer, Asked, web_server
from pydantic import SecretStr

from searchanything.core import patience
from searchanything.core.errors import StoreUnavailableError
from searchanything.core.patience import WAITED, LongWork, long_work, patiently
from searchanything.core.settings import StorageSettings
from searchanything.stores import s3, s3_access
from searchanything.stores.s3 import S3Store

EMPTY = (
    b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>holiday</Name>'
    b"<IsTruncated>false</IsTruncated></ListBucketResult>"
)
NOBODY = "127.0.0.1:9"  # the discard port: refused at once


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr(LongWork, "pause", lambda _, pause_s: pauses.append(pause_s))
    monkeypatch.setattr(patience, "PAUSES_S", (1.0, 2.0))
    monkeypatch.setattr(s3_access, "BACKOFF_S", 0.0)
    monkeypatch.setattr(s3, "BACKOFF_S", 0.0)
    return pauses


def opened(endpoint: str, **settings: Any) -> S3Store:
    keys = {"access_key": SecretStr("key"), "secret_key": SecretStr("secret")}
    return S3Store(StorageSettings(endpoint=endpoint, secure=False, region="us-east-1", **keys, **settings), "holiday")


@pytest.fixture
def store() -> S3Store:
    return opened(NOBODY)


def test_what_stays_away_is_an_error_of_ours_that_says_how_to_go_on(slept: list[float], store: S3Store) -> None:
    with long_work():
        patiently(lambda: None, f"the image store at {NOBODY}")
        with pytest.raises(StoreUnavailableError, match="cannot be reached") as raised:
            store.read("a.jpg")
    assert slept == [1.0, 2.0]
    assert raised.value.__notes__ == [WAITED]


def test_the_first_contact_fails_at_once(slept: list[float], store: S3Store) -> None:
    with long_work(), pytest.raises(StoreUnavailableError):
        list(store.list())
    assert slept == []


@pytest.mark.parametrize("addressing", ["path", "virtual"])
def test_who_lists_has_answered_for_its_objects(
    slept: list[float], monkeypatch: pytest.MonkeyPatch, addressing: str
) -> None:
    """Where the bucket is in the host's name as well, as at AWS."""
    resolve, hosts, away = socket.getaddrinfo, list[str](), 1

    def found(host: str, *options: Any, **named: Any) -> Any:
        hosts.append(host)
        return resolve("127.0.0.1", *options, **named)

    def answer(asked: Asked) -> Answer:
        nonlocal away
        if "list-type=2" in asked.target:
            return 200, {}, EMPTY
        away -= 1
        return (500, {}, b"") if away >= 0 else (200, {"ETag": '"e"'}, b"0123456789")

    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr(s3_access, "RETRIES", 0)
    with web_server(answer) as server, long_work():
        store = opened(f"store.example:{server.endpoint.rpartition(':')[2]}", addressing=addressing)
        list(store.list())
        assert store.read("a.jpg")[1] == b"0123456789"
    assert slept == [1.0]
    assert set(hosts) == {"holiday.store.example" if addressing == "virtual" else "store.example"}


@pytest.mark.parametrize(
    ("endpoint", "url", "of"),
    [
        ("s3.amazonaws.com", "https://holiday.s3.dualstack.eu-west-1.amazonaws.com/a", "s3.amazonaws.com"),
        ("s3.amazonaws.com", "https://s3.dualstack.eu-west-1.amazonaws.com/holiday", "s3.amazonaws.com"),
        ("s3.amazonaws.com", "https://sts.eu-west-1.amazonaws.com/", "sts.eu-west-1.amazonaws.com"),
        ("store.example:443", "https://store.example/holiday", "store.example:443"),
        ("[::1]:8333", "http://[::1]:8333/holiday", "[::1]:8333"),
        ("store.example", "http://other-store.example/", "other-store.example"),
    ],
)
def test_of_whom_it_is_asked(endpoint: str, url: str, of: str) -> None:
    server = s3_access.server_of(StorageSettings(endpoint=endpoint))
    assert s3_access.asked_of(server, url) == f"the image store at {of}"


@pytest.mark.parametrize("pauses", [0, 2, 3], ids=["no long work", "back in time", "too late"])
def test_bodies_that_break_off_are_waited_for(slept: list[float], pauses: int) -> None:
    """A gateway answers while what holds the bodies is started again."""
    broken = 0

    def answer(asked: Asked) -> Answer:
        nonlocal broken
        if not asked.target.endswith("late.jpg") or broken == 0:
            return 200, {"ETag": '"e"'}, b"0123456789"
        broken -= 1
        return 200, {"ETag": '"e"', "Content-Length": "10", "Connection": "close"}, b"0123"

    with web_server(answer) as server:
        store = opened(server.endpoint)
        broken = max(1, pauses) * s3.RETRIES
        if not pauses:
            with pytest.raises(StoreUnavailableError, match="broke off"):
                store.read("late.jpg")
            return
        with long_work():
            store.read("early.jpg")
            if pauses > len(patience.PAUSES_S):
                with pytest.raises(StoreUnavailableError, match="broke off") as raised:
                    store.read("late.jpg")
                assert raised.value.__notes__ == [WAITED]
            else:
                assert store.read("late.jpg")[1] == b"0123456789"
    assert slept == [1.0, 2.0]
