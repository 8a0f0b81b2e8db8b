"""Progress knows its total while it lists, speaks where there is no terminal, and says what a Ctrl-C leaves."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import pytest
from fakes.indexing import RED, SMALL_BATCHES
from fakes.models import fake_encoder
from fakes.stores import InMemoryStore

from searchanything.cli import progress as bars
from searchanything.core.errors import StoreError
from searchanything.core.types import ImageRef, StoredObject
from searchanything.encode.fingerprint import manifest_of
from searchanything.images.scopes import Scope
from searchanything.ingest.listing import ListingAhead
from searchanything.ingest.pipeline import refresh_images
from searchanything.ingest.plan import IndexingJob
from searchanything.ingest.progress import ProgressLine, in_notebooks, lines, rate_text, so_far, within
from searchanything.ingest.reports import IndexProgress, IndexReport
from searchanything.ingest.sync import SyncJob, sync_images
from searchanything.stores.memory import MemoryIndexStore


def stored(number: int) -> StoredObject:
    return StoredObject(ImageRef("b", f"{number}.jpg"), "e", 1)


def test_the_total_is_there_when_the_first_image_is() -> None:
    listing = ListingAhead(map(stored, range(240)), lambda one: one.ref.key != "3.jpg")
    objects = iter(listing)
    assert next(objects) == stored(0)
    assert len(list(objects)) == 239
    told: list[IndexProgress] = []
    listing.progress(told.append)(IndexProgress(160, None, 160, 0, "k"))
    assert (told[0].done, told[0].total, told[0].total_is_final) == (160, 239, True)


def test_a_listing_runs_ahead_only_so_far_and_stops_with_its_reader() -> None:
    given = 0

    def endless() -> Iterator[StoredObject]:
        nonlocal given
        while True:
            given += 1
            yield stored(given)

    listing = ListingAhead(endless(), lambda _: True, most=10)
    objects = iter(listing)
    next(objects)
    told: list[IndexProgress] = []
    listing.progress(told.append)(IndexProgress(1, None, 1, 0, "k"))
    assert not told[0].total_is_final
    objects.close()
    _until(lambda: not any(one.name == "listing" for one in threading.enumerate()))
    assert given <= 12


def test_what_breaks_a_listing_comes_after_what_it_gave() -> None:
    def breaking() -> Iterator[StoredObject]:
        yield stored(0)
        raise StoreError("gone")

    listing = ListingAhead(breaking(), lambda _: True)
    objects = iter(listing)
    assert next(objects) == stored(0)
    with pytest.raises(StoreError, match="gone"):
        next(objects)
    assert not listing.complete


def test_the_line_says_total_rate_time_left_and_failures() -> None:
    now = 0.0
    line = ProgressLine("indexing", clock=lambda: now)
    assert str(line) == "indexing: nothing done yet, 0:00:00 so far"
    line(IndexProgress(0, 1200, 0, 0, "k"))
    now = 10.0
    line(IndexProgress(160, 1200, 150, 10, "k"))
    assert str(line) == "indexing: 160 of 1,200 (13%), 16.0 images/s, about 0:01:05 left, 10 failed"
    line(IndexProgress(160, 300, 160, 0, "k", total_is_final=False))
    assert str(line) == "indexing: 160 of 300 or more, 16.0 images/s"
    line(IndexProgress(0, 0, 0, 0, "", total_is_final=False))
    assert str(line).startswith("indexing: nothing done yet, ")
    line(IndexProgress(3, None, 0, 0, "", stage="training the hash"))
    assert str(line) == "training the hash: 3 done"


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def while_models_load() -> tuple[ProgressLine, Clock]:
    clock = Clock()
    line = ProgressLine("indexing", clock=clock)
    line(IndexProgress(0, None, 0, 0, "", stage="loading the models"))
    return line, clock


def test_a_stage_without_anything_to_count_says_what_it_is_and_how_long_it_takes() -> None:
    line, clock = while_models_load()
    clock.now = 20.0
    assert str(line) == "loading the models: 0:00:20 so far"
    line(IndexProgress(0, 120, 0, 0, ""))
    assert str(line) == "indexing: 0 of 120 (0%)"
    clock.now = 50.0
    assert str(line) == "indexing: 0 of 120 (0%), 0:00:30 so far"
    line(IndexProgress(32, 120, 32, 0, "k"))
    assert "so far" not in str(line)


def test_loading_is_not_in_the_rate_and_the_time_left_does_not_grow_between_batches() -> None:
    line, clock = while_models_load()
    clock.now = 500.0
    line(IndexProgress(40, 120, 0, 0, ""))  # 40 are unchanged
    clock.now = 510.0
    line(IndexProgress(60, 120, 20, 0, "k"))
    assert str(line) == "indexing: 60 of 120 (50%), 2.0 images/s, about 0:00:30 left"
    clock.now = 520.0
    assert str(line) == "indexing: 60 of 120 (50%), 2.0 images/s, about 0:00:20 left"
    clock.now = 600.0
    assert str(line) == "indexing: 60 of 120 (50%), 2.0 images/s"


@pytest.mark.parametrize(
    ("per_second", "said"),
    [
        (16, "16.0 images/s"),
        (1, "1.0 images/s"),
        (0.5, "30.0 images/min"),
        (0.03, "1.8 images/min"),
        (0.01, "36.0 images/h"),
    ],
)
def test_no_rate_is_rounded_to_nothing(per_second: float, said: str) -> None:
    assert rate_text(per_second) == said


def test_lines_come_by_themselves() -> None:
    written: list[str] = []
    with lines("indexing", written.append, every_s=0.01):
        _until(lambda: len(written) >= 2)
    count = len(written)
    assert not any(one.name == "progress" for one in threading.enumerate())
    assert len(written) == count


def test_without_a_terminal_the_command_line_speaks_and_says_what_ctrl_c_leaves(capsys, monkeypatch) -> None:
    monkeypatch.setattr("searchanything.ingest.progress.EVERY_S", 0.01)
    said = ""

    def is_said(what: str) -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return what in said

    def work() -> None:
        with bars.indexing_progress() as show:
            show(IndexProgress(5, 9, 5, 1, "k"))
            _until(lambda: is_said("1 failed"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert "indexing: 5 of 9" in said
    assert is_said("run the same command again to continue")


def test_notebooks_get_a_line_without_asking(monkeypatch, capsys) -> None:
    monkeypatch.setattr("searchanything.ingest.progress.is_notebook", lambda: True)
    with in_notebooks(None, "indexing") as tell:
        assert tell is not None
        tell(IndexProgress(5, 9, 5, 0, "k"))
    assert "indexing: 5 of 9" in capsys.readouterr().err
    own: list[IndexProgress] = []
    with in_notebooks(own.append, "indexing") as tell:
        tell(IndexProgress(5, 9, 5, 0, "k"))
    assert len(own) == 1
    assert capsys.readouterr().err == ""


def test_elsewhere_nothing_is_said() -> None:
    with in_notebooks(None, "indexing") as tell:
        assert tell is None


def _until(holds) -> None:
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("never")


@pytest.mark.parametrize("at_once", [512, 2])
def test_a_sync_knows_its_total_and_counts_its_repairs(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr("searchanything.ingest.sync.WAVE_KEYS", at_once)
    store = InMemoryStore()
    for number in range(5):
        store.put(f"{number}.png", RED)
    store.put("bad.png", b"no image")
    store.put("notes.txt", b"no image")
    indexes = MemoryIndexStore()
    index = indexes.create(manifest_of(fake_encoder(), "fake"), b"")
    work = IndexingJob(store, fake_encoder, index, replace(SMALL_BATCHES, batch_images=1))
    told: list[IndexProgress] = []
    job = SyncJob(store, index, Scope(), SMALL_BATCHES, partial(refresh_images, work))
    assert sync_images(job, progress=told.append).repaired.indexed == 5
    assert {(one.total, one.total_is_final) for one in told} == {(6, True)}
    done = [one.done for one in told]
    assert done == sorted(done)
    assert {0, *done} == {0, 1, 2, 3, 4, 5, 6}  # image by image
    assert (told[-1].indexed, told[-1].failed) == (5, 1)


def test_a_check_is_done_when_all_is_looked_at() -> None:
    """What differs waits for no repair."""
    store = InMemoryStore()
    for number in range(5):
        store.put(f"{number}.png", RED)
    index = MemoryIndexStore().create(manifest_of(fake_encoder(), "fake"), b"")
    told: list[IndexProgress] = []
    assert len(sync_images(SyncJob(store, index, Scope(), SMALL_BATCHES), progress=told.append).missing) == 5
    assert (told[-1].done, told[-1].total) == (5, 5)


def test_parts_add_up_to_the_whole() -> None:
    told: list[IndexProgress] = []
    before = so_far(IndexProgress(0, 9, 0, 0, ""), IndexReport(indexed=2, failed=1))
    before = so_far(before, IndexReport(indexed=1, exhausted=1, deleted=1))
    within(told.append, before)(IndexProgress(2, None, 1, 1, "k"))
    assert told == [IndexProgress(8, 9, 4, 3, "k")]
