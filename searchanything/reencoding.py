"""Hits → pixels → float features again: what the codes in the index were once made of.

Codes cannot tell what hashing lost. `reencode` reads the hits' images, each once, and encodes the regions anew, a few
images at a time, so that the feature maps of many images never lie in memory together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchanything.codes import joined_features
from searchanything.crops import CropPolicy
from searchanything.encoding import Encoder, RegionJob
from searchanything.errors import ImageError, StoreError
from searchanything.geometry import box_iou
from searchanything.protocols import RegionIndex, Segmentation
from searchanything.types import BoxXYXY, FloatArray, Hit, ImageRef, RGBImage

ReadImage: TypeAlias = Callable[[ImageRef], tuple[str, RGBImage]]  # the object's etag as it is now, and its pixels

BATCH_IMAGES: Final = 8
READING_THREADS: Final = 8
SAME_REGION_IOU: Final = 0.5  # of the boxes; another machine's arithmetic moves a box by a pixel, not by half


@dataclass(frozen=True, slots=True, eq=False)
class SearchContext:
    """What a question about an answer needs: the index, the models that fit it, and the images behind it."""

    index: RegionIndex
    encoder: Encoder
    max_limit: int
    read_image: ReadImage


@dataclass(frozen=True, slots=True, eq=False)
class RegionFeatures:
    """f_M (N, C) and f_I (N, D) float32 of N regions, before the hash."""

    mask_features: FloatArray
    image_features: FloatArray

    @classmethod
    def of_job(cls, encoder: Encoder, job: RegionJob) -> Self:
        """The features of one image's regions, by the crops that the index is made with."""
        return cls(encoder.pool_masks([job]), encoder.embed_regions([job]))

    def cosines(self, one: RegionFeatures) -> FloatArray:
        """(N,) cosine of what the hash layer sees, [f_M / |f_M|, f_I / |f_I|], with that of a single region."""
        joined = joined_features(self.mask_features, self.image_features)
        return cosines(joined, joined_features(one.mask_features, one.image_features))


def cosines(rows: FloatArray, one: FloatArray) -> FloatArray:
    """(N,) cosine of each of (N, K) rows with a single (1, K); 0 where either is zero."""
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(one)
    products = rows @ one[0]
    return np.asarray(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A hit that could not be encoded again, and why."""

    hit: Hit
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class EncodedHits:
    """H hits of a few images, encoded anew, each image's in the order given.

    `images` holds each hit's image; `mask_features` (H, C); `image_features` (H, D) by crop policy.
    """

    hits: tuple[Hit, ...]
    images: tuple[RGBImage, ...]
    mask_features: FloatArray
    image_features: Mapping[CropPolicy, FloatArray]
    left_out: tuple[LeftOut, ...]

    def features(self) -> RegionFeatures:
        """As the index is made with them."""
        return RegionFeatures(self.mask_features, self.image_features[CropPolicy.PAPER])


def reencode(
    context: SearchContext, hits: Sequence[Hit], *, policies: Sequence[CropPolicy] = (CropPolicy.PAPER,)
) -> Iterator[EncodedHits]:
    """Encode the hits' regions (or whole images) again, in batches of images.

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
            read = list(pool.map(lambda group: _read(context.read_image, group[0]), batch))
            yield _encoded(context.encoder, batch, read, policies)


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


def _read(read_image: ReadImage, hit: Hit) -> RGBImage | str:
    """The image of a hit as it was indexed, or why there is none."""
    try:
        etag, pixels = read_image(hit.image)
    except (ImageError, StoreError) as error:
        return str(error)
    return pixels if etag == hit.etag else "changed since it was indexed"


def _encoded(
    encoder: Encoder,
    batch: Sequence[Sequence[Hit]],
    read: Sequence[RGBImage | str],
    policies: Sequence[CropPolicy],
) -> EncodedHits:
    pixels = [image for image in read if not isinstance(image, str)]
    segmentations = iter(encoder.segmenter.segment(pixels) if pixels else [])
    left_out: list[LeftOut] = []
    found: list[Hit] = []
    images: list[RGBImage] = []
    jobs: list[RegionJob] = []
    for hits, image in zip(batch, read, strict=True):
        if isinstance(image, str):
            left_out += [LeftOut(hit, image) for hit in hits]
            continue
        job, of_job = _job(encoder, image, next(segmentations), hits)
        left_out += [LeftOut(hit, "its region was not found again") for hit in hits if hit not in of_job]
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
    kept = encoder.policy.keep(segmentation)
    rows = [(hit, region_row(segmentation, hit.box_xyxy, kept, hit.region)) for hit in hits]
    located = [(hit, row) for hit, row in rows if row is not None]
    numbers = np.array([row for _, row in located], dtype=np.intp)
    return RegionJob.of_rows(image, segmentation, numbers), [hit for hit, _ in located]


def _no_rows(columns: int) -> FloatArray:
    return np.zeros((0, columns), dtype=np.float32)
