"""Rows before they are sent: cutting texts and messages."""

from __future__ import annotations

from typing import Any

from contracts.index_rows import region_row
from hypothesis import given
from hypothesis import strategies as st

from searchanything.core.types import ImageRef, MaskRLE
from searchanything.stores.milvus_schema import messages, region_entity
from searchanything.stores.row_checks import RowLimits, cut_to_bytes


@given(st.text(st.characters(), max_size=60), st.integers(0, 80))
def test_a_cut_text_is_the_longest_beginning_that_fits(text: str, limit: int) -> None:
    whole = "".join("?" if "\ud800" <= letter <= "\udfff" else letter for letter in text)
    cut = cut_to_bytes(text, limit)
    assert whole.startswith(cut)
    assert len(cut.encode()) <= limit
    assert cut == whole or len(whole[: len(cut) + 1].encode()) > limit


@given(st.lists(st.integers(0, 60_000), max_size=400))
def test_batches_keep_all_rows_in_order_and_within_bounds(sizes: list[int]) -> None:
    entities: list[dict[str, Any]] = [{"id": str(number), "code": bytes(size)} for number, size in enumerate(sizes)]
    cut = list(messages(entities))
    assert [entity for batch in cut for entity in batch] == entities
    assert all(batch and sum(len(entity["code"]) for entity in batch) <= 8 * 2**20 for batch in cut)


def test_batches_are_bounded_in_rows() -> None:
    assert [len(batch) for batch in messages({"id": str(number)} for number in range(4001))] == [2000, 2000, 1]


def test_the_largest_rows_stay_below_the_server_s_message_limit() -> None:
    rows = [
        region_row(
            ImageRef("b" * 4096, "🦊" * 1024),
            number,
            generation=1,
            etag="e" * 1024,
            mask=MaskRLE((1, 1), "x" * 4096),
            metadata={"m": "é" * 29_000},
        )
        for number in range(150)
    ]
    entities = [region_entity(row) for row in RowLimits(256).regions(rows)]
    cut = list(messages(entities))
    assert len(cut) > 1, "one message would prove nothing"
    for batch in cut:
        bytes_of_texts = sum(len(str(value).encode()) for entity in batch for value in entity.values())
        assert bytes_of_texts < 16 * 2**20
