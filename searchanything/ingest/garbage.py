"""Rows that belong to nobody: what killed attempts leave behind, found and deleted; and images that lost rows.

    region row, older than its image's committed generation   deleted: the commit that replaced it was interrupted
    image row of an older generation                          deleted: the same
    region row without an image row, or younger than it       a running attempt's, until it is old; then of a killed one
    committed image with fewer region rows than it says       indexed again

How old is old: an attempt takes its generation when it is planned and inserts the image row at its commit. In between
lie at most two waves of transfer and the batches before it: minutes, with ViT-H-14 on a slow CPU an hour (docs/adr).
A day leaves room for workers that were suspended and for clocks that disagree. Should a row be taken from an attempt
that lives nevertheless, its commit lacks rows, and the last line of the table repairs that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from searchanything.core.batching import batches
from searchanything.core.codes import generation_at
from searchanything.core.counting import counted
from searchanything.core.digests import KnownImages
from searchanything.core.manifest import IndexCounts
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import ImageRef

logger = logging.getLogger(__name__)

GARBAGE_AGE_S: Final = 24 * 3600.0
LOOKED_AT_IMAGES: Final = 20_000  # a third of a second on Milvus Lite
_PASS_ROWS: Final = 1 << 14
DELETED_AT_ONCE: Final = 8192  # images; an embedded index looks at all its rows for each deletion


@dataclass(frozen=True, slots=True)
class Holdings:
    """What an index holds: committed images and regions, how many rows of both kinds belong to nobody, and how many of
    the regions have no row.

    `garbage` and `lost` are None where nobody looked: `counts` are then of all rows, those of running and killed
    attempts as well.
    """

    counts: IndexCounts
    garbage: int | None
    lost: int | None


@dataclass(slots=True)
class _Damage:
    """What is wrong: below which generation an image's rows are garbage, and which images to index again."""

    garbage: dict[ImageRef, int] = field(default_factory=dict)
    again: set[ImageRef] = field(default_factory=set)


def holdings(index: RegionIndex) -> Holdings:
    """Count what is committed: by a pass over the image rows where these are few, else by numbers of rows alone.

    Raises: RegionIndexError.
    """
    rows = index.counts()
    if rows.images + rows.empty + rows.failed > LOOKED_AT_IMAGES:
        return Holdings(rows, None, None)
    known = KnownImages(index.iterate_states())
    failed = int(known.rows["failed"].sum())
    empty = int(((known.rows["regions"] == 0) & ~known.rows["failed"]).sum())
    committed = IndexCounts(images=len(known) - empty - failed, empty=empty, failed=failed, regions=known.regions)
    garbage = max(0, rows.regions - known.regions) + known.outdated
    return Holdings(committed, garbage=garbage, lost=count_lost(index, known, rows.regions))


def count_lost(
    index: RegionIndex, known: KnownImages, rows: int, *, bucket: str | None = None, key_prefix: str = ""
) -> int:
    """How many regions of these known images, beside so many rows, have none: such as a server lost.

    Raises: RegionIndexError.
    """
    lost = known.regions - rows
    if lost > 0:  # or they were committed, replaced or deleted between the two looks
        again = KnownImages(index.iterate_states(bucket=bucket, key_prefix=key_prefix))
        lost = min(lost, again.regions - index.count_regions(bucket=bucket, key_prefix=key_prefix))
    return max(0, lost)


def collect_garbage(
    index: RegionIndex,
    *,
    bucket: str,
    key_prefix: str,
    again: Callable[[Sequence[str]], object] | None,
    age_s: float = GARBAGE_AGE_S,
) -> int:
    """Delete a source's rows that belong to nobody, and have `again`, if given, index its images that lost rows.

    The source's region rows are streamed only if their number shows that something is wrong; what is written into the
    index for other sources meanwhile does not matter. Returns how many images had
    garbage. Raises: RegionIndexError, and what `again` raises.
    """
    known = KnownImages(index.iterate_states(bucket=bucket, key_prefix=key_prefix))
    if index.count_regions(bucket=bucket, key_prefix=key_prefix) == known.regions and not known.outdated:
        return 0
    damage = _find_damage(index, known, (bucket, key_prefix), cutoff=generation_at(age_s=age_s))
    for images in batches(damage.garbage, DELETED_AT_ONCE):
        index.delete_before({image: damage.garbage[image] for image in images})
    if damage.again and again is not None:
        what = counted(len(damage.again), "image")
        logger.warning("indexing %s again: rows are missing, or belong to a killed attempt", what)
        again(sorted(image.key for image in damage.again))
    return len(damage.garbage)


def _find_damage(index: RegionIndex, known: KnownImages, source: tuple[str, str], *, cutoff: int) -> _Damage:
    present = np.zeros(len(known), dtype=np.int64)
    damage = _Damage()
    for rows in batches(index.iterate_attempts(bucket=source[0], key_prefix=source[1]), _PASS_ROWS):
        images = [image for image, _ in rows]
        generations = np.array([generation for _, generation in rows], dtype=np.int64)
        numbers = known.find(images)
        committed = np.where(numbers >= 0, known.generations(numbers), 0)
        np.add.at(present, numbers[(numbers >= 0) & (generations == committed)], 1)
        for row in np.flatnonzero((generations != committed) & ((generations < committed) | (generations < cutoff))):
            image, newest = images[row], int(committed[row])
            if newest == 0 or generations[row] < newest:
                damage.garbage[image] = newest or cutoff
            else:
                damage.again.add(image)  # younger than the commit: only another commit can tell them apart
    _find_incomplete(index, known, present, damage, source)
    return damage


def _find_incomplete(
    index: RegionIndex, known: KnownImages, present: np.ndarray, damage: _Damage, source: tuple[str, str]
) -> None:
    """Add image rows of older generations to the garbage, and images that lack region rows to those to do again."""
    lacking = present < known.rows["regions"]
    if not known.outdated and not lacking.any():
        return
    suspects: set[ImageRef] = set()
    for states in batches(index.iterate_states(bucket=source[0], key_prefix=source[1]), _PASS_ROWS):
        numbers = known.find([state.image for state in states])
        for state, number in zip(states, numbers.tolist(), strict=True):
            if number >= 0:
                newest = int(known.rows["generation"][number])
                if state.generation < newest:
                    damage.garbage[state.image] = newest
                elif lacking[number]:
                    suspects.add(state.image)
    for images in batches(suspects, DELETED_AT_ONCE):
        numbers = known.find(images)
        rows = index.newest(images)  # one that was replaced meanwhile has lost its rows rightly
        damage.again.update(
            image
            for image, number in zip(images, numbers, strict=True)
            if image in rows and rows[image].generation == known.rows["generation"][number]
        )
