"""Images of an index that are gone or cannot be read, when it is filled anew: whether it may be a mistake."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from searchanything.client.connection import Connection
from searchanything.core.counting import counted
from searchanything.core.errors import StoreError, StoreUnavailableError, UsageError
from searchanything.core.protocols import ImageStore, RegionIndex
from searchanything.core.rows import ImageState
from searchanything.core.types import ImageRef, source_of
from searchanything.ingest.beside import Beside
from searchanything.ingest.reports import IndexReport

SOUGHT_OF_SOURCE: Final = 100  # images of a source, before any is encoded


def why_none_is_there(store: ImageStore, images: Iterable[ImageRef]) -> str | None:
    """What is the matter with a source's first images, as `none_there` takes it; None if one is there.

    Raises: StoreUnavailableError.
    """
    why = None
    for image in islice(images, SOUGHT_OF_SOURCE):
        try:
            if store.stat(image.key) is not None:
                return None
            why = why or ""
        except StoreUnavailableError:
            raise
        except StoreError as error:
            why = str(error)
    return why


def looked_for(connection: Connection, images: Mapping[str, Iterable[ImageRef]]) -> Iterator[tuple[str, str | None]]:
    """By bucket, what is the matter with these images of its source, as `why_none_is_there`; before work of hours."""
    for bucket, wanted in images.items():
        store, _ = connection.open_source(source_of(bucket))
        yield bucket, why_none_is_there(store, wanted)


@dataclass(frozen=True, slots=True, eq=False)
class LostImages:
    """What an index that is filled to replace the live one would lack of it, and whether it may be a mistake.

    Images are gone from their source, or unwanted there, or failed in the run: `failed` has the keys of these by
    bucket, and `reasons` why the first one did. One that failed and is lacking, too, counts as failed.
    """

    connection: Connection
    failed: dict[str, set[str]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def note(self, bucket: str, report: IndexReport) -> None:
        """Note what failed in some images of a bucket."""
        self.failed.setdefault(bucket, set()).update(failure.key for failure in report.failures)
        for failure in report.failures[:1]:
            self.reasons.setdefault(bucket, failure.message)

    def check(self, run: Beside, *, lacking: int, images: int) -> None:
        """Raises: UsageError where the run lost so many of its `images` that it may be a mistake, or of one source."""
        first = next(iter(self.reasons.values()), "")
        gone = self._gone(run.lacking()) if lacking else Counter[str]()
        self._check_limits(gone.total(), sum(map(len, self.failed.values())), images, why=first)
        for bucket in sorted({*gone, *self.failed}):
            self._check_source(run, bucket, gone[bucket])

    def check_sources(self, run: Beside, buckets: Sequence[str], check_lease: Callable[[], None]) -> None:
        """Look whether sources are there before any image is encoded, which may take hours.

        Raises: UsageError where one is gone or cannot be read, as `check` would say in the end.
        """
        lacking = {bucket: (state.image for state in run.lacking(bucket=bucket)) for bucket in buckets}
        for bucket, why in looked_for(self.connection, lacking):
            if why is not None:
                self._check_source(run, bucket, self._gone(run.lacking(bucket=bucket))[bucket], why=why)
            check_lease()

    def _gone(self, lacking: Iterable[ImageState]) -> Counter[str]:
        """How many images these are by bucket, but for those that failed."""
        images = {state.image for state in lacking}
        return Counter(image.bucket for image in images if image.key not in self.failed.get(image.bucket, ()))

    def _check_source(self, run: Beside, bucket: str, gone: int, *, why: str = "") -> None:
        """Raises: UsageError where a source has lost so many images, or all."""
        failed, why = len(self.failed.get(bucket, ())), self.reasons.get(bucket, why)
        there = run.other.counts(bucket=bucket)
        if (gone or failed) and not there.images + there.empty:
            raise none_there(bucket, min(gone, SOUGHT_OF_SOURCE) + failed, why)
        images = images_of(run.live, bucket=bucket)
        self._check_limits(gone, failed, images, why=why, source=shlex.quote(source_of(bucket)))

    def _check_limits(self, gone: int, failed: int, images: int, *, why: str, source: str = "SOURCE") -> None:
        if self.connection.forget_limits().are_few(gone + failed, images):
            return
        of_all, said = f"of {images:,} images", list[str]()
        if gone:
            said.append(f"{gone:,} {of_all} are gone from their source, or unwanted there")
        if failed:
            said.append(f"{failed:,} {of_all} cannot be read or encoded, the first for this reason: {why}")
        forget = " --forget" if gone else ""
        raise UsageError(
            f"{' and '.join(said)}. That may be a mistake (ingest.forget_images, ingest.forget_share), so the index "
            f"stays as it is. `searchanything sync check {source}` says what is gone or changed, "
            f"`searchanything sync repair {source}{forget}` takes it as it is, and the same command then goes on from "
            "what is encoded by now"
        )


def none_there(bucket: str, images: int, why: str) -> UsageError:
    """The error for a source of which so many images were looked for: none is there or, for a reason, can be read."""
    source, none = source_of(bucket), f"none of {counted(images, 'image')}"
    if why:
        return UsageError(f"{source}: {none} can be read, so the index stays as it is: {why}")
    return UsageError(
        f"{source}: {none} is there, so the index stays as it is. Is its disk mounted? If it is gone for good: "
        f"searchanything delete {shlex.quote(source)}"
    )


def images_of(index: RegionIndex, *, bucket: str | None = None) -> int:
    """How many images an index has, of one bucket if asked, failed ones among them."""
    counts = index.counts(bucket=bucket)
    return counts.images + counts.empty + counts.failed
