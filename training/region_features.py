"""Features of regions in generated scenes, through the very segmenter and encoder that the package ships.

    python -m training.region_features --street data/street --grocery data/grocery --out FEATURES.npz
    python -m training.region_features --crops-of FEATURES.npz --out NEW.npz   (the same regions by another encoder)

Beside the .npz, a .parquet of the same name holds what a hash layer may be fitted to, for `searchanything hash train
--class-column class`: the regions of scenes of what training may see, and of photographs where they are given, each
with the whole image, as an index has them. Its column `class` names the thing that a region shows: the concept of a
scene's object, the garment on a street photograph, the grocery of a whole photograph.

The .npz has the objects of evaluation scenes, zero-shot concepts among them, and their names: benchmarks/hashing.py
judges methods by it. A region counts as an object's when their boxes overlap by at least a half.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from searchanything import wiring
from searchanything.core.geometry import box_iou
from searchanything.core.protocols import Segmenter
from searchanything.core.settings import ModelSettings, Settings
from searchanything.core.types import FloatArray, RGBImage
from searchanything.demo.scenes import DEMO_RECIPE, Scene
from searchanything.encode.encoder import Encoder
from searchanything.features.parquet import FeatureBatch, feature_schema, record_batch
from searchanything.images.crop_policy import CropPolicy
from searchanything.images.crops import region_crops
from searchanything.models.presets import find_preset
from training.photograph_classes import PhotographFolders, pixels_of
from training.pictograms import Pictograms
from training.scenes_dataset import SceneSource, evaluation_source, training_source

logger = logging.getLogger(__name__)

Arrays: TypeAlias = dict[str, NDArray[Any]]
_File = TypeVar("_File")

CLASS_COLUMN: Final = "class"

_MIN_IOU = 0.5
_OBJECTS = (3, 8)
_FIRST_SEED, _FITTING_SEED = 2_000_000, 3_000_000  # beyond those of the segmenter's scenes
_STEP = 100  # images between two lines of progress


@dataclass(frozen=True, slots=True, eq=False)
class SceneFeatures:
    """Regions of one scene that show an object: `mask` (r, C) float32, `crops` (r, S, S, 3) uint8, their concepts."""

    mask: FloatArray
    crops: RGBImage
    concepts: tuple[str, ...]


def scene_features(scene: Scene, segmenter: Segmenter, *, crop_size_px: int, policy: CropPolicy) -> SceneFeatures:
    """Segment a scene as an image is indexed, and keep the best region of each object that was found."""
    (segmentation,) = segmenter.segment([scene.image])
    wanted = np.array([item.box_xyxy for item in scene.objects], np.float32).reshape(-1, 4)
    overlap = box_iou(segmentation.boxes_xyxy, wanted)
    best = overlap.max(0, initial=0.0)
    found = [(int(overlap[:, i].argmax()), int(i)) for i in np.flatnonzero(best >= _MIN_IOU)]
    rows = [row for row, _ in found]
    masks, boxes = segmentation.masks[rows], segmentation.boxes_xyxy[rows]
    crops = region_crops(scene.image, segmentation.letterbox, masks, boxes, size_px=crop_size_px, policy=policy)
    names = tuple(scene.objects[i].concept for _, i in found)
    return SceneFeatures(segmentation.features.pool(masks), crops, names)


def features_of(
    source: SceneSource, seeds: Sequence[int], segmenter: Segmenter, *, crop_size_px: int, policy: CropPolicy
) -> Iterator[SceneFeatures]:
    """Features of one scene a seed."""
    for number, seed in enumerate(seeds):
        yield scene_features(source.scene(seed), segmenter, crop_size_px=crop_size_px, policy=policy)
        if number % 50 == 0:
            logger.info("%d of %d scenes", number, len(seeds))


def arrays_of(found: Sequence[SceneFeatures], *, pictograms: Pictograms) -> Arrays:
    """The regions of all scenes in one row each."""
    number = {name: i for i, name in enumerate(pictograms.names)}
    concepts = np.array([number[name] for scene in found for name in scene.concepts], np.int64)
    counts = [len(scene.concepts) for scene in found]
    return {
        "mask": np.concatenate([scene.mask for scene in found]),
        "crops": np.concatenate([scene.crops for scene in found]),
        "concepts": concepts,
        "images": np.repeat(np.arange(len(found)), counts),
        "zero_shot": pictograms.is_zero_shot[concepts],
    }


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """An image to fit to. `boxes_xyxy` (n, 4) of the things that it shows, their `classes`, and that of the `whole`."""

    image: RGBImage
    boxes_xyxy: FloatArray
    classes: Sequence[str]
    whole: str | None = None


def classes_of_rows(example: Example, boxes_xyxy: FloatArray) -> list[str | None]:
    """The class of each indexed region, by the boxes (R, 4), and of the whole image: R + 1.

    The region that overlaps a thing most shows it, if their boxes overlap by at least a half; of two things that chose
    the same region, it shows the one that it overlaps more.
    """
    found: list[str | None] = [None] * len(boxes_xyxy)
    overlap = box_iou(boxes_xyxy, example.boxes_xyxy)
    most = overlap.max(0, initial=0.0)
    rising = np.argsort(most, kind="stable")
    for thing in rising[most[rising] >= _MIN_IOU].tolist():
        found[int(overlap[:, thing].argmax())] = example.classes[thing]
    return [*found, example.whole]


def indexed_features(encoder: Encoder, examples: Iterable[Example]) -> tuple[FeatureBatch, list[str | None]]:
    """Features of what an index keeps of each image, its regions and the whole of it; and the rows' classes."""
    dimensions = encoder.segmenter.feature_dimension, encoder.embedder.dimension
    whole = [FeatureBatch(*(np.zeros((0, dimension), np.float32) for dimension in dimensions))]
    classes: list[str | None] = []
    for number, example in enumerate(examples):
        (one,) = encoder.encode_images([example.image])
        whole.append(one.features)
        classes += classes_of_rows(example, one.boxes_xyxy)
        if number % _STEP == 0:
            logger.info("%d images", number)
    rows = FeatureBatch(np.concatenate([one.mask for one in whole]), np.concatenate([one.image for one in whole]))
    return rows, classes


def fitting_examples(arguments: argparse.Namespace) -> Iterator[Example]:
    """Scenes of what training may see, then up to so many photographs of each folder, none of the judged fifth."""
    source = training_source(arguments.pictograms, arguments.photographs, recipe=DEMO_RECIPE, objects=_OBJECTS)
    for number in range(arguments.fitting_scenes):
        scene = source.scene(_FITTING_SEED + number)
        boxes = np.array([item.box_xyxy for item in scene.objects], np.float32).reshape(-1, 4)
        yield Example(scene.image, boxes, [item.concept for item in scene.objects])
    folders, most = PhotographFolders(arguments.street, arguments.grocery), arguments.photographs_of_each
    for labels in _evenly(folders.street_labels(), most):
        yield Example(pixels_of(labels.with_suffix(".jpg")), *folders.street_things(labels))
    for path, fine in _evenly(folders.grocery_rows(), most):
        yield Example(pixels_of(path), np.zeros((0, 4), np.float32), (), f"grocery {fine}")


def _evenly(files: Sequence[_File], most: int) -> Sequence[_File]:
    """At most so many of a list, evenly drawn."""
    return files[:: max(1, -(-len(files) // most))]


def segmented(arguments: argparse.Namespace, segmenter: Segmenter, *, crop_size_px: int) -> Arrays:
    """Draw and segment the scenes to judge by."""
    policy = find_preset(arguments.preset).crops
    source = evaluation_source(arguments.pictograms, arguments.photographs)
    seeds = range(_FIRST_SEED, _FIRST_SEED + arguments.scenes)
    found = features_of(source, seeds, segmenter, crop_size_px=crop_size_px, policy=policy)
    return arrays_of(list(found), pictograms=source.pictograms)


def write_parquet(path: Path, features: FeatureBatch, classes: Sequence[str | None]) -> None:
    """What to fit to, for `searchanything hash train`. It is of no index, and has no fingerprint."""
    from pyarrow import parquet

    dimensions = features.mask.shape[1], features.image.shape[1]
    schema = feature_schema(*dimensions, class_column=CLASS_COLUMN)
    with parquet.ParquetWriter(path, schema, write_page_checksum=True) as writer:
        writer.write_batch(record_batch(schema, [str(row) for row in range(len(features.mask))], features, classes))


def main() -> None:
    """Draw scenes, segment and embed them, and keep the features of their objects."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--pictograms", type=Path, default=Path("data/pictograms"))
    parser.add_argument("--photographs", type=Path, default=Path("data/photographs"))
    parser.add_argument("--preset", default="pico")
    parser.add_argument("--scenes", type=int, default=500, help="evaluation scenes, to judge by")
    parser.add_argument("--fitting-scenes", type=int, default=1500)
    parser.add_argument("--street", type=Path, help="street photographs, see training.street_annotations")
    parser.add_argument("--grocery", type=Path, help="grocery photographs, see training.whole_images")
    parser.add_argument("--photographs-of-each", type=int, default=400, help="most of either, evenly drawn")
    parser.add_argument("--crops-of", type=Path, help="features whose regions are only to be embedded again")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = Settings(models=ModelSettings(threads=arguments.threads))
    encoder = wiring.load_encoder(
        arguments.preset, wiring.hash_layer_of(arguments.preset, "untrained", settings), settings
    )
    if arguments.crops_of:
        with np.load(arguments.crops_of, allow_pickle=False) as stored:
            arrays: Arrays = dict(stored)
    else:
        arrays = segmented(arguments, encoder.segmenter, crop_size_px=encoder.embedder.crop_size_px)
    arrays["image"] = encoder.embedder.embed_crops(arrays["crops"])
    np.savez(arguments.out, allow_pickle=False, **arrays)
    if not arguments.crops_of:
        fitting, classes = indexed_features(encoder, fitting_examples(arguments))
        write_parquet(arguments.out.with_suffix(".parquet"), fitting, classes)
        known = [one for one in classes if one is not None]
        logger.info("%d rows to fit to, %d of %d classes", len(classes), len(known), len(set(known)))
    logger.info("%d regions to judge by", len(arrays["concepts"]))


if __name__ == "__main__":
    main()
