"""A source that is deleted while somebody indexes it: what is committed then is whole, as another worker's is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from fakes.hash_layers import live_of, opened
from fakes.indexing import whole
from fakes.machine import machine_with_images

from searchanything.core.rows import ImageRow
from searchanything.ingest.vanished import Said
from searchanything.stores.memory import MemoryRegionIndex


def test_what_is_committed_after_a_deletion_has_its_regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_with_images(monkeypatch, tmp_path)
    images = tmp_path / "images"
    insert_images, deleted = MemoryRegionIndex.insert_images, []

    def inserted(index: MemoryRegionIndex, rows: Sequence[ImageRow]) -> None:
        """The regions are there, and not the images yet."""
        if not deleted:
            deleted.append(client.delete(images))
        insert_images(index, rows)

    with opened(tmp_path) as client:
        client.index(images)
        monkeypatch.setattr(MemoryRegionIndex, "insert_images", inserted)
        assert client.index(images, force=True).indexed == 3
        assert deleted == [3]
        whole(live_of(client))
        status = client.status()
        assert (status.images, status.regions, status.lost, status.garbage) == (3, 6, 0, 0)
        assert client.features.status(images).missing == 0
        assert len(client.query(images / "1.png", (10, 20)).hits) == 6


@pytest.mark.parametrize(("said", "named"), [("listed", ["ghost.png"]), ("named", []), ("gone", [])])
def test_an_image_that_is_not_there_is_warned_of_if_a_listing_named_it(
    said: Said, named: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_with_images(monkeypatch, tmp_path)
    with opened(tmp_path) as client:
        report, _ = client.operations.refresh_with_sheet(
            tmp_path / "images", ["ghost.png", "1.png"], tiles=0, said=said
        )
    assert [one.key for one in report.warnings] == named
    assert report.indexed == 1
