"""What a question of several parts shows: a tile for each part, and images with a region for each in its colour."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from contracts.index_rows import region_row
from PIL import Image

from searchanything.answers.combined import CombinedResults, PartPicture
from searchanything.core.errors import ImageError, UsageError
from searchanything.core.geometry import encode_rle
from searchanything.core.types import ImageRef, RGBImage
from searchanything.search.combination import CombinedHit, CombinedPage, PartMatch

GREY = np.full((400, 800, 3), 120, dtype=np.uint8)
THING = np.zeros((400, 800), dtype=np.bool_)
THING[100:300, 200:600] = True
COLOUR = (250, 10, 20)


def unreadable(*_: object) -> RGBImage:
    raise ImageError("a.jpg", "no image")


def picture(image: object = GREY, **fields: object) -> PartPicture:
    return PartPicture("a.jpg", "red", image, encode_rle(THING), **fields)  # type: ignore[arg-type]


def test_a_kept_picture_has_the_pixels_of_its_tile_and_shows_the_same() -> None:
    prompt = {"foreground": [[400.0, 200.0]], "box_xyxy": [200.0, 100.0, 600.0, 300.0]}
    whole = picture(prompt=prompt)
    kept = whole.shrunk()
    assert isinstance(kept.image, np.ndarray)
    assert (kept.image.shape, kept.prompted_size) == ((160, 320, 3), (400, 800))
    one, other = (each.tile("all 1", COLOUR).image.astype(int) for each in (whole, kept))
    assert one.shape == other.shape
    assert abs(one - other).mean() < 1
    reader = picture(lambda: GREY)
    assert reader.shrunk() is reader, "what reads an image holds no pixels"
    assert np.array_equal(reader.tile("x", COLOUR).image, picture().tile("x", COLOUR).image)


def test_a_tile_names_its_part_and_marks_its_region() -> None:
    tile = picture().tile("all 1", COLOUR)
    assert (tile.title, tile.subtitle, tile.badge, tile.accent) == ("a.jpg", "red", "all 1", COLOUR)
    marked = (tile.image != 120).any(axis=2)
    rows, columns = np.nonzero(marked)
    near = pytest.approx([100, 300, 200, 600], abs=16)
    assert [2.5 * end for end in (rows.min(), rows.max(), columns.min(), columns.max())] == near
    bare = PartPicture("a.jpg", "red", GREY, None).tile("x", COLOUR)
    assert (bare.image == 120).all()
    lost = picture(unreadable).tile("all 1", COLOUR)
    assert (lost.subtitle, lost.image.shape) == ("red · image not readable", (320, 320, 3))
    assert len(np.unique(lost.image)) == 1


def combined(count: int, *, readable: bool = True, rate: float | None = 1e-5, **page: int) -> CombinedResults:
    image = ImageRef("b", "k.jpg")
    row = replace(region_row(image, 2, generation=1), mask=encode_rle(THING[::4, ::4]))
    matches = tuple(PartMatch(name, row, 12, rate) for name in ("all 1", "any 1"))
    hits = tuple(CombinedHit(image, 0.12345, matches) for _ in range(count))
    found = CombinedPage(hits, exact=True, **{"looked_at": 1200, "excluded": 0, "unsure": 0} | page)
    shown = (lambda _: np.full((100, 200, 3), 90, dtype=np.uint8)) if readable else unreadable
    return CombinedResults(
        found, ("all 1", "any 1"), "f" * 16, shown, pictures={"all 1": picture(), "none 1": picture()}
    )


@pytest.mark.parametrize("count", [0, 1, 60])
def test_a_sheet_shows_the_parts_and_fifty_images(count: int, tmp_path: Path) -> None:
    found = combined(count)
    sheet = np.asarray(found.plot())
    assert sheet.size
    if count > 50:
        assert np.array_equal(sheet, np.asarray(combined(50).plot()))
    if count == 1:
        assert not np.array_equal(sheet, np.asarray(combined(count, readable=False).plot()))
    found.save(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as page:
        assert np.array_equal(np.asarray(page), sheet)


def test_an_answer_says_what_it_may_miss() -> None:
    assert combined(2).sentence == "2 images; 1,200 compared whole; no other image scores higher"
    assert combined(1, excluded=3, unsure=4, rate=0.5).sentence == (
        "1 image (1 of them with a part that chance may explain); 1,200 compared whole, 3 of them left out by none_of, "
        "4 without a part that is near enough; no other image scores higher"
    )
    assert "chance" not in combined(1, rate=None).sentence
    assert "chance" not in combined(1, rate=0.01).sentence


def test_an_answer_is_plain_json_and_a_sequence() -> None:
    found = combined(2, excluded=3)
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (document["parts"], document["looked_at"], document["excluded"]) == (["all 1", "any 1"], 1200, 3)
    assert [(one["bucket"], one["key"], one["score"]) for one in document["hits"]] == [("b", "k.jpg", 0.123)] * 2
    [part, other] = document["hits"][0]["parts"]
    assert (part["part"], other["part"], part["region"], part["distance_bits"]) == ("all 1", "any 1", 2, 12)
    assert (part["weak"], part["false_match"]) == (False, 1e-5)
    assert document["sentence"] == found.sentence
    assert (len(found), list(found), found[0], found[:1]) == (2, list(found.page.hits), found[1], found.page.hits[:1])
    assert repr(found) == f"<CombinedResults: {found.sentence}>"
    with pytest.raises(UsageError, match="not from a client"):
        found.explain(ImageRef("b", "k.jpg"))
