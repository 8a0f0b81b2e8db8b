"""Images with several things, asked for by a client with parts of several kinds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.errors import ObjectNotFoundError, PromptError, UsageError, WordsMissingError
from searchanything.core.types import Filter, ImageRef, RegionRef
from searchanything.drawing.overlays import FOREGROUND, HIT, MUTED, distinct_colors, draw_marks
from searchanything.prompts.prompt import Text

RED, BLUE, GREEN = (4, 4, 40, 60), (50, 8, 90, 40), (50, 44, 90, 60)
IMAGES = {
    "red": {"red": RED},
    "blue": {"blue": BLUE},
    "both": {"red": RED, "blue": BLUE},
    "all": {"red": RED, "blue": BLUE, "green": GREEN},
}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    Machine().install(monkeypatch)
    for name, parts in IMAGES.items():
        Image.fromarray(drawn(64, 96, **parts)).save(tmp_path / f"{name}.png")
    client = connect("memory://", preset="pico")
    client.index(tmp_path)
    return client


def test_images_that_hold_both_come_first(client: Client, tmp_path: Path) -> None:
    found = client.combine(all_of=[(tmp_path / "red.png", (20, 30)), (tmp_path / "blue.png", (70, 20))])
    assert {hit.image.key for hit in found[:2]} == {"both.png", "all.png"}
    document = json.loads(json.dumps(found.to_dict()))
    assert document["exact"]
    assert [one["part"] for one in document["hits"][0]["parts"]] == ["all 1", "all 2"]
    assert [one["distance_bits"] for one in document["hits"][0]["parts"]] == [0, 0]
    assert document["hits"][0]["parts"][0]["box_xyxy"] == [4.0, 4.0, 40.0, 60.0]
    found.save(tmp_path / "sheet.png")
    assert "no other image scores higher" in found.sentence


def test_a_filter_that_lets_nothing_through_is_named_in_the_answer(client: Client, tmp_path: Path) -> None:
    part = (tmp_path / "red.png", (20, 30))
    found = client.combine(all_of=[part], filter=Filter(bucket="s3://photos/2024"))
    assert found.to_dict()["hint"] == found.hint
    assert 'buckets and keys are named apart; try bucket is "photos"' in found.hint
    assert client.combine(all_of=[part]).hint == ""


def test_hits_are_parts(client: Client, tmp_path: Path) -> None:
    blue = client.query(tmp_path / "blue.png", (70, 20))[0]
    found = client.combine(any_of=[blue, blue.ref], limit=3)
    assert {hit.image.key for hit in found} == {"blue.png", "both.png", "all.png"}


def test_words_are_parts(client: Client, tmp_path: Path) -> None:
    with pytest.raises(WordsMissingError):
        client.combine(all_of=["blue"])
    client.index(tmp_path, add_words=True)
    for words in ("blue", Text("blue")):
        found = client.combine(all_of=[words, (tmp_path / "red.png", (20, 30))], limit=2)
        assert {hit.image.key for hit in found} == {"both.png", "all.png"}
        assert [one.distance_bits for one in found[0].parts] == [0, 0]
    with pytest.raises(PromptError):
        client.combine(any_of=[" "])
    long = "blue. " + "and no file's name " * 20
    assert len(client.combine(all_of=[long])) == len(client.combine(all_of=[Text(long)]))


def test_what_is_no_part(client: Client, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"each part must be a region.*a box always selects"):
        client.combine(all_of=[(tmp_path / "red.png", None)])
    with pytest.raises(UsageError, match="at least one part"):
        client.combine()
    for odd in (["x", 1, 2], ("x",), 3):
        with pytest.raises(UsageError, match="or words, got"):
            client.combine(all_of=[odd])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="false-match rate"):
        client.combine(all_of=[(tmp_path / "red.png", (20, 30))], max_false_match=2.0)
    with pytest.raises(ObjectNotFoundError):
        client.combine(all_of=[RegionRef(ImageRef("nowhere", "a.png"), 0)])
    with pytest.raises(UsageError, match="committed codes"):
        client.combine(all_of=[(tmp_path / "red.png", (20, 30))], none_of=[(tmp_path / "blue.png", (70, 20))])


def test_sheet_shows_what_was_asked_before_what_was_found(client: Client, tmp_path: Path) -> None:
    client.index(tmp_path, add_words=True)
    blue = next(hit for hit in client.query(tmp_path / "blue.png", (70, 20)) if hit.image.key == "blue.png")
    found = client.combine(all_of=[(tmp_path / "red.png", (20, 30)), blue], any_of=["green"], limit=1)
    assert [(name, one.title, one.mask == blue.mask) for name, one in found.pictures.items()] == [
        ("all 1", "red.png", False),
        ("all 2", "blue.png", True),
        ("any 1", "“green”", False),
    ]
    hit = found[0].image
    sheet = np.asarray(found.plot())
    of_hit = np.asarray(replace(found, pictures={}).plot())
    gap, cell = 16, 336
    assert sheet.shape[1] == 4 * (cell + gap) + gap
    assert (hit.key, of_hit.shape[1]) == ("all.png", cell + 2 * gap)
    frames = [tuple(sheet[gap + 100, gap + number * (cell + gap)]) for number in range(3)]
    assert frames == distinct_colors(3), "each in the colour that its regions have"


def test_tile_of_a_part_shows_its_region_and_its_click(client: Client, tmp_path: Path) -> None:
    client.index(tmp_path, add_words=True)
    blue = next(hit for hit in client.query(tmp_path / "blue.png", (70, 20)) if hit.image.key == "blue.png")
    found = client.combine(all_of=[(tmp_path / "red.png", (20, 30)), blue], any_of=["green"], limit=1)
    tiles = {name: one.tile(name, HIT) for name, one in found.pictures.items()}
    assert {name: one.subtitle for name, one in tiles.items()} == {
        "all 1": "the surest for its size of 1 mask under 1 foreground point",
        "all 2": f"region {blue.region}",
        "any 1": "nearest to the words: region 2 of all.png",
    }
    for name, image, inside, outside in (
        ("all 1", "red", (10, 50), (70, 30)),
        ("all 2", "blue", (80, 30), (20, 30)),
        ("any 1", "all", (70, 52), (20, 30)),
    ):
        bare = draw_marks(drawn(64, 96, **IMAGES[image]), [], longest_side_px=320)
        (tinted, untouched), (x, y) = (np.round(np.array((inside, outside)) * 320 / 96).astype(int)), (67, 100)
        shown = tiles[name].image
        tint = np.round(bare[tinted[1], tinted[0]] * 0.76 + np.array(HIT) * 0.24)
        np.testing.assert_allclose(shown[tinted[1], tinted[0]], tint, atol=1)
        np.testing.assert_array_equal(shown[untouched[1], untouched[0]], bare[untouched[1], untouched[0]])
        assert (tuple(shown[y, x]) == FOREGROUND) == (name == "all 1"), "the click"


def test_answer_keeps_of_a_large_image_what_its_tile_shows(client: Client) -> None:
    pixels = np.kron(drawn(64, 96, **IMAGES["red"]), np.ones((12, 12, 1), dtype=np.uint8))
    picture = client.combine(all_of=[(pixels, (240, 360))], limit=1).pictures["all 1"]
    whole = replace(picture, image=pixels, prompted_size=None)
    np.testing.assert_array_equal(picture.tile("all 1", HIT).image, whole.tile("all 1", HIT).image)
    assert isinstance(picture.image, np.ndarray)
    assert (picture.image.shape, picture.image.base) == ((213, 320, 3), None), "and no view of more"


def test_sheet_shows_what_was_asked_where_its_image_is_gone(client: Client, tmp_path: Path) -> None:
    blue = client.locate(tmp_path / "blue.png")
    found = client.combine(all_of=[RegionRef(blue, 0)], limit=1)
    (tmp_path / "blue.png").unlink()
    assert found.pictures["all 1"].tile("all 1", MUTED).subtitle == "region 0 · image not readable"


def test_sheet_of_an_answer_without_images_shows_what_was_asked(client: Client, tmp_path: Path) -> None:
    found = client.combine(all_of=[(tmp_path / "red.png", (20, 30))], filter=Filter(key_prefix="none"))
    assert len(found) == 0
    assert found.plot().width == 2 * 352 + 16
