"""A hash layer trained on a sample of the images, before anything is indexed.

    listing, or another index ─► sample ─► the pipeline of `index`, into nothing ─► features ─► training ─► layer

The sample is drawn by a digest of the keys, so it does not depend on the order of a listing: the same objects and seed
give the same sample, and on one machine the same layer. It is announced in the log, as a warning: it takes time, and
codes of other indexes will not fit.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal, Self, TypeAlias

import numpy as np

from searchanything.core.errors import UniformFeaturesError
from searchanything.core.omissions import Omissions
from searchanything.core.protocols import ImageFeatures, RegionIndex
from searchanything.core.settings import ModelSettings, Settings
from searchanything.core.types import FloatArray, ImageRef, StoredObject
from searchanything.encode.encoder import Encoder
from searchanything.features.parquet import FeatureBatch
from searchanything.hash_training.training import TrainingOptions, TrainingProgress, train_hash
from searchanything.hash_training.words_training import train_words
from searchanything.ingest.pipeline import index_images
from searchanything.ingest.plan import IndexingJob
from searchanything.ingest.progress import so_far, within
from searchanything.ingest.reports import IndexProgress, OnProgress
from searchanything.models.hashing import HashLayer
from searchanything.models.words_layer import WordsLayer
from searchanything.wiring import HashChoice

logger = logging.getLogger(__name__)

UNTRAINED: Final[Literal["untrained"]] = "untrained"  # as `hash_file`
SAMPLING: Final = "sampling"
TRAINING: Final = "training the hash"
WORDS_TRAINING: Final = "training the words layer"
Sample: TypeAlias = list[tuple[IndexingJob, list[StoredObject]]]  # what is done with which images


@dataclass(frozen=True, slots=True)
class LearningOptions:
    """How large a sample is drawn, and from how many regions on it is enough. No `images`: nothing is trained.

    It is drawn from the source that is indexed or, for other models, from the index.
    """

    images: int
    least_regions: int
    compute: ModelSettings
    drawn_from: Literal["source", "index"] = "source"
    seed: int = 0

    @classmethod
    def of(cls, settings: Settings, *, drawn_from: Literal["source", "index"] = "source") -> Self:
        """What the settings say."""
        ingest = settings.ingest
        return cls(ingest.hash_sample_images, ingest.hash_least_regions, settings.models, drawn_from)


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


def chosen_hash(hash_file: str | Path | None) -> HashChoice:
    """What a `hash_file` names: a layer's file, none that is trained, or what belongs to the preset."""
    if hash_file == UNTRAINED:
        return UNTRAINED
    return Path(hash_file) if hash_file else None


def sample_of_source(job: IndexingJob, options: LearningOptions) -> Sample:
    """Images of the job's source, as it is listed."""
    return [(job, _drawn(_candidates(job), options))]


def sample_of_index(index: RegionIndex, open_job: Callable[[str], IndexingJob], options: LearningOptions) -> Sample:
    """Images that an index has, in all its buckets; `open_job` gives the work on one of these."""
    findable = (one for one in index.iterate_states() if one.is_findable)
    chosen = _drawn((StoredObject(one.image, one.etag, 0) for one in findable), options)
    buckets = sorted({one.ref.bucket for one in chosen})
    return [(open_job(bucket), [one for one in chosen if one.ref.bucket == bucket]) for bucket in buckets]


def learn_hash(sample: Sample, options: LearningOptions, *, progress: OnProgress | None) -> HashLayer | None:
    """Train a layer of as many bits as the jobs' untrained one; None where the sample is too small for it.

    The jobs have an encoder in common, and scratch indexes, which are filled. Images of the sample that fail are left
    out.

    Raises: as `index_images`.
    """
    if options.images == 0:
        logger.warning("the hash stays untrained: ingest.hash_sample_images is 0")
        return None
    encoder, images = sample[0][0].open_encoder(), _size(sample)
    most = images * encoder.policy.count
    if most < options.least_regions:
        _decline(f"at most {most} regions of {images} images", options)
        return None
    logger.warning(
        "the preset's hash is untrained: one is trained first, on %d images of the %s (--hash untrained: none)",
        *(images, options.drawn_from),
    )
    collector = _collected(sample, progress)
    if collector.regions < options.least_regions:
        _decline(f"{collector.regions} regions of {images} images", options)
        return None
    stated = {
        "created_by": "searchanything index" if options.drawn_from == "source" else "searchanything models apply",
        "sample_images": str(images),
        "feature_fingerprint": sample[0][0].index.manifest.feature_fingerprint,
    }
    training = TrainingOptions(bits=encoder.hasher.bits, seed=options.seed, compute=options.compute)
    try:
        trained = train_hash(
            collector.batches, options=training, provenance=stated, progress=partial(_pass_on, progress)
        )
    except UniformFeaturesError as error:
        logger.warning("the hash stays untrained: %s", error)
        return None
    logger.info("hash trained on %d regions of %d images", trained.rows, images)
    return trained.layer


def learn_words(
    sample: Callable[[], Sample],
    encoder: Encoder,
    options: LearningOptions,
    kept: FloatArray | None = None,
    *,
    progress: OnProgress | None,
) -> WordsLayer:
    """A words layer fitted to f_I (n, D) of regions whose features are kept; where there are none, to a sample.

    It is announced in the log. The jobs' indexes are scratch ones: they are filled. Raises: as `index_images`.
    """
    if kept is not None:
        logger.warning(
            "words codes are new to the index: their layer is fitted to %d regions' kept features", len(kept)
        )
        return _words_layer(kept, encoder, options, progress)
    drawn = sample()
    said = "words codes are new to the index" if options.drawn_from == "source" else "words codes are made anew"
    logger.warning("%s: their layer is fitted to %d images of the %s", said, _size(drawn), options.drawn_from)
    collector = _collected(drawn, progress)
    nothing = np.zeros((0, encoder.embedder.dimension), dtype=np.float32)
    regions = np.concatenate([nothing, *(batch.image for batch in collector.batches)])
    return _words_layer(regions, encoder, options, progress)


def _words_layer(
    regions: FloatArray, encoder: Encoder, options: LearningOptions, progress: OnProgress | None
) -> WordsLayer:
    if progress is not None:  # of thousands of regions it takes minutes
        progress(IndexProgress(0, None, 0, 0, "", stage=WORDS_TRAINING))
    return train_words(regions, encoder.everyday_words(), seed=options.seed)


def _collected(sample: Sample, progress: OnProgress | None) -> _Collector:
    """The features of a sample's images; those that fail are left out."""
    collector, total = _Collector(), _size(sample)
    before = IndexProgress(0, total, 0, 0, "", stage=SAMPLING)
    if progress is not None:
        progress(before)
    for job, chosen in sample:
        show = None if progress is None else within(_staged(progress), before)
        report = index_images(replace(job, keeper=collector), chosen, total=len(chosen), progress=show)
        before = so_far(before, report)
    return collector


def _size(sample: Sample) -> int:
    return sum(len(chosen) for _, chosen in sample)


def _drawn(candidates: Iterable[StoredObject], options: LearningOptions) -> list[StoredObject]:
    """The images whose keys have the smallest digests."""

    def digest(one: StoredObject) -> bytes:
        return blake2b(one.ref.key.encode("utf-8", "surrogatepass"), key=b"%d" % options.seed, digest_size=8).digest()

    return heapq.nsmallest(options.images, candidates, key=digest)


def _candidates(job: IndexingJob) -> Iterator[StoredObject]:
    for one in job.store.list(job.scope.prefix, Omissions()):
        if job.scope.may_be_image(one.ref.key):
            yield one


def _decline(found: str, options: LearningOptions) -> None:
    later = "index into an empty index again"
    if options.drawn_from == "index":
        later = "searchanything hash train makes one of kept features (ingest.keep_features), and hash apply gives it"
    logger.warning(
        "the hash stays untrained: a sample of the %s has %s, and training takes %d or more "
        "(ingest.hash_least_regions); %s when there are more images",
        *(options.drawn_from, found, options.least_regions, later),
    )


def _staged(progress: OnProgress) -> OnProgress:
    return lambda step: progress(replace(step, stage=SAMPLING))


def _pass_on(progress: OnProgress | None, step: TrainingProgress) -> None:
    """Training's steps; reading and judging pass in a moment."""
    if progress is not None and step.stage == "training":
        progress(IndexProgress(step.done, step.total, 0, 0, "", stage=TRAINING))
