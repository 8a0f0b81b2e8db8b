"""Rows in memory beside their codes and columns, found by id, by image and by code."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np

from searchanything.core.codes import stacked
from searchanything.core.rows import ImageRow, RegionRow
from searchanything.core.types import Codes, ImageRef
from searchanything.stores.filters import objects_predicate
from searchanything.stores.memory_columns import Columns, GrowingArray
from searchanything.stores.predicates import Predicate
from searchanything.stores.scans import Nearest, nearest_codes

Row = TypeVar("Row", RegionRow, ImageRow)


class Table(Generic[Row]):
    """Rows in no particular order: the last one fills the place of one that is deleted. Not thread-safe."""

    def __init__(self, code_bytes: int) -> None:
        self.rows: list[Row] = []
        self._codes = GrowingArray(np.uint8, (code_bytes,))
        self._columns = Columns(self.rows)
        self._numbers: dict[str, int] = {}
        self._of_image: dict[ImageRef, set[str]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, id: str) -> bool:
        return id in self._numbers

    def insert(self, rows: Sequence[Row]) -> None:
        """Add rows; one whose id is there takes its place."""
        self._delete([row.id for row in rows if row.id in self._numbers])
        for number, row in enumerate(rows, start=len(self.rows)):
            self._numbers[row.id] = number
            self._of_image.setdefault(row.image, set()).add(row.id)
        self._codes.extend(stacked((row.code for row in rows), 8 * self._codes.filled.shape[1]))
        self.rows.extend(rows)
        self._columns.extend(rows)

    def get(self, ids: Iterable[str]) -> Iterator[Row]:
        """The rows with these ids."""
        return (self.rows[self._numbers[one]] for one in dict.fromkeys(ids) if one in self._numbers)

    def of_images(self, images: Collection[ImageRef]) -> list[Row]:
        """All rows of these images."""
        return [row for image in dict.fromkeys(images) for row in self.get(sorted(self._of_image.get(image, ())))]

    def under(self, bucket: str | None, key_prefix: str) -> list[Row]:
        """All rows of a bucket whose key starts so."""
        if bucket is None and not key_prefix:
            return list(self.rows)
        chosen = self._columns.chosen(objects_predicate(bucket, key_prefix))
        return [self.rows[number] for number in np.flatnonzero(chosen).tolist()]

    def count(self, predicate: Predicate) -> int:
        """How many rows a predicate is true of."""
        return int(np.count_nonzero(self._columns.chosen(predicate)))

    def delete_before(self, generations: Mapping[ImageRef, int]) -> None:
        old = [row.id for row in self.of_images(list(generations)) if row.generation < generations[row.image]]
        self._delete(old)

    def delete_images(self, images: Collection[ImageRef]) -> None:
        self._delete([row.id for row in self.of_images(images)])

    def delete(self, ids: Collection[str]) -> None:
        """Delete the rows with these ids, as far as they are there."""
        self._delete([row.id for row in self.get(ids)])

    def nearest(self, queries: Codes, limit: int, predicate: Predicate | None = None) -> list[list[tuple[Row, int]]]:
        """For each of (Q, B) codes the `limit` nearest rows with their distances, ordered by (distance, id)."""
        codes, chosen = self._codes.filled, None
        if predicate is not None:
            chosen = np.flatnonzero(self._columns.chosen(predicate))
            codes = _taken(codes, chosen)
        found = nearest_codes(queries, codes, limit)
        return [self._first((one[0] if chosen is None else chosen[one[0]], one[1]), limit) for one in found]

    def _first(self, found: Nearest, limit: int) -> list[tuple[Row, int]]:
        """The first rows by (distance, id)."""
        rows = self.rows
        ranked = [
            (distance, row.id, row)
            for distance, row in zip(found[1].tolist(), map(rows.__getitem__, found[0].tolist()), strict=True)
        ]
        ranked.sort(key=lambda one: one[:2])
        return [(row, distance) for distance, _, row in ranked[:limit]]

    def _delete(self, ids: Sequence[str]) -> None:
        for one in ids:
            number = self._numbers.pop(one)
            of_image = self._of_image[self.rows[number].image]
            of_image.discard(one)
            if not of_image:
                del self._of_image[self.rows[number].image]
            last = self.rows.pop()
            if number < len(self.rows):
                self.rows[number] = last
                self._numbers[last.id] = number
            self._codes.fill_hole(number)
            self._columns.fill_hole(number)


def _taken(codes: Codes, numbers: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Codes:
    """Some of (N, B) contiguous codes: NumPy takes whole items three times as fast as rows of bytes."""
    items = codes.view(f"V{codes.shape[1]}")[:, 0]
    return np.take(items, numbers).view(np.uint8).reshape(len(numbers), codes.shape[1])
