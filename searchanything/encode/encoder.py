"""Image → codes: the stages that ingest and query share.

    segment → (largest regions, or given ones | prompt) → pool P3 (f_M), embed crops (f_I) → hash

`Encoder` sees models only through their protocols and is as thread-safe as they are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Final, ParamSpec, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from searchanything.core.codes import pack_signs
from searchanything.core.errors import ModelError, PromptError
from searchanything.core.protocols import Hasher, RegionEncoder, Segmentation, Segmenter, WordsHasher
from searchanything.core.types import BoolMasks, BoxXYXY, Codes, FloatArray, MaskRLE, RGBImage, TextMatch
from searchanything.encode.at_once import AtOnce
from searchanything.encode.cut_batch import CutBatch, Cutter, KeptRegions
from searchanything.encode.given_segmentation import GivenSegmentation
from searchanything.encode.region_policy import RegionPolicy
from searchanything.features.parquet import FeatureBatch
from searchanything.images.crop_policy import CropPolicy
from searchanything.images.crops import PLAIN, image_crop, region_crops
from searchanything.images.given_regions import GivenRegions
from searchanything.images.resizing import Resizing
from searchanything.prompts.choose import Choice, choose, choose_by_similarity
from searchanything.prompts.choose_together import choose_together
from searchanything.prompts.prompt import Prompt, Prompts, Text
from searchanything.prompts.text_confidence import SAME_COSINE, TextConfidence, confidence_by_share
from searchanything.search.rescoring import QueryValues, similarities

CROP_THREADS: Final = 4  # cv2 releases the GIL; more threads than this never paid

GivenPerImage: TypeAlias = Sequence[GivenRegions | None]  # per image: None where the segmenter's count; empty: for none
OpenEncoder: TypeAlias = "Callable[[], Encoder]"  # opened at the first call; others cost little
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, eq=False)
class EncodedImage:
    """An image's kept regions, R of them, largest first, and their codes.

    `boxes_xyxy` (R, 4) and `areas_px` (R,) float32 in image pixels; `scores` (R,); `codes` (R, B) uint8;
    `image_code` (B,) uint8 is the whole image's. `features` are what the codes were made of: those of the R regions,
    then those of the whole image; none where R is 0. `words_codes` (R, W) uint8 are of f_I alone, W = 0 without words.
    """

    height: int
    width: int
    boxes_xyxy: FloatArray
    areas_px: FloatArray
    scores: FloatArray
    masks: tuple[MaskRLE, ...]
    codes: Codes
    image_code: Codes
    features: FeatureBatch
    words_codes: Codes


@dataclass(frozen=True, slots=True, eq=False)
class EncodedQuery:
    """What a prompt chose in an image, its code (B,) uint8, and the (bits,) float32 that the code holds the signs of.

    Both are all zero if nothing was chosen. `words_code` (V,) uint8 is that of f_I alone, V = 0 without words.
    `features`, of one row, are what the code was made of; None if nothing was chosen, or they were not kept.
    """

    segmentation: Segmentation
    choice: Choice
    code: Codes
    projection: FloatArray
    words_code: Codes
    features: FeatureBatch | None = None


class Stopwatch:
    """Adds up milliseconds per named stage, over all threads that share it."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block towards `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = (time.perf_counter() - start) * 1000
            with self._lock:
                self.timings_ms[name] = self.timings_ms.get(name, 0.0) + spent

    def timed(self, name: str, function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
        """The function, the time of its calls counted towards `name`."""

        @wraps(function)
        def counted(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
            with self.stage(name):
                return function(*args, **kwargs)

        return counted


@dataclass(frozen=True, slots=True, eq=False)
class RegionJob:
    """Regions of one image that wait to be encoded, in this order.

    `masks` (R, gh, gw) bool on the segmentation's grid, `boxes_xyxy` (R, 4) in image pixels; `whole_image` appends one
    more row for the whole image.
    """

    image: RGBImage
    segmentation: Segmentation
    masks: BoolMasks
    boxes_xyxy: FloatArray
    whole_image: bool = False

    @classmethod
    def of_rows(
        cls, image: RGBImage, segmentation: Segmentation, rows: NDArray[np.intp], *, whole_image: bool = False
    ) -> Self:
        """Some of the segmentation's own regions."""
        return cls(image, segmentation, segmentation.masks_at(rows), segmentation.boxes_xyxy[rows], whole_image)

    @classmethod
    def of_choice(cls, image: RGBImage, segmentation: Segmentation, choice: Choice) -> Self:
        """The one row of a choice: its region, or the whole image. Nothing chosen is no row."""
        regions = 1 if choice.kind == "region" else 0
        boxes = np.array([choice.box_xyxy], dtype=np.float32)
        return cls(image, segmentation, choice.mask[None][:regions], boxes[:regions], choice.kind == "image")

    def crops(self, policy: CropPolicy, resizing: Resizing, size_px: int) -> RGBImage:
        """Its rows' crops, (R, size_px, size_px, 3) uint8."""
        letterbox, masks, boxes = self.segmentation.letterbox, self.masks, self.boxes_xyxy
        crops = region_crops(self.image, letterbox, masks, boxes, size_px=size_px, policy=policy, resizing=resizing)
        if not self.whole_image:
            return crops
        return np.concatenate([crops, image_crop(self.image, size_px=size_px, resizing=resizing)[None]])

    def kept(self, rows: NDArray[np.intp]) -> KeptRegions:
        """Its regions, which are these rows of the segmentation, as they will be stored."""
        found, masks = self.segmentation, self.masks
        stored = found.letterbox.stored_masks(masks)
        return KeptRegions.of_rows(found, rows, areas_px=found.areas_at(rows, masks), masks=stored)

    def pooled(self) -> FloatArray:
        """f_M of its rows, (R, C)."""
        masks = self.masks
        if self.whole_image:
            masks = np.concatenate([masks, (self.segmentation.letterbox.coverage > 0)[None]])
        return self.segmentation.features.pool(masks)


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """Turns images into codes with one set of models.

    `crops` and `resizing` are how regions are shown to the embedder, for the index, queries and texts alike: the preset
    says it. `arithmetic` names device and precisions; what the models leave open of it is decided by `settle`, before a
    run's first code. `at_once` is for runs. `cutter` makes their crops on a device, where there is one.
    """

    # Over 200 lines: images and queries go through the same steps, so that a region has the same code in both.

    segmenter: Segmenter
    embedder: RegionEncoder
    hasher: Hasher
    policy: RegionPolicy = field(default_factory=RegionPolicy)
    box_min_iou: float = 0.1
    crops: CropPolicy = CropPolicy.PAPER
    words: WordsHasher | None = None
    resizing: Resizing = PLAIN
    arithmetic: str = ""
    at_once: AtOnce = field(default_factory=AtOnce)
    settle: Callable[[], None] = lambda: None
    cutter: Cutter | None = None
    _judge: TextConfidence = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_judge", TextConfidence(self.embedder))

    def encode_images(
        self, images: Sequence[RGBImage], watch: Stopwatch | None = None, *, given: GivenPerImage = ()
    ) -> list[EncodedImage]:
        """Segment, select and encode a batch; one pass of each model for all images of the batch.

        It is `embed_batch` of `cut_batch` of `segment_batch`, on three batches at once in `ingest.overlap`.
        """
        if not images:
            return []
        watch = watch or Stopwatch()
        return self.embed_batch(self.cut_batch(images, self.segment_batch(images, watch, given=given), watch), watch)

    def segment_batch(
        self, images: Sequence[RGBImage], watch: Stopwatch, *, given: GivenPerImage = ()
    ) -> list[Segmentation]:
        """The first stage, of the segmenter, whose feature map also images of given regions need.

        Raises: ModelLoadError, which is no image's fault.
        """
        self.settle()
        with self.at_once.sharing(), watch.stage("segment"):
            found = self.segmenter.segment(images)
        pairs = zip(found, given or [None] * len(found), strict=True)
        return [one if regions is None else GivenSegmentation(one, regions) for one, regions in pairs]

    def crop_bytes(self, segmentations: Sequence[Segmentation]) -> int:
        """What the crops of a batch will take, on the host or on a device."""
        crops = sum(min(len(one.scores), self.policy.count) + 1 for one in segmentations)
        return crops * 3 * self.embedder.crop_size_px**2

    def cut_batch(
        self, images: Sequence[RGBImage], segmentations: Sequence[Segmentation], watch: Stopwatch
    ) -> CutBatch:
        """The second stage: which regions are kept, their pooled features, crops and stored masks.

        It is the host's, or that of a device where the segmenter has left its regions and there is memory for it.
        """
        kept = [self.policy.keep(segmentation) for segmentation in segmentations]
        if self.cutter is not None and self.cutter.takes(images, segmentations, self.resizing):
            side = self.embedder.crop_size_px
            with watch.stage("cut"):
                cut = self.cutter.cut(images, segmentations, kept, size_px=side, policy=self.crops)
            if cut is not None:
                return cut
        jobs = [
            RegionJob.of_rows(image, one, rows, whole_image=True)
            for image, one, rows in zip(images, segmentations, kept, strict=True)
        ]
        with watch.stage("pool"):
            pooled = self.pool_masks(jobs)
        with watch.stage("crop"):
            crops = self._cut(jobs, self.crops)
        with watch.stage("masks"):
            regions = [job.kept(rows) for job, rows in zip(jobs, kept, strict=True)]
        return CutBatch(regions, pooled, crops)

    def embed_batch(self, cut: CutBatch, watch: Stopwatch) -> list[EncodedImage]:
        """The third stage, of the encoder: crops to features to codes."""
        with self.at_once.sharing(), watch.stage("embed"):
            embedded = self.embedder.embed_many(cut.crops)
        with watch.stage("hash"):
            codes = self.hasher.encode(cut.pooled, embedded)
        ends = np.cumsum([len(one.masks) + 1 for one in cut.regions])[:-1]
        rows = (np.split(of_all, ends) for of_all in (cut.pooled, embedded, codes))
        return [self._encoded(*of_image) for of_image in zip(cut.regions, *rows, strict=True)]

    def encode_query(self, image: RGBImage, prompt: Prompt, watch: Stopwatch | None = None) -> EncodedQuery:
        """Segment an image, apply a prompt and encode what it chose. Raises: PromptError."""
        (encoded,) = self.encode_queries([(image, prompt)], watch)
        if isinstance(encoded, PromptError):
            raise encoded
        return encoded

    def encode_queries(
        self, queries: Sequence[tuple[RGBImage, Prompt]], watch: Stopwatch | None
    ) -> list[EncodedQuery | PromptError]:
        """The same of several queries, in one pass of each model. An image that several name is segmented once.

        In place of a query whose prompt does not fit its image stands the error.
        """
        watch = watch or Stopwatch()
        images = {id(image): image for image, _ in queries}
        with watch.stage("segment"):
            segmented = dict(zip(images, self.segmenter.segment(list(images.values())), strict=True))
        found: list[EncodedQuery | PromptError] = []
        jobs: dict[int, tuple[Choice, RegionJob]] = {}  # of the queries that have chosen something
        with watch.stage("select"):
            for number, (image, prompt) in enumerate(queries):
                segmentation = segmented[id(image)]
                try:
                    choice = self._choose(image, segmentation, prompt)
                except PromptError as error:
                    found.append(error)
                    continue
                found.append(EncodedQuery(segmentation, choice, *self._nothing()))
                if choice.kind != "none":
                    jobs[number] = choice, RegionJob.of_choice(image, segmentation, choice)
        if not jobs:
            return found
        of_one_row = [job for _, job in jobs.values()]
        with watch.stage("pool"):
            pooled = self.pool_masks(of_one_row)
        embedded = self.embed_regions(of_one_row, watch=watch)
        with watch.stage("hash"):
            projections = self.hasher.project(pooled, embedded)
            made = zip(pack_signs(projections), projections, self._words_codes(embedded), strict=True)
        for row, ((number, (choice, job)), values) in enumerate(zip(jobs.items(), made, strict=True)):
            features = FeatureBatch(pooled[row : row + 1], embedded[row : row + 1])
            found[number] = EncodedQuery(job.segmentation, choice, *values, features)
        return found

    def _nothing(self) -> tuple[Codes, FloatArray, Codes]:
        """Code, values and words code of a query that chose nothing."""
        values = np.zeros(self.hasher.bits, dtype=np.float32)
        return pack_signs(values[None])[0], values, np.zeros(0, dtype=np.uint8)

    def encode_text(self, text: str) -> QueryValues:
        """A text as regions' words codes are searched by it. Raises: ModelError without a words layer."""
        projection = self._words_layer().project_texts(self.embedder.embed_texts([text]))
        return QueryValues(pack_signs(projection)[0], projection[0])

    def everyday_words(self) -> FloatArray:
        """The embeddings (words, D) of some everyday words: what texts are like, without any label."""
        return self._judge.words

    def judge_words(self, values: QueryValues, code: Codes) -> TextMatch:
        """How plausible a text's best hit is, by the hit's words code (B,): as `TextConfidence`, on bits."""
        everyday = self._words_layer().project_texts(self._judge.words)
        cosine = float(similarities(values.projection, code[None])[0])
        better = sum(float(similarities(one, code[None])[0]) > cosine + SAME_COSINE for one in everyday)
        return TextMatch(cosine, better, len(everyday), confidence_by_share(better / len(everyday)))

    def _words_layer(self) -> WordsHasher:
        if self.words is None:
            raise ModelError("the index has no words codes; add them: searchanything index SOURCE --add-words")
        return self.words

    def pool_masks(self, jobs: Sequence[RegionJob]) -> FloatArray:
        """f_M of the jobs' regions, one after the other: (R, C) float32."""
        return np.concatenate([job.pooled() for job in jobs])

    def embed_regions(
        self, jobs: Sequence[RegionJob], *, crops: CropPolicy | None = None, watch: Stopwatch | None = None
    ) -> FloatArray:
        """f_I of the jobs' regions, one after the other, in one batch: (R, D) float32 of unit length.

        The crops are the encoder's own, unless others are to be compared with them.
        """
        watch = watch or Stopwatch()
        with watch.stage("crop"):
            cut = self._cut(jobs, crops or self.crops)
        with watch.stage("embed"):
            return self.embedder.embed_crops(cut)

    def _cut(self, jobs: Sequence[RegionJob], policy: CropPolicy) -> RGBImage:
        """The crops of the jobs' regions, one after the other."""
        side = self.embedder.crop_size_px
        with ThreadPoolExecutor(min(CROP_THREADS, len(jobs))) as pool:
            return np.concatenate(list(pool.map(lambda job: job.crops(policy, self.resizing, side), jobs)))

    def _choose(self, image: RGBImage, segmentation: Segmentation, prompt: Prompt) -> Choice:
        match prompt:
            case Text(text=str(text)) | Prompts(text=str(text)):
                return self._choose_by_text(image, segmentation, prompt, text)
            case Prompts():
                return choose_together(prompt, segmentation, box_min_iou=self.box_min_iou)
        return choose(prompt, segmentation, box_min_iou=self.box_min_iou)

    def _choose_by_text(self, image: RGBImage, segmentation: Segmentation, prompt: Text | Prompts, text: str) -> Choice:
        job = RegionJob.of_rows(image, segmentation, np.arange(len(segmentation.scores)))
        regions = self.embed_regions([job])
        similarities = np.asarray(regions @ self.embedder.embed_texts([text])[0], dtype=np.float32)
        if isinstance(prompt, Text):
            choice = choose_by_similarity(similarities, segmentation, text)
        else:
            least = self.box_min_iou
            choice = choose_together(prompt, segmentation, box_min_iou=least, similarities=similarities)
        rows = list(choice.rows)
        return replace(choice, text_match=self._judge.judge(similarities[rows], regions[rows])) if rows else choice

    def _words_codes(self, image_features: FloatArray) -> Codes:
        if self.words is None:
            return np.zeros((len(image_features), 0), dtype=np.uint8)
        return self.words.encode(image_features)

    def _encoded(self, kept: KeptRegions, pooled: FloatArray, embedded: FloatArray, codes: Codes) -> EncodedImage:
        """One image of a batch: the rows of its regions, then that of the whole image."""
        regions, (height, width) = len(kept.masks), kept.size
        return EncodedImage(
            height=height,
            width=width,
            boxes_xyxy=kept.boxes_xyxy,
            areas_px=kept.areas_px,
            scores=kept.scores,
            masks=kept.masks,
            codes=codes[:regions],
            image_code=codes[regions],
            features=FeatureBatch(pooled, embedded),
            words_codes=self._words_codes(embedded[:regions]),
        )


def box_tuple(box_xyxy: FloatArray) -> BoxXYXY:
    """One (4,) box as a tuple of floats."""
    x1, y1, x2, y2 = box_xyxy.tolist()
    return x1, y1, x2, y2
