"""Words codes: the second collection of an index, on every index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest
from contracts.conftest import Bench, StoreOpener
from contracts.index_rows import HASH_LAYER, fresh_generation, image_row, manifest_of, random_codes, region_row

from searchanything.core.codes import pack_signs
from searchanything.core.errors import IndexMismatchError, RegionIndexError
from searchanything.core.protocols import IndexStore
from searchanything.core.rows import RegionRow, StoredCode, row_id
from searchanything.core.types import Filter, ImageRef
from searchanything.search.by_words import search_words
from searchanything.search.rescoring import QueryValues
from searchanything.search.search import PageRequest
from searchanything.stores import milvus

LAYER, BITS, MANY = b"layer" * 9, 128, 16384


@pytest.fixture(scope="module")
def fingerprint(store: IndexStore) -> str:
    name = uuid4().hex * 2
    store.create(manifest_of(name), HASH_LAYER)
    return name


@pytest.fixture
def words_bench(store: IndexStore, fingerprint: str) -> Iterator[Bench]:
    bench = Bench(store.add_words(fingerprint, LAYER, bits=BITS))
    yield bench
    bench.index.delete_images(bench.used)


def rows_of(image: ImageRef, generation: int, count: int, *, seed: int = 1) -> list[RegionRow]:
    codes = random_codes(count, seed=seed, bits=BITS)
    return [
        replace(region_row(image, number, generation=generation), words_code=code.tobytes())
        for number, code in enumerate(codes)
    ]


def apart(left: bytes, right: bytes) -> int:
    return bin(int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).count("1")


def test_an_index_has_no_words_until_they_are_added(bench: Bench) -> None:
    row = rows_of(bench.image(), fresh_generation(), 1)[0]
    assert bench.index.words is None
    assert bench.index.count_words() == 0
    bench.index.insert_regions([row])
    assert list(bench.index.words_of([row.image])) == []
    assert list(bench.index.iterate_codes(of="words")) == []
    assert bench.index.codes_of([row.id], of="words") == {}
    for call in (
        lambda: bench.index.insert_words([row]),
        lambda: bench.index.search_words(random_codes(1, bits=BITS), limit=1),
    ):
        with pytest.raises(RegionIndexError, match="--add-words"):
            call()


def test_what_was_added_first_stays(store: IndexStore, fingerprint: str, words_bench: Bench) -> None:
    again = store.add_words(fingerprint, b"another", bits=BITS)
    for index in (again, store.open(fingerprint), words_bench.index):
        part = index.words
        assert part is not None
        assert (part.layer, part.bits) == (LAYER, BITS)
        assert part.bytes_per_region >= BITS // 8
        assert fingerprint[:16] in part.collection


def test_words_that_another_process_adds_are_seen(
    open_store: StoreOpener, store: IndexStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, other = uuid4().hex * 2, open_store()
    store.create(manifest_of(name), HASH_LAYER)
    assert other.open(name).words is None
    store.add_words(name, LAYER, bits=BITS)
    monkeypatch.setattr(milvus, "WORDS_LOOK_S", 0.0)  # a second later
    found = other.open(name).words
    assert found is not None
    assert found.layer == LAYER


def test_an_index_that_another_process_makes_anew_is_another_one(open_store: StoreOpener) -> None:
    """The same models give the same name, but words layers differ with the images that they are fitted to."""
    store, other, name, between = open_store(), open_store(), uuid4().hex * 2, uuid4().hex * 2
    first, third = open_store(), replace(manifest_of(name), created_at_ms=manifest_of(name).created_at_ms + 1)
    first.create(manifest_of(name), HASH_LAYER)
    first.switch(name)
    first.add_words(name, b"one", bits=BITS)
    assert store.live() == manifest_of(name)
    assert words_layer(store, name) == words_layer(other, name) == b"one"
    first.create(manifest_of(between), HASH_LAYER)
    first.switch(between)
    first.drop(name)
    other.create(third, HASH_LAYER)
    assert words_layer(other, name) is None
    other.switch(name)
    other.add_words(name, b"two", bits=BITS)
    assert store.live() == third
    assert words_layer(store, name) == b"two"


def words_layer(store: IndexStore, name: str) -> bytes | None:
    part = store.open(name).words
    return None if part is None else part.layer


def test_rows_are_committed_with_their_words(words_bench: Bench) -> None:
    index, image, other = words_bench.index, words_bench.image("a.jpg"), words_bench.image("b.jpg")
    generation = fresh_generation()
    rows, without = rows_of(image, generation, 5), region_row(other, 0, generation=generation)
    index.insert_regions([*rows, without])
    index.insert_images([image_row(image, generation=generation, regions=5)])
    assert dict(index.words_of([image, other])) == {row.id: row.words_code for row in rows}
    assert index.codes_of([rows[2].id, without.id], of="words") == {rows[2].id: rows[2].words_code}
    assert index.codes_of([rows[2].id]) == {rows[2].id: rows[2].code}
    plain = {row.id: replace(row, words_code=b"") for row in rows}
    assert index.regions([*plain, row_id(image, generation, 9)]) == plain
    stored = {StoredCode(row.image, generation, row.region, row.words_code) for row in rows}
    assert set(index.iterate_codes(of="words", bucket=words_bench.bucket)) == stored
    assert set(index.iterate_codes(of="words", bucket=words_bench.bucket, key_prefix="b")) == set()
    assert list(index.regions_of([image])) != []
    assert all(row.words_code == b"" for row in index.regions_of([image]))
    late = replace(without, words_code=bytes(BITS // 8))
    index.insert_words([late, late, *rows])  # what is there already stays single
    assert dict(index.words_of([other])) == {late.id: late.words_code}
    assert len(list(index.words_of([image]))) == 5


def test_nearest_by_words_and_filters(words_bench: Bench) -> None:
    index, image, other = words_bench.index, words_bench.image("a/1.jpg"), words_bench.image("b/2.jpg")
    generation = fresh_generation()
    rows = [*rows_of(image, generation, 12), *rows_of(other, generation, 12, seed=2)]
    rows = [replace(row, metadata={"shelf": row.image.key[0]}) for row in rows]
    index.insert_regions(rows)
    asked = random_codes(1, seed=3, bits=BITS)
    here = Filter(bucket=words_bench.bucket)
    [found] = index.search_words(asked, limit=30, filter=here)
    expected = sorted((apart(row.words_code, asked[0].tobytes()), row.id) for row in rows)
    assert [(one.distance_bits, one.id) for one in found] == expected
    assert {(one.image, one.generation) for one in found} == {(image, generation), (other, generation)}
    for narrowed, keeps in (
        (replace(here, key_prefix="b/"), lambda row: row.image == other),
        (replace(here, area_px=(903, 905)), lambda row: 903 <= row.area_px <= 905),
        (replace(here, metadata={"shelf": "a"}), lambda row: row.image == image),
        (replace(here, exclude=(image,)), lambda row: row.image == other),
        (replace(here, expression="region in [1, 2]"), lambda row: row.region in (1, 2)),
    ):
        [found] = index.search_words(asked, limit=30, filter=narrowed)
        assert {one.id for one in found} == {row.id for row in rows if keeps(row)}
    for limit in (0, MANY + 1):
        with pytest.raises(RegionIndexError, match="limit"):
            index.search_words(asked, limit=limit)
    with pytest.raises(IndexMismatchError):
        index.search_words(random_codes(1, bits=256), limit=1)
    with pytest.raises(IndexMismatchError):
        index.insert_words([replace(rows[0], words_code=b"short")])


def test_deletions_take_the_words_along(words_bench: Bench) -> None:
    index, image, kept = words_bench.index, words_bench.image("a.jpg"), words_bench.image("b.jpg")
    old, new = fresh_generation(), fresh_generation()
    before = index.count_words()
    index.insert_regions([*rows_of(image, old, 3), *rows_of(image, new, 2), *rows_of(kept, old, 4)])
    assert index.count_words() == before + 9
    assert index.count_words(bucket=words_bench.bucket, key_prefix="a") == 5
    assert index.count_words(bucket=words_bench.bucket, key_prefix="c") == 0
    index.delete_before({image: new})
    assert {name for name, _ in index.words_of([image])} == {row_id(image, new, number) for number in range(2)}
    index.delete_regions([row_id(image, new, 1), row_id(kept, old, 3)])
    assert {name for name, _ in index.words_of([image])} == {row_id(image, new, 0)}
    index.delete_images([image])
    assert list(index.words_of([image])) == []
    assert len(list(index.words_of([kept]))) == 3


def test_a_search_by_words_skips_garbage_and_is_rescored(words_bench: Bench) -> None:
    index, image, other = words_bench.index, words_bench.image("a.jpg"), words_bench.image("b.jpg")
    old, new = fresh_generation(), fresh_generation()
    projection = np.random.default_rng(8).normal(size=BITS).astype(np.float32)
    values = QueryValues(pack_signs(projection[None])[0], projection)
    garbage = [replace(row, words_code=values.code.tobytes()) for row in rows_of(image, old, 2)]
    rows = [*rows_of(image, new, 9, seed=4), *rows_of(other, new, 9, seed=5)]
    index.insert_regions([*garbage, *rows])
    index.insert_images([image_row(one, generation=new, regions=9) for one in (image, other)])
    signs = {row.id: np.unpackbits(np.frombuffer(row.words_code, dtype=np.uint8)) * 2.0 - 1.0 for row in rows}
    near = sorted(rows, key=lambda row: (apart(row.words_code, values.code.tobytes()), row.image, row.region))
    expected = [*sorted(near[:7], key=lambda row: -float(signs[row.id] @ projection)), *near[7:]]
    here = Filter(bucket=words_bench.bucket)
    page = search_words(index, values, PageRequest(limit=20, rescore=7), filter=here)
    assert page.exact
    assert [(hit.image, hit.region) for hit in page.hits] == [(row.image, row.region) for row in expected]
    assert [hit.mask for hit in page.hits] == [row.mask for row in expected]
    middle = search_words(index, values, PageRequest(limit=5, offset=4, rescore=7), filter=here)
    assert middle.hits == page.hits[4:9]
    grouped = search_words(index, values, PageRequest(group_by_image=True, rescore=7), filter=here)
    assert [hit.image for hit in grouped.hits] == list(dict.fromkeys(row.image for row in expected))


def test_a_dropped_index_takes_its_words_along(store: IndexStore) -> None:
    name = uuid4().hex * 2
    store.create(manifest_of(name), HASH_LAYER)
    store.add_words(name, LAYER, bits=BITS)
    store.drop(name)
    assert store.create(manifest_of(name), HASH_LAYER).words is None
    store.drop(name)
