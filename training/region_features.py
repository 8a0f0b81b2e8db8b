"""Features of regions in generated scenes, through the very segmenter and encoder that the package ships.

    python -m training.region_features --out FEATURES.npz
    python -m training.region_features --crops-of FEATURES.npz --out NEW.npz   (the same regions by another encoder)

Beside the .npz, a .parquet of the same name holds the regions that a hash layer may be fitted to, for
`searchanything hash train`; benchmarks/hashing.py judges methods on the .npz, which has the concepts too.

Two thirds of the scenes are drawn from what training may see, for fitting a hash layer; the others are evaluation
scenes, with zero-shot concepts among them, for judging it. A region counts as an object's when their boxes overlap by
at least a half.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchanything.core.geometry import box_iou
from searchanything.core.protocols import Segmenter
from searchanything.core.settings import ModelSettings
from searchanything.core.types import FloatArray, RGBImage
from searchanything.demo.scenes import DEMO_RECIPE, Scene
from searchanything.features.parquet import FeatureBatch, feature_schema, record_batch
from searchanything.images.crops import region_crops
from searchanything.models.presets import load_encoder, load_segmenter
from training.pictograms import Pictograms
from training.scenes_dataset import SceneSource, evaluation_source, training_source

logger = logging.getLogger(__name__)

Arrays: TypeAlias = dict[str, NDArray[Any]]

_MIN_IOU = 0.5
_OBJECTS = (3, 8)
_FIRST_SEED = 2_000_000  # beyond those of the segmenter's scenes


@dataclass(frozen=True, slots=True, eq=False)
class SceneFeatures:
    """Regions of one scene that show an object: `mask` (r, C) float32, `crops` (r, S, S, 3) uint8, their concepts."""

    mask: FloatArray
    crops: RGBImage
    concepts: tuple[str, ...]


def scene_features(scene: Scene, segmenter: Segmenter, *, crop_size_px: int) -> SceneFeatures:
    """Segment a scene as an image is indexed, and keep the best region of each object that was found."""
    (segmentation,) = segmenter.segment([scene.image])
    wanted = np.array([item.box_xyxy for item in scene.objects], np.float32).reshape(-1, 4)
    overlap = box_iou(segmentation.boxes_xyxy, wanted)
    best = overlap.max(0, initial=0.0)
    found = [(int(overlap[:, i].argmax()), int(i)) for i in np.flatnonzero(best >= _MIN_IOU)]
    rows = [row for row, _ in found]
    masks, boxes = segmentation.masks[rows], segmentation.boxes_xyxy[rows]
    crops = region_crops(scene.image, segmentation.letterbox, masks, boxes, size_px=crop_size_px)
    names = tuple(scene.objects[i].concept for _, i in found)
    return SceneFeatures(segmentation.features.pool(masks), crops, names)


def features_of(
    source: SceneSource, seeds: Sequence[int], segmenter: Segmenter, *, crop_size_px: int
) -> Iterator[SceneFeatures]:
    """Features of one scene a seed."""
    for number, seed in enumerate(seeds):
        yield scene_features(source.scene(seed), segmenter, crop_size_px=crop_size_px)
        if number % 50 == 0:
            logger.info("%d of %d scenes", number, len(seeds))


def arrays_of(found: Sequence[SceneFeatures], *, pictograms: Pictograms, fitting: Sequence[bool]) -> Arrays:
    """The regions of all scenes in one row each; `fitting` says which scenes a layer may be fitted to."""
    number = {name: i for i, name in enumerate(pictograms.names)}
    concepts = np.array([number[name] for scene in found for name in scene.concepts], np.int64)
    counts = [len(scene.concepts) for scene in found]
    return {
        "mask": np.concatenate([scene.mask for scene in found]),
        "crops": np.concatenate([scene.crops for scene in found]),
        "concepts": concepts,
        "images": np.repeat(np.arange(len(found)), counts),
        "zero_shot": pictograms.is_zero_shot[concepts],
        "fitting": np.repeat(np.array(fitting), counts),
    }


def segmented(arguments: argparse.Namespace, *, crop_size_px: int) -> Arrays:
    """Draw and segment the scenes of the command line."""
    segmenter = load_segmenter(arguments.preset, ModelSettings(threads=arguments.threads))
    training = training_source(arguments.pictograms, arguments.photographs, recipe=DEMO_RECIPE, objects=_OBJECTS)
    evaluation = evaluation_source(arguments.pictograms, arguments.photographs)
    for_fitting = arguments.scenes * 2 // 3
    seeds = range(_FIRST_SEED, _FIRST_SEED + arguments.scenes)
    found = [*features_of(training, seeds[:for_fitting], segmenter, crop_size_px=crop_size_px)]
    found += features_of(evaluation, seeds[for_fitting:], segmenter, crop_size_px=crop_size_px)
    fitting = [number < for_fitting for number in range(arguments.scenes)]
    return arrays_of(found, pictograms=training.pictograms, fitting=fitting)


def write_parquet(path: Path, arrays: Arrays) -> None:
    """The regions to fit to, for `searchanything hash train`. They are of no index, and have no fingerprint."""
    from pyarrow import parquet

    rows = np.flatnonzero(arrays["fitting"])
    features = FeatureBatch(arrays["mask"][rows], arrays["image"][rows])
    schema = feature_schema(features.mask.shape[1], features.image.shape[1], fingerprint=None)
    with parquet.ParquetWriter(path, schema) as writer:
        writer.write_batch(record_batch(schema, [str(row) for row in rows], features))


def main() -> None:
    """Draw scenes, segment and embed them, and keep the features of their objects."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--pictograms", type=Path, default=Path("data/pictograms"))
    parser.add_argument("--photographs", type=Path, default=Path("data/photographs"))
    parser.add_argument("--preset", default="pico")
    parser.add_argument("--scenes", type=int, default=900)
    parser.add_argument("--crops-of", type=Path, help="features whose regions are only to be embedded again")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    encoder = load_encoder(arguments.preset, ModelSettings(threads=arguments.threads))
    if arguments.crops_of:
        with np.load(arguments.crops_of, allow_pickle=False) as stored:
            arrays: Arrays = dict(stored)
    else:
        arrays = segmented(arguments, crop_size_px=encoder.crop_size_px)
    arrays["image"] = encoder.embed_crops(arrays["crops"])
    np.savez(arguments.out, allow_pickle=False, **arrays)
    write_parquet(arguments.out.with_suffix(".parquet"), arrays)
    logger.info("%d regions in %s", len(arrays["concepts"]), arguments.out)


if __name__ == "__main__":
    main()
