"""What the verbs that fill an index and look after it answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from searchanything.core.errors import StoreError
from searchanything.core.types import ImageRef, ImageRow, IndexCounts, IndexManifest, Omissions


@dataclass(frozen=True, slots=True)
class Failure:
    """One image that could not be indexed: the error's class name and its message."""

    key: str
    error: str
    message: str

    def to_dict(self) -> dict[str, str]:
        """As the documents of the command line show it."""
        return {"key": self.key, "error": self.error, "message": self.message}


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What one run of `index` or `refresh` did, in images; `regions` counts the regions this run wrote.

    `deleted` images were forgotten because their object is gone or no longer wanted. `given_up` ones failed too often
    with the same content and were not tried again. `left` are the keys whose objects kept changing: they stand in
    `failures` too, and the next sync finds them. `warnings` are of images that were indexed without their sidecar,
    and of the first 100 skipped things that are no objects. A place that could not be listed is one failure.
    `timings_ms` are summed over the threads of each stage: stages overlap, so they add up to more than `seconds`.
    """

    indexed: int = 0
    unchanged: int = 0
    empty: int = 0
    failed: int = 0
    skipped: int = 0
    regions: int = 0
    failures: tuple[Failure, ...] = ()
    seconds: float = 0.0
    deleted: int = 0
    given_up: int = 0
    left: tuple[str, ...] = ()
    warnings: tuple[Failure, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `searchanything index --format json`."""
        images = {name: getattr(self, name) for name in ("indexed", "unchanged", "empty", "failed", "skipped")}
        return {
            "images": images,
            "regions": self.regions,
            "failures": [one.to_dict() for one in self.failures],
            "seconds": round(self.seconds, 3),
            "deleted": self.deleted,
            "given_up": self.given_up,
            "left": list(self.left),
            "warnings": [one.to_dict() for one in self.warnings],
            "timings_ms": {stage: round(value, 3) for stage, value in self.timings_ms.items()},
        }


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """How far a run of `index` is: images done (unchanged ones included) of `total`, where that is known.

    While the source is still being listed the total is what was seen so far, and not `total_is_final`.
    `stage` is empty, or names what is done first, and then `done` counts its steps.
    """

    done: int
    total: int | None
    indexed: int
    failed: int
    key: str
    stage: str = ""
    total_is_final: bool = True


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """What an index holds, and with what it was made. Where there is no index `exists` is False, and all None or 0.

    `counts` are of committed images and regions. `garbage` rows are left of killed runs: no search finds them, the next
    commit of their image or `sync repair` deletes them.
    """

    uri: str
    counts: IndexCounts
    manifest: IndexManifest | None
    collections: tuple[str, str] | None
    garbage: int = 0

    @property
    def exists(self) -> bool:
        """False where nothing was ever indexed: a new place, or a URI that was mistyped."""
        return self.manifest is not None

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `searchanything status --format json`."""
        manifest, names = self.manifest, self.collections
        trained = None if manifest is None else "trained" if manifest.hash_trained else "untrained"
        return {
            "exists": self.exists,
            "images": self.counts.images,
            "regions": self.counts.regions,
            "failed": self.counts.failed,
            "empty": self.counts.empty,
            "fingerprint": manifest.fingerprint if manifest else None,
            "preset": manifest.preset if manifest else None,
            "hash": trained,
            "collections": {"regions": names[0], "images": names[1]} if names else None,
            "garbage": self.garbage,
            "uri": self.uri,
        }


@dataclass(frozen=True, slots=True)
class SyncReport:
    """Where an index differed from the listing of its source: keys, each under one heading, sorted.

    `missing`: images that the index does not have. `stale`: indexed with another etag, other metadata or other models.
    `orphaned`: indexed, but no longer in the listing, or excluded. `failed`: known failures whose object is as it was.
    `checked` counts the images that were looked at. After a repair the rest tells what was done about it: `repaired`
    sums up all refreshes, `garbage` counts images some of whose rows belonged to nobody and were deleted.
    `unlisted` are places that could not be looked at: nothing below them is called orphaned. `skipped` holds the first
    100 things that are no objects, such as links that lead out of a folder.
    """

    missing: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    orphaned: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    checked: int = 0
    repaired: IndexReport | None = None
    garbage: int = 0
    seconds: float = 0.0
    unlisted: tuple[Failure, ...] = ()
    skipped: tuple[Failure, ...] = ()

    @property
    def differs(self) -> bool:
        """True if index and listing did not agree. Known failures are no difference."""
        return bool(self.missing or self.stale or self.orphaned)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `searchanything sync check|repair --format json`."""
        document: dict[str, Any] = {
            "missing": list(self.missing),
            "stale": list(self.stale),
            "orphaned": list(self.orphaned),
            "failed": list(self.failed),
            "checked": self.checked,
            "seconds": round(self.seconds, 3),
            "unlisted": [one.to_dict() for one in self.unlisted],
            "warnings": [one.to_dict() for one in self.skipped],
        }
        if self.repaired is not None:
            document |= {"repaired": self.repaired.to_dict(), "garbage": self.garbage}
        return document


@dataclass(frozen=True, slots=True)
class FailedImage:
    """A known failure. `given_up` ones are no longer tried by `refresh` and `sync repair`."""

    image: ImageRef
    etag: str
    error: str
    message: str
    attempts: int
    first_at_ms: int
    last_at_ms: int
    given_up: bool

    @classmethod
    def of(cls, row: ImageRow, *, max_attempts: int | None) -> FailedImage:
        """From an image row whose outcome is `failed`."""
        return cls(
            image=row.image,
            etag=row.etag,
            error=row.error,
            message=row.message,
            attempts=row.attempts,
            first_at_ms=row.first_at_ms,
            last_at_ms=row.last_at_ms,
            given_up=max_attempts is not None and row.attempts >= max_attempts,
        )

    def to_dict(self) -> dict[str, Any]:
        """As `searchanything failed list --format json` shows it."""
        return {
            "bucket": self.image.bucket,
            "key": self.image.key,
            "etag": self.etag,
            "error": self.error,
            "message": self.message,
            "attempts": self.attempts,
            "first_at_ms": self.first_at_ms,
            "last_at_ms": self.last_at_ms,
            "given_up": self.given_up,
        }


@dataclass(frozen=True, slots=True)
class Estimate:
    """What indexing a source from nothing would take, extrapolated from a sample.

    `bytes` are the images' own. `disk_bytes` and `index_memory_bytes` are those of an embedded index, and less than a
    Milvus server with its replicas takes (see `milvus/`); `worker_memory_bytes` is the peak of this process, models
    included. `disk_free_bytes` is None where the index is not a file of this machine. `sample` tells how it went.
    """

    images: int
    bytes: int
    regions: int
    images_per_s: float
    seconds: float
    disk_bytes: int
    index_memory_bytes: int
    worker_memory_bytes: int
    sample: IndexReport
    load_seconds: float
    disk_free_bytes: int | None = None

    @property
    def fits(self) -> bool:
        """False if the index would not fit on the disk."""
        return self.disk_free_bytes is None or self.disk_bytes < self.disk_free_bytes

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `searchanything index --estimate --format json`."""
        return {
            "images": self.images,
            "bytes": self.bytes,
            "regions": self.regions,
            "images_per_s": round(self.images_per_s, 3),
            "seconds": round(self.seconds, 1),
            "disk_bytes": self.disk_bytes,
            "disk_free_bytes": self.disk_free_bytes,
            "fits": self.fits,
            "memory_bytes": {"index": self.index_memory_bytes, "worker": self.worker_memory_bytes},
            "load_seconds": round(self.load_seconds, 1),
            "sample": self.sample.to_dict(),
        }


def unlisted_failures(omissions: Omissions) -> tuple[Failure, ...]:
    """The places that a listing could not look at."""
    return tuple(Failure(one.key, StoreError.__name__, one.reason) for one in omissions.unreadable)


def omissions_report(omissions: Omissions) -> IndexReport:
    """What a listing left out, as a part of a run's report."""
    missed = unlisted_failures(omissions)
    return IndexReport(
        skipped=omissions.skipped, failed=len(missed), failures=missed, warnings=skipped_warnings(omissions)
    )


def skipped_warnings(omissions: Omissions) -> tuple[Failure, ...]:
    """The first of what a listing passed over."""
    return tuple(Failure(one.key, "Skipped", one.reason) for one in omissions.examples)


def sum_reports(first: IndexReport, second: IndexReport) -> IndexReport:
    """Two runs as one."""
    return IndexReport(
        indexed=first.indexed + second.indexed,
        unchanged=first.unchanged + second.unchanged,
        empty=first.empty + second.empty,
        failed=first.failed + second.failed,
        skipped=first.skipped + second.skipped,
        regions=first.regions + second.regions,
        failures=first.failures + second.failures,
        seconds=first.seconds + second.seconds,
        deleted=first.deleted + second.deleted,
        given_up=first.given_up + second.given_up,
        left=first.left + second.left,
        warnings=first.warnings + second.warnings,
        timings_ms={
            stage: first.timings_ms.get(stage, 0.0) + second.timings_ms.get(stage, 0.0)
            for stage in (*first.timings_ms, *(new for new in second.timings_ms if new not in first.timings_ms))
        },
    )
