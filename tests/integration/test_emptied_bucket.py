"""A bucket that is emptied, or removed, between the listing or an event and the reading: a real server's answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    ("lose", "reason"), [(empty, "all images that were there before are gone"), (remove, "no such bucket")]
)
@pytest.mark.parametrize("by_event", [True, False])
def test_its_rows_stay(
    client: Client,
    s3_store: S3Store,
    monkeypatch: pytest.MonkeyPatch,
    lose: Callable[[S3Store], None],
    reason: str,
    by_event: bool,
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
    with pytest.raises(StoreUnavailableError, match=reason):
        client.refresh(source, KEYS) if by_event else client.index(source, force=True)
    assert client.status().images == len(KEYS)
