"""Listening to a bucket as MinIO offers it, on the JuiceFS gateway; and a server that does not offer it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from juicefs_gateway import juicefs_gateway

from searchanything.core.errors import EventsNotOfferedError, StoreUnavailableError
from searchanything.core.settings import ServiceSettings, StorageSettings
from searchanything.demo.local_s3 import LocalS3
from searchanything.images.scopes import Scope
from searchanything.service.listening import HintFilter, Listener
from searchanything.service.waves import WaveQueue
from searchanything.stores.s3 import S3Store
from searchanything.stores.s3_events import BucketEvents

pytestmark = pytest.mark.server
LATEST_S = 30.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageSettings]:
    """A gateway that tells of changes."""
    with juicefs_gateway(tmp_path_factory.mktemp("juicefs")) as settings:
        yield settings


@pytest.fixture
def store(gateway: StorageSettings) -> S3Store:
    """A store over a fresh bucket."""
    store = S3Store(gateway, f"test-{uuid4().hex}")
    store.make_bucket()
    return store


def soon(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LATEST_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def told(queue: WaveQueue, keys: set[str], what: str) -> set[str]:
    """All keys that came until these were among them; the gateway may tell of one upload twice."""
    seen: set[str] = set()

    def came() -> bool:
        wave = queue.take()
        queue.done(wave)
        seen.update(wave)
        return keys <= seen

    soon(came, what)
    return seen


def test_uploads_and_deletions_become_hints(gateway: StorageSettings, store: S3Store) -> None:
    queue, offers = WaveQueue(ServiceSettings()), []
    hint = HintFilter(queue, store.bucket, Scope("watched/"))
    listener = Listener(lambda: BucketEvents(gateway, store.bucket, "watched/"), hint, queue, on_offer=offers.append)
    listener.start()
    try:
        soon(lambda: offers == [True], "the gateway answers")
        assert queue.take_pending() == ("listening began",)
        store.upload("watched/ä b+c.jpg", b"x")
        store.upload("beside/a.jpg", b"x")
        store.upload("watched/gone.jpg", b"x")
        seen = told(queue, {"watched/ä b+c.jpg", "watched/gone.jpg"}, "uploads are told")
        store.delete("watched/gone.jpg")
        seen |= told(queue, {"watched/gone.jpg"}, "deletions are told")
    finally:
        listener.stop()
    assert not any(key.startswith("beside/") for key in seen)


def test_a_stream_that_ends_asks_for_a_sync(tmp_path: Path) -> None:
    queue = WaveQueue(ServiceSettings())
    pending: set[str] = set()

    def requested(reason: str) -> bool:
        pending.update(queue.take_pending())
        return reason in pending

    with juicefs_gateway(tmp_path) as settings:
        S3Store(settings, "images").make_bucket()
        listener = Listener(lambda: BucketEvents(settings, "images"), lambda _: None, queue)
        listener.start()
        soon(lambda: requested("listening began"), "the gateway answers")
    soon(lambda: requested("listening broke off"), "the end of the stream is noticed")
    listener.stop()
    with BucketEvents(settings, "images") as gone, pytest.raises(StoreUnavailableError, match="cannot be reached"):
        next(iter(gone))


def test_a_server_without_it_says_so(s3_server: LocalS3, s3_store: S3Store) -> None:
    with (
        BucketEvents(s3_server.settings(), s3_store.bucket) as events,
        pytest.raises(EventsNotOfferedError, match="does not offer"),
    ):
        next(iter(events))
