"""What counts as found, on a scene where the regions are known."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from searchanything.core.geometry import Letterbox
from searchanything.core.protocols import Segmentation
from searchanything.core.types import BoolMask, BoolMasks, FloatArray, RGBImage
from searchanything.demo.scenes import SceneRecipe
from training.pictograms import Pictograms
from training.scenes_dataset import SceneSource, write_coco
from training.segmenter_figures import figures_of, measure

SMALL_SCENES = SceneRecipe(
    longest_side_px=(192, 192), aspect=(1.0, 1.0), object_px=(40, 60), occluded=0.0, degraded=0.0
)


class NoFeatures:
    def pool(self, masks: BoolMasks) -> FloatArray:
        return np.zeros((len(masks), 1), dtype=np.float32)


class ColourSegmenter:
    """Finds what is not grey, as one region per primary colour, and one region of ground per image if told to."""

    feature_dimension = 1
    description: Mapping[str, str | int | float] = {}

    def __init__(self, *, halves: bool = False, ground: bool = False) -> None:
        self.halves, self.ground = halves, ground

    def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        return [self._one(image) for image in images]

    def _one(self, image: RGBImage) -> Segmentation:
        letterbox = Letterbox(image.shape[0], image.shape[1], 768)  # one mask cell per pixel: 192 * 4
        lit = (image > 128) & (image < 255)
        channels = np.moveaxis(lit & (image == image.max(axis=2, keepdims=True)), 2, 0)
        masks = [mask for mask in channels if mask.sum() > 50]
        if self.halves:
            masks = [_upper_third(mask) for mask in masks]
        if self.ground:
            masks.append(~lit.any(axis=2))
        count = len(masks)
        return Segmentation(
            letterbox=letterbox,
            boxes_xyxy=np.zeros((count, 4), dtype=np.float32),
            scores=np.ones(count, dtype=np.float32),
            masks=np.array(masks, dtype=np.bool_).reshape(count, *letterbox.grid_size),
            features=NoFeatures(),
        )


def _upper_third(mask: BoolMask) -> BoolMask:
    rows = np.flatnonzero(mask.any(axis=1))
    kept = mask.copy()
    kept[rows[0] + len(rows) // 3 :] = False
    return kept


def scenes(folder: Path) -> Path:
    """Three scenes of two coloured squares on black, in COCO form."""
    drawings = np.zeros((2, 160, 160, 4), dtype=np.uint8)
    drawings[0, 20:140, 20:140] = (220, 0, 0, 255)
    drawings[1, 20:140, 20:140] = (0, 220, 0, 255)
    pictograms = Pictograms(
        images=drawings,
        concept_ids=np.array([0, 1]),
        style_ids=np.array([0, 0]),
        names=("dog", "banana"),
        families=("dog", "banana"),
        is_zero_shot=np.array([False, True]),
        styles=("noto",),
    )
    black = np.zeros((200, 200, 3), dtype=np.uint8)
    source = SceneSource(pictograms, np.array([0, 1]), [black], SMALL_SCENES, (2, 2))
    seeds = list(itertools.islice((seed for seed in itertools.count() if _plain(source, seed)), 3))
    write_coco(source, folder, seeds)
    return folder


def _plain(source: SceneSource, seed: int) -> bool:
    scene = source.scene(seed)
    whole = [item for item in scene.objects if item.visible_fraction > 0.95]
    return len(whole) == 2 and not scene.image[0, 0].any()


def test_a_perfect_segmenter_finds_everything(tmp_path: Path) -> None:
    figures = figures_of(measure(ColourSegmenter(), scenes(tmp_path)))
    assert figures["images"] == 3
    assert figures["recall_at_iou_0.5"]["all"] == 1.0
    assert figures["recall_at_iou_0.5"]["zero-shot concepts"] == 1.0
    assert figures["objects"]["seen concepts"] == figures["objects"]["zero-shot concepts"] == 3
    assert figures["mean_iou_of_found"] > 0.9
    assert figures["background_regions_per_image"] == 0.0


def test_a_third_of_an_object_is_not_the_object(tmp_path: Path) -> None:
    figures = figures_of(measure(ColourSegmenter(halves=True), scenes(tmp_path)))
    assert figures["recall_at_iou_0.5"]["all"] == 0.0
    assert figures["mean_iou_of_found"] == 0.0
    assert figures["background_regions_per_image"] == 0.0  # it lies on the object, though


def test_a_region_of_ground_is_a_false_alarm(tmp_path: Path) -> None:
    figures = figures_of(measure(ColourSegmenter(ground=True), scenes(tmp_path)))
    assert figures["recall_at_iou_0.5"]["all"] == 1.0
    assert figures["background_regions_per_image"] == 1.0
    assert figures["regions_per_image"] == 3.0
