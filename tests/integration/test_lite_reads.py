"""What a question asks of an embedded server: how often, what comes back, and how soon others' writes are seen."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contracts.index_rows import HASH_LAYER, image_row, manifest_of, random_codes, region_row
from integration.lite_processes import kill, wait_until_ended

from searchanything.core.manifest import IndexCounts
from searchanything.core.protocols import IndexStore, RegionIndex
from searchanything.core.rows import RegionRow, row_id
from searchanything.core.settings import MilvusSettings
from searchanything.core.types import ImageRef, MaskRLE
from searchanything.ingest.garbage import holdings
from searchanything.search.search import PageRequest, search_regions
from searchanything.stores import lite_connection, milvus_index, milvus_rows
from searchanything.stores.lite_client import LiteClient
from searchanything.stores.lite_connection import LiteConnection
from searchanything.stores.milvus_client import RowClient
from searchanything.stores.milvus_index import MilvusRegionIndex
from searchanything.stores.milvus_opening import open_milvus
from searchanything.stores.milvus_schema import (
    image_entity,
)

NAME = "0" * 64
CODE = random_codes(1, seed=3)[0]
TESTS = Path(__file__).parents[1]
WRITER = """
import json, os, signal, sys
from pathlib import Path
from integration.test_lite_reads import NAME, near, opened
from contracts.index_rows import image_row
from searchanything.core.types import ImageRef

with opened(Path(sys.argv[1])) as store:
    index = store.open(NAME)
    for line in sys.stdin:
        image, order = ImageRef("b", "a.jpg"), json.loads(line)
        if "regions" in order:
            index.insert_regions([near(image, number, generation=order["regions"]) for number in range(2)])
        if "commit" in order:
            index.insert_images([image_row(image, generation=order["commit"], regions=2)])
        if "kill" in order:
            os.kill(os.getpid(), signal.SIGKILL)
        if "replace" in order:
            index.delete_before({image: order["replace"]})
        if "delete" in order:
            index.delete_images([image])
        print("done", flush=True)
"""


def opened(file: Path) -> IndexStore:
    return open_milvus(MilvusSettings(uri=str(file), lite_idle_s=0.5))


def near(image: ImageRef, region: int, *, generation: int, **changes: Any) -> RegionRow:
    """A region whose code is that of the question."""
    return region_row(image, region, generation=generation, code=CODE.tobytes(), **changes)


def found(index: RegionIndex) -> set[tuple[str, int]]:
    page = search_regions(index, CODE, PageRequest(10), filter=None)
    return {(hit.image.key, hit.generation) for hit in page.hits}


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "index.db"
    wait_until_ended(tmp_path / "index.db")


@pytest.fixture
def index(file: Path) -> Iterator[RegionIndex]:
    """An index with one image of two regions, a.jpg of generation 5."""
    with opened(file) as store:
        index = store.create(manifest_of(NAME), HASH_LAYER)
        image = ImageRef("b", "a.jpg")
        index.insert_regions([near(image, number, generation=5) for number in range(2)])
        index.insert_images([image_row(image, generation=5, regions=2)])
        yield index


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls to the server that read rows."""
    made: list[str] = []

    def noted(name: str) -> Callable[..., Any]:
        call = getattr(LiteClient, name)

        def through(self: LiteClient, *arguments: Any, **options: Any) -> Any:
            made.append(name)
            return call(self, *arguments, **options)

        return through

    for name in ("nearest", "rows"):
        monkeypatch.setattr(LiteClient, name, noted(name))
    return made


@pytest.fixture
def write(file: Path, index: RegionIndex) -> Iterator[Callable[[dict[str, Any]], bool]]:  # noqa: ARG001 - made first
    """Has another process write; True once it has said so, False if it died."""
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(file)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths},
    ) as writer:  # fmt: skip
        assert writer.stdin is not None
        assert writer.stdout is not None
        orders, answers = writer.stdin, writer.stdout

        def order(what: dict[str, Any]) -> bool:
            orders.write(json.dumps(what) + "\n")
            orders.flush()
            return answers.readline() == "done\n"

        yield order


def test_answers_may_be_larger_than_grpc_allows_by_itself(index: RegionIndex) -> None:
    mask = MaskRLE((120, 160), "0" * 4096)
    index.insert_regions([near(ImageRef("b", "large.jpg"), one, generation=5, mask=mask) for one in range(1200)])
    hits = index.search(CODE[None], limit=2000)[0]
    assert sum(len(hit.mask.counts) for hit in hits if hit.mask is not None) > 2**22
    assert len(list(index.regions_of([ImageRef("b", "large.jpg")]))) == 1200
    assert len(index.regions([row_id(hit.image, 5, hit.region) for hit in hits])) == len(hits) == 1202


def test_a_question_asked_again_is_the_search_alone(index: RegionIndex, file: Path, calls: list[str]) -> None:
    assert found(index) == {("a.jpg", 5)}
    assert calls == ["nearest"] * 2, "the second looks for what is committed"
    calls.clear()
    assert found(index) == {("a.jpg", 5)}
    assert calls == ["nearest"], "nobody has written: what is committed is known"
    with opened(file) as other:
        other.open(NAME).insert_images([image_row(ImageRef("b", "b.jpg"), generation=1)])
    calls.clear()
    assert found(index) == {("a.jpg", 5)}
    assert calls == ["nearest"] * 2, "somebody has"


def test_an_index_is_loaded_once_and_its_rows_are_counted_once(
    index: RegionIndex, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load = RowClient.load_collection
    monkeypatch.setattr(RowClient, "load_collection", lambda *a, **k: loaded.append(a[1]) or load(*a, **k))
    queried: list[str] = []
    query = RowClient.query
    monkeypatch.setattr(RowClient, "query", lambda *a, **k: queried.append(a[1]) or query(*a, **k))
    with opened(file) as store:
        store.open(NAME)
        meta, regions, images = loaded
        assert {regions, images} == set(index.collections)
        assert queried == [meta, regions, images], "all that is in the file is there"
        del queried[:]
        assert holdings(store.open(NAME)).counts == IndexCounts(images=1, empty=0, failed=0, regions=2)
        assert queried.count(regions) == 2, "when it is opened, and for the holdings"


def test_what_another_process_wrote_is_seen_at_once(
    index: RegionIndex, write: Callable[[dict[str, Any]], bool]
) -> None:
    assert found(index) == {("a.jpg", 5)}
    assert write({"regions": 6})
    assert found(index) == {("a.jpg", 5)}, "not committed yet"
    assert write({"commit": 6})
    assert found(index) == {("a.jpg", 6)}, "committed, the older rows not deleted yet"
    assert write({"replace": 6})
    assert found(index) == {("a.jpg", 6)}
    assert write({"delete": True})
    assert found(index) == set()
    assert write({"regions": 7, "commit": 7})
    assert found(index) == {("a.jpg", 7)}
    assert not write({"regions": 8, "commit": 8, "kill": True}), "killed before it could delete the older rows"
    assert found(index) == {("a.jpg", 8)}


def test_a_killed_server_takes_nothing_along(index: RegionIndex, file: Path) -> None:
    assert found(index) == {("a.jpg", 5)}
    for generation in (6, 7):
        kill("server", file)
        image = ImageRef("b", "a.jpg")
        with opened(file) as store:
            other = store.open(NAME)
            other.insert_regions([near(image, 0, generation=generation)])
            other.insert_images([image_row(image, generation=generation, regions=1)])
        assert found(index) == {("a.jpg", generation)}


def test_what_a_server_showed_though_the_file_refused_it_is_forgotten_with_it(index: RegionIndex, file: Path) -> None:
    assert isinstance(index, MilvusRegionIndex)
    connection, image = index._connection, ImageRef("b", "a.jpg")
    assert isinstance(connection, LiteConnection)
    with closing(sqlite3.connect(file, isolation_level=None)) as locked:
        locked.execute("BEGIN EXCLUSIVE")
        connection._connected().insert(index.collections[1], [image_entity(image_row(image, generation=6))], timeout=30)
        assert index.generations([image]) == {image: 6}
    connection._lite.retire()
    assert found(index) == {("a.jpg", 5)}


def test_words_and_whole_images_are_found_by_columns_too(file: Path, calls: list[str]) -> None:
    with opened(file) as store:
        store.create(manifest_of(NAME), HASH_LAYER)
        index = store.add_words(NAME, b"layer", bits=64)
        image, words = ImageRef("b", "a.jpg"), np.arange(8, dtype=np.uint8)
        index.insert_regions([near(image, 4, generation=5, words_code=words.tobytes())])
        index.insert_images([image_row(image, generation=5, code=CODE.tobytes())])
        calls.clear()
        [[match]] = index.search_words(words[None], limit=3)
        assert (match.image, match.generation, match.region, match.distance_bits) == (image, 5, 4, 0)
        [[hit]] = index.search_images(CODE[None], limit=3)
        assert (hit.image, hit.region, hit.distance_bits, hit.box_xyxy) == (image, None, 0, (0.0, 0.0, 640.0, 480.0))
        assert calls == ["nearest"] * 2


def many(index: RegionIndex, images: int, *, regions: int) -> list[ImageRef]:
    """Images of some regions each, of generation 5."""
    refs = [ImageRef("b", f"many/{number}.jpg") for number in range(images)]
    index.insert_regions([near(ref, number, generation=5) for ref in refs for number in range(regions)])
    index.insert_images([image_row(ref, generation=5, regions=regions) for ref in refs])
    return refs


def test_many_images_are_one_question_for_a_server_that_looks_at_all_rows_for_each(
    index: RegionIndex, calls: list[str]
) -> None:
    refs = many(index, 1500, regions=2)
    calls.clear()
    assert len(index.newest(refs)) == 1500
    assert len(index.generations(refs)) == 1500
    assert len(list(index.regions_of(refs))) == 3000
    assert len(index.codes_of([row_id(ref, 5, 0) for ref in refs])) == 1500
    assert calls == ["rows", "nearest", "rows", "rows"]
    calls.clear()
    index.delete_before({ref: 4 + number % 2 for number, ref in enumerate(refs)})
    assert calls == ["nearest"] * 2, "a query would walk over the ids of all rows, as far as those that it finds"
    assert len(index.newest(refs)) == 1500


def test_images_of_more_generations_than_are_looked_for_are_asked_for_again(
    index: RegionIndex, calls: list[str]
) -> None:
    often, once = ImageRef("b", "often.jpg"), ImageRef("b", "a.jpg")
    index.insert_images([image_row(often, generation=one) for one in range(1, 201)])
    calls.clear()
    assert index.generations([once]) == {once: 5}
    assert calls == ["nearest"]
    calls.clear()
    assert index.generations([often, ImageRef("b", "none.jpg")]) == {often: 200}
    assert calls == ["nearest", "rows"]


def test_thousands_of_images_are_deleted_at_once(
    index: RegionIndex, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each deletion the server looks at all its rows, and there may be more of them than one answer can have."""
    asked: list[str] = []
    delete = LiteClient.delete
    monkeypatch.setattr(LiteClient, "delete", lambda *a, **k: asked.append(a[1]) or delete(*a, **k))
    refs = many(index, 4000, regions=5)
    index.delete_images(refs[:3500])
    assert sorted(asked) == sorted(index.collections)
    assert index.counts() == IndexCounts(images=501, empty=0, failed=0, regions=2502)
    asked.clear()
    calls.clear()
    young = ImageRef("b", "many/3999.jpg")
    index.insert_images([image_row(young, generation=6)])
    index.delete_before(dict.fromkeys(refs, 6))
    assert index.generations(refs) == {young: 6}
    assert calls == ["nearest"], "nothing is looked for before"
    index.delete_images([young])
    asked.clear()
    index.delete_before(dict.fromkeys(refs, 6))
    index.delete_regions([row_id(ImageRef("b", "a.jpg"), 5, number) for number in range(2)])
    assert sorted(asked) == sorted([*index.collections, index.collections[0]])
    assert index.counts() == IndexCounts(images=1, empty=0, failed=0, regions=0)


def test_what_does_not_fit_into_one_answer_is_asked_for_in_parts(
    index: RegionIndex, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = many(index, 600, regions=2)
    for module in (milvus_index, milvus_rows):
        monkeypatch.setattr(module, "MAX_LIMIT", 700)
    calls.clear()
    assert {row.image for row in index.regions_of(refs)} == set(refs)
    assert len(calls) == 3, "600 images were too many, twice 300 were not"
    calls.clear()
    assert len(list(index.regions_of(refs))) == 1200
    assert len(calls) == 2, "which is remembered"
    index.delete_before(dict.fromkeys(refs[:500], 6))
    assert {row.image for row in index.regions_of(refs)} == set(refs[500:])
    assert index.newest(refs).keys() == set(refs[500:])


def test_a_large_file_has_more_time_to_be_loaded(
    index: RegionIndex, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million images took longer than the timeout: then no process could ever open the index again."""
    allowed: dict[str, float] = {}
    load = RowClient.load_collection

    def noted(self: RowClient, name: str, *arguments: Any, timeout: float, **options: Any) -> Any:
        allowed[name] = timeout
        return load(self, name, *arguments, timeout=timeout, **options)

    monkeypatch.setattr(RowClient, "load_collection", noted)
    monkeypatch.setattr(lite_connection, "_LOADED_BYTES_S", 1000.0)
    size, timeout_s = file.stat().st_size, MilvusSettings().timeout_s
    with opened(file) as store:
        store.open(NAME)
    assert set(index.collections) <= allowed.keys()
    assert all(seconds >= timeout_s + size / 1000 for seconds in allowed.values())


def test_rows_that_are_deleted_while_they_are_counted_are_no_damage(
    file: Path, index: RegionIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each look one goes between the number that the file has and the one that the server finds."""
    rows = [region_row(ImageRef("b", "many.jpg"), number, generation=7) for number in range(20)]
    index.insert_regions(rows)
    left, count = [row.id for row in rows], lite_connection.count_rows

    def counted_before_another_goes(path: Path, table: str) -> int | None:
        there = count(path, table)
        index.delete_regions([left.pop()])
        return there

    monkeypatch.setattr(lite_connection, "count_rows", counted_before_another_goes)
    with opened(file) as other:
        assert other.open(NAME).counts().regions == 2 + len(left)
    assert len(left) < len(rows)
