"""Hits → pixels → float features again: what the codes in the index were once made of.

Codes do not show what hashing lost. `reencode` reads the hits' images, each once, and encodes the regions anew, a few
images at a time, so that the feature maps of many images never lie in memory together. Who asks several questions about
one answer keeps a `Recollection`, and encodes each hit once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchanything.core.codes import joined_features
from searchanything.core.errors import ImageError, SearchAnythingError, StoreError
from searchanything.core.geometry import box_iou
from searchanything.core.protocols import RegionIndex, Segmentation
from searchanything.core.public_texts import public_text
from searchanything.core.types import BoxXYXY, Codes, FloatArray, Hit, ImageRef, RGBImage
from searchanything.encode.encode_queries import encode_one
from searchanything.encode.encoder import EncodedQuery, Encoder, RegionJob
from searchanything.encode.given_segmentation import GivenSegmentation
from searchanything.images.crop_policy import CropPolicy
from searchanything.images.given_regions import GivenRegions
from searchanything.images.sidecars import has_given_regions
from searchanything.prompts.choose import Choice
from searchanything.prompts.prompt import Prompt

# The object's etag as it is now, and what decodes its pixels: of another object than the indexed one nobody needs them.
ReadImage: TypeAlias = Callable[[ImageRef], tuple[str, Callable[[], RGBImage]]]
_HitKey: TypeAlias = tuple[str, ImageRef, str, int | None]  # fingerprint, image, etag, region

BATCH_IMAGES: Final = 8
READING_THREADS: Final = 8
REMEMBERED_HITS: Final = 1024  # features of one are 5.4 KB with the paper's models
SAME_REGION_IOU: Final = 0.5  # of the boxes; another machine's arithmetic moves a box by a pixel, not by half


@dataclass(frozen=True, slots=True, eq=False)
class SearchContext:
    """What a question about an answer needs: the index, the models that fit it, and the images behind it.

    `recollection` holds what earlier questions about the same answer computed.
    """

    index: RegionIndex
    encoder: Encoder
    read_image: ReadImage
    recollection: Recollection = field(default_factory=lambda: Recollection())


@dataclass(frozen=True, slots=True, eq=False)
class RegionFeatures:
    """f_M (N, C) and f_I (N, D) float32 of N regions, before the hash."""

    mask_features: FloatArray
    image_features: FloatArray

    @classmethod
    def of_job(cls, encoder: Encoder, job: RegionJob) -> Self:
        """The features of one image's regions, by the crops that the index is made with."""
        return cls(encoder.pool_masks([job]), encoder.embed_regions([job]))

    @classmethod
    def stacked(cls, encoder: Encoder, parts: Sequence[RegionFeatures]) -> Self:
        """Those of several, one below the other."""
        return cls(
            np.concatenate([_no_rows(encoder.segmenter.feature_dimension), *(one.mask_features for one in parts)]),
            np.concatenate([_no_rows(encoder.embedder.dimension), *(one.image_features for one in parts)]),
        )

    def cosines(self, one: RegionFeatures) -> FloatArray:
        """(N,) cosine of what the hash layer sees, [f_M / |f_M|, f_I / |f_I|], with that of a single region."""
        joined = joined_features(self.mask_features, self.image_features)
        return cosines(joined, joined_features(one.mask_features, one.image_features))


def cosines(rows: FloatArray, one: FloatArray) -> FloatArray:
    """(N,) cosine of each of (N, K) rows with a single (1, K); 0 where either is zero."""
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(one)
    products = rows @ one[0]
    return np.asarray(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedHits:
    """H hits of a few images, encoded anew, each image's in the order given.

    `images` holds each hit's image; `mask_features` (H, C); `image_features` (H, D) by crop policy.
    """

    hits: tuple[Hit, ...]
    images: tuple[RGBImage, ...]
    mask_features: FloatArray
    image_features: Mapping[CropPolicy, FloatArray]
    left_out: tuple[tuple[Hit, str], ...]

    def features(self, crops: CropPolicy) -> RegionFeatures:
        """Those of crops by one policy."""
        return RegionFeatures(self.mask_features, self.image_features[crops])


def reencode(
    context: SearchContext, hits: Sequence[Hit], *, policies: Sequence[CropPolicy] | None = None
) -> Iterator[EncodedHits]:
    """Encode the hits' regions (or whole images) again, in batches of images, by the encoder's own or other crops.

    A hit is left out whose image cannot be read or is no longer the one that was indexed, or whose region is not found
    again: `left_out` says why.
    """
    of_image: dict[ImageRef, list[Hit]] = {}
    for hit in hits:
        of_image.setdefault(hit.image, []).append(hit)
    images = list(of_image)
    with ThreadPoolExecutor(READING_THREADS) as pool:
        for start in range(0, len(images), BATCH_IMAGES):
            batch = [of_image[image] for image in images[start : start + BATCH_IMAGES]]
            found = list(pool.map(lambda group: _read(context.read_image, group[0]), batch))
            read = [public_text(one) if isinstance(one, SearchAnythingError) else one for one in found]
            yield _encoded(context.encoder, batch, read, policies or (context.encoder.crops,))


class Recollection:
    """What questions about one query's answer have computed: its choice, its features, and those of hits. Thread-safe.

    Pixels and segmentations are not held; of hits, the features of up to `most`, those used last. What models of
    another fingerprint computed is told apart. A hit that could not be encoded is tried again.
    """

    def __init__(self, *, most: int = REMEMBERED_HITS) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._choices: dict[str, tuple[Choice, Codes, FloatArray, Codes]] = {}
        self._own: dict[str, RegionFeatures] = {}
        self._features: OrderedDict[_HitKey, RegionFeatures] = OrderedDict()  # the last used one last

    def keep_query(self, fingerprint: str, query: EncodedQuery) -> None:
        """Keep what the query chose, its codes and its projection."""
        with self._lock:
            self._choices[fingerprint] = query.choice, query.code, query.projection, query.words_code

    def query(self, context: SearchContext, image: RGBImage, prompt: Prompt) -> EncodedQuery:
        """The query encoded, for the second time at most segmented. Raises: PromptError."""
        fingerprint = context.index.manifest.fingerprint
        with self._lock:
            known = self._choices.get(fingerprint)
        if known is not None:
            return EncodedQuery(context.encoder.segmenter.segment([image])[0], *known)
        query = encode_one(context.encoder, image, prompt)
        self.keep_query(fingerprint, query)
        return query

    def query_features(self, context: SearchContext, image: RGBImage, query: EncodedQuery) -> RegionFeatures:
        """The float features of what the query chose."""
        fingerprint = context.index.manifest.fingerprint
        with self._lock:
            known = self._own.get(fingerprint)
        if known is None:
            job = RegionJob.of_choice(image, query.segmentation, query.choice)
            known = RegionFeatures.of_job(context.encoder, job)
            with self._lock:
                self._own[fingerprint] = known
        return known

    def features(self, context: SearchContext, hits: Sequence[Hit]) -> tuple[RegionFeatures, int]:
        """The features of those hits that can be encoded again, and how many cannot."""
        fingerprint = context.index.manifest.fingerprint
        keys = [(fingerprint, hit.image, hit.etag, hit.region) for hit in hits]
        with self._lock:
            found = {key: self._features[key] for key in keys if key in self._features}
        left_out = 0
        for batch in reencode(context, [hit for key, hit in zip(keys, hits, strict=True) if key not in found]):
            left_out += len(batch.left_out)
            rows = batch.features(context.encoder.crops)
            for number, hit in enumerate(batch.hits):
                own = RegionFeatures(rows.mask_features[[number]], rows.image_features[[number]])
                found[fingerprint, hit.image, hit.etag, hit.region] = own
        self._remember(found)
        return RegionFeatures.stacked(context.encoder, [found[key] for key in keys if key in found]), left_out

    def _remember(self, found: Mapping[_HitKey, RegionFeatures]) -> None:
        with self._lock:
            for key, features in found.items():
                self._features[key] = features
                self._features.move_to_end(key)
            while len(self._features) > self._most:
                self._features.popitem(last=False)


def region_row(segmentation: Segmentation, box_xyxy: BoxXYXY, rows: NDArray[np.intp], number: int | None) -> int | None:
    """The row among `rows` that an indexed region came from: the box that fits best, `rows[number]` where boxes tie.

    None where no box has IoU ≥ 0.5 with the indexed one.
    """
    if not len(rows):
        return None
    ious = box_iou(segmentation.boxes_xyxy[rows], np.array([box_xyxy], dtype=np.float32))[:, 0]
    best = int(ious.argmax())
    if number is not None and number < len(rows) and ious[number] >= ious[best] - 1e-3:
        best = number
    return int(rows[best]) if ious[best] >= SAME_REGION_IOU else None


def _read(read_image: ReadImage, hit: Hit) -> RGBImage | str | ImageError | StoreError:
    """The image of a hit as it was indexed, or why there is none."""
    try:
        etag, decode = read_image(hit.image)
        return decode() if etag == hit.etag else "changed since it was indexed"
    except (ImageError, StoreError) as error:
        return error


def _encoded(
    encoder: Encoder,
    batch: Sequence[Sequence[Hit]],
    read: Sequence[RGBImage | str],
    policies: Sequence[CropPolicy],
) -> EncodedHits:
    pixels = [image for image in read if not isinstance(image, str)]
    segmentations = iter(encoder.segmenter.segment(pixels) if pixels else [])
    left_out: list[tuple[Hit, str]] = []
    found: list[Hit] = []
    images: list[RGBImage] = []
    jobs: list[RegionJob] = []
    for hits, image in zip(batch, read, strict=True):
        if isinstance(image, str):
            left_out += [(hit, image) for hit in hits]
            continue
        job, of_job = _job(encoder, image, next(segmentations), hits)
        left_out += [(hit, "its region was not found again") for hit in hits if hit not in of_job]
        found += of_job
        images += [image] * len(of_job)
        jobs += [job] * bool(of_job)
    return EncodedHits(
        hits=tuple(found),
        images=tuple(images),
        mask_features=encoder.pool_masks(jobs) if jobs else _no_rows(encoder.segmenter.feature_dimension),
        image_features={
            policy: encoder.embed_regions(jobs, crops=policy) if jobs else _no_rows(encoder.embedder.dimension)
            for policy in policies
        },
        left_out=tuple(left_out),
    )


def _job(
    encoder: Encoder, image: RGBImage, segmentation: Segmentation, hits: Sequence[Hit]
) -> tuple[RegionJob, list[Hit]]:
    """The rows of one image's hits, and the hits that have one."""
    if hits[0].region is None:
        nothing = np.zeros(0, dtype=np.intp)
        return RegionJob.of_rows(image, segmentation, nothing, whole_image=True), [hits[0]]
    if has_given_regions(hits[0].metadata):  # which the index alone knows as they were
        places = np.argsort(np.argsort([-hit.score for hit in hits], kind="stable"))
        own = GivenSegmentation(segmentation, GivenRegions.of_hits(hits))
        return RegionJob.of_rows(image, own, places), list(hits)
    kept = encoder.policy.keep(segmentation)
    rows = [(hit, region_row(segmentation, hit.box_xyxy, kept, hit.region)) for hit in hits]
    located = [(hit, row) for hit, row in rows if row is not None]
    numbers = np.array([row for _, row in located], dtype=np.intp)
    return RegionJob.of_rows(image, segmentation, numbers), [hit for hit, _ in located]


def _no_rows(columns: int) -> FloatArray:
    return np.zeros((0, columns), dtype=np.float32)
