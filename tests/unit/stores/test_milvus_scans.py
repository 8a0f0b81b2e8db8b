"""What a Milvus server looks at for rows of some images: those alone, by the index of `image_id`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from contracts.index_rows import BITS, HASH_LAYER, image_row, manifest_of, region_row
from fakes.recording_server import RecordingServer

from searchanything.core.errors import RegionIndexError
from searchanything.core.rows import Outcome
from searchanything.core.types import ImageRef
from searchanything.stores import milvus_rows
from searchanything.stores.milvus import MilvusIndexStore
from searchanything.stores.milvus_index import MilvusRegionIndex
from searchanything.stores.row_checks import MAX_LIMIT

F = "f" * 64


class ScannedServer(RecordingServer):
    """A server that answers `most` rows at once, and whose streams by ids must not be begun for a few images."""

    def __init__(self, most: int = MAX_LIMIT, *, refuses: bool = False) -> None:
        super().__init__()
        self.most, self.refuses = most, refuses
        self.expressions: list[str] = []
        self.pages: list[int | None] = []

    def insert(self, name: str, entities: list[dict[str, Any]]) -> None:
        super().insert(name, [row | {"code": [row["code"]]} for row in entities])  # as pymilvus gives it back

    def query(
        self, name: str, expression: str, fields: list[str], *, strong: bool = False, as_of: int | None = None
    ) -> list[dict[str, Any]]:
        self.expressions.append(expression)
        found = super().query(name, expression, fields, strong=strong, as_of=as_of)
        if self.refuses and len(found) >= self.most:
            raise RegionIndexError("grpc: received message larger than max")
        return found[: self.most]

    def iterate(
        self, name: str, expression: str, fields: list[str], *, page_rows: int | None = None
    ) -> Iterator[dict[str, Any]]:
        self.pages.append(page_rows)
        return iter(super().query(name, expression, fields))


def rows_on(server: RecordingServer, images: int, *, each: int = 3) -> tuple[MilvusRegionIndex, list[ImageRef]]:
    """An index with images of so many regions."""
    store = MilvusIndexStore(server, "")  # type: ignore[arg-type]
    index, refs = store.create(manifest_of(F), HASH_LAYER), [ImageRef("bucket", f"{n}.jpg") for n in range(images)]
    index.insert_regions([region_row(ref, number, generation=5) for ref in refs for number in range(each)])
    index.insert_images([image_row(ref, generation=5) for ref in refs])
    return index, refs


def test_the_rows_of_images_are_looked_up_without_a_look_at_all_ids() -> None:
    server = ScannedServer()
    index, refs = rows_on(server, 300)
    assert len(list(index.regions_of(refs))) == 900
    assert server.pages == []
    assert not any("id >" in one for one in server.expressions)


def test_all_rows_of_images_are_read_as_of_one_time() -> None:
    """A strong read waits for the server's clock: one for each few hundred images was most of a backup."""
    server = ScannedServer()
    index, refs = rows_on(server, 600)
    server.requests.clear()
    list(index.regions_of(refs))
    assert server.requests == [("as of 0", index.collections[0])] * 3


@pytest.mark.parametrize("refuses", [False, True], ids=["cut at the limit", "refused as too large"])
def test_rows_of_images_that_no_answer_holds_are_asked_for_in_parts(
    monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    monkeypatch.setattr(milvus_rows, "MAX_LIMIT", 7)
    server = ScannedServer(7, refuses=refuses)
    index, refs = rows_on(server, 10)
    assert Counter(row.image for row in index.regions_of(refs)) == dict.fromkeys(refs, 3)
    assert server.pages == []
    alone = ScannedServer(7, refuses=refuses)
    index, refs = rows_on(alone, 1, each=9)
    assert len(list(index.regions_of(refs))) == 9
    assert alone.pages == [None], "it is streamed"


def test_a_commit_compares_no_generations_but_those_of_its_own_images() -> None:
    server = ScannedServer()
    index, refs = rows_on(server, 4)
    server.expressions.clear()
    index.delete_before(dict.fromkeys(refs[:2], 6) | dict.fromkeys(refs[2:], 5))
    assert server.expressions
    assert not any("generation" in one for one in server.expressions)
    deleted = [one for kind, _, one in (request for request in server.requests if request[0] == "delete")]
    own = [row for name in index.collections for row in server.collections[name]]
    assert {row["key"] for row in own if any(row["id"] in one for one in deleted)} == {"0.jpg", "1.jpg"}


def test_a_sample_is_read_in_few_pages() -> None:
    server = ScannedServer()
    index, _ = rows_on(server, 2)
    list(index.iterate_codes(share=0.5))
    list(index.iterate_codes())
    assert server.pages == [8192, None]


def test_failed_images_are_streamed_without_their_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server takes longer to read a vector than all the rest of a row, and these are zeros."""
    server = ScannedServer()
    index, _ = rows_on(server, 0)
    failed = image_row(ImageRef("b", "a.jpg"), generation=5, outcome=Outcome.FAILED, regions=0, code=bytes(BITS // 8))
    index.insert_images([failed])
    asked: list[list[str]] = []
    iterate = server.iterate

    def noted(name: str, expression: str, fields: list[str]) -> Iterator[dict[str, Any]]:
        asked.append(fields)
        return iterate(name, expression, fields)

    monkeypatch.setattr(server, "iterate", noted)
    assert list(index.iterate_images(outcome=Outcome.FAILED)) == [failed]
    assert "code" not in asked[0]
