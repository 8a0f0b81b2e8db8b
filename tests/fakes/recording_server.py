"""A Milvus server as the store sees it, in memory: rows, an alias, and every request noted."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from contracts.index_rows import BITS

from searchanything.core.errors import IndexNotFoundError
from searchanything.stores.milvus_schema import LivePointer, images_spec, regions_spec


class RecordingServer:
    """A server as the store sees it: collections of rows, an alias, and every request noted."""

    embedded, absent, uri = False, False, "http://recorded"

    def __init__(self) -> None:
        self.collections: dict[str, list[dict[str, Any]]] = {}
        self.alias: str | None = None
        self.requests: list[tuple[str, ...]] = []
        self.released: set[str] = set()

    state: int | None = None  # a server does not tell who else has written

    def rows_state(self) -> int | None:
        return self.state

    def begin(self) -> None:
        """A server has no file that could be another one by now."""

    def create_collection(self, spec: Any) -> None:
        self.collections.setdefault(spec.name, [])

    def has_collection(self, name: str) -> bool:
        return name in self.collections

    def load(self, name: str) -> None:
        if name not in self.collections:
            raise IndexNotFoundError(name)
        self.released.discard(name)

    def release(self, name: str) -> None:
        self.released.add(name)

    def is_loaded(self, name: str) -> bool:
        return name in self.collections and name not in self.released

    def fields(self, name: str) -> dict[str, int | None]:
        self.load(name)
        return {one.name: one.size for spec in (images_spec, regions_spec) for one in spec("", BITS).fields}

    def vector_index_type(self, name: str) -> str:  # noqa: ARG002
        return "BIN_FLAT"

    def drop_collection(self, name: str) -> None:
        del self.collections[name]

    def alias_target(self, alias: str) -> LivePointer | None:  # noqa: ARG002
        self.requests.append(("alias",))
        return None if self.alias is None else LivePointer(self.alias, 0)

    def point_alias(self, alias: str, name: str) -> None:  # noqa: ARG002
        self.alias = name

    def insert(self, name: str, entities: list[dict[str, Any]]) -> None:
        self.collections[name] += entities

    def delete(self, name: str, expression: str) -> None:
        self.requests.append(("delete", name, expression))

    def now(self) -> int:
        return len(self.requests)

    def query(
        self, name: str, expression: str, fields: list[str], *, strong: bool = False, as_of: int | None = None
    ) -> list[dict[str, Any]]:
        self.requests.append(("strong" if strong else "read" if as_of is None else f"as of {as_of}", name))
        wanted = dict(re.findall(r'(kind|fingerprint) == "([^"]*)"', expression))
        return [
            {field: row[field] for field in fields}
            for row in self.collections[name]
            if all(row[field] == value for field, value in wanted.items())
            and ("image_id in" not in expression or row["image_id"] in expression)
        ]

    def writing(self) -> Any:
        return contextlib.nullcontext()
