"""The indexed images in pages: an index has no order of its own, so a listing is looked up once and kept a while."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from searchanything.client.client import Client
from searchanything.client.remote_names import image_id
from searchanything.core.errors import ObjectNotFoundError, UsageError
from searchanything.core.rows import ImageRow
from searchanything.core.types import ImageRef, Place
from searchanything.serve.wire import image_of_id

KEPT: Final = 8  # listings of different prefixes
FRESH_S: Final = 30.0  # a listing is kept so long,
FRESH_TIMES: Final = 30.0  # or so many times as long as it took


@dataclass(frozen=True, slots=True)
class ImagePage:
    """Some of the images, and where the next ones begin."""

    rows: list[ImageRow]
    next: str | None
    total: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which images, and where to begin."""

    bucket: str | None = None
    key_prefix: str = ""
    contains: str = ""
    after: str | None = None
    limit: int = 60


class Listing:
    """Pages of images by bucket and key. Thread-safe. Memory holds names alone; rows are read for the page shown."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[object, ...], tuple[float, list[ImageRef], bool]] = OrderedDict()

    def page(self, client: Client, places: tuple[Place, ...], wanted: Wanted) -> ImagePage:
        """One page of what the client sees, which are these places. Raises: UsageError, RegionIndexError."""
        images, complete = self._images(client, places, wanted)
        if wanted.contains:
            needle = wanted.contains.casefold()
            images = [image for image in images if needle in image.key.casefold()]
        first = 0 if wanted.after is None else bisect_right(images, _after(wanted.after))
        shown = images[first : first + wanted.limit]
        more = first + wanted.limit < len(images)
        rows = client.operations.image_rows(shown)
        return ImagePage(rows, image_id(shown[-1]) if more else None, len(images), complete)

    def _images(self, client: Client, places: tuple[Place, ...], wanted: Wanted) -> tuple[list[ImageRef], bool]:
        name = (places, client.manifest.fingerprint, wanted.bucket, wanted.key_prefix)
        begin = time.monotonic()
        with self._lock:
            found = self._kept.get(name)
            if found is not None and begin < found[0]:
                self._kept.move_to_end(name)
                return found[1], found[2]
        images, complete = client.operations.image_names(
            bucket=wanted.bucket, key_prefix=wanted.key_prefix, most=self._most
        )
        now = time.monotonic()
        with self._lock:
            self._kept[name] = now + max(FRESH_S, FRESH_TIMES * (now - begin)), images, complete
            self._kept.move_to_end(name)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return images, complete


def _after(cursor: str) -> ImageRef:
    """A cursor is the id of the last image of the page before. Raises: UsageError."""
    try:
        return image_of_id(cursor)
    except ObjectNotFoundError:
        raise UsageError(f"expected `next` of the page before as `after`, got {cursor!r}") from None
