"""Regions of generated scenes as an index keeps them, with what they show: for calibrating, refining and combining.

python -m benchmarks.scene_regions --pictograms DIR --photographs DIR --out REGIONS.npz [--scenes 900] [--concepts 60]

Evaluation scenes, on backdrops held out from the trainings here; whether the run on a GPU that gave pico's segmenter
and image tower saw them is not recorded. The image tower saw zero-shot drawings unlabelled, as occluders of others. The
first half draws from `--concepts` concepts (half of them
zero-shot), so that each is on many scenes; the other half from all concepts. Every kept region is a row, background
too. A region shows an object where their boxes overlap by at least a half; its concept is -1 where it shows none, and
-2 where it overlaps an object by less, so that it can be called neither.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchanything import wiring
from searchanything.core.codes import joined_features
from searchanything.core.geometry import box_iou
from searchanything.core.settings import Settings
from searchanything.demo.scenes import Scene
from searchanything.encode.encoder import EncodedImage, Encoder
from training.pictograms import Pictograms
from training.scenes_dataset import SceneSource, evaluation_source

Arrays: TypeAlias = dict[str, NDArray[Any]]
BACKGROUND, UNCLEAR = -1, -2
_FIRST_SEED = 4_000_000
_BATCH = 8


def concepts_of(scene: Scene, encoded: EncodedImage, numbers: dict[str, int]) -> NDArray[np.int64]:
    """What each region shows, (R,)."""
    boxes = np.array([item.box_xyxy for item in scene.objects], np.float32).reshape(-1, 4)
    overlap = box_iou(encoded.boxes_xyxy, boxes)
    best = overlap.max(1, initial=0.0)
    names = np.array([numbers[item.concept] for item in scene.objects])
    return np.where(best >= 0.5, names[overlap.argmax(1)], np.where(best > 0.1, UNCLEAR, BACKGROUND))


def few_concepts(source: SceneSource, count: int) -> SceneSource:
    """The source with drawings of so many concepts alone, half of them zero-shot."""
    drawn: Pictograms = source.pictograms
    present = np.unique(drawn.concept_ids[source.rows])
    rng = np.random.default_rng(3)
    chosen = np.concatenate(
        [
            rng.choice(present[drawn.is_zero_shot[present] == unseen], count // 2, replace=False)
            for unseen in (False, True)
        ]
    )
    return replace(source, rows=np.flatnonzero(np.isin(drawn.concept_ids, chosen)))


def encoded_scenes(sources: list[SceneSource], encoder: Encoder, scenes: int) -> Iterator[tuple[Scene, EncodedImage]]:
    """Scenes of the sources in equal parts."""
    for number in range(0, scenes, _BATCH):
        source = sources[number * len(sources) // scenes]
        seeds = range(_FIRST_SEED + number, _FIRST_SEED + min(scenes, number + _BATCH))
        drawn = [source.scene(seed) for seed in seeds]
        yield from zip(drawn, encoder.encode_images([scene.image for scene in drawn]), strict=True)
        if number % 80 == 0:
            print(f"{number} of {scenes} scenes", flush=True)


def main() -> None:
    """Draw, encode, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictograms", type=Path, required=True)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=900)
    parser.add_argument("--concepts", type=int, default=60)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    settings = Settings()
    encoder = wiring.load_encoder("pico", wiring.hash_layer_of("pico", None, settings), settings)
    everything = evaluation_source(arguments.pictograms, arguments.photographs)
    numbers = {name: number for number, name in enumerate(everything.pictograms.names)}
    found: list[tuple[NDArray[np.int64], EncodedImage]] = []
    sources = [few_concepts(everything, arguments.concepts), everything]
    for scene, encoded in encoded_scenes(sources, encoder, arguments.scenes):
        found.append((concepts_of(scene, encoded, numbers), encoded))
    counts = [len(one.codes) for _, one in found]
    concepts = np.concatenate([names for names, _ in found])
    arrays: Arrays = {
        "codes": np.concatenate([one.codes for _, one in found]),
        "features": np.concatenate(
            [joined_features(one.features.mask, one.features.image)[: len(one.codes)] for _, one in found]
        ),
        "boxes": np.concatenate([one.boxes_xyxy for _, one in found]),
        "concepts": concepts,
        "names": np.array([name.replace("-", " ") for name in everything.pictograms.names]),
        "images": np.repeat(np.arange(len(found)), counts),
        "zero_shot": everything.pictograms.is_zero_shot[np.maximum(concepts, 0)] & (concepts >= 0),
    }
    np.savez(arguments.out, allow_pickle=False, **arrays)
    print(f"{len(concepts)} regions of {len(found)} scenes, {int((concepts >= 0).sum())} of objects")


if __name__ == "__main__":
    main()
