"""The meta collection: manifests, hash layers and, on Milvus Lite, which index is live.

Rows are only added and deleted. A hash layer lies in base64 pieces under the name of one attempt to keep it; the
manifest, written last, names that attempt: pieces of interrupted attempts belong to nobody and are deleted later.
The live pointer on Milvus Lite is the row with the highest number; older ones are deleted after it was written.
A note (what syncs remember of a source) lies in pieces likewise, under its name as the fingerprint; the id of each says
of how many pieces it is one, and the newest whole set of pieces is the note.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from searchanything.core.codes import next_generation
from searchanything.core.errors import IndexDamagedError, IndexMismatchError, IndexNotFoundError, RegionIndexError
from searchanything.core.manifest import IndexManifest
from searchanything.stores.matches import check_same_index
from searchanything.stores.milvus_connection import MilvusConnection
from searchanything.stores.milvus_errors import CollectionUnfinishedError
from searchanything.stores.milvus_filters import quote
from searchanything.stores.milvus_schema import BODY_BYTES, CollectionSpec, Entity, LivePointer, messages, meta_spec

_PIECE_BYTES = BODY_BYTES // 4 * 3  # three bytes become four letters
_PIECES_AT_ONCE = 256  # 15 MB a message
_MANIFEST, _HASH, _LIVE, _NOTE = "manifest", "hash", "live", "note"
_POINTERS = f"kind == {quote(_LIVE)}"
_OUTPUT = ["id", "kind", "fingerprint", "number", "body"]


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it is kept, with the whereabouts of its hash layer."""

    manifest: IndexManifest
    attempt: str
    pieces: int
    hash_sha256: str

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> StoredManifest:
        """Raises: IndexMismatchError if a program of another version wrote it."""
        try:
            values: dict[str, Any] = json.loads(text)
            return cls(**(values | {"manifest": IndexManifest(**values["manifest"])}))
        except (ValueError, TypeError, KeyError) as error:
            raise IndexMismatchError(
                f"a manifest in this index cannot be read ({error}): another version of searchanything wrote it; use "
                f"that one, or name another --uri or SEARCHANYTHING_MILVUS__COLLECTION_PREFIX"
            ) from error


class MetaCollection:
    """Reads and writes the meta collection. Writers of an embedded index hold the connection's `writing`."""

    def __init__(self, connection: MilvusConnection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._loaded = False
        self._stored: dict[str, StoredManifest] = {}  # as last read; for what is never rewritten

    def manifests(self) -> list[StoredManifest]:
        """One of each fingerprint, oldest first."""
        found = [StoredManifest.from_json(row["body"]) for row in self._rows(f"kind == {quote(_MANIFEST)}")]
        unique: dict[str, StoredManifest] = {}
        for stored in sorted(found, key=lambda stored: (stored.manifest.created_at_ms, stored.attempt)):
            unique.setdefault(stored.manifest.fingerprint, stored)  # two processes may have made it at once
        self._stored = dict(unique)
        return list(unique.values())

    def manifest(self, fingerprint: str) -> StoredManifest:
        """Raises: IndexNotFoundError."""
        for stored in self.manifests():
            if stored.manifest.fingerprint == fingerprint:
                return stored
        raise IndexNotFoundError(f"{self._connection.uri} holds no index {fingerprint}")

    def hash_layer(self, fingerprint: str) -> bytes:
        """Raises: IndexNotFoundError, IndexDamagedError."""
        known = self._stored.get(fingerprint)
        data = None if known is None else self._pieces(known, strong=False)  # written before what was read strongly
        if data is None:
            data = self._pieces(self.manifest(fingerprint), strong=True)
        if data is None:
            raise IndexDamagedError(
                f"{self._connection.uri}: the hash layer of index {fingerprint} is damaged: not all of it came back; "
                f"restore the index from a backup, or make it anew from the images"
            )
        return data

    def _pieces(self, stored: StoredManifest, *, strong: bool) -> bytes | None:
        """The hash layer that a manifest names; None where not all of it comes back as it was."""
        bodies: dict[int, str] = {}
        for first in range(0, stored.pieces, _PIECES_AT_ONCE):
            last = first + _PIECES_AT_ONCE
            wanted = f"{_pieces_of(stored.manifest.fingerprint)} and number >= {first} and number < {last}"
            rows = self._rows(wanted, strong=strong)
            bodies |= {row["number"]: row["body"] for row in rows if row["id"].startswith(f"{stored.attempt}-")}
        try:
            data = b"".join(base64.b64decode(bodies[number]) for number in sorted(bodies))
        except ValueError:
            return None
        return data if hashlib.sha256(data).hexdigest() == stored.hash_sha256 else None

    @property
    def spec(self) -> CollectionSpec:
        """What the collection is made of."""
        return meta_spec(self._name)

    def load(self) -> None:
        """Wait until the collection can be used."""
        self._connection.load(self._name)
        self._loaded = True

    def finish(self) -> None:
        """Complete a collection whose maker was killed before it had an index, without which nothing is read.

        Raises: IndexMismatchError for a collection of somebody else.
        """
        if not self._connection.absent and self._connection.has_collection(self._name):
            self._connection.create_collection(self.spec)

    def known(self, manifest: IndexManifest, hash_layer: bytes) -> StoredManifest | None:
        """What is kept of this index, if anything. Raises: IndexMismatchError if that contradicts it."""
        for stored in self.manifests():
            if stored.manifest.fingerprint == manifest.fingerprint:
                check_same_index(stored.manifest, manifest)
                if stored.hash_sha256 != hashlib.sha256(hash_layer).hexdigest():
                    raise IndexMismatchError(f"index {manifest.fingerprint} was made with another hash layer")
                return stored
            if stored.manifest.fingerprint[:16] == manifest.fingerprint[:16]:
                raise IndexMismatchError(f"{stored.manifest.fingerprint} already uses the collections of this index")
        return None

    def keep_hash_layer(self, fingerprint: str, data: bytes) -> tuple[str, int]:
        """Write a hash layer; return the attempt and the number of its pieces. Nobody sees it before `add`."""
        attempt = f"{_HASH}-{fingerprint[:16]}-{next_generation()}"
        count = 0
        pieces = (
            self._row(f"{attempt}-{number}", _HASH, fingerprint, number, base64.b64encode(piece).decode())
            for number, piece in enumerate(_cut(data))
        )
        for batch in messages(pieces):
            self._connection.insert(self._name, batch)
            count += len(batch)
        return attempt, count

    def add(self, stored: StoredManifest) -> None:
        """Write a manifest: the index exists from now on."""
        body = stored.to_json()
        if len(body) > BODY_BYTES:
            raise RegionIndexError(f"the manifest's details take {len(body)} bytes, at most {BODY_BYTES} can be kept")
        fingerprint, number = stored.manifest.fingerprint, next_generation()
        row = self._row(f"{_MANIFEST}-{fingerprint[:16]}-{number}", _MANIFEST, fingerprint, number, body)
        self._connection.insert(self._name, [row])

    def remove(self, fingerprint: str) -> None:
        """Forget an index: its manifest first."""
        self._connection.delete(self._name, f"kind == {quote(_MANIFEST)} and fingerprint == {quote(fingerprint)}")
        self._connection.delete(self._name, _pieces_of(fingerprint))

    def live(self) -> LivePointer | None:
        """The fingerprint that `set_live` named last."""
        rows = self._rows(_POINTERS)
        last = max(rows, key=lambda row: row["number"], default=None)
        return None if last is None else LivePointer(last["fingerprint"], last["number"])

    def set_live(self, fingerprint: str) -> None:
        """Write the new pointer, then delete the older ones. It is the newest, whatever clock wrote the last one."""
        number = next_generation(after=self._last_number(_POINTERS))
        self._connection.insert(self._name, [self._row(f"{_LIVE}-{number}", _LIVE, fingerprint, number, "")])
        self._connection.delete(self._name, f"{_POINTERS} and number < {number}")

    def unset_live(self) -> None:
        """Delete all pointers."""
        self._connection.delete(self._name, _POINTERS)

    def note(self, name: str) -> bytes:
        """The bytes that `keep_note` kept last under a name; empty where there are none."""
        return _last_whole(self._rows(_note_of(name)))[1]

    def notes(self, beginning: str) -> dict[str, bytes]:
        """The notes whose names begin so, in the order they were written."""
        rows = defaultdict[str, list[Entity]](list)
        for row in self._rows(f"kind == {quote(_NOTE)} and fingerprint like {quote(f'{beginning}%')}"):
            rows[row["fingerprint"]].append(row)
        found = {name: _last_whole(some) for name, some in rows.items()}
        return {name: data for name, (_, data) in sorted(found.items(), key=lambda one: one[1][0]) if data}

    def keep_note(self, name: str, data: bytes) -> None:
        """Write a note's pieces, then delete the older ones. It is the newest, whatever clock wrote the last one."""
        generation = next_generation(after=self._last_number(_note_of(name)))
        count = max(1, -(-len(data) // _PIECE_BYTES))
        bodies = [base64.b64encode(piece).decode() for piece in _cut(data)] or [""]
        pieces = (
            self._row(f"{_NOTE}-{generation}-{number}-{count}", _NOTE, name, generation, body)
            for number, body in enumerate(bodies)
        )
        for batch in messages(pieces):
            self._connection.insert(self._name, batch)
        self._connection.delete(self._name, f"{_note_of(name)} and number < {generation}")

    def forget_notes(self, *names: str) -> None:
        """Delete notes, those that are there."""
        self._connection.delete(self._name, " or ".join(f"({_note_of(name)})" for name in names))

    def _last_number(self, expression: str) -> int:
        if not self._loaded:
            self.load()
        found = self._connection.query(self._name, expression, ["number"], strong=True)
        return max((row["number"] for row in found), default=0)

    def _rows(self, expression: str, *, strong: bool = True) -> list[Entity]:
        if self._connection.absent:
            return []
        try:
            if not self._loaded:
                if not self._connection.has_collection(self._name):
                    return []
                self.load()
            return self._connection.query(self._name, expression, _OUTPUT, strong=strong)
        except CollectionUnfinishedError:  # of a first use that was killed; who writes next completes it
            return []
        except IndexNotFoundError:  # an embedded file that was removed or replaced
            self._loaded = False
            return []

    @staticmethod
    def _row(id: str, kind: str, fingerprint: str, number: int, body: str) -> dict[str, Any]:
        return {"id": id, "code": b"\0", "kind": kind, "fingerprint": fingerprint, "number": number, "body": body}


def _pieces_of(fingerprint: str) -> str:
    return f"kind == {quote(_HASH)} and fingerprint == {quote(fingerprint)}"


def _note_of(name: str) -> str:
    return f"kind == {quote(_NOTE)} and fingerprint == {quote(name)}"


def _last_whole(rows: Iterable[Entity]) -> tuple[int, bytes]:
    """Of a note's rows, the generation and bytes of the newest that is whole; nothing where none is."""
    sets = defaultdict[int, dict[int, Entity]](dict)
    for row in rows:
        sets[row["number"]][int(row["id"].split("-")[2])] = row
    for generation, pieces in sorted(sets.items(), reverse=True):
        if len(pieces) == int(next(iter(pieces.values()))["id"].split("-")[3]):  # else its writer was killed
            return generation, b"".join(base64.b64decode(pieces[number]["body"]) for number in sorted(pieces))
    return 0, b""


def _cut(data: bytes) -> Iterator[bytes]:
    return (data[start : start + _PIECE_BYTES] for start in range(0, len(data), _PIECE_BYTES))
