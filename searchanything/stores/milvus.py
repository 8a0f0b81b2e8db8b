"""The index in Milvus: an embedded file (Milvus Lite) or a server, by the same code.

Collections, with the settings' prefix: `regions_F` and `images_F` for each fingerprint (F: its first 16 letters), and
`meta`. On a server the alias `regions` points to the live regions' collection and is the live pointer itself; Milvus
Lite knows no aliases, there a row of `meta` stands in.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import time

from searchanything.core.closing import Closing
from searchanything.core.errors import IndexMismatchError, IndexNotFoundError, RegionIndexError
from searchanything.core.manifest import IndexManifest, WordsPart
from searchanything.stores.matches import check_schema
from searchanything.stores.milvus_connection import MilvusConnection
from searchanything.stores.milvus_index import MilvusRegionIndex
from searchanything.stores.milvus_meta import MetaCollection, StoredManifest
from searchanything.stores.milvus_schema import (
    CollectionSpec,
    LivePointer,
    check_fields,
    images_spec,
    regions_spec,
    words_spec,
)

logger = logging.getLogger(__name__)

_NAME_LETTERS = 16  # of a fingerprint, in the names of its collections
WORDS_LOOK_S = 1.0  # words that another process adds are seen so soon
WORDS_ROW_BYTES = 200  # of a row in the words collection besides code, bucket, key and metadata
_FINGERPRINT = re.compile(r"[A-Za-z0-9_]{16,128}")


def _words_note(fingerprint: str) -> str:
    """The note that keeps a words layer."""
    return f"words-{fingerprint[:_NAME_LETTERS]}"


def _replaced_note(name: str) -> str:
    """The note that keeps when an index stopped being live."""
    return f"replaced-{name[:_NAME_LETTERS]}"


class MilvusIndexStore(Closing):
    """An `IndexStore` in Milvus. Thread-safe; on Milvus Lite safe between processes of one machine."""

    # Over 200 lines: a method for each operation of `IndexStore`, and the collections behind them.

    def __init__(self, connection: MilvusConnection, prefix: str) -> None:
        self._connection = connection
        self._prefix = prefix
        self._meta = MetaCollection(connection, f"{prefix}meta")
        self._seen: tuple[float, IndexManifest] | None = None  # what was live, and when that was asked
        self._words: dict[str, tuple[float, WordsPart | None]] = {}  # when they were looked for, and found
        self._known: dict[str, IndexManifest] = {}  # by the end of the collections' names
        self._pointer: LivePointer | None = None  # as last read

    @property
    def uri(self) -> str:
        return self._connection.uri

    def live(self, *, within_s: float = 0.0) -> IndexManifest | None:
        """Raises: IndexMismatchError if what is live was not made by this program."""
        seen = self._seen
        if seen is not None and time.monotonic() - seen[0] < within_s:
            return seen[1]
        asked_at = time.monotonic()
        manifest = self._live()
        self._seen = None if manifest is None else (asked_at, manifest)
        return manifest

    def _live(self) -> IndexManifest | None:
        self._connection.begin()
        pointer = self._read_pointer()
        if pointer is None:
            return None
        if self._pointer not in (None, pointer):  # an index of a name that is known may be another one by now
            self._known, self._words = {}, {}
        self._pointer = pointer
        name = pointer.name[:_NAME_LETTERS]
        if name not in self._known:
            self.manifests()
        if name not in self._known:
            raise IndexMismatchError(f"{self.uri}: the live index {pointer.name} has no manifest")
        return self._known[name]

    @property
    def making(self) -> LivePointer | None:
        return self._pointer

    def manifests(self) -> list[IndexManifest]:
        found = [stored.manifest for stored in self._meta.manifests()]
        self._known = {manifest.fingerprint[:_NAME_LETTERS]: manifest for manifest in found}
        return found

    def create(self, manifest: IndexManifest, hash_layer: bytes) -> MilvusRegionIndex:
        """Make an index, or finish what an interrupted attempt left: the manifest is written last.

        Raises: IndexMismatchError if another index of that name exists.
        """
        if not _FINGERPRINT.fullmatch(manifest.fingerprint):
            raise RegionIndexError(f"expected a fingerprint of 16 to 128 letters, got {manifest.fingerprint!r}")
        with self._connection.writing():
            self._meta.finish()
            stored = self._meta.known(manifest, hash_layer)
            for spec in (self._meta.spec, *self._specs(manifest)):  # all are being loaded before one is waited for
                self._connection.create_collection(spec)
            if stored is None:
                self._meta.load()
                attempt, pieces = self._meta.keep_hash_layer(manifest.fingerprint, hash_layer)
                digest = hashlib.sha256(hash_layer).hexdigest()
                self._meta.add(StoredManifest(manifest, attempt=attempt, pieces=pieces, hash_sha256=digest))
                self._forget(manifest.fingerprint)  # another process may have dropped one of that name
        return self.open(manifest.fingerprint)

    def open(self, fingerprint: str) -> MilvusRegionIndex:
        manifest = self._manifest(fingerprint)
        check_schema(manifest, self.uri)
        specs = self._specs(manifest)
        for spec in specs:
            self._check_fields(spec)
            self._connection.load(spec.name)
        regions, images = (spec.name for spec in specs)
        kind = self._connection.vector_index_type(regions)
        part = self._words_part(fingerprint)
        return MilvusRegionIndex(self._connection, manifest, (regions, images), kind=kind, words=part)

    def add_words(self, fingerprint: str, layer: bytes, *, bits: int) -> MilvusRegionIndex:
        """The collection first, the layer last: with it the index has words."""
        self._manifest(fingerprint)
        with self._connection.writing():
            if not self._meta.note(_words_note(fingerprint)):
                self._connection.create_collection(self._words_spec(fingerprint, bits))
                self._meta.keep_note(_words_note(fingerprint), bits.to_bytes(4, "little") + layer)
        self._words.pop(fingerprint, None)
        return self.open(fingerprint)

    def _words_part(self, fingerprint: str) -> WordsPart | None:
        """Kept once found; while there are none another process may add them, so they are looked for each second."""
        looked_at, part = self._words.get(fingerprint, (-math.inf, None))
        if part is None and time.monotonic() - looked_at >= WORDS_LOOK_S:
            part = self._find_words(fingerprint)
            self._words[fingerprint] = time.monotonic(), part
        return part

    def _find_words(self, fingerprint: str) -> WordsPart | None:
        kept = self._meta.note(_words_note(fingerprint))
        if not kept:
            return None
        bits = int.from_bytes(kept[:4], "little")
        spec = self._words_spec(fingerprint, bits)
        self._check_fields(spec)
        self._connection.load(spec.name)
        return WordsPart(spec.name, bits, kept[4:], bits // 8 + WORDS_ROW_BYTES)

    def _words_spec(self, fingerprint: str, bits: int) -> CollectionSpec:
        return words_spec(f"{self._prefix}words_{fingerprint[:_NAME_LETTERS]}", bits)

    def hash_layer(self, fingerprint: str) -> bytes:
        return self._meta.hash_layer(fingerprint)

    def recall(self, name: str) -> bytes:
        return self._meta.note(name)

    def recall_all(self, beginning: str) -> dict[str, bytes]:
        return self._meta.notes(beginning)

    def remember(self, name: str, data: bytes) -> None:
        with self._connection.writing():
            self._connection.create_collection(self._meta.spec)
            self._meta.load()
            if data:
                self._meta.keep_note(name, data)
            else:
                self._meta.forget_notes(name)

    def switch(self, fingerprint: str) -> None:
        index = self.open(fingerprint)
        with self._connection.writing():
            if self._connection.embedded:
                self._meta.set_live(fingerprint)
            else:
                before = self._live_name()
                if before is not None and not fingerprint.startswith(before):
                    self._meta.keep_note(_replaced_note(before), str(time.time()).encode())
                self._connection.point_alias(self._alias, index.collections[0])
        self._seen = None

    def withdraw(self) -> None:
        with self._connection.writing():
            if self._connection.embedded:
                self._meta.unset_live()
            else:
                self._connection.drop_alias(self._alias)
        self._seen = None

    def release_replaced(self, after_s: float) -> list[str]:
        """On Milvus Lite nothing: its server ends when nobody needs it. Should an index become live again meanwhile, it
        is loaded again.
        """
        live = None if self._connection.embedded else self.live()
        if live is None:
            return []
        others, latest_s = [one for one in self.manifests() if one != live], time.time() - after_s
        released = [one.fingerprint for one in others if self._replaced_at(one) <= latest_s and self._release(one)]
        now = self._live_name()
        for fingerprint in released:
            if now is not None and fingerprint.startswith(now):
                self.open(fingerprint)
        return released

    def is_released(self, fingerprint: str) -> bool:
        regions, _ = self._specs(self._manifest(fingerprint))
        return not self._connection.embedded and not self._connection.is_loaded(regions.name)

    def check_writable(self) -> None:
        self._connection.check_writable()

    def drop(self, fingerprint: str) -> None:
        """Remove an index that is not live: its collections first, so that an interrupted removal can be repeated."""
        with self._connection.writing():
            manifest = self._meta.manifest(fingerprint).manifest
            live = self._live_name()
            if live is not None and fingerprint.startswith(live):
                raise RegionIndexError(f"index {fingerprint} is live: switch to another one before dropping it")
            self._meta.forget_notes(_words_note(fingerprint), _replaced_note(fingerprint))
            for spec in (self._words_spec(fingerprint, 8), *reversed(self._specs(manifest))):
                if self._connection.has_collection(spec.name):
                    self._connection.drop_collection(spec.name)
            self._meta.remove(fingerprint)
            self._seen = None
            self._forget(fingerprint)

    def _forget(self, fingerprint: str) -> None:
        self._words.pop(fingerprint, None)
        self._known.pop(fingerprint[:_NAME_LETTERS], None)

    def close(self) -> None:
        self._connection.close()

    def _manifest(self, fingerprint: str) -> IndexManifest:
        """Raises: IndexNotFoundError."""
        known = self._known.get(fingerprint[:_NAME_LETTERS])
        if known is not None and known.fingerprint == fingerprint:
            return known
        manifest = self._meta.manifest(fingerprint).manifest
        self._known[fingerprint[:_NAME_LETTERS]] = manifest
        return manifest

    def _replaced_at(self, manifest: IndexManifest) -> float:
        """When an index stopped being live, in seconds since 1970; never for one that is still being filled."""
        return float(self._meta.note(_replaced_note(manifest.fingerprint)) or "inf")

    def _release(self, manifest: IndexManifest) -> bool:
        """Take an index out of memory; False if it was not there."""
        specs = (*self._specs(manifest), self._words_spec(manifest.fingerprint, 8))
        loaded = [spec.name for spec in specs if self._connection.is_loaded(spec.name)]
        for name in loaded:
            self._connection.release(name)
        if loaded:
            logger.info("index %s was replaced and is no longer in memory", manifest.fingerprint)
        return bool(loaded)

    @property
    def _alias(self) -> str:
        return f"{self._prefix}regions"

    def _live_name(self) -> str | None:
        """The live fingerprint, or its beginning that names the collections."""
        pointer = self._read_pointer()
        return None if pointer is None else pointer.name

    def _read_pointer(self) -> LivePointer | None:
        if self._connection.embedded:
            return self._meta.live()
        target = self._connection.alias_target(self._alias)
        return None if target is None else target._replace(name=target.name.removeprefix(f"{self._alias}_"))

    def _specs(self, manifest: IndexManifest) -> tuple[CollectionSpec, CollectionSpec]:
        name = manifest.fingerprint[:_NAME_LETTERS]
        return (
            regions_spec(f"{self._prefix}regions_{name}", manifest.bits),
            images_spec(f"{self._prefix}images_{name}", manifest.bits),
        )

    def _check_fields(self, spec: CollectionSpec) -> None:
        """Raises: IndexNotFoundError, IndexMismatchError."""
        try:
            present = self._connection.fields(spec.name)
        except IndexNotFoundError:
            raise IndexNotFoundError(f"{self.uri}: the collection {spec.name} is gone; index again") from None
        check_fields(spec, present, self.uri)
