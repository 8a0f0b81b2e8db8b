"""Of new indexes that several processes made at the same time, all take one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from contracts.index_rows import HASH_LAYER, fresh_generation, image_row, manifest_of

from searchanything.client.made_together import NEW_MS, agreed_index, drop_empty, taken_meanwhile
from searchanything.core.types import ImageRef
from searchanything.stores.memory import MemoryIndexStore

OWN = manifest_of("f" * 64)
EARLIER = replace(OWN, fingerprint="e" * 64, created_at_ms=OWN.created_at_ms - 1000)


@pytest.fixture
def indexes() -> MemoryIndexStore:
    store = MemoryIndexStore()
    for made in (OWN, EARLIER):
        store.create(made, HASH_LAYER)
    return store


def write_into(indexes: MemoryIndexStore, fingerprint: str) -> None:
    image, age = ImageRef("b", "a.png"), fresh_generation()
    indexes.open(fingerprint).insert_images([image_row(image, generation=age, code=bytes(OWN.bits // 8))])


def test_it_is_the_oldest_of_the_new_ones(indexes: MemoryIndexStore) -> None:
    assert agreed_index(indexes, OWN, None) == agreed_index(indexes, EARLIER, None) == EARLIER


@pytest.mark.parametrize(
    "changes",
    [
        {"created_at_ms": OWN.created_at_ms - NEW_MS},
        {"feature_fingerprint": "b" * 64},
        {"hash_trained": False},
    ],
    ids=["left by a run of before", "of other models", "not trained"],
)
def test_others_are_no_new_ones(indexes: MemoryIndexStore, changes: dict[str, Any]) -> None:
    other = replace(EARLIER, **changes)
    indexes.drop(EARLIER.fingerprint)
    indexes.create(other, HASH_LAYER)
    assert agreed_index(indexes, OWN, None) == OWN


def test_one_that_somebody_wrote_into_is_taken_where_it_is_live_alone(indexes: MemoryIndexStore) -> None:
    write_into(indexes, EARLIER.fingerprint)
    assert agreed_index(indexes, OWN, None) == OWN
    indexes.switch(EARLIER.fingerprint)
    assert agreed_index(indexes, OWN, None) == EARLIER


def test_who_switched_first_is_followed_by_who_began_before(indexes: MemoryIndexStore) -> None:
    indexes.switch(OWN.fingerprint)
    assert agreed_index(indexes, EARLIER, None) == OWN


def test_what_is_replaced_is_not_taken_again(indexes: MemoryIndexStore) -> None:
    """It is live and empty, and the oldest."""
    assert not taken_meanwhile(indexes, None)
    indexes.switch(EARLIER.fingerprint)
    assert not taken_meanwhile(indexes, EARLIER)
    assert agreed_index(indexes, OWN, EARLIER) == OWN
    assert taken_meanwhile(indexes, None)
    assert taken_meanwhile(indexes, OWN)
    write_into(indexes, EARLIER.fingerprint)
    assert taken_meanwhile(indexes, EARLIER)


def test_what_was_replaced_is_dropped_unless_somebody_wrote_into_it(
    indexes: MemoryIndexStore, caplog: pytest.LogCaptureFixture
) -> None:
    write_into(indexes, OWN.fingerprint)
    for _ in range(2):  # another process may have been faster
        drop_empty(indexes, EARLIER)
    drop_empty(indexes, OWN)
    assert indexes.manifests() == [OWN]
    assert [record.getMessage() for record in caplog.records] == [
        "another process wrote into the index that was replaced: searchanything index SOURCE again"
    ]
