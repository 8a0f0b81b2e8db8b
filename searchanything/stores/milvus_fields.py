"""Whether a collection in Milvus has the fields that rows of ours need: another program may have made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from searchanything.core.errors import IndexMismatchError
from searchanything.stores.milvus_schema import CollectionSpec


def fields_of(described: Mapping[str, Any]) -> dict[str, int | None]:
    """Names of the fields of a collection as pymilvus describes it; for a vector also its bits."""
    return {field["name"]: field["params"].get("dim") for field in described["fields"]}


def check_fields(spec: CollectionSpec, present: Mapping[str, int | None], uri: str) -> None:
    """Raises: IndexMismatchError where a collection lacks a field, or holds codes of other bits."""
    for field in spec.fields:
        if field.name not in present:
            raise IndexMismatchError(
                f"{uri}: the collection {spec.name} has no field {field.name!r}: another program made it, or another "
                f"version of this one; name another --uri or SEARCHANYTHING_MILVUS__COLLECTION_PREFIX, and index again"
            )
    bits, wanted = present["code"], next(field.size for field in spec.fields if field.name == "code")
    if bits != wanted:
        raise IndexMismatchError(f"{uri}: {spec.name} holds codes of {bits} bits, expected {wanted}")
