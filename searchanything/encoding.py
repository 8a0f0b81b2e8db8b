"""Image → codes: the stages that ingest and query share.

    segment → (largest regions | prompt) → pool P3 (f_M), embed crops (f_I) → hash

`Encoder` sees models only through their protocols and is as thread-safe as they are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from searchanything.crops import CropPolicy, image_crop, region_crops
from searchanything.policies import RegionPolicy
from searchanything.prompts import Choice, Prompt, Text, choose, choose_by_similarity
from searchanything.protocols import Hasher, RegionEncoder, Segmentation, Segmenter
from searchanything.types import BoolMasks, BoxXYXY, Codes, FloatArray, MaskRLE, RGBImage

CROP_THREADS: Final = 4  # cv2 releases the GIL; more threads than this never paid


@dataclass(frozen=True, slots=True, eq=False)
class EncodedImage:
    """An image's kept regions, R of them, largest first, and their codes.

    `boxes_xyxy` (R, 4) and `areas_px` (R,) float32 in image pixels; `scores` (R,); `codes` (R, B) uint8;
    `image_code` (B,) uint8 is the whole image's.
    """

    height: int
    width: int
    boxes_xyxy: FloatArray
    areas_px: FloatArray
    scores: FloatArray
    masks: tuple[MaskRLE, ...]
    codes: Codes
    image_code: Codes


@dataclass(frozen=True, slots=True, eq=False)
class EncodedQuery:
    """What a prompt chose in an image, and its code (B,) uint8; the code is all zero if nothing was chosen."""

    segmentation: Segmentation
    choice: Choice
    code: Codes


class Stopwatch:
    """Adds up milliseconds per named stage."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block towards `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = (time.perf_counter() - start) * 1000
            self.timings_ms[name] = self.timings_ms.get(name, 0.0) + spent


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """Regions of one image that wait to be encoded."""

    image: RGBImage
    segmentation: Segmentation
    masks: BoolMasks
    boxes_xyxy: FloatArray
    whole_image: bool
    """Append one more row for the whole image."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """Turns images into codes with one set of models.

    `text_crops` is the crop policy by which regions are matched to text: context crops beat the paper's masked ones
    (docs/adr/0005).
    """

    segmenter: Segmenter
    embedder: RegionEncoder
    hasher: Hasher
    policy: RegionPolicy = field(default_factory=RegionPolicy)
    box_min_iou: float = 0.1
    text_crops: CropPolicy = CropPolicy.PAPER

    def encode_images(self, images: Sequence[RGBImage], watch: Stopwatch | None = None) -> list[EncodedImage]:
        """Segment, select and encode a batch; one pass of each model for all images of the batch."""
        watch = watch or Stopwatch()
        with watch.stage("segment"):
            segmentations = self.segmenter.segment(images)
        kept = [self.policy.keep(segmentation) for segmentation in segmentations]
        jobs = [
            _Job(image, one, one.masks[rows], one.boxes_xyxy[rows], whole_image=bool(len(rows)))
            for image, one, rows in zip(images, segmentations, kept, strict=True)
        ]
        codes = self._codes(jobs, watch)
        with watch.stage("masks"):
            return [
                self._encoded(job, job.segmentation.scores[rows], of_image)
                for job, rows, of_image in zip(jobs, kept, codes, strict=True)
            ]

    def encode_query(self, image: RGBImage, prompt: Prompt, watch: Stopwatch | None = None) -> EncodedQuery:
        """Segment an image, apply a prompt and encode what it chose. Raises: PromptError."""
        watch = watch or Stopwatch()
        with watch.stage("segment"):
            segmentation = self.segmenter.segment([image])[0]
        with watch.stage("select"):
            choice = self._choose(image, segmentation, prompt)
        if choice.kind == "none":
            return EncodedQuery(segmentation, choice, np.zeros(self.hasher.bits // 8, dtype=np.uint8))
        code = self.encode_region(image, segmentation, choice, watch)
        return EncodedQuery(segmentation, choice, code)

    def encode_region(
        self, image: RGBImage, segmentation: Segmentation, choice: Choice, watch: Stopwatch | None = None
    ) -> Codes:
        """The code (B,) of one chosen region, or of the whole image."""
        whole = choice.kind == "image"
        masks = choice.mask[None][: 0 if whole else 1]
        boxes = np.array([choice.box_xyxy], dtype=np.float32)[: len(masks)]
        (codes,) = self._codes([_Job(image, segmentation, masks, boxes, whole)], watch or Stopwatch())
        return np.asarray(codes[0], dtype=np.uint8)

    def text_similarities(self, image: RGBImage, segmentation: Segmentation, text: str) -> FloatArray:
        """(N,) cosine of each candidate region with a text."""
        crops = region_crops(
            image,
            segmentation.letterbox,
            segmentation.masks,
            segmentation.boxes_xyxy,
            size_px=self.embedder.crop_size_px,
            policy=self.text_crops,
        )
        similarities = self.embedder.embed_crops(crops) @ self.embedder.embed_texts([text])[0]
        return np.asarray(similarities, dtype=np.float32)

    def _choose(self, image: RGBImage, segmentation: Segmentation, prompt: Prompt) -> Choice:
        if isinstance(prompt, Text):
            similarities = self.text_similarities(image, segmentation, prompt.text)
            return choose_by_similarity(similarities, segmentation, prompt.text)
        return choose(prompt, segmentation, box_min_iou=self.box_min_iou)

    def _codes(self, jobs: Sequence[_Job], watch: Stopwatch) -> list[Codes]:
        """Codes of each job's regions: pooled per image, embedded and hashed in one batch for all."""
        with watch.stage("pool"):
            pooled = np.concatenate([_pooled(job) for job in jobs])
        with watch.stage("crop"), ThreadPoolExecutor(min(CROP_THREADS, len(jobs))) as pool:
            crops = list(pool.map(self._crops, jobs))
        with watch.stage("embed"):
            embedded = self.embedder.embed_crops(np.concatenate(crops))
        with watch.stage("hash"):
            codes = self.hasher.encode(pooled, embedded)
        return np.split(codes, np.cumsum([len(rows) for rows in crops])[:-1])

    def _crops(self, job: _Job) -> RGBImage:
        size = self.embedder.crop_size_px
        crops = region_crops(job.image, job.segmentation.letterbox, job.masks, job.boxes_xyxy, size_px=size)
        if not job.whole_image:
            return crops
        return np.concatenate([crops, image_crop(job.image, size_px=size)[None]])

    def _encoded(self, job: _Job, scores: FloatArray, codes: Codes) -> EncodedImage:
        letterbox = job.segmentation.letterbox
        regions = len(job.masks)
        empty = np.zeros(self.hasher.bits // 8, dtype=np.uint8)
        return EncodedImage(
            height=letterbox.height,
            width=letterbox.width,
            boxes_xyxy=job.boxes_xyxy,
            areas_px=letterbox.areas_px(job.masks),
            scores=scores,
            masks=tuple(letterbox.stored_mask(mask) for mask in job.masks),
            codes=codes[:regions],
            image_code=codes[regions] if regions else empty,
        )


def _pooled(job: _Job) -> FloatArray:
    """f_M of a job's regions, and of the whole image where wanted."""
    masks = job.masks
    if job.whole_image:
        masks = np.concatenate([masks, (job.segmentation.letterbox.coverage > 0)[None]])
    return job.segmentation.features.pool(masks)


def box_tuple(box_xyxy: FloatArray) -> BoxXYXY:
    """One (4,) box as a tuple of floats."""
    x1, y1, x2, y2 = box_xyxy.tolist()
    return x1, y1, x2, y2
