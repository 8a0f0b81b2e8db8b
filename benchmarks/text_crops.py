"""Which crops text should be matched against: how often a text prompt picks a region of the named thing.

python benchmarks/text_crops.py [--preset pico] [--scenes 60] [--seed 77] [--json FILE]

Every object of generated scenes is asked for by its name, among all regions of its image. "Right" is a region that
covers an object of that name with mask IoU of at least 0.5; only objects that some region covers are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks import measuring
from searchanything.core.protocols import RegionEncoder, Segmentation
from searchanything.core.settings import ModelSettings
from searchanything.core.types import FloatArray
from searchanything.demo.scenes import Scene, generate_demo_scenes
from searchanything.images.crop_policy import CropPolicy
from searchanything.images.crops import region_crops
from searchanything.models.presets import load_region_encoder, load_segmenter

MIN_IOU = 0.5


def questions(scene: Scene, segmentation: Segmentation) -> Iterator[tuple[str, np.ndarray]]:
    """(concept, (N,) bool which regions are right) for each object that some region covers."""
    grid_masks = [segmentation.letterbox.grid_mask(one.mask) for one in scene.objects]
    flat = segmentation.masks.reshape(len(segmentation.masks), -1)
    covered = []
    for mask in grid_masks:
        overlap = (flat & mask.ravel()).sum(axis=1)
        union = (flat | mask.ravel()).sum(axis=1)
        covered.append(overlap >= MIN_IOU * np.maximum(union, 1))
    for one, own in zip(scene.objects, covered, strict=True):
        if own.any():
            same = [mask for other, mask in zip(scene.objects, covered, strict=True) if other.concept == one.concept]
            yield one.concept, np.any(same, axis=0)


def embeddings(encoder: RegionEncoder, scene: Scene, segmentation: Segmentation) -> dict[str, FloatArray]:
    """(N, D) embeddings of all regions by crop policy, and their mean."""
    found = {
        policy.value: encoder.embed_crops(
            region_crops(
                scene.image,
                segmentation.letterbox,
                segmentation.masks,
                segmentation.boxes_xyxy,
                size_px=encoder.crop_size_px,
                policy=policy,
            )
        )
        for policy in CropPolicy
    }
    return {**found, "mean of all three": np.mean(list(found.values()), axis=0)}


def main() -> None:
    """Print a table; write JSON where asked."""
    options = measuring.parser_for_scenes(__doc__).parse_args()
    settings = ModelSettings()
    segmenter, encoder = load_segmenter(options.preset, settings), load_region_encoder(options.preset, settings)
    right: dict[str, list[bool]] = {}
    for _, scene in generate_demo_scenes(options.scenes, seed=options.seed):
        segmentation = segmenter.segment([scene.image])[0]
        asked = list(questions(scene, segmentation))
        if not asked:
            continue
        texts = encoder.embed_texts([concept.replace("-", " ") for concept, _ in asked])
        for policy, embedded in embeddings(encoder, scene, segmentation).items():
            chosen = (embedded @ texts.T).argmax(axis=0)
            outcomes = [bool(of_concept[row]) for (_, of_concept), row in zip(asked, chosen, strict=True)]
            right.setdefault(policy, []).extend(outcomes)
    shares = {policy: round(float(np.mean(outcomes)), 4) for policy, outcomes in right.items()}
    count = len(next(iter(right.values()), []))
    print(f"{'crops':20} right of {count} texts")
    for policy, share in shares.items():
        print(f"{policy:20} {share:.3f}")
    measuring.write({"n": count, "right": shares}, options.json)


if __name__ == "__main__":
    main()
