"""Rows are read from Milvus' messages: they are those that pymilvus makes of the same answers."""

from __future__ import annotations

from typing import Any

import pytest
from contracts.conftest import KINDS
from contracts.index_rows import image_row, random_codes, region_row

from searchanything.core.protocols import RegionIndex
from searchanything.core.types import ImageRef
from searchanything.stores.milvus_client import RowClient
from searchanything.stores.milvus_index import MilvusRegionIndex
from searchanything.stores.milvus_questions import RowSearch
from searchanything.stores.milvus_schema import (
    GENERATION_OUTPUT,
    IMAGE_HIT_OUTPUT,
    IMAGE_OUTPUT,
    REGION_HIT_OUTPUT,
    REGION_ROW_OUTPUT,
)

CODES = [code.tobytes() for code in random_codes(3, seed=8)]
KEYS = {
    "é.jpg": {},
    "日本語/写真.jpg": {"n": 3, "f": 0.1, "t": "ä", "b": True},
    'quote".jpg': {"n": -(2**62)},
    "z" * 3000: {"t": ""},
}


@pytest.fixture(scope="module")
def filled(shared_index: RegionIndex) -> MilvusRegionIndex:
    assert isinstance(shared_index, MilvusRegionIndex)
    for number, (key, metadata) in enumerate(KEYS.items()):
        image = ImageRef("b", key)
        rows = [region_row(image, one, generation=7, metadata=metadata, score=0.1) for one in range(3)]
        shared_index.insert_regions(rows)
        shared_index.insert_images([image_row(image, generation=7 + number, metadata=metadata, message="m")])
    return shared_index


@pytest.mark.parametrize("open_store", KINDS[1:], indirect=True, scope="module")
@pytest.mark.parametrize("expression", ["", "generation >= 7", "generation == 1"])
@pytest.mark.parametrize(
    ("number", "fields"), [(0, REGION_HIT_OUTPUT), (1, IMAGE_HIT_OUTPUT)], ids=["regions", "images"]
)
def test_what_a_search_finds(filled: MilvusRegionIndex, number: int, fields: list[str], expression: str) -> None:
    client, collection = filled._connection._connected(), filled.collections[number]
    found = client.nearest(RowSearch(collection, CODES, expression, fields, 9, {}, "Session"), 30.0)
    assert found == searched(client, collection, expression, fields)
    assert [len(rows) for rows in found] == [0 if "== 1" in expression else (9, 4)[number]] * len(CODES)


@pytest.mark.parametrize("open_store", KINDS[1:], indirect=True, scope="module")
@pytest.mark.parametrize("expression", ['bucket == "b"', "generation == 1"])
@pytest.mark.parametrize(
    ("number", "fields"),
    [(0, REGION_ROW_OUTPUT), (1, IMAGE_OUTPUT), (1, GENERATION_OUTPUT)],
    ids=["regions", "images", "generations"],
)
def test_what_is_read(filled: MilvusRegionIndex, number: int, fields: list[str], expression: str) -> None:
    client, collection = filled._connection._connected(), filled.collections[number]
    rows = client.rows(collection, expression, fields, level="Session", timeout_s=30.0)
    asked = {"filter": expression, "output_fields": fields, "limit": 99, "consistency_level": "Session"}
    expected = [{name: row[name] for name in fields} for row in client.query(collection, timeout=30.0, **asked)]
    assert sorted(rows, key=str) == sorted(expected, key=str)
    assert len(rows) == (0 if "== 1" in expression else (12, 4)[number])


def searched(client: RowClient, collection: str, expression: str, fields: list[str]) -> list[list[tuple[Any, ...]]]:
    """What pymilvus finds, as tuples by (distance, id)."""
    found = client.search(
        collection, data=CODES, anns_field="code", filter=expression, limit=9, output_fields=fields, timeout=30.0
    )
    hits = [[(round(one["distance"]), *(one["entity"][name] for name in fields)) for one in rows] for rows in found]
    return [sorted(rows, key=lambda row: row[:2]) for rows in hits]
