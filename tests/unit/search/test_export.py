"""Exports, read back by the programs that they are for: pycocotools and pyarrow."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from contracts.index_rows import BITS, image_row, manifest_of, random_codes, region_row
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import searchanything
from searchanything.core.errors import IndexNotFoundError, IndexUnavailableError, UsageError
from searchanything.core.patience import LATER_S, PAUSES_S, LongWork, long_work, patiently
from searchanything.core.rows import ImageRow, RegionRow
from searchanything.core.settings import Settings
from searchanything.core.types import ImageRef, MaskRLE
from searchanything.search import export
from searchanything.search.export import check_export_path, committed_regions, export_regions
from searchanything.stores.memory import MemoryRegionIndex

FIRST, SECOND, ELSEWHERE = ImageRef("b", "cats/é 1.jpg"), ImageRef("b", "dogs/2.jpg"), ImageRef("other", "cats/é 1.jpg")
WIDTH, HEIGHT, GRID = 96, 64, (32, 48)  # the stored grid has half the image's resolution
METADATA = {"year": 2024, "name": "ä", "good": True}


def stored_mask(top: int, left: int, bottom: int, right: int) -> MaskRLE:
    """A rectangle of grid cells, encoded by pycocotools."""
    mask = np.zeros(GRID, dtype=np.uint8, order="F")
    mask[top:bottom, left:right] = 1
    return MaskRLE(GRID, coco_mask.encode(mask)["counts"].decode())


def row(image: ImageRef, region: int, *, generation: int = 5, **changes: Any) -> RegionRow:
    corners = 4 + region, 6, 20 + region, 30
    top, left, bottom, right = (float(2 * side) for side in corners)
    values: dict[str, Any] = {
        "mask": stored_mask(*corners),
        "box_xyxy": (left - 3, top + 0.5, right, bottom + 4),  # the segmenter's, which is not the mask's
        "area_px": 16 * 24 * 4,
        "image_width": WIDTH,
        "image_height": HEIGHT,
        "metadata": METADATA,
        "code": random_codes(1, seed=100 * region + len(image.key) + len(image.bucket))[0].tobytes(),
    }
    return region_row(image, region, generation=generation, **values | changes)


COMMITTED = [row(FIRST, 0), row(FIRST, 1), row(SECOND, 0), row(ELSEWHERE, 3)]


def commit(index: MemoryRegionIndex, *images: ImageRef, generation: int) -> None:
    rows = Counter(row.image for row in index.regions_of(images) if row.generation == generation)
    index.insert_images([image_row(image, generation=generation, regions=rows[image]) for image in images])


@pytest.fixture
def index() -> MemoryRegionIndex:
    """Committed regions among all kinds of garbage."""
    index = MemoryRegionIndex(manifest_of("f" * 32))
    uncommitted = row(ImageRef("b", "cats/never.jpg"), 0)
    index.insert_regions([row(FIRST, 0, generation=4), uncommitted, *COMMITTED, row(SECOND, 0, generation=6)])
    commit(index, FIRST, generation=4)
    commit(index, FIRST, SECOND, ELSEWHERE, generation=5)
    return index


def loaded(path: Path) -> COCO:
    coco = COCO()
    coco.dataset = json.loads(path.read_bytes())
    coco.createIndex()
    return coco


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools itself
def test_coco_masks_are_those_of_the_index_at_the_size_of_the_image(index: MemoryRegionIndex, tmp_path: Path) -> None:
    target = tmp_path / "regions.json"
    assert export_regions(index, target) == 4
    coco = COCO(str(target))
    by_code = {one["code"]: one for one in coco.loadAnns(coco.getAnnIds())}
    assert by_code.keys() == {one.code.hex() for one in COMMITTED}
    for expected in COMMITTED:
        found = by_code[expected.code.hex()]
        stored = coco_mask.decode({"size": list(GRID), "counts": expected.mask.counts.encode()})
        drawn = np.asfortranarray(np.kron(stored, np.ones((2, 2), dtype=np.uint8)))  # each cell is 2 x 2 pixels
        mask = coco.annToRLE(found)
        assert coco.annToMask(found).shape == (HEIGHT, WIDTH)
        assert coco_mask.iou([mask], [coco_mask.encode(drawn)], [0]).item() > 0.98
        assert coco_mask.area(mask) == found["area"] == pytest.approx(expected.area_px, rel=0.02)
        assert coco_mask.toBbox(mask).tolist() == found["bbox"]
        assert found["box_xyxy"] == list(expected.box_xyxy)
        assert found["iscrowd"] == 0
        assert (found["score"], found["region"], found["generation"]) == (0.75, expected.region, 5)
        assert coco.loadCats(found["category_id"])[0]["name"] == "region"


def test_coco_images_are_named_once_and_numbers_begin_with_1(index: MemoryRegionIndex, tmp_path: Path) -> None:
    export_regions(index, tmp_path / "regions.json")
    coco = loaded(tmp_path / "regions.json")
    assert sorted(coco.getAnnIds()) == [1, 2, 3, 4]
    assert sorted(coco.getImgIds()) == [1, 2, 3]
    found = {(one["bucket"], one["file_name"]): one for one in coco.loadImgs(coco.getImgIds())}
    assert found.keys() == {(image.bucket, image.key) for image in (FIRST, SECOND, ELSEWHERE)}
    first = found["b", FIRST.key]
    assert (first["width"], first["height"], first["metadata"]) == (WIDTH, HEIGHT, METADATA)
    assert sorted(one["region"] for one in coco.imgToAnns[first["id"]]) == [0, 1]
    assert first["etag"] == "etag-5"
    assert coco.dataset.keys() == {"info", "licenses", "categories", "annotations", "images"}
    assert coco.dataset["categories"] == [{"id": 1, "name": "region", "supercategory": "region"}]
    made_with = {"fingerprint": "f" * 32, "preset": index.manifest.preset, "bits": BITS}
    assert made_with.items() <= coco.dataset["info"].items()


def test_parquet_gives_back_every_field_and_codes_byte_for_byte(index: MemoryRegionIndex, tmp_path: Path) -> None:
    assert export_regions(index, tmp_path / "regions.parquet") == 4
    table = pq.read_table(tmp_path / "regions.parquet")
    assert table.schema.field("code").type.byte_width == BITS // 8
    made_with = {"fingerprint": "f" * 32, "preset": index.manifest.preset, "bits": BITS}
    assert json.loads(table.schema.metadata[b"searchanything"]) == made_with
    rows = [
        RegionRow(
            id=one["id"],
            code=one["code"],
            image=ImageRef(one["bucket"], one["key"]),
            etag=one["etag"],
            generation=one["generation"],
            region=one["region"],
            box_xyxy=tuple(one["box_xyxy"]),
            area_px=one["area_px"],
            mask=MaskRLE((one["mask_height"], one["mask_width"]), one["mask_counts"]),
            score=one["score"],
            image_width=one["image_width"],
            image_height=one["image_height"],
            indexed_at_ms=one["indexed_at_ms"],
            metadata=json.loads(one["metadata"]),
        )
        for one in table.to_pylist()
    ]
    assert sorted(rows, key=lambda one: one.id) == sorted(COMMITTED, key=lambda one: one.id)


@pytest.mark.parametrize(
    ("restriction", "expected"),
    [
        ({"bucket": "b"}, COMMITTED[:3]),
        ({"key_prefix": "cats/"}, [*COMMITTED[:2], COMMITTED[3]]),
        ({"bucket": "b", "key_prefix": "cats/"}, COMMITTED[:2]),
        ({"bucket": "nowhere"}, []),
    ],
)
@pytest.mark.parametrize("name", ["r.json", "r.parquet"])
def test_a_bucket_and_a_prefix_restrict(
    index: MemoryRegionIndex, tmp_path: Path, restriction: dict[str, str], expected: list[RegionRow], name: str
) -> None:
    assert export_regions(index, tmp_path / name, **restriction) == len(expected)
    if name.endswith("json"):
        codes = [one["code"] for one in loaded(tmp_path / name).dataset["annotations"]]
    else:
        codes = [code.hex() for code in pq.read_table(tmp_path / name)["code"].to_pylist()]
    assert sorted(codes) == sorted(one.code.hex() for one in expected)


@pytest.mark.parametrize(("restriction", "total"), [({}, 7), ({"bucket": "b"}, None), ({"key_prefix": "cats/"}, None)])
def test_how_far_an_export_is_is_said_of_all_rows_alone(
    index: MemoryRegionIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restriction: dict[str, str], total: int
) -> None:
    monkeypatch.setattr(export, "_BATCH_ROWS", 3)
    steps: list[tuple[str, int, int | None]] = []
    export_regions(index, tmp_path / "r.json", **restriction, on_step=lambda *step: steps.append(step))
    read = len(list(index.iterate_regions(**restriction)))
    assert steps == [("exporting", min(read, done), total) for done in range(3, read + 3, 3)]


def test_what_a_region_is_called_takes_no_memory(index: MemoryRegionIndex) -> None:
    """In a backup of somebody else it may be any number of 31 bits."""
    image, numbers = ImageRef("b", "far"), (2**28, 2**28 + 1, 4095, 4096)
    index.insert_regions([row(image, number) for number in numbers])
    commit(index, image, generation=5)
    tracemalloc.start()
    found = [one.region for one in committed_regions(index, key_prefix="far")]
    assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    tracemalloc.stop()
    assert sorted(found) == sorted(numbers)


def test_many_regions_go_through_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_BATCH_ROWS", 4)
    monkeypatch.setattr(export, "ROW_GROUP_ROWS", 8)
    asked: list[int] = []

    class Noting(MemoryRegionIndex):
        def newest(self, images: Collection[ImageRef]) -> dict[ImageRef, ImageRow]:
            asked.append(len(images))
            return super().newest(images)

    index = Noting(manifest_of("f" * 32))
    images = [ImageRef("b", f"{number}.jpg") for number in range(10)]
    index.insert_regions([row(image, region) for image in images for region in range(2)])
    commit(index, *images, generation=5)
    assert export_regions(index, tmp_path / "r.parquet") == 20
    assert asked == [2] * 5
    file = pq.ParquetFile(tmp_path / "r.parquet")
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [8, 8, 4]


def test_an_image_that_is_replaced_meanwhile_is_never_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_BATCH_ROWS", 1)
    old = [row(FIRST, number) for number in range(2)]
    new = [row(FIRST, number, generation=9) for number in range(2)]

    class Changing(MemoryRegionIndex):
        def iterate_regions(self, **_: object) -> Iterator[RegionRow]:
            yield old[0]
            yield new[0]
            commit(self, FIRST, generation=9)
            yield from (new[1], old[1])

    index = Changing(manifest_of("f" * 32))
    commit(index, FIRST, generation=5)
    assert list(committed_regions(index)) == old


@pytest.mark.parametrize("name", ["r.json", "r.parquet"])
def test_a_file_appears_whole_or_not_at_all(index: MemoryRegionIndex, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("an earlier export")

    class Leaving(MemoryRegionIndex):
        def iterate_regions(self, **_: object) -> Iterator[RegionRow]:
            yield from COMMITTED
            raise IndexUnavailableError("gone")

    leaving = Leaving(index.manifest)
    commit(leaving, FIRST, generation=5)
    with pytest.raises(IndexUnavailableError, match="gone"):
        export_regions(leaving, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "an earlier export"


@pytest.mark.parametrize("name", ["r.json", "r.parquet"])
def test_an_export_waits_for_a_server_that_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Also where it asks which rows are committed, as often as it reads rows."""

    class Away(MemoryRegionIndex):
        tries = 0

        def generations(self, images: Iterable[ImageRef]) -> dict[ImageRef, int]:
            patiently(lambda: None, "the index")  # as a server is asked
            patiently(self._away_at_first, "the index")
            return super().generations(images)

        def _away_at_first(self) -> None:
            self.tries += 1
            if self.tries == 1:
                raise IndexUnavailableError("find no available rootcoord")

    slept: list[float] = []
    monkeypatch.setattr(LongWork, "pause", lambda _, pause_s: slept.append(pause_s))
    index = Away(manifest_of("f" * 32))
    index.insert_regions([row(FIRST, 0)])
    commit(index, FIRST, generation=5)
    with long_work():
        assert export_regions(index, tmp_path / name) == 1
    assert slept == [PAUSES_S[0]]


class Lagging(MemoryRegionIndex):
    """As a server that was restarted: for some reads by images, and a stream before, it lacks rows."""

    lacks: Callable[[RegionRow], bool]
    reads = 0

    def iterate_regions(self, *, bucket: str | None = None, key_prefix: str = "") -> Iterator[RegionRow]:
        rows = super().iterate_regions(bucket=bucket, key_prefix=key_prefix)
        return (row for row in rows if not self.lacks(row))

    def regions_of(self, images: Collection[ImageRef]) -> Iterator[RegionRow]:
        self.reads -= 1
        return (row for row in super().regions_of(images) if self.reads < 0 or not self.lacks(row))


LACKING = {
    "all of an image": lambda row: row.image == SECOND,
    "some of an image": lambda row: row.image == FIRST and row.region == 1,
    "all there is": lambda _: True,
}


@pytest.mark.parametrize("lacks", LACKING.values(), ids=LACKING)
@pytest.mark.parametrize("pauses", [0, 1])
def test_regions_that_are_shown_late_are_exported_once(
    index: MemoryRegionIndex, monkeypatch: pytest.MonkeyPatch, lacks: Callable[[RegionRow], bool], pauses: int
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(LongWork, "pause", lambda _, pause_s: slept.append(pause_s))
    lagging = Lagging(index.manifest)
    lagging.insert_regions(list(index.iterate_regions()))
    lagging.insert_images(list(index.iterate_images()))
    lagging.lacks, lagging.reads = lacks, pauses
    with long_work():
        rows = list(committed_regions(lagging))
    assert sorted(row.id for row in rows) == sorted(row.id for row in COMMITTED)
    assert slept == list(LATER_S[:pauses])


def test_regions_whose_images_are_shown_late_are_exported(index: MemoryRegionIndex) -> None:
    class WithoutImages(MemoryRegionIndex):
        lacks = True

        def generations(self, images: Collection[ImageRef]) -> dict[ImageRef, int]:
            if self.lacks:
                self.lacks = False
                return {}
            return super().generations(images)

    without = WithoutImages(index.manifest)
    without.insert_regions(list(index.iterate_regions()))
    without.insert_images(list(index.iterate_images()))
    assert sorted(row.id for row in committed_regions(without)) == sorted(row.id for row in COMMITTED)


def test_regions_that_are_lost_are_said_to_be_so(
    index: MemoryRegionIndex, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(LongWork, "pause", lambda _, pause_s: slept.append(pause_s))
    index.delete_regions([COMMITTED[0].id])
    with long_work():
        rows = list(committed_regions(index))
    assert sorted(row.id for row in rows) == sorted(row.id for row in COMMITTED[1:])
    assert slept == list(LATER_S)
    assert [one.getMessage() for one in caplog.records] == [
        f"1 image exported without some regions, which are not there; the first is {FIRST}"
    ]


def test_parquet_without_pyarrow_names_the_cure(
    index: MemoryRegionIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for refused in (check_export_path, partial(export_regions, index)):
        with pytest.raises(UsageError, match=r"pip install .*\[parquet\]'"):
            refused(tmp_path / "r.parquet")
    assert export_regions(index, tmp_path / "r.json") == 4


def test_names_that_are_no_export_are_refused(index: MemoryRegionIndex, tmp_path: Path) -> None:
    for name in ("r.csv", "r", "."):
        with pytest.raises(UsageError, match=r"\.json, \.parquet"):
            export_regions(index, tmp_path / name)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="there is no folder"):
        export_regions(index, tmp_path / "file" / "r.json")


def test_odd_values_survive(tmp_path: Path) -> None:
    odd = row(ImageRef("b", 'q"\n\0\u2028🦊'), 0, metadata={"": 'a"b'}, mask=stored_mask(0, 0, 0, 0), area_px=0)
    whole = replace(row(SECOND, 0, mask=stored_mask(0, 0, *GRID)), box_xyxy=(0.0, 0.0, float(WIDTH), float(HEIGHT)))
    index = MemoryRegionIndex(manifest_of("f" * 32))
    index.insert_regions([odd, whole])
    commit(index, odd.image, whole.image, generation=5)
    export_regions(index, tmp_path / "r.json")
    export_regions(index, tmp_path / "r.parquet")
    coco = loaded(tmp_path / "r.json")
    assert [one["file_name"] for one in coco.dataset["images"]] == [odd.image.key, whole.image.key]
    assert [one["area"] for one in coco.dataset["annotations"]] == [0, WIDTH * HEIGHT]
    assert pq.read_table(tmp_path / "r.parquet")["key"].to_pylist() == [odd.image.key, whole.image.key]


def test_the_client_exports_the_live_index(tmp_path: Path) -> None:
    with searchanything.connect(settings=Settings(milvus={"uri": "memory://"})) as client:
        manifest = manifest_of("e" * 32)
        index = client._indexes.create(manifest, b"layer")
        index.insert_regions(COMMITTED)
        index.insert_images([image_row(image, generation=5) for image in (FIRST, SECOND, ELSEWHERE)])
        client._indexes.switch(manifest.fingerprint)
        assert client.export(tmp_path / "r.parquet", bucket="b", key_prefix="dogs/") == 1
    assert pq.read_table(tmp_path / "r.parquet")["code"].to_pylist() == [COMMITTED[2].code]


def test_the_client_exports_nothing_where_nothing_is_indexed(tmp_path: Path) -> None:
    with searchanything.connect(settings=Settings(milvus={"uri": "memory://"})) as client:
        with pytest.raises(UsageError, match="csv"):
            client.export(tmp_path / "r.csv")
        with pytest.raises(IndexNotFoundError, match="searchanything index"):
            client.export(tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == []
