"""A bucket that is emptied, or removed, between the listing or an event and the reading: a real server's answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from threading import Lock

import pytest
from fakes.indexing import RED
from fakes.machine import Machine

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.errors import StoreUnavailableError
from searchanything.core.settings import Settings
from searchanything.core.types import StoredObject
from searchanything.demo.local_s3 import LocalS3
from searchanything.stores.s3 import S3Store

pytestmark = [pytest.mark.server, pytest.mark.timeout(120)]
KEYS = [f"in/{number:02}.png" for number in range(12)]


@pytest.fixture
def client(s3_server: LocalS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    Machine().install(monkeypatch)
    settings = Settings(_env_file=None)
    settings.storage, settings.models.preset = s3_server.settings(), "pico"
    settings.milvus.uri = "memory://emptied-bucket"
    with connect(settings=settings) as client:
        yield client


def empty(store: S3Store) -> None:
    for found in list(store.list("in/")):
        store.delete(found.ref.key)


def remove(store: S3Store) -> None:
    for found in list(store.list()):
        store.delete(found.ref.key)
    store.remove_bucket()


@pytest.mark.parametrize(
    ("lose", "by_event", "reason"),
    [
        (empty, False, "no image is left"),
        (empty, True, ""),  # the bucket itself says that it has none of what an event named
        (remove, False, "no such bucket"),
        (remove, True, "no such bucket"),
    ],
)
def test_its_rows_stay_unless_an_event_named_them_and_it_is_there(
    client: Client,
    s3_store: S3Store,
    monkeypatch: pytest.MonkeyPatch,
    lose: Callable[[S3Store], None],
    by_event: bool,
    reason: str,
) -> None:
    """Images beside the prefix are none of the source's."""
    source, lock, left = f"s3://{s3_store.bucket}/in", Lock(), [lose]
    for key in (*KEYS, "beside/a.png"):
        s3_store.upload(key, RED)
    assert client.index(source).indexed == len(KEYS)
    real = S3Store.stat if by_event else S3Store.read

    def late(store: S3Store, key: str) -> StoredObject | tuple[StoredObject, bytes] | None:
        with lock:
            if left:
                left.pop()(s3_store)
        return real(store, key)

    monkeypatch.setattr(S3Store, real.__name__, late)
    with pytest.raises(StoreUnavailableError, match=reason) if reason else nullcontext():
        client.refresh(source, KEYS) if by_event else client.index(source, force=True)
    assert client.status().images == (len(KEYS) if reason else 0)
