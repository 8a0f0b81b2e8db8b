"""The rows of an index: one of each region, and one of each attempt at an image, which commits its regions.

Rows are only ever added and deleted (`core.protocols.RegionIndex`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import ClassVar, TypeVar

from searchanything.core.short_reprs import ShortRepr
from searchanything.core.types import BoxXYXY as BoxXYXY  # of a field that `RegionRow` inherits
from searchanything.core.types import ImageRef, IndexedRegion, MaskRLE, Metadata


class Outcome(StrEnum):
    """What became of an image at its last attempt."""

    INDEXED = "indexed"
    EMPTY = "empty"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RegionRow(IndexedRegion):
    """One indexed region: a row of the regions' collection.

    `words_code` is the code of f_I alone, by which a text finds the region, where the index has such codes.
    """

    _shown: ClassVar[tuple[str, ...]] = ("image", "region", "generation", "box_xyxy")
    mask: MaskRLE
    region: int
    id: str
    code: bytes
    indexed_at_ms: int
    words_code: bytes = b""


@dataclass(frozen=True, slots=True, repr=False)
class ImageState(ShortRepr):
    """As much of an image row as tells whether it is up to date."""

    _shown: ClassVar[tuple[str, ...]] = ("image", "outcome", "regions", "generation")
    image: ImageRef
    etag: str
    generation: int
    outcome: Outcome
    regions: int
    modified_at_ms: int = 0
    sidecar_etag: str = ""

    @property
    def is_findable(self) -> bool:
        """True if the row has a code that searches for whole images compare with: see `ImageRow`."""
        return self.outcome is not Outcome.FAILED


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ImageRow(ImageState):
    """One attempt at an image that was brought to an end: a row of the images' collection, the commit.

    `code` is the whole image's code, all zero where the outcome is `FAILED`. `error` and `message` say why it failed.
    `modified_at_ms` and `sidecar_etag` are the stored object's. `attempts` counts tries at the same content; where the
    last one failed after others had succeeded, the failures since. The first of them was at `first_at_ms`; where one
    succeeded after others had failed, the first that succeeded.
    """

    id: str
    code: bytes
    error: str
    message: str
    attempts: int
    first_at_ms: int
    last_at_ms: int
    image_width: int
    image_height: int
    metadata: Metadata


@dataclass(frozen=True, slots=True, repr=False)
class StoredCode(ShortRepr):
    """As much of a row as its code needs to be compared: `region` is None for an image row."""

    _shown: ClassVar[tuple[str, ...]] = ("image", "region", "generation")
    image: ImageRef
    generation: int
    region: int | None
    code: bytes


@dataclass(frozen=True, slots=True)
class WordsMatch:
    """A region whose words code a text is near to, with their Hamming distance; the region's row has the same id."""

    id: str
    image: ImageRef
    generation: int
    region: int
    distance_bits: int


State = TypeVar("State", bound=ImageState)


def newest_of_each(rows: Iterable[State]) -> dict[ImageRef, State]:
    """Of image rows the newest of each image."""
    newest: dict[ImageRef, State] = {}
    for row in rows:
        if row.image not in newest or newest[row.image].generation < row.generation:
            newest[row.image] = row
    return newest


def least_ids(share: float) -> str | None:
    """The text that about such a share of all row ids lies below; None for all of them.

    Raises: ValueError for a share that is not above 0.
    """
    if not share > 0:
        raise ValueError(f"expected a share above 0, got {share}")
    return None if share >= 1 else format(int(share * 16**12), "012x")


def row_id(image: ImageRef, generation: int, region: int | None = None) -> str:
    """Primary key of a row: 32 hex digits of bucket, key, generation and region number (None: the image row)."""
    tail = "image" if region is None else str(region)
    return blake2b(f"{image.bucket}\0{image.key}\0{generation}\0{tail}".encode(), digest_size=16).hexdigest()
