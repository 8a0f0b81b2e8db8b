"""Bucket → index: read this first.

    listing ─► plan ─► read ─► decode ─► batch ─► encode ─► commit ─► report
              (what    └ transfer threads ┘      (`overlap`) └ one writer thread
               is new)

Every arrow is a generator that works a bounded number of items ahead, so transfer, decoding and writing overlap with
the models and memory stays bounded. The commit is the design's decision 2: insert regions, ask the store whether the
object is still the one that was read, insert the image row. Whatever stops a run leaves only committed images visible.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from searchanything.core.counting import counted
from searchanything.core.digests import KnownImages
from searchanything.core.errors import ImageError, ObjectNotFoundError, StoreError, StoreUnavailableError
from searchanything.core.freed_memory import release_freed_memory
from searchanything.core.libraries import LazyModule
from searchanything.core.omissions import Omissions
from searchanything.core.patience import PatientThreads
from searchanything.core.protocols import ImageStore
from searchanything.core.types import ImageRef, RGBImage, StoredObject
from searchanything.encode.canary import check_models, encoding_errors
from searchanything.encode.encoder import EncodedImage, Encoder, Stopwatch
from searchanything.images.decoding import decode_image, image_size
from searchanything.images.given_regions import with_given_regions
from searchanything.ingest.ahead import map_ahead
from searchanything.ingest.commit import Attempt, Committed, Failed, commit_batch
from searchanything.ingest.counters import Counters
from searchanything.ingest.forget import FORGOTTEN_AT_ONCE
from searchanything.ingest.overlap import Overlap
from searchanything.ingest.plan import IndexingJob, IndexingOptions, plan_keys, plan_listed
from searchanything.ingest.reports import IndexReport, OnProgress

if TYPE_CHECKING:
    import cv2
else:
    cv2 = LazyModule("cv2")

logger = logging.getLogger(__name__)

DECODED_BYTES: Final = 2**30  # of images being decoded or waiting for the models; a larger one still passes alone
DECODING_BYTES_PER_PIXEL: Final = 8  # decoders' peak: JPEG and PNG 7, AVIF 9, WebP 16
ROUNDS: Final = 3  # tries at an object that keeps changing while it is indexed

_Decoded: TypeAlias = tuple[Attempt, RGBImage | None]


def index_images(
    job: IndexingJob,
    objects: Iterable[StoredObject],
    *,
    total: int | None = None,
    progress: OnProgress | None = None,
    omissions: Omissions | None = None,
    seen: KnownImages | None = None,
) -> IndexReport:
    """Bring the index up to date with these objects. One bad image never stops the run.

    Unchanged objects (same etag and metadata, indexed or empty before) are skipped; known failures are tried again;
    of objects that vanish meanwhile `job.may_forget` says whether they leave the index. `omissions` are those of the
    listing, and belong into the report. `seen` is what the index held of the source when the run began: what is still
    so need not be asked for.

    Raises: StoreUnavailableError, RegionIndexError, DeviceError; what was committed until then stays. StoreError where
    the listing breaks, after everything that it gave is indexed.
    """
    counters = Counters(total, progress)
    broken: list[StoreError] = []
    _index_rounds(job, partial(plan_listed, job, _until_broken(objects, broken), counters, seen=seen), counters)
    if broken:
        raise broken[0]
    if omissions is not None:
        counters.add_omissions(omissions)
    return counters.report()


def nothing_listed(omissions: Omissions) -> IndexReport:
    """The report of a listing that gave no object: what it left out, and the places that it could not look into."""
    counters = Counters()
    counters.add_omissions(omissions)
    return counters.report()


def refresh_images(job: IndexingJob, keys: Iterable[str], *, progress: OnProgress | None = None) -> IndexReport:
    """Bring the rows of these keys up to date with their objects as they are now, whatever was said of them.

    Present and wanted: indexed, unless the index has it as it is. Excluded or no image: its rows are deleted; absent:
    too, where `job.may_forget` lets them go. Failing: recorded, until it has failed `max_attempts` times with the same
    content. Nothing is listed to find work; doing it twice, late or in another order ends the same.

    Raises: StoreUnavailableError, RegionIndexError, DeviceError; calling it again is always right.
    """
    counters = Counters(None, progress)
    _index_rounds(job, partial(plan_keys, job, keys, counters), counters)
    return counters.report()


def forgetting_images(job: IndexingJob) -> Callable[..., IndexReport]:
    """`refresh_images` of a job for keys that are expected to be gone: so many are looked at and deleted together."""
    return partial(refresh_images, replace(job, keys_at_once=FORGOTTEN_AT_ONCE))


def _index_rounds(job: IndexingJob, plan: Callable[[Executor], Iterator[Attempt]], counters: Counters) -> None:
    """Carry out a plan, and look again at the objects that changed meanwhile, a few times."""
    for _ in range(ROUNDS):
        changed = _index_round(job, plan, counters)
        if not changed:
            return
        logger.info("%s changed during indexing", counted(len(changed), "object"))
        plan = partial(plan_keys, job, [image.key for image in changed], counters)
    counters.add_changing(changed, tries=ROUNDS)


def _until_broken(objects: Iterable[StoredObject], broken: list[StoreError]) -> Iterator[StoredObject]:
    """The objects of a listing; an error that ends it is put into `broken`, so that the objects before it count."""
    try:
        yield from objects
    except StoreError as error:
        broken.append(error)


def _index_round(job: IndexingJob, plan: Callable[[Executor], Iterator[Attempt]], counters: Counters) -> list[ImageRef]:
    """One pass over a plan; returns the images whose object changed between reading and commit."""
    options, timed = job.options, counters.watch.timed
    reading, decoding, committing = timed("read", _read), timed("decode", _decode), timed("commit", _commit)
    changed: list[ImageRef] = []
    overlap = Overlap(
        job.open_encoder,
        image_of=lambda one: one[1],
        alone=lambda batch: _encode_parts(job.open_encoder(), batch, counters.watch),
        watch=counters.watch,
        given_of=lambda one: one[0].given,
    )
    with ExitStack() as stack:
        transfer = stack.enter_context(PatientThreads(options.transfer_threads, thread_name_prefix="transfer"))
        writer = stack.enter_context(PatientThreads(1, thread_name_prefix="commit"))
        ahead = 2 * max(options.batch_images, options.transfer_threads)
        read = map_ahead(transfer, lambda one: reading(job.store, one, options), plan(transfer), most=ahead)
        decoded = map_ahead(transfer, decoding, read, most=ahead, cost=_decoded_bytes, budget=DECODED_BYTES)
        encoded = overlap.run(_batches(decoded, options.batch_images))
        drawn = (_drawn(job, batch, counters.watch) for batch in encoded)
        committed = map_ahead(writer, lambda batch: committing(job, batch, transfer), drawn, most=2)
        for stage in (read, decoded, encoded, drawn, committed):
            stack.callback(stage.close)  # before the pools end: what has not begun is cancelled
        for batch in committed:
            counters.add(batch)
            changed.extend(batch.changed)
            release_freed_memory()
    return changed


def _read(store: ImageStore, attempt: Attempt, options: IndexingOptions) -> Attempt:
    """The attempt with the object's bytes, their size as an image and its given regions, or with what went wrong."""
    key = attempt.stored.ref.key
    if attempt.failed is not None:
        return attempt
    try:
        found, data = store.read(key)
    except StoreUnavailableError:
        raise
    except ObjectNotFoundError:
        return replace(attempt, vanished=True)
    except (ImageError, StoreError) as error:
        return replace(attempt, failed=Failed.of(error))
    attempt = replace(attempt, stored=replace(found, regions=None))
    try:
        height, width = image_size(data, name=key, max_pixels=options.max_pixels)
    except ImageError as error:
        return replace(attempt, failed=Failed.of(error))
    stored, given = with_given_regions(found, (height, width))
    return replace(attempt, stored=stored, given=given, data=data, height=height, width=width)


def _decode(attempt: Attempt) -> _Decoded:
    """The decoded image of an attempt that has bytes."""
    if attempt.data is None:
        return attempt, None
    try:
        limit = attempt.height * attempt.width
        image = decode_image(attempt.data, name=attempt.stored.ref.key, max_pixels=limit)
    except ImageError as error:
        return replace(attempt, data=None, failed=Failed.of(error)), None
    return replace(attempt, data=None), image


def _decoded_bytes(attempt: Attempt) -> int:
    return attempt.height * attempt.width * DECODING_BYTES_PER_PIXEL if attempt.data is not None else 0


def _batches(decoded: Iterable[_Decoded], size: int) -> Iterator[list[_Decoded]]:
    """Batches of up to `size` attempts and DECODED_BYTES of pixels."""
    batch: list[_Decoded] = []
    held = 0
    for attempt, image in decoded:
        held += 0 if image is None else image.nbytes
        batch.append((attempt, image))
        if len(batch) >= size or held >= DECODED_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _drawn(
    job: IndexingJob, batch: Sequence[tuple[_Decoded, EncodedImage | None]], watch: Stopwatch
) -> list[tuple[Attempt, EncodedImage | None]]:
    """An encoded batch with what the contact sheet wants of it: later, the pixels are gone."""
    if job.sheet is None:
        return [(attempt, found) for (attempt, _), found in batch]
    drawn: list[tuple[Attempt, EncodedImage | None]] = []
    with watch.stage("draw"):
        for (attempt, image), found in batch:
            tile = job.sheet.draw(attempt.stored.ref.key, image, found.masks) if found and image is not None else None
            drawn.append((replace(attempt, tile=tile), found))
    return drawn


def _commit(job: IndexingJob, batch: Sequence[tuple[Attempt, EncodedImage | None]], pool: Executor) -> Committed:
    """Commit a batch; tiles of contact sheets come and go after their rows."""
    committed = commit_batch(job.index, job.store, batch, pool, job.keeper, may_forget=job.may_forget)
    if job.sheet is not None:
        job.sheet.delete_before(committed.outdated, pool)
        generations = {row.image: row.generation for row in committed.rows}
        job.sheet.keep(
            job.index,
            {
                attempt.stored.ref: (attempt.generation, attempt.tile)
                for attempt, _ in batch
                if attempt.tile is not None and generations.get(attempt.stored.ref) == attempt.generation
            },
        )
    return committed


def _encode_parts(
    encoder: Encoder, batch: Sequence[_Decoded], watch: Stopwatch
) -> list[tuple[_Decoded, EncodedImage | None]]:
    """Encode a batch that failed as a whole. It is halved until the image that fails it stands alone.

    So a batch that is too large for the device's memory is halved as well. Raises: DeviceError where a known image
    fails like the one that stands alone: then it is no image's fault, and none is recorded as failed.
    """
    if len(batch) > 1:
        middle = len(batch) // 2
        return _encode_alone(encoder, batch[:middle], watch) + _encode_alone(encoder, batch[middle:], watch)
    return _encode_alone(encoder, batch, watch)


def _encode_alone(
    encoder: Encoder, batch: Sequence[_Decoded], watch: Stopwatch
) -> list[tuple[_Decoded, EncodedImage | None]]:
    images = [image for _, image in batch if image is not None]
    given = [attempt.given for attempt, image in batch if image is not None]
    try:
        encoded = iter(encoder.encode_images(images, watch, given=given) if images else [])
    except encoding_errors() as error:
        if len(batch) == 1:
            check_models(encoder)
            (attempt, _), *_ = batch
            logger.exception("%s cannot be encoded", attempt.stored.ref)
            return [((replace(attempt, failed=Failed.of(error)), None), None)]
        return _encode_parts(encoder, batch, watch)
    return [(one, None if one[1] is None else next(encoded)) for one in batch]
