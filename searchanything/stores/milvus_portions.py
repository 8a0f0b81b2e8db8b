"""How many rows, or images, one question to Milvus names.

A server finds each by an index, so few are asked for at once, and others are soon served. An embedded server looks at
all the rows there are, whether for one or for thousands: so it is asked for as many as an answer has room for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from searchanything.core.batching import batches
from searchanything.stores.row_checks import MAX_LIMIT

Item = TypeVar("Item")
FEWEST_IMAGES: Final = 256
_IMAGES_OF_AGES: Final = 128
_CODES: Final = 1024
_DELETED: Final = 1024


@dataclass(frozen=True, slots=True)
class Portions:
    """The numbers for one index. Thread-safe."""

    embedded: bool
    _images: dict[str, int] = field(default_factory=dict)

    @property
    def codes(self) -> int:
        """Codes that are read by the ids of their rows."""
        return MAX_LIMIT // 2 if self.embedded else _CODES

    @property
    def deleted(self) -> int:
        """Rows that are deleted by their ids, or images all of whose rows are."""
        return MAX_LIMIT // 2 if self.embedded else _DELETED

    def images(self, collection: str, ids: Sequence[Item]) -> Iterator[Sequence[Item]]:
        """Images in portions, whose rows in a collection are read."""
        start = 0
        while start < len(ids):
            size = self._images.get(collection, MAX_LIMIT // 2) if self.embedded else FEWEST_IMAGES
            yield ids[start : start + size]
            start += size

    def images_of_ages(self, collection: str, ids: Sequence[Item]) -> Iterator[Sequence[Item]]:
        """Images in portions, of which rows are looked for that are older than a generation each."""
        return self.images(collection, ids) if self.embedded else batches(ids, _IMAGES_OF_AGES)

    def too_many(self, collection: str, images: int) -> None:
        """The rows of so many images did not fit into one answer: from now on fewer are asked for."""
        self._images[collection] = max(FEWEST_IMAGES, min(images // 2, self._images.get(collection, MAX_LIMIT)))
