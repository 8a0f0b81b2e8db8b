"""Judge the pico encoder on fresh crops: retrieval between images, and texts against regions.

    python -m training.encoder_metrics --encoder FOLDER

Crops are masked as a segmenter masks; a crop's companions of the same concept are other drawings of it. Seen concepts
flatter the encoder here, since their drawings were trained on; zero-shot concepts were not.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from training.crops_dataset import Backgrounds, CropMaker, CropRecipe, Drawings
from training.encoder_material import drawings_at
from training.encoder_model import load_folder, load_tokenizer, normalise
from training.pictograms import Pictograms, load_pictograms, plain_name
from training.retrieval_metrics import mean_average_precision, right_of_choices

logger = logging.getLogger(__name__)

Array = NDArray[np.float32]
JUDGING = CropRecipe(views=(("masked", 1.0),), strength=0.3)
_CONCEPTS = 120


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Embeddings of crops: `vectors` (n, d) float32 unit rows; `concepts`, `styles` (n,) int64."""

    vectors: Array
    concepts: NDArray[np.int64]
    styles: NDArray[np.int64]


def some_drawings(pictograms: Pictograms, *, zero_shot: bool) -> Drawings:
    """All drawings of 120 concepts of one kind, the same ones every time."""
    rows = pictograms.rows(zero_shot=zero_shot)
    concepts = np.unique(pictograms.concept_ids[rows])
    chosen = np.random.default_rng(7).permutation(concepts)[:_CONCEPTS]
    return drawings_at(pictograms, rows[np.isin(pictograms.concept_ids[rows], chosen)])


@torch.inference_mode()
def embed(tower: nn.Module, drawings: Drawings, backgrounds: Backgrounds, recipe: CropRecipe = JUDGING) -> Embedded:
    """One crop of every drawing, embedded."""
    maker, rng = CropMaker(drawings, backgrounds, recipe), np.random.default_rng(11)
    parts = []
    for start in range(0, len(drawings.icons), 128):
        crops = maker.batch(np.arange(start, min(start + 128, len(drawings.icons))), rng)
        parts.append(functional.normalize(tower(normalise(torch.from_numpy(crops))), dim=1))
    return Embedded(torch.cat(parts).numpy(), drawings.concepts, drawings.styles)


def retrieval_map(embedded: Embedded, *, other_style: bool = False) -> float:
    """mAP@10 by cosine, every crop against all others, or with `other_style` against those of other styles."""
    scores = embedded.vectors @ embedded.vectors.T
    admissible = ~np.eye(len(scores), dtype=bool)
    if other_style:
        admissible &= embedded.styles[:, None] != embedded.styles[None, :]
    relevant = embedded.concepts[:, None] == embedded.concepts[None, :]
    return mean_average_precision(scores, relevant, admissible=admissible)


def text_scores(embedded: Embedded, name_vectors: Array) -> dict[str, float]:
    """How often the right one of 6 regions is found for a name, and the right one of 10 names for a region.

    `name_vectors` (concepts, d) float32 unit rows, in the order of the sorted concepts of `embedded`.
    """
    rng = np.random.default_rng(3)
    concepts = np.unique(embedded.concepts)
    regions, names = [], []
    for _ in range(8):
        rows = [rng.choice(np.flatnonzero(embedded.concepts == concept)) for concept in concepts]
        crops = embedded.vectors[rows]
        regions.append(right_of_choices(name_vectors, crops, choices=6, rounds=2, rng=rng))
        names.append(right_of_choices(crops, name_vectors, choices=10, rounds=2, rng=rng))
    return {"right_of_6_regions": float(np.mean(regions)), "right_of_10_names": float(np.mean(names))}


def judge(encoder: Path, pictograms: Pictograms, backgrounds: Backgrounds) -> dict[str, Any]:
    """All figures of the encoder in a folder, for seen and zero-shot concepts."""
    model = load_folder(encoder)
    tokenizer = load_tokenizer(encoder)
    figures = {}
    for kind in ("seen", "zero_shot"):
        drawings = some_drawings(pictograms, zero_shot=kind == "zero_shot")
        names = [plain_name(pictograms.names[concept]) for concept in np.unique(drawings.concepts)]
        with torch.inference_mode():
            vectors = functional.normalize(model.encode_text(tokenizer(names)), dim=1).numpy()
        embedded = embed(model.visual, drawings, backgrounds)
        found = {
            "crops": len(embedded.vectors),
            "map_at_10": retrieval_map(embedded),
            "map_at_10_other_style": retrieval_map(embedded, other_style=True),
            **text_scores(embedded, vectors),
        }
        figures[kind] = {key: round(value, 4) for key, value in found.items()}
    return figures


def main() -> None:
    """Print the encoder's figures as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--encoder", type=Path, required=True, help="folder with the open_clip files")
    parser.add_argument("--pictograms", type=Path, default=Path("data/pictograms"))
    parser.add_argument("--photographs", type=Path, default=Path("data/photographs"))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    backgrounds = Backgrounds.from_photographs(arguments.photographs, held_out=True)
    figures = judge(arguments.encoder, load_pictograms(arguments.pictograms), backgrounds)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
