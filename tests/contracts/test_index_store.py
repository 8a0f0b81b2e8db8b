"""What every index store must do: indexes by fingerprint, their hash layers, and which one is live."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from uuid import uuid4

import pytest
from contracts.conftest import StoreOpener
from contracts.index_rows import HASH_LAYER, fresh_generation, image_row, manifest_of, region_row

from searchanything.core.codes import next_generation
from searchanything.core.errors import IndexMismatchError, IndexNotFoundError, RegionIndexError
from searchanything.core.manifest import IndexManifest
from searchanything.core.protocols import IndexStore
from searchanything.core.types import ImageRef
from searchanything.encode.fingerprint import SCHEMA_VERSION
from searchanything.stores import milvus_meta


@pytest.fixture(scope="module")
def fresh_store(open_store: StoreOpener) -> IndexStore:
    """The store before anything was made in it: the first test of this module uses it up."""
    return open_store()


def test_an_index_from_its_making_to_its_end(fresh_store: IndexStore, open_store: StoreOpener) -> None:
    store, other = fresh_store, open_store()
    assert (store.live(), store.manifests()) == (None, [])
    store.check_writable()
    with pytest.raises(IndexNotFoundError):
        store.open("f" * 64)
    with pytest.raises(IndexNotFoundError):
        store.hash_layer("f" * 64)

    first, second = (replace(manifest_of(uuid4().hex * 2), created_at_ms=number) for number in (1, 2))
    index = store.create(first, HASH_LAYER)
    assert index.manifest == first
    assert (store.live(), store.manifests()) == (None, [first])
    store.switch(first.fingerprint)
    assert (store.live(), other.live()) == (first, first)

    image, generation = ImageRef("b", "k"), fresh_generation()
    index.insert_regions([region_row(image, generation=generation)])
    index.insert_images([image_row(image, generation=generation)])
    again = other.create(replace(first, created_at_ms=99, details={}), HASH_LAYER)  # idempotent: the first one stays
    assert again.manifest == first
    assert again.newest([image]).keys() == {image}
    refuse_contradictions(store, first)

    store.create(second, HASH_LAYER[:100])
    assert store.live() == first
    assert store.manifests() == [first, second]
    assert other.open(second.fingerprint).newest([image]) == {}
    assert other.hash_layer(first.fingerprint) == HASH_LAYER
    assert other.hash_layer(second.fingerprint) == HASH_LAYER[:100]
    for manifest in (second, first, second):
        other.switch(manifest.fingerprint)
        assert (store.live(), other.live()) == (manifest, manifest)

    with pytest.raises(RegionIndexError, match="live"):
        store.drop(second.fingerprint)
    store.drop(first.fingerprint)
    assert other.manifests() == [second]
    with pytest.raises(IndexNotFoundError):
        other.open(first.fingerprint)
    with pytest.raises(IndexNotFoundError):
        other.switch(first.fingerprint)
    with pytest.raises(IndexNotFoundError):
        other.drop(first.fingerprint)
    assert other.live() == second
    assert store.create(first, HASH_LAYER).newest([image]) == {}


def refuse_contradictions(store: IndexStore, manifest: IndexManifest) -> None:
    with pytest.raises(IndexMismatchError, match="bits"):
        store.create(replace(manifest, bits=64), HASH_LAYER)
    with pytest.raises(IndexMismatchError, match="schema_version"):
        store.create(replace(manifest, schema_version=99), HASH_LAYER)
    with pytest.raises(IndexMismatchError, match="hash layer"):
        store.create(manifest, HASH_LAYER + b"x")
    assert store.hash_layer(manifest.fingerprint) == HASH_LAYER


def test_what_is_remembered_is_recalled_by_others(open_store: StoreOpener) -> None:
    store, other, name = open_store(), open_store(), f"note-{uuid4().hex}"
    assert store.recall(name) == b""
    for size in (1, 45_000, 45_001, 300_000, 6, 45_001, 0):  # one piece and several, longer and shorter than before
        data = bytes(range(256)) * (size // 256) + bytes(size % 256)
        store.remember(name, data)
        assert other.recall(name) == data
    assert (store.recall(name), store.recall(f"{name}-2")) == (b"", b"")
    assert all(not manifest.fingerprint.startswith("note") for manifest in store.manifests())


def test_notes_are_recalled_together_by_how_their_names_begin(open_store: StoreOpener) -> None:
    store, other, name = open_store(), open_store(), f"note-{uuid4().hex}"
    large = bytes(range(256)) * 400
    for end, data in (("-a", b"first"), ("-b", large), ("-c", b"gone"), ("", b"other"), ("-a", b"last"), ("-c", b"")):
        store.remember(f"{name}{end}", data)
    found = other.recall_all(f"{name}-")
    assert list(found.items()) == [(f"{name}-b", large), (f"{name}-a", b"last")]
    assert other.recall_all(f"{name}-d") == {}


def test_the_last_note_counts_whatever_clock_wrote_the_one_before(
    open_store: StoreOpener, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other, name = open_store(), open_store(), f"note-{uuid4().hex}"
    with monkeypatch.context() as ahead:
        ahead.setattr(milvus_meta, "next_generation", lambda **_: next_generation() + 3600 * 10**9)
        store.remember(name, b"by a clock that is an hour ahead")
    for data in (b"later", b"later than that", b""):
        other.remember(name, data)
        assert store.recall(name) == data


def test_the_store_is_usable_after_close(open_store: StoreOpener) -> None:
    store = open_store()
    before = store.live()
    store.close()
    store.close()
    assert store.live() == before


@pytest.mark.parametrize(
    ("later", "told"), [(1, "a newer searchanything made it; upgrade"), (-1, "an earlier .* under another --uri")]
)
def test_rows_of_another_version_are_refused_with_the_way_out(store: IndexStore, later: int, told: str) -> None:
    manifest = replace(manifest_of(uuid4().hex * 2), schema_version=SCHEMA_VERSION + later)
    with contextlib.suppress(IndexMismatchError):
        store.create(manifest, HASH_LAYER)
    assert manifest in store.manifests()
    with pytest.raises(IndexMismatchError, match=f"rows of index {manifest.fingerprint} are of schema .*{told}"):
        store.open(manifest.fingerprint)
    store.drop(manifest.fingerprint)
