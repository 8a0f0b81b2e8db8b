"""Scenes: what was pasted where, told by the pixels themselves."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from searchanything.core.types import RGBImage
from searchanything.demo.scenes import (
    DEMO_RECIPE,
    Cutout,
    DemoAssets,
    Scene,
    SceneRecipe,
    compose_scene,
    generate_demo_scenes,
    load_demo_assets,
)
from training.scenes_dataset import polygon_of

CLEAN = SceneRecipe(longest_side_px=(200, 300), object_px=(16, 90), degraded=0.0, tint=0.0)
BLACK: RGBImage = np.zeros((300, 400, 3), dtype=np.uint8)


def square(channel: int, *, name: str = "") -> Cutout:
    """An opaque square of one primary colour."""
    image = np.zeros((40, 40, 4), dtype=np.uint8)
    image[..., (channel, 3)] = 255
    return Cutout(image, name or "rgb"[channel], "flat")


PRIMARIES = [square(channel) for channel in (0, 1, 2)]


def scenes(recipe: SceneRecipe = CLEAN, count: int = 12) -> list[Scene]:
    return [compose_scene(PRIMARIES * 2, BLACK, seed=seed, recipe=recipe) for seed in range(count)]


def test_a_seed_gives_the_same_scene_and_another_seed_another() -> None:
    degraded = SceneRecipe(longest_side_px=(200, 300), tint=0.5, degraded=0.9)
    for seed in range(4):
        first, again, other = (compose_scene(PRIMARIES, BLACK, seed=s, recipe=degraded) for s in (seed, seed, seed + 1))
        assert np.array_equal(first.image, again.image)
        assert [o.box_xyxy for o in first.objects] == [o.box_xyxy for o in again.objects]
        assert first.image.shape != other.image.shape or not np.array_equal(first.image, other.image)


def test_masks_are_where_the_colours_are() -> None:
    # The ground is black: every lit pixel belongs to an object. An object's gain is 0.85 to 1.1, the shadow of one
    # before it takes half of its light at most, and alpha from 0.5 on counts as object: so 0.42 inside, 0.55 outside.
    for scene in scenes():
        light = scene.image.astype(np.float64) / 255
        covered = np.zeros(light.shape[:2], dtype=bool)
        for item in scene.objects:
            inside = cv2.erode(item.mask.astype(np.uint8), np.ones((3, 3), dtype=np.uint8)) > 0  # edges are mixtures
            assert light[..., "rgb".index(item.concept)][inside].min() >= 0.42
            covered |= item.mask
        assert light[~covered].max() <= 0.56


def test_masks_are_disjoint_and_boxes_are_tight() -> None:
    for scene in scenes():
        assert len(scene.objects) >= 3
        assert np.sum([item.mask for item in scene.objects], axis=0).max() == 1
        for item in scene.objects:
            ys, xs = np.nonzero(item.mask)
            assert item.box_xyxy == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            assert item.area_px == len(ys)


def test_objects_keep_their_visible_part_and_their_size() -> None:
    recipe = SceneRecipe(longest_side_px=(300, 300), object_px=(16, 90), occluded=1.0, visible=0.7, degraded=0.0)
    fractions = []
    for scene in scenes(recipe, count=25):
        for item in scene.objects:
            fractions.append(item.visible_fraction)
            side_px = np.sqrt(item.area_px / item.visible_fraction)  # of the whole square, however it was turned
            assert 15 <= side_px <= 91.5
    assert min(fractions) >= 0.7
    assert min(fractions) < 1.0  # some were hidden in part
    assert max(fractions) == 1.0


def test_no_object_is_longer_than_its_part_of_the_shortest_side() -> None:
    recipe = SceneRecipe(longest_side_px=(300, 300), aspect=(3.0, 3.0), object_px=(20, 500), largest_fraction=0.5)
    for scene in scenes(recipe):
        for item in scene.objects:
            assert np.sqrt(item.area_px / item.visible_fraction) <= 51.5


def test_image_sizes_vary_within_the_recipe() -> None:
    shapes = [scene.image.shape[:2] for scene in scenes(count=30)]
    assert all(200 <= max(shape) <= 300 for shape in shapes)
    assert all(1.0 <= max(shape) / min(shape) <= 1.61 for shape in shapes)
    assert len(set(shapes)) > 20
    assert {shape[0] < shape[1] for shape in shapes} == {True, False}


def test_degradation_changes_pixels_and_leaves_masks_alone() -> None:
    clean = compose_scene(PRIMARIES, BLACK, seed=3, recipe=CLEAN)
    poor = SceneRecipe(longest_side_px=(200, 300), object_px=(16, 90), degraded=1.0, tint=0.0)
    worn = compose_scene(PRIMARIES, BLACK, seed=3, recipe=poor)
    assert not np.array_equal(clean.image, worn.image)
    assert [item.box_xyxy for item in clean.objects] == [item.box_xyxy for item in worn.objects]


def test_a_crop_of_the_backdrop_shows_through() -> None:
    ramp = np.repeat(np.linspace(0, 255, 400, dtype=np.uint8)[None, :, None], 300, axis=0).repeat(3, axis=2)
    scene = compose_scene([], ramp, seed=1, recipe=CLEAN)
    steps = np.diff(scene.image[:, :, 0].astype(int), axis=1)
    assert scene.objects == ()
    assert (steps >= 0).all() or (steps <= 0).all()  # mirrored or not, and nowhere shuffled
    assert np.ptp(scene.image) > 60


def test_inputs_are_left_alone() -> None:
    cutouts, backdrop = [square(0), square(1)], np.full((90, 120, 3), 77, dtype=np.uint8)
    before = [cutout.image.copy() for cutout in cutouts]
    compose_scene(cutouts, backdrop, seed=0, recipe=CLEAN)
    assert (backdrop == 77).all()
    assert all(np.array_equal(cutout.image, image) for cutout, image in zip(cutouts, before, strict=True))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 4), dtype=np.uint8),
        np.ones((8, 8, 3), dtype=np.uint8),
        np.ones((8, 8, 4), dtype=np.float32),
    ],
    ids=["transparent", "no alpha", "floats"],
)
def test_an_unusable_cutout_is_refused(image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="cutout"):
        Cutout(image, "dog", "flat")


def test_demo_scenes_deal_every_concept_again_and_again() -> None:
    names = [f"concept-{number}" for number in range(10)]
    assets = DemoAssets(tuple(square(n % 3, name=name) for n, name in enumerate(names)), frozenset(), (BLACK,))
    longer = dict(generate_demo_scenes(20, seed=4, assets=assets))
    shorter = dict(generate_demo_scenes(3, seed=4, assets=assets))
    assert list(longer)[:3] == list(shorter) == ["scene-0000.jpg", "scene-0001.jpg", "scene-0002.jpg"]
    assert all(np.array_equal(longer[name].image, scene.image) for name, scene in shorter.items())
    images_of = {name: sum(name in {o.concept for o in s.objects} for s in longer.values()) for name in names}
    assert min(images_of.values()) >= 6  # 20 scenes of 3 to 8 from 10 concepts: about 11 each
    assert max(images_of.values()) <= 16


def test_the_package_ships_sixty_concepts_in_several_styles() -> None:
    assets = load_demo_assets()
    styles = {name: {c.style for c in assets.cutouts if c.concept == name} for name in assets.concepts}
    assert len(styles) == 60
    assert min(len(found) for found in styles.values()) >= 4
    assert 8 <= len(assets.backdrops) <= 12
    for cutout in assets.cutouts:
        assert max(cutout.image.shape[:2]) <= 160
        assert (cutout.image[..., :3] <= cutout.image[..., 3:]).all()  # premultiplied
    rule = {n for n in assets.concepts if int(hashlib.sha256(n.encode()).hexdigest(), 16) % 5 == 0}
    assert assets.zero_shot == rule
    assert len(rule) == 12


def test_every_asset_is_listed_credited_and_small() -> None:
    folder = files("searchanything.demo") / "assets"
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    listed = {item["file"] for part in manifest.values() for item in part}
    stored = {f"{part}/{entry.name}" for part in ("cutouts", "backdrops") for entry in (folder / part).iterdir()}
    assert listed == stored
    assert sum(len((folder / name).read_bytes()) for name in listed) <= 3_500_000
    text = (folder / "ATTRIBUTION.md").read_text("utf-8")
    assert all(item["author"] in text and item["file"] in text for item in manifest["backdrops"])
    assert all(item["style"] in text and item["licence"] in text for item in manifest["cutouts"])


@pytest.mark.parametrize("seed", range(6))
def test_a_label_polygon_fills_to_the_mask_holes_and_parts_included(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((120, 160), dtype=np.uint8)
    for x, y in rng.integers(30, 90, (3, 2)):
        cv2.circle(mask, (int(x), int(y)), 24, 1, -1)
    cv2.circle(mask, (60, 60), 11, 0, -1)  # a hole
    cv2.circle(mask, (140, 20), 12, 1, -1)  # a part of its own
    filled = np.zeros_like(mask)
    cv2.fillPoly(filled, [polygon_of(mask.astype(bool)).astype(np.int32)], 1)
    both, either = (filled & mask).sum(), (filled | mask).sum()
    assert both / either > 0.97


def test_the_demo_recipe_shows_small_and_large_objects() -> None:
    assert DEMO_RECIPE.object_px[0] <= 32
    assert DEMO_RECIPE.object_px[1] >= 256
