"""The exact index where the contract suite does not look: ties at the cut, growth, and a scan without shortcuts."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from contracts.index_rows import HASH_LAYER, manifest_of, random_codes, region_row
from hypothesis import given
from hypothesis import strategies as st

from searchanything.core.errors import IndexNotFoundError
from searchanything.core.rows import RegionRow
from searchanything.core.types import ImageRef
from searchanything.stores.memory import MemoryIndexStore, MemoryRegionIndex

IMAGE = ImageRef("bucket", "key")
QUERY = np.array([[0b1010_0000]], dtype=np.uint8)


def index_of(rows: list[RegionRow], bits: int = 8) -> MemoryRegionIndex:
    index = MemoryRegionIndex(manifest_of("f" * 64, bits))
    index.insert_regions(rows)
    return index


@given(codes=st.lists(st.integers(0, 255), max_size=40), limit=st.integers(1, 45))
def test_the_cut_goes_by_distance_and_id(codes: list[int], limit: int) -> None:
    rows = [region_row(IMAGE, number, generation=1, code=bytes([code])) for number, code in enumerate(codes)]
    [hits] = index_of(rows).search(QUERY, limit=limit)
    by_hand = sorted(((row.code[0] ^ 0b1010_0000).bit_count(), row.id, row.region) for row in rows)[:limit]
    assert [(hit.distance_bits, hit.region) for hit in hits] == [(distance, region) for distance, _, region in by_hand]


def test_rows_keep_their_codes_through_growth_and_deletion() -> None:
    codes = random_codes(5000, seed=3)
    index = MemoryRegionIndex(manifest_of("f" * 64))
    images = [ImageRef("bucket", str(number)) for number in range(50)]
    for number, image in enumerate(images):
        part = codes[number * 100 : number * 100 + 100]
        index.insert_regions([region_row(image, i, generation=1, code=code.tobytes()) for i, code in enumerate(part)])
    index.delete_images(images[::2])
    assert index.counts().regions == 2500
    for number in (1, 25, 49):
        [[hit]] = index.search(codes[number * 100 + 7][None], limit=1)
        assert (hit.image, hit.region, hit.distance_bits) == (images[number], 7, 0)
    [[hit]] = index.search(codes[7][None], limit=1)
    assert hit.distance_bits > 0, "a deleted row was found"


def test_what_is_dropped_meanwhile_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that look at the same moment: the later one must not go on with what the first one dropped."""
    store, name = MemoryIndexStore(), "f" * 64
    store.create(manifest_of(name), HASH_LAYER)
    look, both = store._entry, threading.Barrier(2)

    def looked(fingerprint: str) -> object:
        found = look(fingerprint)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.5)
        return found

    monkeypatch.setattr(store, "_entry", looked)
    with ThreadPoolExecutor(2) as pool:
        errors = [call.exception() for call in [pool.submit(store.drop, name) for _ in range(2)]]
    assert {type(error) for error in errors} == {type(None), IndexNotFoundError}


def test_stores_share_nothing() -> None:
    first, second = MemoryIndexStore(), MemoryIndexStore()
    first.create(manifest_of("f" * 64), HASH_LAYER)
    assert second.manifests() == []
    with pytest.raises(IndexNotFoundError, match="memory://"):
        second.open("f" * 64)
