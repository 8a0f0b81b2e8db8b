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

LOOKED_AT: Final = 100  # images of a source, before any is encoded


def why_none_is_there(store: ImageStore, images: Iterable[ImageRef]) -> str | None:
    """What is the matter with a source's first images, in words that follow on "none of them"; None if one is there.

    Raises: StoreUnavailableError.
    """
    why = None
    for image in islice(images, LOOKED_AT):
        try:
            if store.stat(image.key) is not None:
                return None
            why = why or "is there"
        except StoreUnavailableError:
            raise
        except StoreError as error:
            why = f"can be looked at ({error})"
    return why


def check_lost(lost: int, images: int, limits: ForgetLimits, source: str = "SOURCE") -> None:
    """Raises: UsageError where so many of an index's or a source's images are lost that it may be a mistake."""
    if lost > limits.images and lost > limits.share * images:
        raise UsageError(
            f"{lost:,} of {images:,} images are gone from their source, unwanted there or cannot be read, which may be "
            f"a mistake: nothing was changed; `searchanything sync check {shlex.quote(source)}` says which"
        )


def none_there(bucket: str, images: int, why: str = "is there") -> UsageError:
    """The error for a source of which so many images were looked for, and none is there."""
    source = source_of(bucket)
    return UsageError(
        f"{source}: none of {counted(images, 'image')} {why}; nothing was changed. Is its disk mounted, and may it "
        f"be read? If it is gone for good: searchanything delete {shlex.quote(source)}"
    )


def images_of(index: RegionIndex, *, bucket: str | None = None) -> int:
    """How many images an index has, of one bucket if asked, failed ones among them."""
    counts = index.counts(bucket=bucket)
    return counts.images + counts.empty + counts.failed
