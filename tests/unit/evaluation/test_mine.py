"""`eval mine`: altered copies of indexed regions, where their masks go, and whether they find their own region."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from contracts.index_rows import region_row
from fakes.machine import Machine
from fakes.models import CHANNELS, FakeEmbedder, drawn
from fakes.segmentations import rectangle, segmented
from PIL import Image

from searchanything.cli.app import run
from searchanything.client.client import Client
from searchanything.client.consistency import Consistency
from searchanything.client.opening import connect
from searchanything.core.errors import UsageError
from searchanything.core.geometry import box_of_mask
from searchanything.core.types import ImageRef
from searchanything.evaluation import mine
from searchanything.evaluation.copies import ALTERATIONS
from searchanything.evaluation.mine import MineOptions, evaluate_mine
from searchanything.models.hashing import HashLayer
from searchanything.prompts.choose import choose
from searchanything.prompts.prompt import Box

WIDE, TALL = (8, 8, 120, 60), (140, 20, 180, 130)
# No two regions are alike: other colours, and other shares of their boxes' crops.
IMAGES = {
    "a.png": {"red": WIDE, "blue": TALL},
    "b.png": {"green": WIDE, "yellow": TALL},
    "c.png": {"cyan": WIDE, "magenta": TALL},
}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    Machine().install(monkeypatch)
    for name, parts in IMAGES.items():
        Image.fromarray(drawn(160, 200, **parts)).save(tmp_path / name)
    client = connect("memory://", preset="pico")
    client.index(tmp_path)
    return client


@pytest.mark.parametrize("name", ALTERATIONS)
def test_a_copy_s_mask_lies_on_what_it_showed(name: str) -> None:
    """A white rectangle on black: wherever the copy is bright, and nowhere else, the mask must be set."""
    mask = np.zeros((150, 220), dtype=np.bool_)
    mask[40:90, 60:170] = True
    image = np.repeat(mask[:, :, None], 3, axis=2).astype(np.uint8) * 250
    before = image.copy()
    ((copy, moved),) = ALTERATIONS[name](image, [mask])
    bright = copy.mean(axis=2) > 60
    assert moved.shape == bright.shape
    assert (bright & moved).sum() / (bright | moved).sum() > 0.95
    assert (image == before).all()
    assert not np.array_equal(copy, image)


@pytest.mark.parametrize("name", ALTERATIONS)
def test_a_copy_keeps_its_colours_or_is_darker(name: str) -> None:
    mask = np.zeros((150, 220), dtype=np.bool_)
    mask[40:90, 60:170] = True
    colour = np.array([240, 120, 20])
    image = np.where(mask[:, :, None], colour, 128).astype(np.uint8)
    ((copy, moved),) = ALTERATIONS[name](image, [mask])
    gain = 0.55 if name == "dark" else 1.0
    np.testing.assert_allclose(np.median(copy[moved], axis=0), colour * gain, atol=4)


def test_how_much_a_copy_shows() -> None:
    def shape(name: str, rows: slice, columns: slice) -> tuple[int, ...]:
        mask = np.zeros((150, 220), dtype=np.bool_)
        mask[rows, columns] = True
        ((copy, _),) = ALTERATIONS[name](np.zeros((150, 220, 3), dtype=np.uint8), [mask])
        return copy.shape[:2]

    wide = slice(40, 90), slice(60, 170)
    assert shape("smaller", *wide) == (90, 132)
    # Twice as high and wide: rows 15 to 115, columns 5 to 225, of which the image has 220.
    assert shape("cut", *wide) == (100, 215)
    assert shape("cut", slice(70, 74), slice(100, 106)) == (32, 32)  # no less than 32 px
    assert shape("cut", slice(0, 60), slice(150, 220)) == (90, 105)  # rows -30 to 90, columns 115 to 255


def test_a_turn_is_one_of_ten_degrees_about_the_middle_and_leaves_no_black_corners() -> None:
    height, width = 150, 220
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[70:80, 30:190] = True  # a bar through the middle
    ((copy, moved),) = ALTERATIONS["turned"](np.full((height, width, 3), 90, dtype=np.uint8), [mask])
    assert (copy == 90).all()
    rows, columns = np.nonzero(moved)
    assert (rows.mean(), columns.mean()) == pytest.approx((height / 2, width / 2), abs=1)
    slope = np.polyfit(columns, rows, 1)[0]
    assert np.degrees(np.arctan(abs(slope))) == pytest.approx(10, abs=0.5)
    assert moved.sum() == pytest.approx(mask.sum(), rel=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 1)])
@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_image_of_a_pixel_has_copies(name: str, shape: tuple[int, int]) -> None:
    ((copy, moved),) = ALTERATIONS[name](np.full((*shape, 3), 90, dtype=np.uint8), [np.ones(shape, dtype=np.bool_)])
    assert min(copy.shape) >= 1
    assert copy.shape[:2] == moved.shape


def test_a_cut_stays_inside_its_image_and_an_empty_mask_has_no_box() -> None:
    mask = np.zeros((40, 50), dtype=np.bool_)
    mask[:3, 47:] = True
    ((copy, moved),) = ALTERATIONS["cut"](np.zeros((40, 50, 3), dtype=np.uint8), [mask])
    assert copy.shape[:2] == moved.shape
    assert moved.sum() == 9
    assert box_of_mask(mask) == (47.0, 0.0, 50.0, 3.0)
    empty = np.zeros((4, 5), dtype=np.bool_)
    assert box_of_mask(empty) is None
    ((copy, moved),) = ALTERATIONS["cut"](np.ones((4, 5, 3), dtype=np.uint8), [empty])
    assert (copy.shape, moved.shape, moved.any()) == ((4, 5, 3), (4, 5), False)


def test_regions_find_themselves_where_a_copy_changes_nothing_that_the_models_see(client: Client) -> None:
    report = evaluate_mine(client.operations.search_context(), MineOptions())
    assert (report["regions"], report["images"], report["among_regions"]) == (6, 3, 6)
    for name in ("mirrored", "cut"):
        assert report["by_copy"][name]["recall_1"] == 1.0
        assert report["by_copy"][name]["selected"] == 1.0
    assert report["by_size"]["medium"]["regions"] + report["by_size"]["large"]["regions"] == 6
    assert report["by_copy"]["mirrored"]["median_bits"] == 0
    assert report["recall_10"] == 1.0  # there are but six regions
    assert report["ci95"] == {}, "six regions of three images"
    assert report["failures"] == []


def test_other_codes_do_not_find_them(client: Client) -> None:
    """The same pictures, asked about by another hash layer than the index's: nothing but chance is left."""
    context = client.operations.search_context()
    foreign = HashLayer.random_rotation(CHANNELS, FakeEmbedder.dimension, bits=256, seed=99)
    report = evaluate_mine(replace(context, encoder=replace(context.encoder, hasher=foreign)), MineOptions())
    assert report["by_copy"]["mirrored"]["recall_1"] < 0.7
    assert report["by_copy"]["mirrored"]["median_bits"] > 64


def test_identical_images_are_no_mistake(client: Client, tmp_path: Path) -> None:
    for number in range(12):
        Image.fromarray(drawn(160, 200, **IMAGES["a.png"])).save(tmp_path / f"0{number:02}.png")
    client.index(tmp_path)
    report = evaluate_mine(client.operations.search_context(), MineOptions(regions=30))
    assert report["by_copy"]["mirrored"]["recall_1"] == 1.0


def test_a_sample_is_drawn_by_the_seed_from_the_source_alone(client: Client, tmp_path: Path) -> None:
    context = client.operations.search_context()
    bucket = str(tmp_path)
    one = evaluate_mine(context, MineOptions(regions=1, bucket=bucket, key_prefix="b"))
    assert (one["regions"], one["images"], one["among_regions"]) == (1, 1, 6)
    again = evaluate_mine(context, MineOptions(regions=1, bucket=bucket, key_prefix="b"))
    assert {**one, "seconds": 0} == {**again, "seconds": 0}
    with pytest.raises(UsageError, match="no indexed region to try"):
        evaluate_mine(context, MineOptions(bucket=bucket, key_prefix="zzz"))


def test_what_changed_or_is_gone_is_listed_and_left_out(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.png").unlink()
    Image.fromarray(drawn(160, 200, red=WIDE)).save(tmp_path / "b.png")
    report = evaluate_mine(client.operations.search_context(), MineOptions())
    assert report["images"] == 1
    assert len(report["failures"]) == 2
    assert any("changed since it was indexed" in one["message"] for one in report["failures"])


def test_four_regions_of_an_image_are_tried(client: Client, tmp_path: Path) -> None:
    colours = ("red", "green", "blue", "yellow", "cyan", "magenta")
    parts = {colour: (8 + 30 * at, 8, 30 + 30 * at, 100 + 8 * at) for at, colour in enumerate(colours)}
    Image.fromarray(drawn(160, 200, **parts)).save(tmp_path / "z.png")
    client.index(tmp_path)
    context = client.operations.search_context()
    assert evaluate_mine(context, MineOptions(key_prefix="z"))["regions"] == 4 < len(parts)


@pytest.mark.parametrize(("left", "lies"), [(8, True), (20, True), (30, False), (60, False), (None, False)])
def test_what_a_box_selects_lies_on_what_was_asked_if_half_of_both_is_the_same(left: int | None, lies: bool) -> None:
    thing = (8, 8, 48, 40)
    scene = segmented(64, [rectangle(64, thing)])
    choice = choose(Box(*map(float, thing)), scene, box_min_iou=0.5)
    wanted = np.zeros((64, 64), dtype=np.bool_)
    if left is not None:  # 20: 28 columns of 52 in common, 30: 18 of 62
        wanted[8:40, left : left + 40] = True
    assert mine._lies_on(choice, scene, wanted) == lies


def test_intervals_are_of_drawn_images_with_all_their_regions() -> None:
    """Twelve regions of six images: Wilson's of six where all are found; else means of six draws, not of twelve."""
    rows = [region_row(ImageRef("b", f"{n}.png"), region, generation=1) for n in range(6) for region in range(2)]
    ranks = [0 if row.image.key < "3" else 1 for row in rows]
    tried = [mine._Tried(row, {"cut": rank}, {"cut": 3}, {"cut": True}) for row, rank in zip(rows, ranks, strict=True)]
    ends = mine._figures(tried, seed=0)["ci95"]
    assert ends["by_copy.cut.recall_10"] == [0.6097, 1.0]
    # No image of the three is drawn once in 64 resamples, beyond the end, and one at most in 7 of 64.
    assert ends["by_copy.cut.recall_1"] == [0.1667, 0.8333]


def test_a_copy_that_left_nothing_of_a_region_counts_for_nothing() -> None:
    image = ImageRef("b", "a.png")
    rows = [region_row(image, number, generation=1) for number in range(2)]
    names = ("smaller", "turned")
    tried = [
        mine._Tried(
            rows[0], dict(zip(names, (0, None), strict=True)), {"smaller": 3, "turned": 9}, dict.fromkeys(names, True)
        ),
        mine._Tried(rows[1], {"smaller": 4}, {"smaller": 5}, {"smaller": False}),
    ]
    report = mine._figures(tried, seed=0)
    assert (report["recall_1"], report["recall_10"], report["selected"]) == (0.25, 0.75, 0.5)
    by_copy = {name: report["by_copy"][name] for name in (*names, "dark")}
    assert [one["median_bits"] for one in by_copy.values()] == [4, 9, None]
    assert [one["recall_10"] for one in by_copy.values()] == [1.0, 0.0, None]
    assert np.isnan(mine._row_means(np.full((2, 3), np.nan))).all()


def test_no_more_images_are_read_than_are_needed(client: Client) -> None:
    steps: list[tuple[int, int, int]] = []
    context = client.operations.search_context()
    evaluate_mine(context, MineOptions(regions=3), progress=lambda *step: steps.append(step))
    assert steps == [(2, 3, 0), (3, 3, 0)], "two regions an image; of the second one the first"


def test_where_nothing_can_be_read_the_first_reason_is_said(client: Client, tmp_path: Path) -> None:
    for name in IMAGES:
        (tmp_path / name).unlink()
    with pytest.raises(UsageError, match=r"no indexed region to try; 3 images failed, the first: .*\.png"):
        evaluate_mine(client.operations.search_context(), MineOptions())


class Kept(Client):
    """The same client at each call."""

    def __init__(self, client: Client) -> None:
        self.__dict__ = client.__dict__


def typed(client: Client, *arguments: str) -> int:
    return run(list(arguments), connect=lambda _uri, _preset: Kept(client))


def test_status_quotes_the_last_measurement(client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(client, "status") == 0
    assert "not measured; searchanything eval mine" in capsys.readouterr().out
    assert typed(client, "eval", "mine", "--format", "json") == 0
    report = json.loads(capsys.readouterr().out)
    assert typed(client, "status", "--format", "json") == 0
    kept = json.loads(capsys.readouterr().out)["consistency"]
    assert {name: kept[name] for name in ("recall_1", "recall_10", "regions", "among_regions")} == {
        name: report[name] for name in ("recall_1", "recall_10", "regions", "among_regions")
    }
    assert typed(client, "status") == 0
    assert f"copies of 6 regions find their own first in {report['recall_1']:.0%}" in capsys.readouterr().out
    assert typed(client, "eval", "mine", str(tmp_path), "--regions", "2") == 0  # of a source alone: not kept
    assert "2 regions of" in capsys.readouterr().out
    assert client.status().consistency == kept


def test_a_view_of_some_places_learns_nothing_of_the_whole(client: Client, tmp_path: Path) -> None:
    assert typed(client, "eval", "mine") == 0
    assert client.within([(str(tmp_path), "a")]).status().consistency is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"fingerprint": "f"}'])
def test_what_another_version_kept_is_nothing(data: bytes) -> None:
    assert Consistency.parse(data) is None
