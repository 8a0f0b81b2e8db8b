"""Scenes in which the very same drawings come back: what `searchanything eval instances` is measured on.

    python -m training.instance_scenes --pictograms data/pictograms --photographs data/photographs --out data/instances
    searchanything eval instances --preset pico --images data/instances/shown/images
        --annotations data/instances/shown/annotations.json --instance drawing
        --distractors data/instances/others/images

The instance is the drawing: one concept by one hand, each time of another size, turned, tinted, partly covered and on
another backdrop. The drawings are of zero-shot concepts: never a class of a training, though in the run on a GPU that
gave pico's image tower they were unlabelled occluders of other drawings. The distractors show other drawings, among
them the same concepts by other hands. Backdrops are the photographs held out from the trainings here; what the run on
the GPU took is not recorded.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from training.scenes_dataset import SceneSource, evaluation_source, write_coco

logger = logging.getLogger(__name__)

OBJECTS = (4, 4)  # on each scene
_FIRST_SEED, _FIRST_OTHER = 4_000_000, 5_000_000  # beyond those of all other scenes


def sources(pictograms: Path, photographs: Path, *, drawings: int) -> tuple[SceneSource, SceneSource]:
    """What is asked for, `drawings` drawings of as many zero-shot concepts; and everything else."""
    source = evaluation_source(pictograms, photographs)
    drawn = source.pictograms
    unseen = np.random.default_rng(0).permutation(drawn.rows(zero_shot=True))
    _, firsts = np.unique(drawn.concept_ids[unseen], return_index=True)
    chosen = unseen[np.sort(firsts)][:drawings]
    others = np.setdiff1d(np.arange(len(drawn.images)), chosen)
    return replace(source, rows=chosen, objects=OBJECTS), replace(source, rows=others, objects=OBJECTS)


def main() -> None:
    """Write `shown` and `others`, each with images and annotations."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--pictograms", type=Path, default=Path("data/pictograms"))
    parser.add_argument("--photographs", type=Path, default=Path("data/photographs"))
    parser.add_argument("--drawings", type=int, default=48)
    parser.add_argument("--scenes", type=int, nargs=2, default=(60, 60), help="that show them, and that do not")
    parser.add_argument("--out", type=Path, default=Path("data/instances"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    both = sources(arguments.pictograms, arguments.photographs, drawings=arguments.drawings)
    for name, source, first, count in zip(
        ("shown", "others"), both, (_FIRST_SEED, _FIRST_OTHER), arguments.scenes, strict=True
    ):
        write_coco(source, arguments.out / name, range(first, first + count))
        logger.info("%d scenes in %s", count, arguments.out / name)


if __name__ == "__main__":
    main()
