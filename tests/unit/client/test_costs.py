"""What a call costs where there is much: by how often and how much the index is asked, not by the clock."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest
from contracts.index_rows import image_row, region_row
from fakes.machine import machine_with_images

from searchanything.client import failures, syncing
from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.manifest import IndexCounts
from searchanything.core.rows import Outcome
from searchanything.core.settings import Settings
from searchanything.core.types import ImageRef
from searchanything.ingest import sync
from searchanything.ingest.reports import IndexProgress
from searchanything.stores.memory import MemoryRegionIndex


def client_of(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Client:
    machine_with_images(monkeypatch, folder)
    settings = Settings(_env_file=None)
    settings.milvus.uri, settings.models.preset = "memory://", "pico"
    return connect(settings=settings)


def test_delete_holds_some_images_at_a_time_and_counts_each_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(syncing, "FORGOTTEN_AT_ONCE", 5)
    asked: list[int] = []
    delete = MemoryRegionIndex.delete_images

    def noted(index: MemoryRegionIndex, images: Collection[ImageRef]) -> None:
        asked.append(len(images))
        delete(index, images)

    monkeypatch.setattr(MemoryRegionIndex, "delete_images", noted)
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
