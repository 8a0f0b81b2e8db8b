"""The region indexes under test: in memory, Milvus Lite, and a real Milvus server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
from contracts.index_rows import HASH_LAYER, manifest_of
from integration.lite_processes import wait_until_ended
from integration.milvus_server import MilvusServer

from searchanything.core.protocols import IndexStore, RegionIndex
from searchanything.core.settings import MilvusSettings
from searchanything.core.types import ImageRef
from searchanything.stores.memory import MemoryIndexStore
from searchanything.stores.milvus_opening import open_milvus

KINDS = ["memory", "lite", pytest.param("server", marks=pytest.mark.server)]


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """One real server for the whole run."""
    server = MilvusServer(tmp_path_factory.mktemp("milvus"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def lite_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One embedded index for the whole run, its server gone at the end."""
    file = tmp_path_factory.mktemp("lite") / "contract.db"
    yield file
    wait_until_ended(file)  # by itself: nothing may be left behind


StoreOpener = Callable[[], IndexStore]


@pytest.fixture(scope="module", params=KINDS)
def open_store(request: pytest.FixtureRequest) -> Iterator[StoreOpener]:
    """Opens the store under test: the same again each time (in memory: the same object)."""
    if request.param == "memory":
        memory = MemoryIndexStore()
        yield lambda: memory
        return
    if request.param == "lite":
        uri = str(request.getfixturevalue("lite_file"))
    else:
        uri = request.getfixturevalue("milvus_server").uri
    settings = MilvusSettings(uri=uri, collection_prefix=f"t{uuid4().hex[:8]}_", lite_idle_s=1.0)
    opened: list[IndexStore] = []

    def opener() -> IndexStore:
        opened.append(open_milvus(settings))
        return opened[-1]

    yield opener
    for store in opened:
        store.close()


@pytest.fixture(scope="module")
def store(open_store: StoreOpener) -> IndexStore:
    return open_store()


@pytest.fixture(scope="module")
def shared_index(store: IndexStore) -> RegionIndex:
    """An index that the tests of a module share, because a server takes seconds to make one."""
    return store.create(manifest_of(uuid4().hex * 2), HASH_LAYER)


@dataclass
class Bench:
    """An empty index, and names of images that are removed from it after the test."""

    index: RegionIndex
    bucket: str = field(default_factory=lambda: f"bucket-{uuid4().hex}")
    used: set[ImageRef] = field(default_factory=set)

    def image(self, key: str = "a.jpg", bucket: str | None = None) -> ImageRef:
        image = ImageRef(bucket or self.bucket, key)
        self.used.add(image)
        return image


@pytest.fixture
def bench(shared_index: RegionIndex) -> Iterator[Bench]:
    bench = Bench(shared_index)
    yield bench
    if bench.used:
        shared_index.delete_images(bench.used)
