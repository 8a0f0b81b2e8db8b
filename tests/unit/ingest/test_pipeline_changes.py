"""Objects that change, vanish or come back while they are indexed, and workers that meet on one object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from fakes.indexing import EMPTY, GREEN_BLUE, RED, SMALL_BATCHES, Setting, all_regions, png, whole, without_garbage
from fakes.models import fake_encoder
from fakes.stores import InMemoryStore

from searchanything.core import codes
from searchanything.core.codes import next_generation
from searchanything.core.digests import KnownImages
from searchanything.core.errors import ObjectNotFoundError
from searchanything.core.rows import RegionRow
from searchanything.core.types import StoredObject
from searchanything.encode.fingerprint import manifest_of
from searchanything.ingest.pipeline import ROUNDS, index_images, refresh_images
from searchanything.ingest.plan import IndexingJob
from searchanything.ingest.reports import Failure
from searchanything.stores.memory import MemoryRegionIndex


def once(action: Callable[[], object]) -> Callable[[str], None]:
    """Do something at the first read."""
    left = [action]
    return lambda _: left.pop()() if left else None  # type: ignore[func-returns-value]


def test_an_object_overwritten_between_reading_and_commit_is_done_again() -> None:
    setting = Setting()
    setting.store.put("a.png", RED)
    setting.store.after_read = once(lambda: setting.store.put("a.png", GREEN_BLUE))
    report = setting.run()
    assert (report.indexed, report.failed, report.regions) == (1, 0, 2)
    assert setting.row("a.png").etag == setting.store.stat("a.png").etag  # type: ignore[union-attr]
    whole(setting.index)
    assert without_garbage(setting.index)


def test_an_object_that_never_rests_has_failed_and_its_last_commit_stays() -> None:
    setting = Setting()
    setting.store.put("a.png", RED)
    setting.run()
    before = setting.visible()
    shades = iter(range(20, 200))
    setting.store.after_read = lambda key: setting.store.put(key, png(np.full((9, 9, 3), next(shades), np.uint8)))  # type: ignore[assignment, return-value]
    setting.store.put("a.png", GREEN_BLUE)
    report = setting.run()
    assert report.failures == (Failure("a.png", "ObjectChangedError", f"changed during each of {ROUNDS} attempts"),)
    assert setting.store.reads["a.png"] == 1 + ROUNDS
    assert setting.visible() == before


@pytest.mark.parametrize("moment", ["before reading", "after reading"])
@pytest.mark.parametrize("known", [False, True])
def test_an_object_deleted_meanwhile_leaves_nothing(moment: str, known: bool) -> None:
    setting = Setting()
    setting.store.put("a.png", RED)
    setting.store.put("b.png", RED)
    if known:
        setting.run()
        setting.store.put("a.png", GREEN_BLUE)
    objects = list(setting.store.list())
    if moment == "before reading":
        setting.store.delete("a.png")
    else:
        setting.store.after_read = lambda key: setting.store.delete("a.png") if key == "a.png" else None
    report = setting.run(objects=objects)
    assert report.failed == 0
    assert not setting.knows("a.png")
    assert {row.image.key for row in all_regions(setting.index)} == {"b.png"}


def test_an_object_that_is_listed_and_cannot_be_read_is_named() -> None:
    setting = Setting()
    for key in ("a.png", "ghost.png"):
        setting.store.put(key, RED)
    setting.store.failures["ghost.png"] = ObjectNotFoundError("ghost.png: no such object")
    setting.store.stat = {"a.png": setting.store.stat("a.png")}.get  # type: ignore[method-assign]
    report = setting.run()
    assert (report.indexed, report.failed, report.gone, report.deleted) == (1, 0, 0, 0)
    assert [(one.key, one.error) for one in report.warnings] == [("ghost.png", "ObjectNotFoundError")]


def test_an_object_overwritten_and_then_deleted_leaves_nothing() -> None:
    class Vanishing(InMemoryStore):
        def stat(self, key: str) -> StoredObject | None:
            found = super().stat(key)
            self.delete(key)
            return found

    setting = Setting()
    setting.store.put("a.png", RED)
    setting.run()
    gone = Vanishing()
    gone.put("a.png", EMPTY)
    gone.after_read = once(lambda: gone.put("a.png", GREEN_BLUE))
    setting.store = gone
    report = setting.run()
    assert (report.indexed, report.failed) == (0, 0)
    assert not setting.knows("a.png")
    assert all_regions(setting.index) == []


class Paused(MemoryRegionIndex):
    """Runs `event` once, in the middle of the first commit: after its regions, before the store is asked."""

    def __init__(self, event: Callable[[MemoryRegionIndex], None]) -> None:
        super().__init__(manifest_of(fake_encoder(), "fake"))
        self.event: Callable[[MemoryRegionIndex], None] | None = event

    def insert_regions(self, rows: Sequence[RegionRow]) -> None:
        super().insert_regions(rows)
        event, self.event = self.event, None
        if event is not None:
            event(self)


def other_worker(setting: Setting, *, overwrite: bytes | None = None) -> Callable[[MemoryRegionIndex], None]:
    """Another worker that indexes everything, perhaps after the object was overwritten."""

    def work(index: MemoryRegionIndex) -> None:
        if overwrite is not None:
            setting.store.put("a.png", overwrite)
        index_images(IndexingJob(setting.store, fake_encoder, index, SMALL_BATCHES), setting.store.list())

    return work


@pytest.mark.parametrize("overwrite", [None, GREEN_BLUE, EMPTY, RED[:40]])
def test_two_workers_on_one_object_agree_on_the_newest_bytes(overwrite: bytes | None) -> None:
    setting = Setting()
    setting.store.put("a.png", RED)
    setting.index = Paused(other_worker(setting, overwrite=overwrite))
    setting.run()
    alone = Setting()
    alone.store.put("a.png", overwrite or RED)
    alone.run()
    assert setting.visible() == alone.visible()
    whole(setting.index)


def test_a_worker_that_finds_an_object_gone_does_no_harm_to_one_that_finds_it_back() -> None:
    setting = Setting()
    setting.store.put("a.png", RED)
    old = list(setting.store.list())

    def gone_and_back(index: MemoryRegionIndex) -> None:
        other_worker(setting, overwrite=GREEN_BLUE)(index)

    class Back(InMemoryStore):
        """Says that the object is gone, while another worker already indexes what came in its place."""

        def stat(self, key: str) -> StoredObject | None:  # noqa: ARG002
            gone_and_back(setting.index)
            return None

    late = Back()
    late.put("a.png", RED)
    job = IndexingJob(late, fake_encoder, setting.index, SMALL_BATCHES)
    index_images(job, old)
    assert setting.row("a.png").etag == setting.store.stat("a.png").etag  # type: ignore[union-attr]
    whole(setting.index)


def test_a_row_from_a_clock_that_runs_ahead_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "_last", 0)  # and put back at the end
    setting = Setting()
    setting.store.put("a.png", RED)
    setting.run()
    row = setting.row("a.png")
    century = next_generation() + 10**9 * 3600 * 24 * 365 * 100
    regions = all_regions(setting.index)
    setting.index.insert_regions(
        [replace(one, generation=century, id=f"{number:032}") for number, one in enumerate(regions)]
    )
    setting.index.insert_images([replace(row, generation=century, id="f" * 32)])
    setting.store.put("a.png", GREEN_BLUE)
    assert setting.run().indexed == 1
    assert setting.row("a.png").etag == setting.store.stat("a.png").etag  # type: ignore[union-attr]
    assert setting.run().unchanged == 1
    assert without_garbage(setting.index)


def test_what_a_clock_that_runs_ahead_and_a_killed_attempt_wrote_goes_with_the_object() -> None:
    setting = Setting()
    for key in ("a.png", "b.png", "c.png"):
        setting.store.put(key, RED)
    setting.run()
    row, regions, century = setting.row("a.png"), all_regions(setting.index), 10**9 * 3600 * 24 * 365 * 100
    ahead = [replace(one, generation=one.generation + century, id=f"a{one.id[1:]}") for one in regions]
    setting.index.insert_regions([one for one in ahead if one.image == row.image])
    setting.index.insert_images([replace(row, generation=row.generation + century, id="f" * 32)])
    killed = [replace(one, generation=next_generation(), id=f"b{one.id[1:]}") for one in regions]
    setting.index.insert_regions([one for one in killed if one.image.key == "b.png"])
    for key in ("a.png", "b.png"):
        setting.store.delete(key)
    job = IndexingJob(setting.store, lambda: setting.encoder, setting.index, SMALL_BATCHES)
    assert refresh_images(job, ["a.png", "b.png"]).deleted == 2
    assert list(setting.visible()) == ["c.png"]
    assert {one.image.key for one in all_regions(setting.index)} == {"c.png"}


def test_an_object_without_a_suffix_is_an_image_if_its_type_says_so() -> None:
    """As in a bucket whose keys are digests: a listing of S3 names no types."""
    setting = Setting()
    setting.store.put("ab12/image", RED, content_type="image/png")
    setting.store.put("ab12/words", b"words", content_type="text/plain")
    setting.store.put("words.txt", b"words", content_type="image/png")
    report = setting.run()
    assert (report.indexed, report.skipped) == (1, 2)
    assert setting.knows("ab12/image")
    setting.store.put("ab12/image", b"words", content_type="text/plain")
    report = setting.run()
    assert (report.failed, report.skipped) == (0, 3)


def test_a_type_is_asked_for_again_where_the_image_failed_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been wrong, and may be put right without another content."""
    setting, asked = Setting(), list[str]()
    setting.store.put("good", RED, content_type="image/png")
    setting.store.put("bad", b"words", content_type="image/png")
    report = setting.run()
    assert (report.indexed, report.failed) == (1, 1)
    setting.store.put("bad", b"words", content_type="text/plain")
    stat = setting.store.stat
    monkeypatch.setattr(setting.store, "stat", lambda key: asked.append(key) or stat(key))
    report = setting.run()
    assert (report.unchanged, report.skipped, report.failed) == (1, 1, 0)
    assert asked == ["bad"]


def test_tags_that_no_listing_shows_are_asked_for_whatever_is_known_of_the_index() -> None:
    setting = Setting()
    setting.store.put("a.png", RED)
    setting.run()
    stored, data = setting.store._objects["a.png"]
    setting.store._objects["a.png"] = replace(stored, metadata={"shelf": "3"}), data  # neither content nor time changes
    for is_enough, indexed in ((True, 0), (False, 1)):
        options = replace(SMALL_BATCHES, listing_is_enough=is_enough)
        job = IndexingJob(setting.store, lambda: setting.encoder, setting.index, options)
        report = index_images(job, setting.store.list(), seen=KnownImages(setting.index.iterate_states()))
        assert (report.indexed, report.unchanged) == (indexed, 1 - indexed)
    assert setting.row("a.png").metadata == {"shelf": "3"}


def test_an_object_that_goes_before_its_tags_are_looked_at_is_gone() -> None:
    setting = Setting()
    for key in ("a.png", "b.png"):
        setting.store.put(key, RED)
    setting.run()
    listed = list(setting.store.list())
    setting.store.delete("a.png")
    report = setting.run(options=replace(SMALL_BATCHES, listing_is_enough=False), objects=listed)
    assert (report.unchanged, report.deleted, report.failed) == (1, 1, 0)
