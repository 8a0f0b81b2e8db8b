"""An index that is no longer live leaves the memory of its server after a while, and comes back when it is wanted."""

from __future__ import annotations

import time
from dataclasses import replace
from uuid import uuid4

import pytest
from contracts.conftest import StoreOpener
from contracts.index_rows import HASH_LAYER, fresh_generation, image_row, manifest_of, random_codes, region_row
from integration.milvus_server import MilvusServer
from pymilvus import MilvusClient
from pymilvus.client.types import LoadState

from searchanything.core.protocols import IndexStore, RegionIndex
from searchanything.core.settings import MilvusSettings
from searchanything.core.types import ImageRef
from searchanything.stores.milvus_opening import open_milvus

IMAGE = ImageRef("b", "k")
LONG_S = 1000.0


def filled(store: IndexStore, *, created_at_ms: int) -> RegionIndex:
    index = store.create(replace(manifest_of(uuid4().hex * 2), created_at_ms=created_at_ms), HASH_LAYER)
    generation = fresh_generation()
    index.insert_regions([region_row(IMAGE, generation=generation)])
    index.insert_images([image_row(IMAGE, generation=generation)])
    return index


def test_what_was_replaced_is_released_later_and_read_all_the_same(open_store: StoreOpener) -> None:
    store, other = open_store(), open_store()
    now_ms = int(time.time() * 1000)
    old, filling = (filled(store, created_at_ms=now_ms + number) for number in (1, 2))
    name = old.manifest.fingerprint
    store.switch(name)
    assert other.release_replaced(0.0) == []  # the other one was never live
    new = filled(store, created_at_ms=now_ms)  # older than both by its date, which therefore tells nothing of them
    live = new.manifest.fingerprint
    store.switch(live)
    assert other.release_replaced(LONG_S) == []
    assert not store.is_released(name)

    released = other.release_replaced(0.0)
    assert released in ([], [name])
    assert store.is_released(name) == bool(released)
    assert not store.is_released(live)
    assert not store.is_released(filling.manifest.fingerprint)
    assert other.release_replaced(0.0) == []
    assert other.open(live).newest([IMAGE])

    assert store.open(name).newest([IMAGE])  # opened on purpose
    assert not other.is_released(name)
    assert other.release_replaced(0.0) == released
    store.switch(name)  # back to the former
    assert not other.is_released(name)
    assert store.live() == old.manifest
    assert other.release_replaced(0.0) == ([live] if released else [])
    for index in (new, filling):
        store.drop(index.manifest.fingerprint)


@pytest.mark.server
def test_a_server_releases_all_collections_and_a_handle_from_before_goes_on(milvus_server: MilvusServer) -> None:
    settings = MilvusSettings(uri=milvus_server.uri, collection_prefix=f"t{uuid4().hex[:8]}_")
    client = MilvusClient(milvus_server.uri, timeout=30, dedicated=True)
    with open_milvus(settings) as store, open_milvus(settings) as other:
        old, new = (filled(store, created_at_ms=number) for number in (1, 2))
        old = store.add_words(old.manifest.fingerprint, b"layer", bits=64)
        assert old.words is not None
        names = [*old.collections, old.words.collection]
        store.switch(old.manifest.fingerprint)
        store.switch(new.manifest.fingerprint)
        doings = [
            lambda: old.newest([IMAGE]),
            lambda: old.search(random_codes(1), limit=1)[0],
            lambda: list(old.iterate_images()),
            lambda: old.counts().images,
            lambda: old.delete_images([IMAGE]) or "done",
        ]
        for doing in doings:
            assert other.release_replaced(0.0) == [old.manifest.fingerprint]
            states = [client.get_load_state(name, timeout=30)["state"] for name in names]
            assert states == [LoadState.NotLoad] * 3
            assert doing()
        assert old.newest([IMAGE]) == {}
        assert client.get_load_state(new.collections[0], timeout=30)["state"] is LoadState.Loaded
    client.close()
