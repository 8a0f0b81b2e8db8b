"""Images with all their regions, out of an index that is in use.

Images are read some thousand at a time, fewer where they have much metadata: their newest committed rows, then their
regions. An image whose regions are not all there was replaced between the two reads, and is read again.

What could not be read is looked at once more after all others, in long work for some seconds: a server that was
restarted meanwhile may answer before it shows all its rows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, TypeAlias

from searchanything.core.batching import batches, bounded_batches
from searchanything.core.counting import counted
from searchanything.core.patience import later_looks
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import ImageRow, RegionRow
from searchanything.core.types import ImageRef

logger = logging.getLogger(__name__)

_FEWEST_AT_ONCE, _MOST_AT_ONCE = 256, 8192  # images per question: an embedded index looks at all its rows for each
_PART_BYTES: Final = 16 * 2**20  # of the rows in a part, before they are packed; an image of more is alone
_LETTERS_BYTES: Final = 1024  # of a row besides its metadata; an estimate
TRIES: Final = 5  # of an image that is replaced while it is read
WholeImages: TypeAlias = tuple[list[ImageRow], list[RegionRow]]


def whole_images(index: RegionIndex, left_out: set[ImageRef]) -> Iterator[WholeImages]:
    """All images, some at a time. To `left_out` those are added that are there, but could not be read whole.

    Raises: RegionIndexError.
    """
    reading, remaining, late = _ImagesReader(index), _each_once(index), set[ImageRef]()
    while images := list(islice(remaining, reading.at_once)):
        late |= yield from reading.tried(images)
    for _ in later_looks() if late else ():
        for images in batches(sorted(late), reading.at_once):
            late -= set(images) - (yield from reading.tried(images))
        if not late:
            break
    left_out.update(index.newest(late) if late else ())  # the others were deleted meanwhile
    if left_out:
        what = counted(len(left_out), "image")
        logger.warning("%s left out: not all of their regions are there; the first is %s", what, min(left_out))


@dataclass(slots=True)
class _ImagesReader:
    """Reads images, as many `at_once` as those before let one hold."""

    index: RegionIndex
    at_once: int = _FEWEST_AT_ONCE

    def tried(self, images: Collection[ImageRef]) -> Generator[WholeImages, None, set[ImageRef]]:
        """Those of the images that can be read whole; returns the others."""
        waiting = set(images)
        for _ in range(TRIES):
            newest = self.index.newest(waiting)
            self.at_once = _as_many_as_fit(newest.values(), self.at_once)
            for some in bounded_batches(newest.values(), _PART_BYTES, size_of=_bytes_of):
                rows, regions = _whole(self.index, some)
                waiting -= {row.image for row in rows}
                yield rows, regions
            if not waiting & newest.keys():
                break
        return waiting


def _each_once(index: RegionIndex) -> Iterator[ImageRef]:
    """The images of an index, also those of which a killed commit left two rows."""
    met: set[bytes] = set()
    for state in index.iterate_states():
        name = bytes.fromhex(state.image.image_id)
        if name not in met:
            met.add(name)
            yield state.image


def _as_many_as_fit(rows: Collection[ImageRow], before: int) -> int:
    """How many image rows like these may be held at once."""
    if not rows:
        return before
    mean = sum(map(_row_bytes, rows)) // len(rows)
    return min(_MOST_AT_ONCE, max(_FEWEST_AT_ONCE, _PART_BYTES // mean))


def _bytes_of(row: ImageRow) -> int:
    """About what an image and its regions take, each of which has the image's metadata."""
    return (row.regions + 1) * _row_bytes(row)


def _row_bytes(row: ImageRow) -> int:
    return _LETTERS_BYTES + len(json.dumps(dict(row.metadata), ensure_ascii=False).encode())


def _whole(index: RegionIndex, images: Sequence[ImageRow]) -> WholeImages:
    """Those of the images whose regions are all there, and the regions."""
    found: dict[ImageRef, list[RegionRow]] = {row.image: [] for row in images}
    newest = {row.image: row.generation for row in images}
    for region in index.regions_of([row.image for row in images if row.regions]):
        if region.generation == newest[region.image]:
            found[region.image].append(region)
    whole = [row for row in images if len(found[row.image]) == row.regions]
    codes = dict(index.words_of([row.image for row in whole])) if index.words is not None else {}
    regions = [replace(region, words_code=codes.get(region.id, b"")) for row in whole for region in found[row.image]]
    return whole, regions
