"""How a collection is made, or what an interrupted attempt left to be made, and its codes are indexed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from searchanything.core.settings import MilvusSettings
from searchanything.stores.milvus_client import RowClient
from searchanything.stores.milvus_library import DataType
from searchanything.stores.milvus_schema import CollectionSpec, FieldSpec, check_fields, fields_of


@dataclass(frozen=True, slots=True)
class CollectionMaker:
    """Makes collections on one server. `look_at_made` is called before a new one has an index. Thread-safe."""

    settings: MilvusSettings
    uri: str
    embedded: bool
    look_at_made: Callable[[str], None]

    def make(self, client: RowClient, spec: CollectionSpec, timeout_s: float) -> None:
        """Make what is not there, and begin to load it. Raises: IndexMismatchError, and what pymilvus raises."""
        if not client.has_collection(spec.name, timeout=timeout_s):
            schema = RowClient.create_schema(auto_id=False, enable_dynamic_field=False)
            for number, field in enumerate(spec.fields):
                schema.add_field(field.name, getattr(DataType, field.type), is_primary=number == 0, **_size_of(field))
            client.create_collection(spec.name, schema=schema, timeout=timeout_s, consistency_level="Session")
            self.look_at_made(spec.name)
        else:
            check_fields(spec, fields_of(client.describe_collection(spec.name, timeout=timeout_s)), self.uri)
        present = client.list_indexes(spec.name, timeout=timeout_s)
        wanted = client.prepare_index_params()
        if "code" not in present:
            wanted.add_index("code", **self.vector_index(spec))
        if spec.scalar_index is not None and not self.embedded and spec.scalar_index not in present:
            wanted.add_index(spec.scalar_index, index_type="Trie")
        if len(wanted):
            client.create_index(spec.name, wanted, timeout=timeout_s, sync=False)  # an empty one needs no waiting
        client.load_collection(spec.name, timeout=timeout_s, _async=True)

    def vector_index(self, spec: CollectionSpec) -> dict[str, Any]:
        """The kind of index of a collection's codes, and its parameters."""
        settings = self.settings
        is_small = self.embedded or spec.scalar_index is None
        kind = "BIN_FLAT" if is_small else settings.index_type
        parameters = {
            "BIN_FLAT": {},
            "BIN_IVF_FLAT": {"nlist": settings.nlist},
            "HNSW": {"M": settings.hnsw_m, "efConstruction": settings.ef_construction},
        }
        return {"index_type": kind, "metric_type": "HAMMING", "params": parameters[kind]}


def _size_of(field: FieldSpec) -> dict[str, int]:
    return {} if field.size is None else {"dim" if field.type == "BINARY_VECTOR" else "max_length": field.size}
