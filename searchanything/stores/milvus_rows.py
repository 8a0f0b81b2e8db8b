"""All rows of some images, as they are asked for by `image_id`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from searchanything.core.errors import RegionIndexError
from searchanything.stores.milvus_connection import MilvusConnection
from searchanything.stores.milvus_filters import one_of
from searchanything.stores.milvus_portions import Portions
from searchanything.stores.milvus_schema import GENERATION_OUTPUT, Entity
from searchanything.stores.row_checks import MAX_LIMIT

_SPARE_ROWS: Final = 64  # of older generations, beside as many as there are images
_VERSION_OUTPUT: Final = ["id", *GENERATION_OUTPUT]


@dataclass(frozen=True, slots=True)
class RowsOfImages:
    """Reads them from the collections of one index. Thread-safe."""

    connection: MilvusConnection
    portions: Portions

    def of(self, collection: str, ids: Sequence[str], fields: list[str], *, as_of: int | None = None) -> list[Entity]:
        """All rows of images, by `image_id` alone, which is indexed: for a page of a stream a server looks at all ids.

        Where they are too many, or too large, for one answer fewer images are asked for at once.
        """
        expression, rows = one_of("image_id", ids), None
        try:
            rows = self.connection.query(collection, expression, fields, as_of=as_of)
        except RegionIndexError as error:
            if type(error) is not RegionIndexError:
                raise
        if rows is not None and len(rows) < MAX_LIMIT:
            return rows
        if len(ids) == 1:
            return list(self.connection.iterate(collection, expression, fields))
        self.portions.too_many(collection, len(ids))
        half = len(ids) // 2
        return [
            *self.of(collection, ids[:half], fields, as_of=as_of),
            *self.of(collection, ids[half:], fields, as_of=as_of),
        ]

    def generations(self, collection: str, ids: Sequence[str], *, bits: int) -> list[tuple[str, int]]:
        """For each row of images its image, by id, and its generation. `bits` are those of the collection's codes."""
        most = 2 * len(ids) + _SPARE_ROWS
        if self.connection.embedded and most <= MAX_LIMIT:
            found = self._found(collection, one_of("image_id", ids), bits=bits, most=most)
            if len(found) < most:  # else there may be others
                return [(image_id, generation) for _, image_id, generation in found]
        return [(row["image_id"], row["generation"]) for row in self.of(collection, ids, GENERATION_OUTPUT)]

    def versions(self, collection: str, expression: str, *, bits: int) -> list[tuple[str, str, int]]:
        """Id, image, by id, and generation of up to `MAX_LIMIT` rows for which an expression holds."""
        if self.connection.embedded:
            return self._found(collection, expression, bits=bits, most=MAX_LIMIT)
        rows = self.connection.query(collection, expression, _VERSION_OUTPUT)
        return [(row["id"], row["image_id"], row["generation"]) for row in rows]

    def _found(self, collection: str, expression: str, *, bits: int, most: int) -> list[tuple[str, str, int]]:
        """The same from an embedded server, which makes the answer to a query by a walk over the ids of all rows, in
        their order, as far as the last that it gives. To a search, of any code, among the same rows it gives what it
        has found: a third of the time at a million images.
        """
        rows = self.connection.search(
            collection, [bytes(bits // 8)], expression, _VERSION_OUTPUT, limit=most, effort={}, doing="look for rows"
        )[0]
        return [(name, image_id, generation) for _, name, image_id, generation in rows]
