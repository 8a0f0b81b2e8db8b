"""A collection that another program made, or codes of another length, are seen before rows are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from searchanything.core.errors import IndexMismatchError
from searchanything.stores.milvus_schema import (
    CollectionSpec,
    check_fields,
    fields_of,
    images_spec,
    regions_spec,
    words_spec,
)


def described(spec: CollectionSpec, bits: int) -> dict[str, Any]:
    """As pymilvus describes a collection of these fields, and one more of a later version."""
    fields = [{"name": field.name, "params": {"dim": bits} if field.name == "code" else {}} for field in spec.fields]
    return {"fields": [*fields, {"name": "later", "params": {"max_length": 9}}]}


@pytest.mark.parametrize("make", [regions_spec, words_spec, images_spec])
def test_each_field_is_needed_and_the_length_of_codes(make: Callable[[str, int], CollectionSpec]) -> None:
    spec = make("t_regions", 128)
    present = fields_of(described(spec, 128))
    assert present["code"] == 128
    assert present["later"] is None
    check_fields(spec, present, "uri")
    for field in spec.fields:
        with pytest.raises(IndexMismatchError, match=f"t_regions has no field '{field.name}'"):
            check_fields(spec, {name: bits for name, bits in present.items() if name != field.name}, "uri")
    with pytest.raises(IndexMismatchError, match="codes of 256 bits, expected 128"):
        check_fields(spec, fields_of(described(spec, 256)), "uri")
