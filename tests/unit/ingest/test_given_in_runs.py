"""Runs over images whose sidecars give regions: which ones are indexed, and when they are indexed again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
from fakes.indexing import POISONED, RED, Setting, all_regions, new_index, png, whole
from fakes.models import drawn

from searchanything.core.rows import Outcome
from searchanything.core.types import BoxXYXY
from searchanything.images.scopes import Scope
from searchanything.ingest.estimate import estimate_images
from searchanything.ingest.pipeline import index_images, refresh_images
from searchanything.ingest.plan import IndexingJob, IndexingOptions
from searchanything.ingest.reports import IndexReport, SyncReport
from searchanything.ingest.sync import SyncJob, sync_images
from searchanything.stores.sidecars import SidecarStore

OPTIONS = IndexingOptions(2, 2)
OF_THE_SEGMENTER: list[BoxXYXY] = [(4.0, 4.0, 20.0, 20.0)]  # in an image of 30 x 40 pixels
A, B = (1.0, 2.0, 30.0, 28.0), (10.0, 3.0, 21.0, 9.0)


class Annotated:
    """A store whose sidecars may give regions, an index, and short ways to run things over both."""

    def __init__(self) -> None:
        self.setting = Setting()
        self.takes_regions = True
        self.setting.store.put("a.png", RED, metadata={"camera": "x"})
        self.give(A, B)

    def give(self, *boxes: Sequence[float], key: str = "a.png", **values: object) -> None:
        document = {"shelf": "s", "regions": [{"box_xyxy": box} for box in boxes], **values}
        self.setting.store.put(f"{key}.json", json.dumps(document).encode())

    def job(self) -> IndexingJob:
        store = SidecarStore(self.setting.store, ".json", regions=self.takes_regions)
        scope = Scope(sidecar_suffix=".json", sidecar_regions=self.takes_regions)
        return IndexingJob(store, lambda: self.setting.encoder, self.setting.index, OPTIONS, scope)

    def index(self) -> IndexReport:
        return index_images(self.job(), self.job().store.list())

    def refresh(self, *keys: str) -> IndexReport:
        return refresh_images(self.job(), keys)

    def sync(self, *, repair: bool = False) -> SyncReport:
        job = self.job()
        refresh = partial(refresh_images, job) if repair else None
        return sync_images(SyncJob(job.store, job.index, job.scope, OPTIONS, refresh))

    def boxes(self, key: str = "a.png") -> list[BoxXYXY]:
        row = self.setting.row(key)
        found = [
            one for one in all_regions(self.setting.index) if (one.image.key, one.generation) == (key, row.generation)
        ]
        assert all(one.metadata == row.metadata for one in found)
        return [one.box_xyxy for one in sorted(found, key=lambda one: one.region)]


@pytest.fixture
def annotated() -> Annotated:
    return Annotated()


def test_given_regions_take_the_place_of_the_segmenters(annotated: Annotated) -> None:
    annotated.setting.store.put("b.png", RED)
    annotated.setting.store.put("c.png", RED)
    annotated.setting.store.put("c.png.json", b'{"regions": []}')
    report = annotated.index()
    assert (report.indexed, report.empty, report.failed, report.warnings) == (2, 1, 0, ())
    assert (annotated.boxes(), annotated.boxes("b.png"), annotated.boxes("c.png")) == ([A, B], OF_THE_SEGMENTER, [])
    rows = {key: annotated.setting.row(key) for key in ("a.png", "b.png", "c.png")}
    assert rows["a.png"].metadata == {"camera": "x", "shelf": "s", "sidecar_regions": 2}
    assert (rows["b.png"].metadata, rows["b.png"].sidecar_etag) == ({}, "")
    assert (rows["c.png"].metadata, rows["c.png"].outcome) == ({"sidecar_regions": 0}, Outcome.EMPTY)
    assert not annotated.sync().differs
    whole(annotated.setting.index)


def test_a_look_at_an_object_holds_no_list_of_regions(annotated: Annotated) -> None:
    store = annotated.job().store
    seen, (read, _) = store.stat("a.png"), store.read("a.png")
    assert seen is not None
    assert (seen.regions, read.regions) == (None, [{"box_xyxy": list(box)} for box in (A, B)])
    assert (seen.metadata, seen.sidecar_etag) == (read.metadata, read.sidecar_etag)


WAYS = ["index", "refresh", "refresh the sidecar", "sync"]


def run(annotated: Annotated, way: str) -> None:
    {
        "index": lambda: (annotated.index(), annotated.refresh(*annotated.sync().stale)),  # as `Client.index` goes on
        "refresh": lambda: annotated.refresh("a.png"),
        "refresh the sidecar": lambda: annotated.refresh("a.png.json"),
        "sync": lambda: annotated.sync(repair=True),
    }[way]()


@pytest.mark.parametrize("way", WAYS)
def test_other_regions_make_an_image_stale_whose_metadata_are_the_same(annotated: Annotated, way: str) -> None:
    annotated.index()
    annotated.give(B, A)  # as many: no value of metadata differs
    assert annotated.sync().stale == ("a.png",)
    run(annotated, way)
    assert annotated.boxes() == [A, B]
    annotated.give(B, B)
    run(annotated, way)
    assert annotated.boxes() == [B, B]
    assert not annotated.sync().differs
    generation = annotated.setting.row("a.png").generation
    run(annotated, way)
    assert annotated.setting.row("a.png").generation == generation, "done once"


@pytest.mark.parametrize("way", WAYS)
def test_regions_that_go_leave_the_segmenters(annotated: Annotated, way: str) -> None:
    annotated.index()
    annotated.setting.store.delete("a.png.json")
    run(annotated, way)
    assert annotated.boxes() == OF_THE_SEGMENTER
    assert annotated.setting.row("a.png").metadata == {"camera": "x"}
    assert not annotated.sync().differs


@pytest.mark.parametrize("way", WAYS)
def test_what_was_read_the_other_way_is_indexed_again(annotated: Annotated, way: str) -> None:
    annotated.takes_regions = False
    annotated.index()
    assert annotated.boxes() == OF_THE_SEGMENTER
    for takes_regions, boxes in ((True, [A, B]), (False, OF_THE_SEGMENTER)):
        annotated.takes_regions = takes_regions
        assert annotated.sync().stale == ("a.png",)
        run(annotated, way)
        assert annotated.boxes() == boxes
        assert not annotated.sync().differs


def test_so_is_what_has_a_sidecar_without_regions(annotated: Annotated) -> None:
    annotated.setting.store.put("a.png.json", b'{"shelf": "s"}')
    for takes_regions in (False, True, False):
        annotated.takes_regions = takes_regions
        assert annotated.sync(repair=True).differs
        assert not annotated.sync().differs


def test_metadata_that_change_beside_the_regions_are_noticed(annotated: Annotated) -> None:
    annotated.index()
    annotated.give(A, B, shelf="t")
    annotated.refresh("a.png")
    assert annotated.setting.row("a.png").metadata["shelf"] == "t"
    annotated.setting.store.put("a.png", RED, metadata={"camera": "y"})
    annotated.refresh("a.png")
    assert annotated.setting.row("a.png").metadata["camera"] == "y"


@pytest.mark.parametrize(
    ("regions", "boxes", "said"),
    [
        ("none", OF_THE_SEGMENTER, "expected a list, got str"),
        ([{"box_xyxy": [100, 100, 120, 120]}], OF_THE_SEGMENTER, "none of 1 region can be used"),
        ([{"box_xyxy": B}, {"mask": {"size": [3, 3], "counts": "x"}}], [B], "1 of 2 regions left out"),
        ([{"box_xyxy": B}] * 1001, OF_THE_SEGMENTER, "at most 1000"),
    ],
)
def test_bad_regions_are_reported_and_the_image_is_indexed_once(
    annotated: Annotated, regions: object, boxes: list[BoxXYXY], said: str
) -> None:
    annotated.give(regions=regions)
    report = annotated.index()
    assert (report.indexed, report.failed) == (1, 0)
    [warning] = report.warnings
    assert (warning.key, warning.error) == ("a.png", "SidecarError")
    assert said in warning.message
    assert annotated.boxes() == boxes
    for way in (annotated.index, annotated.refresh):
        assert way().indexed == 0, "what is wrong shows beside the image alone, and is no change"
    assert annotated.refresh("a.png").unchanged == 1
    assert not annotated.sync().differs


def test_a_batch_that_fails_is_encoded_alone_with_its_regions(annotated: Annotated) -> None:
    annotated.setting.store.put("b.png", POISONED)
    annotated.give(B, key="b.png")
    for key in ("c.png", "d.png"):
        annotated.setting.store.put(key, RED)
    annotated.give(A, key="d.png")
    report = annotated.index()
    assert (report.indexed, report.failed) == (3, 1)
    assert [annotated.boxes(key) for key in ("a.png", "b.png", "c.png", "d.png")] == [[A, B], [], OF_THE_SEGMENTER, [A]]


def test_regions_are_in_pixels_of_the_upright_image(annotated: Annotated) -> None:
    import io

    from PIL import Image

    turned = Image.fromarray(drawn(30, 60, red=(40, 4, 56, 20)))  # shown a quarter turned: 60 high, 30 wide
    exif, buffer = turned.getexif(), io.BytesIO()
    exif[274] = 6
    turned.save(buffer, "JPEG", exif=exif)
    annotated.setting.store.put("b.jpg", buffer.getvalue())
    annotated.give((2.0, 40.0, 28.0, 59.0), key="b.jpg")
    assert annotated.index().warnings == ()
    assert annotated.boxes("b.jpg") == [(2.0, 40.0, 28.0, 59.0)]


def test_an_estimate_counts_given_regions(annotated: Annotated) -> None:
    annotated.setting.store.put("b.png", png(drawn(40, 40)))
    annotated.give(A, B, key="b.png")
    scratch = replace(annotated.job(), index=new_index())
    assert estimate_images(scratch, sample=10).regions == 4
