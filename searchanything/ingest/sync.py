"""Listing against index: what differs, and how that is repaired (design decision 4).

    index's image rows ─► 38 bytes each ─┐
                                         ├─► suspects ─► looked at exactly ─► missing, stale, failed
    listing, in whatever order ──────────┘
    rows that the listing never named ───────────────────────────────────────► orphaned ─► forgotten, or held back

What a listing lacks was deleted, or is hidden from it: `forget.decide` says which. Only suspects cost a question to the
index or the store. A repair hands the keys, in waves, to the `refresh` that events use, which looks at each object: so
what changed since the listing does no harm. Rows that belong to nobody (see `garbage.py`) are deleted last.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Protocol

import numpy as np

from searchanything.core.batching import batches
from searchanything.core.counting import counted
from searchanything.core.digests import KnownImages
from searchanything.core.omissions import Omissions
from searchanything.core.patience import PatientThreads
from searchanything.core.protocols import ImageStore, RegionIndex
from searchanything.core.rows import ImageRow, Outcome
from searchanything.core.skips import SkipCounts, sum_skips
from searchanything.core.types import ImageRef, StoredObject
from searchanything.images.content_types import ContentTypes
from searchanything.images.incoming import incoming
from searchanything.images.names import SkipReason
from searchanything.images.scopes import Scope
from searchanything.ingest.forget import (
    FORGETTING,
    FORGOTTEN_AT_ONCE,
    Covered,
    Devices,
    Forgetting,
    SourceMemory,
    decide,
    find_unseen,
    still_missing,
)
from searchanything.ingest.garbage import GARBAGE_AGE_S, collect_garbage, count_lost
from searchanything.ingest.listed_sidecars import ListedSidecars
from searchanything.ingest.listing import ListingAhead
from searchanything.ingest.plan import IndexingOptions, is_unchanged, why_skipped
from searchanything.ingest.progress import within
from searchanything.ingest.reports import (
    IndexProgress,
    IndexReport,
    OnProgress,
    SyncReport,
    skipped_warnings,
    sum_reports,
    unlisted_failures,
)

logger = logging.getLogger(__name__)

LISTED_BATCH: Final = 4096
WAVE_KEYS: Final = 512  # per refresh of a repair: what is differing meanwhile waits in memory


class SyncState(StrEnum):
    """What a listed object is to the index."""

    MISSING = "missing"
    STALE = "stale"
    FAILED = "failed"
    SAME = "same"


DIFFERING: Final = (SyncState.MISSING, SyncState.STALE, SyncState.FAILED)


class Refresh(Protocol):
    """Brings the rows of some keys up to date, and may say how far it is."""

    def __call__(self, keys: Sequence[str], *, progress: OnProgress | None = None) -> IndexReport: ...


@dataclass(frozen=True, slots=True, eq=False)
class SyncJob:
    """What is compared. `refresh` repairs, `again` indexes even what seems unchanged; without them nothing is changed.

    `forget` (`refresh` if unset) deletes what the listing lacks and may be forgotten.
    `ask_each` asks the store about every known object: for what no listing shows, such as new tags. `elsewhere` says
    which images indexes of other models have: what this index lacks of them is stale rather than missing.
    Region rows without an image row are garbage when they are older than `garbage_age_s`: `garbage.collect_garbage`.
    `forgetting` says how much may be forgotten of what the listing lacks.
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
    forgetting: Forgetting = field(default_factory=Forgetting)
    types: ContentTypes = field(default_factory=ContentTypes)
    forget: Refresh | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "store", incoming(self.store))


@dataclass(slots=True)
class _Compared:
    """What a sync has found so far, and in a repair what waits for the next wave."""

    differing: dict[SyncState, list[str]] = field(default_factory=lambda: {verdict: [] for verdict in DIFFERING})
    orphaned: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    held: tuple[str, ...] = ()
    checked: int = 0
    listed: int = 0
    waiting: deque[str] = field(default_factory=deque)
    report: OnProgress = lambda _: None
    omissions: Omissions = field(default_factory=Omissions)
    skips: SkipCounts = field(default_factory=SkipCounts)
    repaired: list[IndexReport] = field(default_factory=list)
    indexed: int = 0
    failures: int = 0

    def progress(self, key: str) -> IndexProgress:
        """What is done by now: all that was listed, but for what waits for its repair."""
        done = max(0, self.listed - len(self.waiting))
        return IndexProgress(done, None, self.indexed, self.failures, key)

    def add_repair(self, report: IndexReport) -> None:
        """What a wave of repairs did."""
        self.repaired.append(report)
        self.indexed += report.indexed
        self.failures += report.failed


def sync_images(job: SyncJob, *, progress: OnProgress | None = None) -> SyncReport:
    """Compare a source's listing with the index's rows of it, and repair what differs where the job can.

    Memory grows by 38 bytes per row and by the differing keys, not by the objects that agree.

    Nothing below a place that could not be listed, or lies on another device than before, is called orphaned. Of what
    is orphaned the report says how much is held back; a repair leaves that alone.

    Raises: StoreError where the listing breaks: nothing is called orphaned then; StoreUnavailableError,
    RegionIndexError. What was repaired until then stays.
    """
    start = time.perf_counter()
    known = KnownImages(job.index.iterate_states(bucket=job.store.bucket, key_prefix=job.scope.prefix))
    rows = job.index.count_regions(bucket=job.store.bucket, key_prefix=job.scope.prefix)  # before repairs add some
    lost = count_lost(job.index, known, rows, bucket=job.store.bucket, key_prefix=job.scope.prefix)
    found = _Compared(omissions=Omissions(wanted=job.scope.concerns))
    listing = ListingAhead(
        job.store.list(job.scope.prefix, found.omissions), lambda one: job.scope.may_be_image(one.ref.key)
    )
    found.report = listing.progress(progress) or found.report
    sidecars = ListedSidecars(job.scope, known)
    with PatientThreads(job.options.transfer_threads, thread_name_prefix="sync") as pool:
        for listed in batches(sidecars.noting(listing), LISTED_BATCH):
            _compare(job, listed, known, found, pool)
            _repair(job, found, least=WAVE_KEYS)
            found.report(found.progress(listed[-1].ref.key))
        _find_orphans(job, known, found)
        _find_changed_sidecars(job, sidecars, found, pool)
    _repair(job, found, least=1)
    _forget(job, found, progress)
    garbage = _collect(job, found)
    return SyncReport(
        lost=lost,
        missing=_each_once(found.differing[SyncState.MISSING]),
        stale=_each_once(found.differing[SyncState.STALE]),
        orphaned=_each_once(found.orphaned),
        failed=_each_once(found.differing[SyncState.FAILED]),
        checked=found.checked,
        repaired=sum_reports(found.repaired) if job.refresh is not None else None,
        garbage=garbage,
        seconds=time.perf_counter() - start,
        unlisted=unlisted_failures(found.omissions),
        skipped=skipped_warnings(found.omissions),
        held=found.held,
        skips=sum_skips(found.skips.groups(), found.omissions.skips.groups()),
    )


def _each_once(keys: list[str]) -> tuple[str, ...]:
    return tuple(sorted(set(keys)))


def collect(job: SyncJob) -> SyncReport:
    """The end of a repair alone: delete what belongs to nobody, index again what lost rows. Nothing is compared.

    Raises: StoreUnavailableError, RegionIndexError.
    """
    start, found = time.perf_counter(), _Compared()
    garbage = _collect(job, found)
    return SyncReport(repaired=sum_reports(found.repaired), garbage=garbage, seconds=time.perf_counter() - start)


def account_for_gone(
    job: SyncJob, known: KnownImages, omissions: Omissions, *, progress: OnProgress | None = None
) -> IndexReport:
    """The end of a run over a listing: how many known images it lacked; a job that repairs forgets what it may.

    `known` have been marked as seen by `forgetting.marking`. Places that lie on another disk are failures.

    Raises: StoreUnavailableError, RegionIndexError.
    """
    known_before, forgetting = len(omissions.unreadable), job.forgetting
    devices = Devices(forgetting.memory.devices, omissions.devices)
    unseen = find_unseen(Covered(job.index, job.store.bucket, job.scope), known, omissions, devices)
    listed = int(known.rows["seen"].sum())
    made_ms = job.index.manifest.created_at_ms
    decision = decide(unseen.images, forgetting, covered=unseen.covered, listed=listed, made_ms=made_ms)
    missing = decision.missing
    if job.refresh is None:  # what is listed again is no longer missing; what is not has no first time yet
        missing = still_missing(forgetting.memory.missing, unseen.images)
    forgetting.keep(SourceMemory(missing, unseen.devices))
    failures = unlisted_failures(Omissions(unreadable=omissions.unreadable[known_before:]))
    if job.refresh is None:
        return IndexReport(gone=len(unseen.images), failed=len(failures), failures=failures)
    held = tuple(sorted(image.key for image in decision.held))
    keys = sorted(image.key for image in decision.forget)
    found = IndexReport(gone=len(held), held=held, failed=len(failures), failures=failures)
    forget = job.forget or job.refresh
    return sum_reports([found, *_forgotten(forget, keys, progress)])


def _compare(
    job: SyncJob, listed: Sequence[StoredObject], known: KnownImages, found: _Compared, pool: Executor
) -> None:
    """Find what is missing, stale or failed among listed objects, and note the rows that they have."""
    images = []
    for one in listed:
        if job.scope.may_be_image(one.ref.key):
            images.append(one)
        elif not job.scope.is_own(one.ref.key):
            found.skips.add(one.ref.key, job.scope.why_skipped(one.ref.key, None) or SkipReason.OTHER)
    found.listed += len(images)
    numbers = known.find([one.ref for one in images])
    known.rows["seen"][numbers[numbers >= 0]] = True
    same = known.agree(numbers, [(one.etag, one.modified_at_ms) for one in images])
    dated = [not job.ask_each and one.modified_at_ms != 0 for one in images]
    suspects = [images[number] for number in np.flatnonzero(~(same & np.array(dated, dtype=np.bool_)))]
    foreign = _judge(job, suspects, found, pool)
    found.checked += len(images) - foreign


def _judge(
    job: SyncJob,
    suspects: Sequence[StoredObject],
    found: _Compared,
    pool: Executor,
    *,
    only: Sequence[SyncState] = DIFFERING,
) -> int:
    """Look at suspects exactly and note what they are; returns how many are no images."""
    if not suspects:
        return 0
    rows = job.index.newest([one.ref for one in suspects])
    verdicts = list(pool.map(lambda one: _verdict(job, one, rows), suspects))
    lost = [one.ref for one, verdict in zip(suspects, verdicts, strict=True) if verdict is SyncState.MISSING]
    outdated = job.elsewhere(lost) if lost else frozenset()
    verdicts = [
        SyncState.STALE if one.ref in outdated else verdict for one, verdict in zip(suspects, verdicts, strict=True)
    ]
    for one, verdict in zip(suspects, verdicts, strict=True):
        if isinstance(verdict, SkipReason):
            found.skips.add(one.ref.key, verdict)
        elif verdict in only:
            found.differing[verdict].append(one.ref.key)
            found.waiting.append(one.ref.key)
    return sum(isinstance(verdict, SkipReason) for verdict in verdicts)


def _verdict(job: SyncJob, listed: StoredObject, rows: Mapping[ImageRef, ImageRow]) -> SyncState | SkipReason:
    """What the object is to the index; why it is skipped for what is no image."""
    row = rows.get(listed.ref)
    if row is None:
        return why_skipped(job.scope, job.types, job.store, listed, rows) or SyncState.MISSING
    if row.outcome is Outcome.FAILED and row.etag in (listed.etag, ""):
        return SyncState.FAILED
    return SyncState.SAME if is_unchanged(job.store, job.options, listed, row) else SyncState.STALE


def _find_orphans(job: SyncJob, known: KnownImages, found: _Compared) -> None:
    """Find the images that the listing never named, and decide which of them may be forgotten."""
    forgetting = job.forgetting
    remembered = {} if forgetting.limits.always else forgetting.memory.devices
    devices = Devices(remembered, found.omissions.devices)
    unseen = find_unseen(Covered(job.index, job.store.bucket, job.scope), known, found.omissions, devices)
    made_ms = job.index.manifest.created_at_ms
    decision = decide(unseen.images, forgetting, covered=unseen.covered, listed=found.checked, made_ms=made_ms)
    forgetting.keep(SourceMemory(decision.missing, unseen.devices))
    found.held = tuple(sorted(image.key for image in decision.held))
    found.orphaned.extend(image.key for image in unseen.images)
    found.forgotten.extend(image.key for image in decision.forget)
    if decision.held:
        logger.info("held back: of %s, %d not listed", counted(unseen.covered, "known image"), len(decision.held))


def _find_changed_sidecars(job: SyncJob, sidecars: ListedSidecars, found: _Compared, pool: Executor) -> None:
    """Find the images whose sidecars changed."""
    changed = sidecars.changed(job.index, job.store.bucket)
    doubtful = {state.image: StoredObject(state.image, state.etag, 0) for state in changed}
    for images in batches(doubtful, LISTED_BATCH):
        _judge(job, [doubtful[image] for image in images], found, pool, only=(SyncState.STALE,))


def _collect(job: SyncJob, found: _Compared) -> int:
    """Delete what belongs to nobody, in a repair. It decides nothing about images that are gone or not wanted."""
    refresh_again = job.again
    if refresh_again is None:
        return 0

    def again(keys: Sequence[str]) -> None:
        wanted = [key for key in keys if job.scope.wants(key)]
        found.add_repair(replace(refresh_again(wanted), gone=0))

    bucket, prefix = job.store.bucket, job.scope.prefix
    return collect_garbage(job.index, bucket=bucket, key_prefix=prefix, again=again, age_s=job.garbage_age_s)


def _repair(job: SyncJob, found: _Compared, *, least: int) -> None:
    """Refresh what waits, if it is at least so much."""
    if job.refresh is None:
        found.waiting.clear()
        return
    while len(found.waiting) >= least:
        before = found.progress(found.waiting[0])
        wave = [found.waiting.popleft() for _ in range(min(WAVE_KEYS, len(found.waiting)))]
        found.add_repair(job.refresh(wave, progress=within(found.report, before)))


def _forget(job: SyncJob, found: _Compared, progress: OnProgress | None) -> None:
    """Forget what may be forgotten, in a repair: what is there nevertheless is refreshed."""
    if job.refresh is None:
        return
    for report in _forgotten(job.forget or job.refresh, found.forgotten, progress):
        found.add_repair(report)


def _forgotten(forget: Refresh, keys: Sequence[str], progress: OnProgress | None) -> Iterator[IndexReport]:
    """What became of keys that may be forgotten, in waves, with the progress of a stage of its own."""
    done = 0
    for wave in batches(keys, FORGOTTEN_AT_ONCE):
        if progress is not None:
            progress(IndexProgress(done, len(keys), 0, 0, wave[0], stage=FORGETTING))
        yield forget(wave)
        done += len(wave)
