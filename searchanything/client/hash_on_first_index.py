"""A hash layer trained on a sample of the source, before anything is indexed.

    listing ─► sample ─► the very pipeline that `index` is, into nothing ─► features ─► training ─► layer

The sample is drawn by a digest of the keys, so it does not depend on the order of a listing: the same objects and seed
give the same sample, and on one machine the same layer. It is announced in the log, as a warning: it takes time, and
codes of other indexes will not fit.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from typing import Final

import numpy as np

from searchanything.core.errors import UniformFeaturesError
from searchanything.core.omissions import Omissions
from searchanything.core.protocols import ImageFeatures
from searchanything.core.settings import ModelSettings
from searchanything.core.types import FloatArray, ImageRef, StoredObject
from searchanything.features.parquet import FeatureBatch
from searchanything.hash_training.training import TrainingOptions, TrainingProgress, train_hash
from searchanything.hash_training.words_training import train_words
from searchanything.ingest.pipeline import index_images
from searchanything.ingest.plan import IndexingJob
from searchanything.ingest.reports import IndexProgress, OnProgress
from searchanything.models.hashing import HashLayer
from searchanything.models.words_layer import WordsLayer

logger = logging.getLogger(__name__)

SAMPLING: Final = "sampling"
TRAINING: Final = "training the hash"


@dataclass(frozen=True, slots=True)
class LearningOptions:
    """How large a sample is drawn, and from how many regions on it is enough. No `images`: nothing is trained."""

    images: int
    least_regions: int
    compute: ModelSettings
    seed: int = 0


@dataclass(slots=True)
class _Collector:
    """A `FeatureKeeper` that keeps them in memory."""

    batches: list[FeatureBatch] = field(default_factory=list)

    @property
    def regions(self) -> int:
        return sum(len(batch.mask) for batch in self.batches)

    def keep(self, images: Sequence[ImageFeatures]) -> None:
        self.batches += [FeatureBatch(one.mask_features[:-1], one.image_features[:-1]) for one in images]

    def add_tombstones(self, generations: Mapping[ImageRef, int]) -> None:
        """What vanished meanwhile was there when it was drawn."""


def learn_hash(job: IndexingJob, options: LearningOptions, *, progress: OnProgress | None = None) -> HashLayer | None:
    """Train a layer of as many bits as the job's untrained one; None where the source is too small for it.

    The job's index is a scratch one: it is filled. Images of the sample that fail are left out.

    Raises: as `index_images`.
    """
    if options.images == 0:
        logger.warning("the hash stays untrained: ingest.hash_sample_images is 0")
        return None
    chosen = _sample(job, options)
    most = len(chosen) * job.open_encoder().policy.count
    if most < options.least_regions:
        _decline(f"at most {most} regions of {len(chosen)} images", options)
        return None
    logger.warning(
        "the preset's hash is untrained: one is trained first, on %d images of the source (--hash untrained: none)",
        len(chosen),
    )
    collector = _collected(job, chosen, progress)
    if collector.regions < options.least_regions:
        _decline(f"{collector.regions} regions of {len(chosen)} images", options)
        return None
    stated = {
        "created_by": "searchanything index",
        "sample_images": str(len(chosen)),
        "feature_fingerprint": job.index.manifest.feature_fingerprint,
    }
    training = TrainingOptions(bits=job.open_encoder().hasher.bits, seed=options.seed, compute=options.compute)
    try:
        trained = train_hash(
            collector.batches, options=training, provenance=stated, progress=partial(_pass_on, progress)
        )
    except UniformFeaturesError as error:
        logger.warning("the hash stays untrained: %s", error)
        return None
    logger.info("hash trained on %d regions of %d images", trained.rows, len(chosen))
    return trained.layer


def learn_words(
    job: IndexingJob, options: LearningOptions, kept: FloatArray | None, *, progress: OnProgress | None = None
) -> WordsLayer:
    """A words layer fitted to f_I (n, D) of regions whose features are kept, or to a sample of the source.

    It is announced in the log. The job's index is a scratch one: it is filled. Raises: as `index_images`.
    """
    if kept is not None:
        logger.warning(
            "words codes are new to the index: their layer is fitted to %d regions' kept features", len(kept)
        )
        return train_words(kept, job.open_encoder().everyday_words(), seed=options.seed)
    chosen = _sample(job, options)
    logger.warning("words codes are new to the index: their layer is fitted to %d images of the source", len(chosen))
    collector = _collected(job, chosen, progress)
    nothing = np.zeros((0, job.open_encoder().embedder.dimension), dtype=np.float32)
    regions = np.concatenate([nothing, *(batch.image for batch in collector.batches)])
    return train_words(regions, job.open_encoder().everyday_words(), seed=options.seed)


def _collected(job: IndexingJob, chosen: Sequence[StoredObject], progress: OnProgress | None) -> _Collector:
    """The features of the chosen images; those that fail are left out."""
    collector = _Collector()
    sampling = None if progress is None else _staged(progress)
    index_images(replace(job, keeper=collector), chosen, total=len(chosen), progress=sampling)
    return collector


def _sample(job: IndexingJob, options: LearningOptions) -> list[StoredObject]:
    """The images of the source whose keys have the smallest digests."""

    def digest(one: StoredObject) -> bytes:
        return blake2b(one.ref.key.encode("utf-8", "surrogatepass"), key=b"%d" % options.seed, digest_size=8).digest()

    return heapq.nsmallest(options.images, _candidates(job), key=digest)


def _candidates(job: IndexingJob) -> Iterator[StoredObject]:
    for one in job.store.list(job.scope.prefix, Omissions()):
        if job.scope.may_be_image(one.ref.key):
            yield one


def _decline(found: str, options: LearningOptions) -> None:
    logger.warning(
        "the hash stays untrained: a sample of the source has %s, and training takes %d or more "
        "(ingest.hash_least_regions); index into an empty index again when there are more images",
        found,
        options.least_regions,
    )


def _staged(progress: OnProgress) -> OnProgress:
    return lambda step: progress(replace(step, stage=SAMPLING))


def _pass_on(progress: OnProgress | None, step: TrainingProgress) -> None:
    """Training's steps; reading and judging pass in a moment."""
    if progress is not None and step.stage == "training":
        progress(IndexProgress(step.done, step.total, 0, 0, "", stage=TRAINING))
