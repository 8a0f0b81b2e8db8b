"""`index_images` over an in-memory store, fake models and the exact index: every outcome of an image."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from fakes.indexing import (
    EMPTY,
    GREEN_BLUE,
    POISONED,
    RED,
    SMALL_BATCHES,
    Setting,
    all_regions,
    png,
    whole,
    without_garbage,
)
from fakes.models import POISON, FakeSegmenter, drawn
from fakes.stores import InMemoryStore

from searchanything.core.digests import KnownImages
from searchanything.core.errors import ModelError
from searchanything.core.omissions import Omissions
from searchanything.core.protocols import Segmentation
from searchanything.core.rows import Outcome
from searchanything.core.types import RGBImage, StoredObject
from searchanything.encode.encoder import Encoder
from searchanything.ingest import pipeline
from searchanything.ingest.pipeline import index_images
from searchanything.ingest.plan import IndexingJob
from searchanything.ingest.reports import IndexProgress, IndexReport
from searchanything.search.search import PageRequest, search_regions


def mixed_bucket(setting: Setting) -> None:
    setting.store.put("red.png", RED, metadata={"shelf": "a"})
    setting.store.put("two.png", GREEN_BLUE)
    setting.store.put("empty.png", EMPTY)
    setting.store.put("cut.png", RED[:40])
    setting.store.put("foreign.png", b"hello, I am a text")
    setting.store.put("poison.png", POISONED)
    setting.store.put("large.png", png(drawn(80, 80, red=(0, 0, 40, 40))))
    setting.store.put("notes.txt", b"not an image, and not claiming to be one")


LIMITED = replace(SMALL_BATCHES, max_pixels=2000)


def test_every_outcome_is_counted_and_recorded() -> None:
    setting = Setting()
    mixed_bucket(setting)
    setting.store.put("torn.png", RED[:50])  # its size can be read, its pixels cannot
    report = setting.run(options=LIMITED)
    assert (report.indexed, report.empty, report.failed, report.skipped, report.unchanged) == (2, 1, 5, 1, 0)
    assert report.regions == 3
    assert {failure.key: failure.error for failure in report.failures} == {
        "cut.png": "ImageError",
        "foreign.png": "ImageError",
        "large.png": "ImageError",
        "poison.png": "RuntimeError",
        "torn.png": "ImageError",
    }
    assert all(failure.key in failure.message or failure.key == "poison.png" for failure in report.failures)
    outcomes = {key: outcome for key, (_, outcome, _, _) in setting.visible().items()}
    assert outcomes == {
        "red.png": Outcome.INDEXED,
        "two.png": Outcome.INDEXED,
        "empty.png": Outcome.EMPTY,
        "cut.png": Outcome.FAILED,
        "foreign.png": Outcome.FAILED,
        "large.png": Outcome.FAILED,
        "poison.png": Outcome.FAILED,
        "torn.png": Outcome.FAILED,
    }
    whole(setting.index)
    assert without_garbage(setting.index)
    failed = setting.row("poison.png")
    assert (failed.error, failed.message) == ("RuntimeError", "the segmenter choked on a poisoned image")
    red = setting.row("red.png")
    assert (red.image_height, red.image_width, red.metadata, red.regions) == (30, 40, {"shelf": "a"}, 1)
    assert setting.row("empty.png").image_width == 20


@pytest.mark.parametrize("batch_images", [1, 2, 3, 16])
def test_an_image_that_fails_the_models_spoils_no_companion(batch_images: int) -> None:
    setting = Setting()
    for number in range(7):
        setting.store.put(f"{number}.png", POISONED if number in (2, 3) else RED)
    report = setting.run(options=replace(SMALL_BATCHES, batch_images=batch_images))
    assert (report.indexed, report.failed) == (5, 2)
    assert {failure.key for failure in report.failures} == {"2.png", "3.png"}
    whole(setting.index)


def test_freed_memory_is_given_back_after_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back: list[None] = []
    monkeypatch.setattr(pipeline, "release_freed_memory", lambda: given_back.append(None))
    setting = Setting()
    for number in range(6):
        setting.store.put(f"{number}.png", RED)
    setting.run(options=replace(SMALL_BATCHES, batch_images=2))
    assert len(given_back) == 3


class Unfit(FakeSegmenter):
    """Features that are not finite, for images that are poisoned: the hash layer refuses them."""

    def segment(self, images):
        clean = [np.where(image == image[0, 0], 0, image).astype(np.uint8) for image in images]
        found = super().segment(clean)
        for image, one in zip(images, found, strict=True):
            if tuple(image[0, 0]) == POISON:
                one.features.cells[:] = np.nan
        return found


def test_features_that_are_not_finite_fail_their_image_alone() -> None:
    setting = Setting()
    setting.encoder = replace(setting.encoder, segmenter=Unfit())
    for key, data in (("a.png", RED), ("b.png", POISONED), ("c.png", GREEN_BLUE)):
        setting.store.put(key, data)
    report = setting.run(options=replace(SMALL_BATCHES, batch_images=8))
    assert (report.indexed, report.failed) == (2, 1)
    assert report.failures[0].error == ModelError.__name__


class ThreadClock(threading.local):
    """A clock that goes in each thread by itself, as far as work says that it took its time."""

    now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s

    def spend(self, seconds: float) -> None:
        self.now_s += seconds


def test_each_stage_is_timed_and_only_what_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    setting, clock = Setting(), ThreadClock()
    monkeypatch.setattr("searchanything.encode.encoder.time", clock)
    for number in range(4):
        setting.store.put(f"{number}.png", RED)
    setting.store.after_read = lambda _: clock.spend(0.25)
    segment = FakeSegmenter.segment

    def slow(self: FakeSegmenter, images: Sequence[RGBImage]) -> list[Segmentation]:
        clock.spend(0.5)
        return segment(self, images)

    monkeypatch.setattr(FakeSegmenter, "segment", slow)
    timings_ms = setting.run().timings_ms
    stages = {"plan", "read", "decode", "load_models", "segment", "pool", "crop", "embed", "hash", "masks", "commit"}
    assert set(timings_ms) == stages
    assert timings_ms["read"] == 4 * 250  # of four images, though two threads share them
    assert timings_ms["segment"] == 2 * 500  # of two batches
    assert {stage for stage in stages if timings_ms[stage]} == {"read", "segment"}
    again = setting.run()
    assert set(again.timings_ms) == {"plan"}
    assert again.to_dict()["timings_ms"] == {"plan": round(again.timings_ms["plan"], 3)}


def test_a_second_run_does_nothing_but_try_the_failures_again() -> None:
    setting = Setting()
    mixed_bucket(setting)
    setting.run(options=LIMITED)
    before = {row.image.key: row for row in setting.index.iterate_images()}
    setting.store.reads.clear()
    report = setting.run(options=LIMITED)
    assert (report.indexed, report.empty, report.failed, report.skipped, report.unchanged) == (0, 0, 4, 1, 3)
    assert report.regions == 0
    assert set(setting.store.reads) == {"cut.png", "foreign.png", "large.png", "poison.png"}
    after = {row.image.key: row for row in setting.index.iterate_images()}
    for key in ("red.png", "two.png", "empty.png"):
        assert after[key] == before[key]
    for key in setting.store.reads:
        assert (before[key].attempts, after[key].attempts) == (1, 2)
        assert after[key].first_at_ms == before[key].first_at_ms <= before[key].last_at_ms <= after[key].last_at_ms
        assert after[key].generation > before[key].generation


def test_files_that_are_no_images_take_no_models() -> None:
    """They are tried again by every run, also where nothing else is to be done."""
    setting, opened = Setting(), list[int]()
    for number in range(5):  # more than a batch
        setting.store.put(f"{number}.png", b"hello, I am a text")

    def open_encoder() -> Encoder:
        opened.append(1)
        return setting.encoder

    job = IndexingJob(setting.store, open_encoder, setting.index, SMALL_BATCHES)
    assert index_images(job, setting.store.list()).failed == 5
    assert not opened
    setting.store.put("5.png", RED)
    report = index_images(job, setting.store.list())
    assert (report.indexed, report.failed, len(opened)) == (1, 5, 1)
    whole(setting.index)


def test_new_content_replaces_the_old_and_starts_counting_anew() -> None:
    setting = Setting()
    setting.store.put("a.png", RED[:50])
    setting.run()
    setting.run()
    assert setting.row("a.png").attempts == 2
    setting.store.put("a.png", GREEN_BLUE)
    report = setting.run()
    assert (report.indexed, report.regions) == (1, 2)
    assert (setting.row("a.png").attempts, setting.row("a.png").outcome) == (1, Outcome.INDEXED)
    assert without_garbage(setting.index)
    setting.store.put("a.png", EMPTY)
    assert setting.run().empty == 1
    assert all_regions(setting.index) == []


def test_new_metadata_alone_is_indexed_again() -> None:
    setting = Setting()
    setting.store.put("a.png", RED, metadata={"shelf": "a"})
    setting.run()
    setting.store.put("a.png", RED, metadata={"shelf": "b"})
    assert setting.run().indexed == 1
    assert all_regions(setting.index)[0].metadata == setting.row("a.png").metadata == {"shelf": "b"}
    assert setting.row("a.png").attempts == 2
    assert without_garbage(setting.index)


def test_a_touched_object_with_the_same_content_and_metadata_is_unchanged() -> None:
    setting = Setting()
    setting.store.put("a.png", RED, metadata={"shelf": "a"})
    setting.run()
    setting.store.put("a.png", RED, metadata={"shelf": "a"})
    setting.store.reads.clear()
    assert setting.run().unchanged == 1
    assert setting.store.reads == {}


class OtherwiseListed(InMemoryStore):
    """A store whose listing names etags that no object is sent with."""

    def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:
        return (replace(one, etag=one.etag[::-1]) for one in super().list(prefix, omissions))


def test_where_a_listing_has_etags_of_its_own_an_object_is_asked_for_and_not_indexed_again() -> None:
    setting = Setting(store=OtherwiseListed())
    setting.store.put("a.png", RED)
    assert setting.run().indexed == 1
    assert setting.run().unchanged == 1
    assert setting.store.reads == {"a.png": 1}
    setting.store._objects["a.png"] = (replace(setting.store.put("a.png", GREEN_BLUE), modified_at_ms=1), GREEN_BLUE)
    assert setting.run().indexed == 1  # in the same second


class Timeless(InMemoryStore):
    """A store that does not know when its objects were modified."""

    def put(self, key: str, data: bytes, **rest) -> StoredObject:
        stored = replace(super().put(key, data, **rest), modified_at_ms=0)
        self._objects[key] = (stored, data)
        return stored


@pytest.mark.parametrize("with_digests", [False, True])
def test_new_metadata_is_noticed_where_the_store_knows_no_times(with_digests: bool) -> None:
    setting = Setting(store=Timeless())

    def run() -> IndexReport:
        job = IndexingJob(setting.store, lambda: setting.encoder, setting.index, SMALL_BATCHES)
        seen = KnownImages(setting.index.iterate_states()) if with_digests else None
        return index_images(job, setting.store.list(), seen=seen)

    setting.store.put("a.png", RED, metadata={"shelf": "a"})
    run()
    assert run().unchanged == 1
    setting.store.put("a.png", RED, metadata={"shelf": "b"})
    assert run().indexed == 1


def test_force_indexes_unchanged_images_again() -> None:
    setting = Setting()
    setting.store.put("a.png", RED)
    setting.store.put("b.png", EMPTY)
    setting.run()
    before = setting.visible()
    report = setting.run(options=replace(SMALL_BATCHES, force=True))
    assert (report.indexed, report.empty, report.unchanged) == (1, 1, 0)
    assert setting.visible() == before
    assert setting.row("a.png").attempts == 2
    assert without_garbage(setting.index)


def test_an_object_named_twice_is_there_once() -> None:
    setting = Setting()
    stored = setting.store.put("a.png", RED)
    setting.run(objects=[stored, stored, stored])
    whole(setting.index)
    page = search_regions(setting.index, np.zeros(8, np.uint8), PageRequest(), filter=None)
    assert [hit.region for hit in page.hits] == [0]


def test_progress_rises_to_the_number_of_images() -> None:
    setting = Setting()
    mixed_bucket(setting)
    seen: list[IndexProgress] = []
    job = IndexingJob(setting.store, lambda: setting.encoder, setting.index, LIMITED)
    for _ in range(2):
        seen.clear()
        index_images(job, setting.store.list(), total=7, progress=seen.append)
        assert [one.done for one in seen] == sorted(one.done for one in seen)
        assert (seen[-1].done, seen[-1].total, seen[-1].failed) == (7, 7, 4)
