"""How well `text_match` tells things that are in an image from things that are not.

python benchmarks/text_presence.py [--preset pico] [--scenes 60] [--seed 77] [--json FILE]

Every concept of the demo's pictograms is asked of every generated scene. Present: some region covers an object of that
name with mask IoU of at least 0.5. Absent: no object of that name was pasted. (Present but not found by the segmenter:
left out.) Printed: the area under the ROC curve of the share of better words, of the bare cosine and of the cosine's
margin over the image's other regions; and how often each confidence is given.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks import measuring
from searchanything import wiring
from searchanything.core.protocols import Segmentation
from searchanything.core.settings import load_settings
from searchanything.demo.scenes import Scene, generate_demo_scenes, load_demo_assets
from searchanything.encode.encoder import Encoder, RegionJob
from searchanything.prompts.text_confidence import TextConfidence

MIN_IOU = 0.5
LEVELS = ("clear", "unsure", "weak")


@dataclass(frozen=True, slots=True)
class Asked:
    """One text asked of one scene, and what can be said of its best region; `better` is a share of the words."""

    present: bool
    zero_shot: bool
    better: float
    cosine: float
    margin: float
    confidence: str


def concepts_in(scene: Scene, segmentation: Segmentation) -> dict[str, bool]:
    """The concepts of a scene, and whether some region covers an object of that name."""
    flat = segmentation.masks.reshape(len(segmentation.masks), -1)
    found: dict[str, bool] = {}
    for one in scene.objects:
        mask = segmentation.letterbox.grid_mask(one.mask).ravel()
        ious = (flat & mask).sum(axis=1) / np.maximum((flat | mask).sum(axis=1), 1)
        found[one.concept] = found.get(one.concept, False) or bool((ious >= MIN_IOU).any())
    return found


def questions(encoder: Encoder, scenes: Sequence[Scene]) -> Iterator[Asked]:
    """Every concept asked of every scene."""
    assets = load_demo_assets()
    concepts = sorted({cutout.concept for cutout in assets.cutouts})
    texts = encoder.embedder.embed_texts([concept.replace("-", " ") for concept in concepts])
    judge = TextConfidence(encoder.embedder)
    for scene in scenes:
        segmentation = encoder.segmenter.segment([scene.image])[0]
        if not len(segmentation.scores):
            continue
        job = RegionJob.of_rows(scene.image, segmentation, np.arange(len(segmentation.scores)))
        regions = encoder.embed_regions([job])
        present = concepts_in(scene, segmentation)
        for concept, cosines in zip(concepts, (regions @ texts.T).T, strict=True):
            if present.get(concept) is False:
                continue
            best = int(cosines.argmax())
            match = judge.judge(cosines[[best]], regions[[best]])
            yield Asked(
                present=concept in present,
                zero_shot=concept in assets.zero_shot,
                better=match.better / match.words,
                cosine=match.cosine,
                margin=match.cosine - float(cosines.mean()),
                confidence=match.confidence,
            )


def area_under_roc(present: Sequence[float], absent: Sequence[float]) -> float:
    """The chance that a present thing's figure is above an absent one's; ties count half."""
    above = np.subtract.outer(np.array(present), np.array(absent))
    return float((above > 0).mean() + (above == 0).mean() / 2)


def figures_of(asked: Sequence[Asked]) -> dict[str, object]:
    """Counts, areas, and the rates of each confidence."""
    present, absent = ([one for one in asked if one.present is wanted] for wanted in (True, False))
    areas = {
        "better words": area_under_roc([-one.better for one in present], [-one.better for one in absent]),
        "cosine": area_under_roc([one.cosine for one in present], [one.cosine for one in absent]),
        "margin over regions": area_under_roc([one.margin for one in present], [one.margin for one in absent]),
    }
    rates = {
        level: [round(float(np.mean([one.confidence == level for one in group])), 3) for group in (present, absent)]
        for level in LEVELS
    }
    return {
        "present": len(present),
        "absent": len(absent),
        "area_under_roc": {name: round(area, 3) for name, area in areas.items()},
        "rate_present_absent": rates,
    }


def main() -> None:
    """Print a table; write JSON where asked."""
    options = measuring.parser_for_scenes(__doc__).parse_args()
    settings = load_settings()
    encoder = wiring.load_encoder(options.preset, wiring.hash_layer_of(options.preset, None, settings), settings)
    asked = list(questions(encoder, [scene for _, scene in generate_demo_scenes(options.scenes, seed=options.seed)]))
    parts = {
        "all": asked,
        "seen": [one for one in asked if not one.zero_shot],
        "zero-shot": [one for one in asked if one.zero_shot],
    }
    report = {name: figures_of(part) for name, part in parts.items()}
    print(json.dumps(report, indent=1))
    measuring.write(report, options.json)


if __name__ == "__main__":
    main()
