"""The borders of the product: what a model, an index and an image store must do.

The pipeline sees nothing but these. Each has at least two implementations, and one contract suite in `tests/`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self, runtime_checkable

from searchanything.core.geometry import Letterbox
from searchanything.core.types import (
    BoolMasks,
    CodeKind,
    Codes,
    Filter,
    FloatArray,
    ImageMatch,
    ImageRef,
    ImageRow,
    ImageState,
    IndexCounts,
    IndexManifest,
    Omissions,
    RegionMatch,
    RegionRow,
    RGBImage,
    StoredObject,
    WordsMatch,
    WordsPart,
)


class FeatureMap(Protocol):
    """The segmenter's highest-resolution pyramid level (P3) of one image, wherever it lives (CPU, GPU)."""

    def pool(self, masks: BoolMasks) -> FloatArray:
        """Average the map over each mask: (N, gh, gw) bool on the mask grid -> (N, C) float32.

        Letterbox padding never counts. A mask too small for any cell takes the cell that holds its centre;
        an empty mask gives zeros. One matrix product for all masks.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """Everything one forward pass of a segmenter says about one image, N candidate regions.

    `boxes_xyxy` (N, 4) float32 in image pixels; `scores` (N,) float32 in [0, 1], falling;
    `masks` (N, gh, gw) bool on the mask grid of `letterbox` (False on padding).
    """

    letterbox: Letterbox
    boxes_xyxy: FloatArray
    scores: FloatArray
    masks: BoolMasks
    features: FeatureMap

    def __post_init__(self) -> None:
        grid = self.letterbox.grid_size
        count = len(self.scores)
        if self.masks.shape != (count, *grid) or self.boxes_xyxy.shape != (count, 4):
            raise ValueError(
                f"expected {count} masks on a grid {grid} and {count} boxes, "
                f"got masks {self.masks.shape}, boxes {self.boxes_xyxy.shape}"
            )


class Segmenter(Protocol):
    """Finds all regions of images, and their feature map, in one forward pass."""

    @property
    def feature_dimension(self) -> int:
        """C, the channels of P3 (n: 64, s: 128, x: 320)."""
        ...

    @property
    def description(self) -> Mapping[str, str | int | float]:
        """What the features depend on (weights' sha256, input size, thresholds): a part of the fingerprint."""
        ...

    def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        """Segment a batch; the result for an image does not depend on its companions. Thread-safe."""
        ...


class RegionEncoder(Protocol):
    """Embeds crops and texts into one space (CLIP)."""

    @property
    def dimension(self) -> int:
        """D, the length of an embedding."""
        ...

    @property
    def crop_size_px(self) -> int:
        """S, the side of the square crops that `embed_crops` takes."""
        ...

    @property
    def description(self) -> Mapping[str, str | int | float]:
        """What the embeddings depend on: a part of the fingerprint."""
        ...

    def embed_crops(self, crops: RGBImage) -> FloatArray:
        """(N, S, S, 3) uint8 RGB -> (N, D) float32 of unit length. N may be 0. Thread-safe."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """N texts -> (N, D) float32 of unit length. Thread-safe."""
        ...


class Hasher(Protocol):
    """Compresses features to codes: bit = tanh(W (f_M ⊕ f_I) + b) > 0 (supplement, equation 1)."""

    @property
    def bits(self) -> int:
        """L, a multiple of 8."""
        ...

    @property
    def digest(self) -> str:
        """sha256 of the layer's file: a part of the fingerprint."""
        ...

    @property
    def trained(self) -> bool:
        """False for a seeded random rotation."""
        ...

    def encode(self, mask_features: FloatArray, image_features: FloatArray) -> Codes:
        """f_M (N, C) and f_I (N, D) float32 -> (N, bits // 8) uint8, packed as numpy.packbits does."""
        ...

    def project(self, mask_features: FloatArray, image_features: FloatArray) -> FloatArray:
        """What the bits are the signs of, W (f_M ⊕ f_I) + b: (N, bits) float32."""
        ...

    def to_bytes(self) -> bytes:
        """The layer as a safetensors file, which the index keeps so that it can be queried anywhere."""
        ...


class WordsHasher(Protocol):
    """Codes of f_I alone, and what texts are compared with them by."""

    @property
    def bits(self) -> int: ...

    def encode(self, image_features: FloatArray) -> Codes:
        """f_I (N, D) float32 -> (N, bits // 8) uint8."""
        ...

    def project_texts(self, text_features: FloatArray) -> FloatArray:
        """Embeddings of texts (N, D) -> (N, bits) float32, whose signs are their codes."""
        ...


class ImageStore(Protocol):
    """Where images lie: a bucket or a folder. Thread-safe."""

    @property
    def bucket(self) -> str:
        """The bucket's name, or the folder's absolute path."""
        ...

    def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:
        """Stream the objects whose key starts with `prefix`, in no particular order, images or not.

        What is passed over is noted in `omissions`. Without them, places that cannot be looked at raise StoreError once
        everything else is listed: a listing that is silently incomplete would look like deletions.

        Raises: ObjectNotFoundError (no such bucket), StoreUnavailableError.
        """
        ...

    def stat(self, key: str) -> StoredObject | None:
        """The object as it is now, with its metadata; None where there is none."""
        ...

    def read(self, key: str) -> tuple[StoredObject, bytes]:
        """The object's bytes, with the etag and metadata of exactly these bytes.

        Raises: ObjectNotFoundError, StoreUnavailableError.
        """
        ...


class ChangeEvents(Protocol):
    """The notifications of one bucket, from now on. Iterated once, closed from any thread."""

    @property
    def connected(self) -> bool:
        """True once changes are being told."""
        ...

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Notifications as the server sends them.

        Raises: EventsNotOfferedError; StoreUnavailableError as soon as one may have been lost; StoreError.
        """
        ...

    def close(self) -> None:
        """End the iteration."""
        ...


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of our own, as a listing shows it."""

    name: str
    size_bytes: int


class WritableBucket(ImageStore, Protocol):
    """A bucket that this program also writes to: the demo's, and those that hold its own files.

    Raises, all methods: StoreError, StoreUnavailableError.
    """

    def make_bucket(self) -> None:
        """Create the bucket; it is no error if it is there already."""
        ...

    def remove_bucket(self) -> None:
        """Remove the empty bucket. Raises: ObjectNotFoundError."""
        ...

    def upload(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> str:
        """Write an object and return its etag."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; it is no error if there is none."""
        ...


class FileStore(Protocol):
    """Where this program keeps files of its own: below a prefix of a bucket, or in a folder. Thread-safe.

    Raises, all methods: StoreError, StoreUnavailableError.
    """

    @property
    def location(self) -> str:
        """`s3://bucket/prefix/` or the folder's path: as `hash train --features` takes it."""
        ...

    def list(self, prefix: str = "") -> Iterator[StoredFile]:
        """Stream the files whose names begin so, and what killed writers left, in no particular order.

        None where the place is not there.
        """
        ...

    def open(self, file: StoredFile) -> BinaryIO:
        """A seekable file that fetches no more than is read. Raises: ObjectNotFoundError, at the latest on reading."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Make a file, which appears whole or not at all. Its name must be new."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file; it is no error if there is none."""
        ...

    def address(self, name: str, *, age_s: float) -> str:
        """A link that whoever has it can fetch the file by, for so many seconds, a week at most; or a file's path."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ImageFeatures:
    """What one attempt at an image found, before hashing, R regions of it.

    `mask_features` (R + 1, C) and `image_features` (R + 1, D) float32; the last row is the whole image's.
    """

    image: ImageRef
    etag: str
    generation: int
    mask_features: FloatArray
    image_features: FloatArray


class FeatureKeeper(Protocol):
    """Takes the features of images while they are committed, and is told which are deleted. Thread-safe.

    Raises, all methods: StoreError, StoreUnavailableError.
    """

    def keep(self, images: Sequence[ImageFeatures]) -> None:
        """Keep the features of a batch, durable on return. Called before its rows are written.

        So every committed image has its features. Those of an attempt that is never committed are garbage.
        """
        ...

    def bury(self, generations: Mapping[ImageRef, int]) -> None:
        """Each image's features of a generation below the given one are deleted for good."""
        ...


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

    def insert_regions(self, rows: Sequence[RegionRow]) -> None:
        """Add region rows, durable on return. They are garbage until their image row is there."""
        ...

    def insert_images(self, rows: Sequence[ImageRow]) -> None:
        """Add image rows, durable and visible on return: this commits them."""
        ...

    def newest(self, images: Collection[ImageRef]) -> dict[ImageRef, ImageRow]:
        """The newest image row of each of these images that has one."""
        ...

    def iterate_images(self, *, bucket: str | None = None, key_prefix: str = "") -> Iterator[ImageRow]:
        """Stream all image rows (older generations included) in no particular order."""
        ...

    def iterate_regions(self, *, bucket: str | None = None, key_prefix: str = "") -> Iterator[RegionRow]:
        """Stream all region rows with their codes, garbage included, in no particular order."""
        ...

    def iterate_states(self, *, bucket: str | None = None, key_prefix: str = "") -> Iterator[ImageState]:
        """`iterate_images` with no more than tells whether an image is up to date."""
        ...

    def iterate_attempts(self, *, bucket: str | None = None, key_prefix: str = "") -> Iterator[tuple[ImageRef, int]]:
        """Stream image and generation of every region row, garbage included, in no particular order."""
        ...

    def regions_of(self, images: Collection[ImageRef]) -> Iterator[RegionRow]:
        """Stream all region rows of these images with their codes, garbage included, in no particular order."""
        ...

    def count_regions(self, *, bucket: str, key_prefix: str = "") -> int:
        """How many region rows a source has, garbage included; cheap. Too many where a name has control characters."""
        ...

    def search(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[RegionMatch]]:
        """For each of Q codes the `limit` nearest region rows by Hamming distance, nearest first, garbage included.

        Ties are ordered by row id where the index is exact. Fewer than `limit` matches mean there are no more.
        With `Filter.images` every index compares with all rows of these images.
        """
        ...

    def search_images(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[ImageMatch]]:
        """The same over whole-image codes, of findable rows alone: indexed ones, and empty ones that have a code.

        Raises: FilterError also for region-only filters.
        """
        ...

    def codes_of(self, ids: Sequence[str], *, of: CodeKind = "regions") -> dict[str, bytes]:
        """The codes of rows by `row_id`; of those that are there. Searches leave them out: Milvus Lite cannot give a
        vector with a hit, and few hits need theirs.
        """
        ...

    def regions(self, ids: Collection[str]) -> dict[str, RegionRow]:
        """The region rows with these ids that are there, garbage included."""
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

    def count_words(self) -> int:
        """How many regions have a words code, garbage included; cheap."""
        ...

    def words_of(self, images: Collection[ImageRef]) -> Iterator[tuple[str, bytes]]:
        """Stream id and words code of all region rows of these images that have one; none where there are no words."""
        ...

    def delete_before(self, generations: Mapping[ImageRef, int]) -> None:
        """Delete each image's rows with a generation below the given one: image rows first, words, then regions.

        So what a killed call leaves is region rows at least, by which garbage is found.
        """
        ...

    def delete_images(self, images: Collection[ImageRef]) -> None:
        """Delete all rows of these images: image rows first, words, then regions."""
        ...

    def counts(self) -> IndexCounts:
        """How many rows there are, garbage included; cheap. `collecting.holdings` leaves it out."""
        ...


@runtime_checkable
class IndexStore(Protocol):
    """A place that holds indexes (one per fingerprint), their manifests and hash layers, and which one is live."""

    @property
    def uri(self) -> str: ...

    @property
    def max_limit(self) -> int:
        """The largest `limit` its indexes' searches take (Milvus: 16384)."""
        ...

    def live(self) -> IndexManifest | None:
        """The manifest of the live index; None while there is none."""
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

    def remember(self, name: str, data: bytes) -> None:
        """Keep bytes under a name of up to 128 letters, digits, hyphens; readers see the old or the new ones whole."""
        ...

    def switch(self, fingerprint: str) -> None:
        """Make an existing index the live one, at once for all that ask from now on."""
        ...

    def drop(self, fingerprint: str) -> None:
        """Remove an index that is not live. Raises: RegionIndexError if it is."""
        ...

    def close(self) -> None:
        """Free this process' connections; others that share the index are not disturbed."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
