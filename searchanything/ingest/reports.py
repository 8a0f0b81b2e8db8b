"""Reports of the commands that fill and maintain an index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any, Final, TypeAlias

from searchanything.core.counting import counted
from searchanything.core.errors import ObjectNotSentError, StoreError
from searchanything.core.manifest import IndexManifest, WordsPart
from searchanything.core.omissions import Omissions
from searchanything.core.rows import ImageRow
from searchanything.core.skips import Skipped, sum_skips
from searchanything.core.types import ImageRef

_SUMMED: Final = (
    *("indexed", "unchanged", "empty", "failed", "skipped"),
    *("regions", "seconds", "deleted", "exhausted", "gone"),
)
NOT_SENT_MS: Final = 3_600_000  # so long an image that its server does not send is tried
_LONGEST_PAUSE_MS: Final = 600_000
_JOINED: Final = ("failures", "left", "warnings", "held")


@dataclass(frozen=True, slots=True)
class Failure:
    """One image that could not be indexed: the error's class name and its message."""

    key: str
    error: str
    message: str

    def to_dict(self) -> dict[str, str]:
        """As the documents of the command line show it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What one run of `index` or `refresh` did, in images; `regions` counts the regions this run wrote.

    `deleted` images were forgotten because their object is gone or no longer wanted. `exhausted` ones failed too often
    with the same content and were not tried again. `left` are the keys whose objects kept changing: they are in
    `failures` too, and the next sync finds them. `warnings` are of images that were indexed without their sidecar, of
    those that the source names and cannot be read there, and of the first 100 skipped things that are no objects. A
    place that could not be listed is one failure. `skips` says why objects were `skipped`, by reason and with examples.
    `gone` images are in the index and no longer in the listing, or went after they were listed: they stay hits until
    `sync repair` or `index --prune` forgets them. `held` are the keys of those that `--prune` held back, because so
    many at once may be a mistake. `timings_ms` are summed over the threads of each stage: stages overlap, so they add
    up to more than `seconds`.
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
    exhausted: int = 0
    left: tuple[str, ...] = ()
    warnings: tuple[Failure, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict, compare=False)
    gone: int = 0
    held: tuple[str, ...] = ()
    skips: tuple[Skipped, ...] = ()

    @property
    def found_no_image(self) -> bool:
        """True if a run met no image that is there, nor one that it had to forget."""
        met = (self.indexed, self.unchanged, self.empty, self.failed, self.deleted, self.exhausted)
        return not any(met)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `searchanything index --format json`."""
        images = {name: getattr(self, name) for name in ("indexed", "unchanged", "empty", "failed", "skipped")}
        return {
            "images": images,
            "regions": self.regions,
            "failures": [one.to_dict() for one in self.failures],
            "seconds": round(self.seconds, 3),
            "deleted": self.deleted,
            "exhausted": self.exhausted,
            "left": list(self.left),
            "gone": self.gone,
            "held": list(self.held),
            "warnings": [one.to_dict() for one in self.warnings],
            "skipped": [one.to_dict() for one in self.skips],
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


OnProgress: TypeAlias = Callable[[IndexProgress], None]


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """What an index holds, and with what it was made. Where there is no index `exists` is False, and all None or 0.

    `images` counts the committed images with regions, `empty` those without, `failed` the known failures, and `regions`
    the regions of all. `garbage` rows come from killed runs: no search finds them, the next commit of their image or
    `sync repair` deletes them. `lost` regions have no row, as of a server that lost them: no search finds them until
    `sync repair` has indexed their images again. Both are None above 20,000 images, which would all be looked at: the
    numbers are then of all rows, those of running and killed attempts as well. `words` is what searches by words alone
    go by, `words_regions` how many regions have it. `consistency` is what `searchanything eval mine` measured last,
    None where it never ran.
    """

    uri: str
    images: int = 0
    regions: int = 0
    failed: int = 0
    empty: int = 0
    manifest: IndexManifest | None = None
    collections: tuple[str, str] | None = None
    garbage: int | None = 0
    lost: int | None = 0
    words: WordsPart | None = None
    words_regions: int = 0
    consistency: Mapping[str, Any] | None = None

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
            "images": self.images,
            "regions": self.regions,
            "failed": self.failed,
            "empty": self.empty,
            "fingerprint": manifest.fingerprint if manifest else None,
            "preset": manifest.preset if manifest else None,
            "hash": trained,
            "collections": {"regions": names[0], "images": names[1]} if names else None,
            "garbage": self.garbage,
            "lost": self.lost,
            "words": self._words(),
            "consistency": None if self.consistency is None else dict(self.consistency),
            "uri": self.uri,
        }

    def _words(self) -> dict[str, Any] | None:
        """What it takes to be searched by words; None where `index --add-words` would add it."""
        part = self.words
        if part is None:
            return None
        return {
            "collection": part.collection,
            "bits": part.bits,
            "regions": self.words_regions,
            "bytes_per_region": part.bytes_per_region,
        }


@dataclass(frozen=True, slots=True)
class SyncReport:
    """Where an index differed from the listing of its source: keys, each under one heading, sorted.

    `missing`: images that the index does not have. `stale`: indexed with another etag, other metadata or other models.
    `orphaned`: indexed, but no longer in the listing, or excluded. `failed`: known failures whose object is as it was.
    `checked` counts the images that were looked at. `lost` counts regions that the index should have and that have no
    row, such as a server lost: a repair indexes their images again. After a repair the other fields say what was done:
    `repaired` sums up all refreshes, `garbage` counts images some of whose rows belonged to nobody and were deleted.
    `unlisted` are places that could not be looked at, or that lie on another disk than before: nothing below them is
    called orphaned. `held` are those orphaned images that no repair forgets yet, because so many at once may be a
    mistake. `skipped` holds the first 100 things that are no objects, such as links that lead out of a folder; `skips`
    says how many objects were skipped, by reason and with examples.
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
    held: tuple[str, ...] = ()
    skips: tuple[Skipped, ...] = ()
    lost: int = 0

    @property
    def differs(self) -> bool:
        """True if index and listing did not agree, or rows are lost. Known failures are no difference."""
        return bool(self.missing or self.stale or self.orphaned or self.lost)

    @property
    def found_nothing(self) -> bool:
        """True if neither the listing nor the index names anything there: a mistyped prefix looks like this."""
        there = (self.checked, self.missing, self.orphaned, self.failed, self.unlisted, self.skipped, self.skips)
        return not any(there) and not self._repaired_any

    @property
    def found_no_image(self) -> bool:
        """True if all that there is was skipped, and the index names nothing there either."""
        there = (self.checked, self.missing, self.orphaned, self.failed, self.unlisted)
        return bool(self.skips) and not any(there) and not self._repaired_any

    @property
    def _repaired_any(self) -> bool:
        """True if a repair met an image, which may have come after the comparison."""
        return self.repaired is not None and not self.repaired.found_no_image

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `searchanything sync check|repair --format json`."""
        document: dict[str, Any] = {
            "missing": list(self.missing),
            "stale": list(self.stale),
            "orphaned": list(self.orphaned),
            "failed": list(self.failed),
            "held": list(self.held),
            "checked": self.checked,
            "lost": self.lost,
            "seconds": round(self.seconds, 3),
            "unlisted": [one.to_dict() for one in self.unlisted],
            "warnings": [one.to_dict() for one in self.skipped],
            "skipped": [one.to_dict() for one in self.skips],
        }
        if self.repaired is not None:
            document |= {"repaired": self.repaired.to_dict(), "garbage": self.garbage}
        return document


def failed_too_often(row: ImageRow, max_attempts: int | None) -> bool:
    """Whether a failed image is no longer tried by itself; with None it always is.

    One that its server did not send, while it sent others, is tried for an hour in any case: a part of the server may
    be away for longer than a few syncs take. A clock that was set back makes no longer hour.
    """
    if max_attempts is None or row.attempts < max_attempts:
        return False
    return row.error != ObjectNotSentError.__name__ or abs(row.last_at_ms - row.first_at_ms) >= NOT_SENT_MS


@dataclass(frozen=True, slots=True)
class FailedImage:
    """A known failure. `refresh` and `sync repair` no longer try `exhausted` ones."""

    image: ImageRef
    etag: str
    error: str
    message: str
    attempts: int
    first_at_ms: int
    last_at_ms: int
    exhausted: bool

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
            exhausted=failed_too_often(row, max_attempts),
        )

    def is_due(self, now_ms: int) -> bool:
        """Whether the service tries it once more by now.

        What its server does not send it tries after pauses that grow: as long as it has failed by then, ten minutes at
        most.
        """
        if self.exhausted or self.error != ObjectNotSentError.__name__:
            return not self.exhausted
        pause_ms = min(abs(self.last_at_ms - self.first_at_ms), _LONGEST_PAUSE_MS)
        return abs(now_ms - self.last_at_ms) >= pause_ms

    def to_dict(self) -> dict[str, Any]:
        """As `searchanything failed list --format json` shows it."""
        document = asdict(self)
        return {**document.pop("image"), **document}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What indexing a source from nothing would take, extrapolated from a sample.

    `bytes` are the images' own. `disk_bytes` and `index_memory_bytes` are those of an embedded index, and less than a
    Milvus server with its replicas takes (see `milvus/`); `worker_memory_bytes` is the peak of this process, models
    included. `disk_free_bytes` is None where the index is not a file of this machine. `sample` is the report of the
    sample.
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


def images_are(count: int, what: str = "") -> str:
    """`1 image is` or `2 images are`, with a word before the noun."""
    return f"{counted(count, f'{what} image' if what else 'image')} {'is' if count == 1 else 'are'}"


def unlisted_failures(omissions: Omissions) -> tuple[Failure, ...]:
    """The places that a listing could not look at."""
    return tuple(Failure(one.key or "./", StoreError.__name__, one.reason) for one in omissions.unreadable)


def omissions_report(omissions: Omissions) -> IndexReport:
    """What a listing omitted, as part of a run's report."""
    missed = unlisted_failures(omissions)
    return IndexReport(
        skipped=omissions.skipped,
        failed=len(missed),
        failures=missed,
        warnings=skipped_warnings(omissions),
        skips=omissions.skips.groups(),
    )


def skipped_warnings(omissions: Omissions) -> tuple[Failure, ...]:
    """The first of the things that a listing skipped."""
    return tuple(Failure(one.key, "Skipped", one.reason) for one in omissions.examples)


def sum_reports(reports: Iterable[IndexReport]) -> IndexReport:
    """Several runs as one; in time that grows with what they report, not with its square."""
    every = list(reports)
    timings: dict[str, float] = {}
    for one in every:
        for stage, value in one.timings_ms.items():
            timings[stage] = timings.get(stage, 0.0) + value
    values: dict[str, Any] = {name: sum(getattr(one, name) for one in every) for name in _SUMMED}
    values |= {name: tuple(chain.from_iterable(getattr(one, name) for one in every)) for name in _JOINED}
    return IndexReport(**values, timings_ms=timings, skips=sum_skips(*(one.skips for one in every)))
