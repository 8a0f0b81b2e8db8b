"""Long work waits for an S3 server that has answered, and says at the end that it did."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from searchanything.core import patience
from searchanything.core.errors import StoreUnavailableError
from searchanything.core.patience import WAITED, LongWork, long_work, patiently
from searchanything.core.settings import StorageSettings
from searchanything.stores import s3_access
from searchanything.stores.s3 import S3Store

NOBODY = "127.0.0.1:9"  # the discard port: refused at once


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr(LongWork, "pause", lambda _, pause_s: pauses.append(pause_s))
    monkeypatch.setattr(patience, "PAUSES_S", (1.0, 2.0))
    monkeypatch.setattr(s3_access, "BACKOFF_S", 0.0)
    return pauses


@pytest.fixture
def store() -> S3Store:
    keys = {"access_key": SecretStr("key"), "secret_key": SecretStr("secret")}
    return S3Store(StorageSettings(endpoint=NOBODY, secure=False, region="us-east-1", **keys), "holiday")


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
