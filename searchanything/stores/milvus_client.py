"""pymilvus' client, whose answers to a question are rows as tuples: what a server found, and what it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, TypeAlias

from searchanything.stores.milvus_library import MilvusClient
from searchanything.stores.milvus_schema import Entity, FoundRow
from searchanything.stores.row_checks import MAX_LIMIT

FoundRows: TypeAlias = list[FoundRow]
_BY_DISTANCE_AND_ID: Final = itemgetter(0, 1)


@dataclass(frozen=True, slots=True)
class RowSearch:
    """What is searched for: the rows of a collection that are nearest to each of several codes.

    `fields` are what is wanted of each row, its id first. `level` is a consistency level by Milvus' name.
    """

    collection: str
    codes: Sequence[bytes]
    expression: str
    fields: Sequence[str]
    limit: int
    effort: Mapping[str, int]
    level: str


class RowClient(MilvusClient):  # type: ignore[misc]  # pymilvus has no types
    """A client of a server at an address."""

    def nearest(self, asked: RowSearch, timeout_s: float) -> list[FoundRows]:
        """For each code the rows, ordered by (distance, id)."""
        found = self.search(
            asked.collection,
            data=list(asked.codes),
            anns_field="code",
            filter=asked.expression,
            limit=asked.limit,
            output_fields=list(asked.fields),
            search_params={"metric_type": "HAMMING", "params": dict(asked.effort)},
            timeout=timeout_s,
            consistency_level=asked.level,
        )
        values = itemgetter(*asked.fields)
        return [in_order((round(hit["distance"]), *values(hit["entity"])) for hit in hits) for hits in found]

    def rows(
        self, collection: str, expression: str, fields: Sequence[str], *, level: str, timeout_s: float
    ) -> list[Entity]:
        """Up to `MAX_LIMIT` rows for which an expression holds."""
        found = self.query(
            collection,
            filter=expression,
            output_fields=list(fields),
            limit=MAX_LIMIT,
            timeout=timeout_s,
            consistency_level=level,
        )
        return list(found)


def in_order(rows: Any) -> FoundRows:  # noqa: ANN401 - an iterable of tuples
    """Rows by (distance, id), the first two of their values."""
    return sorted(rows, key=_BY_DISTANCE_AND_ID)
