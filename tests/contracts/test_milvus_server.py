"""What only a Milvus server has: the alias as live pointer, inverted lists, and a life after kill -9."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from contracts.index_rows import BITS, HASH_LAYER, image_row, manifest_of, random_codes, region_row
from fakes.indexing import RED
from integration.milvus_server import MilvusServer
from pymilvus import DataType, MilvusClient

from searchanything.backup.backup import back_up, restore
from searchanything.backup.files import TarPlace
from searchanything.cli.kept_index import KeptIndex
from searchanything.client.opening import connect
from searchanything.core.codes import next_generation
from searchanything.core.errors import IndexMismatchError, IndexUnavailableError
from searchanything.core.protocols import RegionIndex
from searchanything.core.settings import MilvusSettings
from searchanything.core.types import Filter, ImageRef
from searchanything.stores.memory import MemoryIndexStore
from searchanything.stores.milvus_opening import open_milvus
from searchanything.stores.milvus_schema import meta_spec

pytestmark = pytest.mark.server


def test_the_alias_is_the_live_pointer_and_indexes_are_as_set(milvus_server: MilvusServer) -> None:
    prefix = f"t{uuid4().hex[:8]}_"
    settings = MilvusSettings(
        uri=milvus_server.uri, collection_prefix=prefix, index_type="BIN_IVF_FLAT", nlist=16, nprobe=16
    )
    client = MilvusClient(milvus_server.uri, timeout=30, dedicated=True)
    with open_milvus(settings) as store:
        index = store.create(manifest_of("f" * 64), HASH_LAYER)
        assert index.collections == (f"{prefix}regions_{'f' * 16}", f"{prefix}images_{'f' * 16}")
        assert not index.exact
        store.switch("f" * 64)
        assert client.describe_alias(f"{prefix}regions", timeout=30)["collection_name"] == index.collections[0]
        described = client.describe_index(index.collections[0], "code", timeout=30)
        assert (described["index_type"], described["metric_type"], described["nlist"]) == (
            "BIN_IVF_FLAT",
            "HAMMING",
            "16",
        )
        assert client.describe_index(index.collections[0], "image_id", timeout=30)["index_type"] == "Trie"
        codes = random_codes(300)
        rows = [region_row(ImageRef("b", "k"), i, generation=1, code=code.tobytes()) for i, code in enumerate(codes)]
        index.insert_regions(rows)
        [[hit]] = index.search(codes[17][None], limit=1)  # every list is searched: exact after all
        assert (hit.region, hit.distance_bits) == (17, 0)
        narrow = open_milvus(settings.model_copy(update={"nprobe": 1})).open("f" * 64)
        assert len(narrow.search(codes[:1], limit=300, filter=Filter(images=(ImageRef("b", "k"),)))[0]) == 300
        assert not open_milvus(settings.model_copy(update={"index_type": "BIN_FLAT"})).open("f" * 64).exact
    client.close()


def test_rows_of_images_are_all_that_others_wrote_before(milvus_server: MilvusServer) -> None:
    settings = MilvusSettings(uri=milvus_server.uri, collection_prefix=f"t{uuid4().hex[:8]}_")
    other = settings.model_copy(update={"uri": milvus_server.uri.replace("127.0.0.1", "localhost")})
    with open_milvus(settings) as store, open_milvus(other) as others:
        index = store.create(manifest_of("f" * 64), HASH_LAYER)
        elsewhere = others.open("f" * 64)  # whose insertions pymilvus knows of under that name alone
        for number in range(5):
            image = ImageRef("b", f"{number}.jpg")
            elsewhere.insert_regions([region_row(image, 0, generation=1)])
            assert [row.image for row in index.regions_of([image])] == [image]


def test_databases_have_live_indexes_of_their_own(milvus_server: MilvusServer) -> None:
    prefix, database = f"t{uuid4().hex[:8]}_", f"d{uuid4().hex[:8]}"
    client = MilvusClient(milvus_server.uri, timeout=30, dedicated=True)
    client.create_database(database)
    client.close()
    settings = MilvusSettings(uri=milvus_server.uri, collection_prefix=prefix)
    with open_milvus(settings) as store, open_milvus(settings.model_copy(update={"database": database})) as other:
        store.create(manifest_of("f" * 64), HASH_LAYER)
        store.switch("f" * 64)
        assert other.live() is None
        other.create(manifest_of("0" * 64), HASH_LAYER)
        other.switch("0" * 64)
        assert [one.live() for one in (store, other)] == [manifest_of("f" * 64), manifest_of("0" * 64)]


@pytest.mark.parametrize("kind", ["meta", "regions_ffffffffffffffff"])
def test_a_collection_of_somebody_else_is_named_and_left_alone(milvus_server: MilvusServer, kind: str) -> None:
    prefix = f"t{uuid4().hex[:8]}_"
    name = f"{prefix}{kind}"
    client = MilvusClient(milvus_server.uri, timeout=30, dedicated=True)
    schema = client.create_schema()
    schema.add_field("id", DataType.VARCHAR, max_length=8, is_primary=True)
    schema.add_field("code", DataType.BINARY_VECTOR, dim=BITS)
    client.create_collection(name, schema=schema)
    store = open_milvus(MilvusSettings(uri=milvus_server.uri, collection_prefix=prefix))
    with store, pytest.raises(IndexMismatchError, match=f"{name} has no field"):
        store.create(manifest_of("f" * 64), HASH_LAYER)
    assert client.list_indexes(name) == []
    client.close()


def test_a_meta_collection_that_was_cut_short_is_finished(milvus_server: MilvusServer) -> None:
    prefix = f"t{uuid4().hex[:8]}_"
    client = MilvusClient(milvus_server.uri, timeout=30, dedicated=True)
    with open_milvus(MilvusSettings(uri=milvus_server.uri, collection_prefix=prefix)) as store:
        store.remember("note", b"1")
        client.release_collection(f"{prefix}meta")
        client.drop_index(f"{prefix}meta", "code")  # as if its maker had been killed before it
    with open_milvus(MilvusSettings(uri=milvus_server.uri, collection_prefix=prefix)) as store:
        store.create(manifest_of("f" * 64), HASH_LAYER)
        assert store.recall("note") == b"1"
    client.close()


def test_a_restore_is_repeated_after_one_that_was_killed_at_its_first_call(
    milvus_server: MilvusServer, tmp_path: Path
) -> None:
    place, other = TarPlace(tmp_path / "b.tar"), MemoryIndexStore("memory://one")
    other.create(manifest_of("f" * 64), HASH_LAYER)
    other.switch("f" * 64)
    back_up(other, place)
    settings = MilvusSettings(uri=milvus_server.uri, collection_prefix=f"t{uuid4().hex[:8]}_")
    meta = meta_spec(f"{settings.collection_prefix}meta")
    client = MilvusClient(milvus_server.uri, timeout=30, dedicated=True)
    schema = client.create_schema()
    for number, field in enumerate(meta.fields):
        size = {} if field.size is None else {"dim" if field.type == "BINARY_VECTOR" else "max_length": field.size}
        schema.add_field(field.name, getattr(DataType, field.type), is_primary=number == 0, **size)
    client.create_collection(meta.name, schema=schema)
    client.close()
    with open_milvus(settings) as store:
        assert store.manifests() == []
        assert store.recall("note") == b""
        restore(store, place)
        assert store.live() == manifest_of("f" * 64)


def commit_for_ever(index: RegionIndex, committed: list[ImageRef]) -> None:
    for number in range(100_000):
        image, generation = ImageRef("b", str(number)), next_generation()
        index.insert_regions([region_row(image, i, generation=generation) for i in range(25)])
        index.insert_images([image_row(image, generation=generation)])
        committed.append(image)


@pytest.mark.slow
def test_a_kept_connection_finds_what_others_have_indexed_since(
    milvus_server: MilvusServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEARCHANYTHING_MILVUS__COLLECTION_PREFIX", f"t{uuid4().hex[:8]}_")
    (tmp_path / "a.png").write_bytes(RED)
    with connect(milvus_server.uri, preset="pico") as other, closing(KeptIndex()) as kept:
        other.index(tmp_path, hash_file="untrained")
        with kept(milvus_server.uri, None) as client:
            assert [hit.image.key for hit in client.query(tmp_path / "a.png").hits] == ["a.png"]
            kept_store = client._indexes
        (tmp_path / "b.png").write_bytes(RED)
        other.index(tmp_path)
        with kept(milvus_server.uri, None) as client:
            assert client._indexes is kept_store
            assert sorted(hit.image.key for hit in client.query(tmp_path / "a.png").hits) == ["a.png", "b.png"]
        other.delete(tmp_path)
        with kept(milvus_server.uri, None) as client:
            assert client.query(tmp_path / "a.png").hits == ()


def test_what_was_committed_survives_the_server(tmp_path: Path) -> None:
    server = MilvusServer(tmp_path / "milvus", channels=16)
    server.start()
    try:
        with open_milvus(MilvusSettings(uri=server.uri, timeout_s=20)) as store:
            index = store.create(manifest_of("f" * 64), HASH_LAYER)
            store.switch("f" * 64)
            committed: list[ImageRef] = []
            threading.Timer(2.0, server.kill).start()
            with pytest.raises(IndexUnavailableError):
                commit_for_ever(index, committed)
        server.start()
        with open_milvus(MilvusSettings(uri=server.uri, consistency="Strong")) as store:
            live = store.live()
            assert live is not None
            index = store.open(live.fingerprint)
            newest = index.newest(committed)
            assert newest.keys() == set(committed)
            assert len(committed) > 5
            for image in (committed[0], committed[-1]):
                zero = np.zeros((1, BITS // 8), dtype=np.uint8)
                [hits] = index.search(zero, limit=100, filter=Filter(key_prefix=image.key))
                assert sorted(hit.region for hit in hits if hit.image == image) == list(range(25))
    finally:
        server.stop()
