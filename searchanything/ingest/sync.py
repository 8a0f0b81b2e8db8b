"""Listing against index: what differs, and how that is repaired (design decision 4).

    index's image rows ─► 38 bytes each ─┐
                                         ├─► suspects ─► looked at exactly ─► missing, stale, failed
    listing, in whatever order ──────────┘
    rows that the listing never named ───────────────────────────────────────► orphaned

Only suspects cost a question to the index or the store. A repair hands the keys, in waves, to the same `refresh` that
events use: it looks at each object again, so what changed since the listing does no harm. Rows that belong to nobody
(see `collecting.py`) are deleted last.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from searchanything.core.batching import batches
from searchanything.core.digests import SIDECAR, KnownImages
from searchanything.core.protocols import ImageStore, RegionIndex
from searchanything.core.types import ImageRef, ImageRow, Omissions, Outcome, StoredObject
from searchanything.images.decoding import claims_to_be_image, may_be_image
from searchanything.images.incoming import incoming
from searchanything.images.scopes import Scope
from searchanything.ingest.garbage import GARBAGE_AGE_S, collect_garbage
from searchanything.ingest.plan import IndexingOptions, is_unchanged, with_type
from searchanything.ingest.reports import (
    IndexProgress,
    IndexReport,
    SyncReport,
    skipped_warnings,
    sum_reports,
    unlisted_failures,
)

logger = logging.getLogger(__name__)

LISTED_BATCH: Final = 4096
WAVE_KEYS: Final = 512  # per refresh of a repair: what is differing meanwhile waits in memory
Refresh = Callable[[Sequence[str]], IndexReport]  # of keys


@dataclass(frozen=True, slots=True, eq=False)
class SyncJob:
    """What is compared. `refresh` repairs, `again` indexes even what seems unchanged; without them nothing is changed.

    `ask_each` asks the store about every known object: for what no listing tells, such as new tags. `elsewhere` tells
    which images indexes of other models have: what this index lacks of them is stale rather than missing.
    Region rows without an image row are garbage when they are older than `garbage_age_s` (see `collecting`).
    """

    store: ImageStore
    index: RegionIndex
    scope: Scope
    options: IndexingOptions = field(default_factory=IndexingOptions)
    refresh: Refresh | None = None
    again: Refresh | None = None
    garbage_age_s: float = GARBAGE_AGE_S
    ask_each: bool = False
    elsewhere: Callable[[Collection[ImageRef]], Collection[ImageRef]] = lambda _: ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "store", incoming(self.store))


@dataclass(slots=True)
class _Found:
    """What a sync has found so far, and in a repair what waits for the next wave."""

    missing: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    orphaned: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    checked: int = 0
    sidecars: list[NDArray[np.void]] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    omissions: Omissions = field(default_factory=Omissions)
    repaired: IndexReport = field(default_factory=IndexReport)


def sync_images(job: SyncJob, *, progress: Callable[[IndexProgress], None] | None = None) -> SyncReport:
    """Compare a source's listing with the index' rows of it, and repair what differs where the job can.

    Memory grows by 38 bytes per row and by the differing keys, not by the objects that agree.

    Nothing below a place that could not be listed is called orphaned.

    Raises: StoreError where the listing breaks: nothing is called orphaned then; StoreUnavailableError,
    RegionIndexError. What was repaired until then stays.
    """
    start = time.perf_counter()
    known = KnownImages(job.index.iterate_states(bucket=job.store.bucket, key_prefix=job.scope.prefix))
    found = _Found(omissions=Omissions(wanted=job.scope.concerns))
    with ThreadPoolExecutor(job.options.transfer_threads, thread_name_prefix="sync") as pool:
        for listed in batches(job.store.list(job.scope.prefix, found.omissions), LISTED_BATCH):
            _compare(job, listed, known, found, pool)
            _repair(job, found, least=WAVE_KEYS)
            if progress is not None and listed:
                done = found.repaired
                progress(IndexProgress(found.checked, None, done.indexed, done.failed, listed[-1].ref.key))
        _look_again(job, known, found, pool)
    _repair(job, found, least=1)
    garbage = _collect(job, found)
    return SyncReport(
        missing=tuple(sorted(set(found.missing))),
        stale=tuple(sorted(set(found.stale))),
        orphaned=tuple(sorted(set(found.orphaned))),
        failed=tuple(sorted(set(found.failed))),
        checked=found.checked,
        repaired=found.repaired if job.refresh is not None else None,
        garbage=garbage,
        seconds=time.perf_counter() - start,
        unlisted=unlisted_failures(found.omissions),
        skipped=skipped_warnings(found.omissions),
    )


def collect(job: SyncJob) -> SyncReport:
    """The end of a repair alone: delete what belongs to nobody, index again what lost rows. Nothing is compared.

    Raises: StoreUnavailableError, RegionIndexError.
    """
    start, found = time.perf_counter(), _Found()
    garbage = _collect(job, found)
    return SyncReport(repaired=found.repaired, garbage=garbage, seconds=time.perf_counter() - start)


def _compare(job: SyncJob, listed: Sequence[StoredObject], known: KnownImages, found: _Found, pool: Executor) -> None:
    """Find what is missing, stale or failed among listed objects, and note the rows that they have."""
    images = [one for one in listed if job.scope.wants(one.ref.key) and may_be_image(one.ref.key)]
    numbers = known.find([one.ref for one in images])
    known.rows["seen"][numbers[numbers >= 0]] = True
    same = known.agree(numbers, [(one.etag, one.modified_at_ms) for one in images])
    told = [not job.ask_each and one.modified_at_ms != 0 for one in images]
    suspects = [images[number] for number in np.flatnonzero(~(same & np.array(told, dtype=np.bool_)))]
    foreign = _judge(job, suspects, found, pool)
    found.checked += len(images) - foreign
    sidecars = [(ImageRef(one.ref.bucket, image), one.etag) for one in listed if (image := _image_of(job, one.ref.key))]
    if sidecars:
        found.sidecars.append(known.sidecar_digests(sidecars))


def _judge(
    job: SyncJob,
    suspects: Sequence[StoredObject],
    found: _Found,
    pool: Executor,
    *,
    only: Sequence[str] = ("missing", "stale", "failed"),
) -> int:
    """Look at suspects exactly and note what they are; returns how many are no images."""
    if not suspects:
        return 0
    rows = job.index.newest([one.ref for one in suspects])
    verdicts = list(pool.map(lambda one: _verdict(job, one, rows.get(one.ref)), suspects))
    lost = [one.ref for one, verdict in zip(suspects, verdicts, strict=True) if verdict == "missing"]
    outdated = job.elsewhere(lost) if lost else frozenset()
    verdicts = ["stale" if one.ref in outdated else verdict for one, verdict in zip(suspects, verdicts, strict=True)]
    for one, verdict in zip(suspects, verdicts, strict=True):
        if verdict in only:
            getattr(found, verdict).append(one.ref.key)
            found.waiting.append(one.ref.key)
    return verdicts.count("foreign")


def _image_of(job: SyncJob, key: str) -> str | None:
    """The image that a sidecar belongs to, where it is meant; None for what is no sidecar."""
    image = job.scope.image_key(key)
    return image if image != key and job.scope.wants(image) else None


def _verdict(job: SyncJob, listed: StoredObject, row: ImageRow | None) -> str:
    """`missing`, `stale`, `failed`, `same`, or `foreign` for what is no image."""
    if row is None:
        typed = with_type(job.store, listed)
        return "missing" if claims_to_be_image(typed.ref.key, typed.content_type) else "foreign"
    if row.outcome is Outcome.FAILED and row.etag in (listed.etag, ""):
        return "failed"
    return "same" if is_unchanged(job.store, job.options, listed, row) else "stale"


def _look_again(job: SyncJob, known: KnownImages, found: _Found, pool: Executor) -> None:
    """A second pass over the rows, where one is needed: digests do not tell keys.

    Finds the images whose rows the listing never named, and those whose sidecars changed.
    """
    seen = known.rows["seen"]
    listed = np.concatenate([np.empty(0, dtype=SIDECAR), *found.sidecars])
    differing = known.differing_sidecars(listed) & seen if job.scope.sidecar_suffix else np.zeros_like(seen)
    if seen.all() and not differing.any():
        return
    unseen, doubtful = set(), {}
    for states in batches(job.index.iterate_states(bucket=job.store.bucket, key_prefix=job.scope.prefix), LISTED_BATCH):
        for state, number in zip(states, known.find([one.image for one in states]).tolist(), strict=True):
            if number >= 0 and not seen[number]:
                if found.omissions.hide(state.image.key) and job.scope.wants(state.image.key):
                    continue  # it may be there: the listing could not look
                unseen.add(state.image)
            elif number >= 0 and differing[number]:
                doubtful[state.image] = StoredObject(state.image, state.etag, 0)
    found.orphaned.extend(image.key for image in unseen)
    found.waiting.extend(found.orphaned)
    for images in batches(doubtful, LISTED_BATCH):
        _judge(job, [doubtful[image] for image in images], found, pool, only=("stale",))


def _collect(job: SyncJob, found: _Found) -> int:
    """Delete what belongs to nobody, in a repair."""
    refresh_again = job.again
    if refresh_again is None:
        return 0

    def again(keys: Sequence[str]) -> None:
        found.repaired = sum_reports(found.repaired, refresh_again(keys))

    bucket, prefix = job.store.bucket, job.scope.prefix
    return collect_garbage(job.index, bucket=bucket, key_prefix=prefix, again=again, age_s=job.garbage_age_s)


def _repair(job: SyncJob, found: _Found, *, least: int) -> None:
    """Refresh what waits, if it is at least so much."""
    if job.refresh is None:
        found.waiting.clear()
        return
    while len(found.waiting) >= least:
        wave, found.waiting = found.waiting[:WAVE_KEYS], found.waiting[WAVE_KEYS:]
        found.repaired = sum_reports(found.repaired, job.refresh(wave))
