"""Images in tiles: what is found in them, and that no seam shows."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from searchanything.client.opening import connect
from searchanything.core.errors import SettingsError
from searchanything.core.geometry import GRID_STRIDE, Letterbox
from searchanything.core.protocols import Segmentation
from searchanything.core.settings import Settings
from searchanything.core.types import BoolMask
from searchanything.demo.scenes import generate_demo_scenes
from searchanything.encode.asked_regions import policy_of, regions_beside, tile_side_of
from searchanything.encode.region_policy import RegionPolicy
from searchanything.models.tiles import MOST_CELLS, OVERLAP, TiledSegmenter, tiles_of
from tests.fakes.models import PALETTE, FakeSegmenter, drawn

SIDE = 64


def iou(mask: BoolMask, colour: str, image: np.ndarray) -> float:
    truth = (image == PALETTE[colour]).all(axis=2)
    return float((mask & truth).sum() / (mask | truth).sum())


def best(found: Segmentation, colour: str, image: np.ndarray) -> float:
    return max(iou(mask, colour, image) for mask in found.letterbox.image_masks(found.masks))


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), side=st.sampled_from([64, 128, 640]))
def test_tiles_share_a_quarter_and_own_every_pixel_once(height: int, width: int, side: int) -> None:
    shape = height * 32, width * 32
    owners = np.zeros((height, width), dtype=int)
    tiles = tiles_of(shape, side)
    for tile in tiles:
        y1, x1, y2, x2 = tile.place
        assert 0 <= y1 < y2 <= shape[0]
        assert 0 <= x1 < x2 <= shape[1]
        assert (y2 - y1, x2 - x1) == (min(side, shape[0]), min(side, shape[1]))
        oy1, ox1, oy2, ox2 = tile.own
        assert y1 <= oy1 < oy2 <= y2
        assert x1 <= ox1 < ox2 <= x2
        owners[oy1 // 32 : oy2 // 32, ox1 // 32 : ox2 // 32] += 1
    assert (owners == 1).all()
    for axis in (0, 1):
        starts = sorted({tile.place[axis] for tile in tiles})
        least = side // OVERLAP - 32  # starts are multiples of 32
        assert all(before + side - after >= least for before, after in pairwise(starts))


def test_a_small_thing_of_a_panorama_gets_its_outline() -> None:
    image = drawn(200, 1600, red=(700, 90, 724, 110), green=(10, 10, 1500, 60), blue=(1590, 0, 1600, 10))
    whole, tiled = FakeSegmenter(input_size=SIDE), TiledSegmenter(FakeSegmenter(input_size=SIDE), 128)
    [coarse], [fine] = whole.segment([image]), tiled.segment([image])
    assert best(coarse, "red", image) < 0.5 < 0.65 < best(fine, "red", image)
    assert best(coarse, "blue", image) < 0.5 < 0.65 < best(fine, "blue", image)
    assert len(fine.scores) == 3  # what spans many tiles is one region, and no tile adds a piece of it
    assert best(fine, "green", image) > best(coarse, "green", image) - 0.05  # that of the whole image
    assert (np.diff(fine.scores) <= 0).all()


def test_an_image_that_one_tile_holds_is_segmented_as_before() -> None:
    image = drawn(100, 128, red=(10, 10, 40, 40))
    fake = FakeSegmenter(input_size=SIDE)
    tiled = TiledSegmenter(fake, 128)
    [found] = tiled.segment([image])
    assert found.letterbox == Letterbox(100, 128, SIDE)
    assert fake.batch_sizes == [1]
    assert dict(tiled.description) == {**fake.description, "tile_px": 128}


@settings(max_examples=25, deadline=None)
@given(height=st.integers(20, 400), width=st.integers(300, 700), seed=st.integers(0, 2**32 - 1))
def test_features_are_pooled_as_of_one_map(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    fake = FakeSegmenter(input_size=SIDE)
    [found] = TiledSegmenter(fake, 128).segment([image])
    letterbox = found.letterbox
    assert letterbox.input_size > SIDE
    # Whoever sees the scaled image at once has the map that the tiles are parts of.
    scaled = letterbox.apply(image)
    [stitched] = FakeSegmenter(input_size=letterbox.input_size).segment([scaled])
    assert stitched.letterbox.grid_size == letterbox.grid_size
    masks = rng.random((5, *letterbox.grid_size)) < np.array([0, 0.01, 0.2, 0.9, 1])[:, None, None]
    masks &= letterbox.coverage > 0
    pooled = found.features.pool(masks)
    np.testing.assert_allclose(pooled, stitched.features.pool(masks), rtol=1e-4, atol=1e-4)
    assert (pooled[0] == 0).all()
    assert found.features.pool(masks[:0]).shape == (0, fake.feature_dimension)


@pytest.mark.parametrize(("height", "width", "side"), [(2400, 3000, 640), (2, 60000, SIDE), (60000, 2, SIDE)])
def test_masks_of_huge_images_stay_bounded(height: int, width: int, side: int) -> None:
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[: height // 2, : width // 2] = PALETTE["red"]
    [found] = TiledSegmenter(FakeSegmenter(input_size=side), side // 2).segment([image])
    assert found.letterbox.input_size > side
    assert np.prod(found.letterbox.grid_size) < 1.2 * MOST_CELLS
    assert len(found.scores) == 1


def test_masks_of_another_grid_of_the_same_image() -> None:
    coarse, fine = Letterbox(300, 1000, 64), Letterbox(300, 1000, 512)
    mask = coarse.box_mask((400, 50, 800, 250))[None]
    moved = fine.regrid(mask, coarse)
    assert moved.shape == (1, *fine.grid_size)
    there, before = fine.image_masks(moved), coarse.image_masks(mask)
    assert (there & before).sum() / (there | before).sum() > 0.97
    assert not (moved & (fine.coverage == 0)).any()
    assert fine.grid_size[0] * GRID_STRIDE == fine.input_shape[0]


def test_regions_of_a_new_index_with_tiles_come_from_all_size_classes() -> None:
    asked = Settings(_env_file=None)
    asked.ingest.tiles = 640
    assert (policy_of(asked, None).name, policy_of(asked, None).count) == ("stratified", 100)
    asked.ingest.regions, asked.ingest.region_policy = 7, "largest"
    assert (policy_of(asked, None).name, policy_of(asked, None).count) == ("largest", 7)


def test_regions_of_an_index_beside_the_live_one_are_its_own_but_for_what_is_asked() -> None:
    """Tiles that are new to it bring their own policy; else what no setting names stays."""

    def beside(tile_px: int | None, **asked: object) -> tuple[str, int, int | None]:
        details = {"regions": RegionPolicy("largest", 40).description, "segmenter": {"tile_px": tile_px}}
        policy, side = regions_beside(
            Settings(_env_file=None, ingest=asked),  # type: ignore[arg-type]
            SimpleNamespace(details=details),  # type: ignore[arg-type]
        )
        return policy.name, policy.count, side

    assert beside(None) == ("largest", 40, None)
    assert beside(None, regions=7) == ("largest", 7, None)
    assert beside(None, tiles=640) == ("stratified", 100, 640)
    assert beside(None, tiles=640, regions=7) == ("stratified", 7, 640)
    assert beside(512) == ("largest", 40, 512)
    assert beside(512, tiles=640, region_policy="stratified") == ("stratified", 40, 640)


@pytest.fixture
def wall(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """Six scenes side by side in one image, and their objects' boxes in it (N, 4)."""
    scenes = [scene for _, scene in generate_demo_scenes(6, seed=11)]
    height, width = (min(side) for side in zip(*(scene.image.shape[:2] for scene in scenes), strict=True))
    boxes = []
    for number, scene in enumerate(scenes):
        for one in scene.objects:
            x1, y1, x2, y2 = one.box_xyxy
            if x2 <= width and y2 <= height and one.visible_fraction > 0.9:
                boxes.append((x1 + number * width, y1, x2 + number * width, y2))
    Image.fromarray(np.hstack([scene.image[:height, :width] for scene in scenes])).save(tmp_path / "wall.png")
    return tmp_path, np.array(boxes, dtype=np.float32)


def test_an_index_with_tiles_finds_what_a_wide_image_shows(wall: tuple[Path, np.ndarray]) -> None:
    folder, boxes = wall
    found = {}
    for tiles in (None, 512):
        asked = Settings(_env_file=None)
        asked.models.preset, asked.ingest.tiles = "pico", tiles
        asked.milvus.uri = f"memory://{folder.name}-{tiles}"
        with connect(settings=asked) as client:
            client.index(folder)
            [image] = client.images()[0]
            regions = np.array([row.box_xyxy for row in client.regions(image.image)], dtype=np.float32)
            low = np.maximum(regions[:, None, :2], boxes[None, :, :2])
            high = np.minimum(regions[:, None, 2:], boxes[None, :, 2:])
            shared = np.clip(high - low, 0, None).prod(axis=2)
            union = (regions[:, 2:] - regions[:, :2]).prod(axis=1)[:, None] - shared
            union += (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
            found[tiles] = float(((shared / union).max(axis=0) > 0.5).mean())
            x1, y1, x2, y2 = boxes[0]
            [hit] = client.query(folder / "wall.png", (float(x1 + x2) / 2, float(y1 + y2) / 2), limit=1)
            assert hit.distance_bits == 0 or tiles is None  # what asks is seen in tiles as well
            assert tile_side_of(Settings(_env_file=None), client.manifest) == tiles  # the index says it itself
            asked.ingest.tiles = 300
            with pytest.raises(SettingsError, match=r"leave ingest\.tiles out"):
                tile_side_of(asked, client.manifest)
    assert found[512] > 0.7
    assert found[512] > found[None] + 0.2
