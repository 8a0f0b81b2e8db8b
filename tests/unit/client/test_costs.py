"""What a call costs where there is much: by how often and how much the index is asked, not by the clock."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
from contracts.index_rows import image_row, region_row
from fakes.machine import machine_with_images

from searchanything.client import failures, syncing
from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.manifest import IndexCounts
from searchanything.core.rows import ImageRow, Outcome
from searchanything.core.settings import Settings
from searchanything.core.types import ImageRef
from searchanything.images.scopes import Patterns
from searchanything.ingest import sync
from searchanything.ingest.reports import IndexProgress
from searchanything.stores.memory import MemoryRegionIndex


def client_of(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Client:
    machine_with_images(monkeypatch, folder)
    settings = Settings(_env_file=None)
    settings.milvus.uri, settings.models.preset, settings.ingest.forget_images = "memory://", "pico", 1000
    return connect(settings=settings)


def test_delete_holds_some_images_at_a_time_and_counts_each_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(syncing, "FORGOTTEN_AT_ONCE", 5)
    asked: list[int] = []
    delete = MemoryRegionIndex.delete_before

    def noted(index: MemoryRegionIndex, generations: Mapping[ImageRef, int]) -> None:
        asked.append(len(generations))
        delete(index, generations)

    monkeypatch.setattr(MemoryRegionIndex, "delete_before", noted)
    with client_of(monkeypatch, tmp_path) as client:
        client.index(tmp_path / "images")
        index = client.operations.search_context().index
        folder = next(iter(index.iterate_states())).image.bucket
        index.delete_images([row.image for row in index.iterate_images()])
        refs = [ImageRef(folder, f"{number}.jpg") for number in range(17)]
        index.insert_images([image_row(ref, generation=2) for ref in refs])
        index.insert_images([image_row(ref, generation=1) for ref in refs[:3]])  # what killed commits left
        index.insert_regions([region_row(ref, generation=2) for ref in refs])
        kept = ImageRef("other", "a.jpg")
        index.insert_images([image_row(kept, generation=1)])
        asked.clear()
        assert client.delete(tmp_path / "images") == 17
        assert max(asked) <= 5
        assert [state.image for state in index.iterate_states()] == [kept]
        assert list(index.iterate_regions()) == []


@pytest.mark.parametrize("verb", ["sync", "index"])
def test_what_may_be_forgotten_is_forgotten_together(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verb: str
) -> None:
    """An embedded index looks at all its rows for each deletion."""
    forgotten: list[int] = []
    delete = MemoryRegionIndex.delete_before

    def noted(index: MemoryRegionIndex, generations: Mapping[ImageRef, int]) -> None:
        forgotten.append(len(generations))
        delete(index, generations)

    with client_of(monkeypatch, tmp_path) as client:
        client.index(tmp_path / "images")
        index = client.operations.search_context().index
        folder = next(iter(index.iterate_states())).image.bucket
        held = client.status().images
        refs = [ImageRef(folder, f"gone/{number}.jpg") for number in range(700)]
        index.insert_images([image_row(ref, generation=1, regions=0, outcome=Outcome.EMPTY) for ref in refs])
        monkeypatch.setattr(MemoryRegionIndex, "delete_before", noted)
        if verb == "sync":
            report = client.sync(tmp_path / "images", repair=True, forget=True).repaired
        else:
            report = client.index(tmp_path / "images", prune=True)
        assert report is not None
        assert (report.deleted, client.status().images) == (700, held)
    assert forgotten == [700]


def test_the_progress_of_a_retry_does_not_add_up_all_reports_for_each_wave(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sync, "WAVE_KEYS", 2)
    sums: list[int] = []
    add = failures.sum_reports
    monkeypatch.setattr(failures, "sum_reports", lambda reports: (sums.append(1), add(reports))[1])
    shown: list[IndexProgress] = []
    with client_of(monkeypatch, tmp_path) as client:
        client.index(tmp_path / "images")
        index = client.operations.search_context().index
        folder = next(iter(index.iterate_states())).image.bucket
        refs = [ImageRef(folder, f"gone/{number}.jpg") for number in range(7)]
        index.insert_images([image_row(ref, generation=1, outcome=Outcome.FAILED, regions=0) for ref in refs])
        report = client.retry_failed(progress=shown.append)
    assert report.deleted + report.gone == 7
    assert sums == [1]
    assert all(one.total == 7 for one in shown)


def test_a_wave_does_not_count_what_an_untrained_index_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with client_of(monkeypatch, tmp_path) as client:
        client.index(tmp_path / "images", hash_file="untrained")

        def counts(_: MemoryRegionIndex, **__: object) -> IndexCounts:
            raise AssertionError("each image row was looked at")

        monkeypatch.setattr(MemoryRegionIndex, "counts", counts)
        assert client.refresh(tmp_path / "images", ()).found_no_image


def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of which an index is asked for the rows."""
    asked: list[str] = []
    newest = MemoryRegionIndex.newest

    def noted(index: MemoryRegionIndex, images: Collection[ImageRef]) -> dict[ImageRef, ImageRow]:
        asked.extend(image.key for image in images)
        return newest(index, images)

    monkeypatch.setattr(MemoryRegionIndex, "newest", noted)
    return asked


def test_a_run_asks_for_the_rows_of_what_changed_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with client_of(monkeypatch, tmp_path) as client:
        first = client.index(tmp_path / "images")
        assert first.indexed > 2
        paths = sorted(path for path in (tmp_path / "images").rglob("*") if path.is_file())
        asked = asked_for(monkeypatch)
        again = client.index(tmp_path / "images")
        assert (again.unchanged, again.indexed, asked) == (first.indexed, 0, [])
        os.utime(paths[0], (1, 1))
        touched = client.index(tmp_path / "images")
        assert (touched.unchanged, touched.indexed) == (first.indexed, 0)
        assert asked == [paths[0].relative_to(tmp_path / "images").as_posix()]
        paths[0].write_bytes(paths[1].read_bytes())
        changed = client.index(tmp_path / "images")
        assert (changed.unchanged, changed.indexed) == (first.indexed - 1, 1)
        asked.clear()
        forced = client.index(tmp_path / "images", force=True)
        assert forced.indexed == first.indexed
        assert set(asked) >= {path.relative_to(tmp_path / "images").as_posix() for path in paths}


def test_a_run_still_counts_an_indexed_image_that_is_not_wanted_as_skipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with client_of(monkeypatch, tmp_path) as client:
        first = client.index(tmp_path / "images")
        one = next(path for path in (tmp_path / "images").rglob("*") if path.is_file())
        without = Patterns(exclude=(one.relative_to(tmp_path / "images").as_posix(),))
        again = client.index(tmp_path / "images", patterns=without)
        assert (again.unchanged, again.skipped, again.indexed) == (first.indexed - 1, 1, 0)


def test_a_run_tries_known_failures_again_and_asks_for_their_rows_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with client_of(monkeypatch, tmp_path) as client:
        client.index(tmp_path / "images")
        (tmp_path / "images" / "broken.jpg").write_bytes(b"none")
        assert client.index(tmp_path / "images").failed == 1
        asked = asked_for(monkeypatch)
        assert client.index(tmp_path / "images").failed == 1
        assert set(asked) == {"broken.jpg"}


def test_failures_are_streamed_and_looked_up_by_generation_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """To read 100,000 failed images by their names took a server a minute."""
    newest = MemoryRegionIndex.newest
    questions: list[str] = []

    def rows(index: MemoryRegionIndex, images: Collection[ImageRef]) -> dict[ImageRef, ImageRow]:
        questions.append("rows")
        return newest(index, images)

    def generations(index: MemoryRegionIndex, images: Collection[ImageRef]) -> dict[ImageRef, int]:
        questions.append("generations")
        return {image: row.generation for image, row in newest(index, images).items()}

    with client_of(monkeypatch, tmp_path) as client:
        client.index(tmp_path / "images")
        index = client.operations.search_context().index
        refs = [ImageRef("b", f"{number}.jpg") for number in range(3000)]
        index.insert_images([image_row(ref, generation=2, outcome=Outcome.FAILED, regions=0) for ref in refs])
        index.insert_images([image_row(ref, generation=1, outcome=Outcome.FAILED, regions=0) for ref in refs[:9]])
        index.insert_images([image_row(ref, generation=3, regions=0) for ref in refs[:5]])
        with monkeypatch.context() as patched:
            patched.setattr(MemoryRegionIndex, "newest", rows)
            patched.setattr(MemoryRegionIndex, "generations", generations)
            assert [one.image for one in client.failures()] == sorted(refs[5:])
        assert questions == ["generations"]
        assert client.drop_failed() == 2995
        assert set(index.newest(refs)) == set(refs[:5])


def test_an_estimate_counts_words_codes_where_indexing_makes_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the settings of a new index, and by what an index has."""
    images = tmp_path / "images"
    with client_of(monkeypatch, tmp_path) as client:
        plain = client.estimate(images).disk_bytes
        client._parts.connection.settings.ingest.words = True
        words = client.estimate(images).disk_bytes
        assert words > 1.5 * plain
        client._parts.connection.settings.ingest.words = False
        client.index(images)
        assert client.estimate(images).disk_bytes == plain
        client.index(images, add_words=True)
        assert client.estimate(images).disk_bytes == words
