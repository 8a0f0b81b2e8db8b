"""What an index was made with, what it holds, and what it needs to be searched by words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any, Final

SCHEMA_VERSION: Final = 2  # of the rows in the index


@dataclass(frozen=True, slots=True)
class IndexManifest:
    """What an index was made with: all that a query needs to know besides the model weights.

    `details` holds the parts of the fingerprint as plain JSON, for people.
    """

    fingerprint: str
    feature_fingerprint: str
    preset: str
    bits: int
    hash_digest: str
    hash_trained: bool
    schema_version: int
    created_at_ms: int
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IndexCounts:
    """How many rows of each kind an index holds. `images` counts the indexed ones."""

    images: int
    empty: int
    failed: int
    regions: int

    def __add__(self, other: IndexCounts) -> IndexCounts:
        pairs = zip(astuple(self), astuple(other), strict=True)
        return IndexCounts(*(one + another for one, another in pairs))


@dataclass(frozen=True, slots=True)
class WordsPart:
    """What an index needs to be searched by words alone: a second code per region, of f_I, in a collection of its own.

    `layer` are the bytes of the words layer. `bytes_per_region` leaves out what names differ in: bucket, key, metadata.
    """

    collection: str
    bits: int
    layer: bytes = field(repr=False)  # a megabyte, in a status that a notebook shows
    bytes_per_region: int
