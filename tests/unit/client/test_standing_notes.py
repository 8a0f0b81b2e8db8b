"""What is noted of standing queries: how far each has come, and what it was made of."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from typing import Any, Final

import numpy as np
import pytest

from searchanything.answers.standing_answers import StandingQuery
from searchanything.client.lease import CheckLease
from searchanything.client.standing_memory import (
    DELIVERED,
    FETCHED,
    LONGEST_PAUSE_S,
    Kept,
    Looked,
    StandingMemory,
    first_look,
    note_of_looks,
    text_features,
)
from searchanything.core.errors import IndexDamagedError, UsageError
from searchanything.features.parquet import FeatureBatch
from searchanything.stores.memory import MemoryIndexStore

QUERY: Final = StandingQuery("a" * 16, "red", "images", 1e-4, 50, {"kind": "image"}, new_from_ms=20, known={"x": 30})
PAUSE_MS: Final = round(1000 * LONGEST_PAUSE_S)


def test_a_query_that_was_never_asked_begins_where_it_was_added() -> None:
    assert first_look(QUERY) == Looked(50, 20, {"x": 30})
    assert note_of_looks(QUERY) == FETCHED
    assert note_of_looks(replace(QUERY, webhook="http://host/")) == DELIVERED


def test_a_try_that_succeeded_leaves_no_failure_and_what_comes_again_leaves_it() -> None:
    failed = Looked(50, 20, {"x": 30}, failures=2, error="why", not_before_ms=90)
    assert failed.with_seen({"y": 40, "x": 35}) == Looked(50, 20, {"x": 35, "y": 40})
    assert failed.with_again({"y": 40}) == replace(failed, seen={"x": 30, "y": 40})


def test_how_far_a_query_has_come_goes_on_alone() -> None:
    looked = Looked(50, 20, {"x": 30, "y": 40})
    assert looked.until(60) == replace(looked, until_ms=60)
    assert looked.until(49) == looked
    assert looked.new_from(30) == replace(looked, new_from_ms=30)
    assert looked.new_from(31) == replace(looked, new_from_ms=31, seen={"y": 40}), "what is older is not new again"
    assert looked.new_from(19) == looked
    assert looked.done(overlap_ms=15) == looked.new_from(35)


def test_what_a_clock_ahead_noted_counts_from_now() -> None:
    looked = Looked(90, 70, {"x": 80}, error="why")
    assert looked.at(70, overlap_ms=5) == looked
    assert looked.at(69, overlap_ms=5) == replace(looked, until_ms=69, new_from_ms=64)


@pytest.mark.parametrize(
    ("before_ms", "due"),
    [(0, True), (1000, True), (1001, False), (1000 + PAUSE_MS, False), (1001 + PAUSE_MS, True)],
)
def test_a_pause_is_waited_for_that_is_none_of_a_clock_ahead(before_ms: int, due: bool) -> None:
    assert Looked(0, not_before_ms=before_ms).is_due(1000) == due


def test_looks_are_noted_as_they_were() -> None:
    memory = StandingMemory(MemoryIndexStore())
    looked = {"a": Looked(50, 20, {"x": 30}, 2, "why", 90), "b": Looked(7)}
    memory.keep_looked(FETCHED, looked)
    assert memory.looked(FETCHED) == looked
    assert memory.looked(DELIVERED) == {}


@pytest.mark.parametrize(
    "change",
    [
        *({name: one} for name in ("until_ms", "new_from_ms", "failures", "not_before_ms") for one in ("1", 1.0, True)),
        *({"error": 5}, {"error": None}, {"seen": {"x": "1"}}, {"seen": [1]}, {"more": 1}),
    ],
)
def test_a_note_of_other_values_is_none(change: dict[str, Any]) -> None:
    memory = StandingMemory(MemoryIndexStore())
    sound = {"until_ms": 1, "new_from_ms": 2, "seen": {"x": 3}, "failures": 4, "error": "why", "not_before_ms": 5}
    memory.indexes.remember(FETCHED, json.dumps({"a": sound}).encode())
    assert memory.looked(FETCHED) == {"a": Looked(**sound)}
    memory.indexes.remember(FETCHED, json.dumps({"a": sound | change}).encode())
    assert memory.looked(FETCHED) == {}


def some_kept() -> Kept:
    rng = np.random.default_rng(1)
    features = {
        name: FeatureBatch(rng.random((1, 4), dtype=np.float32), rng.random((1, 6), dtype=np.float32))
        for name in ("m" * 64, "n" * 64)
    }
    return Kept(b"a picture", features)


def test_what_a_query_was_made_of_is_kept_as_it_was() -> None:
    kept = some_kept()
    again = Kept.from_bytes(kept.to_bytes())
    assert (again.picture, again.features.keys()) == (b"a picture", kept.features.keys())
    for name, one in kept.features.items():
        np.testing.assert_array_equal(again.features[name].mask, one.mask)
        np.testing.assert_array_equal(again.features[name].image, one.image)
    words = Kept.from_bytes(Kept(b"", {"m": text_features(np.ones((1, 6), np.float32))}).to_bytes())
    assert (words.picture, words.features["m"].mask.shape, words.features["m"].image.tolist()) == (
        b"",
        (1, 0),
        [[1.0] * 6],
    )


def archive(*, packed: bool = False, **arrays: Any) -> bytes:
    buffer = BytesIO()
    (np.savez_compressed if packed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive",
        some_kept().to_bytes()[:-30],
        archive(picture=np.zeros(9, np.uint8), **{"m.mask": np.zeros((1, 4))}),
        archive(picture=np.array([{}], dtype=object)),
        archive(packed=True, picture=np.zeros(100_000, np.uint8)),
        archive(other=np.zeros(9, np.uint8)),
    ],
)
def test_what_was_not_kept_is_said_to_be_damaged(data: bytes) -> None:
    memory = StandingMemory(MemoryIndexStore())
    memory.indexes.remember(f"standing-{QUERY.id}", data)
    with pytest.raises(UsageError, match="'red' was made of cannot be read"):
        memory.kept(QUERY)


def test_queries_come_in_the_order_they_were_added() -> None:
    memory = StandingMemory(MemoryIndexStore())
    queries = [replace(QUERY, id=letter * 16, created_at_ms=at) for letter, at in zip("cab", (1, 2, 3), strict=True)]
    for one in reversed(queries):
        memory.keep_query(one)
    assert memory.queries() == queries


@pytest.mark.parametrize(
    ("note", "message"),
    [
        (b"{", "cannot be read"),
        (b"[]", "cannot be read"),
        (b'{"format": 1, "query": 5}', "cannot be read"),
        (json.dumps({"format": 1, "query": QUERY.to_json() | {"kind": "other"}}).encode(), "cannot be read"),
        (json.dumps({"format": 2, "query": QUERY.to_json()}).encode(), "is of format 2, this program reads 1: update"),
    ],
)
def test_a_query_that_cannot_be_read_is_damage(note: bytes, message: str) -> None:
    memory = StandingMemory(MemoryIndexStore())
    memory.indexes.remember(f"standing-query-{QUERY.id}", note)
    with pytest.raises(IndexDamagedError, match=message):
        memory.queries()


def test_of_a_query_that_was_removed_nothing_is_left_whatever_is_made_of_it_later() -> None:
    memory = StandingMemory(MemoryIndexStore())
    memory.keep(QUERY, some_kept())
    memory.keep_query(QUERY)
    memory.keep_again(QUERY, Kept(b"another", {}))
    assert memory.kept(QUERY).picture == b"another"
    memory.forget(QUERY)
    names = f"standing-{QUERY.id}", f"standing-query-{QUERY.id}"
    assert [memory.indexes.recall(name) for name in names] == [b"", b""]
    assert memory.queries() == []
    memory.keep_again(QUERY, some_kept())
    assert [memory.indexes.recall(name) for name in names] == [b"", b""]


def test_notes_are_all_of_the_queries_and_nothing_else() -> None:
    memory = StandingMemory(MemoryIndexStore())
    memory.keep_looked(FETCHED, {QUERY.id: Looked(1)})
    assert memory.notes() == {}, "of no query"
    memory.keep(QUERY, some_kept())
    memory.keep_query(QUERY)
    memory.indexes.remember("standing-lease", b"a lease")
    notes = memory.notes()
    assert [*notes] == [f"standing-query-{QUERY.id}", f"standing-{QUERY.id}", FETCHED]
    assert notes == {name: memory.indexes.recall(name) for name in notes}
    memory.check_notes(notes)
    for name in ("standing-lease", f"standing-{'b' * 16}", "standing-query-"):
        with pytest.raises((ValueError, IndexDamagedError)):
            memory.check_notes(notes | {name: b"?"})
    with pytest.raises(ValueError, match="no NumPy archive"):
        memory.check_notes(notes | {f"standing-{QUERY.id}": b"?"})


def test_a_change_is_made_again_where_another_one_took_over_after_it_had_looked() -> None:
    """Which may have read before this one wrote, and write after it."""
    memory, made = StandingMemory(MemoryIndexStore()), list[bytes]()
    lease = f"{FETCHED}-lease"
    another = {"by": "another", "at": 0.0, "of": [], "machine": "elsewhere", "pid": 1}  # and was killed

    def change(check: CheckLease) -> None:
        made.append(memory.indexes.recall(FETCHED))
        check(now=True)
        memory.indexes.remember(FETCHED, b"%d" % len(made))
        if len(made) == 1:
            memory.indexes.remember(lease, json.dumps(another).encode())

    memory.edit(change, FETCHED)
    assert made == [b"", b"1"]
    assert memory.indexes.recall(lease) == b""
