"""What the meta collection of an index keeps, whenever its writer is killed and in whatever order rows come back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from contracts.index_rows import manifest_of

from searchanything.core.errors import IndexDamagedError, IndexMismatchError, IndexNotFoundError, RegionIndexError
from searchanything.stores import milvus_meta
from searchanything.stores.milvus_connection import MilvusConnection
from searchanything.stores.milvus_meta import MetaCollection, StoredManifest

FINGERPRINT = "ab" * 32
LAYER, OTHER_LAYER = bytes(range(40)), bytes(range(50, 90))


class KilledError(Exception):
    """The end of a process."""


@dataclass
class Table:
    """A server with one collection: the last row written comes back first, and after so many steps it is killed."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    steps_left: int = 1_000_000
    absent: bool = False
    uri: str = "http://milvus.example"

    def connection(self) -> MilvusConnection:
        return cast("MilvusConnection", self)

    def has_collection(self, _: str) -> bool:
        return True

    def load(self, _: str) -> None:
        pass

    def insert(self, _: str, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            self.step()
            self.rows.insert(0, row)

    def delete(self, _: str, expression: str) -> None:
        self.step()
        self.rows = [row for row in self.rows if not self.matches(expression, row)]

    def query(self, _: str, expression: str, __: Sequence[str], *, strong: bool) -> list[dict[str, Any]]:  # noqa: ARG002
        return [row for row in self.rows if self.matches(expression, row)]

    def step(self) -> None:
        self.steps_left -= 1
        if self.steps_left < 0:
            raise KilledError

    @staticmethod
    def matches(expression: str, row: dict[str, Any]) -> bool:
        """These expressions of Milvus are Python's."""
        return bool(eval(expression, {}, row))  # noqa: S307 - of the package


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milvus_meta, "_PIECE_BYTES", 3)


def stored(meta: MetaCollection, layer: bytes, *, fingerprint: str = FINGERPRINT, created_at_ms: int = 1) -> None:
    """An index as `create` writes it."""
    attempt, pieces = meta.keep_hash_layer(fingerprint, layer)
    manifest = replace(manifest_of(fingerprint), created_at_ms=created_at_ms)
    meta.add(StoredManifest(manifest, attempt, pieces, hashlib.sha256(layer).hexdigest()))


@pytest.mark.parametrize("after", [b"", b"ab", bytes(range(40)), bytes(range(100, 135))])
def test_a_note_whose_writer_is_killed_is_the_old_one_or_the_new_one(after: bytes) -> None:
    before, steps = bytes(range(38)), 0
    while True:
        table = Table()
        meta = MetaCollection(table.connection(), "meta")
        meta.keep_note("sync-1", before)
        meta.keep_note("sync-2", b"another")
        table.steps_left = steps
        try:
            meta.keep_note("sync-1", after)
        except KilledError:
            steps += 1
            assert meta.note("sync-1") in (before, after)
            table.steps_left = 1_000
            meta.keep_note("sync-1", b"later")
            assert (meta.note("sync-1"), meta.note("sync-2")) == (b"later", b"another")
            continue
        assert steps == max(1, -(-len(after) // 3)) + 1, "it was not killed everywhere"
        assert (meta.note("sync-1"), meta.note("sync-2")) == (after, b"another")
        return


def test_a_written_note_is_the_one_even_if_the_old_one_is_still_there() -> None:
    table = Table()
    meta = MetaCollection(table.connection(), "meta")
    for number, note in enumerate([b"first note", b"second", b"the third"], start=1):
        table.steps_left = -(-len(note) // 3)  # killed before it deletes
        with pytest.raises(KilledError):
            meta.keep_note("sync-1", note)
        assert meta.note("sync-1") == note
        assert len({row["number"] for row in table.rows}) == number


def test_of_two_that_made_an_index_at_once_the_older_one_counts_with_its_own_hash_layer() -> None:
    meta = MetaCollection(Table().connection(), "meta")
    stored(meta, OTHER_LAYER, created_at_ms=7)
    stored(meta, LAYER, created_at_ms=5)
    stored(meta, OTHER_LAYER, created_at_ms=9)
    assert [one.manifest.created_at_ms for one in meta.manifests()] == [5]
    assert meta.hash_layer(FINGERPRINT) == LAYER
    meta.remove(FINGERPRINT)
    assert meta.manifests() == []
    with pytest.raises(IndexNotFoundError):
        meta.hash_layer(FINGERPRINT)


@pytest.mark.parametrize("damage", ["gone", "altered", "no base64"])
def test_a_hash_layer_that_is_not_all_there_is_damaged(damage: str) -> None:
    table = Table()
    meta = MetaCollection(table.connection(), "meta")
    stored(meta, LAYER)
    piece = next(row for row in table.rows if row["kind"] == "hash" and row["number"] == 4)
    if damage == "gone":
        table.rows.remove(piece)
    else:
        piece["body"] = "AAAA" if damage == "altered" else "A"
    with pytest.raises(IndexDamagedError, match="not all of it came back"):
        meta.hash_layer(FINGERPRINT)


@pytest.mark.parametrize("body", ["no json", "[]", "{}", '{"manifest": {"of": "later"}}'])
def test_a_manifest_of_another_version_is_said_to_be_one(body: str) -> None:
    table = Table()
    meta = MetaCollection(table.connection(), "meta")
    stored(meta, LAYER)
    next(row for row in table.rows if row["kind"] == "manifest")["body"] = body
    with pytest.raises(IndexMismatchError, match="another version of searchanything"):
        meta.manifests()


def test_two_indexes_never_share_collections() -> None:
    """Names of collections hold the first 16 digits of a fingerprint."""
    meta = MetaCollection(Table().connection(), "meta")
    stored(meta, LAYER)
    with pytest.raises(IndexMismatchError, match="already uses the collections"):
        meta.known(manifest_of(FINGERPRINT[:16] + "0" * 48), LAYER)
    assert meta.known(manifest_of(FINGERPRINT[:15] + "0" * 49), LAYER) is None


def test_a_manifest_that_is_too_long_to_keep_is_not_written() -> None:
    table = Table()
    meta = MetaCollection(table.connection(), "meta")
    manifest = replace(manifest_of(FINGERPRINT), details={"long": "x" * 70_000})
    with pytest.raises(RegionIndexError, match=r"at most .* can be kept"):
        meta.add(StoredManifest(manifest, "attempt", 0, ""))
    assert table.rows == []
