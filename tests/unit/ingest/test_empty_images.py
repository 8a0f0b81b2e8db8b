"""An image without regions: a search for whole images finds it, and rows of older versions are made again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fakes.indexing import SMALL_BATCHES, Setting, png
from fakes.models import drawn

from searchanything.core.rows import ImageRow, Outcome
from searchanything.core.types import RGBImage
from searchanything.images.scopes import Scope
from searchanything.ingest.plan import IndexingOptions
from searchanything.ingest.reports import SyncReport
from searchanything.ingest.sync import SyncJob, sync_images
from searchanything.prompts.prompt import WholeImage
from searchanything.search.search import PageRequest, search_images

GREYS = {f"{shade}.png": np.full((20 + shade, 30, 3), shade, dtype=np.uint8) for shade in (40, 120, 200)}


def indexed(**more: RGBImage) -> Setting:
    setting = Setting()
    for key, image in {**GREYS, **{f"{name}.png": image for name, image in more.items()}}.items():
        setting.store.put(key, png(image))
    setting.run()
    return setting


def nearest(setting: Setting, image: RGBImage) -> list[tuple[str, int]]:
    query = setting.encoder.encode_query(image, WholeImage())
    page = search_images(setting.index, query.code, PageRequest(limit=9), filter=None)
    return [(hit.image.key, hit.distance_bits) for hit in page.hits]


def as_an_older_version_wrote_it(row: ImageRow) -> ImageRow:
    return replace(row, code=bytes(len(row.code)), message="") if row.outcome is Outcome.EMPTY else row


def older(setting: Setting) -> Setting:
    """The same index, its empty images as an older version kept them: codes of zeros, and no message."""
    rows = [as_an_older_version_wrote_it(row) for row in setting.index.iterate_images()]
    setting.index._images.insert(rows)  # in place of those with the same ids
    return setting


def synced(setting: Setting, options: IndexingOptions = SMALL_BATCHES) -> SyncReport:
    return sync_images(SyncJob(setting.store, setting.index, Scope(), options))


@pytest.mark.parametrize("key", GREYS)
def test_it_is_found_by_its_own_whole_image(key: str) -> None:
    setting = indexed(red=drawn(30, 40, red=(4, 4, 20, 20)))
    assert setting.row(key).outcome is Outcome.EMPTY
    found = nearest(setting, GREYS[key])
    assert (key, 0) in found[: sum(distance == 0 for _, distance in found)]
    assert {name for name, _ in found} == {*GREYS, "red.png"}


def test_a_failed_one_is_not_found() -> None:
    setting = indexed()
    setting.store.put("bad.png", b"no image")
    setting.run()
    assert {key for key, _ in nearest(setting, GREYS["40.png"])} == set(GREYS)


def test_a_row_of_an_older_version_is_hidden_and_the_next_run_makes_it_anew() -> None:
    setting = older(indexed(red=drawn(30, 40, red=(4, 4, 20, 20))))
    assert [key for key, _ in nearest(setting, GREYS["40.png"])] == ["red.png"]
    report = setting.run()
    assert (report.empty, report.unchanged) == (3, 1)
    assert {key for key, _ in nearest(setting, GREYS["40.png"])} == {*GREYS, "red.png"}
    assert setting.run().unchanged == 4


def test_a_sync_calls_rows_of_an_older_version_stale_once() -> None:
    setting = older(indexed())
    assert synced(setting).stale == tuple(sorted(GREYS))
    setting.run()
    assert not synced(setting).differs
