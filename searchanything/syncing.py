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
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from searchanything.batching import batches
from searchanything.collecting import GARBAGE_AGE_S, collect_garbage
from searchanything.decoding import claims_to_be_image
from searchanything.digests import KnownImages
from searchanything.planning import IndexingOptions, is_unchanged, with_type
from searchanything.protocols import ImageStore, RegionIndex
from searchanything.reports import SyncReport, sum_reports
from searchanything.scopes import Scope
from searchanything.types import ImageRef, ImageRow, IndexProgress, IndexReport, Outcome, StoredObject

logger = logging.getLogger(__name__)

LISTED_BATCH: Final = 4096
WAVE_KEYS: Final = 512  # per refresh of a repair: what is differing meanwhile waits in memory
Refresh = Callable[[Sequence[str]], IndexReport]  # of keys


@dataclass(frozen=True, slots=True, eq=False)
class SyncJob:
    """What is compared. `refresh` repairs, `again` indexes even what seems unchanged; without them nothing is changed.

    Region rows without an image row are garbage when they are older than `garbage_age_s` (see `collecting`).
    """

    store: ImageStore
    index: RegionIndex
    scope: Scope
    options: IndexingOptions = field(default_factory=IndexingOptions)
    refresh: Refresh | None = None
    again: Refresh | None = None
    garbage_age_s: float = GARBAGE_AGE_S


@dataclass(slots=True)
class _Found:
    """What a sync has found so far, and in a repair what waits for the next wave."""

    missing: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    orphaned: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    checked: int = 0
    waiting: list[str] = field(default_factory=list)
    repaired: IndexReport = field(default_factory=IndexReport)


def sync_images(job: SyncJob, *, progress: Callable[[IndexProgress], None] | None = None) -> SyncReport:
    """Compare a source's listing with the index' rows of it, and repair what differs where the job can.

    Memory grows by 38 bytes per row and by the differing keys, not by the objects that agree.

    Raises: StoreError where the listing breaks: nothing is called orphaned then; StoreUnavailableError,
    RegionIndexError. What was repaired until then stays.
    """
    start = time.perf_counter()
    known = KnownImages(job.index.iterate_states(bucket=job.store.bucket, key_prefix=job.scope.prefix))
    found = _Found()
    with ThreadPoolExecutor(job.options.transfer_threads, thread_name_prefix="sync") as pool:
        for listed in batches(job.store.list(job.scope.prefix), LISTED_BATCH):
            _compare(job, listed, known, found, pool)
            _repair(job, found, least=WAVE_KEYS)
            if progress is not None and listed:
                done = found.repaired
                progress(IndexProgress(found.checked, None, done.indexed, done.failed, listed[-1].ref.key))
    _find_orphans(job, known, found)
    _repair(job, found, least=1)
    garbage = _collect(job, found)
    return SyncReport(
        missing=tuple(sorted(found.missing)),
        stale=tuple(sorted(found.stale)),
        orphaned=tuple(sorted(found.orphaned)),
        failed=tuple(sorted(found.failed)),
        checked=found.checked,
        repaired=found.repaired if job.refresh is not None else None,
        garbage=garbage,
        seconds=time.perf_counter() - start,
    )


def _compare(job: SyncJob, listed: Sequence[StoredObject], known: KnownImages, found: _Found, pool: Executor) -> None:
    """Find what is missing, stale or failed among listed objects, and note the rows that they have."""
    images = [one for one in listed if job.scope.wants(one.ref.key) and _may_be_image(one.ref.key)]
    numbers = known.find([one.ref for one in images])
    known.rows["seen"][numbers[numbers >= 0]] = True
    suspects = []
    for one, number in zip(images, numbers.tolist(), strict=True):
        if number < 0 or not _agrees(job, one, known, number):
            suspects.append(one)
    found.checked += len(images) - len(suspects)
    rows = job.index.newest([one.ref for one in suspects])
    verdicts = pool.map(lambda one: _verdict(job, one, rows.get(one.ref)), suspects)
    for one, verdict in zip(suspects, verdicts, strict=True):
        found.checked += verdict != "foreign"
        if verdict in ("missing", "stale", "failed"):
            getattr(found, verdict).append(one.ref.key)
            found.waiting.append(one.ref.key)


def _may_be_image(key: str) -> bool:
    return claims_to_be_image(key, None) or "." not in key.rpartition("/")[2]


def _agrees(job: SyncJob, listed: StoredObject, known: KnownImages, number: int) -> bool:
    """The listing says of an object what a row says, and that is enough."""
    row = known.rows[number]
    state = known.state_digest(listed.etag, listed.modified_at_ms)
    return bool(job.options.listing_is_enough and listed.modified_at_ms and row["state"] == state and not row["failed"])


def _verdict(job: SyncJob, listed: StoredObject, row: ImageRow | None) -> str:
    """`missing`, `stale`, `failed`, `same`, or `foreign` for what is no image."""
    if row is None:
        typed = with_type(job.store, listed)
        return "missing" if claims_to_be_image(typed.ref.key, typed.content_type) else "foreign"
    if row.outcome is Outcome.FAILED and row.etag in (listed.etag, ""):
        return "failed"
    return "same" if is_unchanged(job.store, job.options, listed, row) else "stale"


def _find_orphans(job: SyncJob, known: KnownImages, found: _Found) -> None:
    """The images whose rows the listing never named: a second pass tells their keys, as digests do not."""
    if known.rows["seen"].all():
        return
    unseen: set[ImageRef] = set()
    for states in batches(job.index.iterate_states(bucket=job.store.bucket, key_prefix=job.scope.prefix), LISTED_BATCH):
        numbers = known.find([one.image for one in states])
        gone = (numbers >= 0) & ~known.rows["seen"][numbers]
        unseen.update(states[number].image for number in np.flatnonzero(gone))
    found.orphaned.extend(image.key for image in unseen)
    found.waiting.extend(found.orphaned)


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
