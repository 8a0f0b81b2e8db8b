"""Images through the real pipeline: what it finds, selects, keeps and encodes, beside what is annotated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from searchanything.core.codes import joined_features
from searchanything.core.protocols import Segmentation
from searchanything.core.types import Codes, FloatArray, RGBImage, SizeClass, size_class_of
from searchanything.encode.encoder import Encoder, RegionJob
from searchanything.encode.region_policy import RegionPolicy
from searchanything.evaluation.asking import Vocabulary
from searchanything.evaluation.clicking import Clicks, click
from searchanything.evaluation.overlaps import MIN_IOU, Ious, paired, region_ious
from searchanything.evaluation.truth import TrueImage
from searchanything.images.crop_policy import CropPolicy
from searchanything.prompts.choose import Choice, choose
from searchanything.prompts.prompt import Box

AS_SHIPPED: Final = "as_shipped"  # the variant of the codes that an index holds


@dataclass(frozen=True, slots=True)
class Setup:
    """How images are observed. `policies`: which regions an index may keep, the evaluated index's own first."""

    encoder: Encoder
    vocabulary: Vocabulary
    policies: tuple[RegionPolicy, ...]
    ablations: bool


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Of T rows: `joined` (T, C + D), what the hash layer sees; `named` (T, D), what is matched with words; `changed`
    (T, D), f_I with the crops of each ablation, if wanted; `codes` (T, B) by variant: ablations and `AS_SHIPPED`.
    """

    joined: FloatArray
    named: FloatArray
    changed: Mapping[str, FloatArray]
    codes: Mapping[str, Codes]

    def rows(self, part: slice) -> Self:
        """Some of the rows."""
        changed = {name: rows[part] for name, rows in self.changed.items()}
        codes = {name: codes[part] for name, codes in self.codes.items()}
        return type(self)(self.joined[part], self.named[part], changed, codes)


@dataclass(frozen=True, slots=True, eq=False)
class Prompted:
    """What prompts for an image's M instances came to, float64: 1 right, 0 wrong, NaN not asked.

    `rows` (M,) is the row that the box prompt selected. `text` is asked once a category, with its first instance.
    `clicks`: by rule and more, see `clicking`; the default rule's are `point`.
    """

    rows: NDArray[np.intp]
    box: NDArray[np.float64]
    point: NDArray[np.float64]
    text: NDArray[np.float64]
    naming: NDArray[np.float64]
    clicks: Clicks


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One image: T rows, first its `regions`, then the boxes that a box prompt took because no region fitted.

    `kept` (T, P) bool by policy, never true of a box; `stored_bytes` (T,) of code and mask in an index; `ious` (T, M);
    `paired_ious` (M,) of the regions, one to one, 0 for crowds.
    """

    regions: int
    kept: NDArray[np.bool_]
    stored_bytes: NDArray[np.int64]
    ious: Ious
    paired_ious: NDArray[np.float64]
    prompted: Prompted
    features: Features


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """One image after segmentation and prompts: the rows to encode, those that boxes chose, -1 for none, and clicks.

    `ious` (T, M) of rows and instances; `on` (T + 1, M): the rows that lie on an instance, the last nobody's, row -1.
    """

    truth: TrueImage
    segmentation: Segmentation
    job: RegionJob
    box_rows: NDArray[np.intp]
    ious: Ious
    on: NDArray[np.bool_]
    clicks: Clicks


def observe(setup: Setup, images: Sequence[RGBImage], truths: Sequence[TrueImage]) -> list[Observation]:
    """Observe a batch; one pass of each model for all its images."""
    segmentations = setup.encoder.segmenter.segment(images)
    seen = [
        _seen(setup.encoder, image, segmentation, truth)
        for image, segmentation, truth in zip(images, segmentations, truths, strict=True)
    ]
    features = _features(setup, [one.job for one in seen])
    ends = np.cumsum([len(one.job.masks) for one in seen]).tolist()
    return [
        _observation(setup, one, features.rows(slice(end - len(one.job.masks), end)))
        for one, end in zip(seen, ends, strict=True)
    ]


def _seen(encoder: Encoder, image: RGBImage, segmentation: Segmentation, truth: TrueImage) -> _Seen:
    """Apply the prompts; boxes that no region fits become rows of their own."""
    masks, boxes = [segmentation.masks], [segmentation.boxes_xyxy]
    box_rows = []
    count = len(segmentation.scores)
    for one in truth.instances:
        choice = choose(Box(*one.box_xyxy), segmentation, box_min_iou=encoder.box_min_iou)
        row = _row_of(choice)
        if row < 0:
            row, count = count, count + 1
            masks.append(choice.mask[None])
            boxes.append(np.array([choice.box_xyxy], dtype=np.float32))
        box_rows.append(row)
    job = RegionJob(image, segmentation, np.concatenate(masks), np.concatenate(boxes))
    ious = region_ious(segmentation.letterbox, job.masks, truth)
    on = np.vstack([ious >= MIN_IOU, np.zeros((1, len(truth.instances)), dtype=np.bool_)])
    clicks = click(segmentation, truth, on)
    return _Seen(truth, segmentation, job, np.array(box_rows, dtype=np.intp), ious, on, clicks)


def _row_of(choice: Choice) -> int:
    """The row of the segmentation that a box chose, -1 if it is none of them."""
    return choice.rows[0] if choice.rows else -1


def _features(setup: Setup, jobs: Sequence[RegionJob]) -> Features:
    encoder = setup.encoder
    pooled, embedded = encoder.pool_masks(jobs), encoder.embed_regions(jobs)
    changed: dict[str, FloatArray] = {}
    if setup.ablations:
        others = [policy for policy in CropPolicy if policy is not encoder.crops]
        changed = {ablation_of(policy): _changed(encoder, jobs, embedded, policy) for policy in others}
    codes = {name: encoder.hasher.encode(pooled, rows) for name, rows in {AS_SHIPPED: embedded, **changed}.items()}
    return Features(joined_features(pooled, embedded), embedded, changed, codes)


def ablation_of(policy: CropPolicy) -> str:
    """The name of the ablation that shows all regions by another policy than the index does."""
    return f"crops_{policy}"


def _changed(encoder: Encoder, jobs: Sequence[RegionJob], embedded: FloatArray, policy: CropPolicy) -> FloatArray:
    """f_I of all rows by another policy, embedded anew where it shows them differently."""
    changed = [one for one in SizeClass if not policy.like(encoder.crops, one)]
    concerned = np.isin(np.concatenate([_size_classes(job.boxes_xyxy) for job in jobs]), changed)
    features = embedded.copy()
    if concerned.any():
        parts = np.split(concerned, np.cumsum([len(job.masks) for job in jobs])[:-1])
        some = [_some(job, part) for job, part in zip(jobs, parts, strict=True)]
        features[concerned] = encoder.embed_regions(some, crops=policy)
    return features


def _some(job: RegionJob, wanted: NDArray[np.bool_]) -> RegionJob:
    return RegionJob(job.image, job.segmentation, job.masks[wanted], job.boxes_xyxy[wanted])


def _observation(setup: Setup, seen: _Seen, features: Features) -> Observation:
    job, truth = seen.job, seen.truth
    regions = len(seen.segmentation.scores)
    solid = np.array([not one.crowd for one in truth.instances], dtype=np.bool_)
    pairs = np.zeros(len(truth.instances))
    pairs[solid] = paired(seen.ious[:regions, solid])
    kept = np.zeros((len(job.masks), len(setup.policies)), dtype=np.bool_)
    for column, policy in zip(kept.T, setup.policies, strict=True):
        column[policy.keep(seen.segmentation)] = True
    return Observation(
        regions=regions,
        kept=kept,
        stored_bytes=_stored_bytes(job, features.codes[AS_SHIPPED].shape[1], wanted=setup.ablations),
        ious=seen.ious,
        paired_ious=pairs,
        prompted=_prompted(setup.vocabulary, seen, features.named),
        features=features,
    )


def _prompted(vocabulary: Vocabulary, seen: _Seen, named: FloatArray) -> Prompted:
    instances = seen.truth.instances
    count = len(instances)
    places = np.arange(count)
    solid = np.array([not one.crowd for one in instances], dtype=np.bool_)
    box = np.where(solid, seen.on[seen.box_rows, places].astype(np.float64), np.nan)
    similar = named @ vocabulary.embeddings.T
    text, naming = np.full(count, np.nan), np.full(count, np.nan)
    categories = np.array([vocabulary.number(one.category) for one in instances], dtype=np.intp)
    regions = len(seen.segmentation.scores)
    for place in np.flatnonzero(solid).tolist():
        category = categories[place]
        words = vocabulary.words[category]
        if len(words) > 1:
            naming[place] = float(similar[seen.box_rows[place], words].argmax() == 0)
        alike = categories == category
        if place == np.flatnonzero(alike & solid)[0]:
            text[place] = float(regions > 0 and seen.on[similar[:regions, category].argmax(), alike].any())
    return Prompted(seen.box_rows, box, seen.clicks["default"], text, naming, seen.clicks)


def _size_classes(boxes_xyxy: FloatArray) -> NDArray[np.str_]:
    return np.array([size_class_of(tuple(row)) for row in boxes_xyxy.tolist()], dtype="<U6")


def _stored_bytes(job: RegionJob, code_bytes: int, *, wanted: bool) -> NDArray[np.int64]:
    """Bytes of code and mask, as an index stores them; zeros where nobody asks."""
    if not wanted:
        return np.zeros(len(job.masks), dtype=np.int64)
    letterbox = job.segmentation.letterbox
    return np.array([code_bytes + len(letterbox.stored_mask(mask).counts) for mask in job.masks], dtype=np.int64)
