"""The least that users of a Milvus server must be allowed: who asks, and who writes (docs/cluster.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TypeVar
from uuid import uuid4

import pytest
from contracts.index_rows import HASH_LAYER, image_row, manifest_of, random_codes, region_row
from integration.milvus_server import ROOT, MilvusServer
from pymilvus import MilvusClient

from searchanything.core.errors import FilterError, RegionIndexError
from searchanything.core.protocols import IndexStore
from searchanything.core.settings import MilvusSettings
from searchanything.core.types import Filter, ImageRef
from searchanything.stores.milvus_errors import NotAllowedError
from searchanything.stores.milvus_opening import open_milvus

pytestmark = pytest.mark.server
READER = ("Search", "Query")
WRITER = (*READER, "Insert", "Delete", "Load", "CreateIndex", "Release")
WRITER_EVERYWHERE = ("CreateCollection", "DropCollection", "CreateAlias", "DropAlias")
KNOWN_WITHIN_S = 30.0  # a server's parts learn of a grant some seconds later
NAME, IMAGE = "f" * 64, ImageRef("b", "k")
Found = TypeVar("Found")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    server = MilvusServer(tmp_path_factory.mktemp("rights"), users=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def root(server: MilvusServer) -> Iterator[MilvusClient]:
    with closing(MilvusClient(server.uri, token=ROOT, timeout=30, dedicated=True)) as client:
        for role, granted, everywhere in (("asks", READER, ()), ("writes", WRITER, WRITER_EVERYWHERE)):
            client.create_user(role, "secret12")
            client.create_role(role)
            client.grant_role(role, role)
            for kind, names in (("Collection", granted), ("Global", everywhere)):
                for name in names:
                    client.grant_privilege(role, kind, name, "*")
        yield client


def opened(server: MilvusServer, prefix: str, token: str) -> IndexStore:
    return open_milvus(MilvusSettings(uri=server.uri, collection_prefix=prefix, token=token))


def once_known(ask: Callable[[], Found]) -> Found:
    deadline = time.monotonic() + KNOWN_WITHIN_S
    while True:
        try:
            return ask()
        except NotAllowedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def test_who_writes_makes_fills_switches_and_drops_an_index(server: MilvusServer, root: MilvusClient) -> None:  # noqa: ARG001
    with opened(server, f"t{uuid4().hex[:8]}_", "writes:secret12") as store:
        index = once_known(lambda: store.create(manifest_of(NAME), HASH_LAYER))
        store.switch(NAME)
        code = random_codes(1)
        index.insert_regions([region_row(IMAGE, 0, generation=1, code=code[0].tobytes())])
        index.insert_images([image_row(IMAGE, generation=1, regions=1)])
        assert [hit.image for hit in index.search(code, limit=1)[0]] == [IMAGE]
        store.add_words(NAME, b"layer", bits=64)
        index.delete_images([IMAGE])
        assert index.newest([IMAGE]) == {}
        store.create(manifest_of("0" * 64), HASH_LAYER)
        store.switch("0" * 64)
        assert len(store.release_replaced(0.0)) > 0
        store.drop(NAME)
        assert [one.fingerprint for one in store.manifests()] == ["0" * 64]
        store.withdraw()
        assert store.live() is None


def test_who_asks_searches_what_is_loaded_and_changes_nothing(server: MilvusServer, root: MilvusClient) -> None:
    prefix, code = f"t{uuid4().hex[:8]}_", random_codes(1)
    with opened(server, prefix, ROOT) as store:
        index = store.create(manifest_of(NAME), HASH_LAYER)
        store.switch(NAME)
        index.insert_regions([region_row(IMAGE, 0, generation=1, code=code[0].tobytes())])
        index.insert_images([image_row(IMAGE, generation=1, regions=1)])
    with opened(server, prefix, "asks:secret12") as store:
        live = once_known(store.live)
        assert live is not None
        index = store.open(live.fingerprint)
        assert [hit.image for hit in index.search(code, limit=1)[0]] == [IMAGE]
        assert index.counts().regions == 1
        with pytest.raises(
            RegionIndexError, match=r"PrivilegeInsert.*grant it to the user of SEARCHANYTHING_MILVUS__TOKEN"
        ):
            index.insert_images([image_row(IMAGE, generation=2, regions=0)])
        root.revoke_privilege("asks", "Collection", "Search", "*")
        deadline, refused = time.monotonic() + KNOWN_WITHIN_S, None
        while refused is None and time.monotonic() < deadline:
            try:
                index.search(code, limit=1, filter=Filter(expression="area_px > 0"))
            except RegionIndexError as error:
                refused = error
        assert "PrivilegeSearch" in str(refused)
        assert not isinstance(refused, FilterError), "the expression is not to blame"
        for name in index.collections:
            root.release_collection(name)
        with pytest.raises(NotAllowedError, match="PrivilegeLoad"):
            store.open(live.fingerprint).newest([IMAGE])
