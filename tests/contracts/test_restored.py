"""A backup of any index, restored into any other, answers as the first one did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from contracts.conftest import StoreOpener
from contracts.index_rows import BITS, HASH_LAYER, image_row, manifest_of, random_codes, region_row

from searchanything.backup.backup import BackupReport, back_up, restore
from searchanything.backup.files import Checked, TarPlace
from searchanything.core.codes import next_generation
from searchanything.core.errors import BackupError, UsageError
from searchanything.core.protocols import IndexStore, RegionIndex
from searchanything.core.rows import Outcome
from searchanything.core.types import Filter, ImageRef
from searchanything.stores.memory import MemoryIndexStore

F = "f" * 64
QUERIES = random_codes(5, seed=9)


def filled(store: IndexStore, images: int = 600) -> RegionIndex:
    """A live index with images of all outcomes, odd names, garbage of killed runs, and older generations."""
    index = store.create(manifest_of(F), HASH_LAYER)
    codes = iter(random_codes(3 * images + 10, seed=4))
    regions, rows = [], []
    for number in range(images):
        image, generation = ImageRef("b", f'ordner/ä "{number}".jpg'), next_generation()
        outcome = Outcome.EMPTY if number % 50 == 1 else Outcome.FAILED if number % 50 == 2 else Outcome.INDEXED
        count = 0 if outcome is not Outcome.INDEXED else number % 4
        metadata = {"n": number, "name": 'é"\\', "w": 0.1, "yes": True}
        regions += [
            region_row(image, r, generation=generation, code=next(codes).tobytes(), metadata=metadata, score=0.5)
            for r in range(count)
        ]
        code = bytes(BITS // 8) if outcome is not Outcome.INDEXED else random_codes(1, seed=number)[0].tobytes()
        row = image_row(image, generation=generation, outcome=outcome, regions=count, code=code, metadata=metadata)
        rows.append(replace(row, error="E" if outcome is Outcome.FAILED else "", modified_at_ms=number))
    first = rows[3].image
    regions.append(region_row(first, 9, generation=5))  # of a generation before the committed one
    rows.append(image_row(first, generation=5, regions=1))
    regions.append(region_row(ImageRef("b", "killed.jpg"), 0, generation=next_generation()))
    index.insert_regions(regions)
    index.insert_images(rows)
    store.switch(F)
    return index


def answers(index: RegionIndex) -> list[object]:
    """What is found, nearest first, for regions, images, and with filters."""
    return [
        [[hit for hit in hits if hit.generation > 5 and hit.image.key != "killed.jpg"] for hits in found]
        for found in (
            index.search(QUERIES, limit=2000),
            index.search(QUERIES, limit=2000, filter=Filter(metadata={"n": 7})),
            index.search(QUERIES, limit=2000, filter=Filter(expression='metadata["n"] < 9 and region == 1')),
            index.search_images(QUERIES, limit=2000),
        )
    ]


def test_there_and_back(open_store: StoreOpener, tmp_path: Path) -> None:
    truth, store, again = MemoryIndexStore(), open_store(), MemoryIndexStore()
    original = filled(truth)
    expected = BackupReport(str(tmp_path / "1.tar"), 600, sum(n % 4 for n in range(600) if n % 50 not in (1, 2)))
    target = store
    if isinstance(store, MemoryIndexStore):
        target = MemoryIndexStore()
    assert back_up(truth, TarPlace(tmp_path / "1.tar")) == expected
    assert restore(target, TarPlace(tmp_path / "1.tar")) == expected
    assert target.live() == manifest_of(F)
    assert target.hash_layer(F) == HASH_LAYER
    restored = target.open(F)
    assert restored.counts().regions == expected.regions, "garbage was carried along"
    assert answers(restored) == answers(original)
    with pytest.raises(UsageError, match="overwrites nothing"):
        restore(target, TarPlace(tmp_path / "1.tar"))

    second = back_up(target, TarPlace(tmp_path / "2.tar"))
    assert (second.images, second.regions) == (expected.images, expected.regions)
    restore(again, TarPlace(tmp_path / "2.tar"))
    assert answers(again.open(F)) == answers(original)
    images = {row.image: row for row in again.open(F).iterate_images()}
    assert images == {row.image: row for row in original.iterate_images() if row.generation > 5}


def cleared(store: IndexStore) -> IndexStore:
    """The tests of a module share a store."""
    store.withdraw()
    for manifest in store.manifests():
        store.drop(manifest.fingerprint)
    return store


def test_an_emptied_index_makes_room(open_store: StoreOpener, tmp_path: Path) -> None:
    """Everything was deleted by mistake: the live index is empty, and what is restored takes its place as a whole."""
    truth, store, image = MemoryIndexStore(), cleared(open_store()), ImageRef("b", "k")
    filled(truth, images=20)
    back_up(truth, TarPlace(tmp_path / "1.tar"))
    index = store.create(manifest_of(F), HASH_LAYER)
    store.switch(F)
    index.insert_images([image_row(image, generation=next_generation(), regions=0)])
    index.delete_images([image])
    cut = (tmp_path / "1.tar").read_bytes()[:-4096]
    (tmp_path / "cut.tar").write_bytes(cut)
    with pytest.raises(BackupError):
        restore(store, TarPlace(tmp_path / "cut.tar"))
    assert store.live() is None, "part of a backup is live"
    assert restore(store, TarPlace(tmp_path / "1.tar")).images == 20
    assert store.live() == manifest_of(F)


def test_what_was_indexed_meanwhile_stays_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is live during a restore: who indexes then makes an index, which is overwritten as little as any."""
    truth, store, other, image = MemoryIndexStore(), MemoryIndexStore(), "e" * 64, ImageRef("b", "k")
    filled(truth, images=20)
    back_up(truth, TarPlace(tmp_path / "1.tar"))
    members = Checked.members

    def slow(checked: Checked) -> Iterator[tuple[str, bytes]]:
        yield from members(checked)
        index = store.create(manifest_of(other), HASH_LAYER)
        store.switch(other)
        index.insert_images([image_row(image, generation=next_generation(), regions=0)])

    monkeypatch.setattr(Checked, "members", slow)
    with pytest.raises(UsageError, match="overwrites nothing"):
        restore(store, TarPlace(tmp_path / "1.tar"))
    assert store.live() == manifest_of(other)


def test_an_index_of_the_same_name_is_another_making(open_store: StoreOpener) -> None:
    store, other = cleared(open_store()), open_store()
    made = []
    for _ in range(2):
        store.create(manifest_of(F), HASH_LAYER)
        store.switch(F)
        assert other.live() == manifest_of(F)
        made.append(other.making)
        assert other.live() == manifest_of(F)
        assert other.making == made[-1]
        cleared(store)
    assert made[0] != made[1]


def test_an_index_that_holds_nothing_is_restored_too(open_store: StoreOpener, tmp_path: Path) -> None:
    truth, store = MemoryIndexStore(), cleared(open_store())
    filled(truth, images=20)
    original = truth.open(F)
    original.delete_images([row.image for row in original.iterate_images()])
    assert back_up(truth, TarPlace(tmp_path / "0.tar")).images == 0
    assert restore(store, TarPlace(tmp_path / "0.tar")).images == 0
    assert store.live() == manifest_of(F)


def test_no_index_is_live_after_the_live_one_was_withdrawn(open_store: StoreOpener) -> None:
    store = cleared(open_store())
    store.create(manifest_of(F), HASH_LAYER)
    store.switch(F)
    assert store.live() == manifest_of(F)
    store.withdraw()
    assert store.live() is None
    assert store.manifests() == [manifest_of(F)], "it is only no longer live"
    store.switch(F)
    assert store.live() == manifest_of(F)
    store.withdraw()
    store.drop(F)
    assert store.manifests() == []
