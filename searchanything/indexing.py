"""Bucket → index: read this first.

    listing ─► plan ─► read ─► decode ─► batch ─► encode ─► commit ─► report
              (what    └ transfer threads ┘      (models,   └ one writer thread
               is new)                            this thread)

Every arrow is a generator that works a bounded number of items ahead, so transfer, decoding and writing overlap with
the models and memory stays bounded. The commit is the design's decision 2: insert regions, ask the store whether the
object is still the one that was read, insert the image row. Whatever stops a run leaves only committed images visible.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, TypeVar

import cv2

from searchanything.codes import next_generation
from searchanything.commits import Attempt, Committed, Failed, commit_batch
from searchanything.decoding import claims_to_be_image, decode_image, image_size
from searchanything.encoding import EncodedImage, Encoder
from searchanything.errors import ImageError, ModelError, ObjectNotFoundError, StoreError, StoreUnavailableError
from searchanything.protocols import ImageStore, RegionIndex
from searchanything.types import (
    Failure,
    ImageRef,
    ImageRow,
    IndexProgress,
    IndexReport,
    Outcome,
    RGBImage,
    StoredObject,
)

logger = logging.getLogger(__name__)

PLAN_BATCH: Final = 256  # listed objects per question to the index
DECODED_BYTES: Final = 2**30  # of images being decoded or waiting for the models; a larger one still passes alone
DECODING_BYTES_PER_PIXEL: Final = 8  # decoders' peak: JPEG and PNG 7, AVIF 9, WebP 16
ROUNDS: Final = 3  # tries at an object that keeps changing while it is indexed

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True, slots=True)
class IndexingOptions:
    """How much is done at once. `force` indexes unchanged objects again."""

    batch_images: int = 16
    transfer_threads: int = 8
    max_pixels: int = 100_000_000
    force: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class IndexingJob:
    """Where images come from, what encodes them, and where their rows go."""

    store: ImageStore
    encoder: Encoder
    index: RegionIndex
    options: IndexingOptions = IndexingOptions()


def index_images(
    job: IndexingJob,
    objects: Iterable[StoredObject],
    *,
    total: int | None = None,
    progress: Callable[[IndexProgress], None] | None = None,
) -> IndexReport:
    """Bring the index up to date with these objects. One bad image never stops the run.

    Unchanged objects (same etag and metadata, indexed or empty before) are passed over; known failures are tried again;
    objects that vanish meanwhile leave the index.

    Raises: StoreUnavailableError, RegionIndexError; what was committed until then stays. StoreError where the listing
    breaks, after everything that it gave is indexed.
    """
    tally = _Tally(total, progress)
    broken: list[StoreError] = []
    waiting: Iterable[StoredObject] = _until_broken(objects, broken)
    for _ in range(ROUNDS):
        changed = _index_round(job, waiting, tally)
        waiting = _looked_up(job, changed, tally)
        if not waiting:
            break
        logger.info("%d objects changed while they were indexed; looking at them again", len(waiting))
    tally.add_failures(
        Failure(one.ref.key, "ObjectChangedError", f"changed during each of {ROUNDS} attempts") for one in waiting
    )
    if broken:
        raise broken[0]
    return tally.report()


def _until_broken(objects: Iterable[StoredObject], broken: list[StoreError]) -> Iterator[StoredObject]:
    """The objects of a listing; an error that ends it is put into `broken`, so that the objects before it count."""
    try:
        yield from objects
    except StoreError as error:
        broken.append(error)


def _looked_up(job: IndexingJob, images: Iterable[ImageRef], tally: _Tally) -> list[StoredObject]:
    """These images' objects as they are now. What is gone leaves the index, what is refused has failed."""
    found = []
    for image in images:
        try:
            stored = job.store.stat(image.key)
        except StoreUnavailableError:
            raise
        except StoreError as error:
            tally.add_failures([Failure(image.key, type(error).__name__, str(error))])
            continue
        if stored is None:
            job.index.delete_before({image: next_generation()})
        else:
            found.append(stored)
    return found


def _index_round(job: IndexingJob, objects: Iterable[StoredObject], tally: _Tally) -> list[ImageRef]:
    """One pass over objects; returns the images whose object changed between reading and commit."""
    options = job.options
    changed: list[ImageRef] = []
    with ExitStack() as stack:
        transfer = stack.enter_context(ThreadPoolExecutor(options.transfer_threads, thread_name_prefix="transfer"))
        writer = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="commit"))
        ahead = 2 * max(options.batch_images, options.transfer_threads)
        planned = _planned(job, objects, transfer, tally)
        read = map_ahead(transfer, lambda one: _read(job.store, one, options), planned, most=ahead)
        decoded = map_ahead(transfer, _decode, read, most=ahead, cost=_decoded_bytes, budget=DECODED_BYTES)
        encoded = (_encode(job.encoder, batch) for batch in _batches(decoded, options.batch_images))
        committed = map_ahead(
            writer, lambda batch: commit_batch(job.index, job.store, batch, transfer), encoded, most=2
        )
        for stage in (read, decoded, encoded, committed):
            stack.callback(stage.close)  # before the pools end: what has not begun is cancelled
        for batch in committed:
            tally.add(batch)
            changed.extend(batch.changed)
    return changed


def _planned(
    job: IndexingJob, objects: Iterable[StoredObject], pool: ThreadPoolExecutor, tally: _Tally
) -> Iterator[Attempt]:
    """Attempts at the images among `objects` that the index does not have as they are."""
    remaining = iter(objects)
    while listed := list(islice(remaining, PLAN_BATCH)):
        typed = pool.map(lambda one: _with_type(job.store, one), listed)
        images = [one for one in typed if claims_to_be_image(one.ref.key, one.content_type)]
        tally.skip(len(listed) - len(images))
        known = job.index.newest([one.ref for one in images])
        for one in images:
            previous = known.get(one.ref)
            if not job.options.force and previous is not None and _unchanged(job.store, one, previous):
                tally.pass_over(one.ref.key)
            else:
                generation = next_generation(after=previous.generation if previous else 0)
                yield Attempt(stored=one, generation=generation, previous=previous)


def _with_type(store: ImageStore, listed: StoredObject) -> StoredObject:
    """The object with its content type where nothing else tells what it is: listings of S3 leave the type out."""
    if listed.content_type is not None or "." in listed.ref.key.rpartition("/")[2]:
        return listed
    try:
        found = store.stat(listed.ref.key)
    except StoreUnavailableError:
        raise
    except StoreError:
        return listed
    return listed if found is None else replace(listed, content_type=found.content_type)


def _unchanged(store: ImageStore, listed: StoredObject, previous: ImageRow) -> bool:
    """Same content and metadata as the row's, with a good outcome. Asks the store only if the object may be touched."""
    if previous.outcome is Outcome.FAILED or previous.etag != listed.etag:
        return False
    if listed.modified_at_ms == previous.modified_at_ms != 0:
        return True
    try:
        found = store.stat(listed.ref.key)
    except StoreUnavailableError:
        raise
    except StoreError:
        return False  # reading it will tell why
    return found is not None and found.etag == previous.etag and dict(found.metadata) == dict(previous.metadata)


def _read(store: ImageStore, attempt: Attempt, options: IndexingOptions) -> Attempt:
    """The attempt with the object's bytes and their size as an image, or with what went wrong."""
    key = attempt.stored.ref.key
    try:
        found, data = store.read(key)
    except StoreUnavailableError:
        raise
    except ObjectNotFoundError:
        return replace(attempt, vanished=True)
    except (ImageError, StoreError) as error:
        return replace(attempt, failed=Failed.of(error))
    attempt = replace(attempt, stored=found)
    try:
        height, width = image_size(data, name=key, max_pixels=options.max_pixels)
    except ImageError as error:
        return replace(attempt, failed=Failed.of(error))
    return replace(attempt, data=data, height=height, width=width)


def _decode(attempt: Attempt) -> tuple[Attempt, RGBImage | None]:
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


def _batches(
    decoded: Iterable[tuple[Attempt, RGBImage | None]], size: int
) -> Iterator[list[tuple[Attempt, RGBImage | None]]]:
    """Batches of up to `size` attempts and DECODED_BYTES of pixels."""
    batch: list[tuple[Attempt, RGBImage | None]] = []
    held = 0
    for attempt, image in decoded:
        held += 0 if image is None else image.nbytes
        batch.append((attempt, image))
        if len(batch) >= size or held >= DECODED_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _encode(
    encoder: Encoder, batch: Sequence[tuple[Attempt, RGBImage | None]]
) -> list[tuple[Attempt, EncodedImage | None]]:
    """Encode the images of a batch. If that fails, the batch is halved until the image that fails it stands alone."""
    images = [image for _, image in batch if image is not None]
    try:
        encoded = iter(encoder.encode_images(images) if images else [])
    except (RuntimeError, ValueError, MemoryError, ModelError, cv2.error) as error:  # torch raises RuntimeErrors
        if len(batch) == 1:
            logger.exception("%s cannot be encoded", batch[0][0].stored.ref)
            return [(replace(batch[0][0], failed=Failed.of(error)), None)]
        middle = len(batch) // 2
        return _encode(encoder, batch[:middle]) + _encode(encoder, batch[middle:])
    return [(attempt, None if image is None else next(encoded)) for attempt, image in batch]


def map_ahead(
    pool: ThreadPoolExecutor,
    function: Callable[[_In], _Out],
    items: Iterable[_In],
    *,
    most: int,
    cost: Callable[[_In], int] = lambda _: 0,
    budget: int = 0,
) -> Generator[_Out, None, None]:
    """Results of `function` in order, up to `most` items of at most `budget` total cost being worked on ahead.

    An item that costs more than the budget waits until it is alone. Closing the generator cancels what has not begun.
    """
    waiting: deque[tuple[Future[_Out], int]] = deque()
    held = 0
    try:
        for item in items:
            price = cost(item)
            while waiting and (len(waiting) >= most or held + price > budget > 0):
                future, paid = waiting.popleft()
                held -= paid
                yield future.result()
            waiting.append((pool.submit(function, item), price))
            held += price
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        for future, _ in waiting:
            future.cancel()


class _Tally:
    """Counts what happened, for the report and the progress."""

    def __init__(self, total: int | None, progress: Callable[[IndexProgress], None] | None) -> None:
        self._report = IndexReport()
        self._failures: list[Failure] = []
        self._total = total
        self._progress = progress
        self._start = time.perf_counter()

    def skip(self, objects: int) -> None:
        """Objects that do not claim to be images."""
        self._report = replace(self._report, skipped=self._report.skipped + objects)

    def pass_over(self, key: str) -> None:
        """An unchanged image."""
        self._report = replace(self._report, unchanged=self._report.unchanged + 1)
        self._tell(key)

    def add(self, batch: Committed) -> None:
        """A committed batch."""
        rows = batch.rows
        outcomes = [row.outcome for row in rows]
        self._report = replace(
            self._report,
            indexed=self._report.indexed + outcomes.count(Outcome.INDEXED),
            empty=self._report.empty + outcomes.count(Outcome.EMPTY),
            regions=self._report.regions + sum(row.regions for row in rows),
        )
        failed = [row for row in rows if row.outcome is Outcome.FAILED]
        self.add_failures(Failure(row.image.key, row.error, row.message) for row in failed)
        if rows:
            self._tell(rows[-1].image.key)

    def add_failures(self, failures: Iterable[Failure]) -> None:
        """Images that failed."""
        self._failures.extend(failures)

    def report(self) -> IndexReport:
        """The counts so far."""
        return replace(
            self._report,
            failed=len(self._failures),
            failures=tuple(self._failures),
            seconds=time.perf_counter() - self._start,
        )

    def _tell(self, key: str) -> None:
        if self._progress is not None:
            now = self._report
            failed = len(self._failures)
            done = now.indexed + now.unchanged + now.empty + failed
            self._progress(IndexProgress(done, self._total, now.indexed, failed, key))
