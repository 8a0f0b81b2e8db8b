"""A listing is looked up once and kept a while: names alone, their rows are read when they are shown."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes.serving import Served

from searchanything.core.types import ImageRef
from searchanything.serve import image_pages
from searchanything.serve.image_pages import FRESH_S, FRESH_TIMES, Listing, Wanted


class Operations:
    """Two images, the names of which take their time to be listed."""

    def __init__(self) -> None:
        self.now, self.took_s, self.listed = 0.0, 0.0, 0

    def image_names(self, **_: object) -> tuple[list[ImageRef], bool]:
        self.listed += 1
        self.now += self.took_s
        return [ImageRef("bucket", "a.jpg"), ImageRef("bucket", "b.jpg")], True

    def image_rows(self, images: list[ImageRef]) -> list[object]:
        return list(images)


@pytest.mark.parametrize(("took_s", "kept_s"), [(0.1, FRESH_S), (4.0, FRESH_TIMES * 4.0)])
def test_a_listing_that_takes_long_is_kept_longer(
    monkeypatch: pytest.MonkeyPatch, took_s: float, kept_s: float
) -> None:
    operations, listing = Operations(), Listing(10)
    client = SimpleNamespace(operations=operations, manifest=SimpleNamespace(fingerprint="f"))
    monkeypatch.setattr(image_pages.time, "monotonic", lambda: operations.now)

    def look(**wanted: str) -> int:
        listing.page(client, (), Wanted(**wanted))  # type: ignore[arg-type]
        return operations.listed

    operations.took_s = took_s
    assert look() == 1
    operations.now += kept_s - 0.01
    assert look(contains="a") == 1
    assert look(key_prefix="a") == 2
    operations.now += 0.02
    assert look() == 3


def test_an_image_that_went_meanwhile_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served.make(tmp_path, monkeypatch)
    first = served.get("/v1/images", params={"limit": 2}).json()
    [gone] = [one for one in first["images"] if one["key"] == "a/two.png"]
    served.client._parts.connection.read_index().delete_images([ImageRef(gone["bucket"], gone["key"])])
    again = served.get("/v1/images", params={"limit": 2}).json()
    assert [one["key"] for one in again["images"]] == ["a/red.png"]
    rest = served.get("/v1/images", params={"limit": 2, "after": again["next"]}).json()
    assert [one["key"] for one in rest["images"]] == ["b/blue.png", "b/green.png"]
