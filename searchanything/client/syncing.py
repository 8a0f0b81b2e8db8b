"""A source against the index: what differs, how it is repaired, and what is forgotten on purpose."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from searchanything import wiring
from searchanything.client.change_lease import leased
from searchanything.client.connection import Connection, OpenedSource, SourceName
from searchanything.core.addresses import unmarked
from searchanything.core.arguments import check_flags, check_progress
from searchanything.core.batching import batches
from searchanything.core.counting import counted
from searchanything.core.errors import (
    IndexMismatchError,
    IndexNotFoundError,
    RegionIndexError,
    SettingsError,
    StoreError,
    UsageError,
)
from searchanything.core.patience import long_work
from searchanything.core.protocols import ImageStore, RegionIndex
from searchanything.core.types import ImageRef
from searchanything.images.scopes import Patterns
from searchanything.ingest.contact_sheet import sweep
from searchanything.ingest.forget import FORGETTING, FORGOTTEN_AT_ONCE, Covered, recalled
from searchanything.ingest.garbage import collect_garbage
from searchanything.ingest.pipeline import forgetting_images, refresh_images
from searchanything.ingest.progress import steps_of
from searchanything.ingest.reports import OnProgress, SyncReport
from searchanything.ingest.sync import SyncJob, collect, sync_images

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Syncing:
    """Compares, repairs and forgets. `Client` says what each method promises. Thread-safe."""

    connection: Connection

    def check(
        self,
        source: SourceName,
        *,
        forget: bool,
        keep: bool,
        patterns: Patterns | None = None,
        progress: OnProgress | None = None,
    ) -> SyncReport:
        """What differs; `keep` what is held back, for the next comparison."""
        check_flags(forget=forget)
        check_progress(progress)
        opened = self.connection.open_source(source, patterns)
        with contextlib.nullcontext() if keep else long_work():  # who keeps it is the service, and tries again itself
            job = self.comparison(opened, self.connection.read_index(), forget=forget, keep=keep)
            if keep:
                self.release_replaced()
            return sync_images(job, progress=progress)

    def repair(
        self, source: OpenedSource, index: RegionIndex, *, forget: bool, progress: OnProgress | None
    ) -> SyncReport:
        """Make the index agree with the source, tiles included."""
        job = self._repairing(self.comparison(source, index, forget=forget))
        report = sync_images(job, progress=progress)
        self._sweep(source[0], index)
        self.release_replaced()
        return report

    def release_replaced(self) -> None:
        """Free the index server's memory of what is no longer live. No run fails by it: the next one tries again.

        Nothing is freed while an index is being filled: it may be one that was live long ago.
        """
        indexes = self.connection.indexes
        try:
            if not leased(indexes):
                indexes.release_replaced(self.connection.settings.milvus.release_after_s)
        except RegionIndexError as error:
            logger.warning("indexes that are no longer live stay in memory: %s", error)

    def collect_garbage(self, source: SourceName) -> SyncReport:
        """As `Operations.collect_garbage`."""
        store, scope = self.connection.open_source(source)
        return collect(self._repairing(SyncJob(store=store, scope=scope, index=self.connection.read_index())))

    def sweep_tiles(self, source: SourceName) -> int:
        """As `Operations.sweep_tiles`."""
        index = self.connection.read_index()
        return self._sweep(self.connection.open_source(source)[0], index)

    @long_work()
    def delete(self, source: SourceName, *, progress: OnProgress | None) -> int:
        """As `Client.delete`."""
        check_progress(progress)
        opened, indexes, number = self.connection.open_source(source), self.connection.indexes, 0
        while indexes.live() is not None:
            index = self.connection.models.index()
            number = max(number, self._delete(opened, index, progress))
            if not number:
                _check_not_in_bucket(index, str(source))
            live = indexes.live()
            if live is not None and live.fingerprint == index.manifest.fingerprint:
                break
            logger.info("another index became live meanwhile: %s is deleted from it, too", source)
        return number

    def _delete(self, opened: OpenedSource, index: RegionIndex, progress: OnProgress | None) -> int:
        """Forget the images of a source in one index; returns how many."""
        store, scope = opened
        number = len(Covered(index, store.bucket, scope).known())
        keeper, on_step, done = self.connection.keeper(store, index), steps_of(progress), 0
        on_step(FORGETTING, done, number)
        for states in batches(index.iterate_states(bucket=store.bucket, key_prefix=scope.prefix), FORGOTTEN_AT_ONCE):
            ages = dict[ImageRef, int]()
            for state in states:  # what is younger is somebody's who indexes it now: rows that will be committed
                ages[state.image] = max(state.generation + 1, ages.get(state.image, 0))
            if keeper is not None:
                keeper.add_tombstones(ages)
            index.delete_before(ages)
            done += len(ages)
            on_step(FORGETTING, min(done, number), number)
        number += self._delete_left_over(opened, index)
        self._sweep(store, index)
        return number

    def _delete_left_over(self, opened: OpenedSource, index: RegionIndex) -> int:
        """Delete a source's regions without an image, which a killed deletion left; returns of how many images.

        Those that are younger than `ingest.garbage_age_s` may be a running attempt's, and stay.
        """
        (store, scope), age_s = opened, self.connection.settings.ingest.garbage_age_s
        bucket, prefix = store.bucket, scope.prefix
        number = collect_garbage(index, bucket=bucket, key_prefix=prefix, again=None, age_s=age_s)
        if left := index.count_regions(bucket=bucket, key_prefix=prefix):
            logger.warning(
                "%s stay, of images that somebody indexes, or whose deletion was interrupted: "
                "the same command deletes them when they are older than ingest.garbage_age_s (%g hours)",
                counted(left, "region"),
                age_s / 3600,
            )
        return number

    def comparison(
        self, source: OpenedSource, index: RegionIndex, *, forget: bool = False, keep: bool = True
    ) -> SyncJob:
        """A source against an index. `keep` what is found to be missing, for the next; `forget` whatever is gone."""
        (store, scope), settings = source, self.connection.settings
        limits = replace(self.connection.forget_limits(), always=forget)
        forgetting = recalled(self.connection.indexes, ImageRef(store.bucket, scope.prefix), limits)
        return SyncJob(
            store=store,
            scope=scope,
            index=index,
            options=self.connection.options(),
            ask_each=settings.storage.object_tags,
            elsewhere=self._known_elsewhere,
            forgetting=forgetting if keep else replace(forgetting, remember=None),
            types=self.connection.types,
        )

    def _sweep(self, store: ImageStore, index: RegionIndex) -> int:
        settings = self.connection.settings
        try:
            return sweep(wiring.open_tiles(store.bucket, index.manifest, settings), index)
        except (SettingsError, StoreError) as error:
            if settings.service.sheet_images:
                raise
            logger.debug("no tiles to look for: %s", error)
            return 0

    def _repairing(self, job: SyncJob) -> SyncJob:
        """The same, with the means to repair."""
        connection = self.connection
        source = job.store, job.scope
        work = connection.job(source, connection.models.open_for_work(), job.options)
        sure = connection.vanished(source, "gone")
        return replace(
            job,
            refresh=partial(refresh_images, work),
            forget=forgetting_images(replace(work, may_forget=sure)),
            again=partial(
                refresh_images, replace(work, options=connection.options(force=True), may_forget=lambda _: False)
            ),
            garbage_age_s=connection.settings.ingest.garbage_age_s,
        )

    def _known_elsewhere(self, images: Collection[ImageRef]) -> set[ImageRef]:
        """Which of these images indexes of other models have, as far as they are in memory."""
        indexes, live = self.connection.indexes, self.connection.models.manifest().fingerprint
        known: set[ImageRef] = set()
        for manifest in indexes.manifests():
            if manifest.fingerprint != live:
                with contextlib.suppress(IndexMismatchError, IndexNotFoundError):  # of an older schema, or half dropped
                    if indexes.is_released(manifest.fingerprint):
                        continue
                    known.update(indexes.open(manifest.fingerprint).newest(images))
        return known


def _check_not_in_bucket(index: RegionIndex, source: str) -> None:
    """Raises: UsageError for `bucket/key`, by which nothing would be deleted, where that lacks nothing but `s3://`.

    A name alone is a folder's: one that was deleted before is no mistake.
    """
    named = unmarked(source)
    if named is None or Path(source).is_dir():
        return
    if next(iter(index.iterate_states(bucket=named.bucket, key_prefix=named.key)), None) is not None:
        raise UsageError(
            f"{source}: expected s3://BUCKET/PREFIX or an indexed folder; in a folder of that name nothing is indexed, "
            f"but under s3://{source} there is: searchanything delete s3://{source}"
        )
