"""Images that failed: which, once more, no more, and those whose process died of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from searchanything.client.connection import Connection, SourceName
from searchanything.core.arguments import check_progress
from searchanything.core.batching import batches
from searchanything.core.codes import next_generation
from searchanything.core.patience import long_work
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import ImageState, Outcome, newest_of_each
from searchanything.core.types import ImageRef, source_of
from searchanything.ingest.reports import FailedImage, IndexProgress, IndexReport, OnProgress, sum_reports
from searchanything.search.committed import committed

if TYPE_CHECKING:  # to list failures takes nothing that indexes
    from searchanything.ingest.commit import Failed

Row = TypeVar("Row", bound=ImageState)


@dataclass(frozen=True, slots=True, eq=False)
class Failures:
    """The failures that an index records. `Client` says what each method promises. Thread-safe."""

    connection: Connection

    def known(self, source: SourceName | None) -> list[FailedImage]:
        """As `Client.failures`."""
        limit = self.connection.settings.ingest.max_attempts
        index = self.connection.read_index()
        bucket, prefix = self._place(source)
        rows = _newest(index, index.iterate_images(bucket=bucket, key_prefix=prefix, outcome=Outcome.FAILED))
        if not rows:
            self._check_known(index, source)
        return [FailedImage.of(row, max_attempts=limit) for row in rows]

    def empty(self, source: SourceName | None) -> list[ImageRef]:
        """As `Client.empty_images`."""
        index = self.connection.read_index()
        rows = self._states(index, source, Outcome.EMPTY)
        if not rows:
            self._check_known(index, source)
        return [one.image for one in rows]

    @long_work()
    def retry(self, source: SourceName | None, *, progress: OnProgress | None) -> IndexReport:
        """As `Client.retry_failed`."""
        from searchanything.ingest.pipeline import refresh_images
        from searchanything.ingest.progress import so_far, within
        from searchanything.ingest.sync import WAVE_KEYS

        check_progress(progress)
        self.connection.whole()
        opened, options = self.connection.models.open_for_work(), self.connection.options(retry_forever=True)
        rows = self._states(opened[0], source)
        keys: dict[str, list[str]] = {}
        for row in rows:
            keys.setdefault(row.image.bucket, []).append(row.image.key)
        reports: list[IndexReport] = []
        before = IndexProgress(0, len(rows), 0, 0, "")
        for bucket, failed in keys.items():
            whole = self.connection.open_source(source_of(bucket))
            job = self.connection.job(whole, opened, options, said="named")
            for wave in batches(failed, WAVE_KEYS):
                reports.append(refresh_images(job, wave, progress=progress and within(progress, before)))
                before = so_far(before, reports[-1])
        return sum_reports(reports)

    def drop(self, source: SourceName | None, *, progress: OnProgress | None) -> int:
        """As `Client.drop_failed`."""
        from searchanything.ingest.forget import FORGETTING, FORGOTTEN_AT_ONCE
        from searchanything.ingest.progress import steps_of

        check_progress(progress)
        self.connection.whole()
        index, on_step, done = self.connection.read_index(), steps_of(progress), 0
        rows = self._states(index, source)
        if not rows:
            self._check_known(index, source)
        for some in batches(rows, FORGOTTEN_AT_ONCE):
            on_step(FORGETTING, done, len(rows))
            index.delete_before({row.image: row.generation + 1 for row in some})
            done += len(some)
        on_step(FORGETTING, done, len(rows))
        return len(rows)

    def record(self, source: SourceName, key: str, why: Failed, *, begun: int) -> bool:
        """As `Operations.record_failure`."""
        from concurrent.futures import ThreadPoolExecutor

        from searchanything.ingest.commit import Attempt, commit_batch

        opened = self.connection.open_source(source)
        store, may_forget = opened[0], self.connection.vanished(opened, "named")
        stored, index = store.stat(key), self.connection.read_index()
        if stored is None:
            return False
        previous = index.newest([stored.ref]).get(stored.ref)
        if previous is not None and previous.generation > begun:
            return False
        generation = next_generation(after=previous.generation if previous else 0)
        attempt = Attempt(stored=stored, generation=generation, previous=previous, failed=why)
        with ThreadPoolExecutor(1) as pool:
            commit_batch(index, store, [(attempt, None)], pool, may_forget=may_forget)
        return True

    def _states(
        self, index: RegionIndex, source: SourceName | None, outcome: Outcome = Outcome.FAILED
    ) -> list[ImageState]:
        bucket, prefix = self._place(source)
        return _newest(index, index.iterate_states(bucket=bucket, key_prefix=prefix, outcome=outcome))

    def _check_known(self, index: RegionIndex, source: SourceName | None) -> None:
        """Raises: ObjectNotFoundError where a source has no image in the index, and is not there: a mistyped name."""
        bucket, prefix = self._place(source)
        if source is not None and next(index.iterate_states(bucket=bucket, key_prefix=prefix), None) is None:
            next(iter(self.connection.open_source(source)[0].list(prefix)), None)

    def _place(self, source: SourceName | None) -> tuple[str | None, str]:
        """Bucket and prefix of a source; all there are without one."""
        if source is None:
            return None, ""
        store, scope = self.connection.open_source(source)
        return store.bucket, scope.prefix


def _newest(index: RegionIndex, found: Iterable[Row]) -> list[Row]:
    """Of rows those that are their images' newest, in the order of the images' names.

    Rows are streamed and looked up by generation alone: to read each image's newest row takes several times as long.
    """
    return sorted(committed(index, newest_of_each(found).values()), key=lambda row: row.image)
