"""What pico (or another preset) gains by the segmenter's thresholds, by crop policies, and by mirrored crops beside.

python -m benchmarks.levers --images DIR --annotations FILE [--category KEY] [--limit-images N] [--json FILE]
                            [--confidences 0.1 0.2 …] [--ious 0.6 …] [--evidence FILE] [--only WORD …]

Every image is segmented once, at the lowest confidence (suppression goes by falling score, so what a higher one leaves
is a part of it), and once more for each IoU of suppression; every distinct crop is embedded once. `--only` leaves out
the ways whose names hold none of the words. Figures are those of `eval coco`, with 95 % intervals over the
images. `--evidence` keeps what the preset's own way saw, for benchmarks/hash_layers.py.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measuring
from searchanything import wiring
from searchanything.core.codes import unit_rows
from searchanything.core.protocols import Segmentation, Segmenter
from searchanything.core.settings import ModelSettings, Settings
from searchanything.core.types import FloatArray, RGBImage
from searchanything.encode.crop_memory import CropMemory
from searchanything.encode.encoder import Encoder, RegionJob, Stopwatch
from searchanything.encode.wrapped_embedder import WrappedEmbedder
from searchanything.encode.wrapped_segmenter import WrappedSegmenter
from searchanything.evaluation.asking import Vocabulary
from searchanything.evaluation.coco import read_coco
from searchanything.evaluation.evidence import Collector, Evidence
from searchanything.evaluation.observing import Setup, observe
from searchanything.evaluation.reading import Reading, annotated, read_batches
from searchanything.evaluation.running import EvaluationOptions, evaluate
from searchanything.evaluation.truth import Truth
from searchanything.images.crop_policy import CropPolicy
from searchanything.models.compute import prepare_compute
from searchanything.models.fastsam import FastSAMSegmenter
from searchanything.models.presets import find_preset
from searchanything.models.weights import locate

FIGURES = {
    "recall@0.5": ("segmentation", "recall_iou50"),
    "recall@0.75": ("segmentation", "recall_iou75"),
    "regions": ("dataset", "regions"),
    "box": ("prompts", "box"),
    "text": ("prompts", "text"),
    "one of 10 words": ("prompts", "naming"),
    "mAP@10 float": ("retrieval", "float", "map_10"),
    "mAP@10 256 bits": ("retrieval", "bits_256", "map_10"),
}


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Values of the segmenter's confidence and of the IoU of suppression, each to be tried by itself."""

    confidences: Sequence[float]
    ious: Sequence[float]


class SeenOnce(WrappedSegmenter):
    """A segmenter that remembers every image, and gives the regions above a confidence."""

    def __init__(self, segmenter: Segmenter, confidence: float, images: dict[bytes, Segmentation]) -> None:
        super().__init__(segmenter)
        self._confidence, self._images = confidence, images

    def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        keys = [blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() for image in images]
        for key, image in zip(keys, images, strict=True):
            if key not in self._images:
                (self._images[key],) = self.segmenter.segment([image])
        return [_surer(self._images[key], self._confidence) for key in keys]


def _surer(found: Segmentation, confidence: float) -> Segmentation:
    """The regions above a confidence."""
    kept = found.scores > confidence
    boxes, scores, masks = found.boxes_xyxy[kept], found.scores[kept], found.masks[kept]
    return Segmentation(found.letterbox, boxes, scores, masks, found.features)  # on the host, also one of a device


class Mirrored(WrappedEmbedder):
    """An embedder that takes the mean of a crop and its mirror image."""

    def embed_crops(self, crops: RGBImage) -> FloatArray:
        return unit_rows(
            self.embedder.embed_crops(crops) + self.embedder.embed_crops(np.ascontiguousarray(crops[:, :, ::-1]))
        )


class MeanOfTwo(Encoder):
    """Embeds each region as the mean of its box and its masked crop."""

    def embed_regions(
        self, jobs: Sequence[RegionJob], *, crops: CropPolicy | None = None, watch: Stopwatch | None = None
    ) -> FloatArray:
        """(R, D) float32 of unit length. Raises: ValueError for crops of one kind."""
        if crops is not None:
            raise ValueError(f"expected no policy beside the mean of two, got {crops}")
        kinds = (CropPolicy.BOX, CropPolicy.MASKED)
        return unit_rows(
            np.mean([Encoder.embed_regions(self, jobs, crops=kind, watch=watch) for kind in kinds], axis=0)
        )


def encoders(preset: str, settings: Settings, thresholds: Thresholds) -> dict[str, Encoder]:
    """One encoder for each way, all with the same memory of crops; the preset's own way first."""
    found = find_preset(preset)
    own = found.options.confidence
    least = replace(found.options, confidence=min([own, *thresholds.confidences]))
    base = wiring.load_encoder(preset, wiring.hash_layer_of(preset, None, settings), settings)
    path, compute = locate(found.segmenter, settings.models.weights_dir), prepare_compute(settings.models, "segmenter")
    segmenter, images = FastSAMSegmenter(path, options=least, compute=compute), dict[bytes, Segmentation]()
    base = CropMemory().keeping(replace(base, segmenter=SeenOnce(segmenter, own, images)))
    ways = {"as shipped": base, "mirrored": replace(base, embedder=Mirrored(base.embedder))}
    for confidence in thresholds.confidences:
        ways[f"confidence {confidence:g}"] = replace(base, segmenter=SeenOnce(segmenter, confidence, images))
    for iou in thresholds.ious:
        other = FastSAMSegmenter(path, options=replace(least, iou=iou), compute=compute)
        ways[f"suppression {iou:g}"] = replace(base, segmenter=SeenOnce(other, own, {}))
    ways |= {f"crops {policy.value}": replace(base, crops=policy) for policy in CropPolicy if policy is not base.crops}
    mean = MeanOfTwo(base.segmenter, base.embedder, base.hasher, base.policy, base.box_min_iou)
    return {**ways, "mean of box and masked": mean}


def figures_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that a way may change, each with its interval."""
    found: dict[str, Any] = {}
    for name, path in FIGURES.items():
        value: Any = report
        for part in path:
            value = value[part]
        found[name] = [round(value, 4), *report["ci95"].get(".".join(path), [])]
    return found


def evidence_of(truth: Truth, folder: Path, encoder: Encoder, attributes: tuple[str, ...]) -> Evidence:
    """What the evaluation computes from, in memory."""
    vocabulary = Vocabulary.of(truth, encoder.embedder, group_by=None, seed=0)
    setup = Setup(encoder, vocabulary, (encoder.policy,), ablations=False)
    with Collector(vocabulary, attributes) as collector:
        for images, wanted in read_batches(annotated(truth, folder), Reading(), [], None):
            truths = [one.truth for one in wanted if one.truth is not None]
            for one, seen in zip(truths, observe(setup, images, truths), strict=True):
                collector.add(one, seen)
        evidence = collector.evidence()
        return replace(evidence, rows=replace(evidence.rows, joined=np.array(evidence.rows.joined)))


def main() -> None:
    """Print a table; write JSON where asked."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--preset", default="pico")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--category")
    parser.add_argument("--attributes", nargs="*", default=[], help="kept in the evidence")
    parser.add_argument("--limit-images", type=int)
    parser.add_argument("--confidences", type=float, nargs="*", default=[0.05, 0.1, 0.15, 0.25, 0.3])
    parser.add_argument("--ious", type=float, nargs="*", default=[0.5, 0.6, 0.8])
    parser.add_argument("--only", nargs="*", default=[""], help="words of the ways to try")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--evidence", type=Path)
    options = parser.parse_args()
    truth = read_coco(options.annotations, category=options.category, attributes=options.attributes)
    truth = truth.sample(options.limit_images, seed=0)
    thresholds = Thresholds(options.confidences, options.ious)
    ways = encoders(options.preset, Settings(models=ModelSettings(threads=options.threads)), thresholds)
    if options.evidence:
        evidence = evidence_of(truth, options.images, ways["as shipped"], tuple(options.attributes))
        options.evidence.write_bytes(pickle.dumps(evidence))
    found: dict[str, dict[str, Any]] = {}
    for name, encoder in ways.items():
        if not any(word in name for word in options.only):
            continue
        found[name] = figures_of(evaluate(truth, options.images, encoder, EvaluationOptions(ablations=False)).report)
        print(f"{name:24}", *(f"{figure} {value[0]:.3f}  " for figure, value in found[name].items()), flush=True)
        measuring.write(found, options.json)


if __name__ == "__main__":
    main()
