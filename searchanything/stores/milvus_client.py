"""pymilvus' client, whose answers to a question are rows as tuples: what a server found, and what it holds."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, TypeAlias

from searchanything.stores.milvus_filters import quote
from searchanything.stores.milvus_insertion import insert_request
from searchanything.stores.milvus_library import MilvusClient, MilvusException
from searchanything.stores.milvus_schema import Entity, FoundRow
from searchanything.stores.row_checks import MAX_LIMIT

FoundRows: TypeAlias = list[FoundRow]
IN_ORDER_OF_IDS: Final = {"iterator": "True", "reduce_stop_for_best": "True"}
"""Parameters of a query whose rows are the first ones by id, as pymilvus' own iterator has them."""
_IN_THE_MESSAGE: Final[Mapping[str, Any]] = {
    "fields": []
}  # what pymilvus would ask the server for, to make a message of rows
_TOO_FAST: Final = 8  # Milvus' code for a rate that is exceeded: nothing was done
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.01, 3.0  # as pymilvus'
_BY_DISTANCE_AND_ID: Final = itemgetter(0, 1)


@dataclass(frozen=True, slots=True)
class RowPage:
    """Which rows are read: of those for which an expression holds the first ones by id, after one; up to `most`.

    `fields` are what is wanted of each row; its id always comes along. What was written until `as_of` is there, a time
    by `RowClient.now`.
    """

    collection: str
    expression: str
    fields: Sequence[str]
    after: str
    most: int
    as_of: int

    @property
    def whole_expression(self) -> str:
        """The expression, and that the id comes after."""
        beyond = f"id > {quote(self.after)}"
        return f"{beyond} and ({self.expression})" if self.expression else beyond


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
        self,
        collection: str,
        expression: str,
        fields: Sequence[str],
        *,
        level: str,
        as_of: int | None = None,
        timeout_s: float,
    ) -> list[Entity]:
        """Up to `MAX_LIMIT` rows for which an expression holds: at a consistency level, or as of a time by `now`."""
        reading: dict[str, str | int] = {"consistency_level": level}
        if as_of is not None:  # which pymilvus leaves out of a message of any other level
            reading = {"consistency_level": "Customized", "guarantee_timestamp": as_of}
        found = self.query(
            collection,
            filter=expression,
            output_fields=list(fields),
            limit=MAX_LIMIT,
            timeout=timeout_s,
            **reading,
        )
        return list(found)

    def add(self, collection: str, entities: Sequence[Entity], timeout_s: float) -> int:
        """Insert rows, of which there is at least one; how many the server says that it has taken.

        They are sent again only where the server refused them as too many at once. pymilvus would send them again, too,
        where the connection broke before the answer, and those that had arrived would be there twice.
        """
        connection, request = self._get_connection(), insert_request(collection, entities)
        insert = inspect.unwrap(type(connection).batch_insert)
        until, pause_s = time.monotonic() + timeout_s, _FIRST_PAUSE_S
        while True:
            try:
                done = insert(
                    connection,
                    collection,
                    [],
                    insert_param=request,
                    schema=_IN_THE_MESSAGE,
                    timeout=timeout_s,
                    context=self._generate_call_context(),
                )
            except MilvusException as error:
                if error.code != _TOO_FAST or time.monotonic() + pause_s >= until:
                    raise
            else:
                return int(done.insert_count)
            time.sleep(pause_s)
            pause_s = min(3 * pause_s, _LAST_PAUSE_S)

    def now(self, timeout_s: float) -> int:
        """The server's time: who reads as of it sees all that anybody wrote before."""
        return int(self._get_connection().alloc_timestamp(timeout=timeout_s))

    def page(self, asked: RowPage, timeout_s: float) -> list[Entity]:
        """The rows, by id. Fewer than `most` may be followed by others; none are not.

        pymilvus' own iterator takes a second more for each stream from servers that do not say as of when they read,
        such as 2.3. The time counts, as our collections are of Session level.
        """
        found = self.query(
            asked.collection,
            filter=asked.whole_expression,
            output_fields=list(asked.fields),
            limit=asked.most,
            timeout=timeout_s,
            guarantee_timestamp=asked.as_of,
            **IN_ORDER_OF_IDS,
        )
        return list(found)


def in_order(rows: Any) -> FoundRows:  # noqa: ANN401 - an iterable of tuples
    """Rows by (distance, id), the first two of their values."""
    return sorted(rows, key=_BY_DISTANCE_AND_ID)
