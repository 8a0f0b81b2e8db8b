"""A collection's rows, page by page: no page is larger than a server answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from searchanything.core.errors import RegionIndexError
from searchanything.stores.milvus_schema import Entity

PAGE_ROWS, MOST_PAGE_ROWS, FEWEST_PAGE_ROWS = 1000, 8192, 64  # of a stream's first pages, and of any


class RowPages:
    """The pages of one stream, each asked for by the last id before it and by its size: `ask(after, rows)`.

    The server looks at the ids of all rows for each page: pages grow with what was read, so that there are few.
    It refuses answers above 64 or 100 MiB: then half as many rows are asked for.
    """

    def __init__(self, ask: Callable[[str, int], list[Entity]], *, first: int) -> None:
        self._ask = ask
        self._first = first
        self._most = MOST_PAGE_ROWS
        self._done = 0

    def page(self, after: str) -> list[Entity]:
        """The rows behind this id, in the order of their ids; none at the end. Raises: RegionIndexError."""
        while True:
            size = min(self._most, max(self._first, self._done // 8))
            try:
                rows = self._ask(after, size)
            except RegionIndexError as error:
                if type(error) is not RegionIndexError or size <= FEWEST_PAGE_ROWS:
                    raise
                self._most = size // 2
            else:
                self._done += len(rows)
                return rows

    def rest(self, rows: list[Entity]) -> Iterator[Entity]:
        """These rows, and all behind them. Raises: RegionIndexError."""
        while rows:
            yield from rows
            rows = self.page(str(rows[-1]["id"]))
