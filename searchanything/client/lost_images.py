"""Images of an index that are gone or cannot be read, when it is filled anew: whether it may be a mistake."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from itertools import islice
from typing import Final

from searchanything.core.counting import counted
from searchanything.core.errors import StoreError, StoreUnavailableError, UsageError
from searchanything.core.protocols import ImageStore, RegionIndex
from searchanything.core.types import ImageRef, source_of
from searchanything.ingest.forget import ForgetLimits

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


def check_lost(lost: int, images: int, limits: ForgetLimits, source: str = "SOURCE") -> None:
    """Raises: UsageError where so many of an index's or a source's images are lost that it may be a mistake."""
    if lost > limits.images and lost > limits.share * images:
        raise UsageError(
            f"{lost:,} of {images:,} images are gone from their source, unwanted there or cannot be read, which may be "
            f"a mistake: nothing was changed; `searchanything sync check {shlex.quote(source)}` says which"
        )


def none_there(bucket: str, images: int, why: str = "") -> UsageError:
    """The error for a source of which so many images were looked for: none is there or, for a reason, can be read."""
    source, none = source_of(bucket), f"none of {counted(images, 'image')}"
    if why:
        return UsageError(f"{source}: {none} can be read; nothing was changed: {why}")
    return UsageError(
        f"{source}: {none} is there; nothing was changed. Is its disk mounted? If it is gone for good: "
        f"searchanything delete {shlex.quote(source)}"
    )


def images_of(index: RegionIndex, *, bucket: str | None = None) -> int:
    """How many images an index has, of one bucket if asked, failed ones among them."""
    counts = index.counts(bucket=bucket)
    return counts.images + counts.empty + counts.failed
