"""What is in an index more than once is found, by region and by image, with where it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from contracts.index_rows import image_row, manifest_of, random_codes, region_row
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

from searchanything.answers.duplicates import find_duplicates
from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.errors import UsageError
from searchanything.core.types import ImageRef
from searchanything.stores.memory import MemoryRegionIndex


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    Machine().install(monkeypatch)
    images = {
        "a/one.png": drawn(64, 96, red=(4, 4, 40, 60)),
        "b/same.png": drawn(64, 96, red=(4, 4, 40, 60)),
        "b/other.png": drawn(64, 96, blue=(20, 8, 60, 40)),
    }
    for name, image in images.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / name)
    client = connect("memory://", preset="pico")
    client.index(tmp_path)
    return client


@pytest.mark.parametrize("whole_images", [False, True])
def test_equal_ones_are_grouped(client: Client, tmp_path: Path, whole_images: bool) -> None:
    found = client.duplicates(whole_images=whole_images)
    (group,) = json.loads(json.dumps(found.to_dict()))["groups"]
    assert [one["key"] for one in group] == ["a/one.png", "b/same.png"]
    assert [one["distance_bits"] for one in group] == [0, 0]
    assert [one["box_xyxy"] for one in group] == [None if whole_images else [4.0, 4.0, 40.0, 60.0]] * 2
    what = "2 images, 3" if whole_images else "2 regions, 3"
    bits = "8 bits" if whole_images else "4 bits"
    assert repr(found) == f"<Duplicates: 1 group of {what} compared, within {bits}>"
    found.save(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert 400 < sheet.size[0] < 700, "as wide as the largest group, not wider"
    assert client.duplicates(whole_images=whole_images, key_prefix="b/").groups == ()
    assert client.duplicates(whole_images=whole_images, key_prefix="b/").plot().size[0] > 200


def test_only_committed_regions_of_different_images_count() -> None:
    index = MemoryRegionIndex(manifest_of("f" * 64))
    code = random_codes(1, seed=3)[0].tobytes()
    one, other, never = (ImageRef("bucket", key) for key in ("one", "other", "never"))
    index.insert_regions([region_row(one, number, generation=2, code=code) for number in range(3)])
    index.insert_regions([region_row(other, 0, generation=1, code=code), region_row(never, 0, generation=1, code=code)])
    index.insert_regions([region_row(other, 0, generation=2)])
    index.insert_images([image_row(one, generation=2), image_row(other, generation=1), image_row(other, generation=2)])

    def groups() -> list[list[tuple[str, int | None]]]:
        asked = {"whole_images": False, "max_bits": 0, "bucket": None, "key_prefix": "", "open_image": lambda _: None}
        return [
            [(one.ref.image.key, one.ref.region) for one in group] for group in find_duplicates(index, **asked).groups
        ]

    assert groups() == [], "neither a thing twice in one image, nor what was replaced or never committed"
    index.insert_images([image_row(never, generation=1)])
    assert groups() == [[("never", 0), ("one", 0)]]


def test_what_is_no_distance(client: Client) -> None:
    with pytest.raises(UsageError, match="from 0 to 31 bits"):
        client.duplicates(max_bits=40)
