"""Messages of rows: the columns hold what pymilvus' own messages, made row by row, hold."""

from __future__ import annotations

from typing import Any

import pytest
from contracts.index_rows import image_row, region_row
from pymilvus import DataType
from pymilvus.client.prepare import Prepare

from searchanything.core.types import ImageRef
from searchanything.stores.milvus_insertion import insert_request
from searchanything.stores.milvus_schema import (
    CollectionSpec,
    Entity,
    image_entity,
    images_spec,
    meta_spec,
    region_entity,
    regions_spec,
    words_entity,
    words_spec,
)

KEYS = ["a.jpg", 'quoted "k"/\\ö漢.png', "", "0/1"]
METADATA: list[dict[str, Any]] = [{}, {"name": 'ä "x" 漢', "n": 2**53, "share": 0.1, "is": True}]
REGIONS = [
    region_row(ImageRef("b", key), number, generation=2**60 + number, metadata=METADATA[number % 2])
    for number, key in enumerate(KEYS)
]
IMAGES = [image_row(ImageRef("b", key), generation=7, metadata=METADATA[at % 2]) for at, key in enumerate(KEYS)]


def schema_of(spec: CollectionSpec) -> list[dict[str, Any]]:
    """The fields as pymilvus knows them from a server."""
    return [
        {
            "name": field.name,
            "type": getattr(DataType, field.type.value),
            "params": {"dim": field.size} if field.type == "BINARY_VECTOR" else {"max_length": field.size},
            "is_primary": at == 0,
        }
        for at, field in enumerate(spec.fields)
    ]


def columns_of(request: Any) -> dict[str, tuple[int, object]]:
    """Type and values of each column."""
    found: dict[str, tuple[int, object]] = {}
    for column in request.fields_data:
        held = column.vectors if column.HasField("vectors") else column.scalars
        found[column.field_name] = column.type, str(held)
    return found


@pytest.mark.parametrize(
    ("spec", "entities"),
    [
        (regions_spec("c", 256), [region_entity(row) for row in REGIONS]),
        (words_spec("c", 256), [words_entity(row) for row in REGIONS]),
        (images_spec("c", 256), [image_entity(row) for row in IMAGES]),
        (
            meta_spec("c"),
            [{"id": "x", "code": b"\1", "kind": "note", "fingerprint": "f", "number": 2**62, "body": "{}"}],
        ),
    ],
    ids=["regions", "words", "images", "meta"],
)
def test_they_hold_what_those_of_pymilvus_hold(spec: CollectionSpec, entities: list[Entity]) -> None:
    made = insert_request("c", entities)
    peer = Prepare.row_insert_param("c", entities, "", schema_of(spec))
    assert (made.collection_name, made.num_rows) == (peer.collection_name, peer.num_rows)
    assert columns_of(made) == columns_of(peer)
