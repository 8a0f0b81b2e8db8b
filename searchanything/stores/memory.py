"""The exact index in memory: ground truth for the tests, and an index for trials."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from searchanything.core.closing import Closing
from searchanything.core.errors import IndexMismatchError, IndexNotFoundError, RegionIndexError
from searchanything.core.manifest import IndexCounts, IndexManifest, WordsPart
from searchanything.core.rows import (
    ImageRow,
    ImageState,
    Outcome,
    RegionRow,
    StoredCode,
    WordsMatch,
    least_ids,
    newest_of_each,
)
from searchanything.core.types import CodeKind, Codes, Filter, Hit, ImageRef, Place, lies_in
from searchanything.stores.columns import IMAGE_COLUMNS, Column
from searchanything.stores.filters import objects_predicate, predicate_of
from searchanything.stores.matches import check_same_index, check_schema, image_hit, image_state
from searchanything.stores.memory_table import Table
from searchanything.stores.predicates import All, Compare, Predicate
from searchanything.stores.row_checks import MAX_LIMIT, RowLimits, words_part, words_rows

_OUTCOME = Column("outcome", IMAGE_COLUMNS["outcome"])


class MemoryRegionIndex:
    """The `RegionIndex` of one fingerprint in this process's memory. Thread-safe."""

    def __init__(self, manifest: IndexManifest) -> None:
        self._manifest = manifest
        self._limits = RowLimits(manifest.bits)
        self.max_limit = MAX_LIMIT
        self._lock = threading.RLock()
        self._regions: Table[RegionRow] = Table(manifest.bits // 8)
        self._images: Table[ImageRow] = Table(manifest.bits // 8)
        self._words: Table[RegionRow] = Table(1)
        self._part: WordsPart | None = None

    @property
    def manifest(self) -> IndexManifest:
        return self._manifest

    @property
    def collections(self) -> tuple[str, str]:
        return f"regions_{self._manifest.fingerprint[:16]}", f"images_{self._manifest.fingerprint[:16]}"

    @property
    def exact(self) -> bool:
        return True

    def insert_regions(self, rows: Sequence[RegionRow]) -> None:
        fresh = self._limits.regions(rows)
        with self._lock:
            self._regions.insert([replace(row, words_code=b"") for row in fresh])
            if self._part is not None:
                self.insert_words(fresh)

    def insert_images(self, rows: Sequence[ImageRow]) -> None:
        fresh = self._limits.images(rows)
        with self._lock:
            self._images.insert(fresh)

    def newest(self, images: Collection[ImageRef]) -> dict[ImageRef, ImageRow]:
        with self._lock:
            return newest_of_each(self._images.of_images(images))

    def generations(self, images: Collection[ImageRef]) -> dict[ImageRef, int]:
        return {image: row.generation for image, row in self.newest(images).items()}

    def iterate_images(
        self, *, bucket: str | None = None, key_prefix: str = "", outcome: Outcome | None = None
    ) -> Iterator[ImageRow]:
        with self._lock:
            rows = self._images.under(bucket, key_prefix)
        return (row for row in rows if outcome in (None, row.outcome))

    def iterate_regions(self, *, bucket: str | None = None, key_prefix: str = "") -> Iterator[RegionRow]:
        with self._lock:
            return iter(self._regions.under(bucket, key_prefix))

    def iterate_states(
        self, *, bucket: str | None = None, key_prefix: str = "", outcome: Outcome | None = None
    ) -> Iterator[ImageState]:
        return map(image_state, self.iterate_images(bucket=bucket, key_prefix=key_prefix, outcome=outcome))

    def iterate_attempts(self, *, bucket: str | None = None, key_prefix: str = "") -> Iterator[tuple[ImageRef, int]]:
        return ((row.image, row.generation) for row in self.iterate_regions(bucket=bucket, key_prefix=key_prefix))

    def regions(self, ids: Collection[str]) -> dict[str, RegionRow]:
        with self._lock:
            return {row.id: row for row in self._regions.get(ids)}

    def iterate_codes(
        self, *, of: CodeKind = "regions", bucket: str | None = None, key_prefix: str = "", share: float = 1.0
    ) -> Iterator[StoredCode]:
        bound = least_ids(share)
        rows: Iterable[RegionRow | ImageRow]
        with self._lock:
            if of == "images":
                rows = (row for row in self._images.under(bucket, key_prefix) if row.is_findable)
            else:
                rows = (self._words if of == "words" else self._regions).under(bucket, key_prefix)
        for row in rows:
            if bound is None or row.id < bound:
                region = row.region if isinstance(row, RegionRow) else None
                yield StoredCode(row.image, row.generation, region, row.code)

    def regions_of(self, images: Collection[ImageRef]) -> Iterator[RegionRow]:
        with self._lock:
            return iter(self._regions.of_images(images))

    def count_regions(self, *, bucket: str | None = None, key_prefix: str = "") -> int:
        with self._lock:
            return self._regions.count(objects_predicate(bucket, key_prefix))

    def search(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[Hit]]:
        predicate = _prepared(self._limits, codes, limit=limit, filter=filter)
        with self._lock:
            found = self._regions.nearest(codes, limit, predicate)
        return [[Hit.of(row, distance) for row, distance in one] for one in found]

    def search_images(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[Hit]]:
        predicate = _prepared(self._limits, codes, limit=limit, filter=filter, whole_images=True)
        with self._lock:
            found = self._images.nearest(codes, limit, predicate)
        return [[image_hit(row, distance) for row, distance in one] for one in found]

    def codes_of(
        self, ids: Sequence[str], *, of: CodeKind = "regions", within: Sequence[Place] = ()
    ) -> dict[str, bytes]:
        with self._lock:
            regions = self._words if of == "words" else self._regions
            rows: Iterable[RegionRow | ImageRow] = self._images.get(ids) if of == "images" else regions.get(ids)
            return {row.id: row.code for row in rows if not within or lies_in(row.image, within)}

    @property
    def words(self) -> WordsPart | None:
        return self._part

    def add_words(self, layer: bytes, bits: int) -> None:
        """Have words codes from now on; what was added first stays."""
        with self._lock:
            if self._part is None:
                name = f"words_{self._manifest.fingerprint[:16]}"
                self._words = Table(bits // 8)
                self._part = WordsPart(name, bits, bytes(layer), bits // 8)

    def insert_words(self, rows: Sequence[RegionRow]) -> None:
        with self._lock:
            self._words.insert([row for row in words_rows(self._part, rows) if row.id not in self._words])

    def search_words(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[WordsMatch]]:
        predicate = _prepared(RowLimits(words_part(self._part).bits), codes, limit=limit, filter=filter)
        with self._lock:
            found = self._words.nearest(codes, limit, predicate)
        return [
            [WordsMatch(row.id, row.image, row.generation, row.region, distance) for row, distance in one]
            for one in found
        ]

    def count_words(self, *, bucket: str | None = None, key_prefix: str = "") -> int:
        with self._lock:
            return self._words.count(objects_predicate(bucket, key_prefix))

    def words_of(self, images: Collection[ImageRef]) -> Iterator[tuple[str, bytes]]:
        with self._lock:
            return iter([(row.id, row.code) for row in self._words.of_images(images)])

    def delete_before(self, generations: Mapping[ImageRef, int]) -> None:
        with self._lock:
            for table in (self._images, self._words, self._regions):
                table.delete_before(generations)

    def delete_regions(self, ids: Collection[str]) -> None:
        with self._lock:
            for table in (self._words, self._regions):
                table.delete(ids)

    def delete_images(self, images: Collection[ImageRef]) -> None:
        with self._lock:
            for table in (self._images, self._words, self._regions):
                table.delete_images(images)

    def counts(self, *, bucket: str | None = None, key_prefix: str = "") -> IndexCounts:
        place = objects_predicate(bucket, key_prefix)
        with self._lock:
            images, empty, failed = (
                self._images.count(All((Compare(_OUTCOME, "==", outcome.value), place)))
                for outcome in (Outcome.INDEXED, Outcome.EMPTY, Outcome.FAILED)
            )
            return IndexCounts(images=images, empty=empty, failed=failed, regions=self._regions.count(place))


def _prepared(
    limits: RowLimits, codes: Codes, *, limit: int, filter: Filter | None, whole_images: bool = False
) -> Predicate | None:
    """What a checked question says of rows."""
    limits.queries(codes, limit=limit)
    if filter is None and not whole_images:
        return None  # which spares the look at every row
    return predicate_of(filter, whole_images=whole_images)


@dataclass(frozen=True, slots=True)
class _Entry:
    index: MemoryRegionIndex
    hash_layer: bytes
    number: int


class MemoryIndexStore(Closing):
    """An `IndexStore` that lives as long as the object. Thread-safe."""

    def __init__(self, uri: str = "memory://") -> None:
        self._uri = uri
        self._lock = threading.RLock()
        self._entries: dict[str, _Entry] = {}
        self._live: str | None = None
        self._numbers = count()
        self._notes: dict[str, bytes] = {}

    @property
    def uri(self) -> str:
        return self._uri

    def live(self, *, within_s: float = 0.0) -> IndexManifest | None:  # noqa: ARG002
        with self._lock:
            return None if self._live is None else self._entries[self._live].index.manifest

    @property
    def making(self) -> int | None:
        with self._lock:
            return None if self._live is None else self._entries[self._live].number

    def manifests(self) -> list[IndexManifest]:
        with self._lock:
            return [entry.index.manifest for entry in self._entries.values()]

    def create(self, manifest: IndexManifest, hash_layer: bytes) -> MemoryRegionIndex:
        with self._lock:
            entry = self._entries.get(manifest.fingerprint)
            if entry is None:
                index = MemoryRegionIndex(replace(manifest, details=dict(manifest.details)))
                entry = _Entry(index, bytes(hash_layer), next(self._numbers))
                self._entries[manifest.fingerprint] = entry
        check_same_index(entry.index.manifest, manifest)
        if entry.hash_layer != hash_layer:
            raise IndexMismatchError(f"index {manifest.fingerprint} was made with another hash layer")
        return entry.index

    def open(self, fingerprint: str) -> MemoryRegionIndex:
        index = self._entry(fingerprint).index
        check_schema(index.manifest, self._uri)
        return index

    def hash_layer(self, fingerprint: str) -> bytes:
        return self._entry(fingerprint).hash_layer

    def add_words(self, fingerprint: str, layer: bytes, *, bits: int) -> MemoryRegionIndex:
        index = self.open(fingerprint)
        index.add_words(layer, bits)
        return index

    def recall(self, name: str) -> bytes:
        with self._lock:
            return self._notes.get(name, b"")

    def recall_all(self, beginning: str) -> dict[str, bytes]:
        with self._lock:
            return {name: kept for name, kept in self._notes.items() if kept and name.startswith(beginning)}

    def remember(self, name: str, data: bytes) -> None:
        with self._lock:
            self._notes.pop(name, None)  # so that what was written last comes last
            self._notes[name] = bytes(data)

    def switch(self, fingerprint: str) -> None:
        with self._lock:
            self._entry(fingerprint)
            self._live = fingerprint

    def withdraw(self) -> None:
        with self._lock:
            self._live = None

    def release_replaced(self, after_s: float) -> list[str]:  # noqa: ARG002
        """Nothing: there is no other place for them."""
        return []

    def is_released(self, fingerprint: str) -> bool:
        self._entry(fingerprint)
        return False

    def check_writable(self) -> None:
        """Memory always is."""

    def drop(self, fingerprint: str) -> None:
        with self._lock:
            self._entry(fingerprint)
            if self._live == fingerprint:
                raise RegionIndexError(f"index {fingerprint} is live: switch to another one before dropping it")
            del self._entries[fingerprint]

    def close(self) -> None:
        """Nothing to free: the indexes stay until the store is gone."""

    def _entry(self, fingerprint: str) -> _Entry:
        with self._lock:
            entry = self._entries.get(fingerprint)
        if entry is None:
            raise IndexNotFoundError(f"{self._uri} holds no index {fingerprint}")
        return entry
