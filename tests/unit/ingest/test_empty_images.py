"""An image without regions: a search for whole images finds it."""

from __future__ import annotations

import numpy as np
import pytest
from fakes.indexing import Setting, png
from fakes.models import drawn

from searchanything.core.rows import Outcome
from searchanything.core.types import RGBImage
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
