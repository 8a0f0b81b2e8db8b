"""What a place of images must do, and a place where this program keeps files of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, TypeAlias

from searchanything.core.omissions import Omissions
from searchanything.core.types import FloatArray, ImageRef, StoredObject

Opener: TypeAlias = Callable[[], BinaryIO]


class ImageStore(Protocol):
    """Where images lie: a bucket or a folder. Thread-safe."""

    @property
    def bucket(self) -> str:
        """The bucket's name, or the folder's absolute path."""
        ...

    def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:
        """Stream the objects whose key starts with `prefix`, in no particular order, images or not.

        What is skipped is noted in `omissions`. Without them, places that cannot be looked at raise StoreError once
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
        """Make a file, or replace it; it appears whole or not at all."""
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

    def add_tombstones(self, generations: Mapping[ImageRef, int]) -> None:
        """Each image's features of a generation below the given one are deleted for good."""
        ...
