"""What an index must do, and a place that holds indexes."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from searchanything.core.manifest import IndexCounts, IndexManifest, WordsPart
from searchanything.core.rows import ImageRow, ImageState, Outcome, RegionRow, StoredCode, WordsMatch
from searchanything.core.types import CodeKind, Codes, Filter, Hit, ImageRef, Place


class RegionIndex(Protocol):
    """The regions and images of one fingerprint. Rows are only ever added and deleted, never overwritten.

    Order of a commit (design decision 2): `insert_regions`, then `insert_images`. The newest generation that has
    an image row is the image; every other region row is garbage that searches skip. Thread-safe, and on Milvus Lite
    safe between processes.

    Raises, all methods: IndexUnavailableError, RegionIndexError; searches also FilterError.
    """

    @property
    def manifest(self) -> IndexManifest: ...

    @property
    def collections(self) -> tuple[str, str]:
        """Names of the regions' and the images' collection, for people."""
        ...

    @property
    def exact(self) -> bool:
        """True if searches compare with every row; False for inverted lists."""
        ...

    @property
    def max_limit(self) -> int:
        """The largest `limit` that its searches take (Milvus: 16384)."""
        ...

    def insert_regions(self, rows: Sequence[RegionRow]) -> None:
        """Add region rows, durable on return. They are garbage until their image row is there."""
        ...

    def insert_images(self, rows: Sequence[ImageRow]) -> None:
        """Add image rows, durable and visible on return: this commits them."""
        ...

    def newest(self, images: Collection[ImageRef]) -> dict[ImageRef, ImageRow]:
        """The newest image row of each of these images that has one."""
        ...

    def generations(self, images: Collection[ImageRef]) -> dict[ImageRef, int]:
        """The generation of the newest image row of each of these images that has one: `newest`, but cheaper."""
        ...

    def iterate_images(
        self, *, bucket: str | None = None, key_prefix: str = "", outcome: Outcome | None = None
    ) -> Iterator[ImageRow]:
        """Stream all image rows (older generations included) in no particular order; of one outcome, if given."""
        ...

    def iterate_regions(self, *, bucket: str | None = None, key_prefix: str = "") -> Iterator[RegionRow]:
        """Stream all region rows with their codes, garbage included, in no particular order."""
        ...

    def iterate_states(
        self, *, bucket: str | None = None, key_prefix: str = "", outcome: Outcome | None = None
    ) -> Iterator[ImageState]:
        """`iterate_images` with no more than tells whether an image is up to date."""
        ...

    def iterate_attempts(self, *, bucket: str | None = None, key_prefix: str = "") -> Iterator[tuple[ImageRef, int]]:
        """Stream image and generation of every region row, garbage included, in no particular order."""
        ...

    def regions(self, ids: Collection[str]) -> dict[str, RegionRow]:
        """The region rows with these ids (`row_id`), their codes included; an id that has none is left out."""
        ...

    def iterate_codes(
        self, *, of: CodeKind = "regions", bucket: str | None = None, key_prefix: str = "", share: float = 1.0
    ) -> Iterator[StoredCode]:
        """Stream the codes of all region rows, of findable image rows, or the words codes of regions, garbage
        included, in no particular order. Words codes may be of another length; none where there are no words.

        `share` < 1: of about so many rows, always the same ones: those whose ids, which are hashes, are the least.
        """
        ...

    def regions_of(self, images: Collection[ImageRef]) -> Iterator[RegionRow]:
        """Stream all region rows of these images with their codes, garbage included, in no particular order."""
        ...

    def count_regions(self, *, bucket: str | None = None, key_prefix: str = "") -> int:
        """How many region rows a source has, or all; garbage included. Cheap: see `counts`."""
        ...

    def search(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[Hit]]:
        """For each of Q codes the `limit` nearest region rows by Hamming distance, nearest first, garbage included.

        Ties are ordered by row id where the index is exact. Fewer than `limit` matches mean there are no more.
        With `Filter.images` every index compares with all rows of these images.
        """
        ...

    def search_images(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[Hit]]:
        """The same over whole-image codes, of findable rows alone: indexed ones, and empty ones that have a code.

        Raises: FilterError also for region-only filters.
        """
        ...

    def codes_of(
        self, ids: Sequence[str], *, of: CodeKind = "regions", within: Sequence[Place] = ()
    ) -> dict[str, bytes]:
        """The codes of rows by `row_id`; of those that are there, and in one of the places if any are given.

        Without places, of such as were there when this process read them last, too. Searches leave codes out: Milvus
        Lite cannot give a vector with a hit, and few hits need theirs.
        """
        ...

    @property
    def words(self) -> WordsPart | None:
        """What searches by words alone go by, as of when the index was opened; None where it was never added."""
        ...

    def insert_words(self, rows: Sequence[RegionRow]) -> None:
        """Add the words codes of region rows that are there; those without one are skipped. `insert_regions` does so
        for new rows, after the rows themselves. Raises: RegionIndexError where the index has no words.
        """
        ...

    def search_words(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[WordsMatch]]:
        """As `search`, by words codes. Raises: RegionIndexError where the index has no words."""
        ...

    def count_words(self, *, bucket: str | None = None, key_prefix: str = "") -> int:
        """How many regions of a source, or of all, have a words code; garbage included. Cheap: see `counts`."""
        ...

    def words_of(self, images: Collection[ImageRef]) -> Iterator[tuple[str, bytes]]:
        """Stream id and words code of all region rows of these images that have one; none where there are no words."""
        ...

    def delete_before(self, generations: Mapping[ImageRef, int]) -> None:
        """Delete each image's rows with a generation below the given one: image rows first, words, then regions.

        So what a killed call leaves is region rows at least, by which garbage is found.
        """
        ...

    def delete_regions(self, ids: Collection[str]) -> None:
        """Delete region rows by their ids (`row_id`), their words first: of an attempt that nobody will commit."""
        ...

    def delete_images(self, images: Collection[ImageRef]) -> None:
        """Delete all rows of these images: image rows first, words, then regions."""
        ...

    def counts(self, *, bucket: str | None = None, key_prefix: str = "") -> IndexCounts:
        """How many rows a source has, or how many there are; garbage included. `garbage.holdings` leaves it out.

        Cheap whatever there is, but where a name has control characters: that takes a pass over the source's rows.
        """
        ...


@runtime_checkable
class IndexStore(Protocol):
    """A place that holds indexes (one per fingerprint), their manifests and hash layers, and which one is live."""

    @property
    def uri(self) -> str: ...

    def live(self, *, within_s: float = 0.0) -> IndexManifest | None:
        """The manifest of the live index; None while there is none. What this process saw at most `within_s` ago will
        do, unless it switched since.
        """
        ...

    @property
    def making(self) -> Hashable:
        """Which index `live` saw last: another value where one of the same name was dropped, and made or restored."""
        ...

    def manifests(self) -> list[IndexManifest]: ...

    def create(self, manifest: IndexManifest, hash_layer: bytes) -> RegionIndex:
        """Make an index and keep its hash layer; idempotent. It becomes live only by `switch`."""
        ...

    def open(self, fingerprint: str) -> RegionIndex:
        """Raises: IndexNotFoundError, IndexMismatchError."""
        ...

    def hash_layer(self, fingerprint: str) -> bytes:
        """The safetensors bytes kept by `create`."""
        ...

    def add_words(self, fingerprint: str, layer: bytes, *, bits: int) -> RegionIndex:
        """Let an index be searched by words: regions committed from now on get words codes. Idempotent: the layer that
        was kept first stays. Raises: IndexNotFoundError.
        """
        ...

    def recall(self, name: str) -> bytes:
        """What `remember` kept last under a name; empty where that is nothing."""
        ...

    def recall_all(self, beginning: str) -> dict[str, bytes]:
        """What is kept under names that begin so, in the order it was written."""
        ...

    def remember(self, name: str, data: bytes) -> None:
        """Keep bytes under a name of up to 128 letters, digits, hyphens; readers see the old or the new ones whole."""
        ...

    def switch(self, fingerprint: str) -> None:
        """Make an existing index the live one, at once for all that ask from now on."""
        ...

    def withdraw(self) -> None:
        """Let no index be live: what was can be dropped. Nothing where there is none."""
        ...

    def release_replaced(self, after_s: float) -> list[str]:
        """Take indexes out of the server's memory that stopped being live so long ago; the fingerprints of those that
        were there. They stay on disk, `open` loads them again, and so does a read by whoever has one open still.
        """
        ...

    def is_released(self, fingerprint: str) -> bool:
        """Whether an index is out of memory, so that opening it costs a load. Raises: IndexNotFoundError."""
        ...

    def check_writable(self) -> None:
        """Look whether anything can be written here; nothing is, and no server is disturbed.

        Raises: IndexReadOnlyError, IndexFullError, IndexUnavailableError.
        """
        ...

    def drop(self, fingerprint: str) -> None:
        """Remove an index that is not live. Raises: RegionIndexError if it is."""
        ...

    def close(self) -> None:
        """Free this process's connections; others that share the index are not disturbed."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
