"""Counting what a run does to images, for its report and its progress."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from searchanything.core.omissions import Omissions
from searchanything.core.rows import Outcome
from searchanything.core.skips import SkipCounts, Skipped, sum_skips
from searchanything.core.types import ImageRef
from searchanything.encode.encoder import Stopwatch
from searchanything.images.incoming import METADATA_PROBLEM
from searchanything.images.sidecars import SIDECAR_PROBLEM
from searchanything.ingest.commit import Committed
from searchanything.ingest.reports import (
    Failure,
    IndexProgress,
    IndexReport,
    OnProgress,
    skipped_warnings,
    unlisted_failures,
)

_ABSENT: Final = "its source names it, but has nothing to read there; deleted meanwhile, or damaged on its server"
_PROBLEMS: Final = {SIDECAR_PROBLEM: "SidecarError", METADATA_PROBLEM: "MetadataError"}


class Counters:
    """Counts what happened. Used by the thread that runs the pipeline alone; `watch` is shared by its stages."""

    def __init__(self, total: int | None = None, progress: OnProgress | None = None) -> None:
        self.watch = Stopwatch()
        self._report = IndexReport()
        self._failures: list[Failure] = []
        self._warnings: list[Failure] = []
        self._skips = SkipCounts()
        self._omitted: tuple[Skipped, ...] = ()
        self._total = total
        self._progress = progress
        self._start = time.perf_counter()

    def skip(self, key: str, reason: str) -> None:
        """Count an object that is not an image, or is excluded."""
        self._report = replace(self._report, skipped=self._report.skipped + 1)
        self._skips.add(key, reason)

    def skip_unchanged(self, key: str) -> None:
        """Count an unchanged image."""
        self._report = replace(self._report, unchanged=self._report.unchanged + 1)
        self._report_progress(key)

    def skip_exhausted(self, key: str) -> None:
        """Count an image that failed too often to be tried again."""
        self._report = replace(self._report, exhausted=self._report.exhausted + 1)
        self._report_progress(key)

    def forget(self, images: int, *, left: int = 0) -> None:
        """Count images that are gone: whose rows were deleted, and whose rows were left."""
        self._report = replace(self._report, deleted=self._report.deleted + images, gone=self._report.gone + left)

    def add(self, batch: Committed) -> None:
        """Count a committed batch."""
        rows = batch.rows
        outcomes = [row.outcome for row in rows]
        self._report = replace(
            self._report,
            indexed=self._report.indexed + outcomes.count(Outcome.INDEXED),
            empty=self._report.empty + outcomes.count(Outcome.EMPTY),
            regions=self._report.regions + sum(row.regions for row in rows),
        )
        self.forget(batch.forgotten, left=batch.left)
        failed = [row for row in rows if row.outcome is Outcome.FAILED]
        self.add_failures(Failure(row.image.key, row.error, row.message) for row in failed)
        self._warnings.extend(
            Failure(row.image.key, kind, str(row.metadata[name]))
            for row in rows
            for name, kind in _PROBLEMS.items()
            if name in row.metadata
        )
        self.warn_of_absent(batch.absent)
        if rows:
            self._report_progress(rows[-1].image.key)

    def warn_of_absent(self, images: Iterable[ImageRef]) -> None:
        """Warn of images that a listing names and nobody finds."""
        self._warnings.extend(Failure(image.key, "ObjectNotFoundError", _ABSENT) for image in images)

    def add_failures(self, failures: Iterable[Failure]) -> None:
        """Count images that failed."""
        self._failures.extend(failures)

    def add_changing(self, images: Iterable[ImageRef], *, tries: int) -> None:
        """Count images whose object changed during each try, as failures."""
        keys = tuple(image.key for image in images)
        self._report = replace(self._report, left=self._report.left + keys)
        message = f"changed during each of {tries} attempts"
        self.add_failures(Failure(key, "ObjectChangedError", message) for key in keys)

    def add_omissions(self, omissions: Omissions) -> None:
        """Count what a listing omitted: unreadable places are failures; of the rest, the first are warnings."""
        self._report = replace(self._report, skipped=self._report.skipped + omissions.skipped)
        self._omitted = omissions.skips.groups()
        self._warnings.extend(skipped_warnings(omissions))
        self.add_failures(unlisted_failures(omissions))

    def report(self) -> IndexReport:
        """The counts so far."""
        return replace(
            self._report,
            failed=len(self._failures),
            failures=tuple(self._failures),
            warnings=tuple(self._warnings),
            seconds=time.perf_counter() - self._start,
            timings_ms=dict(self.watch.timings_ms),
            skips=sum_skips(self._skips.groups(), self._omitted),
        )

    def _report_progress(self, key: str) -> None:
        if self._progress is not None:
            now = self._report
            failed = len(self._failures) + now.exhausted
            done = now.indexed + now.unchanged + now.empty + failed
            self._progress(IndexProgress(done, self._total, now.indexed, failed, key))
