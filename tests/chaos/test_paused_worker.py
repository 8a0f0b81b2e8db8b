"""A worker is held up between encoding and commit while its object changes: real S3 server, real Milvus Lite.

Whoever commits last must not win: the newest bytes must. `agreement` looks for itself.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.indexing import GREEN_BLUE, RED, SMALL_BATCHES
from fakes.models import fake_encoder
from integration.lite_processes import wait_until_ended

from deploy.agreement import Difference, Holdings, compare, read_index
from searchanything.core.protocols import IndexStore, RegionIndex
from searchanything.core.rows import RegionRow
from searchanything.core.settings import MilvusSettings
from searchanything.encode.fingerprint import manifest_of
from searchanything.ingest.pipeline import index_images
from searchanything.ingest.plan import IndexingJob
from searchanything.ingest.reports import IndexReport
from searchanything.stores.milvus_opening import open_milvus
from searchanything.stores.s3 import S3Store

pytestmark = pytest.mark.server

KEY = "the image.png"
_WAIT_S = 60.0


class HeldUp:
    """A region index that waits, once, before the first rows of a commit are written. All else is the real one's."""

    def __init__(self, index: RegionIndex) -> None:
        self._index = index
        self.encoded = threading.Event()
        self.released = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    def insert_regions(self, rows: Sequence[RegionRow]) -> None:
        self.encoded.set()
        assert self.released.wait(_WAIT_S)
        self._index.insert_regions(rows)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("paused") / "index.db"
    yield path
    wait_until_ended(path)


@pytest.fixture(scope="module")
def indexes(file: Path) -> Iterator[IndexStore]:
    with open_milvus(MilvusSettings(uri=str(file), lite_idle_s=0.5)) as store:
        manifest = manifest_of(fake_encoder(), "fake")
        store.create(manifest, b"")
        store.switch(manifest.fingerprint)
        yield store


class Bench:
    """A slow worker and a quick one on one object, and the look of somebody else at the result."""

    def __init__(self, store: S3Store, index: RegionIndex, file: Path) -> None:
        self.store = store
        self.index = index
        self.held_up = HeldUp(index)
        self._file = file

    def work(self, index: RegionIndex) -> IndexReport:
        return index_images(IndexingJob(self.store, fake_encoder, index, SMALL_BATCHES), self.store.list())

    def differences(self) -> list[Difference]:
        """What differs, apart from garbage: regions that no search shows and the sync collects."""
        listing = {found.ref.key: found.etag for found in self.store.list()}
        return [one for one in compare(listing, self.held()) if one.kind != "garbage"]

    def held(self) -> Holdings:
        return read_index(str(self._file), self.store.bucket)


@pytest.fixture
def bench(indexes: IndexStore, s3_store: S3Store, file: Path) -> Bench:
    live = indexes.live()
    assert live is not None
    return Bench(s3_store, indexes.open(live.fingerprint), file)


@contextmanager
def slow_worker(bench: Bench) -> Iterator[Future[IndexReport]]:
    """A worker that has encoded an image of one region, and commits it when it is released."""
    bench.store.upload(KEY, RED)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(bench.work, bench.held_up)
        assert bench.held_up.encoded.wait(_WAIT_S)
        yield slow


def test_overwritten_and_indexed_by_another_meanwhile(bench: Bench) -> None:
    with slow_worker(bench) as slow:
        bench.store.upload(KEY, GREEN_BLUE)
        assert bench.work(bench.index).indexed == 1
        assert bench.differences() == []
        bench.held_up.released.set()
        slow.result(_WAIT_S)
    assert bench.differences() == []
    [image] = bench.held().images
    assert (image["image_width"], image["image_height"], image["regions"]) == (30, 40, 2)


def test_overwritten_and_nobody_else_looks(bench: Bench) -> None:
    with slow_worker(bench) as slow:
        bench.store.upload(KEY, GREEN_BLUE)
        bench.held_up.released.set()
        assert slow.result(_WAIT_S).indexed == 1  # it looks again by itself
    assert bench.differences() == []
    [image] = bench.held().images
    assert image["regions"] == 2


def test_deleted_meanwhile(bench: Bench) -> None:
    with slow_worker(bench) as slow:
        bench.store.delete(KEY)
        bench.held_up.released.set()
        assert slow.result(_WAIT_S).indexed == 0
    assert bench.differences() == []
    assert bench.held() == Holdings([], [])


def test_the_held_up_worker_would_be_noticed(bench: Bench) -> None:
    """While it waits, the new object is lost to the index: the comparison sees that."""
    with slow_worker(bench) as slow:
        assert [one.kind for one in bench.differences()] == ["lost"]
        bench.held_up.released.set()
        assert slow.result(_WAIT_S).indexed == 1
    assert bench.differences() == []
